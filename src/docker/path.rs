//! Names, references and values in a request's path and query.
//!
//! A container's name is put into the path unchanged, so it is checked; an image's name and every
//! query value are percent-encoded. An empty or dotted segment is refused instead of encoded: the
//! engine's router cleans paths before it matches them, and answers an empty id with a redirect.

use super::error::Error;
use super::op::Op;

/// Checks the id or name of a container or a network: `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, at most 255
/// bytes.
pub(super) fn name<'a>(call: &'static Op, name: &'a str) -> Result<&'a str, Error> {
    let rest = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if first && name.len() <= 255 && name.bytes().all(rest) { Ok(name) } else { Err(invalid(call, name)) }
}

/// An image reference, percent-encoded for a path, at most 1024 bytes. `/`, `:` and `@` are kept:
/// the engine's routes expect them.
pub(super) fn image(call: &'static Op, name: &str) -> Result<String, Error> {
    let valid = |segment: &str| !segment.is_empty() && segment != "." && segment != "..";
    if name.len() <= 1024 && name.split('/').all(valid) { Ok(encode(name, b"/:@")) } else { Err(invalid(call, name)) }
}

fn invalid(call: &'static Op, name: &str) -> Error {
    Error::InvalidName { call, given: name.chars().take(80).collect() }
}

/// Percent-encodes everything except RFC 3986's unreserved characters and those in `keep`.
fn encode(text: &str, keep: &[u8]) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || keep.contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    out
}

/// A query string under construction.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Query(String);

impl Query {
    /// Adds `key=value`, the value percent-encoded.
    pub(super) fn add(&mut self, key: &str, value: &str) {
        self.0.push(if self.0.is_empty() { '?' } else { '&' });
        self.0.push_str(key);
        self.0.push('=');
        self.0.push_str(&encode(value, b""));
    }

    /// `?a=b&c=d`, or the empty string.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static OP: Op = Op::get("x");

    #[test]
    fn a_name_that_could_escape_its_path_is_refused() {
        assert_eq!(name(&OP, "assay-1_a.b").unwrap(), "assay-1_a.b");
        for bad in ["", "/a", "a/b", "..", ".a", "-a", "a?b", "a%2fb", "a b", "ä", "a\r\nHost: b"] {
            assert!(name(&OP, bad).is_err(), "{bad}");
        }
        assert!(name(&OP, &"a".repeat(255)).is_ok() && name(&OP, &"a".repeat(256)).is_err());
    }

    #[test]
    fn an_image_reference_keeps_its_punctuation_and_is_encoded_otherwise() {
        assert_eq!(image(&OP, "r.io:5/a/b:1@sha256:0").unwrap(), "r.io:5/a/b:1@sha256:0");
        assert_eq!(image(&OP, "a?b#c d").unwrap(), "a%3Fb%23c%20d");
        for bad in ["", "/a", "a//b", "../containers/x", "a/./b", "a/"] {
            assert!(image(&OP, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_query_percent_encodes_its_values() {
        let mut query = Query::default();
        assert_eq!(query.as_str(), "");
        query.add("a", "1&b=2");
        query.add("d", "é");
        assert_eq!(query.as_str(), "?a=1%26b%3D2&d=%C3%A9");
    }
}
