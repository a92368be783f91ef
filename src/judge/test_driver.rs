//! Runs tests on one sandbox, one after the other, and judges each.
//!
//! ```text
//!  program --ends well--> compared, or given to its checker; or an interactive test
//!     |                   (the next test is queued already, if it does not depend on this one)
//!     '--limit, crash--> a verdict
//! ```

use std::time::Instant;

use bytes::Bytes;
use tokio::sync::{Mutex, MutexGuard};

use super::cancel::CancelSignal;
use super::check::{Comparison, check};
use super::checker_result::CheckerResult;
use super::compute;
use super::decide::{self, CANCELLED};
use super::events::{EventLog, SubmissionEvent};
use super::interact::{Decision, InteractiveTest, LostParticipant, interact};
use super::outputs::TestOutputs;
use super::referee::{RefereeAnswer, RefereeRunner};
use super::results::{LostSandbox, TestResult, skipped};
use super::runner::{PendingRun, Runner};
use super::supervise::RunIo;
use crate::work::{Checker, PlannedTest, Work};
use protocol::submission::{CheckerSpec, Stop};
use protocol::{RunFacts, Verdict};

/// A referee that the sandboxes of a submission share.
pub(super) type SharedReferee<'a> = Mutex<RefereeRunner<'a>>;

/// Runs tests of a submission on one sandbox.
pub(super) struct TestDriver<'d, 'a, 'r> {
    pub runner: &'d mut Runner<'a>,
    pub referees: &'d [SharedReferee<'r>],
    /// Takes the output of a test while it runs.
    pub log: Option<&'d EventLog>,
    /// Whether this sandbox may run more tests than it was told of.
    pub expects_more: bool,
    stop: Stop,
    /// How often a test may be run.
    passes: u32,
    /// The submission's own signal; the runner's may be for one test.
    cancel: CancelSignal,
    /// The next test's run, if the sandbox has it already.
    queued: Option<PendingRun>,
}

