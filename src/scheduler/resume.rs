//! Takes over what the store has of earlier daemons: reports that can still be fetched, and
//! submissions that were acknowledged and not answered.
//!
//! A submission under which a daemon ended [`MAX_STARTS`] times is not run again, and neither is
//! one whose open input was lost with the daemon.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::answering::{LanguageNames, UnpublishedReport};
use super::records;
use super::registry::{SubmissionHandle, SubmissionIo};
use super::service::SubmissionService;
use super::stages::StageTimes;
use super::stored::{Stored, StoredForm, read_files, stored_callback};
use super::{Arrival, blame};
use config::bounds;
use judge::accept::accept;
use judge::events::EventLog;
use judge::work::Work;
use protocol::{Caller, Profile, Report, ReportText};
use store::{Held, Known, Store, StoredRequest};

/// Starts of a submission that did not come to a report, because the daemon ended.
const MAX_STARTS: u32 = 3;

/// Bytes of reports and their outputs that are taken into memory, newest first.
const MAX_LOADED_BYTES: u64 = 256 * 1024 * 1024;

/// Profiles by name.
type Profiles = BTreeMap<String, Arc<Profile>>;

/// What is to be done with a submission of an earlier daemon.
enum Revived {
    Run(Box<Work>),
    Answer(Box<Report>),
}

/// A report of the store, with its outputs.
struct LoadedReport {
    known: Known,
    text: ReportText,
    outputs: BTreeMap<String, Bytes>,
}

impl SubmissionService {
    /// Takes over what earlier daemons left: files of version 0.1, reports, submissions.
    pub async fn take_over(self: &Arc<Self>, profiles: &Profiles) {
        let Some(store) = self.store.get().cloned() else { return };
        self.migrate(&store).await;
        match self.load_reports(&store) {
            Ok(0) => {}
            Ok(reports) => tracing::info!(reports, "took over the reports of the previous daemon"),
            Err(error) => tracing::error!(%error, "the reports of the previous daemon cannot be read"),
        }
        match store.held() {
            Ok(all) if all.is_empty() => {}
            Ok(all) => {
                let submissions = all.len();
                all.into_iter().for_each(|held| self.resume(&store, held, profiles));
                tracing::info!(submissions, "took over the unfinished submissions of the previous daemon");
            }
            Err(error) => tracing::error!(%error, "the submissions of the previous daemon cannot be read"),
        }
    }

    /// Makes the reports available whose ids are not free yet. Returns their number.
    fn load_reports(&self, store: &Store) -> Result<usize, store::Error> {
        let (mut bytes, mut loaded) = (0, Vec::new());
        for known in store.known(bounds::MAX_KEPT_REPORTS)? {
            let Some(found) = store.report(known.history)? else { continue };
            bytes += found.body.len() as u64 + found.files.iter().map(|file| file.bytes).sum::<u64>();
            if bytes > MAX_LOADED_BYTES {
                break;
            }
            let text = String::from_utf8(found.body).ok().and_then(ReportText::stored);
            // an output that cannot be read is one that has expired
            let outputs = read_files(store, &found.files).unwrap_or_default();
            loaded.extend(text.map(|text| LoadedReport { known, text, outputs }));
        }
        let count = loaded.len();
        // oldest first, as they were answered
        loaded.into_iter().rev().for_each(|report| self.put_back(store, report));
        Ok(count)
    }

    fn put_back(&self, store: &Store, LoadedReport { known, text, outputs }: LoadedReport) {
        let Some(caller) = records::caller(&known.owner) else { return };
        for (blob, content) in outputs {
            self.blobs.put_back(&caller.principal, &blob, content);
        }
        let left = Duration::from_millis(known.expires_ms.saturating_sub(store.now_ms()).max(0).unsigned_abs());
        let age = bounds::REPORT_TTL.saturating_sub(left);
        let handle = stored_handle(known.id, caller, known.digest, Stored::Answered { history: known.history });
        self.registry.add(handle.clone());
        self.publish(&handle, text, age);
    }

