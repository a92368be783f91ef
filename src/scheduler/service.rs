//! Admits submissions, starts their tasks, and drains them at the end. Shared by all connections.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use sha2::{Digest, Sha256};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;

use super::admission::{QueueBounds, QueueLoad, Refusal, admit};
use super::allocator::Allocator;
use super::callbacks::Callbacks;
use super::counters::SubmissionCounters;
use super::kept_files::KeptFiles;
use super::language_metrics::LanguageMetrics;
use super::outputs::BlobStore;
use super::rate::{RateBound, RateLimiter};
use super::recordings::Recordings;
use super::registry::{IdClaim, Registry, SubmissionHandle, SubmissionIo, Viewer};
use super::stages::{Stage, StageMetrics, StageTimes};
use super::store_access::StoreAccess;
use super::stored::Stored;
use config::{QueueSettings, bounds};
use judge::cache::Cache;
use judge::events::EventLog;
use judge::work::Work;
use protocol::rows::HostState;
use protocol::status::Counters;
use protocol::{Account, Principal, Submission};
use sandbox::host::{Fleet, Host};
use store::{Forget, Store};

/// How long the first probe of the engines is waited for; longer than the timeout of a probe.
const FIRST_PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long submissions that the end of a drain cancelled may take to answer.
const CANCELLED_ANSWERS_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the end of a drain waits for reports on their way to the store.
const RECORDING_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a reader of history waits for reports on their way to the store.
const SETTLE_TIMEOUT: Duration = Duration::from_millis(500);

/// Runs whose large outputs are written for history at a time. That of others goes without them.
const MAX_STAGING: usize = 4;

/// How a submission arrived.
#[derive(Debug)]
pub struct Arrival {
    /// When its last byte was read.
    pub received: Instant,
    /// The time between its first and its last byte.
    pub accepting: Duration,
    /// Where its events go.
    pub log: Arc<EventLog>,
    /// Whether it continues when its caller disconnects, and is kept when a drain ends.
    pub outlives_caller: bool,
}

/// All submissions: admission, lookup, drain, persistence.
pub struct SubmissionService {
    pub(super) fleet: Arc<Fleet>,
    pub(super) allocator: Arc<Allocator>,
    queue_config: Mutex<QueueSettings>,
    pub(super) registry: Registry,
    rates: RateLimiter,
    pub(super) stages: StageMetrics,
    pub(super) admitted: AtomicUsize,
    pub(super) counters: Arc<SubmissionCounters>,
    pub(super) languages: LanguageMetrics,
    pub(super) usage_by_account: UsageByAccount,
    draining: AtomicBool,
    /// An operator asked for no more submissions, for maintenance.
    paused: AtomicBool,
    /// Becomes true at the end of a drain: what has not started is saved.
    pub(super) drain_ended: watch::Sender<bool>,
    pub(super) kept_files: KeptFiles,
    pub(super) cache: Cache,
    pub(super) blobs: Arc<dyn BlobStore>,
    first_probe_done: AtomicBool,
    pub(super) store: Arc<StoreAccess>,
    pub(super) callbacks: Arc<Callbacks>,
    /// Reports on their way to the store.
    pub(super) recording: Arc<Recordings>,
    /// Reports whose large outputs are written.
    pub(super) staging: Semaphore,
}

impl std::fmt::Debug for SubmissionService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SubmissionService").field("admitted", &self.admitted).finish_non_exhaustive()
    }
}

/// An account's admitted and unanswered submissions.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct AccountUsage {
    submissions: usize,
    bytes: u64,
}

#[derive(Debug, Default)]
pub(super) struct UsageByAccount(Mutex<HashMap<Account, AccountUsage>>);

impl UsageByAccount {
    pub(super) fn lock(&self) -> MutexGuard<'_, HashMap<Account, AccountUsage>> {
        self.0.lock()
    }
}

/// Counts one admitted submission until it is dropped.
pub(super) struct AdmissionSlot {
    service: Arc<SubmissionService>,
    account: Account,
    bytes: u64,
}

impl Drop for AdmissionSlot {
    fn drop(&mut self) {
        self.service.admitted.fetch_sub(1, Ordering::Relaxed);
        let mut by_account = self.service.usage_by_account.lock();
        if let Some(usage) = by_account.get_mut(&self.account) {
            usage.submissions -= 1;
            usage.bytes -= self.bytes;
            if usage.submissions == 0 {
                by_account.remove(&self.account);
            }
        }
    }
}

/// A digest of a submission's content, to detect an id that is used for other content.
fn digest(submission: &Submission) -> [u8; 32] {
    let json = serde_json::to_vec(submission).unwrap_or_default();
    Sha256::digest(json).into()
}

