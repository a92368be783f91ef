//! An interactive test: the submission and its interactor, each in a sandbox, with their stdin and
//! stdout connected.
//!
//! ```text
//!   submission --stdout--> [pipe] --stdin--> interactor    both pipes are recorded up to a bound
//!       ^--stdin-- [pipe] <--stdout--'
//!
//!   ends first                and then
//!   interactor, status 43     the submission is killed: wrong answer, whatever it did after that
//!   interactor, status 42     the submission runs to its own end, and has to end well
//!   interactor, other status  the submission is killed: the interactor is broken
//!   submission, with failure  the submission's own verdict; the interactor is killed
//!   submission, with success  the interactor reads to the end of the input and decides
//!
//!   over by the talk's clock  that side decides, whichever process ends first
//! ```
//!
//! The interactor's EOF is forwarded with a short delay, so that when both sides end together the
//! side that caused it is seen first; the submission's is forwarded when the submission has ended.
//! How wall time is charged, and what ends a talk in which both sides wait, is in `talk`.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use super::cancel::{CancelSignal, cancelled};
use super::checker_result::CheckerResult;
use super::decide;
use super::pipe::Pipe;
use super::referee::{RefereeAnswer, RefereeRunner};
use super::runner::Runner;
use super::supervise::RunIo;
use super::talk::{TalkClock, TalkSide};
use super::transcript::{Speaker, Transcript, TranscriptRecorder};
use crate::work::PlannedTest;
use protocol::{RunFacts, Verdict};
use sandbox::lifecycle::Lost;

/// The result of an interactive test.
pub(super) struct Conversation {
    /// The submission's run.
    pub facts: RunFacts,
    pub decision: Decision,
    pub transcript: Transcript,
}

/// What decides the test's verdict.
pub(super) enum Decision {
    /// The submission's own run, which failed.
    Submission,
    Interactor(CheckerResult),
    /// The interactor accepts so far and wants another pass with this input.
    Again(Bytes),
    /// The interactor failed, or both were cancelled.
    Broken(String),
}

/// Which of the two sandboxes was lost.
pub(super) enum LostParticipant {
    Submission(Lost),
    Interactor(Lost),
}

/// A test with the interactor's arguments, and where the submission's output is logged.
#[derive(Clone, Copy)]
pub(super) struct InteractiveTest<'t> {
    pub test: &'t PlannedTest,
    pub args: &'t [String],
    pub io: RunIo<'t>,
}

/// Puts a cancel signal of ours in the place of a runner's own, so that one side can be killed
/// alone.
struct CancelOverride {
    cancel: watch::Sender<bool>,
    original: CancelSignal,
}

impl CancelOverride {
    fn of(signal: &mut CancelSignal) -> CancelOverride {
        let cancel = watch::Sender::new(*signal.borrow());
        let original = std::mem::replace(signal, cancel.subscribe());
        CancelOverride { cancel, original }
    }

    fn kill(&self) {
        self.cancel.send_replace(true);
    }
}

/// The cancel signals of both sides.
struct Overrides {
    submission: CancelOverride,
    interactor: CancelOverride,
}

/// Runs an interactive test. The caller's cancellation ends both sides.
pub(super) async fn interact(
    submission: &mut Runner<'_>,
    interactor: &mut RefereeRunner<'_>,
    test: InteractiveTest<'_>,
) -> Result<Conversation, LostParticipant> {
    let overrides = Overrides {
        submission: CancelOverride::of(&mut submission.cancel),
        interactor: CancelOverride::of(interactor.cancel()),
    };
    let mut by_caller = overrides.submission.original.clone();
    let conversation = {
        let running = converse(submission, interactor, test, &overrides);
        tokio::pin!(running);
        tokio::select! {
            conversation = &mut running => conversation,
            () = cancelled(&mut by_caller) => {
                overrides.submission.kill();
                overrides.interactor.kill();
                running.await
            }
        }
    };
    submission.cancel = overrides.submission.original;
    *interactor.cancel() = overrides.interactor.original;
    conversation
}

async fn converse(
    submission: &mut Runner<'_>,
    interactor: &mut RefereeRunner<'_>,
    InteractiveTest { test, args, io }: InteractiveTest<'_>,
    overrides: &Overrides,
) -> Result<Conversation, LostParticipant> {
    let recorder = Arc::new(TranscriptRecorder::default());
    let to_interactor = Pipe::recorded(recorder.clone(), Speaker::Submission);
    let to_submission = Pipe::recorded(recorder.clone(), Speaker::Interactor);
    let mut step = test.step.clone();
    step.stdin = Bytes::new();
    // the interactor's run, unless the submission's failure has decided already
    let clock = TalkClock::start(step.limits.wall, interactor.wall_limit());
    let (facts, interactor_run) = {
        let talk = Some(TalkSide::new(&clock, Speaker::Submission));
        let io = RunIo { output: Some(&to_interactor), input: Some(&to_submission), talk, ..io };
        let running = submission.step(&step, &[], io);
        let judging = interactor.talk(test, args, &to_interactor, &to_submission, &clock);
        tokio::pin!(running, judging);
        tokio::select! {
            facts = &mut running => {
                let facts = facts.map_err(LostParticipant::Submission)?;
                // an interactor that is over may make the submission fail
                if decide::verdict(&facts) == Verdict::Accepted || clock.over() == Some(Speaker::Interactor) {
                    (facts, Some(judging.await.map_err(LostParticipant::Interactor)?))
                } else if clock.is_in_question() {
                    let run = judging.await.map_err(LostParticipant::Interactor)?;
                    (facts, (clock.over() == Some(Speaker::Interactor)).then_some(run))
                } else {
                    overrides.interactor.kill();
                    judging.await.map_err(LostParticipant::Interactor)?;
                    (facts, None)
                }
            }
            run = &mut judging => {
                let run = run.map_err(LostParticipant::Interactor)?;
                // an interactor reads the end of the input of a submission that is over
                let decides = clock.over() != Some(Speaker::Submission);
                if decides && !may_have_accepted(&run) {
                    overrides.submission.kill();
                }
                (running.await.map_err(LostParticipant::Submission)?, decides.then_some(run))
            }
        }
    };
    let decision = match interactor_run {
        None => Decision::Submission,
        Some(run) => match interactor.decide(test, &run).await.map_err(LostParticipant::Interactor)? {
            RefereeAnswer::Broken(broken) => Decision::Broken(broken),
            RefereeAnswer::Decided(result)
                if result.verdict != Verdict::WrongAnswer && decide::verdict(&facts) != Verdict::Accepted =>
            {
                Decision::Submission
            }
            RefereeAnswer::Again(_) if decide::verdict(&facts) != Verdict::Accepted => Decision::Submission,
            RefereeAnswer::Again(input) => Decision::Again(input),
            RefereeAnswer::Decided(result) => Decision::Interactor(result),
        },
    };
    Ok(Conversation { facts, decision, transcript: recorder.snapshot() })
}

/// Whether an interactor that ended first may have accepted or given points: then the submission
/// has to end well, too.
fn may_have_accepted(run: &RunFacts) -> bool {
    matches!(run.exit_code, Some(0 | 7 | 42 | 50..))
}
