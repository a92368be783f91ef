//! Makes the report from a result: JSON units, output as text, base64 or a blob, points. Pure,
//! except that large output is stored as a blob.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;

use super::drive::{Judged, TestResult, Timings};
use super::stored::{InlineBudget, StoredOutput, StoredOutputs};
use super::suite::{CaseStatus, SuiteResult};
use super::transcript::{Speaker, Transcript};
use protocol::report::{CaseReport, FileReport, Output, Score, SuiteReport, TranscriptEntry};
use protocol::submission::BlobRef;
use protocol::{Report, RunFacts, RunReport, StartKind, TestReport, Timing, Verdict};
use wire::frame::Refused;

/// Stores an output that is too large for a line and returns the blob's id; `None` if the store is
/// full.
pub type StoreBlob<'a> = &'a dyn Fn(Bytes) -> Option<String>;

/// Makes the report of one run, whose outputs may be blobs already.
type RenderRun<'r> = &'r mut dyn FnMut(RunFacts, StoredOutputs) -> RunReport;

/// Milliseconds with microsecond resolution.
pub fn millis(duration: std::time::Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// Makes the report of a result. The scheduler adds the times in the queue and the sandbox.
pub fn report(id: &str, judged: Judged, store: StoreBlob<'_>) -> Report {
    let mut budget = InlineBudget::default();
    let score = score(&judged);
    let timing = timing(&judged.timings);
    let mut run = |facts: RunFacts, stored: StoredOutputs| run_report(facts, stored, store, &mut budget);
    let compile = judged.compile.map(|facts| {
        let report = run(facts, StoredOutputs::default());
        let start = report.start.filter(|_| !judged.is_cached);
        RunReport { cached: Some(judged.is_cached), start, ..report }
    });
    let tests = judged.tests.into_iter().map(|test| test_report(test, &mut run)).collect();
    let suite = judged.suite.map(|suite| suite_report(suite, &mut run));
    let main_run = judged.run.map(|facts| run(facts, StoredOutputs::default()));
    let refused = judged.files.refused.iter().map(|(path, reason)| FileReport {
        path: path.clone(),
        error: Some(refusal(*reason).to_owned()),
        ..FileReport::default()
    });
    let files = judged.files.files.into_iter().map(|(path, bytes)| file_report(path, bytes, store, &mut budget));
    Report {
        id: id.to_owned(),
        verdict: judged.verdict,
        message: judged.message,
        compile,
        tests,
        run: main_run,
        suite,
        score,
        timing,
        start: None,
        sandbox: None,
        files: files.chain(refused).collect(),
        blame: judged.blame,
    }
}

fn test_report(test: TestResult, run: RenderRun<'_>) -> TestReport {
    let points = points(&test);
    let Transcript { turns, is_truncated } = test.transcript.unwrap_or_default();
    TestReport {
        points,
        name: test.name,
        verdict: test.verdict,
        message: test.message,
        group: test.group,
        feedback: test.feedback,
        passes: test.passes,
        transcript: turns.into_iter().map(transcript_entry).collect(),
        transcript_truncated: is_truncated,
        run: test.run.map(|facts| run(facts, test.stored)),
    }
}

fn timing(timings: &Timings) -> Timing {
    Timing {
        copy_in_ms: millis(timings.copy_in),
        compile_ms: millis(timings.compile),
        run_ms: millis(timings.run),
        setup_ms: millis(timings.setup),
        overhead_ms: millis(timings.run.saturating_sub(timings.setup).saturating_sub(timings.program)),
        check_ms: millis(timings.check),
        collect_ms: millis(timings.collect),
        ..Timing::default()
    }
}

/// The word for a file that could not be collected.
fn refusal(reason: Refused) -> &'static str {
    match reason {
        Refused::NotAFile => "not_a_file",
        Refused::TooLarge => "too_large",
        Refused::TooMany => "too_many",
        Refused::Name => "name",
        Refused::Unreadable => "unreadable",
    }
}

/// A file in the report. One that fits neither into the report nor into the blob store is reported
/// as too large, since a truncated file is useless.
fn file_report(path: String, bytes: Vec<u8>, store: StoreBlob<'_>, budget: &mut InlineBudget) -> FileReport {
    let size_bytes = Some(bytes.len() as u64);
    let mut truncated = false;
    let (content, content_b64) = output(bytes, store, budget, &mut truncated);
    match truncated {
        false => FileReport { path, size_bytes, content, content_b64, error: None },
        true => FileReport { path, size_bytes, error: Some("too_large".to_owned()), ..FileReport::default() },
    }
}

fn points(test: &TestResult) -> f64 {
    test.points.unwrap_or(if test.verdict == Verdict::Accepted { test.weight } else { 0.0 })
}

fn transcript_entry((speaker, bytes): (Speaker, Vec<u8>)) -> TranscriptEntry {
    let from = match speaker {
        Speaker::Submission => "submission",
        Speaker::Interactor => "interactor",
    };
    let (data, data_b64) = match String::from_utf8(bytes) {
        Ok(text) => (Some(text), None),
        Err(error) => (None, Some(BASE64.encode(error.as_bytes()))),
    };
    TranscriptEntry { from: from.to_owned(), data, data_b64 }
}

