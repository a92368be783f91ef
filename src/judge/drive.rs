//! A submission on its lease, from its files to its result. The only part of judging that decides what comes next.
//!
//! ```text
//!  compile --> ok? --no--> compile_error
//!     |yes
//!  referees compile --> one does not? --> system_error, nothing is run
//!     |
//!     v
//!  one run | suite | test 1 -> test 2 -> ... (files go with the first step)
//!     |                '-- runs well: compared, or asked of its checker; or talks with its interactor
//!     |                '-- a limit, a crash, a wrong answer: a verdict, and on with the next (or stop)
//!     |                    (the next is in the sandbox already, where nothing of this one's end matters to it)
//!     '-- a sandbox is lost: Err, the scheduler decides whether once more
//! ```

use std::time::Instant;

use super::cache::{Cache, CacheKey};
use super::check::{Comparison, check};
use super::decide::{self, CANCELLED};
use super::events::{EventLog, SubmissionEvent};
use super::interact::{ConversationEnd, LostParticipant, talk};
use super::pipe::{Pipe, Transcript};
use super::referee::RefereeRunner;
use super::ruling::CheckerResult;
pub use super::runner::{CancelSignal, Timings};
use super::runner::{CompileResult, PendingRun, RunIo, Runner};
use super::suite::{self, SuiteResult};
use crate::work::{Checker, Plan, PlannedTest, Work};
use protocol::submission::Stop;
use protocol::{Blame, Outcome, RunFacts, Verdict};
use sandbox::lifecycle::{CollectedFiles, Lost, Sandbox};

/// A sandbox that is to be used, and what stands for the compile step on it.
#[derive(Debug)]
pub struct AssignedSandbox<'a> {
    /// The sandbox.
    pub sandbox: &'a mut Sandbox,
    /// For the cache.
    pub key: Option<CacheKey>,
}

/// Speaker listens, who feeds, who may withdraw.
#[derive(Debug, Clone)]
pub struct RunContext<'a> {
    /// Where it is told what happens.
    pub log: &'a EventLog,
    /// Where input comes from that was not handed in.
    pub input: Option<&'a Pipe>,
    /// The caller's wish to withdraw.
    pub cancel: CancelSignal,
    /// What was compiled before.
    pub cache: &'a Cache,
}

/// One test's result.
#[derive(Debug, Clone, PartialEq)]
pub struct TestResult {
    /// Its name.
    pub name: String,
    /// Its group.
    pub group: Option<String>,
    /// Its verdict.
    pub verdict: Verdict,
    /// For people.
    pub message: String,
    /// Its weight.
    pub weight: f64,
    /// Points that a checker gave; else the weight, when it is accepted.
    pub points: Option<f64>,
    /// What a checker says to who wrote the problem.
    pub feedback: Option<String>,
    /// What was said in an interactive test.
    pub transcript: Option<Transcript>,
    /// Its run; none when it was skipped.
    pub run: Option<RunFacts>,
}

/// A submission's result, before it becomes a report.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// The verdict of the whole.
    pub verdict: Verdict,
    /// For people.
    pub message: String,
    /// Whose fault, when it is not the submission's.
    pub blame: Option<Blame>,
    /// The compile step.
    pub compile: Option<RunFacts>,
    /// Whether it was one of before.
    pub is_cached: bool,
    /// The tests.
    pub tests: Vec<TestResult>,
    /// The run, when there were no tests.
    pub run: Option<RunFacts>,
    /// What came of the test files.
    pub suite: Option<SuiteResult>,
    /// Files brought back.
    pub files: CollectedFiles,
    /// Whether a runtime that had waited ran it.
    pub was_hot: bool,
    /// Where the time went.
    pub timings: Timings,
}

impl Judged {
    /// A verdict of which nothing else is known.
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

