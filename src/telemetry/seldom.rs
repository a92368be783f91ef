//! A line of the log that others can provoke: said once a second at most, with how often it was left out meanwhile.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The pause between two lines of one kind.
const PAUSE: Duration = Duration::from_secs(1);

/// One kind of line.
#[derive(Debug, Default)]
pub struct Seldom(Mutex<(Option<Instant>, u64)>);

impl Seldom {
    /// One that was never said.
    pub const fn new() -> Seldom {
        Seldom(Mutex::new((None, 0)))
    }

    /// Whether it may be said now, and then how often it was not said since the last time.
    pub fn may(&self) -> Option<u64> {
        self.may_at(Instant::now())
    }

    fn may_at(&self, now: Instant) -> Option<u64> {
        let mut books = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, unsaid) = &mut *books;
        if last.is_some_and(|last| now.saturating_duration_since(last) < PAUSE) {
            *unsaid += 1;
            return None;
        }
        *last = Some(now);
        Some(std::mem::take(unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_becomes_a_line_a_second_that_says_how_many_there_were() {
        let (seldom, begin) = (Seldom::new(), Instant::now());
        assert_eq!(seldom.may_at(begin), Some(0));
        let said: Vec<u64> = (1..=2000).filter_map(|ms| seldom.may_at(begin + Duration::from_millis(ms))).collect();
        assert_eq!(said, [999, 999]);
    }
}
