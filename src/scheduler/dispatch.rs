//! From an admitted submission to its one report.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::sync::Notify;

use super::admission::{Bounds, Load, Refusal, admit};
use super::counters::Counters;
use super::desk::{Desk, Placed};
use super::registry::{Claim, Entry, Registry, State};
use super::stages::{StageRow, Stages};
use crate::config::{Queue, bounds};
use crate::host::{End, Fleet, Host, HostState};
use crate::judge::drive::{Judged, Sink, Spent, judge};
use crate::judge::render::{self, millis};
use crate::model::report::SandboxInfo;
use crate::model::work::Work;
use crate::model::{Blame, Outcome, Report, RunFacts, StartKind, Submission, Verdict};
use crate::pool::Lease;
use crate::sandbox::{Lost, ensure_limits, short};

/// Puts a large output where its owner can fetch it: uid and bytes in, blob id out.
pub type Shelve = dyn Fn(u32, Bytes) -> Option<String> + Send + Sync;

/// The scheduler. Shared by all connections.
pub struct Scheduler {
    fleet: Arc<Fleet>,
    desk: Arc<Desk>,
    queue: Mutex<Queue>,
    registry: Registry,
    stages: Stages,
    admitted: AtomicUsize,
    counters: Counters,
    by_uid: Mutex<HashMap<u32, Held>>,
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
    bytes: u64,
}