    /// Runs or answers a submission that an earlier daemon acknowledged.
    fn resume(self: &Arc<Self>, store: &Store, held: Held, profiles: &Profiles) {
        let Some(caller) = records::caller(&held.owner) else { return };
        let stored = Stored::Held { key: held.key, is_started: false };
        let request = store.request(held.key);
        let callback = request.as_ref().ok().and_then(Option::as_ref).and_then(stored_callback);
        match revive(store, request, &held, &caller, profiles) {
            Revived::Run(work) => {
                let slot = self.take_slot(&mut self.usage_by_account.lock(), &work);
                let (received, accepting) = (Instant::now(), Duration::ZERO);
                let arrival = Arrival { received, accepting, log: EventLog::new(true), outlives_caller: true };
                let handle = self.register(&work, held.digest, &arrival, stored);
                handle.set_callback(callback);
                self.start_task(*work, handle, &arrival, received, slot);
            }
            Revived::Answer(report) => {
                let handle = stored_handle(held.id, caller, held.digest, stored);
                handle.set_callback(callback);
                self.registry.add(handle.clone());
                let service = self.clone();
                tokio::spawn(async move {
                    let languages = LanguageNames { profile: &held.language, named: &held.language };
                    let (received, times) = (Instant::now(), StageTimes::default());
                    let report = UnpublishedReport { report: *report, work: None, received, times };
                    service.answer(languages, &handle, report, None).await;
                });
            }
        }
    }
}

/// The handle of a submission of an earlier daemon that does not run any more.
fn stored_handle(id: String, caller: Caller, digest: [u8; 32], stored: Stored) -> Arc<SubmissionHandle> {
    let io = SubmissionIo { log: EventLog::new(true), input: None };
    Arc::new(SubmissionHandle::new(id, caller, digest, true, io).with_stored(stored))
}

/// Decides about a submission that was acknowledged and not answered.
fn revive(
    store: &Store,
    request: Result<Option<StoredRequest>, store::Error>,
    held: &Held,
    caller: &Caller,
    profiles: &Profiles,
) -> Revived {
    let answer = |report| Revived::Answer(Box::new(report));
    let invalid = |why: &str| answer(blame::not_accepted(&held.id, why));
    if held.starts >= MAX_STARTS {
        return answer(blame::ends_daemons(&held.id, held.starts));
    }
    let (request, files) = match request {
        Ok(Some(request)) => (request.body, read_files(store, &request.files)),
        Ok(None) => return invalid("its request is lost"),
        Err(error) => return invalid(&error.to_string()),
    };
    let files = match files {
        Ok(files) => files,
        Err(error) => return invalid(&error.to_string()),
    };
    let mut work = match serde_json::from_slice::<StoredForm>(&request) {
        Ok(StoredForm::Work { work }) => *work,
        Ok(StoredForm::Submission { mut submission, callback_token: _ }) => {
            submission.id = Some(held.id.clone());
            match accept(&submission, &caller.principal, profiles, &|blob| files.get(blob).cloned()) {
                Ok(work) => work,
                Err(rejected) => return invalid(&rejected.to_string()),
            }
        }
        Err(error) => return invalid(&error.to_string()),
    };
    if work.stdin_open {
        return answer(blame::input_lost(&held.id));
    }
    // the profile's current definition; the allocator reports one that is gone
    if let Some(profile) = profiles.get(&work.profile.name) {
        work.profile = profile.clone();
    }
    // a deadline goes on while no daemon runs
    let waited_ms = records::now_ms().saturating_sub(held.received_ms).max(0).unsigned_abs();
    work.deadline = work.deadline.map(|deadline| deadline.saturating_sub(Duration::from_millis(waited_ms)));
    Revived::Run(Box::new(work))
}
