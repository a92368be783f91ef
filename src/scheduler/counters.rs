//! What came of submissions since the daemon's start.

use std::sync::atomic::{AtomicUsize, Ordering};

use schemars::JsonSchema;
use serde::Serialize;

use protocol::{Report, StartKind, Verdict};

/// Counts; they only grow.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub struct Counters {
    /// Let in.
    pub admitted: AtomicUsize,
    /// Answered with a report.
    pub answered: AtomicUsize,
    /// Not let in.
    pub refused: AtomicUsize,
    /// Tried once more because a sandbox was lost.
    pub retried: AtomicUsize,
    /// Answered with `system_error`.
    pub system_error: AtomicUsize,
    /// Run in a sandbox that was ready.
    pub warm: AtomicUsize,
    /// Used sandboxes that were kept for their caller.
    pub kept: AtomicUsize,
    /// Used sandboxes in which something was left: they are retired.
    pub residue: AtomicUsize,
    /// Run in a sandbox that was made for it.
    pub cold: AtomicUsize,
}

impl Counters {
    /// One more.
    pub(super) fn count(&self, which: &AtomicUsize) {
        which.fetch_add(1, Ordering::Relaxed);
    }

    /// A report went out.
    pub(super) fn answered(&self, report: &Report) {
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
