//! Makes text from outside safe to log: one line, no terminal control, bounded length.

use std::borrow::Cow;

/// Bound of one value in a log line, in characters: five times an error with all its causes.
const MAX_CHARS: usize = 2000;

/// Escapes control characters and marks that change the direction of text, and cuts after 2,000
/// characters.
pub fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (count, c) in text.chars().enumerate() {
        if count == MAX_CHARS {
            out.push_str("...");
            break;
        }
        // bidirectional marks are not control characters, but can make a line look like another one
        let is_bidi =
            matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
        if c.is_control() || is_bidi { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// Quotes a value that contains a space, `=` or a quote, so that it cannot be read as several
/// fields.
pub(super) fn quoted(text: &str) -> Cow<'_, str> {
    match text.contains([' ', '=', '"']) && !text.starts_with('"') {
        true => format!("{text:?}").into(),
        false => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_cannot_leave_its_line() {
        assert_eq!(clean("a\nb\u{1b}[31mc\u{202e}d"), "a\\nb\\u{1b}[31mc\\u{202e}d");
        assert_eq!(clean("häßlich 漢"), "häßlich 漢");
        assert!(clean(&"x".repeat(100_000)).len() < 2100);
    }
}
