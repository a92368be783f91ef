//! Hands sandboxes to the submissions that wait for one.
//!
//! ```text
//!   allocate --> FairQueue --> serve <-- capacity_changed: a sandbox is ready, a reservation was
//!                               |         released, a host is up, a request was dropped
//!                               |
//!              queue.pop_next(uids below their limit, profiles that a host offers)
//!                               |
//!              host_choice::choose --> offer + reservation --> the request, or back to the pool
//!                                                              if the request is gone
//! ```
//!
//! `serve` holds the queue's lock. Locks of pools and hosts are taken under it, never the other way
//! round.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, oneshot};

use super::fair_queue::{FairQueue, Lane, ProfileName, QueueKey, QueueTicket};
use super::host_choice::{Candidate, choose, spread};
use super::long_wait::LongWaits;
use super::no_sandbox::{Busy, NoSandbox, NoSandboxCause};
use super::wait_estimator::WaitEstimator;
use judge::work::{Plan, Referee, Work};
use protocol::rows::{HostState, PoolState};
use protocol::{Caller, Counts, Profile};
use sandbox::host::capacity::{Reservation, Resources};
use sandbox::host::{Fleet, Host};
use sandbox::pool::{Lease, MakeError, Offer, Pool};

/// A sandbox for a submission, and the capacity reserved for its run. Fields are dropped in this
/// order: the end of the reservation wakes the queue, which must then see the submission as ended.
#[derive(Debug)]
pub(super) struct Allocation {
    pub(super) running: RunningGuard,
    pub(super) reservation: Reservation,
    pub(super) lease: Lease,
    pub(super) host: Arc<Host>,
}

/// A further sandbox for tests of a submission that already runs. Fields are dropped in this order,
/// as in [`Allocation`].
#[derive(Debug)]
pub(super) struct FurtherSandbox {
    _counted: RunningGuard,
    _reservation: Reservation,
    pub(super) lease: Lease,
}

impl FurtherSandbox {
    /// Releases everything but the sandbox.
    pub(super) fn release(self) -> Lease {
        self.lease
    }
}

/// A sandbox for a checker or interactor of a submission that already has its own.
#[derive(Debug)]
pub(super) struct RefereeLease {
    pub(super) host: Arc<Host>,
    pub(super) lease: Lease,
    _reservation: Reservation,
}

/// An allocation on its way to a request. If it is dropped the sandbox returns to its pool, which
/// notifies `capacity_changed`.
#[derive(Debug)]
struct Handover {
    host: Arc<Host>,
    offer: Offer,
    reservation: Reservation,
    running: RunningGuard,
}

/// A submission that waits for a sandbox.
#[derive(Debug)]
struct SandboxRequest {
    caller: Caller,
    lane: Lane,
    need: Resources,
    /// The host on which the submission lost a sandbox before.
    avoid: Option<String>,
    reply: oneshot::Sender<Handover>,
}

impl QueueKey for SandboxRequest {
    fn key(&self) -> (u32, ProfileName) {
        (self.caller.uid, self.lane.profile.clone())
    }
}

/// A submission that holds a sandbox and waits for one for a referee. These requests are served
/// before the queue and regardless of capacity and ceilings: submissions that hold a sandbox and
/// wait for another could otherwise deadlock.
#[derive(Debug)]
struct RefereeRequest {
    profile: ProfileName,
    need: Resources,
    reply: oneshot::Sender<(Arc<Host>, Offer, Reservation)>,
}

#[derive(Debug, Default)]
struct AllocatorState {
    queue: FairQueue<SandboxRequest>,
    referees: VecDeque<RefereeRequest>,
    estimator: WaitEstimator,
}

impl AllocatorState {
    fn someone_waits(&self) -> bool {
        !self.queue.is_empty() || !self.referees.is_empty()
    }
}

/// Running submissions by uid.
#[derive(Debug, Clone, Default)]
struct RunningByUid(Arc<Mutex<Counts<u32>>>);

