//! Metrics of the HTTP listener since the start of the daemon.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::EncodeLabelSet;

use super::access::IdentityKind;
use telemetry::metrics::{Counter, Family, MetricsWriter, labels};

/// `path` is one of the served paths or `other`, so that a client cannot create series; `code` is
/// the HTTP status; `credential` is how the caller is known, or `none`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    path: Cow<'static, str>,
    code: u16,
    credential: &'static str,
}

impl RequestLabels {
    fn new(path: Cow<'static, str>, code: u16, credential: Option<IdentityKind>) -> RequestLabels {
        RequestLabels { path, code, credential: credential.map_or("none", IdentityKind::as_str) }
    }
}

#[derive(Debug, Default)]
pub(super) struct HttpMetrics {
    open: AtomicU64,
    accepted: AtomicU64,
    refused: AtomicU64,
    requests: Family<RequestLabels, Counter>,
}

/// An open connection, counted until dropped.
#[derive(Debug)]
pub(super) struct OpenHttpConnection(Arc<HttpMetrics>);

impl Drop for OpenHttpConnection {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl HttpMetrics {
    /// Every path has a series from the start, so that the first scrape shows it.
    pub(super) fn new(paths: &[&'static str]) -> HttpMetrics {
        let metrics = HttpMetrics::default();
        for path in paths {
            drop(metrics.requests.get_or_create(&RequestLabels::new(Cow::Borrowed(path), 200, None)));
        }
        // the statuses that alerts read
        for code in [401, 500, 503] {
            let path = Cow::Borrowed("/api/v1/submissions");
            drop(metrics.requests.get_or_create(&RequestLabels::new(path, code, None)));
        }
        metrics
    }

    pub(super) fn count_accepted(self: &Arc<Self>) -> OpenHttpConnection {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.accepted.fetch_add(1, Ordering::Relaxed);
        OpenHttpConnection(self.clone())
    }

    pub(super) fn count_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_response(&self, path: &'static str, code: u16) {
        self.requests.get_or_create(&RequestLabels::new(Cow::Borrowed(path), code, None)).inc();
    }

    /// A request to a route of the API, which is one of a fixed list.
    pub(super) fn count_api(&self, route: &str, code: u16, credential: Option<IdentityKind>) {
        self.requests.get_or_create(&RequestLabels::new(Cow::Owned(route.to_owned()), code, credential)).inc();
    }

    pub(super) fn write(&self, writer: &mut MetricsWriter<'_>) -> fmt::Result {
        let value = |count: &AtomicU64| count.load(Ordering::Relaxed) as f64;
        writer.gauge("assay_http_connections", "Open connections to the HTTP listener.", None, value(&self.open))?;
        let rows = [("accepted", &self.accepted), ("refused", &self.refused)];
        let rows = rows.map(|(result, count)| (labels!(result = result), value(count)));
        let help = "Connections to the HTTP listener, by result.";
        writer.counters("assay_http_connections_opened", help, None, rows)?;
        let help = "HTTP requests, by path, status and credential.";
        writer.family("assay_http_requests", help, None, &self.requests)
    }
}
