//! A submission's task, from its start to its published report, and the report's way into history.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::access_log::log_answer;
use super::blame;
use super::durable::DurableReport;
use super::phase::SubmissionPhase;
use super::recordings::RecordingGuard;
use super::records;
use super::registry::SubmissionHandle;
use super::service::{AdmissionSlot, SubmissionService};
use super::stages::{Stage, StageTimes};
use super::stored::Stored;
use super::submission::{SubmissionTask, TaskResources};
use judge::compute::on_bytes;
use judge::render::millis;
use judge::work::Work;
use protocol::receipt::ReceiptTimes;
use protocol::{Principal, Report, ReportText};
use store::{Attached, HistoryEntry, Record, StagedOutputs, Store};

/// About what a test or a case of a report takes while its JSON is made.
const ITEM_BYTES: usize = 1024;

/// The profile that judges a submission, and the language that its caller named.
#[derive(Clone, Copy)]
pub(super) struct LanguageNames<'a> {
    pub(super) profile: &'a str,
    pub(super) named: &'a str,
}

/// A report that is not published yet.
pub(super) struct UnpublishedReport {
    pub(super) report: Report,
    /// What it is a report of, if that was judged.
    pub(super) work: Option<Work>,
    pub(super) received: Instant,
    pub(super) times: StageTimes,
}

impl SubmissionService {
    /// Runs a submission to its end: answered, or left to the next daemon.
    pub(super) async fn run_task(
        &self,
        work: Work,
        handle: Arc<SubmissionHandle>,
        received: Instant,
        times: StageTimes,
        slot: AdmissionSlot,
    ) {
        let language = work.profile.name.clone();
        let asked = if work.language.is_empty() { language.clone() } else { work.language.clone() };
        let resources = TaskResources {
            allocator: &self.allocator,
            default_patience: self.queue_config().patience(),
            cache: &self.cache,
            blobs: &self.blobs,
            counters: &self.counters,
            languages: &self.languages,
            drain_ended: self.drain_ended.subscribe(),
            store: &self.store,
        };
        let mut task = SubmissionTask::new(resources, &work, &handle, received, times);
        let report = task.run().await;
        let times = task.times;
        let (report, work) = match report {
            Some(report) => (report, Some(work)),
            None if self.leave_to_next_daemon(&handle).await => {
                handle.set_phase(SubmissionPhase::Kept);
                handle.io.close();
                return;
            }
            None => (blame::not_stored(&work.id), None),
        };
        let languages = LanguageNames { profile: &language, named: &asked };
        let judged = UnpublishedReport { report, work, received, times };
        self.answer(languages, &handle, judged, Some(slot)).await;
    }

    /// Counts and logs an answer, and delivers its report.
    pub(super) async fn answer(
        &self,
        LanguageNames { profile: language, named }: LanguageNames<'_>,
        handle: &Arc<SubmissionHandle>,
        UnpublishedReport { mut report, work, received, mut times }: UnpublishedReport,
        slot: Option<AdmissionSlot>,
    ) {
        let total = received.elapsed();
        report.timing.total_ms = millis(total);
        times.set(Stage::Total, total);
        self.stages.record(&times);
        self.counters.count_answer(&report);
        log_answer(&handle.caller, language, &report);
        self.languages.record_answer(language, &report, total);
        let entry = records::entry(&handle.caller, named, &report, received);
        let blobs = records::blob_ids(&report);
        let _recording = RecordingGuard::new(&self.recording);
        let items = report.tests.len() + report.suite.as_ref().map_or(0, |suite| suite.cases.len());
        let text = on_bytes(items * ITEM_BYTES, || ReportText::from(&report));
        drop(report);
        self.deliver(handle, DurableReport { entry, work, blobs, text, slot }).await;
    }

    /// Publishes a report: of what was taken in after it is stored, otherwise before.
    pub(super) async fn deliver(&self, handle: &Arc<SubmissionHandle>, report: DurableReport) {
        let stored = handle.stored.lock().await;
        let is_refused = match *stored {
            Stored::Held { key, .. } => return self.answer_durably(stored, handle, key, report).await,
            Stored::No => false,
            Stored::Refused => true,
            // the intake found a report in the store
            Stored::Answered { .. } | Stored::Recorded => return,
        };
        let DurableReport { entry, work, blobs, text, slot } = report;
        drop(slot);
        if is_refused {
            handle.io.close();
            handle.set_phase(SubmissionPhase::Done(text));
            return;
        }
        self.publish(handle, text.clone(), Duration::ZERO);
        drop(stored);
        // who waits for the answer goes first
        tokio::task::yield_now().await;
        let mut stored = handle.stored.lock().await;
        if *stored == Stored::No {
            self.record(handle, work.as_ref(), entry, &blobs, &text).await;
            *stored = Stored::Recorded;
        }
    }

    /// Puts a report into history, some time. It is dropped and counted if too much waits.
    async fn record(
        &self,
        handle: &SubmissionHandle,
        work: Option<&Work>,
        entry: HistoryEntry,
        blobs: &[String],
        text: &ReportText,
    ) {
        let Some(store) = self.store.get() else { return };
        let outputs = match (blobs.is_empty(), self.staging.try_acquire()) {
            (false, Ok(_permit)) => self.stage(store, &handle.caller.principal, blobs).await.unwrap_or_default(),
            _ => StagedOutputs::default(),
        };
        let report = on_bytes(text.bytes(), || text.as_str().as_bytes().to_vec());
        let digest = handle.has_digest().then_some(handle.digest);
        let attached = self.attach(handle, work, &entry, text);
        store.record(Record { entry, report, attached, outputs, digest });
    }

    /// What is kept beside a report.
    pub(super) fn attach(
        &self,
        handle: &SubmissionHandle,
        work: Option<&Work>,
        entry: &HistoryEntry,
        text: &ReportText,
    ) -> Attached {
        let usage = handle.io.log.take_usage();
        let usage = if usage.is_empty() { None } else { serde_json::to_vec(&usage).ok() };
        Attached { receipt: work.and_then(|work| self.receipt(work, entry, text)), usage }
    }

    /// The signed receipt of a report, as JSON.
    fn receipt(&self, work: &Work, entry: &HistoryEntry, text: &ReportText) -> Option<Vec<u8>> {
        let times = ReceiptTimes { received_ms: entry.received_ms, answered_ms: records::now_ms() };
        let bytes = text.bytes() + usize::try_from(work.bytes()).unwrap_or(usize::MAX);
        let issued = on_bytes(bytes, || self.store.issuer().issue(work, text, times));
        issued.and_then(|envelope| serde_json::to_vec(&envelope).ok())
    }

    /// Writes and syncs the outputs of a report.
    pub(super) async fn stage(
        &self,
        store: &Arc<Store>,
        owner: &Principal,
        blobs: &[String],
    ) -> Result<StagedOutputs, store::Error> {
        let content = |id: &String| self.blobs.get(owner, id).map(|bytes| (id.clone(), bytes));
        let contents: Vec<(String, Bytes)> = blobs.iter().filter_map(content).collect();
        let store = store.clone();
        tokio::task::spawn_blocking(move || store.stage(&contents)).await.unwrap_or(Err(store::Error::Closed))
    }

    /// Makes a report available that was made `age` ago.
    pub(super) fn publish(&self, handle: &Arc<SubmissionHandle>, report: ReportText, age: Duration) {
        handle.io.close();
        self.registry.record_answer(handle, age, report.bytes() + handle.io.log.memory_bytes());
        handle.set_phase(SubmissionPhase::Done(report));
    }
}
