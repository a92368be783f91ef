//! A runtime that is started ahead of its program: the recipe, and what comes of it for a profile.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::profile::Profile;

/// The most runtimes of one profile.
pub const MAX_PREWARMED: usize = 4;

/// A runtime that waits in each idle sandbox of a profile, loaded.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PrewarmSpec {
    /// The beginning of the commands that it serves, with the default entry; the profile's `run` when empty.
    pub command: Vec<String>,
    /// What is started; the same as `command` when empty. It must know how to wait (docs/SPEED.md).
    pub start: Vec<String>,
    /// What it is to load, in its own terms: modules, classes.
    pub load: Vec<String>,
    /// Whether it serves commands without further arguments only.
    pub exact: bool,
    /// Whether each program is a fork of it (docs/SPEED.md), so that it serves all of a sandbox's runs. One at the most.
    pub fork: bool,
}

/// A runtime that is to wait, every word settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrewarmedRuntime {
    /// The runtime and its arguments.
    pub argv: Vec<String>,
    /// The beginning of the commands that it serves.
    pub stands_for: Vec<String>,
    /// What it is to load.
    pub load: Vec<String>,
    /// Whether nothing may follow.
    pub exact: bool,
    /// Whether each program is a fork of it.
    pub forks: bool,
}

impl Profile {
    /// The runtimes that wait in its idle sandboxes.
    pub fn prewarmed_runtimes(&self) -> Vec<PrewarmedRuntime> {
        let stem = self.entry.rsplit_once('.').map_or(self.entry.as_str(), |(stem, _)| stem);
        let settle = |words: &[String]| -> Vec<String> {
            words.iter().map(|word| word.replace("{entry}", &self.entry).replace("{stem}", stem)).collect()
        };
        let waiter = |prewarm: &PrewarmSpec| {
            let stands_for = settle(if prewarm.command.is_empty() { &self.run } else { &prewarm.command });
            let argv = if prewarm.start.is_empty() { stands_for.clone() } else { settle(&prewarm.start) };
            PrewarmedRuntime { argv, stands_for, load: prewarm.load.clone(), exact: prewarm.exact, forks: prewarm.fork }
        };
        self.prewarm.iter().map(waiter).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_stands_for_the_run_command_unless_another_is_named() {
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
