//! Estimates how long a submission waits for a sandbox, so that admission can refuse one that would
//! wait beyond its deadline or the queue's patience. Pure: the caller passes the time.

use std::time::{Duration, Instant};

/// Weight of a new gap in the moving average. Runs of one length that began together end together,
/// so allocations come in bursts: the average is over several bursts.
const WEIGHT: f64 = 0.04;
/// Gaps measured before there is an estimate.
const MIN_GAPS: u32 = 3;

/// A moving average of the time between two allocations while others wait.
#[derive(Debug, Default)]
pub struct WaitEstimator {
    last: Option<Instant>,
    mean_gap_secs: Option<f64>,
    gaps: u32,
}

impl WaitEstimator {
    /// Records an allocation; `others_wait` if the queue is not empty after it.
    pub fn record_allocation(&mut self, now: Instant, others_wait: bool) {
        if let Some(last) = self.last {
            let gap = now.saturating_duration_since(last).as_secs_f64();
            self.gaps = self.gaps.saturating_add(1);
            let weight = WEIGHT.max(1.0 / f64::from(self.gaps));
            self.mean_gap_secs = Some(self.mean_gap_secs.map_or(gap, |mean| mean + weight * (gap - mean)));
        }
        // with an empty queue the time until the next allocation is idle time, not our speed
        self.last = others_wait.then_some(now);
    }

    /// The expected wait behind `ahead` others; `None` if too few gaps were measured.
    pub fn estimate(&self, ahead: usize) -> Option<Duration> {
        let gap = self.mean_gap_secs.filter(|_| self.gaps >= MIN_GAPS)?;
        Duration::try_from_secs_f64(gap * (ahead as f64 + 1.0)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_estimate_is_the_mean_gap_times_the_queue_position() {
        let (mut estimator, begin) = (WaitEstimator::default(), Instant::now());
        for number in 0..10u32 {
            assert_eq!(estimator.estimate(0).is_some(), number > 3);
            estimator.record_allocation(begin + Duration::from_millis(100) * number, true);
        }
        let wait = estimator.estimate(9).unwrap();
        assert!(wait.abs_diff(Duration::from_secs(1)) < Duration::from_millis(1), "{wait:?}");
    }

    #[test]
    fn allocations_in_bursts_are_estimated_by_their_mean_gap() {
        let (mut estimator, begin) = (WaitEstimator::default(), Instant::now());
        // four places, whose runs of 400 ms end together
        for number in 0..80u32 {
            estimator.record_allocation(begin + Duration::from_millis(400) * (number / 4), true);
            let wait = estimator.estimate(39).map(|wait| wait.as_secs_f64());
            assert!(number < 16 || wait.is_some_and(|wait| (3.2..5.0).contains(&wait)), "{number}: {wait:?}");
        }
    }

    #[test]
    fn idle_time_does_not_count_as_a_gap() {
        let (mut estimator, begin) = (WaitEstimator::default(), Instant::now());
        for number in 0..5u32 {
            estimator.record_allocation(begin + Duration::from_millis(100) * number, number < 4);
        }
        estimator.record_allocation(begin + Duration::from_secs(3600), true);
        assert!(estimator.estimate(0).unwrap() < Duration::from_millis(101));
    }
}
