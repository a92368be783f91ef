//! Runtimes that are started and loaded before their program arrives (docs/SPEED.md).

use crate::placeholders::Placeholders;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Prewarmed runtimes that one profile may have.
pub const MAX_PREWARMED: usize = 4;

/// A runtime that waits, loaded, in each idle sandbox of a profile.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PrewarmSpec {
    /// The first words of the commands that it serves, with the default entry (see `any_entry`).
    /// Empty: the profile's `run`.
    pub command: Vec<String>,
    /// The command that starts it; it must support waiting (docs/SPEED.md). Empty: the same as
    /// `command`.
    pub start: Vec<String>,
    /// What it loads, as the runtime names it: modules, classes.
    pub load: Vec<String>,
    /// Whether it serves other entries too, if they are in the same folder and have the same
    /// ending; it must support that (docs/SPEED.md).
    pub any_entry: bool,
    /// Whether it only serves commands without further arguments.
    pub exact: bool,
    /// Whether each program is a fork of it (docs/SPEED.md), so that it serves all runs of a
    /// sandbox. At most one.
    pub fork: bool,
}

/// A [`PrewarmSpec`] with all defaults filled in and placeholders replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrewarmedRuntime {
    /// The command that starts it.
    pub argv: Vec<String>,
    /// The first words of the commands that it serves.
    pub stands_for: Vec<String>,
    /// The word of them in whose place another entry may be; 0: none.
    pub entry_word: usize,
    pub load: Vec<String>,
    /// Whether it only serves commands without further arguments.
    pub exact: bool,
    /// Whether each program is a fork of it.
    pub forks: bool,
}

impl PrewarmSpec {
    /// The runtime, for a profile with this run command.
    pub(crate) fn runtime(&self, run: &[String], placeholders: &Placeholders) -> PrewarmedRuntime {
        let expand = |words: &[String]| -> Vec<String> { words.iter().map(|word| placeholders.fill(word)).collect() };
        let command = if self.command.is_empty() { run } else { &self.command };
        let stands_for = expand(command);
        let entry_word = command.iter().position(|word| word == "{entry}").filter(|_| self.any_entry);
        let argv = if self.start.is_empty() { stands_for.clone() } else { expand(&self.start) };
        PrewarmedRuntime {
            argv,
            stands_for,
            entry_word: entry_word.unwrap_or(0),
            load: self.load.clone(),
            exact: self.exact,
            forks: self.fork,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::Profile;

    #[test]
    fn a_runtime_serves_the_run_command_unless_another_is_given() {
        let text = "name='p'\nimage='p'\nentry='main.py'\nrun=['python3','{entry}']\n[[prewarm]]\nany_entry=true\n\
                    load=['numpy']\n[[prewarm]]\ncommand=['javac','{stem}']\nstart=['java','Wait']";
        let profile: Profile = toml::from_str(text).unwrap();
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let [run, compile] = profile.prewarmed_runtimes().try_into().unwrap();
        assert_eq!((&run.argv, &run.stands_for), (&words(&["python3", "main.py"]), &words(&["python3", "main.py"])));
        assert_eq!(run.load, words(&["numpy"]));
        assert_eq!((run.entry_word, compile.entry_word), (1, 0));
        assert_eq!((compile.argv, compile.stands_for), (words(&["java", "Wait"]), words(&["javac", "main"])));
    }
}
