//! Judges a submission in its sandbox, from its files to its result. Decides what runs next.
//!
//! ```text
//!  compile --> ok? --no--> compile_error
//!     |yes
//!  referees compile --> one does not? --> system_error, nothing is run
//!     |
//!     v
//!  one run | suite | test 1 -> test 2 -> ... (files go with the first step; `test_driver`)
//!     |                '-- on further sandboxes at the same time (`parallel`)
//!     '-- a sandbox is lost: Err, the scheduler decides whether to retry
//! ```

use super::cache::{Cache, CacheKey};
pub use super::cancel::CancelSignal;
use super::decide::{self, CANCELLED};
use super::events::{EventLog, SubmissionEvent};
use super::extra::ExtraSandboxes;
use super::outputs::TestOutputs;
use super::parallel;
use super::pipe::Pipe;
use super::referee::RefereeRunner;
pub use super::results::{LostSandbox, TestResult};
use super::results::{forbids_reuse, skipped};
pub use super::runner::Timings;
use super::runner::{CompileResult, Runner};
use super::stored::OutputStore;
use super::suite::{self, SuiteResult};
use super::supervise::RunIo;
use super::test_driver::{SharedReferee, TestDriver};
use crate::work::{Checker, Plan, PlannedTest, Work, WorkFile};
use protocol::submission::Protocol;
use protocol::{Blame, RunFacts, Verdict};
use sandbox::lifecycle::{CollectedFiles, Sandbox};
use std::sync::{Arc, Mutex, PoisonError};

/// A sandbox for the submission or for one of its referees.
#[derive(Debug)]
pub struct AssignedSandbox<'a> {
    pub sandbox: &'a mut Sandbox,
    /// The cache key of the compile step. `None` turns the cache off for it.
    pub key: Option<CacheKey>,
}

/// What all runs of a submission share.
#[derive(Debug, Clone)]
pub struct RunContext<'a> {
    pub log: &'a EventLog,
    /// Feeds stdin of a submission whose stdin is open.
    pub input: Option<&'a Pipe>,
    pub cancel: CancelSignal,
    pub cache: &'a Cache,
    /// Gets the results of the tests that were judged before a sandbox was lost.
    pub finished: &'a FinishedTests,
    /// Where sandboxes for further tests at the same time come from.
    pub extras: &'a dyn ExtraSandboxes,
    /// Takes outputs that the report will not carry itself.
    pub outputs: Arc<dyn OutputStore>,
}

/// Results of tests that outlive a lost sandbox.
#[derive(Debug, Default)]
pub struct FinishedTests(Mutex<Vec<TestResult>>);

impl FinishedTests {
    /// Takes them. Empty unless a sandbox was lost during the tests.
    pub fn take(&self) -> Vec<TestResult> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, results: Vec<TestResult>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = results;
    }
}

/// The results of all tests when the sandbox died under one of them: those of the tests before it
/// stay, the rest was not run.
pub fn interrupted(
    finished: Vec<TestResult>,
    plan: &Plan,
    (verdict, message): (Verdict, &str),
    run: &RunFacts,
) -> Vec<TestResult> {
    let at = finished.len();
    let mut tests = all_skipped(plan);
    tests.splice(..at.min(tests.len()), finished);
    if let Some(test) = tests.get_mut(at) {
        (test.verdict, test.message, test.run) = (verdict, message.to_owned(), Some(run.clone()));
    }
    tests
}

/// The result of a submission, before it becomes a report.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    pub verdict: Verdict,
    /// Message for the submitter.
    pub message: String,
    /// Whose fault a failure is, unless it is the submission's.
    pub blame: Option<Blame>,
    pub compile: Option<RunFacts>,
    /// Whether the compile step's artifact came from the cache.
    pub is_cached: bool,
    /// A file that the profile keeps and that a compiler without an error did not make.
    pub not_made: Option<String>,
    pub tests: Vec<TestResult>,
    /// The run of a submission without tests.
    pub run: Option<RunFacts>,
    pub suite: Option<SuiteResult>,
    /// Files brought back from the sandbox.
    pub files: CollectedFiles,
    /// Whether a prewarmed runtime ran it.
    pub was_hot: bool,
    pub timings: Timings,
}

