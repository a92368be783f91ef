//! PlannedTest files that are run against a submission, and what they say.
//!
//! ```text
//!  run --> limit, signal --> its verdict, whatever the cases say
//!     '--> exited --> pytest: signed records | junit: XML files | tap: stdout | exit: the status
//!                        '--> cases --> the first that did not pass; none at all, or an end that is missing: runtime_error
//! ```
//!
//! The code under test runs in the same process as its tests, so nothing that it cannot do by accident or by the easy ways is
//! promised (docs/SECURITY.md): for pytest, a runner of ours signs what it saw with a key that it reads before any of that
//! code runs, and looks whether pytest is still itself.

mod junit;
mod pytest;
mod tap;

pub(super) use pytest::{command as pytest_command, runner_file};

use super::decide;
use super::runner::{RunIo, Runner};
use crate::work::{ProgramStep, Suite};
use config::bounds;
use protocol::submission::SuiteFormat;
use protocol::{Outcome, RunFacts, Verdict};
use sandbox::lifecycle::Lost;

/// One case.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SuiteCase {
    /// Its name.
    pub name: String,
    /// How it went.
    pub end: CaseStatus,
    /// What it says.
    pub message: String,
    /// How long it took, in milliseconds.
    pub duration_ms: Option<f64>,
}

/// How a case went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CaseStatus {
    /// Well.
    #[default]
    Passed,
    /// An assertion did not hold.
    Failed,
    /// Something else went wrong in it.
    Crashed,
    /// It could not be tried: its set-up, or its file, failed.
    Error,
    /// It was not tried.
    Skipped,
}

impl CaseStatus {
    /// The case's verdict.
    pub fn verdict(self) -> Verdict {
        match self {
            CaseStatus::Passed => Verdict::Accepted,
            CaseStatus::Failed => Verdict::WrongAnswer,
            CaseStatus::Crashed | CaseStatus::Error => Verdict::RuntimeError,
            CaseStatus::Skipped => Verdict::Skipped,
        }
    }
}

/// What came of a suite.
#[derive(Debug, Clone, PartialEq)]
pub struct SuiteResult {
    /// The cases.
    pub cases: Vec<SuiteCase>,
    /// The run.
    pub run: RunFacts,
    /// The verdict of all.
    pub verdict: Verdict,
    /// For people.
    pub message: String,
}

/// What was said, and why it is not to be believed, if it is not.
#[derive(Debug, Default, PartialEq)]
struct SuiteOutput {
    cases: Vec<SuiteCase>,
    broken: Option<String>,
}

/// Where JUnit's files are looked for.
const JUNIT_FILES: &str = "reports/**/*.xml";

/// Runs a suite.
pub(super) async fn run(runner: &mut Runner<'_>, suite: &Suite, ports: RunIo<'_>) -> Result<SuiteResult, Lost> {
    let key = pytest::key();
    let step = match suite.format {
        SuiteFormat::Pytest => ProgramStep { stdin: pytest::order(&key, &suite.step.files), ..suite.step.clone() },
        _ => suite.step.clone(),
    };
    let mut facts = runner.step(&step, &[], ports).await?;
    let said = match suite.format {
        SuiteFormat::Pytest => pytest::read(&key, &mut facts.stdout),
        SuiteFormat::Tap => tap::read(&facts.stdout),
        SuiteFormat::Exit => exit(&facts),
        SuiteFormat::Junit => {
            let files = runner.collect(&[JUNIT_FILES.to_owned()]).await?.files;
            junit::read(files.iter().map(|(_, bytes)| bytes.as_slice()))
        }
    };
    let (verdict, message) = judge(suite, &facts, &said);
    Ok(SuiteResult { cases: said.cases, run: facts, verdict, message })
}

/// One case: the status.
fn exit(facts: &RunFacts) -> SuiteOutput {
    let end = if facts.exit_code == Some(0) { CaseStatus::Passed } else { CaseStatus::Failed };
    let message = if end == CaseStatus::Passed { String::new() } else { decide::status(facts) };
    let duration_ms = Some(facts.wall.as_secs_f64() * 1e3);
    SuiteOutput { cases: vec![SuiteCase { name: "exit".to_owned(), end, message, duration_ms }], broken: None }
}

