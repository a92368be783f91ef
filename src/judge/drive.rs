//! Judges a submission in its sandbox, from its files to its result. Decides what runs next.
//!
//! ```text
//!  compile --> ok? --no--> compile_error
//!     |yes
//!  referees compile --> one does not? --> system_error, nothing is run
//!     |
//!     v
//!  one run | suite | test 1 -> test 2 -> ... (files go with the first step)
//!     |                '-- ends well: compared, or given to its checker; or an interactive test
//!     |                '-- limit, crash, wrong answer: a verdict, then the next test (or stop)
//!     |                    (the next test is queued already, if it does not depend on this one)
//!     '-- a sandbox is lost: Err, the scheduler decides whether to retry
//! ```

use std::time::Instant;

use super::cache::{Cache, CacheKey};
pub use super::cancel::CancelSignal;
use super::check::{Comparison, check};
use super::checker_result::CheckerResult;
use super::decide::{self, CANCELLED};
use super::events::{EventLog, SubmissionEvent};
use super::interact::{Decision, InteractiveTest, LostParticipant, interact};
use super::pipe::Pipe;
use super::referee::{RefereeAnswer, RefereeRunner};
pub use super::runner::Timings;
use super::runner::{CompileResult, PendingRun, Runner};
use super::suite::{self, SuiteResult};
use super::supervise::RunIo;
use super::transcript::Transcript;
use crate::work::{Checker, Plan, PlannedTest, Work};
use protocol::submission::Stop;
use protocol::{Blame, Outcome, RunFacts, Verdict};
use sandbox::lifecycle::{CollectedFiles, Lost, Sandbox};

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
}

/// The result of one test.
#[derive(Debug, Clone, PartialEq)]
pub struct TestResult {
    pub name: String,
    pub group: Option<String>,
    pub verdict: Verdict,
    /// Message for the submitter.
    pub message: String,
    pub weight: f64,
    /// Points that a checker gave. Without them an accepted test gives its weight.
    pub points: Option<f64>,
    /// A checker's message for the problem author.
    pub feedback: Option<String>,
    /// The conversation of an interactive test.
    pub transcript: Option<Transcript>,
    /// `None` if the test was skipped.
    pub run: Option<RunFacts>,
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
        let rough = [Outcome::MemoryLimit, Outcome::Cancelled, Outcome::Lost];
        runs.all(|run| !rough.contains(&run.outcome) && run.evidence.oom_kills == 0)
    }
}

/// Which sandbox was lost, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LostSandbox {
    Submission(Lost),
    /// A referee's, by its index in the work's referees.
    Referee(usize, Lost),
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
    let RunContext { log, input, cancel, cache } = context;
    log.append(SubmissionEvent::Running).await;
    let AssignedSandbox { sandbox, key } = main;
    let mut runner = Runner::new(sandbox, &work.profile, &work.files, work.truncate_output, cancel.clone());
    runner.prewarm = work.prewarm;
    let mut judged = Judged::bare(Verdict::Accepted, "");
    if let Some(compile) = &work.compile {
        let result = runner.compile(compile, key.map(|key| (cache, key))).await.map_err(LostSandbox::Submission)?;
        let CompileResult { facts, is_cached } = result;
        log.append(SubmissionEvent::Compile { outcome: facts.outcome }).await;
        let failure = decide::compile_verdict(&facts).map(|verdict| {
            let paths: Vec<&str> = work.files.iter().map(|file| file.path.as_str()).collect();
            (verdict, decide::compile_message(&facts, &compile.step.limits, &paths))
        });
        (judged.compile, judged.is_cached) = (Some(facts), is_cached);
        (judged.timings, judged.was_hot) = (runner.timings, runner.was_hot);
        if let Some((verdict, message)) = failure {
            return Ok(Judged { verdict, message, tests: all_skipped(&work.plan), ..judged });
        }
    }
    let mut referees = match prepare_referees(referees, work, &cancel, cache).await? {
        PreparedReferees::Ready(referees) => referees,
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
            let facts = runner.step(step, &[], io).await.map_err(LostSandbox::Submission)?;
            judged.verdict = decide::verdict(&facts);
            judged.message = decide::message(&facts, &step.limits);
            judged.run = Some(facts);
        }
        Plan::Suite(suite) => {
            let result = suite::run(&mut runner, suite, io).await.map_err(LostSandbox::Submission)?;
            (judged.verdict, judged.message) = (result.verdict, result.message.clone());
            judged.suite = Some(result);
        }
        Plan::Tests(tests) => {
            let (runner, referees) = (&mut runner, referees.as_mut_slice());
            let mut driver = TestDriver { runner, referees, log, stop: work.stop, queued: None };
            judged.tests = driver.run_all(tests).await?;
            (judged.verdict, judged.message) = overall(&judged.tests);
            judged.blame = (judged.verdict == Verdict::SystemError).then_some(Blame::Caller);
        }
    }
    judged.files = runner.collect(&work.collect).await.map_err(LostSandbox::Submission)?;
    (judged.timings, judged.was_hot) = (runner.timings, runner.was_hot);
    judged.timings.check = referees.iter().map(RefereeRunner::time_spent).sum();
    Ok(judged)
}