impl Judged {
    /// A result with a verdict and a message only.
    pub fn bare(verdict: Verdict, message: impl Into<String>) -> Judged {
        Judged {
            verdict,
            message: message.into(),
            blame: None,
            compile: None,
            is_cached: false,
            not_made: None,
            tests: Vec::new(),
            run: None,
            suite: None,
            files: CollectedFiles::default(),
            was_hot: false,
            timings: Timings::default(),
        }
    }

    /// Whether the sandbox may be used again as far as the runs tell: none of them was cancelled,
    /// lost or out of memory.
    pub fn allows_reuse(&self) -> bool {
        let suite = self.suite.iter().map(|suite| &suite.run);
        let runs = self.compile.iter().chain(&self.run).chain(suite);
        let mut runs = runs.chain(self.tests.iter().filter_map(|test| test.run.as_ref()));
        !runs.any(forbids_reuse)
    }
}

/// Judges a submission. The referees' sandboxes are in the order of the work's referees.
///
/// Dropping the future kills the programs (by their run handles); the leases then retire the
/// sandboxes.
///
/// # Errors
/// A sandbox was lost.
pub async fn judge(
    main: AssignedSandbox<'_>,
    referees: Vec<AssignedSandbox<'_>>,
    work: &Work,
    context: RunContext<'_>,
) -> Result<Judged, LostSandbox> {
    let RunContext { log, input, cancel, cache, finished, extras, outputs } = context;
    log.append(SubmissionEvent::Running).await;
    let AssignedSandbox { sandbox, key } = main;
    let mut runner = Runner::new(sandbox, &work.profile, &work.files, work.truncate_output, cancel.clone());
    runner.prewarm = work.prewarm;
    let has_static = work.referees.iter().any(|referee| referee.protocol == Protocol::Static);
    runner.shares_artifact = has_static || parallel::most_sandboxes(work) > 1;
    let mut judged = Judged::bare(Verdict::Accepted, "");
    if let Some(compile) = &work.compile {
        let result =
            runner.compile(compile, key.as_ref().map(|key| (cache, key))).await.map_err(LostSandbox::Submission)?;
        let CompileResult { facts, is_cached, not_made } = result;
        log.append(SubmissionEvent::Compile { outcome: facts.outcome }).await;
        let failure = decide::compile_verdict(&facts).map(|verdict| {
            let paths: Vec<&str> = work.files.iter().map(|file| file.path.as_str()).collect();
            (verdict, decide::compile_message(&facts, &compile.step.limits, &paths))
        });
        judged.not_made = not_made;
        let failure =
            failure.or(judged.not_made.as_deref().map(|file| (Verdict::CompileError, decide::not_made_message(file))));
        (judged.compile, judged.is_cached) = (Some(facts), is_cached);
        (judged.timings, judged.was_hot) = (runner.timings, runner.was_hot);
        if let Some((verdict, message)) = failure {
            let blame = judged.compile.as_ref().and_then(blame_of_start);
            return Ok(Judged { verdict, message, blame, tests: all_skipped(&work.plan), ..judged });
        }
    }
    let code = if has_static { [work.files.clone(), runner.made()].concat() } else { Vec::new() };
    let referees = match prepare_referees(referees, (work, &code), &cancel, cache).await? {
        PreparedReferees::Ready(referees) => referees.into_iter().map(SharedReferee::new).collect::<Vec<_>>(),
        PreparedReferees::Broken(_) if *cancel.borrow() => {
            return Ok(Judged { tests: all_skipped(&work.plan), ..Judged::bare(Verdict::Cancelled, CANCELLED) });
        }
        PreparedReferees::Broken(message) => {
            let (verdict, blame, tests) = (Verdict::SystemError, Some(Blame::Caller), all_skipped(&work.plan));
            return Ok(Judged { verdict, message, blame, tests, ..judged });
        }
    };
    let io = RunIo { log: Some((log, None)), input, ..RunIo::default() };
    match &work.plan {
        Plan::Run(step) => {
            let io = RunIo { is_live: true, ..io };
            let facts = runner.step(step, &[], io).await.map_err(LostSandbox::Submission)?;
            judged.verdict = decide::verdict(&facts);
            judged.message = decide::message(&facts, &step.limits);
            judged.blame = blame_of_start(&facts);
            judged.run = Some(facts);
        }
        Plan::Suite(suite) => {
            let result = suite::run(&mut runner, suite, io).await.map_err(LostSandbox::Submission)?;
            (judged.verdict, judged.message) = (result.verdict, result.message.clone());
            judged.blame = (judged.verdict == Verdict::SystemError).then_some(Blame::Caller);
            judged.blame = blame_of_start(&result.run).or(judged.blame);
            judged.suite = Some(result);
        }
        Plan::Tests(tests) => {
            let outputs = TestOutputs::new(outputs, judged.compile.as_ref());
            let results = match parallel::most_sandboxes(work) {
                1 => {
                    let mut driver = TestDriver::new(&mut runner, &referees, work, cancel.clone());
                    driver.log = Some(log);
                    driver.run_all(tests, &outputs).await
                }
                most => parallel::run(&mut runner, &referees, work, tests, &outputs, (log, extras, most)).await,
            };
            judged.tests = match results {
                Ok(results) => results,
                Err((lost, results)) => {
                    finished.set(results);
                    return Err(lost);
                }
            };
            (judged.verdict, judged.message) = overall(&judged.tests);
            judged.blame = (judged.verdict == Verdict::SystemError).then_some(Blame::Caller);
            judged.blame =
                judged.tests.iter().filter_map(|test| test.run.as_ref()).find_map(blame_of_start).or(judged.blame);
        }
    }
    judged.files = match runner.collect(&work.collect).await {
        Ok(files) => files,
        Err(lost) => {
            finished.set(judged.tests);
            return Err(LostSandbox::Submission(lost));
        }
    };
    (judged.timings, judged.was_hot) = (runner.timings, runner.was_hot);
    judged.timings.check = referees.into_iter().map(|referee| referee.into_inner().time_spent()).sum();
    Ok(judged)
}

