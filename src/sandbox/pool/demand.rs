//! How many sandboxes to keep ready, from the rate at which they are taken. Pure: the time is a
//! parameter.
//!
//! While one replacement is created, `rate x creation time` sandboxes are taken. That many must be
//! ready so that no submission waits, and as many again for arrivals that come in bursts. The
//! result never falls below the floor and never exceeds the ceiling. Submissions that come too
//! rarely for a rate are expected again for ten minutes ([`Interest`]).

use std::time::{Duration, Instant};

use super::stock::Levels;

/// The time constant of the exponential average.
const WINDOW: Duration = Duration::from_secs(10);
/// Factor for bursts: twice the mean is kept ready.
const MARGIN: f64 = 2.0;
/// Below this many sandboxes a rate says nothing: [`Interest`] decides then.
const NEGLIGIBLE: f64 = 0.01;
/// How long after a request for a kind of sandbox another one is expected.
const MEMORY: Duration = Duration::from_secs(600);

/// The rate at which sandboxes are taken, as an exponentially decaying average.
#[derive(Debug, Default)]
pub struct DemandRate {
    last: Option<Instant>,
    per_second: f64,
}

impl DemandRate {
    /// Records that one sandbox was taken.
    pub fn record(&mut self, now: Instant) {
        self.per_second = self.rate(now) + 1.0 / WINDOW.as_secs_f64();
        self.last = Some(now);
    }

    /// Sandboxes taken per second.
    pub fn rate(&self, now: Instant) -> f64 {
        let Some(last) = self.last else { return 0.0 };
        let since = now.saturating_duration_since(last).as_secs_f64() / WINDOW.as_secs_f64();
        self.per_second * (-since).exp()
    }

    /// How many sandboxes to keep ready when creating one takes `creation`.
    pub fn level(&self, now: Instant, creation: Duration, levels: Levels) -> usize {
        let wanted = self.rate(now) * creation.as_secs_f64() * MARGIN;
        let wanted = if wanted < NEGLIGIBLE { 0.0 } else { wanted.ceil() };
        (wanted as usize).clamp(levels.floor, levels.ceiling.max(levels.floor))
    }
}

/// Whether a pool should keep one sandbox ready although its floor is 0: if a submission asked for
/// its kind within the last ten minutes. That counts also if another kind served the submission,
/// because none of this one was ready.
#[derive(Debug, Default)]
pub struct Interest {
    last: Option<Instant>,
}

impl Interest {
    /// Records that a submission asked for such a sandbox. Returns whether none was expected.
    pub fn record(&mut self, now: Instant) -> bool {
        let is_news = !self.is_expected(now);
        self.last = Some(now);
        is_news
    }

    /// The number of sandboxes to keep ready because of it: one at most.
    pub fn level(&self, now: Instant, levels: Levels) -> usize {
        usize::from(self.is_expected(now)).min(levels.ceiling)
    }

    fn is_expected(&self, now: Instant) -> bool {
        self.last.is_some_and(|last| now.saturating_duration_since(last) < MEMORY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_requested_kind_is_expected_again_for_ten_minutes() {
        let (begun, minute, levels) = (Instant::now(), Duration::from_secs(60), Levels { floor: 0, ceiling: 4 });
        let mut interest = Interest::default();
        assert_eq!(interest.level(begun, levels), 0);
        assert!(interest.record(begun) && !interest.record(begun + 9 * minute));
        assert_eq!(interest.level(begun + 18 * minute, levels), 1);
        assert_eq!(interest.level(begun + 18 * minute, Levels { ceiling: 0, ..levels }), 0);
        assert_eq!(interest.level(begun + 20 * minute, levels), 0);
        assert!(interest.record(begun + 20 * minute));
    }

    #[test]
    fn a_rate_of_long_ago_keeps_nothing_ready() {
        let (demand, now) = after_a_minute_at(4);
        let levels = Levels { floor: 0, ceiling: 4 };
        let level = |after: u64| demand.level(now + Duration::from_secs(after), Duration::from_millis(300), levels);
        assert_eq!([level(0), level(20), level(120)], [3, 1, 0]);
    }

    const LEVELS: Levels = Levels { floor: 2, ceiling: 8 };

    /// A minute at this rate, and the time at its end.
    fn after_a_minute_at(per_second: u32) -> (DemandRate, Instant) {
        let (mut demand, mut now) = (DemandRate::default(), Instant::now());
        for _ in 0..60 * per_second {
            now += Duration::from_secs(1) / per_second;
            demand.record(now);
        }
        (demand, now)
    }

    #[test]
    fn the_rate_follows_arrivals_and_decays_without_them() {
        let (demand, now) = after_a_minute_at(5);
        assert!((demand.rate(now) - 5.0).abs() < 0.3, "{}", demand.rate(now));
        assert!(demand.rate(now + Duration::from_secs(60)) < 0.02);
        assert_eq!(DemandRate::default().rate(now), 0.0);
    }

    #[test]
    fn the_level_follows_the_rate_between_floor_and_ceiling() {
        let level = |per_second, creation_ms| {
            let (demand, now) = after_a_minute_at(per_second);
            demand.level(now, Duration::from_millis(creation_ms), LEVELS)
        };
        assert_eq!(level(1, 100), 2);
        assert_eq!(level(10, 290), 6);
        assert_eq!(level(10, 3000), 8);
        let (demand, now) = after_a_minute_at(10);
        assert_eq!(demand.level(now + Duration::from_secs(120), Duration::from_millis(300), LEVELS), 2);
    }

    #[test]
    fn a_pool_without_a_floor_stays_empty_without_demand() {
        let none = Levels { floor: 0, ceiling: 4 };
        assert_eq!(DemandRate::default().level(Instant::now(), Duration::from_secs(1), none), 0);
    }

    /// The example of docs/OPERATIONS.md: 2 x 4/s x 0.3 s = 2.4, so 3.
    #[test]
    fn four_per_second_and_300_ms_keep_three_ready() {
        let levels = Levels { floor: 0, ceiling: 7 };
        let (demand, now) = after_a_minute_at(4);
        assert_eq!(demand.level(now, Duration::from_millis(300), levels), 3);
    }
}
