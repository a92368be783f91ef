//! Runs the tests of a submission on several sandboxes at the same time.
//!
//! ```text
//!   own sandbox    --claim--> test 1 --------------> test 4 --> ...   until nothing waits
//!   further one    --claim--> test 2 --> test 3 --> ...               or others wait for it
//!                                 '-- lost: its test goes back, to the own sandbox
//! ```
//!
//! Further sandboxes are taken when they are free, at the start and whenever a test has ended. The
//! program is compiled once. What callers see is what they would see of tests that run one after
//! the other (`test_schedule`): output of a test whose turn has not come follows when it has ended.

use std::collections::BTreeMap;
use std::pin::Pin;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, Notify, watch};

use super::cancel::{CancelSignal, cancelled};
use super::decide::CANCELLED;
use super::events::{EventLog, SubmissionEvent};
use super::extra::ExtraSandboxes;
use super::outputs::TestOutputs;
use super::results::{LostSandbox, TestResult, forbids_reuse, skipped};
use super::runner::{Runner, SharedProgram, Timings};
use super::supervise::begun_character;
use super::test_driver::{SharedReferee, TestDriver};
use super::test_schedule::{EndedTest, TestSchedule};
use crate::work::{Checker, Plan, PlannedTest, Work};
use config::bounds;
use protocol::{Outcome, Verdict};
use wire::frame::{MAX_CHUNK_BYTES, OutputStream};

/// On how many sandboxes at most the tests of a submission run. Tests that need the order run one
/// after the other: an interactor is one process for all of them, the files to collect are those of
/// the last one, and a pass follows the one before. Together they may write no more than
/// [`bounds::MAX_RUNNING_OUTPUT_BYTES`].
pub(super) fn most_sandboxes(work: &Work) -> usize {
    let Plan::Tests(tests) = &work.plan else { return 1 };
    let is_interactive = |test: &PlannedTest| matches!(test.checker, Checker::Interactor(..));
    if work.passes > 1 || !work.collect.is_empty() || tests.iter().any(is_interactive) {
        return 1;
    }
    let largest = tests.iter().map(|test| test.step.limits.output_bytes).max().unwrap_or_default();
    let most = (bounds::MAX_RUNNING_OUTPUT_BYTES / largest.max(1)).min(u64::from(work.parallel)) as usize;
    most.min(tests.len()).max(1)
}

/// What ends a submission's tests early, with the results before it.
type Interrupted = (LostSandbox, Vec<TestResult>);

/// Runs the tests on the runner's sandbox and on up to `most - 1` further ones.
pub(super) async fn run(
    runner: &mut Runner<'_>,
    referees: &[SharedReferee<'_>],
    work: &Work,
    tests: &[PlannedTest],
    outputs: &TestOutputs,
    (log, extras, most): (&EventLog, &dyn ExtraSandboxes, usize),
) -> Result<Vec<TestResult>, Interrupted> {
    let cancel = runner.cancel.clone();
    let Some(program) = runner.program() else {
        let mut driver = TestDriver::new(runner, referees, work, cancel);
        driver.log = Some(log);
        return driver.run_all(tests, outputs).await;
    };
    for referee in referees {
        referee.lock().await.expect_more(true);
    }
    let shared = ParallelTests {
        tests,
        referees,
        work,
        outputs,
        log,
        extras,
        program,
        cancel,
        schedule: Mutex::new(TestSchedule::new(tests.len(), work.stop)),
        kill: Mutex::default(),
        announcing: AsyncMutex::default(),
        progress: Notify::new(),
    };
    let mut others = Others { most: most - 1, count: 0, may_take: true, timings: Timings::default(), was_hot: false };
    let mut lost = None;
    // repeated for tests whose sandbox was lost after the own one had run out of tests
    while lost.is_none() && !shared.schedule.lock().is_complete() {
        lost = shared.round(runner, &mut others).await;
    }
    runner.cancel = shared.cancel;
    runner.timings.add(&others.timings);
    runner.was_hot |= others.was_hot;
    let schedule = shared.schedule.into_inner();
    match lost {
        Some(lost) if lost.is_decisive || !schedule.is_complete() => Err((lost.sandbox, schedule.into_results())),
        _ => {
            let mut results = schedule.into_results();
            results.extend(tests.iter().skip(results.len()).map(skipped).collect::<Vec<_>>());
            Ok(results)
        }
    }
}

/// What the workers of one submission share: a worker runs tests on one sandbox.
struct ParallelTests<'c, 'r> {
    tests: &'c [PlannedTest],
    referees: &'c [SharedReferee<'r>],
    work: &'c Work,
    outputs: &'c TestOutputs,
    log: &'c EventLog,
    extras: &'c dyn ExtraSandboxes,
    program: SharedProgram<'c>,
    /// The cancellation of the submission.
    cancel: CancelSignal,
    schedule: Mutex<TestSchedule>,
    /// Kills the tests that are running.
    kill: Mutex<BTreeMap<usize, watch::Sender<bool>>>,
    /// Held by the one that announces what has ended.
    announcing: AsyncMutex<()>,
    /// Notified when a test has ended.
    progress: Notify,
}

