//! Submissions that are acknowledged: the store has them before their caller is told, and their
//! report before a caller sees it.
//!
//! ```text
//!  submission.submit --> its task starts                  submission.run
//!         |                     |                               |
//!         '-- intake, fsync --> Held --finish, fsync--> Answered|
//!                |                                              No --answered--> Recorded
//!                '-- no room: Refused; its task is cancelled
//! ```
//!
//! Intake and task go on at the same time. The task waits for the intake before it answers, and an
//! intake that finds the answer stores it: the one of the two that is at it holds
//! [`SubmissionHandle::stored`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::MutexGuard;

use super::admission::Refusal;
use super::callbacks::PendingCallback;
use super::phase::SubmissionPhase;
use super::records;
use super::registry::SubmissionHandle;
use super::service::{AdmissionSlot, SubmissionService};
use super::stored::{self, Stored};
use judge::compute::on_bytes;
use judge::work::Work;
use protocol::{Report, ReportText, Submission};
use store::{Attached, Fetched, Finish, FinishResult, HistoryEntry, Intake, IntakeResult, Requeue, Start};
use telemetry::throttle::LogThrottle;

static NOT_STORED: LogThrottle = LogThrottle::new();
static NOT_TAKEN_IN: LogThrottle = LogThrottle::new();

/// When a refused caller should try again: the queue of changes is a second's work of the disk.
const BUSY_RETRY: Duration = Duration::from_secs(1);

/// How often a report is tried again that the store did not take.
const FINISH_RETRY: Duration = Duration::from_secs(1);

/// [`StoredForm::Submission`](super::stored::StoredForm), of a reference.
#[derive(Serialize)]
struct SubmissionForm<'a> {
    format: &'static str,
    submission: &'a Submission,
    #[serde(skip_serializing_if = "Option::is_none")]
    callback_token: Option<String>,
}

/// What a caller handed in, to be taken in by the store.
#[derive(Debug)]
pub struct DurableRequest {
    pub submission: Submission,
    /// The blobs that it refers to.
    pub blobs: BTreeMap<String, Bytes>,
    /// About what it takes as JSON.
    pub bytes: usize,
}

fn refusal(error: &store::Error) -> Refusal {
    match error {
        store::Error::Full => Refusal::StoreFull,
        store::Error::Busy { .. } => Refusal::StoreBusy { retry_after: BUSY_RETRY },
        store::Error::Closed => Refusal::Draining,
        error => {
            if let Some(suppressed) = NOT_TAKEN_IN.allow() {
                tracing::error!(
                    %error, suppressed,
                    remedy = "see whether the disk of the state folder is full or failing (df, dmesg)",
                    "the store did not take a submission; its caller was refused"
                );
            }
            Refusal::NoStore { reason: error.to_string() }
        }
    }
}

impl SubmissionService {
    /// Takes a submission into the store. When it returns, the submission outlives the daemon.
    ///
    /// # Errors
    /// It is not acknowledged, and does not run on unless another call waits for it.
    pub async fn acknowledge(&self, handle: &Arc<SubmissionHandle>, request: DurableRequest) -> Result<(), Refusal> {
        let mut stored = handle.stored.lock().await;
        match *stored {
            Stored::Held { .. } | Stored::Answered { .. } => return Ok(()),
            Stored::Refused => {
                let reason = "an earlier call with its id was refused".to_owned();
                return Err(Refusal::NoStore { reason });
            }
            Stored::No | Stored::Recorded => {}
        }
        let language = request.submission.language.clone();
        let taken = match self.take_in(handle, request).await {
            Ok(IntakeResult::Conflict) => Err(Refusal::Conflict { id: handle.id.clone() }),
            Ok(taken) => Ok(taken),
            Err(error) => Err(refusal(&error)),
        };
        match taken {
            Ok(taken) => {
                *stored = self.taken_in(handle, &language, taken).await;
                handle.set_outlives_caller();
                Ok(())
            }
            Err(refusal) => {
                self.counters.count(&self.counters.refused);
                let is_answered = matches!(handle.phase(), SubmissionPhase::Done(_));
                if !is_answered && handle.withdraw() {
                    *stored = Stored::Refused;
                    self.registry.remove(handle);
                }
                Err(refusal)
            }
        }
    }

