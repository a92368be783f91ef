//! The prewarmed runtimes of a sandbox: which are worth starting, and what is known about them.

use std::sync::Arc;

use parking_lot::Mutex;
use wire::frame::Prepare;

/// Shared between a sandbox's handle and its link task.
pub(super) type SharedPrewarmState = Arc<Mutex<PrewarmState>>;

/// The prewarmed runtimes of a sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PrewarmState {
    /// Runtimes that were asked for.
    pub wanted: usize,
    /// Runtimes that reported to be ready.
    pub waiting: usize,
    /// Memory that the sandbox uses beyond what it used when it was new, in bytes.
    pub memory_bytes: u64,
    /// The slowest runtime's start, in milliseconds.
    pub took_ms: u64,
    /// Why a runtime could not be started.
    pub failed: Option<String>,
}

impl PrewarmState {
    /// Whether all requested runtimes are ready.
    pub fn is_hot(&self) -> bool {
        self.wanted > 0 && self.waiting >= self.wanted
    }
}

/// Which runtimes to prewarm.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum RuntimeChoice {
    #[default]
    All,
    /// Those that can serve one of these commands, which the next submission is expected to run.
    For {
        commands: Vec<Arc<[String]>>,
        /// Whether the caller comes back before a runtime for the first command is ready. A
        /// runtime that is forked from a template is always in time.
        is_hasty: bool,
    },
}

impl RuntimeChoice {
    pub(super) fn wants(&self, runtime: &Prepare) -> bool {
        let RuntimeChoice::For { commands, is_hasty } = self else { return true };
        let skipped = usize::from(*is_hasty && !runtime.forks);
        commands.iter().skip(skipped).any(|command| runtime.stands_for_command(command))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::convert;
    use protocol::{Preset, Profile};

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    /// Which runtimes of a profile are wanted: one that compiles, one that runs, and a forked one.
    fn wanted(commands: &[&str], is_hasty: bool) -> Vec<u32> {
        let runtimes = r#"[{"command": ["compile"]}, {"exact": true}, {"command": ["script"], "fork": true}]"#;
        let head = r#""name": "p", "image": "p", "entry": "Main.x", "run": ["run", "{stem}"]"#;
        let profile: Profile = serde_json::from_str(&format!("{{{head}, \"prewarm\": {runtimes}}}")).unwrap();
        let commands = commands.iter().map(|line| words(line).into()).collect();
        let choice = RuntimeChoice::For { commands, is_hasty };
        let runtimes = convert::prewarmed_runtimes(&profile, &Preset::default().limits());
        runtimes.iter().filter(|runtime| choice.wants(runtime)).map(|runtime| runtime.id).collect()
    }

    #[test]
    fn a_runtime_waits_only_for_a_command_that_it_can_serve() {
        assert_eq!(wanted(&["compile Main.x", "run Main"], false), [0, 1]);
        assert_eq!(wanted(&["run Main"], false), [1]);
        assert_eq!(wanted(&["run Main with an argument"], false), [] as [u32; 0]);
        assert_eq!(wanted(&["/bin/true"], false), [] as [u32; 0]);
    }

    #[test]
    fn a_runtime_that_would_come_too_late_is_not_started_unless_it_serves_a_later_step() {
        assert_eq!(wanted(&["compile Main.x", "run Main"], true), [1]);
        assert_eq!(wanted(&["run Main"], true), [] as [u32; 0]);
        assert_eq!(wanted(&["script a"], true), [2]);
    }
}