/// The further sandboxes of a submission.
struct Others {
    most: usize,
    /// How many are in use.
    count: usize,
    /// False once one was lost.
    may_take: bool,
    timings: Timings,
    was_hot: bool,
}

/// The loss of a sandbox whose tests cannot be run elsewhere.
struct Loss {
    sandbox: LostSandbox,
    /// Whether it ends the submission even if every needed result is there.
    is_decisive: bool,
}

/// How a worker ended.
enum WorkerEnd {
    /// No further sandbox was free.
    NotFree,
    Own(Result<(), (LostSandbox, usize)>),
    Further(Result<(Timings, bool), (LostSandbox, usize)>),
}

impl<'c> ParallelTests<'c, '_> {
    /// Runs tests until no sandbox has one to run. Returns the loss that ended it.
    async fn round(&self, runner: &mut Runner<'_>, others: &mut Others) -> Option<Loss> {
        let mut cancel = self.cancel.clone();
        let mut workers: FuturesUnordered<Pin<Box<dyn Future<Output = WorkerEnd> + Send + '_>>> =
            FuturesUnordered::new();
        workers.push(Box::pin(async { WorkerEnd::Own(self.own(runner).await) }));
        let (mut lost, mut is_cancelled, mut is_worth_trying) = (None, false, true);
        while !workers.is_empty() {
            while is_worth_trying && others.may_take && others.count < others.most && self.schedule.lock().has_waiting()
            {
                others.count += 1;
                workers.push(Box::pin(self.further()));
                // `further` says when it has found one: then the next may be tried
                is_worth_trying = false;
            }
            tokio::select! {
                biased;
                () = cancelled(&mut cancel), if !is_cancelled => {
                    is_cancelled = true;
                    self.kill_if(|_| true);
                }
                () = self.progress.notified() => is_worth_trying = true,
                Some(end) = workers.next() => match end {
                    WorkerEnd::NotFree => others.count -= 1,
                    WorkerEnd::Own(Ok(())) => {}
                    WorkerEnd::Further(Ok((timings, was_hot))) => {
                        others.count -= 1;
                        others.timings.add(&timings);
                        others.was_hot |= was_hot;
                    }
                    WorkerEnd::Further(Err((LostSandbox::Submission(_), test))) => {
                        others.count -= 1;
                        others.may_take = false;
                        self.schedule.lock().give_back(test);
                    }
                    WorkerEnd::Own(Err((sandbox @ LostSandbox::Submission(_), test))) => {
                        let is_decisive = self.schedule.lock().is_needed(test);
                        self.schedule.lock().need_only(test);
                        self.kill_unneeded();
                        lost = Some(Loss { sandbox, is_decisive });
                    }
                    WorkerEnd::Own(Err((sandbox, _))) | WorkerEnd::Further(Err((sandbox, _))) => {
                        return Some(Loss { sandbox, is_decisive: true });
                    }
                },
            }
        }
        lost
    }

    /// Runs tests on the submission's own sandbox.
    async fn own(&self, runner: &mut Runner<'_>) -> Result<(), (LostSandbox, usize)> {
        let mut driver = TestDriver::new(runner, self.referees, self.work, self.cancel.clone());
        self.run_tests(&mut driver, true).await.map(drop)
    }

    /// Runs tests on a further sandbox, if one is free.
    async fn further(&self) -> WorkerEnd {
        let Some(mut extra) = self.extras.take().await else { return WorkerEnd::NotFree };
        // another one may be free, too
        self.progress.notify_one();
        let mut runner = self.program.on(extra.sandbox(), &self.work.files, self.cancel.clone());
        let mut driver = TestDriver::new(&mut runner, self.referees, self.work, self.cancel.clone());
        let result = self.run_tests(&mut driver, false).await;
        let (timings, was_hot) = (runner.timings, runner.was_hot);
        match &result {
            Ok(may_serve_again) => extra.finish(*may_serve_again),
            Err((LostSandbox::Submission(lost), _)) => extra.lost(lost),
            Err((LostSandbox::Referee(..), _)) => extra.finish(false),
        }
        WorkerEnd::Further(result.map(|_| (timings, was_hot)))
    }

    /// Runs tests on one sandbox until none waits, or others need a further one. Returns whether
    /// the sandbox may serve again.
    async fn run_tests<'d>(
        &self,
        driver: &mut TestDriver<'d, '_, '_>,
        is_own: bool,
    ) -> Result<bool, (LostSandbox, usize)>
    where
        'c: 'd,
    {
        let mut may_serve_again = true;
        while is_own || !self.extras.others_wait() {
            let Some(index) = self.schedule.lock().claim(is_own) else { break };
            let test = &self.tests[index];
            let mut result = skipped(test);
            if *self.cancel.borrow() {
                (result.verdict, result.message) = (Verdict::Cancelled, CANCELLED.to_owned());
                self.schedule.lock().end(index, EndedTest { result, was_live: false, was_run: false });
                continue;
            }
            let was_live = self.schedule.lock().is_next_known(index);
            driver.log = was_live.then_some(self.log);
            driver.expects_more = self.schedule.lock().has_waiting();
            let kill = watch::Sender::new(false);
            driver.runner.cancel = kill.subscribe();
            self.kill.lock().insert(index, kill);
            let run = driver.run_test(test, &[], &mut result).await;
            self.kill.lock().remove(&index);
            run.map_err(|lost| (lost, index))?;
            // a run that was killed because its result is not needed ended as at a time limit
            let is_unneeded = |outcome| outcome == Outcome::Cancelled && !*self.cancel.borrow();
            may_serve_again &= !result.run.as_ref().is_some_and(|run| forbids_reuse(run) && !is_unneeded(run.outcome));
            self.end(index, EndedTest { result, was_live, was_run: true }).await;
        }
        Ok(may_serve_again)
    }

    /// Records a test's result, and announces what becomes known by it.
    async fn end(&self, index: usize, mut ended: EndedTest) {
        self.outputs.set_aside(&mut ended.result);
        self.schedule.lock().end(index, ended);
        self.kill_unneeded();
        self.progress.notify_one();
        let _announcing = self.announcing.lock().await;
        loop {
            let events = match self.schedule.lock().announce() {
                Some((_, ended)) => {
                    let events = events(ended, self.log.keeps_output());
                    self.outputs.settle(&mut ended.result, true);
                    events
                }
                None => break,
            };
            for event in events {
                self.log.append(event).await;
            }
        }
    }

    fn kill_unneeded(&self) {
        let schedule = self.schedule.lock();
        self.kill_if(|test| !schedule.is_needed(test));
    }

    /// Kills the running tests that `is_over` names.
    fn kill_if(&self, is_over: impl Fn(usize) -> bool) {
        for (_, kill) in self.kill.lock().iter().filter(|(test, _)| is_over(**test)) {
            kill.send_replace(true);
        }
    }
}

