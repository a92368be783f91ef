//! One line of the log per submission, said where its report is made.
//!
//! What ran costs a sandbox, so the pools bound how often that can be; what never ran costs nothing, so those lines are
//! [`LogThrottle`]. Texts of callers are cleaned; nothing of the files, inputs, outputs or messages is said at all.

use protocol::Caller;
use protocol::{Blame, Report, StartKind};
use telemetry::text::clean;
use telemetry::throttle::LogThrottle;

static NEVER_RAN: LogThrottle = LogThrottle::new();

/// Says how a submission ended.
pub(super) fn answered(caller: &Caller, language: &str, report: &Report) {
    let suppressed = match report.start {
        Some(_) => None,
        None => match NEVER_RAN.allow() {
            Some(suppressed) => Some(suppressed).filter(|suppressed| *suppressed > 0),
            None => return,
        },
    };
    let tenant = Some(clean(&caller.tenant)).filter(|tenant| !tenant.is_empty());
    let start = report.start.map(|start| match start {
        StartKind::Hot => "hot",
        StartKind::Warm => "warm",
        StartKind::Cold => "cold",
    });
    let blame = report.blame.map(|blame| match blame {
        Blame::Caller => "caller",
        Blame::Host => "host",
        Blame::Assay => "assay",
    });
    let sandbox = report.sandbox.as_ref();
    let timing = &report.timing;
    tracing::info!(
        submission = clean(&report.id),
        uid = caller.uid,
        tenant,
        language,
        verdict = report.verdict.as_str(),
        blame,
        start,
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
        "a submission is answered"
    );
}

/// Microseconds are as fine as anybody reads.
fn rounded(ms: f64) -> f64 {
    (ms * 1000.0).round() / 1000.0
}