    /// Whether nothing happened after which a sandbox is better not used again, however it looks.
    pub fn is_calm(&self) -> bool {
        let suite = self.suite.iter().map(|suite| &suite.run);
        let runs = self.compile.iter().chain(&self.run).chain(suite);
        let runs = runs.chain(self.tests.iter().filter_map(|test| test.run.as_ref()));
        let rough = [Outcome::MemoryLimit, Outcome::Cancelled, Outcome::Lost];
        runs.into_iter().all(|run| !rough.contains(&run.outcome) && run.evidence.oom_kills == 0)
    }
}

/// Which sandbox was lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LostSandbox {
    /// The submission's.
    Submission(Lost),
    /// That of one of the programs that judge.
    Referee(usize, Lost),
}

/// Judges. The referees' seats are in the order of the work's referees.
///
/// Dropping the future kills the program (the run handle does) and the sandbox is retired with its lease.
///
/// # Errors
/// A sandbox was lost.
pub async fn judge(
    main: AssignedSandbox<'_>,
    referees: Vec<AssignedSandbox<'_>>,
    work: &Work,
    line: RunContext<'_>,
) -> Result<Judged, LostSandbox> {
    let of_submission = LostSandbox::Submission;
    let RunContext { log, input, cancel, cache } = line;
    log.tell(SubmissionEvent::Running).await;
    let AssignedSandbox { sandbox, key } = main;
    let mut runner = Runner::new(sandbox, &work.profile, &work.files, work.truncate_output, cancel.clone());
    runner.prewarm = work.prewarm;
    let mut judged = Judged::bare(Verdict::Accepted, "");
    if let Some(compile) = &work.compile {
        let compiled = runner.compile(compile, key.map(|key| (cache, key))).await.map_err(of_submission)?;
        let CompileResult { facts, is_cached } = compiled;
        log.tell(SubmissionEvent::Compile { outcome: facts.outcome }).await;
        let failed = decide::compile_verdict(&facts);
        let paths: Vec<&str> = work.files.iter().map(|file| file.path.as_str()).collect();
        let message = decide::compile_message(&facts, &compile.step.limits, &paths);
        (judged.compile, judged.is_cached, judged.timings) = (Some(facts), is_cached, runner.timings);
        judged.was_hot = runner.was_hot;
        if let Some(verdict) = failed {
            return Ok(Judged { verdict, message, tests: all_skipped(&work.plan), ..judged });
        }
    }
    let mut umpires = Vec::with_capacity(referees.len());
    for (at, (AssignedSandbox { sandbox, key }, referee)) in referees.into_iter().zip(&work.referees).enumerate() {
        let mut umpire = RefereeRunner::new(sandbox, referee, cancel.clone());
        umpire.prepare(key.map(|key| (cache, key))).await.map_err(|lost| LostSandbox::Referee(at, lost))?;
        if let Some(broken) = umpire.broken() {
            if *cancel.borrow() {
                return Ok(Judged { tests: all_skipped(&work.plan), ..Judged::bare(Verdict::Cancelled, CANCELLED) });
            }
            let message = format!("The {} {broken}", role(work, at));
            let (verdict, blame, tests) = (Verdict::SystemError, Some(Blame::Caller), all_skipped(&work.plan));
            return Ok(Judged { verdict, message, blame, tests, ..judged });
        }
        umpires.push(umpire);
    }
    let ports = RunIo { log: Some((log, None)), input, ..RunIo::default() };
    match &work.plan {
        Plan::Run(step) => {
            let facts = runner.step(step, &[], ports).await.map_err(of_submission)?;
            judged.verdict = decide::verdict(&facts);
            judged.message = decide::message(&facts, &step.limits);
            judged.run = Some(facts);
        }
        Plan::Suite(suite) => {
            let result = suite::run(&mut runner, suite, ports).await.map_err(of_submission)?;
            (judged.verdict, judged.message) = (result.verdict, result.message.clone());
            judged.suite = Some(result);
        }
        Plan::Tests(tests) => {
            let mut driver = TestDriver { runner: &mut runner, umpires: &mut umpires, log, stop: work.stop };
            judged.tests = driver.tests(tests).await?;
            (judged.verdict, judged.message) = whole(&judged.tests);
            judged.blame = (judged.verdict == Verdict::SystemError).then_some(Blame::Caller);
        }
    }
    judged.files = runner.collect(&work.collect).await.map_err(of_submission)?;
    (judged.timings, judged.was_hot) = (runner.timings, runner.was_hot);
    judged.timings.check = umpires.iter().map(RefereeRunner::spent).sum();
    Ok(judged)
}

