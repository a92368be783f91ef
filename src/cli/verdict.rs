//! The exit status of a report or an error, and a report's one-line summary.

use serde_json::Value;

use super::client::ClientError;
use super::{CliError, out};

/// CPU or wall time limit; the status of timeout(1).
pub const TIME_LIMIT: u8 = 124;
/// Memory limit: 128 + SIGKILL, as after a kill by the kernel.
pub const MEMORY_LIMIT: u8 = 137;
/// The output limit was reached.
pub const OUTPUT_LIMIT: u8 = 123;
/// The compile step failed.
pub const COMPILE_ERROR: u8 = 122;
/// The program could not be started, for example because the command does not exist.
pub const START_FAILED: u8 = 126;
/// A failure of assay or the engine; also a cancelled submission.
pub const OUR_FAULT: u8 = 125;
/// The command line, or the request made from it, is wrong.
pub const USAGE: u8 = 2;

/// The exit status of a report.
///
/// A report with tests has no single program: 0 if accepted, else the verdict's status, or 1 if it
/// has none.
pub fn exit_of_report(report: &Value) -> u8 {
    let verdict = report["verdict"].as_str().unwrap_or_default();
    match verdict {
        "system_error" | "cancelled" | "" => return OUR_FAULT,
        "compile_error" => return COMPILE_ERROR,
        _ => {}
    }
    let run = &report["run"];
    match run["outcome"].as_str() {
        Some("exited") => run["exit_code"].as_i64().map_or(1, |code| (code & 0xff) as u8),
        Some("signaled") => run["signal"].as_i64().map_or(1, |signal| 128 | (signal & 0x7f) as u8),
        Some("cpu_limit" | "wall_limit") => TIME_LIMIT,
        Some("memory_limit") => MEMORY_LIMIT,
        Some("output_limit") => OUTPUT_LIMIT,
        Some("start_failed") => START_FAILED,
        Some("lost" | "cancelled") => OUR_FAULT,
        _ => match verdict {
            "accepted" => 0,
            "time_limit" => TIME_LIMIT,
            "memory_limit" => MEMORY_LIMIT,
            "output_limit" => OUTPUT_LIMIT,
            _ => 1,
        },
    }
}

/// The exit status of `run` if there is no report.
pub fn exit_of_error(error: &CliError) -> u8 {
    match error {
        CliError::Usage(_) => USAGE,
        CliError::Client(ClientError::Reply { code, .. }) => match code.as_str() {
            "bad_request" | "unknown_profile" | "unsupported" | "denied" | "conflict" | "too_large" | "not_found" => {
                USAGE
            }
            _ => OUR_FAULT,
        },
        CliError::Client(_) | CliError::Invalid(_) => OUR_FAULT,
    }
}

/// The report in one line: verdict, message and figures.
pub fn summary(report: &Value) -> String {
    let mut parts = vec![out::text(report, "verdict").replace('_', " ")];
    let message = out::clean(report["message"].as_str().unwrap_or_default());
    if let Some(first) = message.lines().find(|line| !line.trim().is_empty()) {
        parts.push(first.trim().to_owned());
    }
    let tests = out::list(report, "tests");
    if !tests.is_empty() {
        parts.push(format!("{}/{} tests", out::text(&report["score"], "passed"), tests.len()));
    }
    let mut figures = Vec::new();
    let run = &report["run"];
    if run.is_object() {
        figures.push(format!("cpu {}", out::millis_of(run, "cpu_ms")));
        figures.push(format!("wall {}", out::millis_of(run, "wall_ms")));
        figures.push(format!("memory {}", out::bytes_of(run, "memory_bytes")));
    }
    if let Some(start) = report["start"].as_str() {
        figures.push(format!("{start} start"));
    }
    if report["timing"].is_object() {
        figures.push(format!("total {}", out::millis_of(&report["timing"], "total_ms")));
    }
    if let Some(blame) = report["blame"].as_str() {
        figures.push(format!("blame: {blame}"));
    }
    let figures = if figures.is_empty() { String::new() } else { format!(" ({})", figures.join(", ")) };
    parts.join(": ") + &figures
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_outcome_has_its_documented_exit_status() {
        let of = |verdict: &str, run: Value| exit_of_report(&json!({"verdict": verdict, "run": run}));
        assert_eq!(of("accepted", json!({"outcome": "exited", "exit_code": 0})), 0);
        assert_eq!(of("runtime_error", json!({"outcome": "exited", "exit_code": 7})), 7);
        assert_eq!(of("runtime_error", json!({"outcome": "signaled", "signal": 11})), 139);
        assert_eq!(of("time_limit", json!({"outcome": "cpu_limit"})), 124);
        assert_eq!(of("time_limit", json!({"outcome": "wall_limit"})), 124);
        assert_eq!(of("memory_limit", json!({"outcome": "memory_limit"})), 137);
        assert_eq!(of("output_limit", json!({"outcome": "output_limit"})), 123);
        assert_eq!(of("runtime_error", json!({"outcome": "start_failed"})), 126);
        assert_eq!(of("compile_error", Value::Null), 122);
        assert_eq!(of("system_error", json!({"outcome": "lost"})), 125);
        assert_eq!(of("cancelled", Value::Null), 125);
        assert_eq!(exit_of_report(&json!({})), 125);
    }

    #[test]
    fn the_verdict_decides_the_exit_status_of_a_report_with_tests() {
        assert_eq!(exit_of_report(&json!({"verdict": "accepted", "tests": [{}]})), 0);
        assert_eq!(exit_of_report(&json!({"verdict": "wrong_answer", "tests": [{}]})), 1);
        assert_eq!(exit_of_report(&json!({"verdict": "time_limit", "tests": [{}]})), 124);
    }

    #[test]
    fn a_summary_contains_no_escape_sequences() {
        assert!(!summary(&json!({"verdict": "runtime_error", "message": "a\u{1b}[31mb"})).contains('\u{1b}'));
    }
}
