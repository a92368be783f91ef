//! The pace that a caller must keep while bytes are to be moved: [`bounds::SLOW_READER_BYTES`] in
//! each [`bounds::SLOW_READER`].

use tokio::time::Instant;

use config::bounds;

/// How far a caller is.
pub(crate) struct CallerPace {
    until: Instant,
    bytes: usize,
}

impl CallerPace {
    pub(crate) fn new() -> CallerPace {
        CallerPace { until: Instant::now() + bounds::SLOW_READER, bytes: 0 }
    }

    /// When it is given up, unless it moves enough before.
    pub(crate) fn until(&self) -> Instant {
        self.until
    }

    /// It moved so many bytes.
    pub(crate) fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
        if self.bytes >= bounds::SLOW_READER_BYTES {
            *self = CallerPace::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_enough_bytes_give_more_time() {
        let mut pace = CallerPace::new();
        let first = pace.until();
        tokio::time::advance(Duration::from_secs(1)).await;
        pace.add(bounds::SLOW_READER_BYTES - 1);
        assert_eq!(pace.until(), first);
        pace.add(1);
        assert_eq!(pace.until(), first + Duration::from_secs(1));
    }
}