enum PreparedReferees<'a> {
    Ready(Vec<RefereeRunner<'a>>),
    /// One of them cannot be used; the message names it.
    Broken(String),
}

/// Compiles the referees, one after the other.
async fn prepare_referees<'a>(
    sandboxes: Vec<AssignedSandbox<'a>>,
    work: &'a Work,
    cancel: &CancelSignal,
    cache: &Cache,
) -> Result<PreparedReferees<'a>, LostSandbox> {
    let mut runners = Vec::with_capacity(sandboxes.len());
    for (index, (assigned, referee)) in sandboxes.into_iter().zip(&work.referees).enumerate() {
        let AssignedSandbox { sandbox, key } = assigned;
        let mut runner = RefereeRunner::new(sandbox, referee, cancel.clone());
        let key = key.map(|key| (cache, key));
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

fn skipped(test: &PlannedTest) -> TestResult {
    TestResult {
        name: test.name.clone(),
        group: test.group.clone(),
        verdict: Verdict::Skipped,
        message: "Not run.".to_owned(),
        weight: test.weight,
        points: None,
        feedback: None,
        transcript: None,
        run: None,
    }
}

/// The verdict and message of all tests: those of the first that is not accepted.
fn overall(results: &[TestResult]) -> (Verdict, String) {
    match results.iter().find(|result| result.verdict != Verdict::Accepted) {
        None => (Verdict::Accepted, format!("All {} tests passed.", results.len())),
        Some(first) => (first.verdict, format!("Test {}: {}", first.name, first.message)),
    }
}

/// Runs the tests of a submission in order.
struct TestDriver<'d, 'a> {
    runner: &'d mut Runner<'a>,
    referees: &'d mut [RefereeRunner<'a>],
    log: &'d EventLog,
    stop: Stop,
    /// The next test's run, if the sandbox has it already.
    queued: Option<PendingRun>,
}

impl TestDriver<'_, '_> {
    async fn run_all(&mut self, tests: &[PlannedTest]) -> Result<Vec<TestResult>, LostSandbox> {
        let mut results: Vec<TestResult> = Vec::with_capacity(tests.len());
        let mut is_stopped = false;
        for (index, test) in tests.iter().enumerate() {
            let following = &tests[index + 1..];
            self.referees.iter_mut().for_each(|referee| referee.expect_more(!following.is_empty()));
            let mut result = skipped(test);
            if *self.runner.cancel.borrow() && !is_stopped {
                if let Some(queued) = self.queued.take() {
                    // it is killed at once, since the submission is cancelled
                    let finished = self.runner.finish(queued, &test.step, RunIo::default()).await;
                    finished.map_err(LostSandbox::Submission)?;
                }
                (result.verdict, result.message) = (Verdict::Cancelled, CANCELLED.to_owned());
            } else if !is_stopped {
                self.run_test(test, following, &mut result).await?;
                self.log.append(SubmissionEvent::Test { name: test.name.clone(), verdict: result.verdict }).await;
                is_stopped = result.verdict != Verdict::Accepted && self.stop == Stop::FirstFailure;
            }
            results.push(result);
        }
        Ok(results)
    }

    async fn run_test(
        &mut self,
        test: &PlannedTest,
        following: &[PlannedTest],
        result: &mut TestResult,
    ) -> Result<(), LostSandbox> {
        let facts = match &test.checker {
            Checker::Interactor(index, args) => self.interact(test, following, (*index, args), result).await?,
            Checker::Program(index, args) => {
                let facts = self.run_program(test, following).await?;
                if decide::verdict(&facts) == Verdict::Accepted {
                    let answer = self.referees[*index].check(test, args, &facts.stdout).await;
                    match answer.map_err(|lost| LostSandbox::Referee(*index, lost))? {
                        RefereeAnswer::Decided(decided) => apply_checker_result(decided, test, result),
                        RefereeAnswer::Broken(broken) => self.apply_broken("checker", &broken, test, result),
                    }
                } else {
                    apply_run(&facts, test, result);
                }
                facts
            }
            Checker::Compare(spec) => {
                let facts = self.run_program(test, following).await?;
                match (&test.expect, decide::verdict(&facts)) {
                    (Some(expect), Verdict::Accepted) => {
                        let started = Instant::now();
                        (result.verdict, result.message) = match check(spec, expect, &facts.stdout) {
                            Comparison::Equal => (Verdict::Accepted, "The output is right.".to_owned()),
                            Comparison::Different(difference) => {
                                (Verdict::WrongAnswer, difference.message(test.secret))
                            }
                        };
                        self.runner.timings.decide += started.elapsed();
                    }
                    _ => apply_run(&facts, test, result),
                }
                facts
            }
        };
        result.run = Some(facts);
        Ok(())
    }