fn judge(suite: &Suite, facts: &RunFacts, said: &SuiteOutput) -> (Verdict, String) {
    if facts.outcome != Outcome::Exited {
        return (decide::verdict(facts), decide::message(facts, &suite.step.limits));
    }
    if let Some(broken) = &said.broken {
        return (Verdict::RuntimeError, format!("The tests did not run to their end: {broken}."));
    }
    let failed = said.cases.iter().find(|case| !matches!(case.end, CaseStatus::Passed | CaseStatus::Skipped));
    let passed = said.cases.iter().filter(|case| case.end == CaseStatus::Passed).count();
    match failed {
        Some(case) => {
            let first = case.message.lines().find(|line| !line.trim().is_empty()).unwrap_or("it failed");
            (case.end.verdict(), format!("{}: {}", case.name, first.trim()))
        }
        None if passed == 0 => (Verdict::RuntimeError, "No test was run.".to_owned()),
        None if facts.exit_code != Some(0) && suite.format != SuiteFormat::Pytest => {
            let message =
                format!("Every test says that it passed, and yet: {}", decide::message(facts, &suite.step.limits));
            (Verdict::RuntimeError, message)
        }
        None => (Verdict::Accepted, format!("All {passed} tests passed.")),
    }
}

/// Adds a case within the bounds; what is too much is cut, too many is not to be believed.
fn add(said: &mut SuiteOutput, mut case: SuiteCase) {
    let bytes: usize = said.cases.iter().map(|case| case.name.len() + case.message.len()).sum();
    let room = bounds::MAX_CASES_BYTES.saturating_sub(bytes);
    case.name.truncate(case.name.floor_char_boundary(room.min(512)));
    case.message.truncate(case.message.floor_char_boundary(room.saturating_sub(case.name.len()).min(8192)));
    if said.cases.len() < bounds::MAX_CASES {
        said.cases.push(case);
    } else {
        said.broken = Some(format!("there are more than {} tests", bounds::MAX_CASES));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::Preset;

    fn of(format: SuiteFormat, facts: &RunFacts, said: &SuiteOutput) -> Verdict {
        let limits = Preset::Judge.limits();
        let step = ProgramStep { argv: vec![], env: vec![], limits, stdin: Default::default(), files: vec![] };
        judge(&Suite { step, format }, facts, said).0
    }

    fn ended(code: i32) -> RunFacts {
        RunFacts { exit_code: Some(code), ..RunFacts::bare(Outcome::Exited) }
    }

    fn cases(ends: &[CaseStatus]) -> SuiteOutput {
        let case = |end: &CaseStatus| SuiteCase { end: *end, ..SuiteCase::default() };
        SuiteOutput { cases: ends.iter().map(case).collect(), broken: None }
    }

    #[test]
    fn the_first_that_did_not_pass_is_the_verdict_and_nothing_at_all_is_none() {
        use CaseStatus::{Crashed, Error, Failed, Passed, Skipped};
        let tap = |code, ends: &[CaseStatus]| of(SuiteFormat::Tap, &ended(code), &cases(ends));
        assert_eq!(tap(0, &[Passed, Skipped]), Verdict::Accepted);
        assert_eq!(tap(1, &[Passed, Failed, Error]), Verdict::WrongAnswer);
        assert_eq!(tap(1, &[Crashed, Failed]), Verdict::RuntimeError);
        assert_eq!(tap(0, &[]), Verdict::RuntimeError);
        assert_eq!(tap(0, &[Skipped]), Verdict::RuntimeError);
        assert_eq!(tap(3, &[Passed]), Verdict::RuntimeError);
    }

    #[test]
    fn a_limit_counts_before_what_the_tests_say() {
        let late = RunFacts { exit_code: None, ..RunFacts::bare(Outcome::WallLimit) };
        assert_eq!(of(SuiteFormat::Tap, &late, &cases(&[CaseStatus::Passed])), Verdict::TimeLimit);
        let broken = SuiteOutput { broken: Some("x".to_owned()), ..cases(&[CaseStatus::Passed]) };
        assert_eq!(of(SuiteFormat::Pytest, &ended(0), &broken), Verdict::RuntimeError);
    }
}
