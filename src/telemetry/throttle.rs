//! Rate limit for log lines that a caller or a program can trigger: at most one line a second,
//! which reports how many were suppressed since the previous one.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Minimum time between two lines of one throttle.
const PERIOD: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct ThrottleState {
    last: Option<Instant>,
    suppressed: u64,
}

/// Rate limit of one kind of log line; usually a `static` next to the line.
#[derive(Debug)]
pub struct LogThrottle(Mutex<ThrottleState>);

impl LogThrottle {
    /// The first call of [`allow`](Self::allow) succeeds.
    #[allow(clippy::new_without_default, reason = "for statics, which need a const function")]
    pub const fn new() -> LogThrottle {
        LogThrottle(Mutex::new(ThrottleState { last: None, suppressed: 0 }))
    }

    /// `Some` when the line may be logged now, with the number of lines suppressed since the last
    /// logged one.
    pub fn allow(&self) -> Option<u64> {
        self.allow_at(Instant::now())
    }

    fn allow_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock();
        if state.last.is_some_and(|last| now.saturating_duration_since(last) < PERIOD) {
            state.suppressed += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_becomes_one_line_a_second_with_the_number_of_suppressed_lines() {
        let (throttle, start) = (LogThrottle::new(), Instant::now());
        assert_eq!(throttle.allow_at(start), Some(0));
        let allowed: Vec<u64> =
            (1..=2000).filter_map(|ms| throttle.allow_at(start + Duration::from_millis(ms))).collect();
        assert_eq!(allowed, [999, 999]);
    }
}