/// Counts one running submission of a uid until it is dropped.
#[derive(Debug)]
pub(super) struct RunningGuard {
    running: RunningByUid,
    uid: u32,
}

impl RunningByUid {
    fn lock(&self) -> MutexGuard<'_, Counts<u32>> {
        self.0.lock()
    }

    fn start(&self, uid: u32) -> RunningGuard {
        self.lock().increment(uid);
        RunningGuard { running: self.clone(), uid }
    }
}

impl Drop for RunningGuard {
    fn drop(&mut self) {
        self.running.lock().decrement(&self.uid);
    }
}

/// The one place where sandboxes are allocated.
#[derive(Debug)]
pub struct Allocator {
    fleet: Arc<Fleet>,
    capacity_changed: Arc<Notify>,
    state: Mutex<AllocatorState>,
    running: RunningByUid,
    /// The further sandboxes of running submissions.
    further: RunningByUid,
    /// Running submissions of one uid at most; 0 for no limit.
    max_running_per_uid: AtomicUsize,
    /// Iterations of the serving task.
    iterations: AtomicU64,
    long_waits: LongWaits,
}

/// Removes a request from the queue when its future is dropped.
struct Dequeue<'a> {
    allocator: &'a Allocator,
    ticket: QueueTicket,
}

impl Drop for Dequeue<'_> {
    fn drop(&mut self) {
        if self.allocator.state().queue.remove(&self.ticket).is_some() {
            self.allocator.wake();
        }
    }
}

/// Wakes the allocator when dropped, so that it drops abandoned referee requests.
struct WakeOnDrop<'a>(&'a Allocator);

impl Drop for WakeOnDrop<'_> {
    fn drop(&mut self) {
        self.0.wake();
    }
}

impl Allocator {
    /// Starts an allocator that serves its queue whenever `capacity_changed` is notified.
    pub(super) fn start(
        fleet: Arc<Fleet>,
        capacity_changed: Arc<Notify>,
        max_running_per_uid: usize,
    ) -> Arc<Allocator> {
        let allocator = Arc::new(Allocator {
            fleet,
            capacity_changed: capacity_changed.clone(),
            state: Mutex::default(),
            running: RunningByUid::default(),
            further: RunningByUid::default(),
            max_running_per_uid: AtomicUsize::new(max_running_per_uid),
            iterations: AtomicU64::new(0),
            long_waits: LongWaits::default(),
        });
        let serving = Arc::downgrade(&allocator);
        tokio::spawn(async move {
            loop {
                capacity_changed.notified().await;
                let Some(allocator) = serving.upgrade() else { return };
                allocator.serve();
                allocator.iterations.fetch_add(1, Ordering::Relaxed);
            }
        });
        allocator
    }

    /// Iterations of the serving task; grows after each [`Allocator::wake`] unless the task hangs.
    pub fn iterations(&self) -> u64 {
        self.iterations.load(Ordering::Relaxed)
    }

