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

use super::cache::{Cache, Key};
use super::check::{Answer, check};
use super::decide::{self, CANCELLED};
use super::events::{Event, Log};
use super::interact::{LostIn as LostInTalk, TalkEnd, talk};
use super::pipe::{Pipe, Talk};
use super::referee::Umpire;
use super::ruling::Ruling;
use super::runner::{Begun, Compiled, Ports, Runner};
pub use super::runner::{Cancel, Spent};
use super::suite::{self, SuiteResult};
use crate::model::submission::Stop;
use crate::model::work::{Checker, Plan, Test, Work};
use crate::model::{Blame, Outcome, RunFacts, Verdict};
use crate::sandbox::{Brought, Lost, Sandbox};

/// A sandbox that is to be used, and what stands for the compile step on it.
#[derive(Debug)]
pub struct Seat<'a> {
    /// The sandbox.
    pub sandbox: &'a mut Sandbox,
    /// For the cache.
    pub key: Option<Key>,
}

/// Who listens, who feeds, who may withdraw.
#[derive(Debug, Clone)]
pub struct Line<'a> {
    /// Where it is told what happens.
    pub log: &'a Log,
    /// Where input comes from that was not handed in.
    pub input: Option<&'a Pipe>,
    /// The caller's wish to withdraw.
    pub cancel: Cancel,
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
    pub transcript: Option<Talk>,
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
    pub files: Brought,
    /// Whether a runtime that had waited ran it.
    pub was_hot: bool,
    /// Where the time went.
    pub spent: Spent,
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
            files: Brought::default(),
            was_hot: false,
            spent: Spent::default(),
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
pub enum LostIn {
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
pub async fn judge(main: Seat<'_>, referees: Vec<Seat<'_>>, work: &Work, line: Line<'_>) -> Result<Judged, LostIn> {
    let of_submission = LostIn::Submission;
    let Line { log, input, cancel, cache } = line;
    log.tell(Event::Running).await;
    let Seat { sandbox, key } = main;
    let mut runner = Runner::new(sandbox, &work.profile, &work.files, work.truncate_output, cancel.clone());
    runner.prewarm = work.prewarm;
    let mut judged = Judged::bare(Verdict::Accepted, "");
    if let Some(compile) = &work.compile {
        let compiled = runner.compile(compile, key.map(|key| (cache, key))).await.map_err(of_submission)?;
        let Compiled { facts, is_cached } = compiled;
        log.tell(Event::Compile { outcome: facts.outcome }).await;
        let failed = decide::compile_verdict(&facts);
        let paths: Vec<&str> = work.files.iter().map(|file| file.path.as_str()).collect();
        let message = decide::compile_message(&facts, &compile.step.limits, &paths);
        (judged.compile, judged.is_cached, judged.spent) = (Some(facts), is_cached, runner.spent);
        judged.was_hot = runner.was_hot;
        if let Some(verdict) = failed {
            return Ok(Judged { verdict, message, tests: all_skipped(&work.plan), ..judged });
        }
    }
    let mut umpires = Vec::with_capacity(referees.len());
    for (at, (Seat { sandbox, key }, referee)) in referees.into_iter().zip(&work.referees).enumerate() {
        let mut umpire = Umpire::new(sandbox, referee, cancel.clone());
        umpire.prepare(key.map(|key| (cache, key))).await.map_err(|lost| LostIn::Referee(at, lost))?;
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
    let ports = Ports { log: Some((log, None)), input, ..Ports::default() };
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
            let mut driver = Driver { runner: &mut runner, umpires: &mut umpires, log, stop: work.stop };
            judged.tests = driver.tests(tests).await?;
            (judged.verdict, judged.message) = whole(&judged.tests);
            judged.blame = (judged.verdict == Verdict::SystemError).then_some(Blame::Caller);
        }
    }
    judged.files = runner.collect(&work.collect).await.map_err(of_submission)?;
    (judged.spent, judged.was_hot) = (runner.spent, runner.was_hot);
    judged.spent.check = umpires.iter().map(Umpire::spent).sum();
    Ok(judged)
}

