//! Runs test files against a submission and reads their results.
//!
//! ```text
//!  run --> limit, signal --> the run's verdict, whatever the cases report
//!     '--> exited --> pytest: signed records | junit: XML files | tap: stdout | exit: the status
//!             '--> cases --> verdict of the first that did not pass
//!                            no case, or an incomplete report: runtime_error
//! ```
//!
//! The code under test runs in the same process as its tests, so the results are protected against
//! accidents and simple tricks only (docs/SECURITY.md). For pytest, a runner of ours signs the
//! results with a key that it reads before any of that code runs, and checks that pytest was not
//! modified.

mod junit;
mod pytest;
mod tap;

pub(super) use pytest::{command as pytest_command, runner_file};

use super::decide;
use super::runner::Runner;
use super::supervise::RunIo;
use crate::work::{ProgramStep, Suite};
use config::bounds;
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
    Skipped,
}

impl CaseStatus {
    pub fn verdict(self) -> Verdict {
        match self {
            CaseStatus::Passed => Verdict::Accepted,
            CaseStatus::Failed => Verdict::WrongAnswer,
            CaseStatus::Crashed | CaseStatus::Error => Verdict::RuntimeError,
            CaseStatus::Skipped => Verdict::Skipped,
        }
    }
}

/// The result of a suite.
#[derive(Debug, Clone, PartialEq)]
pub struct SuiteResult {
    pub cases: Vec<SuiteCase>,
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
}

/// The pattern of JUnit's report files.
const JUNIT_FILES: &str = "reports/**/*.xml";

/// Runs a suite and judges it.
pub(super) async fn run(runner: &mut Runner<'_>, suite: &Suite, io: RunIo<'_>) -> Result<SuiteResult, Lost> {
    let key = pytest::key();
    let step = match suite.format {
        SuiteFormat::Pytest => ProgramStep { stdin: pytest::order(&key, &suite.step.files), ..suite.step.clone() },
        _ => suite.step.clone(),
    };
    let mut facts = runner.step(&step, &[], io).await?;
    let parsed = match suite.format {
        SuiteFormat::Pytest => pytest::read(&key, &mut facts.stdout),
        SuiteFormat::Tap => tap::read(&facts.stdout),
        SuiteFormat::Exit => exit(&facts),
        SuiteFormat::Junit => {
            let files = runner.collect(&[JUNIT_FILES.to_owned()]).await?.files;
            junit::read(files.iter().map(|(_, bytes)| bytes.as_slice()))
        }
    };
    let (verdict, message) = judge(suite, &facts, &parsed);
    Ok(SuiteResult { cases: parsed.cases, run: facts, verdict, message })
}

/// The one case of a command: its exit status.
fn exit(facts: &RunFacts) -> ParsedSuite {
    let status = if facts.exit_code == Some(0) { CaseStatus::Passed } else { CaseStatus::Failed };
    let message = if status == CaseStatus::Passed { String::new() } else { decide::status(facts) };
    let duration_ms = Some(facts.wall.as_secs_f64() * 1e3);
    ParsedSuite { cases: vec![SuiteCase { name: "exit".to_owned(), status, message, duration_ms }], broken: None }
}

fn judge(suite: &Suite, facts: &RunFacts, parsed: &ParsedSuite) -> (Verdict, String) {
    if facts.outcome != Outcome::Exited {
        return (decide::verdict(facts), decide::message(facts, &suite.step.limits));
    }
    if let Some(broken) = &parsed.broken {
        return (Verdict::RuntimeError, format!("The tests did not finish: {broken}."));
    }
    let failed = parsed.cases.iter().find(|case| !matches!(case.status, CaseStatus::Passed | CaseStatus::Skipped));
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

/// Adds a case within the bounds. Text beyond them is cut; too many cases make the result invalid.
fn add(parsed: &mut ParsedSuite, mut case: SuiteCase) {
    let bytes: usize = parsed.cases.iter().map(|case| case.name.len() + case.message.len()).sum();
    let room = bounds::MAX_CASES_BYTES.saturating_sub(bytes);
    case.name.truncate(case.name.floor_char_boundary(room.min(512)));
    case.message.truncate(case.message.floor_char_boundary(room.saturating_sub(case.name.len()).min(8192)));
    if parsed.cases.len() < bounds::MAX_CASES {
        parsed.cases.push(case);
    } else {
        parsed.broken = Some(format!("there are more than {} tests", bounds::MAX_CASES));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::Preset;

    fn of(format: SuiteFormat, facts: &RunFacts, parsed: &ParsedSuite) -> Verdict {
        let limits = Preset::Judge.limits();
        let step = ProgramStep { argv: vec![], env: vec![], limits, stdin: Default::default(), files: vec![] };
        judge(&Suite { step, format }, facts, parsed).0
    }

    fn exited(code: i32) -> RunFacts {
        RunFacts { exit_code: Some(code), ..RunFacts::bare(Outcome::Exited) }
    }

    fn cases(statuses: &[CaseStatus]) -> ParsedSuite {
        let case = |status: &CaseStatus| SuiteCase { status: *status, ..SuiteCase::default() };
        ParsedSuite { cases: statuses.iter().map(case).collect(), broken: None }
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
    fn a_limit_counts_before_the_results_of_the_tests() {
        let late = RunFacts { exit_code: None, ..RunFacts::bare(Outcome::WallLimit) };
        assert_eq!(of(SuiteFormat::Tap, &late, &cases(&[CaseStatus::Passed])), Verdict::TimeLimit);
        let broken = ParsedSuite { broken: Some("x".to_owned()), ..cases(&[CaseStatus::Passed]) };
        assert_eq!(of(SuiteFormat::Pytest, &exited(0), &broken), Verdict::RuntimeError);
    }
}
