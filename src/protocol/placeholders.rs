//! Placeholders in the commands of profiles.

use crate::limits::MIB;

/// What the placeholders in a profile's commands stand for.
#[derive(Debug, Clone)]
pub struct Placeholders {
    entry: String,
    stem: String,
    memory_mib: String,
}

/// The names that may stand in braces in a profile's commands. `{sources}` is a word of its own.
pub const PLACEHOLDERS: &[&str] = &["entry", "stem", "sources", "memory_mib"];

/// A name in braces in a word of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameInBraces<'a> {
    pub name: &'a str,
    /// Whether a letter or digit stands before it, as in `$hash{key}`.
    pub is_attached: bool,
}

/// The names in braces in a word that may be meant as placeholders: of lower-case letters and
/// underscores, not after `$`, as in a shell's variables.
pub fn names_in(word: &str) -> Vec<NameInBraces<'_>> {
    let mut names = Vec::new();
    let mut rest = word;
    while let Some((head, tail)) = rest.split_once('{') {
        let before = head.chars().next_back();
        let Some((name, after)) = tail.split_once('}') else { break };
        let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        if is_name && before != Some('$') {
            names.push(NameInBraces { name, is_attached: before.is_some_and(char::is_alphanumeric) });
        }
        rest = if is_name { after } else { tail };
    }
    names
}

impl Placeholders {
    /// Of a program with this entry file and memory limit. A file name that starts with a hyphen
    /// gets `./` in front, so that it is not taken for an option.
    pub fn new(entry: &str, memory_bytes: u64) -> Placeholders {
        let stem = entry.rsplit_once('.').map_or(entry, |(stem, _)| stem);
        let memory_mib = (memory_bytes / MIB).to_string();
        Placeholders { entry: Self::safe_path(entry), stem: Self::safe_path(stem), memory_mib }
    }

    /// The path, which is not taken for an option.
    pub fn safe_path(path: &str) -> String {
        if path.starts_with('-') { format!("./{path}") } else { path.to_owned() }
    }

    /// Replaces `{entry}`, `{stem}` (the entry without its extension) and `{memory_mib}`.
    pub fn fill(&self, word: &str) -> String {
        word.replace("{entry}", &self.entry).replace("{stem}", &self.stem).replace("{memory_mib}", &self.memory_mib)
    }
}

#[cfg(test)]
mod tests {
    use super::names_in;

    #[test]
    fn only_what_may_be_meant_as_a_placeholder_is_found() {
        let names = |word| names_in(word).into_iter().map(|found| (found.name, found.is_attached)).collect::<Vec<_>>();
        assert_eq!(names("{enrty}"), [("enrty", false)]);
        assert_eq!(names("-o{stem}.{x_y}"), [("stem", true), ("x_y", false)]);
        for word in ["${HOME}", "${home}", "{}", "{1}", "{ echo; }", "{a", "a}", "{A}", "{print $1}"] {
            assert_eq!(names(word), [], "{word}");
        }
    }
}