/// What a referee is, for people.
fn role(work: &Work, referee: usize) -> &'static str {
    let talks = |test: &Test| matches!(&test.checker, Checker::Interactor(at, _) if *at == referee);
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

fn skipped(test: &Test) -> TestResult {
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

struct Driver<'d, 'a> {
    runner: &'d mut Runner<'a>,
    umpires: &'d mut [Umpire<'a>],
    log: &'d Log,
    stop: Stop,
}

impl Driver<'_, '_> {
    async fn tests(&mut self, tests: &[Test]) -> Result<Vec<TestResult>, LostIn> {
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
                    self.runner.finish(begun, &test.step, Ports::default()).await.map_err(LostIn::Submission)?;
                }
                result.verdict = Verdict::Cancelled;
                result.message = CANCELLED.to_owned();
            } else if !stopped {
                self.test(test, rest, &mut ahead, &mut result).await?;
                self.log.tell(Event::Test { name: test.name.clone(), verdict: result.verdict }).await;
                stopped = result.verdict != Verdict::Accepted && self.stop == Stop::FirstFailure;
            }
            results.push(result);
        }
        Ok(results)
    }

    /// Runs the test's program, which may be on its way already, and has the next one follow it where it may.
    async fn run(&mut self, test: &Test, rest: &[Test], ahead: &mut Option<Begun>) -> Result<RunFacts, LostIn> {
        fn ports<'p>(log: &'p Log, test: &'p Test) -> Ports<'p> {
            Ports { log: Some((log, Some(&test.name))), ..Ports::default() }
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
        self.runner.finish(begun, &test.step, ports(log, test)).await.map_err(LostIn::Submission)
    }

    async fn test(
        &mut self,
        test: &Test,
        rest: &[Test],
        ahead: &mut Option<Begun>,
        result: &mut TestResult,
    ) -> Result<(), LostIn> {
        let facts = match &test.checker {
            Checker::Interactor(at, args) => {
                let umpire = &mut self.umpires[*at];
                let ports = Ports { log: Some((self.log, Some(&test.name))), ..Ports::default() };
                self.runner.more = !rest.is_empty();
                let talked = talk(self.runner, umpire, test, args, ports).await.map_err(|lost| match lost {
                    LostInTalk::Submission(lost) => LostIn::Submission(lost),
                    LostInTalk::Interactor(lost) => LostIn::Referee(*at, lost),
                })?;
                result.transcript = (!test.secret).then_some(talked.transcript);
                match talked.end {
                    TalkEnd::Submission => own(&talked.facts, test, result),
                    TalkEnd::Interactor(ruling) => ruled(ruling, test, result),
                    TalkEnd::Broken(broken) => self.is_broken("interactor", &broken, test, result),
                }
                talked.facts
            }
            Checker::Program(at, args) => {
                let facts = self.run(test, rest, ahead).await?;
                match decide::verdict(&facts) {
                    Verdict::Accepted => {
                        let lost = |lost| LostIn::Referee(*at, lost);
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
                            Answer::Right => (Verdict::Accepted, "The output is right.".to_owned()),
                            Answer::Wrong(difference) => (Verdict::WrongAnswer, difference.message(test.secret)),
                        };
                        self.runner.spent.decide += begun.elapsed();
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
    fn is_broken(&self, role: &str, broken: &str, test: &Test, result: &mut TestResult) {
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
fn follows(before: &Test, next: &Test) -> bool {
    [before, next].iter().all(|test| test.step.files.is_empty() && !matches!(test.checker, Checker::Interactor(..)))
}

/// The run itself decides.
fn own(facts: &RunFacts, test: &Test, result: &mut TestResult) {
    result.verdict = decide::verdict(facts);
    result.message = decide::message(facts, &test.step.limits);
}

/// Its checker decides.
fn ruled(ruling: Ruling, test: &Test, result: &mut TestResult) {
    let Ruling { verdict, points, message, feedback } = ruling;
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
