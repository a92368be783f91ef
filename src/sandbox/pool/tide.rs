//! How many sandboxes are worth keeping ready, from how often one is taken. Pure: time comes in.
//!
//! While one replacement is made, `rate x time to make one` more are taken: that many must lie ready so that nobody waits,
//! and as many again for arrivals that bunch. The floor holds when it is quiet, the ceiling always.

use std::time::{Duration, Instant};

use super::stock::Levels;

/// Over how long the rate is looked at.
const WINDOW: Duration = Duration::from_secs(10);
/// Arrivals bunch: twice the mean is kept.
const MARGIN: f64 = 2.0;

/// The rate at which sandboxes are taken, fading.
#[derive(Debug, Default)]
pub struct DemandRate {
    last: Option<Instant>,
    per_second: f64,
}

impl DemandRate {
    /// One was taken.
    pub fn taken(&mut self, now: Instant) {
        self.per_second = self.rate(now) + 1.0 / WINDOW.as_secs_f64();
        self.last = Some(now);
    }

    /// How many are taken per second, by now.
    pub fn rate(&self, now: Instant) -> f64 {
        let Some(last) = self.last else { return 0.0 };
        let since = now.saturating_duration_since(last).as_secs_f64() / WINDOW.as_secs_f64();
        self.per_second * (-since).exp()
    }

    /// How many to keep ready, when making one takes so long.
    pub fn level(&self, now: Instant, make: Duration, levels: Levels) -> usize {
        let wanted = (self.rate(now) * make.as_secs_f64() * MARGIN).ceil();
        (wanted as usize).clamp(levels.floor, levels.ceiling.max(levels.floor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEVELS: Levels = Levels { floor: 2, ceiling: 8 };

    /// So many per second for a minute.
    fn after(per_second: u32) -> (DemandRate, Instant) {
        let (mut demand_rate, mut now) = (DemandRate::default(), Instant::now());
        for _ in 0..60 * per_second {
            now += Duration::from_secs(1) / per_second;
            demand_rate.taken(now);
        }
        (demand_rate, now)
    }

    #[test]
    fn the_rate_is_what_comes_and_fades_when_nothing_does() {
        let (demand_rate, now) = after(5);
        assert!((demand_rate.rate(now) - 5.0).abs() < 0.3, "{}", demand_rate.rate(now));
        assert!(demand_rate.rate(now + Duration::from_secs(60)) < 0.02);
        assert_eq!(DemandRate::default().rate(now), 0.0);
    }

    #[test]
    fn the_level_follows_the_rate_between_floor_and_ceiling() {
        let level =
            |per_second, make| after(per_second).0.level(after(per_second).1, Duration::from_millis(make), LEVELS);
        assert_eq!(level(1, 100), 2);
        assert_eq!(level(10, 290), 6);
        assert_eq!(level(10, 3000), 8);
        let (demand_rate, now) = after(10);
        assert_eq!(demand_rate.level(now + Duration::from_secs(120), Duration::from_millis(300), LEVELS), 2);
    }

    #[test]
    fn a_pool_without_a_floor_stays_empty_when_nobody_comes() {
        let none = Levels { floor: 0, ceiling: 4 };
        assert_eq!(DemandRate::default().level(Instant::now(), Duration::from_secs(1), none), 0);
    }

    #[test]
    fn the_worked_example_of_the_operations_guide_is_what_the_tide_does() {
        let guide = include_str!("../../../docs/OPERATIONS.md");
        let levels = Levels { floor: 0, ceiling: 7 };
        let (demand_rate, now) = after(4);
        assert_eq!(demand_rate.level(now, Duration::from_millis(300), levels), 3);
        assert!(guide.contains("| ready | 2 x 4/s x 0.3 s = 2.4, so 3 |"));
        // the engine's pace is the one that was measured
        assert!(
            guide.contains("18.5 sandboxes per second")
                && include_str!("../../../README.md").contains("18.5 sandboxes per second")
        );
    }
}
