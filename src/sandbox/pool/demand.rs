//! How many sandboxes to keep ready, from the rate at which they are taken. Pure: the time is a
//! parameter.
//!
//! While one replacement is created, `rate x creation time` sandboxes are taken. That many must be
//! ready so that no submission waits, and as many again for arrivals that come in bursts. The
//! result never falls below the floor and never exceeds the ceiling.

use std::time::{Duration, Instant};

use super::stock::Levels;

/// The time constant of the exponential average.
const WINDOW: Duration = Duration::from_secs(10);
/// Factor for bursts: twice the mean is kept ready.
const MARGIN: f64 = 2.0;

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
        let wanted = (self.rate(now) * creation.as_secs_f64() * MARGIN).ceil();
        (wanted as usize).clamp(levels.floor, levels.ceiling.max(levels.floor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
