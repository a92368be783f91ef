//! Runs test files against a submission and reads their results.
//!
//! ```text
//!  run --> limit, signal --> the run's verdict, whatever the cases report
//!     '--> exited --> pytest: signed records | junit: XML files | tap, node: stdout | exit: status
//!             '--> cases --> verdict of the first that did not pass
//!                            no case, or an incomplete report: runtime_error
//! ```
//!
//! The code under test runs in the same process as its tests, unless a pytest suite is `separate`,
//! so the results are protected against accidents and simple tricks only (docs/SECURITY.md). For
//! pytest, a runner of ours signs the results with a key that it reads before any of that code
//! runs, and checks that pytest was not modified.

mod hint;
mod junit;
mod node;
mod pytest;
mod shadow;
mod tap;

pub(super) use node::{command as node_command, preloaded};
pub(super) use pytest::{command as pytest_command, runner_files};
pub(super) use shadow::{interferes, is_byte_code_of, shadowed};

use std::time::Duration;

use super::compute;
use super::decide;
use super::error_line::error_line;
use super::runner::Runner;
use super::supervise::RunIo;
use crate::work::Suite;
use config::bounds;
use protocol::limits::Ceilings;
use protocol::submission::SuiteFormat;
use protocol::{Outcome, RunFacts, Verdict};
use sandbox::lifecycle::Lost;

/// One case of a suite.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SuiteCase {
    pub name: String,
    pub status: CaseStatus,
    pub message: String,
    /// Milliseconds, if the suite reports them.
    pub duration_ms: Option<f64>,
}

/// The status of a case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CaseStatus {
    #[default]
    Passed,
    /// An assertion failed.
    Failed,
    /// It ended in an error other than a failed assertion.
    Crashed,
    /// It could not be run: its set-up or its file failed.
    Error,
    /// The suite's own source says so.
    Skipped,
    /// It was planned, and the suite ended before its turn.
    NotRun,
    /// The suite ended while it ran.
    Ended(Verdict),
}

impl CaseStatus {
    pub fn verdict(self) -> Verdict {
        match self {
            CaseStatus::Passed => Verdict::Accepted,
            CaseStatus::Failed => Verdict::WrongAnswer,
            CaseStatus::Crashed | CaseStatus::Error => Verdict::RuntimeError,
            CaseStatus::Skipped | CaseStatus::NotRun => Verdict::Skipped,
            CaseStatus::Ended(verdict) => verdict,
        }
    }
}

/// The result of a suite.
#[derive(Debug, Clone, PartialEq)]
pub struct SuiteResult {
    pub cases: Vec<SuiteCase>,
    /// How many cases should have run: those that were planned or reported, but for the skipped.
    pub total: usize,
    pub run: RunFacts,
    pub verdict: Verdict,
    /// Message for the submitter.
    pub message: String,
}

/// The cases that were read, and why they are not a valid result, if they are not.
#[derive(Debug, Default, PartialEq)]
struct ParsedSuite {
    cases: Vec<SuiteCase>,
    broken: Option<String>,
    /// The number of cases that the suite announced.
    planned: usize,
    /// Names of planned cases that have no result, in their order.
    missing: Vec<String>,
    /// Whether the suite itself says that it ended early, so that no case was cut off.
    stopped: bool,
    /// Why it cannot be judged, if the caller's suite or command is the reason.
    unusable: Option<String>,
    /// Bytes of names and messages.
    bytes: usize,
}

/// The pattern of JUnit's report files.
const JUNIT_FILES: &str = "reports/**/*.xml";

/// Output that the records of a run may take in addition to the program's own.
const RECORDS_BYTES: u64 = 8 * 1024 * 1024;

/// CPU time for listing the tests of a suite of node that ended early.
const LISTING: Duration = Duration::from_secs(2);

