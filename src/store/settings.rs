//! What a store keeps, and for how long.

use std::time::Duration;

/// What is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// How long history is kept.
    pub keep: Duration,
    /// Bytes of database and outputs, beyond which the oldest history is removed.
    pub max_bytes: u64,
    /// Whether requests stay with their reports. Otherwise they are removed with the answer.
    pub keep_sources: bool,
    /// How long an id stands for its report.
    pub report_ttl: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Retention {
            keep: Duration::from_secs(30 * 24 * 3600),
            max_bytes: 2 * 1024 * 1024 * 1024,
            keep_sources: false,
            report_ttl: Duration::from_secs(600),
        }
    }
}
