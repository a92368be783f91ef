//! One log line per answered submission: INFO, or WARN with the reason when it could not be judged.
//!
//! A submission that ran cost a sandbox, so the pools bound the rate of these lines. A submission
//! that never ran costs nothing, so its line is throttled. Text from callers is sanitized; files,
//! inputs, outputs, and messages that a program may have written, are never logged.

use protocol::Caller;
use protocol::{Blame, Report, StartKind, Verdict};
use telemetry::text::clean;
use telemetry::throttle::LogThrottle;

static NEVER_RAN: LogThrottle = LogThrottle::new();
static NOT_JUDGED: LogThrottle = LogThrottle::new();
static NOT_MADE: LogThrottle = LogThrottle::new();

/// Why a submission was not judged. What a checker or interactor wrote about itself is in its
/// report only.
fn reason(report: &Report) -> String {
    let lost = report.run.as_ref().and_then(|run| run.evidence.lost.as_ref());
    match (report.blame, lost) {
        (_, Some(lost)) => clean(&format!("{} ({lost})", report.message)),
        (Some(Blame::Caller), None) => {
            let failed = report.tests.iter().position(|test| test.verdict == Verdict::SystemError);
            match failed {
                Some(at) => format!("its checker or interactor failed in test {}; the report says how", at + 1),
                None => "its checker or interactor failed; the report says how".to_owned(),
            }
        }
        _ => clean(&report.message),
    }
}

/// One line at a level that is known when it is compiled.
macro_rules! log_at {
    ($level:ident, $caller:expr, $language:expr, $report:expr, $suppressed:expr, $($reason:tt)*) => {{
        let (caller, report): (&Caller, &Report) = ($caller, $report);
        let tenant = Some(clean(&caller.tenant)).filter(|tenant| !tenant.is_empty());
        let sandbox = report.sandbox.as_ref();
        let timing = &report.timing;
        tracing::$level!(
            submission = clean(&report.id),
            uid = caller.principal.uid(), principal = caller.principal.named(),
            tenant,
            language = $language,
            verdict = report.verdict.as_str(),
            blame = report.blame.map(Blame::as_str),
            $($reason)*
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
            suppressed = $suppressed,
            "submission answered"
        );
    }};
}

/// Logs how a submission ended.
pub(super) fn log_answer(caller: &Caller, language: &str, report: &Report) {
    let is_judged = report.verdict != Verdict::SystemError;
    let throttle = if is_judged { &NEVER_RAN } else { &NOT_JUDGED };
    let suppressed = match report.start {
        Some(_) => None,
        None => match throttle.allow() {
            Some(suppressed) => Some(suppressed).filter(|suppressed| *suppressed > 0),
            None => return,
        },
    };
    match is_judged {
        true => log_at!(info, caller, language, report, suppressed,),
        false => log_at!(warn, caller, language, report, suppressed, reason = reason(report),),
    }
}

/// Logs that a compile step without an error did not make a file that its profile keeps. A program
/// can do that; if every program of the profile does, the profile is wrong.
pub(super) fn log_not_made(caller: &Caller, profile: &str, file: &str) {
    if let Some(suppressed) = NOT_MADE.allow() {
        tracing::warn!(
            uid = caller.principal.uid(),
            principal = caller.principal.named(),
            profile,
            file,
            suppressed,
            "a compile step without an error did not make a file that its profile keeps"
        );
    }
}

/// Rounds milliseconds to a whole number of microseconds.
fn rounded(ms: f64) -> f64 {
    (ms * 1000.0).round() / 1000.0
}
