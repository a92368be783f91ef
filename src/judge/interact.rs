//! A submission and the program that it talks with: each in a sandbox, bytes relayed between them.
//!
//! ```text
//!   submission --stdout--> [pipe] --stdin--> interactor          both pipes are written down, within a bound
//!       ^--stdin-- [pipe] <--stdout--'
//!
//!   ends first          and then
//!   interactor, 43      the submission is ended: wrong, whatever it did after that
//!   interactor, 42      the submission goes on to its own end, and has to end well
//!   interactor, else    the submission is ended: the interactor is broken
//!   submission, badly   its own verdict; the interactor is ended
//!   submission, well    the interactor reads to the end and rules
//! ```
//!
//! An output's end is passed on a moment later than it comes: of two that end at once, who caused it comes first.
//!
//! Speaker waits for the other for ever runs into the submission's wall limit, which is the shorter one.

use std::sync::Arc;

use tokio::sync::watch;

use super::decide;
use super::pipe::{Pipe, Speaker, Transcript, TranscriptRecorder};
use super::referee::RefereeRunner;
use super::ruling::CheckerResult;
use super::runner::{CancelSignal, RunIo, Runner};
use crate::work::PlannedTest;
use protocol::{RunFacts, Verdict};
use sandbox::lifecycle::Lost;

/// What came of a talk.
pub(super) struct Conversation {
    /// The submission's run.
    pub facts: RunFacts,
    /// Speaker decided, and how.
    pub end: ConversationEnd,
    /// What they said.
    pub transcript: Transcript,
}

/// Speaker decided.
pub(super) enum ConversationEnd {
    /// The submission broke.
    Submission,
    /// The interactor rules.
    Interactor(CheckerResult),
    /// The interactor broke, or both were withdrawn.
    Broken(String),
}

/// Which of two sandboxes was lost.
pub(super) enum LostParticipant {
    Submission(Lost),
    Interactor(Lost),
}

/// A cancel of one side: the caller's, or ours.
struct CancelOverride {
    stop: watch::Sender<bool>,
    before: CancelSignal,
}

impl CancelOverride {
    fn of(cancel: &mut CancelSignal) -> CancelOverride {
        let stop = watch::Sender::new(*cancel.borrow());
        let before = std::mem::replace(cancel, stop.subscribe());
        CancelOverride { stop, before }
    }
}

/// Lets them talk.
pub(super) async fn talk(
    submission: &mut Runner<'_>,
    interactor: &mut RefereeRunner<'_>,
    test: &PlannedTest,
    args: &[String],
    ports: RunIo<'_>,
) -> Result<Conversation, LostParticipant> {
    let mine = CancelOverride::of(&mut submission.cancel);
    let theirs = CancelOverride::of(interactor.cancel());
    let mut withdrawn = mine.before.clone();
    let talked = {
        let talking = converse(submission, interactor, test, args, ports, &mine.stop, &theirs.stop);
        tokio::pin!(talking);
        tokio::select! {
            talked = &mut talking => talked,
            () = super::runner::withdrawn(&mut withdrawn) => {
                mine.stop.send_replace(true);
                theirs.stop.send_replace(true);
                talking.await
            }
        }
    };
    submission.cancel = mine.before;
    *interactor.cancel() = theirs.before;
    talked
}

async fn converse(
    submission: &mut Runner<'_>,
    interactor: &mut RefereeRunner<'_>,
    test: &PlannedTest,
    args: &[String],
    ports: RunIo<'_>,
    stop_submission: &watch::Sender<bool>,
    stop_interactor: &watch::Sender<bool>,
) -> Result<Conversation, LostParticipant> {
    let transcript = Arc::new(TranscriptRecorder::default());
    let to_interactor = Pipe::seen(transcript.clone(), Speaker::Submission);
    let to_submission = Pipe::seen(transcript.clone(), Speaker::Interactor);
    let mut step = test.step.clone();
    step.stdin = bytes::Bytes::new();
    let (facts, end) = {
        let ports = RunIo { output: Some(&to_interactor), input: Some(&to_submission), ..ports };
        let running = submission.step(&step, &[], ports);
        let judging = interactor.talk(test, args, &to_interactor, &to_submission);
        tokio::pin!(running, judging);
        tokio::select! {
            facts = &mut running => {
                let facts = facts.map_err(LostParticipant::Submission)?;
                if decide::verdict(&facts) == Verdict::Accepted {
                    (facts, Some(judging.await.map_err(LostParticipant::Interactor)?))
                } else {
                    stop_interactor.send_replace(true);
                    judging.await.map_err(LostParticipant::Interactor)?;
                    (facts, None)
                }
            }
            ruled = &mut judging => {
                let ruled = ruled.map_err(LostParticipant::Interactor)?;
                if !interactor_accepts(&ruled) {
                    stop_submission.send_replace(true);
                }
                (running.await.map_err(LostParticipant::Submission)?, Some(ruled))
            }
        }
    };
    let end = match end {
        None => ConversationEnd::Submission,
        Some(run) => match interactor.rule(test, &run).await.map_err(LostParticipant::Interactor)? {
            Err(broken) => ConversationEnd::Broken(broken),
            Ok(ruling) if ruling.verdict != Verdict::WrongAnswer && decide::verdict(&facts) != Verdict::Accepted => {
                ConversationEnd::Submission
            }
            Ok(ruling) => ConversationEnd::Interactor(ruling),
        },
    };
    Ok(Conversation { facts, end, transcript: transcript.read() })
}

/// Whether an interactor that ended first may have given something: then the submission has to end well, too.
fn interactor_accepts(run: &RunFacts) -> bool {
    matches!(run.exit_code, Some(0 | 7 | 42 | 50..))
}
