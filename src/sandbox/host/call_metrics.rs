//! Latencies and errors of the Engine calls of one host.

use std::collections::BTreeMap;
use std::time::Duration;

use docker::{Error as EngineError, Observer, Op};
use parking_lot::Mutex;
use strum::{IntoStaticStr, VariantArray};
use telemetry::metrics::{Buckets, Histogram};

/// Counters of one client's calls since its start.
#[derive(Debug)]
pub struct EngineCallMetrics {
    by_call: Mutex<BTreeMap<&'static str, CallMetrics>>,
}

/// The calls that a daemon makes, by name. Their series exist from the start: an alert does not see
/// the first error of a series that begins with it.
const CALLS: [&str; 16] = [
    "ask about the engine",
    "ask the engine's version",
    "attach to a container",
    "build an image",
    "create a container",
    "follow a container's counters",
    "follow the engine's events",
    "inspect a container",
    "inspect an image",
    "kill a container",
    "list containers",
    "list images",
    "ping the engine",
    "remove a container",
    "start a container",
    "update a container",
];

impl Default for EngineCallMetrics {
    fn default() -> Self {
        EngineCallMetrics { by_call: Mutex::new(CALLS.into_iter().map(|call| (call, CallMetrics::new())).collect()) }
    }
}

impl CallMetrics {
    fn new() -> CallMetrics {
        let errors = CallErrorKind::VARIANTS.iter().map(|kind| (*kind, 0)).collect();
        CallMetrics { took: Buckets::Engine.histogram(), errors }
    }
}

/// Counters of one kind of call.
#[derive(Debug, Clone)]
pub struct CallMetrics {
    /// Time to the reply's head, for any status. Calls without a head are not included.
    pub took: Histogram,
    /// Failed calls. Some 4xx are expected: removing a container that is gone is answered 404.
    pub errors: BTreeMap<CallErrorKind, u64>,
}

/// The value of the metric's `kind` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum CallErrorKind {
    Unreachable,
    Timeout,
    Broken,
    ServerError,
    ClientError,
    Other,
}

impl CallErrorKind {
    /// `None` for a successful call.
    fn of(head: Result<u16, &EngineError>) -> Option<CallErrorKind> {
        match head {
            Ok(0..=399) => None,
            Ok(400..=499) => Some(CallErrorKind::ClientError),
            Ok(_) => Some(CallErrorKind::ServerError),
            Err(EngineError::Connect { .. } | EngineError::Tls { .. }) => Some(CallErrorKind::Unreachable),
            Err(EngineError::Timeout { .. }) => Some(CallErrorKind::Timeout),
            Err(EngineError::Broken { .. }) => Some(CallErrorKind::Broken),
            Err(_) => Some(CallErrorKind::Other),
        }
    }
}

impl EngineCallMetrics {
    /// The counters by the call's name.
    pub fn rows(&self) -> BTreeMap<&'static str, CallMetrics> {
        self.by_call.lock().clone()
    }
}

impl Observer for EngineCallMetrics {
    fn answered(&self, op: &'static Op, took: Duration, head: Result<u16, &EngineError>) {
        let mut by_call = self.by_call.lock();
        let row = by_call.entry(op.name).or_insert_with(CallMetrics::new);
        if head.is_ok() {
            row.took.observe(took.as_secs_f64());
        }
        if let Some(kind) = CallErrorKind::of(head) {
            *row.errors.entry(kind).or_default() += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use docker::Phase;

    static OP: Op = Op::get("x");

    #[test]
    fn every_failed_call_is_counted_under_one_kind() {
        let timeout = EngineError::Timeout { call: &OP, phase: Phase::Head, after: Duration::ZERO };
        let too_large = EngineError::TooLarge { call: &OP, limit: 1 };
        let calls = EngineCallMetrics::default();
        for head in [Ok(101), Ok(304), Ok(404), Ok(500), Err(&timeout), Err(&too_large)] {
            calls.answered(&OP, Duration::from_millis(1), head);
        }
        let rows = calls.rows();
        let errors: Vec<(&str, u64)> = rows["x"].errors.iter().map(|(kind, count)| (kind.into(), *count)).collect();
        let none = [("unreachable", 0), ("broken", 0)];
        let expected = [none[0], ("timeout", 1), none[1], ("server_error", 1), ("client_error", 1), ("other", 1)];
        assert_eq!(errors, expected);
    }

    #[test]
    fn the_series_of_a_daemons_calls_exist_from_the_start() {
        let rows = EngineCallMetrics::default().rows();
        assert!(rows["start a container"].errors.values().all(|count| *count == 0));
        // the names are those of the client's calls
        let sources = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docker/call");
        let texts: String = std::fs::read_dir(sources)
            .unwrap()
            .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap())
            .collect();
        for call in rows.keys() {
            assert!(texts.contains(&format!("(\"{call}\")")), "the client has no call {call:?}");
        }
    }
}