/// What a referee is, for people.
fn role(work: &Work, referee: usize) -> &'static str {
    let talks = |test: &PlannedTest| matches!(&test.checker, Checker::Interactor(at, _) if *at == referee);
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

/// The whole is the first test that is not accepted.
fn whole(results: &[TestResult]) -> (Verdict, String) {
    match results.iter().find(|result| result.verdict != Verdict::Accepted) {
        None => (Verdict::Accepted, format!("All {} tests passed.", results.len())),
        Some(first) => (first.verdict, format!("Test {}: {}", first.name, first.message)),
    }
}

struct TestDriver<'d, 'a> {
    runner: &'d mut Runner<'a>,
    umpires: &'d mut [RefereeRunner<'a>],
    log: &'d EventLog,
    stop: Stop,
}

impl TestDriver<'_, '_> {
    async fn tests(&mut self, tests: &[PlannedTest]) -> Result<Vec<TestResult>, LostSandbox> {
        let mut results: Vec<TestResult> = Vec::with_capacity(tests.len());
        let mut stopped = false;
        let mut ahead = None;
        for (at, test) in tests.iter().enumerate() {
            let mut result = skipped(test);
            let rest = &tests[at + 1..];
            self.umpires.iter_mut().for_each(|umpire| umpire.expect_more(!rest.is_empty()));
            if *self.runner.cancel.borrow() && !stopped {
                if let Some(begun) = ahead.take() {
                    // it is ended at once
                    self.runner.finish(begun, &test.step, RunIo::default()).await.map_err(LostSandbox::Submission)?;
                }
                result.verdict = Verdict::Cancelled;
                result.message = CANCELLED.to_owned();
            } else if !stopped {
                self.test(test, rest, &mut ahead, &mut result).await?;
                self.log.tell(SubmissionEvent::Test { name: test.name.clone(), verdict: result.verdict }).await;
                stopped = result.verdict != Verdict::Accepted && self.stop == Stop::FirstFailure;
            }
            results.push(result);
        }
        Ok(results)
    }

    /// Runs the test's program, which may be on its way already, and has the next one follow it where it may.
    async fn run(
        &mut self,
        test: &PlannedTest,
        rest: &[PlannedTest],
        ahead: &mut Option<PendingRun>,
    ) -> Result<RunFacts, LostSandbox> {
        fn ports<'p>(log: &'p EventLog, test: &'p PlannedTest) -> RunIo<'p> {
            RunIo { log: Some((log, Some(&test.name))), ..RunIo::default() }
        }
        let log = self.log;
        let begun = match ahead.take() {
            Some(begun) => begun,
            None => {
                self.runner.more = !rest.is_empty();
                self.runner.begin(&test.step, &[], ports(log, test))
            }
        };
        if let Some((next, others)) = rest.split_first()
            && self.stop == Stop::Never
            && follows(test, next)
        {
            self.runner.more = !others.is_empty();
            *ahead = Some(self.runner.begin(&next.step, &[], ports(log, next)));
        }
        self.runner.finish(begun, &test.step, ports(log, test)).await.map_err(LostSandbox::Submission)
    }