    /// Wakes the serving task.
    pub fn wake(&self) {
        self.capacity_changed.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, AllocatorState> {
        self.state.lock()
    }

    /// Waits for a sandbox for `work`, if possible on another host than `avoid`. Dropping the
    /// future removes the request from the queue; a sandbox already on its way returns to its pool.
    ///
    /// # Errors
    /// No sandbox was allocated within `patience`.
    pub(super) async fn allocate(
        &self,
        work: &Work,
        avoid: Option<&str>,
        patience: Duration,
    ) -> Result<Allocation, NoSandbox> {
        let begun = Instant::now();
        let (reply, handover) = oneshot::channel();
        let profile: ProfileName = work.profile.name.as_str().into();
        let lane = Lane { profile: profile.clone(), fresh: work.fresh };
        let request = SandboxRequest {
            caller: work.caller.clone(),
            lane: lane.clone(),
            need: need(work),
            avoid: avoid.map(str::to_owned),
            reply,
        };
        let Caller { uid, tenant } = &work.caller;
        let ticket = self.state().queue.enqueue(*uid, tenant, &lane, cost(work), request);
        let _dequeue = Dequeue { allocator: self, ticket };
        self.serve();
        let served = self.long_waits.watch(&profile, patience, handover, || self.no_sandbox(&profile)).await;
        if let Some(Handover { host, offer, reservation, running }) = served
            && let Some(lease) = offer.accept(begun.elapsed(), Some(&work.caller))
        {
            return Ok(Allocation { running, reservation, lease, host });
        }
        Err(self.no_sandbox(&profile))
    }

    /// Waits for a sandbox for a referee of a submission that holds its own.
    ///
    /// # Errors
    /// No sandbox was allocated within `patience`.
    pub(super) async fn allocate_referee(
        &self,
        referee: &Referee,
        patience: Duration,
    ) -> Result<RefereeLease, NoSandbox> {
        let begun = Instant::now();
        let _wake = WakeOnDrop(self);
        let profile: ProfileName = referee.profile.name.as_str().into();
        let (reply, handover) = oneshot::channel();
        // the submission mostly waits while its referee runs, so the referee needs no CPU of its
        // own
        let need = Resources { cpus: 0.0, memory: referee.sandbox_limits().memory_bytes };
        self.state().referees.push_back(RefereeRequest { profile: profile.clone(), need, reply });
        self.serve();
        let served = self.long_waits.watch(&profile, patience, handover, || self.no_sandbox(&profile)).await;
        if let Some((host, offer, reservation)) = served
            && let Some(lease) = offer.accept(begun.elapsed(), None)
        {
            return Ok(RefereeLease { host, lease, _reservation: reservation });
        }
        Err(self.no_sandbox(&profile))
    }

    /// A further sandbox on the host of a submission that runs. Only one that is free: while
    /// anything waits, and beyond the uid's limit of running submissions, there is none.
    pub(super) fn take_further(&self, work: &Work, host: &Arc<Host>) -> Option<FurtherSandbox> {
        let state = self.state();
        let (uid, most) = (work.caller.uid, self.max_running_per_uid.load(Ordering::Relaxed));
        let is_within_limit = most == 0 || self.running.lock().get(&uid) + self.further.lock().get(&uid) < most;
        let need = need(work);
        let is_willing = self.fleet.schedulable().iter().any(|willing| Arc::ptr_eq(willing, host));
        if state.someone_waits() || !is_within_limit || !is_willing || !host.capacity().fits(need) {
            return None;
        }
        let pool = host.pool(&work.profile.name)?;
        let kept = if work.fresh { None } else { pool.offer_kept(&work.caller) };
        let offer = kept.or_else(|| pool.offer())?;
        let (_reservation, _counted) = (host.capacity().reserve(need), self.further.start(uid));
        drop(state);
        let lease = offer.accept(Duration::ZERO, Some(&work.caller))?;
        Some(FurtherSandbox { _counted, _reservation, lease })
    }

    /// Whether a runtime of this profile waits for the caller. If not, it may the next time: pools
    /// learn what is asked for.
    pub(super) fn is_hot(&self, profile: &Profile, caller: &Caller, fresh: bool) -> bool {
        let pools: Vec<Pool> = self.fleet.schedulable().iter().filter_map(|host| host.pool(&profile.name)).collect();
        pools.iter().for_each(Pool::record_interest);
        pools.iter().any(|pool| pool.is_hot_for((!fresh).then_some(caller)))
    }

    /// Whether anything waits for a sandbox.
    pub(super) fn someone_waits(&self) -> bool {
        self.state().someone_waits()
    }

    fn no_sandbox(&self, profile: &ProfileName) -> NoSandbox {
        let willing = self.fleet.schedulable();
        NoSandbox { cause: self.cause_of_none(profile, &willing), host_up: !willing.is_empty() }
    }

    fn cause_of_none(&self, profile: &ProfileName, willing: &[Arc<Host>]) -> Option<NoSandboxCause> {
        let hosts = self.fleet.all();
        if !hosts.iter().any(|host| host.pool(profile).is_some()) {
            return Some(NoSandboxCause::ProfileGone(profile.clone()));
        }
        // a failed creation on a host that is up explains more than a host that is down
        if let Some(error) = willing.iter().find_map(|host| host.pool(profile)?.last_error()) {
            return Some(NoSandboxCause::Make(error));
        }
        let down = hosts.iter().map(|host| host.health()).find_map(|health| {
            let (reason, remedy) = (health.reason()?, health.remedy());
            Some(NoSandboxCause::HostDown { reason, remedy })
        });
        let pools: Vec<PoolState> =
            willing.iter().filter_map(|host| host.pool(profile)).map(|pool| pool.state()).collect();
        let waiting = self.state().queue.waiting_for(profile);
        down.or_else(|| (!pools.is_empty()).then(|| NoSandboxCause::Busy(Busy::of(pools.iter(), waiting))))
    }

    /// Allocates what is available to the requests whose turn it is.
    fn serve(&self) {
        let hosts = self.fleet.schedulable();
        let mut cache = OfferCache::default();
        let mut state = self.state();
        self.drop_hopeless(&mut state);
        serve_referees(&mut state.referees, &hosts);
        loop {
            let most = self.max_running_per_uid.load(Ordering::Relaxed);
            let may_run = &mut |uid: &u32| most == 0 || self.running.lock().get(uid) < most;
            let next = state.queue.pop_next(may_run, &mut |caller, lane| cache.has(&hosts, caller, lane));
            let Some(request) = next else { break };
            let Some(found) = cache.take(&hosts, &request.caller, &request.lane) else { break };
            let (host, offer) = prefer_another_host(found, &request, &hosts);
            let others_wait = !state.queue.is_empty();
            state.estimator.record_allocation(Instant::now(), others_wait);
            let reservation = host.capacity().reserve(request.need);
            let running = self.running.start(request.caller.uid);
            // if the request is gone, dropping the handover returns everything
            let _ = request.reply.send(Handover { host, offer, reservation, running });
        }
        self.update_demand(&state, &hosts);
        drop(state);
        cache.decline();
    }

    /// Drops requests that would wait in vain: for profiles that a reload removed from every host,
    /// and for those of which no host can make a sandbox.
    fn drop_hopeless(&self, state: &mut AllocatorState) {
        let hosts = self.fleet.all();
        let is_gone = |profile: &ProfileName| !hosts.iter().any(|host| host.pool(profile).is_some());
        let is_hopeless = |profile: &ProfileName| is_gone(profile) || self.blocked(profile).is_some();
        let gone: Vec<ProfileName> = state.queue.profiles().filter(|profile| is_hopeless(profile)).cloned().collect();
        if !gone.is_empty() {
            while state.queue.pop_next(&mut |_| true, &mut |_, lane| gone.contains(&lane.profile)).is_some() {}
        }
        state.referees.retain(|request| !is_hopeless(&request.profile));
    }

    /// Why no host can make a sandbox of a profile, if so. Drained hosts do not count, and a host
    /// that is down may be able to when it is back.
    pub(super) fn blocked(&self, profile: &str) -> Option<Arc<MakeError>> {
        let mut why = None;
        for host in self.fleet.all().iter().filter(|host| host.state() != HostState::Draining) {
            why = Some(host.pool(profile)?.blocked()?);
        }
        why
    }

    /// Tells every pool how many requests wait for it.
    fn update_demand(&self, state: &AllocatorState, hosts: &[Arc<Host>]) {
        let weights: Vec<f64> = hosts.iter().map(|host| host.capacity().total().cpus).collect();
        for host in self.fleet.all().iter() {
            let at = hosts.iter().position(|willing| Arc::ptr_eq(willing, host));
            for pool in host.pools() {
                // most pools have no demand: skip the computation
                let share = |count| match at {
                    Some(at) if count > 0 => spread(count, &weights).get(at).copied().unwrap_or(0),
                    _ => 0,
                };
                let referees = state.referees.iter().filter(|request| *request.profile == *pool.profile()).count();
                let waiting = share(state.queue.waiting_for(pool.profile()));
                // one ahead of what can run now: making more slows the runs that must end first
                let demand = if waiting > 0 { waiting.min(host.room_for(pool.profile()) + 1) } else { 0 };
                let is_stranger = &mut |caller: &Caller, lane: &Lane| lane.fresh || !pool.has_sandbox_of(caller);
                let strangers = match demand {
                    0 => 0,
                    _ => state.queue.count_up_to(pool.ceiling(), pool.profile(), is_stranger).min(demand),
                };
                pool.set_demand(demand, strangers, share(referees));
            }
        }
    }

    /// The estimated wait of a new submission of `uid` for a sandbox of `profile`. `None` if
    /// nothing waits for the profile, or too little was measured.
    pub(super) fn predict_wait(&self, uid: u32, profile: &str) -> Option<Duration> {
        let profile: ProfileName = profile.into();
        let state = self.state();
        match state.queue.waiting_for(&profile) {
            0 => None,
            _ => state.estimator.estimate(state.queue.ahead_of(uid, &profile)),
        }
    }

    /// The numbers of waiting and of running submissions by uid.
    pub fn callers(&self) -> BTreeMap<u32, (usize, usize)> {
        let mut rows: BTreeMap<u32, (usize, usize)> =
            self.running.lock().iter().map(|(uid, running)| (*uid, (0, running))).collect();
        for (uid, waiting) in self.state().queue.waiting_by_uid() {
            rows.entry(uid).or_default().0 = waiting;
        }
        rows
    }

    /// The number of submissions that hold a sandbox.
    pub(super) fn running(&self) -> usize {
        self.running.lock().total()
    }

    /// Sets the limit of running submissions per uid; 0 for none.
    pub(super) fn set_max_running_per_uid(&self, most: usize) {
        self.max_running_per_uid.store(most, Ordering::Relaxed);
        self.wake();
    }

    /// The number of waiting submissions by profile, without profiles that have none.
    pub(super) fn waiting_by_profile(&self) -> BTreeMap<String, usize> {
        let state = self.state();
        state.queue.profiles().map(|profile| (profile.to_string(), state.queue.waiting_for(profile))).collect()
    }

    /// The number of waiting submissions.
    pub fn waiting(&self) -> usize {
        self.state().queue.len()
    }
}

/// Serves referee requests as far as sandboxes are ready, and drops abandoned ones.
fn serve_referees(referees: &mut VecDeque<RefereeRequest>, hosts: &[Arc<Host>]) {
    for request in std::mem::take(referees) {
        if request.reply.is_closed() {
            continue;
        }
        match find(hosts, &request.profile, None, CapacityCheck::Ignore) {
            Some((host, offer)) => {
                let reservation = host.capacity().reserve(request.need);
                let _ = request.reply.send((host, offer, reservation));
            }
            None => referees.push_back(request),
        }
    }
}

/// Replaces an offer of the host that the request wants to avoid, if another host has one.
fn prefer_another_host(found: FoundOffer, request: &SandboxRequest, hosts: &[Arc<Host>]) -> FoundOffer {
    let (host, offer) = found;
    if request.avoid.as_deref() != Some(host.name()) {
        return (host, offer);
    }
    match find(hosts, &request.lane.profile, request.avoid.as_deref(), CapacityCheck::Required) {
        Some((other, better)) if other.name() != host.name() => {
            offer.decline();
            (other, better)
        }
        Some((_, same)) => {
            same.decline();
            (host, offer)
        }
        None => (host, offer),
    }
}

/// An offered sandbox and its host.
type FoundOffer = (Arc<Host>, Offer);

/// The offers taken during one [`Allocator::serve`]. An offer counted as available stays available,
/// whatever the pools do meanwhile.
#[derive(Default)]
struct OfferCache {
    profiles: HashMap<ProfileName, ProfileOffers>,
    /// Sandboxes kept for a caller.
    kept: HashMap<(Caller, ProfileName), Option<FoundOffer>>,
}

struct ProfileOffers {
    unused: Option<FoundOffer>,
    /// Whether any pool of the profile keeps used sandboxes for their callers.
    reuses: bool,
}

impl OfferCache {
    /// Whether a sandbox is available to this caller.
    fn has(&mut self, hosts: &[Arc<Host>], caller: &Caller, lane: &Lane) -> bool {
        let Lane { profile, fresh } = lane;
        // another profile may have taken the capacity since the offer was found
        let fits = |found: &Option<FoundOffer>| found.as_ref().is_some_and(|(host, _)| host.has_capacity_for(profile));
        let offers = self.offers(hosts, profile);
        fits(&offers.unused) || offers.reuses && !fresh && fits(self.kept_for(hosts, caller, profile))
    }

