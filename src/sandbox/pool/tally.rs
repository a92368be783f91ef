//! What came of a pool's sandboxes since its start. Counts only grow; a reload that makes another pool of a profile begins anew.

use std::time::Duration;

use protocol::StartKind;
use telemetry::metrics::{Buckets, Histogram};

/// Why a sandbox was let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetireReason {
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

impl RetireReason {
    /// All of them.
    pub const ALL: [RetireReason; 8] = [
        RetireReason::Used,
        RetireReason::Residue,
        RetireReason::Lost,
        RetireReason::Died,
        RetireReason::Age,
        RetireReason::Idle,
        RetireReason::Evicted,
        RetireReason::Closed,
    ];

    /// In a word.
    pub fn as_str(self) -> &'static str {
        match self {
            RetireReason::Used => "used",
            RetireReason::Residue => "residue",
            RetireReason::Lost => "lost",
            RetireReason::Died => "died",
            RetireReason::Age => "age",
            RetireReason::Idle => "idle",
            RetireReason::Evicted => "evicted",
            RetireReason::Closed => "closed",
        }
    }
}

/// The counts.
#[derive(Debug, Clone)]
pub struct PoolStats {
    /// Taken by who found it ready.
    pub hits: u64,
    /// Taken by who had to wait for it to be made.
    pub misses: u64,
    /// How long creations took that succeeded.
    pub refills: Histogram,
    retired: [u64; RetireReason::ALL.len()],
}

impl Default for PoolStats {
    fn default() -> Self {
        PoolStats { hits: 0, misses: 0, refills: Buckets::Engine.histogram(), retired: [0; RetireReason::ALL.len()] }
    }
}

impl PoolStats {
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
    pub(super) fn retired(&mut self, reason: RetireReason, count: usize) {
        self.retired[reason as usize] += count as u64;
    }

    /// How many were let go, by why.
    pub fn retirements(&self) -> impl Iterator<Item = (RetireReason, u64)> {
        RetireReason::ALL.into_iter().zip(self.retired)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_counted_under_its_own_name() {
        let mut stats = PoolStats::default();
        for (count, reason) in RetireReason::ALL.into_iter().enumerate() {
            stats.retired(reason, count + 1);
        }
        for (at, (reason, count)) in stats.retirements().enumerate() {
            assert_eq!((reason, count), (RetireReason::ALL[at], at as u64 + 1));
        }
        let mut words: Vec<&str> = RetireReason::ALL.iter().map(|reason| reason.as_str()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), RetireReason::ALL.len());
    }

    #[test]
    fn who_waited_for_a_sandbox_to_be_made_missed() {
        let mut stats = PoolStats::default();
        [StartKind::Warm, StartKind::Hot, StartKind::Cold].into_iter().for_each(|start| stats.taken(start));
        assert_eq!((stats.hits, stats.misses), (2, 1));
    }
}
