//! From one daemon to the next: what was not started, and reports that nobody has come for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Arrival, Scheduler};
use crate::answers::Answer;
use crate::blame::bare;
use crate::registry::{Ends, Entry, State};
use judge::events::EventLog;
use judge::work::Work;
use protocol::{Blame, Profile, Report, Verdict};

impl Scheduler {
    /// Keeps what was not started for the next daemon; its answer when that cannot be.
    pub(super) async fn keep(&self, work: Work, digest: [u8; 32], received: Instant) -> Option<Report> {
        let (id, uid) = (work.id.clone(), work.caller.uid);
        let left = work.deadline.map(|deadline| deadline.saturating_sub(received.elapsed()));
        let folder = self.kept.clone();
        let kept = tokio::task::spawn_blocking(move || folder.put(Work { deadline: left, ..work }, digest)).await;
        let error = match kept {
            Ok(Ok(())) => return None,
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        tracing::error!(submission = %id.escape_debug(), uid, error, "a submission cannot be kept for the next daemon");
        let message = "The daemon ended before the submission was started, and could not keep it; hand it in again.";
        let mut report = bare(&id, Verdict::Cancelled, message);
        report.blame = Some(Blame::Assay);
        Some(report)
    }

    /// Takes over what the last daemon left unstarted; how many there were.
    pub fn resume(self: &Arc<Self>, profiles: &BTreeMap<String, Arc<Profile>>) -> usize {
        let all = self.kept.all();
        let count = all.len();
        for (file, kept) in all {
            let (digest, mut work) = (kept.digest, kept.into_work());
            // the profile as it is now; one that is gone is said by the desk
            if let Some(profile) = profiles.get(&work.profile.name) {
                work.profile = profile.clone();
            }
            let place = self.take_place(&mut self.by_uid(), &work);
            let (received, accepting) = (Instant::now(), Duration::ZERO);
            let arrival = Arrival { received, accepting, log: EventLog::new(true), outlives_caller: true };
            self.begin(work, digest, arrival, received, place);
            if let Err(error) = std::fs::remove_file(&file) {
                tracing::error!(file = %file.display(), %error, "a kept submission is taken over, but its file stays");
            }
        }
        count
    }

    /// Keeps the reports that somebody may still come for, for the next daemon. To be called at a drain's end.
    pub async fn keep_answers(&self) {
        let answered = self.registry.answered();
        let answer = |(entry, age): (Arc<Entry>, Duration)| match entry.state() {
            State::Done(report) => {
                Some(Answer::new(&entry.id, &entry.caller, entry.digest, entry.outlives_caller, report, age))
            }
            _ => None,
        };
        let answers: Vec<Answer> = answered.into_iter().filter_map(answer).collect();
        let (file, shelf) = (self.answers.clone(), self.shelf.clone());
        let kept = tokio::task::spawn_blocking(move || file.put(answers, &*shelf)).await;
        match kept.map_err(std::io::Error::other).and_then(|kept| kept) {
            Ok(0) => {}
            Ok(reports) => tracing::info!(reports, "reports are kept for the next daemon"),
            Err(error) => tracing::error!(%error, "reports cannot be kept for the next daemon"),
        }
    }

    /// Takes over the reports that the last daemon kept; how many there were.
    pub fn take_answers(&self) -> usize {
        let answers = self.answers.take(&*self.shelf);
        let count = answers.len();
        for answer in answers {
            let age = answer.age();
            let ends = Ends { log: EventLog::new(true), input: None };
            let Answer { id, caller, digest, outlives_caller, report, .. } = answer;
            let entry = Arc::new(Entry::new(id, caller, digest, outlives_caller, ends));
            entry.set(State::Done(report));
            entry.ends.close();
            self.registry.add(entry.clone());
            self.registry.finished(&entry, age);
        }
        count
    }
}
