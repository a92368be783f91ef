//! Why a submission got no sandbox: what was seen when it gave up, and what the operator can do.

use std::fmt;
use std::sync::Arc;

use super::fair_queue::ProfileName;
use protocol::rows::PoolState;
use sandbox::pool::MakeError;

/// Why no sandbox could be allocated.
#[derive(Debug, Clone, thiserror::Error)]
#[error("no sandbox became ready in time{}", cause.as_ref().map(|cause| format!(" ({cause})")).unwrap_or_default())]
pub(super) struct NoSandbox {
    #[source]
    pub(super) cause: Option<NoSandboxCause>,
    /// Whether a host took work.
    pub(super) host_up: bool,
}

/// What kept a sandbox from becoming ready.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum NoSandboxCause {
    #[error("the profile {0} is gone from the configuration")]
    ProfileGone(ProfileName),
    /// The last creation on a host that takes work failed.
    #[error("{}", .0.sentence())]
    Make(#[source] Arc<MakeError>),
    /// No creation failed, but a host does not answer.
    #[error("{reason}")]
    HostDown { reason: String, remedy: Option<String> },
    /// Nothing failed: others were served.
    #[error("{0}")]
    Busy(Busy),
}

/// What the pools of a profile were doing when a submission gave up waiting.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Busy {
    pub(super) ready: usize,
    pub(super) creating: usize,
    pub(super) used: usize,
    pub(super) ceiling: usize,
    pub(super) waiting: usize,
}

impl Busy {
    pub(super) fn of<'a>(pools: impl Iterator<Item = &'a PoolState>, waiting: usize) -> Busy {
        pools.fold(Busy { waiting, ..Busy::default() }, |sum, pool| Busy {
            ready: sum.ready + pool.ready,
            creating: sum.creating + pool.creating,
            used: sum.used + pool.leased + pool.kept,
            ceiling: sum.ceiling + pool.ceiling,
            ..sum
        })
    }

    /// What the operator can do about it.
    fn remedy(self, profile: &str) -> String {
        match self {
            Busy { ready: 1.., .. } => {
                "Lower the limits of what runs, add CPUs or a host, or raise queue.max_running_per_uid.".to_owned()
            }
            Busy { used, ceiling, .. } if used >= ceiling => {
                format!(
                    "Raise pool.ceiling of the profile {profile} (profiles.ceiling, if it is set, stands for it), or add \
                     a host; `assay top` shows what runs. More queue.patience only lets callers wait longer."
                )
            }
            _ => {
                "The engine makes sandboxes too slowly: `assay pools` shows how long it takes; see engine.max_creating."
                    .to_owned()
            }
        }
    }
}

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Busy { ready, creating, used, ceiling, waiting } = self;
        match self {
            Busy { ready: 1.., .. } => write!(f, "{ready} are ready, but there was no capacity for another run"),
            _ if used >= ceiling => write!(f, "all {ceiling} are in use"),
            _ => write!(f, "{creating} are being made, {used} are in use"),
        }?;
        write!(f, ", {waiting} other submissions wait")
    }
}

impl NoSandbox {
    /// What the operator can do about it, if known. `profile` is that of the submission.
    pub(super) fn remedy(&self, profile: &str) -> Option<String> {
        match self.cause.as_ref()? {
            NoSandboxCause::ProfileGone(_) => None,
            NoSandboxCause::Make(error) => error.remedy(profile),
            NoSandboxCause::HostDown { remedy, .. } => remedy.clone(),
            NoSandboxCause::Busy(busy) => Some(busy.remedy(profile)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_pool_is_described_by_what_was_short() {
        let full = Busy { used: 4, ceiling: 4, waiting: 2, ..Busy::default() };
        assert!(
            full.to_string().starts_with("all 4 are in use")
                && full.remedy("c").contains("pool.ceiling of the profile c")
        );
        assert!(!full.remedy("c").contains("or queue.patience"), "{}", full.remedy("c"));
        let slow = Busy { creating: 2, used: 1, ceiling: 4, waiting: 2, ..Busy::default() };
        assert!(slow.to_string().contains("2 are being made") && slow.remedy("c").contains("too slowly"));
        let heavy = Busy { ready: 1, ceiling: 4, ..Busy::default() };
        assert!(heavy.to_string().contains("no capacity") && heavy.remedy("c").contains("CPUs"));
    }
}
