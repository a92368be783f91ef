//! From an admitted submission to its one report.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use sha2::{Digest, Sha256};
use tokio::sync::{Notify, watch};

use super::admission::{Bounds, Load, Refusal, admit};
use super::answers::{Answers, Shelf};
use super::blame::{Death, bare, lost_report, out_of_memory, referee_out_of_memory};
use super::counters::Counters;
use super::desk::{Desk, NoSandbox, Placed};
use super::kept;
use super::registry::{Claim, Ends, Entry, Registry, State};
use super::said;
use super::seats::{may_keep, on_lease, seconds};
use super::stages::{Laps, Stage, Stages};
use super::tally::Tally;
use config::{Queue, bounds};
use judge::cache::Cache;
use judge::decide::CANCELLED;
use judge::drive::{LostSandbox, RunContext};
use judge::events::EventLog;
use judge::render::{self, millis};
use judge::work::Work;
use protocol::report::SandboxInfo;
use protocol::{Blame, Report, StartKind, Submission, Verdict};
use sandbox::host::{BusyGuard, Fleet, Host, HostState};
use sandbox::lifecycle::short;
use sandbox::pool::{Lease, RetireReason};
use telemetry::throttle::LogThrottle;

mod handover;

/// How long the engines' first word is waited for: longer than one that hangs is asked.
const FIRST_WORD: Duration = Duration::from_secs(10);

/// How long those whose run is cut short at a drain's end have to answer.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// How a submission came in.
#[derive(Debug)]
pub struct Arrival {
    /// When its last byte did.
    pub received: Instant,
    /// How long after its first.
    pub accepting: Duration,
    /// Where it is told what happens to it.
    pub log: Arc<EventLog>,
    /// Whether it goes on without a caller who waits for it, and past a drain.
    pub outlives_caller: bool,
}

/// The scheduler. Shared by all connections.
pub struct Scheduler {
    fleet: Arc<Fleet>,
    desk: Arc<Desk>,
    queue: Mutex<Queue>,
    registry: Registry,
    pub(super) stages: Stages,
    pub(super) admitted: AtomicUsize,
    counters: Arc<Counters>,
    pub(super) tally: Tally,
    by_uid: Mutex<HashMap<u32, Held>>,
    draining: AtomicBool,
    /// True from the drain's end on: what has not started is kept.
    over: watch::Sender<bool>,
    kept: kept::Folder,
    answers: Answers,
    cache: Cache,
    shelf: Arc<dyn Shelf>,
    /// Whether the engines' first word is in.
    has_heard: AtomicBool,
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
        let mut by_uid = self.scheduler.by_uid();
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
    /// A scheduler over hosts, which ring `bell`; what a drain leaves unstarted goes to the folder `kept` in the state folder,
    /// reports that somebody may still come for to `answers` beside it.
    pub fn new(
        fleet: Arc<Fleet>,
        bell: Arc<Notify>,
        queue: Queue,
        state: &Path,
        cache: Cache,
        shelf: Arc<dyn Shelf>,
    ) -> Arc<Scheduler> {
        Arc::new(Scheduler {
            desk: Desk::open(fleet.clone(), bell, queue.max_running_per_uid),
            fleet,
            queue: Mutex::new(queue),
            registry: Registry::default(),
            stages: Stages::default(),
            admitted: AtomicUsize::new(0),
            counters: Arc::default(),
            tally: Tally::default(),
            by_uid: Mutex::default(),
            draining: AtomicBool::new(false),
            over: watch::Sender::new(false),
            kept: kept::Folder::new(state.join("kept")),
            answers: Answers::new(state.join("answers")),
            cache,
            shelf,
            has_heard: AtomicBool::new(false),
        })
    }

    /// Waits until it is known whether a host takes work: one that does is enough, and one that hangs is not waited for long.
    /// Until then nobody can be told truthfully that there is no host. Free once that is known.
    pub async fn first_word(&self) {
        if self.has_heard.load(Ordering::Relaxed) {
            return;
        }
        let hosts = self.fleet.all();
        let mut looks: FuturesUnordered<_> = hosts.iter().map(|host| host.first_probe_done()).collect();
        let heard = async { while self.fleet.schedulable().is_empty() && looks.next().await.is_some() {} };
        let _ = tokio::time::timeout(FIRST_WORD, heard).await;
        self.has_heard.store(true, Ordering::Relaxed);
    }