/// What keeps what a submission needs or leaves.
pub struct ServiceKeepers<'a> {
    /// The folder that has what version 0.1 left.
    pub state_folder: &'a Path,
    pub cache: Cache,
    /// Large inputs and outputs.
    pub blobs: Arc<dyn BlobStore>,
    /// Submissions and reports.
    pub store: Arc<StoreAccess>,
    /// Where reports are sent to.
    pub callbacks: Arc<Callbacks>,
}

impl std::fmt::Debug for ServiceKeepers<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServiceKeepers").field("state_folder", &self.state_folder).finish_non_exhaustive()
    }
}

impl SubmissionService {
    /// Starts the service over the hosts of `fleet`, which notify `capacity_changed`.
    pub fn start(
        fleet: Arc<Fleet>,
        capacity_changed: Arc<Notify>,
        queue: QueueSettings,
        keepers: ServiceKeepers<'_>,
    ) -> Arc<SubmissionService> {
        let ServiceKeepers { state_folder, cache, blobs, store, callbacks } = keepers;
        store.start_watch();
        callbacks.start(store.clone());
        Arc::new(SubmissionService {
            allocator: Allocator::start(fleet.clone(), capacity_changed, queue.max_running_per_uid),
            fleet,
            queue_config: Mutex::new(queue),
            rates: RateLimiter::default(),
            registry: Registry::default(),
            stages: StageMetrics::default(),
            admitted: AtomicUsize::new(0),
            counters: Arc::default(),
            languages: LanguageMetrics::default(),
            usage_by_account: UsageByAccount::default(),
            draining: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            drain_ended: watch::Sender::new(false),
            kept_files: KeptFiles::new(state_folder),
            cache,
            blobs,
            first_probe_done: AtomicBool::new(false),
            store,
            callbacks,
            recording: Arc::default(),
            staging: Semaphore::new(MAX_STAGING),
        })
    }

    /// Waits until a host takes work or all have been probed once, for ten seconds at most. Before
    /// that a refusal with `no_host` could be wrong. Later calls return at once.
    pub async fn wait_for_first_probe(&self) {
        if self.first_probe_done.load(Ordering::Relaxed) {
            return;
        }
        let mut probes = JoinSet::new();
        for host in self.fleet.all().iter() {
            let host = Arc::clone(host);
            probes.spawn(async move { host.first_probe_done().await });
        }
        let probed = async { while self.fleet.schedulable().is_empty() && probes.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(FIRST_PROBE_TIMEOUT, probed).await;
        self.first_probe_done.store(true, Ordering::Relaxed);
    }

    /// Admits a submission and starts its task. A known id with the same content returns the known
    /// submission.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn submit(
        self: &Arc<Self>,
        submission: &Submission,
        mut work: Work,
        arrival: Arrival,
    ) -> Result<Arc<SubmissionHandle>, Refusal> {
        let requested_at = Instant::now();
        if arrival.outlives_caller
            && let Some(reason) = self.store.problem()
        {
            self.counters.count(&self.counters.refused);
            return Err(Refusal::NoStore { reason });
        }
        let digest = if submission.id.is_some() { digest(submission) } else { [0; 32] };
        if submission.id.is_some() {
            match self.registry.claim(&work.caller, &work.id, &digest) {
                IdClaim::New => {}
                IdClaim::Known(handle) => return Ok(handle),
                IdClaim::Conflict => return Err(Refusal::Conflict { id: work.id }),
            }
        }
        let principal = &work.caller.principal;
        let waiting = || self.store.waiting_callbacks_of(principal);
        let callback = self.callbacks.admit(submission, principal, arrival.outlives_caller, waiting);
        let callback = callback.inspect_err(|_| self.counters.count(&self.counters.refused))?;
        if self.is_paused() && !self.is_draining() {
            self.counters.count(&self.counters.refused);
            return Err(Refusal::Paused);
        }
        if let Some(loaded) = work.loaded.take_if(|loaded| self.allocator.is_hot(loaded, &work.caller, work.fresh)) {
            work.profile = loaded;
        }
        self.check_isolation(&work)?;
        self.check_sandboxes(&work)?;
        let slot = self.admit(&work)?;
        let handle = self.register(&work, digest, &arrival, Stored::No);
        handle.set_callback(callback);
        self.start_task(work, handle.clone(), &arrival, requested_at, slot);
        Ok(handle)
    }

    /// Makes a submission known by its id.
    pub(super) fn register(
        &self,
        work: &Work,
        digest: [u8; 32],
        arrival: &Arrival,
        stored: Stored,
    ) -> Arc<SubmissionHandle> {
        let io = SubmissionIo { log: arrival.log.clone(), input: work.stdin_open.then(Arc::default) };
        let (id, caller) = (work.id.clone(), work.caller.clone());
        let handle = SubmissionHandle::new(id, caller, digest, arrival.outlives_caller, io).with_stored(stored);
        let handle = Arc::new(handle);
        self.registry.add(handle.clone());
        handle
    }