/// The events of a test that becomes known: its output, unless that was passed on before, and its
/// verdict.
fn events(ended: &EndedTest, keeps_output: bool) -> Vec<SubmissionEvent> {
    let EndedTest { result, was_live, was_run } = ended;
    let mut events = Vec::new();
    if !was_run {
        return events;
    }
    if let Some(run) = result.run.as_ref().filter(|_| keeps_output && !was_live) {
        let (stdout, stderr) = result.stored.with(run);
        for (stream, bytes) in [(OutputStream::Stdout, stdout), (OutputStream::Stderr, stderr)] {
            let output = |data: Vec<u8>| SubmissionEvent::Output { test: Some(result.name.clone()), stream, data };
            events.extend(pieces(bytes).map(|piece| output(piece.to_vec())));
        }
    }
    events.push(SubmissionEvent::Test { name: result.name.clone(), verdict: result.verdict });
    events
}

/// Output in pieces of the usual size that do not cut a character.
fn pieces(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let most = rest.len().min(MAX_CHUNK_BYTES);
        let length = if most < rest.len() { most - begun_character(&rest[..most]) } else { most };
        let (piece, after) = rest.split_at(length);
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_in_pieces_is_all_of_it_and_cuts_no_character() {
        for text in ["", "a", &"\u{e9}x".repeat(MAX_CHUNK_BYTES)] {
            let cut: Vec<&[u8]> = pieces(text.as_bytes()).collect();
            assert!(cut.iter().all(|piece| piece.len() <= MAX_CHUNK_BYTES && std::str::from_utf8(piece).is_ok()));
            assert_eq!(cut.concat(), text.as_bytes());
        }
        assert_eq!(pieces(&[0xff; MAX_CHUNK_BYTES + 9]).map(<[u8]>::len).sum::<usize>(), MAX_CHUNK_BYTES + 9);
    }
}
