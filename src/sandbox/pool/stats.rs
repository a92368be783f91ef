//! Counters of a pool since it was started. They only grow; a reload that replaces the pool starts
//! at zero.

use std::time::Duration;

use protocol::StartKind;
use strum::{IntoStaticStr, VariantArray};
use telemetry::metrics::{Buckets, Histogram};

/// Why a sandbox was retired; the value of the metric's `reason` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum RetireReason {
    /// It served its submission, or as many as its profile allows.
    Used,
    /// An audit found residue.
    Residue,
    /// It died during a submission.
    Lost,
    /// It died while ready.
    Died,
    /// It was ready for longer than the profile's `max_age`.
    Age,
    /// It was kept for a caller that did not come back in time.
    Idle,
    /// It was kept for one caller, and its place below the ceiling was needed.
    Evicted,
    /// Its pool was closed, paused or flushed.
    Closed,
}

/// The counters of one pool.
#[derive(Debug, Clone)]
pub struct PoolStats {
    /// Leases of a sandbox that was ready when it was asked for.
    pub hits: u64,
    /// Leases that waited for a sandbox to be created.
    pub misses: u64,
    /// Durations of successful creations, in seconds.
    pub refills: Histogram,
    retired: [u64; RetireReason::VARIANTS.len()],
}

impl Default for PoolStats {
    fn default() -> Self {
        PoolStats {
            hits: 0,
            misses: 0,
            refills: Buckets::Engine.histogram(),
            retired: [0; RetireReason::VARIANTS.len()],
        }
    }
}

impl PoolStats {
    pub(super) fn record_lease(&mut self, start: StartKind) {
        match start {
            StartKind::Cold => self.misses += 1,
            StartKind::Hot | StartKind::Warm => self.hits += 1,
        }
    }

    pub(super) fn record_creation(&mut self, took: Duration) {
        self.refills.observe(took.as_secs_f64());
    }

    pub(super) fn record_retired(&mut self, reason: RetireReason, count: usize) {
        self.retired[reason as usize] += count as u64;
    }

    /// The number of retired sandboxes by reason.
    pub fn retirements(&self) -> impl Iterator<Item = (RetireReason, u64)> {
        RetireReason::VARIANTS.iter().copied().zip(self.retired)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_counted_under_its_own_name() {
        let mut stats = PoolStats::default();
        for (count, reason) in RetireReason::VARIANTS.iter().copied().enumerate() {
            stats.record_retired(reason, count + 1);
        }
        for (index, (reason, count)) in stats.retirements().enumerate() {
            assert_eq!((reason, count), (RetireReason::VARIANTS[index], index as u64 + 1));
        }
        let mut names: Vec<&str> = RetireReason::VARIANTS.iter().map(|reason| reason.into()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), RetireReason::VARIANTS.len());
    }

    #[test]
    fn only_a_cold_start_is_a_miss() {
        let mut stats = PoolStats::default();
        [StartKind::Warm, StartKind::Hot, StartKind::Cold].into_iter().for_each(|start| stats.record_lease(start));
        assert_eq!((stats.hits, stats.misses), (2, 1));
    }
}