    /// Starts the task of a submission.
    pub(super) fn start_task(
        self: &Arc<Self>,
        work: Work,
        handle: Arc<SubmissionHandle>,
        arrival: &Arrival,
        requested_at: Instant,
        slot: AdmissionSlot,
    ) {
        let (service, received, accepting) = (self.clone(), arrival.received, arrival.accepting);
        tokio::spawn(async move {
            let mut times = StageTimes::default();
            times.set(Stage::Accept, accepting);
            times.set(Stage::Parse, requested_at.saturating_duration_since(received));
            times.set(Stage::Admit, requested_at.elapsed());
            service.run_task(work, handle, received, times, slot).await;
        });
    }

    fn admit(self: &Arc<Self>, work: &Work) -> Result<AdmissionSlot, Refusal> {
        let account = work.caller.account();
        let predicted_wait = self.allocator.predict_wait(&account, &work.profile.name);
        let mut by_account = self.usage_by_account.lock();
        let usage = by_account.get(&account).copied().unwrap_or_default();
        let load = QueueLoad {
            admitted: self.admitted.load(Ordering::Relaxed),
            admitted_of_account: usage.submissions,
            bytes_of_account: usage.bytes.saturating_add(work.bytes()),
            host_up: !self.fleet.schedulable().is_empty(),
            draining: self.draining.load(Ordering::Relaxed),
            create_time: self.create_time(),
            predicted_wait,
            deadline: work.deadline,
            patience: self.queue_config().patience(),
        };
        let QueueSettings { max, max_per_uid, max_rate_per_uid, burst_per_uid, .. } = self.queue_config();
        let limits =
            QueueBounds { max, max_per_account: max_per_uid, max_bytes_per_account: bounds::MAX_BYTES_PER_UID };
        let rate = RateBound { per_second: max_rate_per_uid, burst: burst_per_uid };
        // last: what is refused for another reason takes no token
        let decided = admit(load, limits).and_then(|()| {
            let refused = |retry_after| Refusal::RateExceeded { per_second: rate.per_second, retry_after };
            self.rates.take(&account, Instant::now(), rate).map_err(refused)
        });
        match decided {
            Ok(()) => Ok(self.take_slot(&mut by_account, work)),
            Err(refusal) => {
                self.counters.count(&self.counters.refused);
                Err(match refusal {
                    Refusal::NoHost { .. } => Refusal::NoHost { reason: self.why_no_host() },
                    other => other,
                })
            }
        }
    }

    /// Counts a submission as admitted.
    pub(super) fn take_slot(
        self: &Arc<Self>,
        by_account: &mut HashMap<Account, AccountUsage>,
        work: &Work,
    ) -> AdmissionSlot {
        let (account, bytes) = (work.caller.account(), work.bytes());
        self.admitted.fetch_add(1, Ordering::Relaxed);
        self.counters.count(&self.counters.admitted);
        let usage = by_account.entry(account.clone()).or_default();
        usage.submissions += 1;
        usage.bytes += bytes;
        AdmissionSlot { service: self.clone(), account, bytes }
    }

    /// Refuses a submission that requires more isolation than a host that takes work has.
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

    /// Refuses a submission that would wait in vain, because no host can make a sandbox for it or
    /// its referees.
    fn check_sandboxes(&self, work: &Work) -> Result<(), Refusal> {
        let referees = work.referees.iter().map(|referee| &referee.profile);
        for profile in [&work.profile].into_iter().chain(referees) {
            if let Some(error) = self.allocator.blocked(&profile.name) {
                self.counters.count(&self.counters.refused);
                return Err(Refusal::NoSandbox {
                    profile: profile.name.clone(),
                    reason: error.sentence(),
                    remedy: error.remedy(&profile.name),
                    is_image: error.step() == "image",
                });
            }
        }
        Ok(())
    }

    /// The mean time to create a sandbox, of the slowest pool.
    fn create_time(&self) -> Duration {
        let hosts = self.fleet.all();
        let pools = hosts.iter().flat_map(|host| host.pools());
        pools.map(|pool| pool.mean_creation_time()).max().unwrap_or_default()
    }