    async fn take_in(&self, handle: &SubmissionHandle, request: DurableRequest) -> Result<IntakeResult, store::Error> {
        let Some(store) = self.store.get().cloned() else { return Err(store::Error::Closed) };
        let DurableRequest { submission, blobs, bytes } = request;
        let blobs: Vec<(String, Bytes)> = blobs.into_iter().collect();
        let inputs = match blobs.is_empty() {
            true => store::StagedOutputs::default(),
            false => {
                let store = store.clone();
                let staged = tokio::task::spawn_blocking(move || store.stage(&blobs)).await;
                staged.unwrap_or(Err(store::Error::Closed))?
            }
        };
        let callback_token = handle.callback.get().map(|callback| stored::token_text(&callback.token));
        let form = SubmissionForm { format: "submission", submission: &submission, callback_token };
        let request = on_bytes(bytes, || serde_json::to_vec(&form)).unwrap_or_default();
        let (owner, id, digest) = (records::owner(&handle.caller), handle.id.clone(), handle.digest);
        let language = submission.language;
        store.intake(Intake { owner, id, digest, language, request, inputs }).done().await
    }

    /// What the handle has to know after its intake.
    async fn taken_in(&self, handle: &Arc<SubmissionHandle>, language: &str, taken: IntakeResult) -> Stored {
        let phase = handle.phase();
        match (taken, phase) {
            (IntakeResult::Known { history: Some(history), .. }, SubmissionPhase::Done(_)) => {
                Stored::Answered { history }
            }
            // the registry had dropped it: its report stays what it was
            (IntakeResult::Known { history: Some(history), .. }, _) => {
                if let Some(text) = self.stored_report(history).await {
                    self.publish(handle, text, Duration::ZERO);
                }
                handle.cancel();
                Stored::Answered { history }
            }
            // a run that was answered before it was submitted
            (IntakeResult::Accepted { key } | IntakeResult::Known { key, .. }, SubmissionPhase::Done(text)) => {
                let Ok(report) = serde_json::from_str::<Report>(text.as_str()) else {
                    return Stored::Held { key, is_started: true };
                };
                let total = Duration::try_from_secs_f64(report.timing.total_ms / 1e3).unwrap_or_default();
                let received = Instant::now().checked_sub(total).unwrap_or_else(Instant::now);
                let entry = records::entry(&handle.caller, language, &report, received);
                let blobs = records::blob_ids(&report);
                let attached = Attached::default();
                match self.finish(handle, key, (&entry, &attached), &blobs, &text).await {
                    Ok(FinishResult::Answered { history } | FinishResult::Already { history }) => {
                        Stored::Answered { history }
                    }
                    Ok(FinishResult::Gone) | Err(_) => Stored::Held { key, is_started: true },
                }
            }
            (IntakeResult::Accepted { key } | IntakeResult::Known { key, .. }, phase) => {
                let is_started = matches!(phase, SubmissionPhase::Running | SubmissionPhase::Settling);
                if let (true, Some(store)) = (is_started, self.store.get()) {
                    drop(store.start(Start { key }));
                }
                Stored::Held { key, is_started }
            }
            (IntakeResult::Conflict, _) => Stored::No,
        }
    }

    /// A report of the store.
    pub(super) async fn stored_report(&self, history: i64) -> Option<ReportText> {
        let store = self.store.get()?.clone();
        let read = tokio::task::spawn_blocking(move || store.report(history)).await;
        let stored = read.ok()?.ok()??;
        ReportText::stored(String::from_utf8(stored.body).ok()?)
    }

