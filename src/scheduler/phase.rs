//! The phases of a submission; the state diagram is in `submission`.

use protocol::ReportText;

/// A phase between admission and report.
#[derive(Debug, Clone)]
pub enum SubmissionPhase {
    /// Waiting for a sandbox.
    Queued,
    /// Holding a sandbox, waiting for those of its referees.
    Acquiring,
    /// Judged on its sandboxes.
    Running,
    /// Its sandboxes are released; its report is written, or it is tried again.
    Settling,
    Done(ReportText),
    /// Unfinished when the daemon ended; saved for the next daemon.
    Kept,
}

impl SubmissionPhase {
    /// Whether it has not run yet.
    pub(super) fn is_waiting(&self) -> bool {
        matches!(self, SubmissionPhase::Queued | SubmissionPhase::Acquiring)
    }
}
