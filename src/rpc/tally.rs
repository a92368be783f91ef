//! What came to the socket since the daemon's start: connections, and submissions that were not let in.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use super::types::Code;
use crate::telemetry::metrics::{Sheet, labels};

/// The counts.
#[derive(Debug, Default)]
pub struct Tally {
    open: AtomicU64,
    accepted: AtomicU64,
    turned_away: AtomicU64,
    refusals: [AtomicU64; Code::ALL.len()],
}

/// An open connection, counted until dropped.
#[derive(Debug)]
pub(super) struct Open(std::sync::Arc<Tally>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Tally {
    /// A connection came and stays.
    pub(super) fn opened(self: &std::sync::Arc<Self>) -> Open {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.accepted.fetch_add(1, Ordering::Relaxed);
        Open(self.clone())
    }

    /// A connection came and was turned away.
    pub(super) fn turned_away(&self) {
        self.turned_away.fetch_add(1, Ordering::Relaxed);
    }

    /// A submission was not let in.
    pub(super) fn refused(&self, code: Code) {
        self.refusals[code as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Writes them.
    ///
    /// # Errors
    /// The writer's.
    pub fn write_metrics(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed) as f64;
        sheet.gauge("assay_connections", "Callers connected to the socket.", None, of(&self.open))?;
        let rows = [("accepted", &self.accepted), ("refused", &self.turned_away)];
        let rows = rows.map(|(result, count)| (labels!(result = result), of(count)));
        sheet.counters("assay_connections_opened", "Connections to the socket, by what became of them.", None, rows)?;
        let rows = Code::ALL.into_iter().zip(&self.refusals);
        let rows = rows.map(|(code, count)| (labels!(code = code.as_str()), of(count)));
        sheet.counters("assay_submissions_refused", "Submissions that were not let in, by why.", None, rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_count_of_its_own() {
        let tally = Tally::default();
        for code in Code::ALL {
            tally.refused(code);
        }
        assert!(tally.refusals.iter().all(|count| count.load(Ordering::Relaxed) == 1));
    }

    #[test]
    fn a_connection_is_counted_while_it_is_open() {
        let tally = std::sync::Arc::new(Tally::default());
        let open = tally.opened();
        assert_eq!(tally.open.load(Ordering::Relaxed), 1);
        drop(open);
        assert_eq!((tally.open.load(Ordering::Relaxed), tally.accepted.load(Ordering::Relaxed)), (0, 1));
    }
}