    /// Admits a submission and starts working on it.
    ///
    /// # Errors
    /// The queue's no, see [`Refusal`].
    pub fn submit(
        self: &Arc<Self>,
        submission: &Submission,
        work: Work,
        arrival: Arrival,
    ) -> Result<Arc<Entry>, Refusal> {
        let asked = Instant::now();
        let content = if submission.id.is_some() { digest(submission) } else { [0; 32] };
        if submission.id.is_some() {
            match self.registry.claim(&work.caller, &work.id, &content) {
                Claim::New => {}
                Claim::Known(entry) => return Ok(entry),
                Claim::Conflict => return Err(Refusal::Conflict { id: work.id }),
            }
        }
        self.check_isolation(&work)?;
        let place = self.place(&work)?;
        Ok(self.begin(work, content, arrival, asked, place))
    }

    fn begin(
        self: &Arc<Self>,
        work: Work,
        content: [u8; 32],
        arrival: Arrival,
        asked: Instant,
        place: Place,
    ) -> Arc<Entry> {
        let Arrival { received, accepting, log, outlives_caller } = arrival;
        let ends = Ends { log, input: work.stdin_open.then(Arc::default) };
        let entry = Arc::new(Entry::new(work.id.clone(), work.caller.clone(), content, outlives_caller, ends));
        self.registry.add(entry.clone());
        let (scheduler, task) = (self.clone(), entry.clone());
        let language = work.profile.name.clone();
        tokio::spawn(async move {
            let mut laps = Laps::default();
            laps.set(Stage::Accept, accepting);
            laps.set(Stage::Parse, asked.saturating_duration_since(received));
            laps.set(Stage::Admit, asked.elapsed());
            let mut report = match scheduler.answer(&work, &task, received, &mut laps).await {
                Some(report) => report,
                None => match scheduler.keep(work, task.digest, received).await {
                    None => {
                        task.set(State::Kept);
                        task.ends.close();
                        return drop(place);
                    }
                    Some(report) => report,
                },
            };
            let total = received.elapsed();
            report.timing.total_ms = millis(total);
            laps.set(Stage::Total, total);
            scheduler.stages.record(&laps);
            scheduler.counters.answered(&report);
            said::answered(&task.caller, &language, &report);
            scheduler.tally.answered(&language, &report, total);
            // the place is free before the answer is seen: whoever has an answer may submit again
            drop(place);
            scheduler.registry.finished(&task, Duration::ZERO);
            task.set(State::Done(Arc::new(report)));
            task.ends.close();
        });
        entry
    }