    fn why_no_host(&self) -> String {
        let explain = |host: &Arc<Host>| {
            let health = host.health();
            let (reason, remedy) = match (health.state(), health.reason()) {
                (HostState::Draining, _) => {
                    ("it is drained by command".to_owned(), Some(format!("assay hosts resume {}", host.name())))
                }
                (_, Some(reason)) => (format!("failed to {reason}"), health.remedy()),
                (_, None) => ("the engine has not answered yet".to_owned(), None),
            };
            let remedy = remedy.map(|remedy| format!(". Remedy: {remedy}")).unwrap_or_default();
            (host.name().to_owned(), format!("{reason}{remedy}"))
        };
        match self.fleet.all().iter().map(explain).collect::<Vec<_>>().as_slice() {
            [] => "none is configured".to_owned(),
            [(_, why)] => why.clone(),
            many => many.iter().map(|(name, why)| format!("{name}: {why}")).collect::<Vec<_>>().join("; "),
        }
    }

    /// The submission with this id, if `viewer` may see it; of this tenant, or the first of any.
    pub fn find(&self, viewer: &Viewer, id: &str, tenant: Option<&str>) -> Option<Arc<SubmissionHandle>> {
        self.registry.find(viewer, id, tenant)
    }

    /// Forgets a submission whose caller has the report and gave it no id.
    pub fn forget(&self, handle: &Arc<SubmissionHandle>) {
        self.registry.remove(handle);
    }

    /// All submissions that `viewer` may see.
    pub fn list(&self, viewer: &Viewer) -> Vec<Arc<SubmissionHandle>> {
        self.registry.list(viewer)
    }

    /// The allocator, for its figures and the watchdog.
    pub fn allocator(&self) -> &Allocator {
        &self.allocator
    }

    /// Counts of submissions since the daemon's start.
    pub fn counters(&self) -> Counters {
        self.counters.snapshot()
    }

    /// Replaces the configuration of the queue.
    pub fn set_queue_config(&self, queue: QueueSettings) {
        self.allocator.set_max_running_per_uid(queue.max_running_per_uid);
        *self.queue_config.lock() = queue;
    }

    pub(super) fn queue_config(&self) -> QueueSettings {
        self.queue_config.lock().clone()
    }

    /// Whether new submissions are refused.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Refuses new submissions until it is called with `false`. What was admitted is finished. A
    /// new daemon is not paused. Returns whether that is a change.
    pub fn set_paused(&self, paused: bool) -> bool {
        self.paused.swap(paused, Ordering::Relaxed) != paused
    }

    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    /// Refuses new submissions from now on.
    pub fn stop_admitting(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Waits until every submission is answered. After `[queue] drain_ms` submissions that outlive
    /// their callers are left to the next daemon, unless they run and output was read; the rest
    /// is cancelled and answered so.
    pub async fn drain(&self) {
        self.stop_admitting();
        let deadline = Instant::now() + self.queue_config().drain();
        while self.admitted.load(Ordering::Relaxed) > 0 && Instant::now() < deadline + CANCELLED_ANSWERS_TIMEOUT {
            if Instant::now() >= deadline {
                self.drain_ended.send_replace(true);
                // repeated, because a waiting submission may get a sandbox at the last moment
                let is_saved = |handle: &SubmissionHandle| handle.outlives_caller() && handle.phase().is_waiting();
                let all = self.registry.list(&Viewer::Admin);
                all.iter().filter(|handle| !is_saved(handle)).for_each(|handle| handle.interrupt());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.callbacks.end().await;
        let stored = Instant::now() + RECORDING_TIMEOUT;
        while self.recording.count() > 0 && Instant::now() < stored {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until the reports that were published a moment ago are in the store, for
    /// [`SETTLE_TIMEOUT`] at most.
    pub async fn settle_records(&self) {
        let (pending, until) = (self.recording.now(), Instant::now() + SETTLE_TIMEOUT);
        while pending.are_left() && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        if let Some(store) = self.store.get() {
            let _ = tokio::time::timeout(SETTLE_TIMEOUT, store.settle().done()).await;
        }
    }

    /// Removes what is kept of a tenant, of one principal or of all: reports in memory, everything
    /// in the store, backups in the state folder, and compiled programs, which are those of all
    /// tenants. Returns how many submissions and reports of the store that were.
    ///
    /// # Errors
    /// The disk failed, or the daemon ends.
    pub async fn forget_tenant(
        &self,
        store: &Store,
        tenant: &str,
        principal: Option<&Principal>,
    ) -> Result<u64, store::Error> {
        self.settle_records().await;
        self.registry.remove_answered(tenant, principal);
        let principal = principal.map(Principal::to_string);
        let removed = store.forget(Forget { tenant: tenant.to_owned(), principal }).done().await?;
        store.remove_backup()?;
        self.cache.clear();
        Ok(removed)
    }

    /// What sends reports to URLs.
    pub fn callbacks(&self) -> &Arc<Callbacks> {
        &self.callbacks
    }

    /// The store, open or not.
    pub fn store(&self) -> &Arc<StoreAccess> {
        &self.store
    }
}
