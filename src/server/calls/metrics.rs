//! Metrics of the socket since the start of the daemon: connections, and submissions that were
//! refused.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use protocol::code::Code;
use telemetry::metrics::{MetricsWriter, labels};

#[derive(Debug, Default)]
pub struct ServerMetrics {
    open: AtomicU64,
    accepted: AtomicU64,
    refused: AtomicU64,
    refused_submissions: [AtomicU64; Code::ALL.len()],
}

/// An open connection, counted until dropped.
#[derive(Debug)]
pub(crate) struct OpenConnection(Arc<ServerMetrics>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl ServerMetrics {
    pub(crate) fn count_accepted(self: &Arc<Self>) -> OpenConnection {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.accepted.fetch_add(1, Ordering::Relaxed);
        OpenConnection(self.clone())
    }

    pub(crate) fn count_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_refused_submission(&self, code: Code) {
        self.refused_submissions[code as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn write_metrics(&self, writer: &mut MetricsWriter<'_>) -> fmt::Result {
        let value = |count: &AtomicU64| count.load(Ordering::Relaxed) as f64;
        writer.gauge("assay_connections", "Open connections to the socket.", None, value(&self.open))?;
        let rows = [("accepted", &self.accepted), ("refused", &self.refused)];
        let rows = rows.map(|(result, count)| (labels!(result = result), value(count)));
        writer.counters("assay_connections_opened", "Connections to the socket, by result.", None, rows)?;
        let rows = Code::ALL.iter().zip(&self.refused_submissions);
        let rows = rows.map(|(code, count)| (labels!(code = code.as_str()), value(count)));
        writer.counters("assay_submissions_refused", "Refused submissions, by error code.", None, rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_own_count() {
        let metrics = ServerMetrics::default();
        for code in Code::ALL.iter().copied() {
            metrics.count_refused_submission(code);
        }
        assert!(metrics.refused_submissions.iter().all(|count| count.load(Ordering::Relaxed) == 1));
    }

    #[test]
    fn a_connection_is_counted_while_it_is_open() {
        let metrics = Arc::new(ServerMetrics::default());
        let open = metrics.count_accepted();
        assert_eq!(metrics.open.load(Ordering::Relaxed), 1);
        drop(open);
        assert_eq!((metrics.open.load(Ordering::Relaxed), metrics.accepted.load(Ordering::Relaxed)), (0, 1));
    }
}
