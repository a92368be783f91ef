//! How the engine's calls go: how long each kind takes until its head, and what went wrong.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use super::lock;
use docker::{Error, Observer};
use telemetry::metrics::{Buckets, Histogram};

/// The calls of one host's client. Counts only grow.
#[derive(Debug, Default)]
pub struct EngineCallMetrics {
    by_call: Mutex<BTreeMap<&'static str, CallMetrics>>,
}

/// One kind of call.
#[derive(Debug, Clone)]
pub struct CallMetrics {
    /// How long its heads took, whatever they said; waits that ended without one are not among them.
    pub took: Histogram,
    /// What went wrong, by [kind](EngineCallMetrics::KINDS).
    pub errors: BTreeMap<&'static str, u64>,
}

impl EngineCallMetrics {
    /// The kinds of errors. A 4xx is often part of the game: to remove what is gone already is answered 404.
    pub const KINDS: [&str; 6] = ["unreachable", "timeout", "broken", "server_error", "client_error", "other"];

    /// What is known, by call.
    pub fn rows(&self) -> BTreeMap<&'static str, CallMetrics> {
        lock(&self.by_call).clone()
    }
}

/// Which kind of error it was; none when it was none.
fn kind(head: Result<u16, &Error>) -> Option<&'static str> {
    match head {
        Ok(0..=399) => None,
        Ok(400..=499) => Some("client_error"),
        Ok(_) => Some("server_error"),
        Err(Error::Connect { .. } | Error::Tls { .. }) => Some("unreachable"),
        Err(Error::Timeout { .. }) => Some("timeout"),
        Err(Error::Broken { .. }) => Some("broken"),
        Err(_) => Some("other"),
    }
}

impl Observer for EngineCallMetrics {
    fn answered(&self, call: &'static str, took: Duration, head: Result<u16, &Error>) {
        let mut by_call = lock(&self.by_call);
        let row = by_call
            .entry(call)
            .or_insert_with(|| CallMetrics { took: Buckets::Engine.histogram(), errors: BTreeMap::new() });
        if head.is_ok() {
            row.took.observe(took.as_secs_f64());
        }
        if let Some(kind) = kind(head) {
            *row.errors.entry(kind).or_default() += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use docker::Phase;

    #[test]
    fn every_error_has_a_kind_of_the_closed_list() {
        let late = Error::Timeout { call: "x", phase: Phase::Head, after: Duration::ZERO };
        let odd = Error::TooLarge { call: "x", limit: 1 };
        let calls = EngineCallMetrics::default();
        for head in [Ok(101), Ok(304), Ok(404), Ok(500), Err(&late), Err(&odd)] {
            calls.answered("x", Duration::from_millis(1), head);
        }
        let rows = calls.rows();
        let errors: Vec<_> = rows["x"].errors.iter().map(|(kind, count)| (*kind, *count)).collect();
        assert_eq!(errors, [("client_error", 1), ("other", 1), ("server_error", 1), ("timeout", 1)]);
        assert!(errors.iter().all(|(kind, _)| EngineCallMetrics::KINDS.contains(kind)));
    }
}
