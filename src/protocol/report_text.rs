//! A report as it is kept and sent: its JSON, made once.
//!
//! In memory a report takes many times its JSON: a test without output takes 1.2 KB, and 170 bytes
//! in JSON. So an answered submission keeps the text alone, and the bound of kept reports counts
//! what they take.
//!
//! The fields are in the order of their names, as in all lines of the socket. Lists are written
//! item by item, so that no tree of the whole report is made.

use std::sync::Arc;

use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value, to_value};

use super::report::{Blame, FileReport, Report, RunReport, SandboxInfo, Score, StartKind, SuiteReport, TestReport};
use super::report::{CaseReport, Timing};
use super::verdict::Verdict;

/// The JSON of a report. A clone shares it.
#[derive(Debug, Clone)]
pub struct ReportText(Arc<RawValue>);

impl ReportText {
    /// A report that was stored as it is here; `None` if the text is not JSON.
    pub fn parse(text: String) -> Option<ReportText> {
        RawValue::from_string(text).ok().map(|raw| ReportText(raw.into()))
    }

    /// The JSON, without a line feed.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// A report as it was stored, unchanged. `None` if it is not JSON.
    pub fn stored(json: String) -> Option<ReportText> {
        RawValue::from_string(json).ok().map(|json| ReportText(json.into()))
    }

    /// Its size in bytes.
    pub fn bytes(&self) -> usize {
        self.as_str().len()
    }
}

impl From<&Report> for ReportText {
    fn from(report: &Report) -> ReportText {
        // a report consists of strings and numbers, which always have a text
        ReportText(to_raw_value(&SortedReport::of(report)).unwrap_or_default().into())
    }
}

impl Serialize for ReportText {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(to)
    }
}

impl<'de> Deserialize<'de> for ReportText {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<ReportText, D::Error> {
        Report::deserialize(from).map(|report| ReportText::from(&report))
    }
}

/// A value with the fields of all its objects in the order of their names.
struct Sorted<'a, T>(&'a T);

impl<T: Serialize> Serialize for Sorted<'_, T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to_value(self.0).map_err(S::Error::custom)?.serialize(to)
    }
}

/// A list whose items are sorted one after the other.
struct Items<'a, T>(&'a [T]);

impl<T: Serialize> Serialize for Items<'_, T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.0.iter().map(Sorted))
    }
}

/// The fields of [`Report`].
#[derive(Serialize)]
struct SortedReport<'a> {
    blame: Option<Blame>,
    #[serde(skip_serializing_if = "Option::is_none")]
    compile: Option<Sorted<'a, RunReport>>,
    files: Items<'a, FileReport>,
    id: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<Sorted<'a, RunReport>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sandbox: Option<Sorted<'a, SandboxInfo>>,
    score: Sorted<'a, Score>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<StartKind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    suite: Option<SortedSuite<'a>>,
    tests: Items<'a, TestReport>,
    timing: Sorted<'a, Timing>,
    verdict: Verdict,
}

/// The fields of [`SuiteReport`].
#[derive(Serialize)]
struct SortedSuite<'a> {
    cases: Items<'a, CaseReport>,
    errors: usize,
    failed: usize,
    not_run: usize,
    passed: usize,
    run: Sorted<'a, RunReport>,
    skipped: usize,
}

impl SortedReport<'_> {
    fn of(report: &Report) -> SortedReport<'_> {
        // a new field of a report is an error here
        let Report { id, verdict, message, compile, tests, run, suite, score, timing, start, sandbox, files, blame } =
            report;
        SortedReport {
            blame: *blame,
            compile: compile.as_ref().map(Sorted),
            files: Items(files),
            id,
            message,
            run: run.as_ref().map(Sorted),
            sandbox: sandbox.as_ref().map(Sorted),
            score: Sorted(score),
            start: *start,
            suite: suite.as_ref().map(SortedSuite::of),
            tests: Items(tests),
            timing: Sorted(timing),
            verdict: *verdict,
        }
    }
}

impl SortedSuite<'_> {
    fn of(suite: &SuiteReport) -> SortedSuite<'_> {
        let SuiteReport { cases, passed, failed, errors, skipped, not_run, run } = suite;
        SortedSuite {
            cases: Items(cases),
            errors: *errors,
            failed: *failed,
            not_run: *not_run,
            passed: *passed,
            run: Sorted(run),
            skipped: *skipped,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Evidence;
    use serde_json::{Value, json};

    fn run() -> Value {
        json!({
            "outcome": "exited", "exit_code": 0, "signal": null, "cpu_ms": 1.25, "wall_ms": 1e-7, "memory_bytes": 3,
            "stdout": "\u{1}\u{2028}\"x\"", "stderr": { "blob": "b" }, "stdout_truncated": true,
            "evidence": Evidence::default(), "start": "hot", "cached": false,
        })
    }

    fn test(name: &str, run: Value) -> Value {
        let mut test = json!({
            "name": name, "verdict": "accepted", "message": "m", "group": "g", "points": 0.1, "feedback": "f",
            "passes": 2, "transcript": [{ "from": "submission", "data": "d" }], "transcript_truncated": true,
        });
        test.as_object_mut().unwrap().extend(run.as_object().unwrap().clone());
        test
    }

    fn report(tests: Vec<Value>) -> Report {
        let report = json!({
            "id": "i", "verdict": "accepted", "message": "m", "blame": "host", "compile": run(), "run": run(),
            "tests": tests, "start": "cold", "sandbox": { "id": "s", "uses": 1 }, "timing": { "run_ms": 0.5 },
            "score": { "passed": 1, "total": 2, "points": 0.1, "max_points": 2.0 },
            "suite": {
                "cases": [{ "name": "c", "verdict": "wrong_answer", "message": "m", "duration_ms": 1.0 }],
                "passed": 1, "failed": 2, "errors": 3, "skipped": 4, "not_run": 5, "run": run(),
            },
            "files": [{ "path": "p", "size_bytes": 1, "content": "c" }, { "path": "q", "error": "too_large" }],
        });
        serde_json::from_value(report).unwrap()
    }

    #[test]
    fn a_text_is_that_of_the_tree_of_the_report() {
        let full = report(vec![test("1", run()), test("2", json!({}))]);
        let bare =
            Report { compile: None, run: None, suite: None, start: None, sandbox: None, blame: None, ..full.clone() };
        for report in [full, bare] {
            let text = ReportText::from(&report);
            assert_eq!(text.as_str(), to_value(&report).unwrap().to_string());
            assert_eq!(text.bytes(), text.as_str().len());
            let line = serde_json::to_string(&text).unwrap();
            assert_eq!(line, text.as_str());
            assert_eq!(serde_json::from_str::<ReportText>(&line).unwrap().as_str(), line);
            assert_eq!(ReportText::stored(line.clone()).unwrap().as_str(), line);
        }
    }

    #[test]
    fn a_stored_report_stays_as_it_is() {
        let text = "{\"id\":\"a\",\"of a later version\":1}";
        assert_eq!(ReportText::stored(text.to_owned()).unwrap().as_str(), text);
        assert!(ReportText::stored("{".to_owned()).is_none());
    }

    #[test]
    fn a_clone_takes_no_memory_of_its_own() {
        let text = ReportText::from(&report(Vec::new()));
        assert!(std::ptr::eq(text.as_str(), text.clone().as_str()));
    }
}