    fn place(self: &Arc<Self>, work: &Work) -> Result<Place, Refusal> {
        let uid = work.caller.uid;
        let predicted = work.deadline.and_then(|_| self.desk.predict(uid, &work.profile.name));
        let bytes = work.bytes();
        let mut by_uid = self.by_uid();
        let held = by_uid.get(&uid).copied().unwrap_or_default();
        let load = Load {
            admitted: self.admitted.load(Ordering::Relaxed),
            of_uid: held.submissions,
            bytes_of_uid: held.bytes.saturating_add(bytes),
            host_up: !self.fleet.schedulable().is_empty(),
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
        Ok(self.take_place(&mut by_uid, work))
    }

    fn by_uid(&self) -> MutexGuard<'_, HashMap<u32, Held>> {
        self.by_uid.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_place(self: &Arc<Self>, by_uid: &mut HashMap<u32, Held>, work: &Work) -> Place {
        let (uid, bytes) = (work.caller.uid, work.bytes());
        self.admitted.fetch_add(1, Ordering::Relaxed);
        self.counters.count(&self.counters.admitted);
        let held = by_uid.entry(uid).or_default();
        held.submissions += 1;
        held.bytes += bytes;
        Place { scheduler: self.clone(), uid, bytes }
    }

    /// Whether every host that takes work keeps runs apart as the caller insists on.
    fn check_isolation(&self, work: &Work) -> Result<(), Refusal> {
        for host in self.fleet.schedulable().iter() {
            let offered = host.isolation(&work.profile);
            if !work.isolation.allows(offered) {
                self.counters.count(&self.counters.refused);
                let (profile, why) = (work.profile.name.clone(), host.cell_unavailable_reason());
                return Err(Refusal::Isolation { profile, offered: offered.as_str(), why });
            }
        }
        Ok(())
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

    /// The report; none when it is not started, or not done, by the drain's end and to be kept.
    async fn answer(&self, work: &Work, entry: &Entry, received: Instant, laps: &mut Laps) -> Option<Report> {
        let mut deaths: Vec<Death> = Vec::new();
        loop {
            let avoid = deaths.last().map(|death| death.host.as_str());
            match self.try_once(work, entry, received, avoid, laps).await {
                Ok(report) => return report,
                Err(death) => {
                    tracing::warn!(
                        submission = %work.id.escape_debug(), uid = work.caller.uid, host = %death.host, lost = %death.lost,
                        engine_was_well = death.engine_was_well, init_exit_code = death.end.exit_code,
                        "a sandbox was lost in the middle of a run"
                    );
                    deaths.push(death);
                    // what was read of it would be shown twice, and what was fed to it is gone
                    let is_seen = entry.ends.input.is_some() || !entry.ends.log.discard_unread_output();
                    if deaths.len() > 1 || is_seen || *entry.cancelled().borrow() {
                        return Some(lost_report(&work.id, &deaths));
                    }
                    self.counters.retried.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    async fn try_once(
        &self,
        work: &Work,
        entry: &Entry,
        received: Instant,
        avoid: Option<&str>,
        laps: &mut Laps,
    ) -> Result<Option<Report>, Death> {
        let patience = work.deadline.unwrap_or(self.queue().patience()).saturating_sub(received.elapsed());
        let mut cancel = entry.cancelled();
        let mut over = self.over.subscribe();
        let queued = Instant::now();
        let placed = tokio::select! {
            biased;
            _ = cancel.wait_for(|cancelled| *cancelled) => return Ok(Some(bare(&work.id, Verdict::Cancelled, CANCELLED))),
            _ = over.wait_for(|over| *over), if entry.outlives_caller => return Ok(None),
            placed = self.desk.wait(work, avoid, patience) => placed,
        };
        laps.set(Stage::Queue, queued.elapsed());
        self.tally.waited(&work.profile.name, queued.elapsed());
        let Placed { host, mut lease, taken, running } = match placed {
            Ok(placed) => placed,
            Err(error) => return Ok(Some(self.no_sandbox(work, &error, queued))),
        };
        let patience = patience.saturating_sub(queued.elapsed());
        let mut seconds = tokio::select! {
            biased;
            _ = cancel.wait_for(|cancelled| *cancelled) => return Ok(Some(bare(&work.id, Verdict::Cancelled, CANCELLED))),
            _ = over.wait_for(|over| *over), if entry.outlives_caller => return Ok(None),
            seconds = seconds(&self.desk, work, patience) => match seconds {
                Ok(seconds) => seconds,
                Err(error) => return Ok(Some(self.no_sandbox(work, &error, queued))),
            }
        };
        let all = [(&host, &lease)].into_iter().chain(seconds.iter().map(|second| (&second.host, &second.lease)));
        let unfit = |(_, lease): &(_, &Lease)| !work.isolation.allows(lease.sandbox.isolation());
        if let Some((host, lease)) = all.into_iter().find(unfit) {
            // it was not known yet when the submission was let in
            let why = host.cell_unavailable_reason().unwrap_or_default();
            let message = format!("The host keeps runs apart by {} only: {why}.", lease.sandbox.isolation().as_str());
            let mut report = bare(&work.id, Verdict::SystemError, &message);
            report.blame = Some(Blame::Host);
            return Ok(Some(report));
        }
        let queue_time = queued.elapsed();
        laps.set(Stage::Queue, queue_time);
        let leasing = Instant::now();
        let profile = &work.profile;
        let occupied = host.mark_busy(lease.sandbox.id(), &profile.name, &work.id, work.caller.uid);
        let beside: Vec<BusyGuard> = seconds
            .iter()
            .zip(&work.referees)
            .map(|(second, referee)| {
                second.host.mark_busy(second.lease.sandbox.id(), &referee.profile.name, &work.id, work.caller.uid)
            })
            .collect();
        entry.set(State::Running);
        let line = RunContext {
            log: &entry.ends.log,
            input: entry.ends.input.as_deref(),
            cancel: entry.cancelled(),
            cache: &self.cache,
        };
        let judged = on_lease(&host, &mut lease, &mut seconds, work, line, leasing).await;
        let info = SandboxInfo {
            id: short(lease.sandbox.id()).to_owned(),
            host: host.name().to_owned(),
            image: lease.image.to_string(),
            profile: profile.name.clone(),
            isolation: lease.sandbox.isolation().as_str().to_owned(),
            engine: host.engine_version(),
        };
        let start = match &judged {
            Ok((judged, _)) if judged.was_hot => StartKind::Hot,
            _ => lease.start,
        };
        let (lost_host, container) = match &judged {
            Err(LostSandbox::Referee(at, _)) => (seconds[*at].host.clone(), seconds[*at].lease.sandbox.id().to_owned()),
            _ => (host.clone(), lease.sandbox.id().to_owned()),
        };
        match &judged {
            Err(LostSandbox::Submission(_)) => lease.retire_as(RetireReason::Lost),
            Err(LostSandbox::Referee(at, _)) => seconds[*at].lease.retire_as(RetireReason::Lost),
            Ok(_) => {}
        }
        drop((seconds, beside));
        // its end, or the audit before it is used again, costs the answer nothing
        drop((occupied, taken, running));
        match &judged {
            Ok((judged, _)) if may_keep(work, &lease, judged) => self.keep_for_caller(lease, work),
            _ => drop(lease),
        }
        let (judged, lease_time) = match judged {
            Ok(judged) => judged,
            Err(lost_in) => {
                let end = lost_host.container_end(&container).await;
                let lost = match &lost_in {
                    LostSandbox::Submission(lost) | LostSandbox::Referee(_, lost) => lost.clone(),
                };
                if !end.oom {
                    lost_host.mark_suspect();
                    let engine_was_well = lost_host.was_healthy_since(leasing).await;
                    return Err(Death { lost, end, engine_was_well, host: lost_host.name().to_owned() });
                }
                match lost_in {
                    LostSandbox::Submission(_) => (out_of_memory(work, &lost), Duration::ZERO),
                    LostSandbox::Referee(..) => (referee_out_of_memory(&lost), Duration::ZERO),
                }
            }
        };
        if judged.verdict == Verdict::Cancelled && entry.was_interrupted() && entry.ends.log.discard_unread_output() {
            // nobody has seen anything of it: the next daemon runs it from its beginning
            return Ok(None);
        }
        let uid = work.caller.uid;
        laps.set(Stage::Lease, lease_time);
        laps.judged(&judged.timings);
        let deciding = Instant::now();
        let mut report = render::report(&work.id, judged, &|bytes| self.shelf.keep(uid, bytes));
        laps.add(Stage::Decide, deciding.elapsed());
        report.start = Some(start);
        report.sandbox = Some(info);
        report.timing.queue_ms = millis(queue_time);
        report.timing.lease_ms = millis(lease_time);
        Ok(Some(report))
    }

    fn no_sandbox(&self, work: &Work, error: &NoSandbox, queued: Instant) -> Report {
        let message = format!("No sandbox could be had: {error}.");
        let mut report = bare(&work.id, Verdict::SystemError, &message);
        report.blame = Some(if self.fleet.schedulable().is_empty() { Blame::Host } else { Blame::Assay });
        report.timing.queue_ms = millis(queued.elapsed());
        report
    }

    /// Audits a used sandbox and keeps it for its caller; whatever is left in it is the end of it.
    fn keep_for_caller(&self, mut lease: Lease, work: &Work) {
        let (caller, profile, counters) = (work.caller.clone(), work.profile.name.clone(), self.counters.clone());
        tokio::spawn(async move {
            match lease.sandbox.audit().await {
                Ok(Ok(audited)) => {
                    counters.count(&counters.kept);
                    lease.keep(caller, audited);
                }
                Ok(Err(residue)) => {
                    lease.retire_as(RetireReason::Residue);
                    counters.count(&counters.residue);
                    if let Some(suppressed) = RESIDUE.allow() {
                        let (uid, residue) = (caller.uid, residue.join("; "));
                        tracing::warn!(%profile, uid, suppressed, residue, "a run left something: its sandbox is retired");
                    }
                }
                // it is gone by itself
                Err(_) => lease.retire_as(RetireReason::Lost),
            }
        });
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

    pub(super) fn queue(&self) -> Queue {
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

    /// Waits until everybody is answered. After the configured time, what outlives its caller is kept for the next daemon,
    /// unless it runs and somebody has seen something of it; the rest is cancelled and answered so.
    pub async fn drain(&self) {
        self.stop_admitting();
        let deadline = Instant::now() + self.queue().drain();
        while self.admitted.load(Ordering::Relaxed) > 0 && Instant::now() < deadline + LAST_ANSWERS {
            if Instant::now() >= deadline {
                self.over.send_replace(true);
                // again and again: one may have been given a sandbox at the last moment
                let all = self.registry.list(0, true);
                let stays = |entry: &Entry| entry.outlives_caller && matches!(entry.state(), State::Queued);
                all.iter().filter(|entry| !stays(entry)).for_each(|entry| entry.interrupt());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

static RESIDUE: LogThrottle = LogThrottle::new();
