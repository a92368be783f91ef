//! From facts to a report: JSON units, text or base64 or a blob, points. Pure but for where large output is put.

use base64::Engine as _;
use bytes::Bytes;

use super::drive::{Judged, TestResult};
use super::pipe::{Speaker, Transcript};
use super::suite::{CaseStatus, SuiteResult};
use config::bounds;
use protocol::report::{CaseReport, FileReport, Output, Score, SuiteReport, TranscriptEntry};
use protocol::submission::BlobRef;
use protocol::{Report, RunFacts, RunReport, TestReport, Timing, Verdict};
use wire::frame::Refused;

/// Puts an output that is too large for a line somewhere, and says where.
pub type StoreBlob<'a> = &'a dyn Fn(Bytes) -> Option<String>;

/// Milliseconds with microsecond resolution.
pub fn millis(duration: std::time::Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// How much of the report's bound is left for outputs.
struct InlineBudget {
    left: usize,
}

/// Makes the report's judged part. Identity, timing of the queue and the sandbox are the scheduler's to add.
pub fn report(id: &str, judged: Judged, shelf: StoreBlob<'_>) -> Report {
    // half of the line bound: base64 and JSON escapes can double what stands in it
    let mut room = InlineBudget { left: bounds::MAX_REPORT_BYTES / 4 };
    let score = score(&judged);
    let is_compiled = judged.compile.is_some();
    let mut run = |facts: RunFacts| run_report(facts, shelf, &mut room);
    let compile = judged.compile.map(&mut run).map(|mut report| {
        report.cached = Some(judged.is_cached);
        report
    });
    debug_assert_eq!(is_compiled, compile.is_some());
    let tests = judged
        .tests
        .into_iter()
        .map(|test| {
            let points = points(&test);
            let Transcript { said, is_cut } = test.transcript.unwrap_or_default();
            TestReport {
                points,
                name: test.name,
                verdict: test.verdict,
                message: test.message,
                group: test.group,
                feedback: test.feedback,
                transcript: said.into_iter().map(said_report).collect(),
                transcript_truncated: is_cut,
                run: test.run.map(&mut run),
            }
        })
        .collect();
    let suite = judged.suite.map(|suite| suite_report(suite, &mut run));
    let refused = judged.files.refused.iter().map(|(path, why)| FileReport {
        path: path.clone(),
        error: Some(reason(*why).to_owned()),
        ..FileReport::default()
    });
    let run = judged.run.map(&mut run);
    let files = judged.files.files.into_iter().map(|(path, bytes)| file_report(path, bytes, shelf, &mut room));
    let files = files.chain(refused).collect();
    Report {
        id: id.to_owned(),
        verdict: judged.verdict,
        message: judged.message,
        compile,
        tests,
        run,
        suite,
        score,
        timing: Timing {
            copy_in_ms: millis(judged.timings.copy_in),
            compile_ms: millis(judged.timings.compile),
            run_ms: millis(judged.timings.run),
            setup_ms: millis(judged.timings.setup),
            overhead_ms: millis(
                judged.timings.run.saturating_sub(judged.timings.setup).saturating_sub(judged.timings.program),
            ),
            check_ms: millis(judged.timings.check),
            collect_ms: millis(judged.timings.collect),
            ..Timing::default()
        },
        start: None,
        sandbox: None,
        files,
        blame: judged.blame,
    }
}

fn reason(why: Refused) -> &'static str {
    match why {
        Refused::NotAFile => "not_a_file",
        Refused::TooLarge => "too_large",
        Refused::TooMany => "too_many",
        Refused::Name => "name",
        Refused::Unreadable => "unreadable",
    }
}

/// A file that could not be shelved either is not cut but told: half a picture is none.
fn file_report(path: String, bytes: Vec<u8>, shelf: StoreBlob<'_>, room: &mut InlineBudget) -> FileReport {
    let size_bytes = Some(bytes.len() as u64);
    let mut truncated = false;
    let (content, content_b64) = output(bytes, shelf, room, &mut truncated);
    match truncated {
        false => FileReport { path, size_bytes, content, content_b64, error: None },
        true => FileReport { path, size_bytes, error: Some("too_large".to_owned()), ..FileReport::default() },
    }
}

fn points(test: &TestResult) -> f64 {
    test.points.unwrap_or(if test.verdict == Verdict::Accepted { test.weight } else { 0.0 })
}