fn suite_report(suite: SuiteResult, run: RenderRun<'_>) -> SuiteReport {
    let count = |statuses: &[CaseStatus]| suite.cases.iter().filter(|case| statuses.contains(&case.status)).count();
    SuiteReport {
        passed: count(&[CaseStatus::Passed]),
        failed: count(&[CaseStatus::Failed, CaseStatus::Crashed])
            + suite.cases.iter().filter(|case| matches!(case.status, CaseStatus::Ended(_))).count(),
        errors: count(&[CaseStatus::Error]),
        skipped: count(&[CaseStatus::Skipped]),
        not_run: suite.total.saturating_sub(
            suite.cases.iter().filter(|case| !matches!(case.status, CaseStatus::Skipped | CaseStatus::NotRun)).count(),
        ),
        cases: suite
            .cases
            .iter()
            .map(|case| CaseReport {
                name: case.name.clone(),
                verdict: case.status.verdict(),
                message: case.message.clone(),
                duration_ms: case.duration_ms,
            })
            .collect(),
        run: run(suite.run, StoredOutputs::default()),
    }
}

fn score(judged: &Judged) -> Score {
    if let Some(suite) = &judged.suite {
        let passed = suite.cases.iter().filter(|case| case.status == CaseStatus::Passed).count();
        let total = suite.total;
        return Score { passed, total, points: passed as f64, max_points: total as f64 };
    }
    if judged.tests.is_empty() {
        let passed = usize::from(judged.verdict == Verdict::Accepted);
        return Score { passed, total: 1, points: passed as f64, max_points: 1.0 };
    }
    Score {
        passed: judged.tests.iter().filter(|test| test.verdict == Verdict::Accepted).count(),
        total: judged.tests.len(),
        points: judged.tests.iter().map(points).sum(),
        max_points: judged.tests.iter().map(|test| test.weight).sum(),
    }
}

fn run_report(facts: RunFacts, stored: StoredOutputs, store: StoreBlob<'_>, budget: &mut InlineBudget) -> RunReport {
    let mut truncated = (facts.stdout_truncated, facts.stderr_truncated);
    let mut output = |stored: Option<StoredOutput>, bytes, truncated| match stored {
        Some(stored) => (Some(Output::Blob(BlobRef { blob: stored.publish() })), None),
        None => output(bytes, store, budget, truncated),
    };
    let (stdout, stdout_b64) = output(stored.stdout, facts.stdout, &mut truncated.0);
    let (stderr, stderr_b64) = output(stored.stderr, facts.stderr, &mut truncated.1);
    RunReport {
        start: Some(if facts.hot { StartKind::Hot } else { StartKind::Warm }),
        outcome: facts.outcome,
        exit_code: facts.exit_code,
        signal: facts.signal,
        cpu_ms: millis(facts.cpu),
        wall_ms: millis(facts.wall),
        memory_bytes: facts.memory_bytes,
        stdout,
        stdout_b64,
        stderr,
        stderr_b64,
        stdout_truncated: truncated.0,
        stderr_truncated: truncated.1,
        evidence: facts.evidence,
        cached: None,
    }
}

/// Output as text or base64 in the report, or as a blob if it is large. Sets `truncated` if the
/// blob store is full and the output was cut.
fn output(
    mut bytes: Vec<u8>,
    store: StoreBlob<'_>,
    budget: &mut InlineBudget,
    truncated: &mut bool,
) -> (Option<Output>, Option<String>) {
    let inline = budget.inline();
    if bytes.len() > inline {
        let all = Bytes::from(bytes);
        match store(all.clone()) {
            Some(blob) => return (Some(Output::Blob(BlobRef { blob })), None),
            None => {
                bytes = all[..inline].to_vec();
                *truncated = true;
            }
        }
    }
    budget.take(bytes.len());
    match String::from_utf8(bytes) {
        Ok(text) => (Some(Output::Text(text)), None),
        Err(error) => (None, Some(BASE64.encode(error.as_bytes()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::bounds;
    use protocol::Outcome;

    fn judged(stdout: Vec<u8>) -> Judged {
        let run = Some(RunFacts { stdout, ..RunFacts::bare(Outcome::Exited) });
        Judged { run, ..Judged::bare(Verdict::Accepted, "") }
    }

    #[test]
    fn each_run_says_what_it_started_with() {
        let hot = RunFacts { hot: true, ..RunFacts::bare(Outcome::Exited) };
        let run = Some(RunFacts::bare(Outcome::Exited));
        let judged = Judged { compile: Some(hot), run, ..Judged::bare(Verdict::Accepted, "") };
        let starts = |judged: Judged| {
            let report = report("id", judged, &|_| None);
            (report.compile.unwrap().start, report.run.unwrap().start)
        };
        assert_eq!(starts(judged.clone()), (Some(StartKind::Hot), Some(StartKind::Warm)));
        assert_eq!(starts(Judged { is_cached: true, ..judged }), (None, Some(StartKind::Warm)));
    }

    #[test]
    fn utf_8_is_reported_as_text_and_other_bytes_as_base64() {
        let text = report("1", judged(b"hi".to_vec()), &|_| None).run.unwrap();
        assert_eq!((text.stdout, text.stdout_b64), (Some(Output::Text("hi".to_owned())), None));
        let bytes = report("1", judged(vec![0xff]), &|_| None).run.unwrap();
        assert_eq!((bytes.stdout, bytes.stdout_b64.as_deref()), (None, Some("/w==")));
    }

    #[test]
    fn a_large_output_becomes_a_blob_or_is_marked_as_truncated() {
        let large = vec![b'x'; bounds::MAX_INLINE_OUTPUT_BYTES + 1];
        let run = report("1", judged(large.clone()), &|_| Some("b1".to_owned())).run.unwrap();
        assert_eq!(run.stdout, Some(Output::Blob(BlobRef { blob: "b1".to_owned() })));
        assert!(!run.stdout_truncated);
        let run = report("1", judged(large), &|_| None).run.unwrap();
        assert!(run.stdout_truncated);
    }
}
