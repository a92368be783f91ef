//! The Prepare frame: a runtime that is started before its program arrives, and which commands it
//! serves.

use crate::frame::{Relax, RunLimits};

/// Prewarms a runtime. It serves the first Run whose command begins with `stands_for` and that has
/// the same environment and `relax`. It is started again after each reset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepare {
    /// Chosen by the daemon. A Run that uses a runtime ends those with lower ids.
    pub id: u32,
    /// Command line of the runtime itself.
    pub argv: Vec<String>,
    /// Prefix of the commands that it can serve. It is sent the word in the place `entry_word`, if
    /// there is one, and the remaining arguments.
    pub stands_for: Vec<String>,
    /// The word of `stands_for` in whose place a command may name another file of the same folder,
    /// with the same ending; 0: none.
    pub entry_word: u32,
    /// Whether a command must be equal to `stands_for`.
    pub exact: bool,
    /// Whether the runtime stays and serves each run with a fork. At most one per sandbox.
    pub forks: bool,
    /// The whole environment; nothing is inherited.
    pub env: Vec<(String, String)>,
    /// What the runtime loads in advance, in its own terms (for example module names).
    pub load: Vec<String>,
    /// The limits of an ordinary run.
    pub limits: RunLimits,
    pub relax: Relax,
}

impl Prepare {
    /// Whether the runtime stands for the beginning of this command, or for all of it if it must.
    #[must_use]
    pub fn stands_for_command(&self, command: &[String]) -> bool {
        let Some((first, rest)) = command.split_at_checked(self.stands_for.len()) else { return false };
        let entry_word = self.entry_word as usize;
        let mut words = self.stands_for.iter().zip(first).enumerate();
        words.all(|(i, (own, word))| own == word || i == entry_word && i > 0 && is_sibling(own, word))
            && (!self.exact || rest.is_empty())
    }

    /// Which words of a command it is sent.
    #[must_use]
    pub fn sent_words(&self) -> SentWords {
        SentWords { entry_word: self.entry_word as usize, first: self.stands_for.len() }
    }
}

/// Whether two words name files of the same folder with the same ending, and no option.
fn is_sibling(own: &str, other: &str) -> bool {
    let ending = |name: &str| name.rsplit_once('.').map(|(_, ending)| ending.to_owned());
    let is_plain = |name: &str| !name.starts_with(['-', '.']) && !name.contains('/');
    is_plain(own) && is_plain(other) && ending(own).is_some_and(|own| ending(other) == Some(own))
}

/// Which words of a command are sent to the runtime that serves it. The default: all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SentWords {
    /// The place of the entry; 0: none.
    entry_word: usize,
    first: usize,
}

impl SentWords {
    /// The entry, if the runtime serves more than one.
    #[must_use]
    pub fn entry<'a>(&self, argv: &'a [String]) -> Option<&'a str> {
        argv.get(self.entry_word).filter(|_| self.entry_word > 0).map(String::as_str)
    }

    /// The words after those that it stands for.
    pub fn rest<'a>(&self, argv: &'a [String]) -> impl Iterator<Item = &'a String> {
        argv.iter().skip(self.first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_serves_other_entries_beside_its_own_if_it_supports_that() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let prepare = |entry_word| Prepare {
            id: 0,
            argv: Vec::new(),
            stands_for: words("python3 main.py"),
            entry_word,
            exact: false,
            forks: true,
            env: Vec::new(),
            load: Vec::new(),
            limits: RunLimits {
                cpu_ns: 1,
                wall_ns: 1,
                output_bytes: 1,
                file_bytes: 1,
                open_files: 1,
                pids: 1,
                memory_bytes: 1,
            },
            relax: Relax::NONE,
        };
        let serves = |entry_word, command: &str| prepare(entry_word).stands_for_command(&words(command));
        assert!(serves(1, "python3 main.py a b") && serves(1, "python3 prog.py a"));
        assert!(serves(0, "python3 main.py") && !serves(0, "python3 prog.py"));
        for other in ["python3 a/prog.py", "python3 -prog.py", "python3 prog.js", "python3 prog", "python main.py"] {
            assert!(!serves(1, other), "{other}");
        }
        assert!(!serves(1, "python3") && !serves(1, "python3 .py"));
        let command = words("python3 prog.py a b");
        let sent = prepare(1).sent_words();
        assert_eq!(sent.entry(&command), Some("prog.py"));
        assert_eq!(sent.rest(&command).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(prepare(0).sent_words().entry(&command), None);
    }
}
