//! Runtimes that are started and loaded before their program arrives (docs/SPEED.md).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::profile::Profile;

/// Prewarmed runtimes that one profile may have.
pub const MAX_PREWARMED: usize = 4;

/// A runtime that waits, loaded, in each idle sandbox of a profile.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PrewarmSpec {
    /// The first words of the commands that it serves, with the default entry. Empty: the profile's
    /// `run`.
    pub command: Vec<String>,
    /// The command that starts it; it must support waiting (docs/SPEED.md). Empty: the same as
    /// `command`.
    pub start: Vec<String>,
    /// What it loads, as the runtime names it: modules, classes.
    pub load: Vec<String>,
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
    pub load: Vec<String>,
    /// Whether it only serves commands without further arguments.
    pub exact: bool,
    /// Whether each program is a fork of it.
    pub forks: bool,
}

impl Profile {
    /// The runtimes that wait in the profile's idle sandboxes.
    pub fn prewarmed_runtimes(&self) -> Vec<PrewarmedRuntime> {
        let stem = self.entry.rsplit_once('.').map_or(self.entry.as_str(), |(stem, _)| stem);
        let expand = |words: &[String]| -> Vec<String> {
            words.iter().map(|word| word.replace("{entry}", &self.entry).replace("{stem}", stem)).collect()
        };
        let runtime = |prewarm: &PrewarmSpec| {
            let stands_for = expand(if prewarm.command.is_empty() { &self.run } else { &prewarm.command });
            let argv = if prewarm.start.is_empty() { stands_for.clone() } else { expand(&prewarm.start) };
            PrewarmedRuntime { argv, stands_for, load: prewarm.load.clone(), exact: prewarm.exact, forks: prewarm.fork }
        };
        self.prewarm.iter().map(runtime).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_serves_the_run_command_unless_another_is_given() {
        let text = "name='p'\nimage='p'\nentry='main.py'\nrun=['python3','{entry}']\n[[prewarm]]\nload=['numpy']\n\
                    [[prewarm]]\ncommand=['javac','{stem}']\nstart=['java','Wait']";
        let profile: Profile = toml::from_str(text).unwrap();
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let [run, compile] = profile.prewarmed_runtimes().try_into().unwrap();
        assert_eq!((&run.argv, &run.stands_for), (&words(&["python3", "main.py"]), &words(&["python3", "main.py"])));
        assert_eq!(run.load, words(&["numpy"]));
        assert_eq!((compile.argv, compile.stands_for), (words(&["java", "Wait"]), words(&["javac", "main"])));
    }
}