/// Runs a suite and judges it.
pub(super) async fn run(runner: &mut Runner<'_>, suite: &Suite, io: RunIo<'_>) -> Result<SuiteResult, Lost> {
    let key = pytest::key();
    let mut step = suite.step.clone();
    if suite.format == SuiteFormat::Pytest {
        step.stdin = pytest::order(&key, suite);
        step.limits.output_bytes = (step.limits.output_bytes + RECORDS_BYTES).min(Ceilings::OUTPUT_BYTES);
    }
    let mut facts = runner.step(&step, &[], io).await?;
    let reports = match suite.format {
        SuiteFormat::Junit => runner.collect(&[JUNIT_FILES.to_owned()]).await?.files,
        _ => Vec::new(),
    };
    let bytes = facts.stdout.len() + reports.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
    let mut parsed = compute::on_bytes(bytes, || match suite.format {
        SuiteFormat::Pytest => pytest::read(&key, &mut facts),
        SuiteFormat::Tap => tap::read(&facts.stdout),
        SuiteFormat::Node => node::read(&suite.step.argv, &facts.stdout),
        SuiteFormat::Exit => exit(&facts),
        SuiteFormat::Junit => junit::read(reports.iter().map(|(_, bytes)| bytes.as_slice())),
    });
    if suite.format == SuiteFormat::Node {
        facts.stdout = node::without_marks(&facts.stdout);
        // how many tests there are, if that did not become known
        let may_ask = parsed.broken.is_some() && !matches!(facts.outcome, Outcome::Cancelled | Outcome::Lost);
        if let Some(argv) = node::listing(&suite.step.argv).filter(|_| may_ask) {
            step.argv = argv.into();
            step.limits.cpu = step.limits.cpu.min(LISTING);
            step.limits.wall = step.limits.wall.min(LISTING * 2);
            let listed = runner.step(&step, &[], RunIo::default()).await?;
            node::add_planned(&mut parsed, &listed.stdout);
        }
    }
    if suite.format == SuiteFormat::Pytest {
        bound_output(&mut facts, suite.step.limits.output_bytes, runner.truncate_output);
    }
    let (verdict, message) = judge(suite, &facts, &parsed);
    add_missing(&mut parsed, verdict, &message);
    let skipped = parsed.cases.iter().filter(|case| case.status == CaseStatus::Skipped).count();
    let total = parsed.planned.max(parsed.cases.len()) - skipped;
    Ok(SuiteResult { cases: parsed.cases, total, run: facts, verdict, message })
}

/// Applies the limit on output to what is left without the records.
fn bound_output(facts: &mut RunFacts, limit: u64, is_truncated: bool) {
    if facts.outcome == Outcome::OutputLimit && facts.evidence.limit.as_deref() == Some("output_bytes") {
        facts.evidence.limit_value = Some(limit);
    }
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    for (stream, is_cut) in
        [(&mut facts.stdout, &mut facts.stdout_truncated), (&mut facts.stderr, &mut facts.stderr_truncated)]
    {
        if stream.len() > most {
            stream.truncate(most);
            *is_cut = true;
            if !is_truncated && facts.outcome == Outcome::Exited {
                facts.outcome = Outcome::OutputLimit;
                (facts.evidence.limit, facts.evidence.limit_value) = (Some("output_bytes".to_owned()), Some(limit));
            }
        }
    }
}

/// Adds the planned cases that have no result: the first was running, unless the suite stopped by
/// itself; the others did not run.
fn add_missing(parsed: &mut ParsedSuite, verdict: Verdict, message: &str) {
    let mut is_running = !parsed.stopped && verdict != Verdict::Accepted;
    for name in std::mem::take(&mut parsed.missing) {
        let (status, message) = match std::mem::take(&mut is_running) {
            true => (CaseStatus::Ended(verdict), message.to_owned()),
            false => (CaseStatus::NotRun, "Not run.".to_owned()),
        };
        add(parsed, SuiteCase { name, status, message, duration_ms: None });
    }
}

/// The one case of a command: its exit status.
fn exit(facts: &RunFacts) -> ParsedSuite {
    let status = if facts.exit_code == Some(0) { CaseStatus::Passed } else { CaseStatus::Failed };
    let message = match status {
        CaseStatus::Passed => String::new(),
        _ => hint::of(&facts.stdout, &facts.stderr).unwrap_or_else(|| decide::status(facts)),
    };
    let duration_ms = Some(facts.wall.as_secs_f64() * 1e3);
    let cases = vec![SuiteCase { name: "exit".to_owned(), status, message, duration_ms }];
    ParsedSuite { cases, ..ParsedSuite::default() }
}

fn judge(suite: &Suite, facts: &RunFacts, parsed: &ParsedSuite) -> (Verdict, String) {
    if facts.outcome != Outcome::Exited {
        return (decide::verdict(facts), decide::message(facts, &suite.step.limits));
    }
    if facts.stdout_truncated && matches!(suite.format, SuiteFormat::Tap | SuiteFormat::Node) {
        return (Verdict::OutputLimit, decide::truncated_message(&suite.step.limits));
    }
    if let Some(unusable) = &parsed.unusable {
        return (Verdict::SystemError, format!("The suite cannot be judged: {unusable}."));
    }
    if let Some(broken) = &parsed.broken {
        // what does not compile leaves no results: the compiler's line says more
        let is_compiler = parsed.cases.is_empty() && facts.exit_code != Some(0) && suite.format != SuiteFormat::Pytest;
        let line = is_compiler.then(|| error_line(facts, &paths(suite))).flatten();
        let line = match suite.format {
            SuiteFormat::Node => node::crash(&facts.stderr).or(line),
            _ => line,
        };
        let message = match line {
            Some(line) => format!("The tests did not start: {line}"),
            None => format!("The tests did not finish: {broken}."),
        };
        return (Verdict::RuntimeError, message);
    }
    let good = [CaseStatus::Passed, CaseStatus::Skipped];
    let failed = parsed.cases.iter().find(|case| !good.contains(&case.status));
    let passed = parsed.cases.iter().filter(|case| case.status == CaseStatus::Passed).count();
    match failed {
        Some(case) => {
            let first = case.message.lines().find(|line| !line.trim().is_empty()).unwrap_or("it failed");
            (case.status.verdict(), format!("{}: {}", case.name, first.trim()))
        }
        None if passed == 0 => (Verdict::RuntimeError, "No test was run.".to_owned()),
        None if facts.exit_code != Some(0) && suite.format != SuiteFormat::Pytest => {
            let message = format!("Every test reported success, but: {}", decide::message(facts, &suite.step.limits));
            (Verdict::RuntimeError, message)
        }
        None => (Verdict::Accepted, format!("All {passed} tests passed.")),
    }
}

