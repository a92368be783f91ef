//! What came of a pool's sandboxes since its start. Counts only grow; a reload that makes another pool of a profile begins anew.

use std::time::Duration;

use crate::model::StartKind;
use crate::telemetry::metrics::{Buckets, Histogram};

/// Why a sandbox was let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It served its submission, or as many as it may.
    Used,
    /// An audit found something in it.
    Residue,
    /// It died under a submission.
    Lost,
    /// It died while it lay ready.
    Died,
    /// It lay ready for too long.
    Age,
    /// It was kept for a caller who did not come.
    Idle,
    /// It was kept for one caller, and others waited.
    Evicted,
    /// Its pool was closed, paused or flushed.
    Closed,
}

impl Reason {
    /// All of them.
    pub const ALL: [Reason; 8] = [
        Reason::Used,
        Reason::Residue,
        Reason::Lost,
        Reason::Died,
        Reason::Age,
        Reason::Idle,
        Reason::Evicted,
        Reason::Closed,
    ];

    /// In a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Used => "used",
            Reason::Residue => "residue",
            Reason::Lost => "lost",
            Reason::Died => "died",
            Reason::Age => "age",
            Reason::Idle => "idle",
            Reason::Evicted => "evicted",
            Reason::Closed => "closed",
        }
    }
}

/// The counts.
#[derive(Debug, Clone)]
pub struct Tally {
    /// Taken by who found it ready.
    pub hits: u64,
    /// Taken by who had to wait for it to be made.
    pub misses: u64,
    /// How long creations took that succeeded.
    pub refills: Histogram,
    retired: [u64; Reason::ALL.len()],
}

impl Default for Tally {
    fn default() -> Self {
        Tally { hits: 0, misses: 0, refills: Buckets::Engine.histogram(), retired: [0; Reason::ALL.len()] }
    }
}

impl Tally {
    /// One was taken.
    pub(super) fn taken(&mut self, start: StartKind) {
        match start {
            StartKind::Cold => self.misses += 1,
            StartKind::Hot | StartKind::Warm => self.hits += 1,
        }
    }

    /// One was made.
    pub(super) fn made(&self, took: Duration) {
        self.refills.observe(took.as_secs_f64());
    }

    /// So many were let go.
    pub(super) fn retired(&mut self, reason: Reason, count: usize) {
        self.retired[reason as usize] += count as u64;
    }

    /// How many were let go, by why.
    pub fn retirements(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL.into_iter().zip(self.retired)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_counted_under_its_own_name() {
        let mut tally = Tally::default();
        for (count, reason) in Reason::ALL.into_iter().enumerate() {
            tally.retired(reason, count + 1);
        }
        for (at, (reason, count)) in tally.retirements().enumerate() {
            assert_eq!((reason, count), (Reason::ALL[at], at as u64 + 1));
        }
        let mut words: Vec<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Reason::ALL.len());
    }

    #[test]
    fn who_waited_for_a_sandbox_to_be_made_missed() {
        let mut tally = Tally::default();
        [StartKind::Warm, StartKind::Hot, StartKind::Cold].into_iter().for_each(|start| tally.taken(start));
        assert_eq!((tally.hits, tally.misses), (2, 1));
    }
}
