//! From an admitted submission to its one report.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::admission::{Bounds, Load, Refusal, admit};
use super::registry::{Claim, Entry, Registry, State};
use super::stages::{StageRow, Stages};
use crate::config::Queue;
use crate::host::Host;
use crate::judge::drive::{Judged, Sink, Spent, judge};
use crate::judge::render::{self, millis};
use crate::model::report::SandboxInfo;
use crate::model::work::Work;
use crate::model::{Blame, Outcome, Report, RunFacts, StartKind, Submission, Verdict};
use crate::pool::{Lease, LeaseError};
use crate::sandbox::{Lost, ensure_limits, short};

/// Puts a large output where its owner can fetch it: uid and bytes in, blob id out.
pub type Shelve = dyn Fn(u32, Bytes) -> Option<String> + Send + Sync;

/// The scheduler. Shared by all connections.
pub struct Scheduler {
    host: Arc<Host>,
    queue: Queue,
    registry: Registry,
    stages: Stages,
    admitted: AtomicUsize,
    running: AtomicUsize,
    by_uid: Mutex<HashMap<u32, usize>>,
    draining: AtomicBool,
    shelve: Box<Shelve>,
}

impl std::fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scheduler").field("admitted", &self.admitted).finish_non_exhaustive()
    }
}

/// A place in the queue's books, given back when dropped.
struct Place {
    scheduler: Arc<Scheduler>,
    uid: u32,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.scheduler.admitted.fetch_sub(1, Ordering::Relaxed);
        let mut by_uid = self.scheduler.by_uid.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_uid.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                by_uid.remove(&self.uid);
            }
        }
    }
}

/// A digest over what a submission says, so that the same id with other content is told.
fn digest(submission: &Submission) -> [u8; 32] {
    let json = serde_json::to_vec(submission).unwrap_or_default();
    Sha256::digest(json).into()
}

impl Scheduler {
    /// A scheduler over a host.
    pub fn new(host: Arc<Host>, queue: Queue, shelve: Box<Shelve>) -> Arc<Scheduler> {
        Arc::new(Scheduler {
            host,
            queue,
            registry: Registry::default(),
            stages: Stages::default(),
            admitted: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            by_uid: Mutex::default(),
            draining: AtomicBool::new(false),
            shelve,
        })
    }

    /// Admits a submission and starts working on it. `received` is when its last byte came in.
    ///
    /// # Errors
    /// The queue's no, see [`Refusal`].
    pub fn submit(
        self: &Arc<Self>,
        submission: &Submission,
        work: Work,
        sink: Sink,
        received: Instant,
    ) -> Result<Arc<Entry>, Refusal> {
        let content = if submission.id.is_some() { digest(submission) } else { [0; 32] };
        if submission.id.is_some() {
            match self.registry.claim(&work.caller, &work.id, &content) {
                Claim::New => {}
                Claim::Known(entry) => return Ok(entry),
                Claim::Conflict => return Err(Refusal::Conflict { id: work.id }),
            }
        }
        let place = self.place(work.caller.uid)?;
        let entry = Arc::new(Entry::new(work.id.clone(), work.caller.clone(), content));
        self.registry.add(entry.clone());
        let (scheduler, task) = (self.clone(), entry.clone());
        tokio::spawn(async move {
            let report = scheduler.answer(&work, &task, &sink, received).await;
            drop(sink);
            scheduler.stages.record(&report);
            // the place is free before the answer is seen: whoever has an answer may submit again
            drop(place);
            task.set(State::Done(Arc::new(report)));
        });
        Ok(entry)
    }

    fn place(self: &Arc<Self>, uid: u32) -> Result<Place, Refusal> {
        let mut by_uid = self.by_uid.lock().unwrap_or_else(PoisonError::into_inner);
        let load = Load {
            admitted: self.admitted.load(Ordering::Relaxed),
            of_uid: by_uid.get(&uid).copied().unwrap_or(0),
            host_up: self.host.is_up(),
            draining: self.draining.load(Ordering::Relaxed),
            refill: self.refill(),
        };
        let bounds = Bounds { max: self.queue.max, max_per_uid: self.queue.max_per_uid };
        admit(load, bounds).map_err(|refusal| match refusal {
            Refusal::NoHost { .. } => Refusal::NoHost { reason: self.why_no_host() },
            other => other,
        })?;
        self.admitted.fetch_add(1, Ordering::Relaxed);
        *by_uid.entry(uid).or_default() += 1;
        Ok(Place { scheduler: self.clone(), uid })
    }

    fn refill(&self) -> Duration {
        let slowest = self.host.pools().iter().map(|pool| pool.state().create_ms).fold(0.0, f64::max);
        Duration::from_secs_f64(slowest / 1e3)
    }