    /// Takes the best offer for this caller: a sandbox kept for it, else an unused one.
    fn take(&mut self, hosts: &[Arc<Host>], caller: &Caller, lane: &Lane) -> Option<FoundOffer> {
        let Lane { profile, fresh } = lane;
        if self.offers(hosts, profile).reuses && !fresh {
            self.kept_for(hosts, caller, profile);
            if let Some(kept) = self.kept.remove(&(caller.clone(), profile.clone())).flatten() {
                return Some(kept);
            }
        }
        self.profiles.remove(profile)?.unused
    }

    fn offers(&mut self, hosts: &[Arc<Host>], profile: &ProfileName) -> &mut ProfileOffers {
        self.profiles.entry(profile.clone()).or_insert_with(|| ProfileOffers {
            unused: find(hosts, profile, None, CapacityCheck::Required),
            reuses: hosts.iter().any(|host| host.pool(profile).is_some_and(|pool| pool.reuses())),
        })
    }

    fn kept_for(&mut self, hosts: &[Arc<Host>], caller: &Caller, profile: &ProfileName) -> &Option<FoundOffer> {
        self.kept.entry((caller.clone(), profile.clone())).or_insert_with(|| {
            let mut roomy = hosts.iter().filter(|host| host.has_capacity_for(profile));
            roomy.find_map(|host| Some((host.clone(), host.pool(profile)?.offer_kept(caller)?)))
        })
    }

