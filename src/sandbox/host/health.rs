//! Whether a host is given work, derived from what was observed of its engine. Pure.
//!
//! ```text
//!             answered             call failed, probe failed           probe failed
//!   Unknown -----------> Up ----------------------------------> Suspect -------------> Down
//!      |                  ^ <--------- answered ------------------'                      |
//!      | failed           '------------------------ answered ---------------------------'
//!      '---------------------------------------------------------------------------------^
//!
//!   drain: the scheduler sees Draining instead of Up or Suspect until resume; probing continues
//! ```
//!
//! A suspect host is given work only if no other host is up: one failed call may have a cause of
//! its own, and the probe that follows at once decides.

use protocol::rows::HostState;

/// What was observed of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observation {
    /// A probe was answered.
    Answered,
    /// A probe failed.
    Failed,
    /// A call failed as if the engine were down.
    Suspected,
}

/// What is known about the engine, apart from draining.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EngineStatus {
    /// Not probed yet.
    #[default]
    Unknown,
    /// The last probe was answered.
    Answers,
    /// One probe or call failed since the last answer.
    Suspect,
    /// Several probes failed.
    Down,
}

impl EngineStatus {
    /// The status after an observation.
    #[must_use]
    pub fn after(self, observation: Observation) -> EngineStatus {
        match (self, observation) {
            (_, Observation::Answered) => EngineStatus::Answers,
            (EngineStatus::Answers, Observation::Failed | Observation::Suspected) => EngineStatus::Suspect,
            (EngineStatus::Suspect | EngineStatus::Unknown | EngineStatus::Down, Observation::Failed) => {
                EngineStatus::Down
            }
            (same, Observation::Suspected) => same,
        }
    }

    /// The state of a host with this engine.
    pub fn state(self, drained: bool) -> HostState {
        match (self, drained) {
            (EngineStatus::Down, _) => HostState::Down,
            (EngineStatus::Unknown, _) => HostState::Unknown,
            (EngineStatus::Answers | EngineStatus::Suspect, true) => HostState::Draining,
            (EngineStatus::Answers, false) => HostState::Up,
            (EngineStatus::Suspect, false) => HostState::Suspect,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(observations: &[Observation]) -> HostState {
        let status = observations.iter().fold(EngineStatus::default(), |status, next| status.after(*next));
        status.state(false)
    }

    #[test]
    fn one_failure_makes_a_host_suspect_and_two_make_it_down() {
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
    fn a_host_that_never_answered_is_down_after_its_first_failure() {
        assert_eq!(after(&[Observation::Failed]), HostState::Down);
        assert_eq!(after(&[Observation::Suspected]), HostState::Unknown);
    }

    #[test]
    fn a_drained_host_whose_engine_is_down_is_down() {
        assert_eq!(EngineStatus::Answers.state(true), HostState::Draining);
        assert_eq!(EngineStatus::Suspect.state(true), HostState::Draining);
        assert_eq!(EngineStatus::Down.state(true), HostState::Down);
    }
}