    async fn test(
        &mut self,
        test: &PlannedTest,
        rest: &[PlannedTest],
        ahead: &mut Option<PendingRun>,
        result: &mut TestResult,
    ) -> Result<(), LostSandbox> {
        let facts = match &test.checker {
            Checker::Interactor(at, args) => {
                let umpire = &mut self.umpires[*at];
                let ports = RunIo { log: Some((self.log, Some(&test.name))), ..RunIo::default() };
                self.runner.more = !rest.is_empty();
                let talked = talk(self.runner, umpire, test, args, ports).await.map_err(|lost| match lost {
                    LostParticipant::Submission(lost) => LostSandbox::Submission(lost),
                    LostParticipant::Interactor(lost) => LostSandbox::Referee(*at, lost),
                })?;
                result.transcript = (!test.secret).then_some(talked.transcript);
                match talked.end {
                    ConversationEnd::Submission => own(&talked.facts, test, result),
                    ConversationEnd::Interactor(ruling) => ruled(ruling, test, result),
                    ConversationEnd::Broken(broken) => self.is_broken("interactor", &broken, test, result),
                }
                talked.facts
            }
            Checker::Program(at, args) => {
                let facts = self.run(test, rest, ahead).await?;
                match decide::verdict(&facts) {
                    Verdict::Accepted => {
                        let lost = |lost| LostSandbox::Referee(*at, lost);
                        match self.umpires[*at].check(test, args, &facts.stdout).await.map_err(lost)? {
                            Ok(ruling) => ruled(ruling, test, result),
                            Err(broken) => self.is_broken("checker", &broken, test, result),
                        }
                    }
                    _ => own(&facts, test, result),
                }
                facts
            }
            Checker::Compare(spec) => {
                let facts = self.run(test, rest, ahead).await?;
                match (&test.expect, decide::verdict(&facts)) {
                    (Some(expect), Verdict::Accepted) => {
                        let begun = Instant::now();
                        (result.verdict, result.message) = match check(spec, expect, &facts.stdout) {
                            Comparison::Right => (Verdict::Accepted, "The output is right.".to_owned()),
                            Comparison::Wrong(difference) => (Verdict::WrongAnswer, difference.message(test.secret)),
                        };
                        self.runner.timings.decide += begun.elapsed();
                    }
                    _ => own(&facts, test, result),
                }
                facts
            }
        };
        result.run = Some(facts);
        Ok(())
    }

    /// A program that judges is broken: nobody knows what the output is worth.
    fn is_broken(&self, role: &str, broken: &str, test: &PlannedTest, result: &mut TestResult) {
        (result.verdict, result.message) = match test.secret {
            // it was ended, and said nothing
            _ if *self.runner.cancel.borrow() => (Verdict::Cancelled, CANCELLED.to_owned()),
            // its last words may hold what is expected
            true => (Verdict::SystemError, format!("The {role} failed; this is not the submission's fault.")),
            false => (Verdict::SystemError, format!("The {role} {broken}; this is not the submission's fault.")),
        };
    }
}

/// Whether a test may begin when the one before it ends, whatever came of that: no file comes or goes in between, and nobody else
/// has a part in either.
fn follows(before: &PlannedTest, next: &PlannedTest) -> bool {
    [before, next].iter().all(|test| test.step.files.is_empty() && !matches!(test.checker, Checker::Interactor(..)))
}

/// The run itself decides.
fn own(facts: &RunFacts, test: &PlannedTest, result: &mut TestResult) {
    result.verdict = decide::verdict(facts);
    result.message = decide::message(facts, &test.step.limits);
}

/// Its checker decides.
fn ruled(ruling: CheckerResult, test: &PlannedTest, result: &mut TestResult) {
    let CheckerResult { verdict, points, message, feedback } = ruling;
    (result.verdict, result.points, result.message) = (verdict, points, message);
    // what is said to who wrote the problem may hold what is expected
    result.feedback = feedback.filter(|_| !test.secret);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_is_the_first_test_that_is_not_accepted() {
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
        assert_eq!(whole(&all).0, Verdict::TimeLimit);
        assert_eq!(whole(&all[..1]).0, Verdict::Accepted);
    }
}