    /// Returns the remaining offers to their pools.
    fn decline(self) {
        let unused = self.profiles.into_values().filter_map(|offers| offers.unused);
        unused.chain(self.kept.into_values().flatten()).for_each(|(_, offer)| offer.decline());
    }
}

/// Whether a host must have capacity for the run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CapacityCheck {
    Required,
    Ignore,
}

/// An unused sandbox of the profile on the best host.
fn find(hosts: &[Arc<Host>], profile: &str, avoid: Option<&str>, capacity: CapacityCheck) -> Option<FoundOffer> {
    let fits = |host: &&Arc<Host>| capacity == CapacityCheck::Ignore || host.has_capacity_for(profile);
    let mut left: Vec<&Arc<Host>> = hosts.iter().filter(fits).collect();
    loop {
        let candidate = |host: &&Arc<Host>| Candidate {
            ready: host.pool(profile).map_or(0, |pool| pool.ready()),
            load: host.capacity().load(),
            avoid: avoid == Some(host.name()),
        };
        let candidates: Vec<Candidate> = left.iter().map(candidate).collect();
        let host = left.remove(choose(&candidates)?);
        if let Some(offer) = host.pool(profile).and_then(|pool| pool.offer()) {
            return Some((host.clone(), offer));
        }
    }
}

/// What a submission reserves for each of its sandboxes.
fn need(work: &Work) -> Resources {
    Resources { cpus: work.limits.cpus, memory: work.sandbox_limits().memory_bytes }
}

/// What a submission pays for its turn: its number of runs.
fn cost(work: &Work) -> u32 {
    let tests = match &work.plan {
        Plan::Run(_) | Plan::Suite(_) => 1,
        Plan::Tests(tests) => tests.len().max(1),
    };
    u32::try_from(tests + usize::from(work.compile.is_some())).unwrap_or(u32::MAX)
}
