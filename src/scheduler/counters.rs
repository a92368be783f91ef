//! Counts of submissions since the daemon's start.

use std::sync::atomic::{AtomicUsize, Ordering};

use schemars::JsonSchema;
use serde::Serialize;

use protocol::{Report, StartKind, Verdict};

/// Counts since the daemon's start. They only grow.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub struct Counters {
    /// Submissions admitted.
    pub admitted: AtomicUsize,
    /// Submissions answered with a report.
    pub answered: AtomicUsize,
    /// Submissions refused.
    pub refused: AtomicUsize,
    /// Submissions retried because a sandbox was lost or unfit.
    pub retried: AtomicUsize,
    /// Submissions answered with `system_error`.
    pub system_error: AtomicUsize,
    /// Submissions that ran in a ready sandbox.
    pub warm: AtomicUsize,
    /// Used sandboxes kept for their caller.
    pub kept: AtomicUsize,
    /// Used sandboxes retired because an audit found residue.
    pub residue: AtomicUsize,
    /// Submissions that ran in a sandbox created for them.
    pub cold: AtomicUsize,
}

impl Counters {
    /// Adds one to a counter.
    pub(super) fn count(&self, counter: &AtomicUsize) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a report.
    pub(super) fn count_answer(&self, report: &Report) {
        self.count(&self.answered);
        if report.verdict == Verdict::SystemError {
            self.count(&self.system_error);
        }
        match report.start {
            Some(StartKind::Cold) => self.count(&self.cold),
            Some(_) => self.count(&self.warm),
            None => {}
        }
    }
}
