//! Saves unfinished submissions and reports for the next daemon, and loads those of the last one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::phase::SubmissionPhase;
use super::registry::{SubmissionHandle, SubmissionIo};
use super::report_store::StoredReport;
use super::{Arrival, SubmissionService, blame};
use judge::events::EventLog;
use judge::work::Work;
use protocol::{Profile, Report};

impl SubmissionService {
    /// Saves a submission for the next daemon. Returns its report if that fails.
    pub(super) async fn save(&self, work: Work, digest: [u8; 32], received: Instant) -> Option<Report> {
        let (id, uid) = (work.id.clone(), work.caller.uid);
        let deadline = work.deadline.map(|deadline| deadline.saturating_sub(received.elapsed()));
        let store = self.unfinished.clone();
        let saved = tokio::task::spawn_blocking(move || store.save(Work { deadline, ..work }, digest)).await;
        let error = match saved {
            Ok(Ok(())) => return None,
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        tracing::error!(submission = %id.escape_debug(), uid, error, "cannot save a submission for the next daemon");
        Some(blame::not_saved(&id))
    }

    /// Resumes the submissions that the last daemon left unfinished. Returns their number.
    pub fn resume(self: &Arc<Self>, profiles: &BTreeMap<String, Arc<Profile>>) -> usize {
        let all = self.unfinished.load();
        let count = all.len();
        for (file, unfinished) in all {
            let (digest, mut work) = (unfinished.digest, unfinished.into_work());
            // use the profile's current definition; the allocator reports one that is gone
            if let Some(profile) = profiles.get(&work.profile.name) {
                work.profile = profile.clone();
            }
            let slot = self.take_slot(&mut self.usage_by_uid.lock(), &work);
            let (received, accepting) = (Instant::now(), Duration::ZERO);
            let arrival = Arrival { received, accepting, log: EventLog::new(true), outlives_caller: true };
            self.start_task(work, digest, arrival, received, slot);
            if let Err(error) = std::fs::remove_file(&file) {
                tracing::error!(file = %file.display(), %error, "a saved submission is resumed, but its file cannot be removed");
            }
        }
        count
    }

    /// Saves all reports for the next daemon, at the end of a drain.
    pub async fn save_reports(&self) {
        let stored = |(handle, age): (Arc<SubmissionHandle>, Duration)| match handle.phase() {
            SubmissionPhase::Done(report) => {
                let SubmissionHandle { id, caller, digest, .. } = &*handle;
                Some(StoredReport::new(id, caller, *digest, handle.outlives_caller(), report, age))
            }
            _ => None,
        };
        let reports: Vec<StoredReport> = self.registry.answered().into_iter().filter_map(stored).collect();
        let (store, blobs) = (self.reports.clone(), self.blobs.clone());
        let saved = tokio::task::spawn_blocking(move || store.save(reports, &*blobs)).await;
        match saved.map_err(std::io::Error::other).and_then(|saved| saved) {
            Ok(0) => {}
            Ok(reports) => tracing::info!(reports, "reports saved for the next daemon"),
            Err(error) => tracing::error!(%error, "cannot save reports for the next daemon"),
        }
    }

    /// Loads the reports that the last daemon saved. Returns their number.
    pub fn load_reports(&self) -> usize {
        let reports = self.reports.take(&*self.blobs);
        let count = reports.len();
        for stored in reports {
            let age = stored.age();
            let io = SubmissionIo { log: EventLog::new(true), input: None };
            let StoredReport { id, caller, digest, outlives_caller, report, .. } = stored;
            let handle = Arc::new(SubmissionHandle::new(id, caller, digest, outlives_caller, io));
            self.registry.add(handle.clone());
            self.publish(&handle, report, age);
        }
        count
    }
}