impl<'d, 'a, 'r> TestDriver<'d, 'a, 'r> {
    pub fn new(
        runner: &'d mut Runner<'a>,
        referees: &'d [SharedReferee<'r>],
        work: &Work,
        cancel: CancelSignal,
    ) -> TestDriver<'d, 'a, 'r> {
        let Work { stop, passes, .. } = *work;
        TestDriver { runner, referees, log: None, expects_more: false, stop, passes, cancel, queued: None }
    }

    /// Runs the tests in order. Also returns what is finished when a sandbox is lost.
    pub async fn run_all(
        &mut self,
        tests: &[PlannedTest],
        outputs: &TestOutputs,
    ) -> Result<Vec<TestResult>, (LostSandbox, Vec<TestResult>)> {
        let mut results = Vec::with_capacity(tests.len());
        match self.run_into(tests, outputs, &mut results).await {
            Ok(()) => Ok(results),
            Err(lost) => Err((lost, results)),
        }
    }

    async fn run_into(
        &mut self,
        tests: &[PlannedTest],
        outputs: &TestOutputs,
        results: &mut Vec<TestResult>,
    ) -> Result<(), LostSandbox> {
        let mut is_stopped = false;
        for (index, test) in tests.iter().enumerate() {
            let following = &tests[index + 1..];
            let more = !following.is_empty() || self.passes > 1;
            for referee in self.referees {
                referee.lock().await.expect_more(more);
            }
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
                outputs.settle(&mut result, false);
                if let Some(log) = self.log {
                    log.append(SubmissionEvent::Test { name: test.name.clone(), verdict: result.verdict }).await;
                }
                is_stopped = result.verdict != Verdict::Accepted && self.stop == Stop::FirstFailure;
            }
            results.push(result);
        }
        Ok(())
    }

    /// Runs one test. `following` are those that this sandbox runs next.
    pub async fn run_test(
        &mut self,
        test: &PlannedTest,
        following: &[PlannedTest],
        result: &mut TestResult,
    ) -> Result<(), LostSandbox> {
        let facts = match &test.checker {
            Checker::Static(index, args) => {
                let answer = self.referee(*index).await.check_code(test, args).await;
                match answer.map_err(|lost| LostSandbox::Referee(*index, lost))? {
                    RefereeAnswer::Decided(decided) => apply_checker_result(decided, test, result),
                    RefereeAnswer::Broken(broken) => self.apply_broken("static validator", &broken, test, result),
                    RefereeAnswer::Again(_) => {
                        self.apply_broken("static validator", "left nextpass.in", test, result);
                    }
                }
                return Ok(());
            }
            Checker::Interactor(index, args) | Checker::Program(index, args) => {
                self.run_passes(test, following, (*index, args), result).await?
            }
            Checker::Compare(spec) => {
                let facts = self.run_program(test, following).await?;
                match (&test.expect, decide::verdict(&facts)) {
                    (Some(_), Verdict::Accepted) if facts.stdout_truncated => apply_truncated(&facts, test, result),
                    (Some(expect), Verdict::Accepted) => {
                        let started = Instant::now();
                        (result.verdict, result.message) = match compare(spec, expect, &facts.stdout) {
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

    /// Runs a test that a referee judges, as often as the referee asks for. The facts are those of
    /// the run that failed, or of the one that used the most CPU time.
    async fn run_passes(
        &mut self,
        test: &PlannedTest,
        following: &[PlannedTest],
        (index, args): (usize, &[String]),
        result: &mut TestResult,
    ) -> Result<RunFacts, LostSandbox> {
        self.referee(index).await.begin_test();
        let mut facts = self.run_pass(test, following, (index, args), result).await?;
        if self.passes == 1 {
            return Ok(facts.0);
        }
        let mut pass = 1;
        while let Some(input) = facts.1.take() {
            pass += 1;
            if pass > self.passes {
                let broken = format!("wants more than {} passes", self.passes);
                self.apply_broken("checker", &broken, test, result);
                break;
            }
            let mut again = test.clone();
            again.step.stdin = input;
            let (next, input) = self.run_pass(&again, following, (index, args), result).await?;
            let is_slower = next.cpu >= facts.0.cpu || result.verdict != Verdict::Accepted;
            facts = (if is_slower { next } else { facts.0 }, input);
        }
        result.passes = Some(pass.min(self.passes));
        Ok(facts.0)
    }

    /// One run of a test that a referee judges, and the input of the next run if there is one.
    async fn run_pass(
        &mut self,
        test: &PlannedTest,
        following: &[PlannedTest],
        (index, args): (usize, &[String]),
        result: &mut TestResult,
    ) -> Result<(RunFacts, Option<Bytes>), LostSandbox> {
        if matches!(test.checker, Checker::Interactor(..)) {
            return self.interact(test, following, (index, args), result).await;
        }
        let facts = self.run_program(test, following).await?;
        if facts.stdout_truncated {
            apply_truncated(&facts, test, result);
        } else if decide::verdict(&facts) == Verdict::Accepted {
            let answer = self.referee(index).await.check(test, args, &facts.stdout).await;
            match answer.map_err(|lost| LostSandbox::Referee(index, lost))? {
                RefereeAnswer::Decided(decided) => apply_checker_result(decided, test, result),
                RefereeAnswer::Again(input) => return Ok((facts, Some(input))),
                RefereeAnswer::Broken(broken) => self.apply_broken("checker", &broken, test, result),
            }
        } else {
            apply_run(&facts, test, result);
        }
        Ok((facts, None))
    }

    /// Runs a test's program, which may be queued already, and queues the next one behind it if
    /// possible.
    async fn run_program(&mut self, test: &PlannedTest, following: &[PlannedTest]) -> Result<RunFacts, LostSandbox> {
        let pending = match self.queued.take() {
            Some(queued) => queued,
            None => {
                self.runner.more = self.has_more(following);
                self.runner.begin(&test.step, &[], test_io(self.log, test))
            }
        };
        if let Some((next, after_next)) = following.split_first()
            && self.stop == Stop::Never
            && self.passes == 1
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
    ) -> Result<(RunFacts, Option<Bytes>), LostSandbox> {
        let interactive = InteractiveTest { test, args, io: test_io(self.log, test) };
        self.runner.more = self.has_more(following);
        let mut referee = self.referees[index].lock().await;
        let conversation = interact(self.runner, &mut referee, interactive).await;
        let conversation = conversation.map_err(|lost| match lost {
            LostParticipant::Submission(lost) => LostSandbox::Submission(lost),
            LostParticipant::Interactor(lost) => LostSandbox::Referee(index, lost),
        })?;
        result.transcript = (!test.secret).then_some(conversation.transcript);
        match conversation.decision {
            Decision::Submission => {
                apply_run(&conversation.facts, test, result);
                if conversation.facts.evidence.limit.as_deref() == Some("wall_ms") {
                    result.message += " Does the program flush its output after each line?";
                }
            }
            Decision::Interactor(decided) => apply_checker_result(decided, test, result),
            Decision::Again(input) => return Ok((conversation.facts, Some(input))),
            Decision::Broken(broken) => self.apply_broken("interactor", &broken, test, result),
        }
        Ok((conversation.facts, None))
    }

    async fn referee(&self, index: usize) -> MutexGuard<'d, RefereeRunner<'r>> {
        self.referees[index].lock().await
    }

    /// Whether another run follows the next one.
    fn has_more(&self, following: &[PlannedTest]) -> bool {
        !following.is_empty() || self.passes > 1 || self.expects_more
    }

    /// A test whose referee failed has no verdict on its output.
    fn apply_broken(&self, role: &str, broken: &str, test: &PlannedTest, result: &mut TestResult) {
        (result.verdict, result.message) = match test.secret {
            // the cancellation killed the referee
            _ if *self.cancel.borrow() => (Verdict::Cancelled, CANCELLED.to_owned()),
            // its last line of stderr may show what is expected
            true => (Verdict::SystemError, format!("The {role} failed; this is not the submission's fault.")),
            false => (Verdict::SystemError, format!("The {role} {broken}; this is not the submission's fault.")),
        };
    }
}

fn compare(spec: &CheckerSpec, expected: &[u8], got: &[u8]) -> Comparison {
    compute::on_bytes(expected.len() + got.len(), || check(spec, expected, got))
}

fn test_io<'t>(log: Option<&'t EventLog>, test: &'t PlannedTest) -> RunIo<'t> {
    RunIo { log: log.map(|log| (log, Some(test.name.as_str()))), ..RunIo::default() }
}

/// Whether a test can be queued in the sandbox behind another one: no file comes or goes between
/// them, and no interactor takes part in either.
fn can_queue(test: &PlannedTest, next: &PlannedTest) -> bool {
    let is_plain = |test: &PlannedTest| {
        test.step.files.is_empty() && !matches!(test.checker, Checker::Interactor(..) | Checker::Static(..))
    };
    is_plain(test) && is_plain(next)
}

/// The run itself decides the test.
fn apply_run(facts: &RunFacts, test: &PlannedTest, result: &mut TestResult) {
    result.verdict = decide::verdict(facts);
    let message = if test.secret { decide::secret_message } else { decide::message };
    result.message = message(facts, &test.step.limits);
}

/// A run whose output was cut off: a part of it cannot be judged for the whole.
fn apply_truncated(facts: &RunFacts, test: &PlannedTest, result: &mut TestResult) {
    apply_run(facts, test, result);
    if result.verdict == Verdict::Accepted {
        (result.verdict, result.message) = (Verdict::OutputLimit, decide::truncated_message(&test.step.limits));
    }
}

/// A checker or interactor decides the test.
fn apply_checker_result(decided: CheckerResult, test: &PlannedTest, result: &mut TestResult) {
    let CheckerResult { verdict, points, message, feedback } = decided;
    (result.verdict, result.points, result.message) = (verdict, points, message);
    // the message for the problem author may show what is expected
    result.feedback = feedback.filter(|_| !test.secret);
}
