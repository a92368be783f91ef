//! What the store keeps of a report: its text, the outputs that it refers to, and the figures that
//! lists and statistics show.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use protocol::report::{FileReport, Output};
use protocol::{Blame, Caller, Report, RunReport};
use store::{HistoryEntry, RecordOwner};

/// How much of a report's message lists show.
const MAX_MESSAGE_CHARS: usize = 200;

/// Who called, as the store names it.
pub(super) fn owner(caller: &Caller) -> RecordOwner {
    RecordOwner { principal: caller.principal.to_string(), tenant: caller.tenant.clone() }
}

/// The caller of an owner; `None` if a later version took the submission in.
pub(super) fn caller(owner: &RecordOwner) -> Option<Caller> {
    Some(Caller { principal: owner.principal.parse().ok()?, tenant: owner.tenant.clone() })
}

pub(super) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The runs of a report.
fn runs(report: &Report) -> impl Iterator<Item = &RunReport> {
    let suite = report.suite.iter().map(|suite| &suite.run);
    let tests = report.tests.iter().filter_map(|test| test.run.as_ref());
    report.compile.iter().chain(&report.run).chain(suite).chain(tests)
}

/// What lists show of a report to a submission that arrived at `received`.
pub(super) fn entry(caller: &Caller, language: &str, report: &Report, received: Instant) -> HistoryEntry {
    let age_ms = i64::try_from(received.elapsed().as_millis()).unwrap_or(i64::MAX);
    // an artifact from the cache cost its CPU time in an earlier submission
    let ran = || runs(report).filter(|run| run.cached != Some(true));
    HistoryEntry {
        owner: owner(caller),
        id: report.id.clone(),
        language: language.to_owned(),
        verdict: report.verdict.as_str().to_owned(),
        message: report.message.chars().take(MAX_MESSAGE_CHARS).collect(),
        blame: report.blame.map(|blame| Blame::as_str(blame).to_owned()),
        received_ms: now_ms().saturating_sub(age_ms),
        total_ms: report.timing.total_ms,
        cpu_ms: ran().map(|run| run.cpu_ms).sum(),
        memory_bytes: ran().map(|run| run.memory_bytes).max().unwrap_or(0),
    }
}

/// The blobs that a report refers to.
pub(super) fn blob_ids(report: &Report) -> Vec<String> {
    let outputs = runs(report).flat_map(|run| run.stdout.iter().chain(&run.stderr));
    let files = report.files.iter().filter_map(|FileReport { content, .. }| content.as_ref());
    let blob = |output: &Output| match output {
        Output::Blob(blob) => Some(blob.blob.clone()),
        Output::Text(_) => None,
    };
    outputs.chain(files).filter_map(blob).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn report() -> Report {
        let run = |cpu_ms: f64, memory_bytes: u64, stdout: &str, cached: bool| {
            json!({
                "outcome": "exited", "exit_code": 0, "signal": null, "cpu_ms": cpu_ms, "wall_ms": 1.0,
                "memory_bytes": memory_bytes, "stdout": { "blob": stdout }, "stderr": "text", "stdout_truncated": false,
                "evidence": protocol::outcome::Evidence::default(), "cached": cached,
            })
        };
        let mut test = run(2.0, 5, "of a test", false);
        test.as_object_mut()
            .unwrap()
            .extend(json!({ "name": "1", "verdict": "accepted", "message": "" }).as_object().unwrap().clone());
        serde_json::from_value(json!({
            "id": "a", "verdict": "system_error", "message": "", "blame": "host",
            "compile": run(100.0, 100, "of the compile step", true), "run": run(1.0, 7, "of the run", false),
            "tests": [test], "score": { "passed": 0, "total": 0, "points": 0.0, "max_points": 0.0 },
            "timing": { "total_ms": 9.5 }, "files": [{ "path": "p", "content": { "blob": "a file" } }, { "path": "q" }],
        }))
        .unwrap()
    }

    #[test]
    fn a_report_is_listed_with_what_its_runs_used() {
        let caller = Caller::of_uid(7, "t");
        let listed = entry(&caller, "python", &report(), Instant::now());
        assert_eq!((listed.cpu_ms, listed.memory_bytes, listed.total_ms), (3.0, 7, 9.5));
        assert_eq!((listed.verdict.as_str(), listed.blame.as_deref()), ("system_error", Some("host")));
        assert_eq!(listed.owner.principal, "uid:7");
        assert_eq!(self::caller(&listed.owner), Some(caller));
        assert_eq!(self::caller(&RecordOwner { principal: "queue:1".to_owned(), tenant: String::new() }), None);
    }

    #[test]
    fn all_blobs_of_a_report_are_found() {
        assert_eq!(blob_ids(&report()), ["of the compile step", "of the run", "of a test", "a file"]);
    }
}
