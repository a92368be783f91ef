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
pub enum Seen {
    /// A probe was answered.
    Answered,
    /// A probe was not.
    Failed,
    /// A call failed as if the engine were gone.
    Doubted,
}

/// What is known of the engine, without what was said about draining.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Engine {
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

impl Engine {
    /// What is known after this.
    #[must_use]
    pub fn after(self, seen: Seen) -> Engine {
        match (self, seen) {
            (_, Seen::Answered) => Engine::Answers,
            (Engine::Answers, Seen::Failed | Seen::Doubted) => Engine::Doubtful,
            (Engine::Doubtful | Engine::Unknown | Engine::Gone, Seen::Failed) => Engine::Gone,
            (same, Seen::Doubted) => same,
        }
    }

    /// The state that this makes of a host.
    pub fn state(self, drained: bool) -> HostState {
        match (self, drained) {
            (Engine::Gone, _) => HostState::Down,
            (Engine::Unknown, _) => HostState::Unknown,
            (Engine::Answers | Engine::Doubtful, true) => HostState::Draining,
            (Engine::Answers, false) => HostState::Up,
            (Engine::Doubtful, false) => HostState::Suspect,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(seen: &[Seen]) -> HostState {
        seen.iter().fold(Engine::default(), |engine, seen| engine.after(*seen)).state(false)
    }

    #[test]
    fn one_failure_is_a_suspicion_and_two_are_a_fact() {
        use Seen::{Answered, Doubted, Failed};
        assert_eq!(after(&[]), HostState::Unknown);
        assert_eq!(after(&[Answered]), HostState::Up);
        assert_eq!(after(&[Answered, Doubted]), HostState::Suspect);
        assert_eq!(after(&[Answered, Doubted, Doubted]), HostState::Suspect);
        assert_eq!(after(&[Answered, Failed]), HostState::Suspect);
        assert_eq!(after(&[Answered, Doubted, Failed]), HostState::Down);
        assert_eq!(after(&[Answered, Doubted, Answered]), HostState::Up);
        assert_eq!(after(&[Answered, Failed, Failed, Doubted, Answered]), HostState::Up);
    }

    #[test]
    fn a_host_that_never_answered_is_down_at_its_first_failure() {
        assert_eq!(after(&[Seen::Failed]), HostState::Down);
        assert_eq!(after(&[Seen::Doubted]), HostState::Unknown);
    }

    #[test]
    fn a_drained_host_that_is_gone_is_down() {
        assert_eq!(Engine::Answers.state(true), HostState::Draining);
        assert_eq!(Engine::Doubtful.state(true), HostState::Draining);
        assert_eq!(Engine::Gone.state(true), HostState::Down);
    }
}