    fn why_no_host(&self) -> String {
        let health = self.host.health();
        let reason = health.reason.unwrap_or_else(|| "the engine has not answered yet".to_owned());
        match health.remedy {
            Some(remedy) => format!("failed to {reason}. Remedy: {remedy}"),
            None => format!("failed to {reason}"),
        }
    }

    async fn answer(&self, work: &Work, entry: &Entry, sink: &Sink, received: Instant) -> Report {
        let mut deaths = Vec::new();
        let mut report = loop {
            match self.try_once(work, entry, sink, received).await {
                Ok(report) => break report,
                Err(lost) => {
                    let up = self.host.client().ping().await.is_ok();
                    tracing::warn!(
                        submission = %work.id.escape_debug(), uid = work.caller.uid, %lost, engine_up = up,
                        "a sandbox was lost in the middle of a run"
                    );
                    deaths.push((lost, up));
                    // streamed output has been seen: running it again would show it twice
                    if deaths.len() > 1 || sink.0.is_some() || *entry.cancelled().borrow() {
                        break lost_report(&work.id, &deaths);
                    }
                }
            }
        };
        report.timing.total_ms = millis(received.elapsed());
        report
    }

    async fn try_once(&self, work: &Work, entry: &Entry, sink: &Sink, received: Instant) -> Result<Report, Lost> {
        let patience = work.deadline.unwrap_or(self.queue.patience()).saturating_sub(received.elapsed());
        let mut cancel = entry.cancelled();
        let queued = Instant::now();
        let lease = tokio::select! {
            biased;
            _ = cancel.wait_for(|cancelled| *cancelled) => return Ok(bare(&work.id, Verdict::Cancelled, "The submission was cancelled.")),
            lease = self.lease(work, patience) => lease,
        };
        let mut lease = match lease {
            Ok(lease) => lease,
            Err(error) => {
                let message = format!("No sandbox could be had: {error}.");
                let mut report = bare(&work.id, Verdict::SystemError, &message);
                report.blame = Some(if self.host.is_up() { Blame::Assay } else { Blame::Host });
                report.timing.queue_ms = millis(queued.elapsed());
                return Ok(report);
            }
        };
        let queue_time = queued.elapsed();
        let leasing = Instant::now();
        let profile = &work.profile;
        let occupied = self.host.occupy(lease.sandbox.id(), &profile.name, &work.id, work.caller.uid);
        self.running.fetch_add(1, Ordering::Relaxed);
        entry.set(State::Running);
        let judged = self.on_lease(&mut lease, work, sink, &entry.cancelled(), leasing).await;
        self.running.fetch_sub(1, Ordering::Relaxed);
        let container = lease.sandbox.id().to_owned();
        let info = SandboxInfo {
            id: short(lease.sandbox.id()).to_owned(),
            host: self.host.name().to_owned(),
            image: lease.image.to_string(),
            profile: profile.name.clone(),
            isolation: "split".to_owned(),
            engine: self.host.engine_version(),
        };
        let start = lease.start;
        // the sandbox is spent whatever came of it; its end costs the answer nothing
        drop(lease);
        drop(occupied);
        let (judged, lease_time) = match judged {
            Err(lost) if self.host.saw_oom(&container).await => (out_of_memory(work, &lost), Duration::ZERO),
            other => other?,
        };
        let uid = work.caller.uid;
        let mut report = render::report(&work.id, judged, &|bytes| (self.shelve)(uid, bytes));
        report.start = Some(start);
        report.sandbox = Some(info);
        report.timing.queue_ms = millis(queue_time);
        report.timing.lease_ms = millis(lease_time);
        Ok(report)
    }

    async fn lease(&self, work: &Work, patience: Duration) -> Result<Lease, LeaseError> {
        let pool = self.host.pool(&work.profile.name).ok_or(LeaseError::Closed)?;
        pool.lease(patience).await
    }

    async fn on_lease(
        &self,
        lease: &mut Lease,
        work: &Work,
        sink: &Sink,
        cancel: &tokio::sync::watch::Receiver<bool>,
        leasing: Instant,
    ) -> Result<(Judged, Duration), Lost> {
        let usual = work.profile.run_limits().ok();
        let differs = usual.is_none_or(|usual| {
            (usual.memory_bytes, usual.pids, usual.cpus)
                != (work.limits.memory_bytes, work.limits.pids, work.limits.cpus)
        });
        if differs {
            // the named exception to invariant 8; the sandbox is single-use, so nothing has to be put back
            ensure_limits(self.host.client(), &mut lease.sandbox, &work.limits)
                .await
                .map_err(|error| Lost::Io(error.to_string()))?;
        }
        let lease_time = leasing.elapsed();
        let judged = judge(&mut lease.sandbox, work, sink, cancel).await?;
        Ok((judged, lease_time))
    }