    /// Stores the report of a submission that was taken in, with its outputs.
    async fn finish(
        &self,
        handle: &SubmissionHandle,
        key: i64,
        (entry, attached): (&HistoryEntry, &Attached),
        blobs: &[String],
        text: &ReportText,
    ) -> Result<FinishResult, store::Error> {
        let store = self.store.get().ok_or(store::Error::Closed)?;
        let outputs = match blobs.is_empty() {
            true => store::StagedOutputs::default(),
            false => self.stage(store, &handle.caller.principal, blobs).await?,
        };
        let report = on_bytes(text.bytes(), || text.as_str().as_bytes().to_vec());
        let callback = handle.callback.get().map(PendingCallback::address);
        let (entry, attached, is_awaited) = (entry.clone(), attached.clone(), true);
        let finish = Finish { key, entry, report, attached, outputs, is_awaited, callback };
        let result = store.finish(finish).done().await;
        if handle.callback.get().is_some() {
            self.callbacks.changed.notify_one();
        }
        result
    }

    /// Stores the report of a submission that was taken in; then publishes it, also if the store
    /// does not take it: then it is tried again until it does.
    pub(super) async fn answer_durably(
        &self,
        mut stored: MutexGuard<'_, Stored>,
        handle: &Arc<SubmissionHandle>,
        key: i64,
        report: DurableReport,
    ) {
        let DurableReport { entry, work, blobs, text, slot } = report;
        let attached = self.attach(handle, work.as_ref(), &entry, &text);
        drop(work);
        match self.finish(handle, key, (&entry, &attached), &blobs, &text).await {
            Ok(result) => {
                let text = match result {
                    FinishResult::Answered { history } => {
                        *stored = Stored::Answered { history };
                        text
                    }
                    FinishResult::Already { history } => {
                        *stored = Stored::Answered { history };
                        self.stored_report(history).await.unwrap_or(text)
                    }
                    // an operator had it forgotten
                    FinishResult::Gone => text,
                };
                drop(slot);
                self.publish(handle, text, Duration::ZERO);
            }
            Err(mut error) => {
                drop(slot);
                self.publish(handle, text.clone(), Duration::ZERO);
                // what was acknowledged stays acknowledged
                drop(stored);
                while !matches!(error, store::Error::Closed) {
                    if let Some(suppressed) = NOT_STORED.allow() {
                        tracing::error!(
                            %error, suppressed,
                            remedy = "make room on the disk of the state folder (df): a submission without a stored \
                                      report runs again after a restart",
                            "the store did not take a report; it is tried again"
                        );
                    }
                    tokio::time::sleep(FINISH_RETRY).await;
                    match self.finish(handle, key, (&entry, &attached), &blobs, &text).await {
                        Ok(FinishResult::Answered { history } | FinishResult::Already { history }) => {
                            *handle.stored.lock().await = Stored::Answered { history };
                            return;
                        }
                        Ok(FinishResult::Gone) => return,
                        Err(again) => error = again,
                    }
                }
            }
        }
    }

    /// Leaves a submission to the next daemon. Returns whether the store has it.
    pub(super) async fn leave_to_next_daemon(&self, handle: &SubmissionHandle) -> bool {
        let stored = handle.stored.lock().await;
        let (Stored::Held { key, is_started }, Some(store)) = (*stored, self.store.get()) else { return false };
        if is_started && let Err(error) = store.requeue(Requeue { key }).done().await {
            tracing::debug!(%error, "a submission that is left to the next daemon counts as started");
        }
        true
    }

    /// A caller has the report: it need not be kept for it any more.
    pub fn fetched(&self, handle: &SubmissionHandle) {
        if let (Ok(stored), Some(store)) = (handle.stored.try_lock(), self.store.get())
            && let Stored::Answered { history } = *stored
        {
            store.fetched(Fetched { history });
        }
    }
}

/// The report of a submission that was taken in.
pub(super) struct DurableReport {
    pub(super) entry: HistoryEntry,
    /// What it is a report of, if that was judged.
    pub(super) work: Option<Work>,
    pub(super) blobs: Vec<String>,
    pub(super) text: ReportText,
    /// Dropped before the report is visible: a caller with an answer may submit again at once.
    pub(super) slot: Option<AdmissionSlot>,
}
