//! Counts of submissions since the daemon's start.

use std::sync::atomic::{AtomicUsize, Ordering};

use protocol::status::Counters;
use protocol::{Report, StartKind, Verdict};

/// The live counts behind [`Counters`].
#[derive(Debug, Default)]
pub(super) struct SubmissionCounters {
    pub(super) admitted: AtomicUsize,
    pub(super) answered: AtomicUsize,
    pub(super) refused: AtomicUsize,
    pub(super) retried: AtomicUsize,
    pub(super) system_error: AtomicUsize,
    pub(super) warm: AtomicUsize,
    pub(super) kept: AtomicUsize,
    pub(super) residue: AtomicUsize,
    pub(super) cold: AtomicUsize,
}

impl SubmissionCounters {
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

    /// The counts now.
    pub(super) fn snapshot(&self) -> Counters {
        let of = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        Counters {
            admitted: of(&self.admitted),
            answered: of(&self.answered),
            refused: of(&self.refused),
            retried: of(&self.retried),
            system_error: of(&self.system_error),
            warm: of(&self.warm),
            kept: of(&self.kept),
            residue: of(&self.residue),
            cold: of(&self.cold),
        }
    }
}
