//! Whether a host may be given work: from what was seen of its engine. Pure.
//!
//! ```text
//!             answered             call failed, probe failed           probe failed
//!   Unknown -----------> Up ----------------------------------> Suspect -------------> Down
//!      |                  ^ <--------- answered ------------------'                      |
//!      | failed           '------------------------ answered ---------------------------'
//!      '---------------------------------------------------------------------------------^
//!
//!   drain: any of them is Draining for whoever gives out work, until resume; it is watched on
//! ```
//!
//! A suspect host gets work only when no other is up: one failed call may be that call's own, and the probe that
//! follows at once says which.

use schemars::JsonSchema;
use serde::Serialize;

/// What may be done with a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HostState {
    /// Not asked yet.
    Unknown,
    /// It answers.
    Up,
    /// Something failed as if it were gone; it is being asked.
    Suspect,
    /// It does not answer.
    Down,
    /// It answers, and gets no more work, because somebody said so.
    Draining,
}

/// What was seen, or said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observation {
    /// A probe was answered.
    Answered,
    /// A probe was not.
    Failed,
    /// A call failed as if the engine were gone.
    Suspected,
}

/// What is known of the engine, without what was said about draining.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EngineStatus {
    /// Not asked yet.
    #[default]
    Unknown,
    /// It answers.
    Answers,
    /// It may not.
    Doubtful,
    /// It does not.
    Gone,
}

impl EngineStatus {
    /// What is known after this.
    #[must_use]
    pub fn after(self, seen: Observation) -> EngineStatus {
        match (self, seen) {
            (_, Observation::Answered) => EngineStatus::Answers,
            (EngineStatus::Answers, Observation::Failed | Observation::Suspected) => EngineStatus::Doubtful,
            (EngineStatus::Doubtful | EngineStatus::Unknown | EngineStatus::Gone, Observation::Failed) => {
                EngineStatus::Gone
            }
            (same, Observation::Suspected) => same,
        }
    }

    /// The state that this makes of a host.
    pub fn state(self, drained: bool) -> HostState {
        match (self, drained) {
            (EngineStatus::Gone, _) => HostState::Down,
            (EngineStatus::Unknown, _) => HostState::Unknown,
            (EngineStatus::Answers | EngineStatus::Doubtful, true) => HostState::Draining,
            (EngineStatus::Answers, false) => HostState::Up,
            (EngineStatus::Doubtful, false) => HostState::Suspect,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(seen: &[Observation]) -> HostState {
        seen.iter().fold(EngineStatus::default(), |engine, seen| engine.after(*seen)).state(false)
    }

    #[test]
    fn one_failure_is_a_suspicion_and_two_are_a_fact() {
        use Observation::{Answered, Failed, Suspected};
        assert_eq!(after(&[]), HostState::Unknown);
        assert_eq!(after(&[Answered]), HostState::Up);
        assert_eq!(after(&[Answered, Suspected]), HostState::Suspect);
        assert_eq!(after(&[Answered, Suspected, Suspected]), HostState::Suspect);
        assert_eq!(after(&[Answered, Failed]), HostState::Suspect);
        assert_eq!(after(&[Answered, Suspected, Failed]), HostState::Down);
        assert_eq!(after(&[Answered, Suspected, Answered]), HostState::Up);
        assert_eq!(after(&[Answered, Failed, Failed, Suspected, Answered]), HostState::Up);
    }

    #[test]
    fn a_host_that_never_answered_is_down_at_its_first_failure() {
        assert_eq!(after(&[Observation::Failed]), HostState::Down);
        assert_eq!(after(&[Observation::Suspected]), HostState::Unknown);
    }

    #[test]
    fn a_drained_host_that_is_gone_is_down() {
        assert_eq!(EngineStatus::Answers.state(true), HostState::Draining);
        assert_eq!(EngineStatus::Doubtful.state(true), HostState::Draining);
        assert_eq!(EngineStatus::Gone.state(true), HostState::Down);
    }
}
