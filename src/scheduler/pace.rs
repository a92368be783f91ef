//! How fast the line moves, as measured while somebody waits: what a deadline is held against. Pure: time comes in.

use std::time::{Duration, Instant};

/// How much a new gap counts against those before it.
const WEIGHT: f64 = 0.2;
/// Gaps before anything is said.
const ENOUGH: u32 = 3;

/// The mean time between two who are served while others wait.
#[derive(Debug, Default)]
pub struct Pace {
    last: Option<Instant>,
    gap: Option<f64>,
    seen: u32,
}

impl Pace {
    /// Somebody who had waited was served; `others` still wait.
    pub fn served(&mut self, now: Instant, others: bool) {
        if let Some(last) = self.last {
            let gap = now.saturating_duration_since(last).as_secs_f64();
            self.gap = Some(self.gap.map_or(gap, |mean| mean + WEIGHT * (gap - mean)));
            self.seen = self.seen.saturating_add(1);
        }
        // without others the time until the next one says nothing of our speed
        self.last = others.then_some(now);
    }

    /// How long one waits with so many ahead; none when too little was seen to say.
    pub fn wait(&self, ahead: usize) -> Option<Duration> {
        let gap = self.gap.filter(|_| self.seen >= ENOUGH)?;
        Duration::try_from_secs_f64(gap * (ahead as f64 + 1.0)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_is_the_gap_times_those_ahead() {
        let (mut pace, begin) = (Pace::default(), Instant::now());
        for number in 0..10u32 {
            assert_eq!(pace.wait(0).is_some(), number > 3);
            pace.served(begin + Duration::from_millis(100) * number, true);
        }
        let wait = pace.wait(9).unwrap();
        assert!(wait.abs_diff(Duration::from_secs(1)) < Duration::from_millis(1), "{wait:?}");
    }

    #[test]
    fn idle_time_is_no_gap() {
        let (mut pace, begin) = (Pace::default(), Instant::now());
        for number in 0..5u32 {
            pace.served(begin + Duration::from_millis(100) * number, number < 4);
        }
        pace.served(begin + Duration::from_secs(3600), true);
        assert!(pace.wait(0).unwrap() < Duration::from_millis(101));
    }
}
