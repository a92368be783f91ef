//! Moves what a daemon of version 0.1 left in the state folder into the store: submissions in
//! `kept`, reports in `answers`. A file goes when the store has what it held.

use std::sync::Arc;

use super::kept_files::{KeptReport, UnfinishedSubmission};
use super::records;
use super::service::SubmissionService;
use super::stored::StoredForm;
use protocol::{Caller, Report};
use store::{Attached, Finish, Intake, IntakeResult, StagedOutputs, Store};

impl SubmissionService {
    /// Moves all; what the store does not take stays for the next start.
    pub(super) async fn migrate(&self, store: &Arc<Store>) {
        let (kept, reports) = (self.kept_files.submissions(), self.kept_files.reports());
        let (submissions, count) = (kept.len(), reports.len());
        let mut failed = 0;
        for (file, unfinished) in kept {
            match migrate_submission(store, unfinished).await {
                Ok(()) => drop(std::fs::remove_file(&file)),
                Err(error) => {
                    failed += 1;
                    tracing::error!(
                        file = %file.display(), %error,
                        "the store did not take a saved submission; it is tried again at the next start"
                    );
                }
            }
        }
        let mut are_reports_in = true;
        for report in reports {
            if let Err(error) = migrate_report(store, report).await {
                are_reports_in = false;
                tracing::error!(%error, "the store did not take a saved report; it is tried again at the next start");
            }
        }
        if are_reports_in {
            self.kept_files.remove_reports();
        }
        self.kept_files.remove_empty();
        if submissions + count > 0 {
            tracing::info!(submissions, reports = count, failed, "moved the files of version 0.1 into the store");
        }
    }
}

async fn migrate_submission(store: &Store, unfinished: UnfinishedSubmission) -> Result<(), store::Error> {
    let (digest, work) = (unfinished.digest, Box::new(unfinished.into_work()));
    let (owner, id) = (records::owner(&work.caller), work.id.clone());
    let language = work.profile.name.clone();
    let request = serde_json::to_vec(&StoredForm::Work { work }).unwrap_or_default();
    let intake = Intake { owner, id, digest, language, request, inputs: StagedOutputs::default() };
    // one that is known was moved before its file could be removed
    store.intake(intake).done().await.map(drop)
}

async fn migrate_report(store: &Arc<Store>, kept: KeptReport) -> Result<(), store::Error> {
    let KeptReport { id, caller, digest, report, blobs, .. } = kept;
    let Ok(made) = serde_json::from_str::<Report>(report.as_str()) else { return Ok(()) };
    let language = made.sandbox.as_ref().map_or(String::new(), |sandbox| sandbox.profile.clone());
    let entry = entry(&caller, &id, &language, &made);
    let owner = entry.owner.clone();
    let inputs = StagedOutputs::default();
    let intake = Intake { owner, id, digest, language, request: b"{}".to_vec(), inputs };
    let key = match store.intake(intake).done().await? {
        IntakeResult::Accepted { key } | IntakeResult::Known { key, history: None, .. } => key,
        IntakeResult::Known { .. } | IntakeResult::Conflict => return Ok(()),
    };
    let staging = store.clone();
    let contents: Vec<_> = blobs.into_iter().collect();
    let staged = tokio::task::spawn_blocking(move || staging.stage(&contents)).await;
    let outputs = staged.unwrap_or(Err(store::Error::Closed))?;
    let report = report.as_str().as_bytes().to_vec();
    store
        .finish(Finish { key, entry, report, attached: Attached::default(), outputs, is_awaited: true, callback: None })
        .done()
        .await
        .map(drop)
}

fn entry(caller: &Caller, id: &str, language: &str, report: &Report) -> store::HistoryEntry {
    let entry = records::entry(caller, language, report, std::time::Instant::now());
    store::HistoryEntry { id: id.to_owned(), ..entry }
}