/// Paths of the submission's and the suite's files.
fn paths(suite: &Suite) -> Vec<&str> {
    let own = suite.own.iter().map(String::as_str);
    own.chain(suite.step.files.iter().map(|file| file.path.as_str())).collect()
}

/// Adds a case within the bounds. Text beyond them is cut; too many cases make the result invalid.
fn add(parsed: &mut ParsedSuite, mut case: SuiteCase) {
    let room = bounds::MAX_CASES_BYTES.saturating_sub(parsed.bytes);
    case.name.truncate(case.name.floor_char_boundary(room.min(512)));
    case.message.truncate(case.message.floor_char_boundary(room.saturating_sub(case.name.len()).min(8192)));
    if parsed.cases.len() < bounds::MAX_CASES {
        parsed.bytes += case.name.len() + case.message.len();
        parsed.cases.push(case);
    } else {
        parsed.broken = Some(too_many());
    }
}

fn too_many() -> String {
    format!("there are more than {} tests", bounds::MAX_CASES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::ProgramStep;
    use protocol::Preset;

    fn of(format: SuiteFormat, facts: &RunFacts, parsed: &ParsedSuite) -> Verdict {
        let limits = Preset::Judge.limits();
        let step = ProgramStep { argv: [].into(), env: [].into(), limits, stdin: Default::default(), files: vec![] };
        judge(&Suite { step, format, own: vec![], sources: Default::default() }, facts, parsed).0
    }

    fn exited(code: i32) -> RunFacts {
        RunFacts { exit_code: Some(code), ..RunFacts::bare(Outcome::Exited) }
    }

    fn cases(statuses: &[CaseStatus]) -> ParsedSuite {
        let case = |status: &CaseStatus| SuiteCase { status: *status, ..SuiteCase::default() };
        ParsedSuite { cases: statuses.iter().map(case).collect(), ..ParsedSuite::default() }
    }

    #[test]
    fn the_first_case_that_did_not_pass_decides_and_no_passed_case_is_an_error() {
        use CaseStatus::{Crashed, Error, Failed, Passed, Skipped};
        let tap = |code, statuses: &[CaseStatus]| of(SuiteFormat::Tap, &exited(code), &cases(statuses));
        assert_eq!(tap(0, &[Passed, Skipped]), Verdict::Accepted);
        assert_eq!(tap(1, &[Passed, Failed, Error]), Verdict::WrongAnswer);
        assert_eq!(tap(1, &[Crashed, Failed]), Verdict::RuntimeError);
        assert_eq!(tap(0, &[]), Verdict::RuntimeError);
        assert_eq!(tap(0, &[Skipped]), Verdict::RuntimeError);
        assert_eq!(tap(3, &[Passed]), Verdict::RuntimeError);
    }

    #[test]
    fn a_planned_case_without_a_result_is_not_a_pass_and_counts_in_the_total() {
        let missing = vec!["three".to_owned(), "four".to_owned()];
        let mut parsed = ParsedSuite { planned: 4, missing, ..cases(&[CaseStatus::Passed; 2]) };
        add_missing(&mut parsed, Verdict::TimeLimit, "too slow");
        let statuses: Vec<_> = parsed.cases.iter().map(|case| case.status).collect();
        let ended = CaseStatus::Ended(Verdict::TimeLimit);
        assert_eq!(statuses, [CaseStatus::Passed, CaseStatus::Passed, ended, CaseStatus::NotRun]);
        assert_eq!(of(SuiteFormat::Pytest, &exited(0), &parsed), Verdict::TimeLimit);
    }

    #[test]
    fn a_limit_counts_before_the_results_of_the_tests() {
        let late = RunFacts { exit_code: None, ..RunFacts::bare(Outcome::WallLimit) };
        assert_eq!(of(SuiteFormat::Tap, &late, &cases(&[CaseStatus::Passed])), Verdict::TimeLimit);
        let broken = ParsedSuite { broken: Some("x".to_owned()), ..cases(&[CaseStatus::Passed]) };
        assert_eq!(of(SuiteFormat::Pytest, &exited(0), &broken), Verdict::RuntimeError);
    }
}