fn said_report((who, words): (Speaker, Vec<u8>)) -> TranscriptEntry {
    let from = match who {
        Speaker::Submission => "submission",
        Speaker::Interactor => "interactor",
    };
    let (data, data_b64) = match String::from_utf8(words) {
        Ok(text) => (Some(text), None),
        Err(error) => (None, Some(base64::engine::general_purpose::STANDARD.encode(error.as_bytes()))),
    };
    TranscriptEntry { from: from.to_owned(), data, data_b64 }
}

fn suite_report(suite: SuiteResult, run: &mut dyn FnMut(RunFacts) -> RunReport) -> SuiteReport {
    let count = |ends: &[CaseStatus]| suite.cases.iter().filter(|case| ends.contains(&case.end)).count();
    SuiteReport {
        passed: count(&[CaseStatus::Passed]),
        failed: count(&[CaseStatus::Failed, CaseStatus::Crashed]),
        errors: count(&[CaseStatus::Error]),
        skipped: count(&[CaseStatus::Skipped]),
        cases: suite
            .cases
            .iter()
            .map(|case| CaseReport {
                name: case.name.clone(),
                verdict: case.end.verdict(),
                message: case.message.clone(),
                duration_ms: case.duration_ms,
            })
            .collect(),
        run: run(suite.run),
    }
}

fn score(judged: &Judged) -> Score {
    if let Some(suite) = &judged.suite {
        let passed = suite.cases.iter().filter(|case| case.end == CaseStatus::Passed).count();
        let total = suite.cases.iter().filter(|case| case.end != CaseStatus::Skipped).count();
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

fn run_report(facts: RunFacts, shelf: StoreBlob<'_>, room: &mut InlineBudget) -> RunReport {
    let mut truncated = (facts.stdout_truncated, facts.stderr_truncated);
    let (stdout, stdout_b64) = output(facts.stdout, shelf, room, &mut truncated.0);
    let (stderr, stderr_b64) = output(facts.stderr, shelf, room, &mut truncated.1);
    RunReport {
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

/// Text inline, else base64 inline, else a blob; cut only when the blobs are full too, and then it says so.
fn output(
    mut bytes: Vec<u8>,
    shelf: StoreBlob<'_>,
    room: &mut InlineBudget,
    truncated: &mut bool,
) -> (Option<Output>, Option<String>) {
    let inline = room.left.min(bounds::MAX_INLINE_OUTPUT_BYTES);
    if bytes.len() > inline {
        match shelf(Bytes::from(bytes.clone())) {
            Some(blob) => return (Some(Output::Blob(BlobRef { blob })), None),
            None => {
                bytes.truncate(inline);
                *truncated = true;
            }
        }
    }
    room.left -= bytes.len();
    match String::from_utf8(bytes) {
        Ok(text) => (Some(Output::Text(text)), None),
        Err(error) => (None, Some(base64::engine::general_purpose::STANDARD.encode(error.as_bytes()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::Outcome;

    fn judged(stdout: Vec<u8>) -> Judged {
        let run = Some(RunFacts { stdout, ..RunFacts::bare(Outcome::Exited) });
        Judged { run, ..Judged::bare(Verdict::Accepted, "") }
    }

    #[test]
    fn text_stands_as_text_and_other_bytes_as_base64() {
        let text = report("1", judged(b"hi".to_vec()), &|_| None).run.unwrap();
        assert_eq!((text.stdout, text.stdout_b64), (Some(Output::Text("hi".to_owned())), None));
        let bytes = report("1", judged(vec![0xff]), &|_| None).run.unwrap();
        assert_eq!((bytes.stdout, bytes.stdout_b64.as_deref()), (None, Some("/w==")));
    }

    #[test]
    fn a_large_output_becomes_a_blob_or_is_cut_and_says_so() {
        let large = vec![b'x'; bounds::MAX_INLINE_OUTPUT_BYTES + 1];
        let run = report("1", judged(large.clone()), &|_| Some("b1".to_owned())).run.unwrap();
        assert_eq!(run.stdout, Some(Output::Blob(BlobRef { blob: "b1".to_owned() })));
        assert!(!run.stdout_truncated);
        let run = report("1", judged(large), &|_| None).run.unwrap();
        assert!(run.stdout_truncated);
    }
}