    /// A submission of this uid.
    pub fn find(&self, uid: u32, admin: bool, id: &str) -> Option<Arc<Entry>> {
        self.registry.find(uid, admin, id)
    }

    /// Forgets a submission: its caller has the report and gave it no id to ask again by.
    pub fn forget(&self, entry: &Entry) {
        self.registry.remove(entry);
    }

    /// The submissions of this uid; all, for an admin.
    pub fn list(&self, uid: u32, admin: bool) -> Vec<Arc<Entry>> {
        self.registry.list(uid, admin)
    }

    /// Admitted, running, and the most that are admitted.
    pub fn counts(&self) -> (usize, usize, usize) {
        (self.admitted.load(Ordering::Relaxed), self.running.load(Ordering::Relaxed), self.queue.max)
    }

    /// The stages of the last submissions.
    pub fn stages(&self) -> BTreeMap<&'static str, StageRow> {
        self.stages.rows()
    }

    /// The host.
    pub fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// Whether new work is refused.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Refuses new work from now on.
    pub fn stop_admitting(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Waits until everybody is answered; after the configured time cancels what is left and answers that.
    pub async fn drain(&self) {
        self.stop_admitting();
        let deadline = Instant::now() + self.queue.drain();
        let mut withdrawn = false;
        while self.admitted.load(Ordering::Relaxed) > 0 {
            if Instant::now() > deadline {
                if withdrawn {
                    return;
                }
                withdrawn = true;
                for entry in self.registry.list(0, true) {
                    entry.cancel();
                }
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn bare(id: &str, verdict: Verdict, message: &str) -> Report {
    let judged = Judged {
        verdict,
        message: message.to_owned(),
        compile: None,
        tests: Vec::new(),
        run: None,
        spent: Spent::default(),
    };
    render::report(id, judged, &|_| None)
}

/// A sandbox that died, init and all, because its memory was used up: that is the program's limit, not a fault of ours.
fn out_of_memory(work: &Work, lost: &Lost) -> Judged {
    let mut facts = RunFacts::bare(Outcome::MemoryLimit);
    facts.evidence.limit = Some("memory_bytes".to_owned());
    facts.evidence.limit_value = Some(work.limits.memory_bytes);
    facts.evidence.lost = Some(lost.to_string());
    Judged {
        verdict: Verdict::MemoryLimit,
        message: crate::judge::decide::message(&facts, &work.limits),
        compile: None,
        tests: Vec::new(),
        run: Some(facts),
        spent: Spent::default(),
    }
}

/// Deaths of sandboxes under one submission. `lost` needs independent proof that the host failed (its engine did not
/// answer); a second death on a healthy host is the submission's doing.
fn lost_report(id: &str, deaths: &[(Lost, bool)]) -> Report {
    let host_failed = deaths.iter().any(|(_, up)| !up);
    let words = deaths.iter().map(|(lost, _)| lost.to_string()).collect::<Vec<_>>().join("; then ");
    let (blame, message) = if host_failed {
        (Blame::Host, "The Docker host failed while the submission ran; this is not the submission's fault.")
    } else if deaths.len() > 1 {
        (Blame::Caller, "The sandbox died under the submission twice on a healthy host.")
    } else {
        (Blame::Assay, "The sandbox was lost while the submission ran; this is not the submission's fault.")
    };
    let mut facts = RunFacts::bare(Outcome::Lost);
    facts.evidence.lost = Some(words);
    let judged = Judged {
        verdict: Verdict::SystemError,
        message: message.to_owned(),
        compile: None,
        tests: Vec::new(),
        run: Some(facts),
        spent: Spent::default(),
    };
    let mut report = render::report(id, judged, &|_| None);
    report.blame = Some(blame);
    report.start = None::<StartKind>;
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_failed_is_to_blame_for_a_lost_run() {
        let report = lost_report("1", &[(Lost::Eof, false)]);
        assert_eq!((report.verdict, report.blame), (Verdict::SystemError, Some(Blame::Host)));
    }

    #[test]
    fn a_second_death_on_a_healthy_host_is_the_submissions_doing() {
        let report = lost_report("1", &[(Lost::Eof, true), (Lost::Eof, true)]);
        assert_eq!(report.blame, Some(Blame::Caller));
        assert_eq!(report.run.unwrap().evidence.lost.unwrap().matches("attach stream ended").count(), 2);
    }
}