/// What a uid has in the queue's books.
#[derive(Debug, Clone, Copy, Default)]
struct Held {
    submissions: usize,
    bytes: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.scheduler.admitted.fetch_sub(1, Ordering::Relaxed);
        let mut by_uid = self.scheduler.by_uid.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = by_uid.get_mut(&self.uid) {
            held.submissions -= 1;
            held.bytes -= self.bytes;
            if held.submissions == 0 {
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
    /// A scheduler over hosts, which ring `bell`.
    pub fn new(fleet: Arc<Fleet>, bell: Arc<Notify>, queue: Queue, shelve: Box<Shelve>) -> Arc<Scheduler> {
        Arc::new(Scheduler {
            desk: Desk::open(fleet.clone(), bell, queue.max_running_per_uid),
            fleet,
            queue: Mutex::new(queue),
            registry: Registry::default(),
            stages: Stages::default(),
            admitted: AtomicUsize::new(0),
            counters: Counters::default(),
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
        let place = self.place(&work)?;
        let entry = Arc::new(Entry::new(work.id.clone(), work.caller.clone(), content));
        self.registry.add(entry.clone());
        let (scheduler, task) = (self.clone(), entry.clone());
        tokio::spawn(async move {
            let report = scheduler.answer(&work, &task, &sink, received).await;
            drop(sink);
            scheduler.stages.record(&report);
            scheduler.counters.answered(&report);
            // the place is free before the answer is seen: whoever has an answer may submit again
            drop(place);
            scheduler.registry.finished(&task);
            task.set(State::Done(Arc::new(report)));
        });
        Ok(entry)
    }

    fn place(self: &Arc<Self>, work: &Work) -> Result<Place, Refusal> {
        let uid = work.caller.uid;
        let predicted = work.deadline.and_then(|_| self.desk.predict(uid, &work.profile.name));
        let bytes = work.bytes();
        let mut by_uid = self.by_uid.lock().unwrap_or_else(PoisonError::into_inner);
        let held = by_uid.get(&uid).copied().unwrap_or_default();
        let load = Load {
            admitted: self.admitted.load(Ordering::Relaxed),
            of_uid: held.submissions,
            bytes_of_uid: held.bytes.saturating_add(bytes),
            host_up: !self.fleet.willing().is_empty(),
            draining: self.draining.load(Ordering::Relaxed),
            refill: self.refill(),
            predicted,
            deadline: work.deadline,
        };
        let queue = self.queue();
        let limits =
            Bounds { max: queue.max, max_per_uid: queue.max_per_uid, max_bytes_per_uid: bounds::MAX_BYTES_PER_UID };
        admit(load, limits).inspect_err(|_| self.counters.count(&self.counters.refused)).map_err(|refusal| {
            match refusal {
                Refusal::NoHost { .. } => Refusal::NoHost { reason: self.why_no_host() },
                other => other,
            }
        })?;
        self.admitted.fetch_add(1, Ordering::Relaxed);
        self.counters.count(&self.counters.admitted);
        let held = by_uid.entry(uid).or_default();
        held.submissions += 1;
        held.bytes += bytes;
        Ok(Place { scheduler: self.clone(), uid, bytes })
    }

    fn refill(&self) -> Duration {
        let hosts = self.fleet.all();
        let pools = hosts.iter().flat_map(|host| host.pools());
        pools.map(|pool| pool.create_mean()).max().unwrap_or_default()
    }

    fn why_no_host(&self) -> String {
        let said = |host: &Arc<Host>| {
            let health = host.health();
            let reason = match health.state() {
                HostState::Draining => "it is being drained".to_owned(),
                _ => health
                    .reason
                    .map_or("the engine has not answered yet".to_owned(), |reason| format!("failed to {reason}")),
            };
            let remedy = health.remedy.map(|remedy| format!(". Remedy: {remedy}")).unwrap_or_default();
            (host.name().to_owned(), format!("{reason}{remedy}"))
        };
        match self.fleet.all().iter().map(said).collect::<Vec<_>>().as_slice() {
            [] => "none is configured".to_owned(),
            [(_, why)] => why.clone(),
            many => many.iter().map(|(name, why)| format!("{name}: {why}")).collect::<Vec<_>>().join("; "),
        }
    }

    async fn answer(&self, work: &Work, entry: &Entry, sink: &Sink, received: Instant) -> Report {
        let mut deaths: Vec<Death> = Vec::new();
        let mut report = loop {
            let avoid = deaths.last().map(|death| death.host.as_str());
            match self.try_once(work, entry, sink, received, avoid).await {
                Ok(report) => break report,
                Err(death) => {
                    tracing::warn!(
                        submission = %work.id.escape_debug(), uid = work.caller.uid, host = %death.host, lost = %death.lost,
                        engine_was_well = death.engine_was_well, init_exit_code = death.end.exit_code,
                        "a sandbox was lost in the middle of a run"
                    );
                    deaths.push(death);
                    // streamed output has been seen: running it again would show it twice
                    if deaths.len() > 1 || sink.0.is_some() || *entry.cancelled().borrow() {
                        break lost_report(&work.id, &deaths);
                    }
                    self.counters.retried.fetch_add(1, Ordering::Relaxed);
                }
            }
        };
        report.timing.total_ms = millis(received.elapsed());
        report
    }

    async fn try_once(
        &self,
        work: &Work,
        entry: &Entry,
        sink: &Sink,
        received: Instant,
        avoid: Option<&str>,
    ) -> Result<Report, Death> {
        let patience = work.deadline.unwrap_or(self.queue().patience()).saturating_sub(received.elapsed());
        let mut cancel = entry.cancelled();
        let queued = Instant::now();
        let placed = tokio::select! {
            biased;
            _ = cancel.wait_for(|cancelled| *cancelled) => return Ok(bare(&work.id, Verdict::Cancelled, "The submission was cancelled.")),
            placed = self.desk.wait(work, avoid, patience) => placed,
        };
        let Placed { host, mut lease, taken, running } = match placed {
            Ok(placed) => placed,
            Err(error) => {
                let message = format!("No sandbox could be had: {error}.");
                let mut report = bare(&work.id, Verdict::SystemError, &message);
                report.blame = Some(if self.fleet.willing().is_empty() { Blame::Host } else { Blame::Assay });
                report.timing.queue_ms = millis(queued.elapsed());
                return Ok(report);
            }
        };
        let queue_time = queued.elapsed();
        let leasing = Instant::now();
        let profile = &work.profile;
        let occupied = host.occupy(lease.sandbox.id(), &profile.name, &work.id, work.caller.uid);
        entry.set(State::Running);
        let judged = on_lease(&host, &mut lease, work, sink, &entry.cancelled(), leasing).await;
        let container = lease.sandbox.id().to_owned();
        let info = SandboxInfo {
            id: short(lease.sandbox.id()).to_owned(),
            host: host.name().to_owned(),
            image: lease.image.to_string(),
            profile: profile.name.clone(),
            isolation: "split".to_owned(),
            engine: host.engine_version(),
        };
        let start = lease.start;
        // the sandbox is spent whatever came of it; its end costs the answer nothing
        drop((lease, occupied, taken, running));
        let (judged, lease_time) = match judged {
            Ok(judged) => judged,
            Err(lost) => {
                let end = host.end_of(&container).await;
                if !end.oom {
                    host.doubt();
                    let engine_was_well = host.was_well_since(leasing).await;
                    return Err(Death { lost, end, engine_was_well, host: host.name().to_owned() });
                }
                (out_of_memory(work, &lost), Duration::ZERO)
            }
        };
        let uid = work.caller.uid;
        let mut report = render::report(&work.id, judged, &|bytes| (self.shelve)(uid, bytes));
        report.start = Some(start);
        report.sandbox = Some(info);
        report.timing.queue_ms = millis(queue_time);
        report.timing.lease_ms = millis(lease_time);
        Ok(report)
    }

    /// A submission of this uid.
    pub fn find(&self, uid: u32, admin: bool, id: &str) -> Option<Arc<Entry>> {
        self.registry.find(uid, admin, id)
    }

    /// Forgets a submission: its caller has the report and gave it no id to ask again by.
    pub fn forget(&self, entry: &Arc<Entry>) {
        self.registry.remove(entry);
    }

    /// The submissions of this uid; all, for an admin.
    pub fn list(&self, uid: u32, admin: bool) -> Vec<Arc<Entry>> {
        self.registry.list(uid, admin)
    }

    /// Admitted, running, and the most that are admitted.
    pub fn counts(&self) -> (usize, usize, usize) {
        (self.admitted.load(Ordering::Relaxed), self.desk.running(), self.queue().max)
    }

    /// The stages of the last submissions.
    pub fn stages(&self) -> BTreeMap<&'static str, StageRow> {
        self.stages.rows()
    }

    /// The hosts.
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// The desk, where those who wait stand in line.
    pub fn desk(&self) -> &Desk {
        &self.desk
    }

    /// What came of submissions since the start.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Other bounds from now on.
    pub fn set_queue(&self, queue: Queue) {
        self.desk.set_max_running_per_uid(queue.max_running_per_uid);
        *self.queue.lock().unwrap_or_else(PoisonError::into_inner) = queue;
    }

    fn queue(&self) -> Queue {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
        let deadline = Instant::now() + self.queue().drain();
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

/// Judges on a lease; how long it took until the sandbox was as the submission wants it.
async fn on_lease(
    host: &Host,
    lease: &mut Lease,
    work: &Work,
    sink: &Sink,
    cancel: &tokio::sync::watch::Receiver<bool>,
    leasing: Instant,
) -> Result<(Judged, Duration), Lost> {
    let usual = work.profile.run_limits().ok();
    let differs = usual.is_none_or(|usual| {
        (usual.memory_bytes, usual.pids, usual.cpus) != (work.limits.memory_bytes, work.limits.pids, work.limits.cpus)
    });
    if differs {
        // the named exception to invariant 8; the sandbox is single-use, so nothing has to be put back
        ensure_limits(host.client(), &mut lease.sandbox, &work.limits)
            .await
            .map_err(|error| Lost::Io(error.to_string()))?;
    }
    let lease_time = leasing.elapsed();
    let judged = judge(&mut lease.sandbox, work, sink, cancel).await?;
    Ok((judged, lease_time))
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

/// A sandbox that died under a submission.
#[derive(Debug)]
struct Death {
    lost: Lost,
    /// How its container ended.
    end: End,
    /// Whether its engine provably did not fail meanwhile.
    engine_was_well: bool,
    host: String,
}

/// Deaths of sandboxes under one submission. Two of them are the submission's doing only when the engine provably was well
/// all the time and the inits ended by themselves. Where the engine was not, the host is to blame; an init that was killed
/// was killed from outside.
fn lost_report(id: &str, deaths: &[Death]) -> Report {
    let host_failed = deaths.iter().any(|death| !death.engine_was_well);
    let words = deaths.iter().map(|death| death.lost.to_string()).collect::<Vec<_>>().join("; then ");
    let (blame, message) = if host_failed {
        (Blame::Host, "The Docker host failed while the submission ran; this is not the submission's fault.")
    } else if deaths.len() > 1 && deaths.iter().all(|death| death.end.is_its_own()) {
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

    fn death(engine_was_well: bool, exit_code: i64) -> Death {
        let end = End { oom: false, exit_code: Some(exit_code) };
        Death { lost: Lost::Eof, end, engine_was_well, host: "local".to_owned() }
    }

    #[test]
    fn an_init_that_was_killed_is_not_the_submissions_doing() {
        assert_eq!(lost_report("1", &[death(true, 137), death(true, 137)]).blame, Some(Blame::Assay));
        assert_eq!(lost_report("1", &[death(true, 134), death(true, 137)]).blame, Some(Blame::Assay));
    }

    #[test]
    fn a_host_that_failed_is_to_blame_for_a_lost_run() {
        let report = lost_report("1", &[death(false, 134)]);
        assert_eq!((report.verdict, report.blame), (Verdict::SystemError, Some(Blame::Host)));
    }

    #[test]
    fn a_second_death_on_a_healthy_host_is_the_submissions_doing() {
        let report = lost_report("1", &[death(true, 134), death(true, 134)]);
        assert_eq!(report.blame, Some(Blame::Caller));
        assert_eq!(report.run.unwrap().evidence.lost.unwrap().matches("attach stream ended").count(), 2);
    }
}