    /// Runs a test's program, which may be queued already, and queues the next one behind it if
    /// possible.
    async fn run_program(&mut self, test: &PlannedTest, following: &[PlannedTest]) -> Result<RunFacts, LostSandbox> {
        let pending = match self.queued.take() {
            Some(queued) => queued,
            None => {
                self.runner.more = !following.is_empty();
                self.runner.begin(&test.step, &[], test_io(self.log, test))
            }
        };
        if let Some((next, after_next)) = following.split_first()
            && self.stop == Stop::Never
            && can_queue(test, next)
        {
            self.runner.more = !after_next.is_empty();
            self.queued = Some(self.runner.begin(&next.step, &[], test_io(self.log, next)));
        }
        let finished = self.runner.finish(pending, &test.step, test_io(self.log, test)).await;
        finished.map_err(LostSandbox::Submission)
    }

    async fn interact(
        &mut self,
        test: &PlannedTest,
        following: &[PlannedTest],
        (index, args): (usize, &[String]),
        result: &mut TestResult,
    ) -> Result<RunFacts, LostSandbox> {
        let interactive = InteractiveTest { test, args, io: test_io(self.log, test) };
        self.runner.more = !following.is_empty();
        let conversation = interact(self.runner, &mut self.referees[index], interactive).await;
        let conversation = conversation.map_err(|lost| match lost {
            LostParticipant::Submission(lost) => LostSandbox::Submission(lost),
            LostParticipant::Interactor(lost) => LostSandbox::Referee(index, lost),
        })?;
        result.transcript = (!test.secret).then_some(conversation.transcript);
        match conversation.decision {
            Decision::Submission => apply_run(&conversation.facts, test, result),
            Decision::Interactor(decided) => apply_checker_result(decided, test, result),
            Decision::Broken(broken) => self.apply_broken("interactor", &broken, test, result),
        }
        Ok(conversation.facts)
    }

    /// A test whose referee failed has no verdict on its output.
    fn apply_broken(&self, role: &str, broken: &str, test: &PlannedTest, result: &mut TestResult) {
        (result.verdict, result.message) = match test.secret {
            // the cancellation killed the referee
            _ if *self.runner.cancel.borrow() => (Verdict::Cancelled, CANCELLED.to_owned()),
            // its last line of stderr may show what is expected
            true => (Verdict::SystemError, format!("The {role} failed; this is not the submission's fault.")),
            false => (Verdict::SystemError, format!("The {role} {broken}; this is not the submission's fault.")),
        };
    }
}

fn test_io<'t>(log: &'t EventLog, test: &'t PlannedTest) -> RunIo<'t> {
    RunIo { log: Some((log, Some(&test.name))), ..RunIo::default() }
}

/// Whether a test can be queued in the sandbox behind another one: no file comes or goes between
/// them, and no interactor takes part in either.
fn can_queue(test: &PlannedTest, next: &PlannedTest) -> bool {
    let is_plain = |test: &PlannedTest| test.step.files.is_empty() && !matches!(test.checker, Checker::Interactor(..));
    is_plain(test) && is_plain(next)
}

/// The run itself decides the test.
fn apply_run(facts: &RunFacts, test: &PlannedTest, result: &mut TestResult) {
    result.verdict = decide::verdict(facts);
    result.message = decide::message(facts, &test.step.limits);
}

/// A checker or interactor decides the test.
fn apply_checker_result(decided: CheckerResult, test: &PlannedTest, result: &mut TestResult) {
    let CheckerResult { verdict, points, message, feedback } = decided;
    (result.verdict, result.points, result.message) = (verdict, points, message);
    // the message for the problem author may show what is expected
    result.feedback = feedback.filter(|_| !test.secret);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_overall_verdict_is_that_of_the_first_test_that_is_not_accepted() {
        let result = |name: &str, verdict| TestResult {
            name: name.to_owned(),
            group: None,
            verdict,
            message: "m".to_owned(),
            weight: 1.0,
            points: None,
            feedback: None,
            transcript: None,
            run: None,
        };
        let all = [result("1", Verdict::Accepted), result("2", Verdict::TimeLimit), result("3", Verdict::WrongAnswer)];
        assert_eq!(overall(&all).0, Verdict::TimeLimit);
        assert_eq!(overall(&all[..1]).0, Verdict::Accepted);
    }
}
