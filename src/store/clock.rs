//! Two times: the wall's, for stamps that people read, and the store's, by which ids expire.
//!
//! The store's time starts at the wall's or at the latest that the file has seen, whichever is
//! later, and then advances with a monotonic clock. So a wall clock that is set back or forward
//! while the daemon runs expires nothing early, and one that was set back before a restart neither.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A source of time; tests use their own.
pub trait TimeSource: Send + Sync {
    /// Milliseconds since 1970.
    fn wall_ms(&self) -> i64;
    /// Time since some instant; never goes back.
    fn elapsed(&self) -> Duration;
}

/// The time of the machine.
#[derive(Debug)]
pub struct SystemTimeSource(Instant);

impl Default for SystemTimeSource {
    fn default() -> Self {
        SystemTimeSource(Instant::now())
    }
}

impl TimeSource for SystemTimeSource {
    fn wall_ms(&self) -> i64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis)
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// An instant in both times, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(crate) wall_ms: i64,
    pub(crate) store_ms: i64,
}

/// The store's clock.
#[derive(Clone)]
pub(crate) struct StoreClock {
    source: Arc<dyn TimeSource>,
    base_ms: i64,
    base: Duration,
}

impl StoreClock {
    /// `latest_ms` is the latest store time that the file has seen.
    pub(crate) fn new(source: Arc<dyn TimeSource>, latest_ms: i64) -> StoreClock {
        StoreClock { base_ms: source.wall_ms().max(latest_ms), base: source.elapsed(), source }
    }

    pub(crate) fn now(&self) -> Moment {
        let elapsed = self.source.elapsed().saturating_sub(self.base);
        Moment { wall_ms: self.source.wall_ms(), store_ms: self.base_ms.saturating_add(millis(elapsed)) }
    }
}
