//! What came to the HTTP door since the daemon's start.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::EncodeLabelSet;

use crate::telemetry::metrics::{Counter, Family, Sheet, labels};

/// A path that there is, or `other`, and the status of its answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    path: &'static str,
    code: u16,
}

/// The counts.
#[derive(Debug, Default)]
pub(super) struct Tally {
    open: AtomicU64,
    accepted: AtomicU64,
    turned_away: AtomicU64,
    requests: Family<Asked, Counter>,
}

/// An open connection, counted until dropped.
#[derive(Debug)]
pub(super) struct Open(Arc<Tally>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Tally {
    pub(super) fn opened(self: &Arc<Self>) -> Open {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.accepted.fetch_add(1, Ordering::Relaxed);
        Open(self.clone())
    }

    pub(super) fn turned_away(&self) {
        self.turned_away.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn answered(&self, path: &'static str, code: u16) {
        self.requests.get_or_create(&Asked { path, code }).inc();
    }

    pub(super) fn write(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed) as f64;
        sheet.gauge("assay_http_connections", "Connections to the HTTP door.", None, of(&self.open))?;
        let rows = [("accepted", &self.accepted), ("refused", &self.turned_away)];
        let rows = rows.map(|(result, count)| (labels!(result = result), of(count)));
        let help = "Connections to the HTTP door, by what became of them.";
        sheet.counters("assay_http_connections_opened", help, None, rows)?;
        let help = "Requests to the HTTP door, by path and status.";
        sheet.family("assay_http_requests", help, None, &self.requests)
    }
}