/// The blame for a run that did not start because its image lacks its profile's program.
fn blame_of_start(run: &RunFacts) -> Option<Blame> {
    run.missing_program.as_ref().map(|_| Blame::Assay)
}

enum PreparedReferees<'a> {
    Ready(Vec<RefereeRunner<'a>>),
    /// One of them cannot be used; the message names it.
    Broken(String),
}

/// Compiles the referees, one after the other.
async fn prepare_referees<'a>(
    sandboxes: Vec<AssignedSandbox<'a>>,
    (work, code): (&'a Work, &'a [WorkFile]),
    cancel: &CancelSignal,
    cache: &Cache,
) -> Result<PreparedReferees<'a>, LostSandbox> {
    let mut runners = Vec::with_capacity(sandboxes.len());
    for (index, (assigned, referee)) in sandboxes.into_iter().zip(&work.referees).enumerate() {
        let AssignedSandbox { sandbox, key } = assigned;
        let mut runner = RefereeRunner::new(sandbox, referee, work.passes > 1, cancel.clone());
        runner.code = code;
        let key = key.as_ref().map(|key| (cache, key));
        runner.prepare(key).await.map_err(|lost| LostSandbox::Referee(index, lost))?;
        if let Some(broken) = runner.broken() {
            return Ok(PreparedReferees::Broken(format!("The {} {broken}", role(work, index))));
        }
        runners.push(runner);
    }
    Ok(PreparedReferees::Ready(runners))
}

/// The word for a referee in messages.
fn role(work: &Work, referee: usize) -> &'static str {
    let talks = |test: &PlannedTest| matches!(&test.checker, Checker::Interactor(index, _) if *index == referee);
    match &work.plan {
        Plan::Tests(tests) if tests.iter().any(talks) => "interactor",
        _ => "checker",
    }
}

fn all_skipped(plan: &Plan) -> Vec<TestResult> {
    match plan {
        Plan::Run(_) | Plan::Suite(_) => Vec::new(),
        Plan::Tests(tests) => tests.iter().map(skipped).collect(),
    }
}

/// The verdict and message of all tests: those of the first that is not accepted.
pub fn overall(results: &[TestResult]) -> (Verdict, String) {
    match results.iter().find(|result| result.verdict != Verdict::Accepted) {
        None => (Verdict::Accepted, format!("All {} tests passed.", results.len())),
        Some(first) => (first.verdict, format!("Test {}: {}", first.name, first.message)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::bare;

    #[test]
    fn the_overall_verdict_is_that_of_the_first_test_that_is_not_accepted() {
        let result = |name: &str, verdict| bare(name, verdict, "m");
        let all = [result("1", Verdict::Accepted), result("2", Verdict::TimeLimit), result("3", Verdict::WrongAnswer)];
        assert_eq!(overall(&all).0, Verdict::TimeLimit);
        assert_eq!(overall(&all[..1]).0, Verdict::Accepted);
    }
}
