//! One log line per answered submission.
//!
//! A submission that ran cost a sandbox, so the pools bound the rate of these lines. A submission
//! that never ran costs nothing, so its line is throttled. Text from callers is sanitized; files,
//! inputs, outputs and messages are never logged.

use protocol::Caller;
use protocol::{Blame, Report, StartKind};
use telemetry::text::clean;
use telemetry::throttle::LogThrottle;

static NEVER_RAN: LogThrottle = LogThrottle::new();

/// Logs how a submission ended.
pub(super) fn log_answer(caller: &Caller, language: &str, report: &Report) {
    let suppressed = match report.start {
        Some(_) => None,
        None => match NEVER_RAN.allow() {
            Some(suppressed) => Some(suppressed).filter(|suppressed| *suppressed > 0),
            None => return,
        },
    };
    let tenant = Some(clean(&caller.tenant)).filter(|tenant| !tenant.is_empty());
    let sandbox = report.sandbox.as_ref();
    let timing = &report.timing;
    tracing::info!(
        submission = clean(&report.id),
        uid = caller.uid,
        tenant,
        language,
        verdict = report.verdict.as_str(),
        blame = report.blame.map(Blame::as_str),
        start = report.start.map(StartKind::as_str),
        host = sandbox.map(|sandbox| sandbox.host.as_str()),
        sandbox = sandbox.map(|sandbox| sandbox.id.as_str()),
        isolation = sandbox.map(|sandbox| sandbox.isolation.as_str()),
        tests = report.tests.len(),
        wait_ms = rounded(timing.queue_ms),
        lease_ms = rounded(timing.lease_ms),
        copy_in_ms = rounded(timing.copy_in_ms),
        compile_ms = rounded(timing.compile_ms),
        run_ms = rounded(timing.run_ms),
        check_ms = rounded(timing.check_ms),
        collect_ms = rounded(timing.collect_ms),
        total_ms = rounded(timing.total_ms),
        suppressed,
        "submission answered"
    );
}

/// Rounds milliseconds to a whole number of microseconds.
fn rounded(ms: f64) -> f64 {
    (ms * 1000.0).round() / 1000.0
}
