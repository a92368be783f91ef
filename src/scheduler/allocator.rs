//! Hands sandboxes to the submissions that wait for one.
//!
//! ```text
//!   allocate --> FairQueue --> serve <-- capacity_changed: a sandbox is ready, a reservation was
//!                               |         released, a host is up, a request was dropped
//!                               |
//!              queue.pop_next(uids below their limit, what a host offers and has room for)
//!                               |
//!              host_choice::choose --> offer + reservation --> the request, or back to the pool
//!                                                              if the request is gone
//! ```
//!
//! `serve` holds the queue's lock. Locks of pools and hosts are taken under it, never the other way
//! round.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, oneshot};

use super::fair_queue::{FairQueue, Lane, ProfileName, QueueKey, QueueTicket, Room};
use super::host_choice::spread;
use super::long_wait::LongWaits;
use super::no_sandbox::{Busy, NoSandbox, NoSandboxCause};
use super::offers::{FoundOffer, OfferCache, find};
use super::referee_requests::{RefereeRequest, RefereeRequests};
use super::room_hold::RoomHold;
use super::wait_estimator::WaitEstimator;
use judge::work::{Plan, Referee, Work};
use protocol::rows::{HostState, PoolState};
use protocol::{Account, Caller, Counts, Profile};
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
    /// On another host than the submission's own, whose reservation has room for it.
    _reservation: Option<Reservation>,
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
    fn key(&self) -> (Account, ProfileName) {
        (self.caller.account(), self.lane.profile.clone())
    }
}

/// How often it is looked whether what is held has waited long enough.
const HOLD_CHECK: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
struct AllocatorState {
    queue: FairQueue<SandboxRequest>,
    referees: RefereeRequests,
    hold: RoomHold,
    estimator: WaitEstimator,
}

impl AllocatorState {
    fn someone_waits(&self) -> bool {
        !self.queue.is_empty() || !self.referees.is_empty()
    }
}

/// Running submissions by account.
#[derive(Debug, Clone, Default)]
struct RunningByAccount(Arc<Mutex<Counts<Account>>>);

/// Counts one running submission of an account until it is dropped.
#[derive(Debug)]
pub(super) struct RunningGuard {
    running: RunningByAccount,
    account: Account,
}

impl RunningByAccount {
    fn lock(&self) -> MutexGuard<'_, Counts<Account>> {
        self.0.lock()
    }

    fn start(&self, account: Account) -> RunningGuard {
        self.lock().increment(account.clone());
        RunningGuard { running: self.clone(), account }
    }
}

impl Drop for RunningGuard {
    fn drop(&mut self) {
        self.running.lock().decrement(&self.account);
    }
}

/// The one place where sandboxes are allocated.
#[derive(Debug)]
pub struct Allocator {
    fleet: Arc<Fleet>,
    capacity_changed: Arc<Notify>,
    state: Mutex<AllocatorState>,
    running: RunningByAccount,
    /// The further sandboxes of running submissions.
    further: RunningByAccount,
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
            running: RunningByAccount::default(),
            further: RunningByAccount::default(),
            max_running_per_uid: AtomicUsize::new(max_running_per_uid),
            iterations: AtomicU64::new(0),
            long_waits: LongWaits::default(),
        });
        let serving = Arc::downgrade(&allocator);
        tokio::spawn(async move {
            loop {
                let is_woken = tokio::time::timeout(HOLD_CHECK, capacity_changed.notified()).await.is_ok();
                let Some(allocator) = serving.upgrade() else { return };
                if !is_woken && !allocator.state().hold.is_noted() {
                    continue;
                }
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
        let need = need(work);
        let lane = Lane { profile: profile.clone(), fresh: work.fresh, room: room(need) };
        let request = SandboxRequest {
            caller: work.caller.clone(),
            lane: lane.clone(),
            need,
            avoid: avoid.map(str::to_owned),
            reply,
        };
        let ticket = self.state().queue.enqueue(&work.caller, &lane, cost(work), request);
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

    /// Waits for a sandbox for a referee of a submission that holds its own on `host`, and has
    /// reserved what its referees need.
    ///
    /// # Errors
    /// No sandbox was allocated within `patience`.
    pub(super) async fn allocate_referee(
        &self,
        referee: &Referee,
        host: &Arc<Host>,
        patience: Duration,
    ) -> Result<RefereeLease, NoSandbox> {
        let begun = Instant::now();
        let _wake = WakeOnDrop(self);
        let profile: ProfileName = referee.profile.name.as_str().into();
        let (reply, handover) = oneshot::channel();
        let (own, need) = (host.clone(), referee_need(referee));
        self.state().referees.push(RefereeRequest { profile: profile.clone(), own, need, reply });
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
        let account = work.caller.account();
        let most = self.most_running(&account, &self.fleet.schedulable());
        let is_within_limit = most == 0 || self.running.lock().get(&account) + self.further.lock().get(&account) < most;
        let need = own_need(work);
        let is_willing = self.fleet.schedulable().iter().any(|willing| Arc::ptr_eq(willing, host));
        if state.someone_waits() || !is_within_limit || !is_willing || !host.capacity().fits(need) {
            return None;
        }
        let pool = host.pool(&work.profile.name)?;
        let kept = if work.fresh { None } else { pool.offer_kept(&work.caller) };
        let offer = kept.or_else(|| pool.offer())?;
        let (_reservation, _counted) = (host.capacity().reserve(need), self.further.start(account));
        drop(state);
        let lease = offer.accept(Duration::ZERO, Some(&work.caller))?;
        Some(FurtherSandbox { _counted, _reservation, lease })
    }

    /// How many submissions of an account may run at once; 0 for any number.
    fn most_running(&self, account: &Account, hosts: &[Arc<Host>]) -> usize {
        let configured = self.max_running_per_uid.load(Ordering::Relaxed);
        match account {
            Account::Uid(_) | Account::Token(_) => configured,
            Account::Anonymous => {
                most_anonymous(configured, hosts.iter().map(|host| host.capacity().total().cpus).sum())
            }
        }
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
        let mut state = self.state();
        let mut cache = OfferCache::new(state.hold.held(Instant::now()).cloned());
        self.drop_hopeless(&mut state);
        state.referees.serve(&hosts);
        loop {
            self.serve_all(&hosts, &mut state, &mut cache);
            state.hold.update(std::mem::take(&mut cache.short), Instant::now());
            let held = state.hold.held(Instant::now()).cloned();
            if cache.held == held {
                break;
            }
            // what was held is gone: the others need not wait for it any more
            cache.held = held;
        }
        self.update_demand(&state, &hosts);
        drop(state);
        cache.decline();
    }

    /// Serves everyone for whom there is room.
    fn serve_all(&self, hosts: &[Arc<Host>], state: &mut AllocatorState, cache: &mut OfferCache) {
        loop {
            cache.short.clear();
            let may_run = &mut |account: &Account| {
                let most = self.most_running(account, hosts);
                most == 0 || self.running.lock().get(account) < most
            };
            let next = state.queue.pop_next(may_run, &mut |caller, lane| cache.has(hosts, caller, lane));
            let Some(request) = next else { break };
            let Some(found) = cache.take(hosts, &request.caller, &request.lane) else { break };
            let (host, offer) = prefer_another_host(found, &request, hosts);
            state.hold.served(&request.caller, &request.lane);
            cache.held = state.hold.held(Instant::now()).cloned();
            let others_wait = !state.queue.is_empty();
            state.estimator.record_allocation(Instant::now(), others_wait);
            let reservation = host.capacity().reserve(request.need);
            let running = self.running.start(request.caller.account());
            // if the request is gone, dropping the handover returns everything
            let _ = request.reply.send(Handover { host, offer, reservation, running });
        }
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
        state.referees.drop_hopeless(is_hopeless);
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
                let (here, anywhere) = state.referees.waiting_for(pool.profile(), host, hosts);
                let waiting = share(state.queue.waiting_for(pool.profile()));
                // one ahead of what can run now: making more slows the runs that must end first
                let demand = if waiting > 0 { waiting.min(host.room_for(pool.profile()) + 1) } else { 0 };
                let is_stranger = &mut |caller: &Caller, lane: &Lane| lane.fresh || !pool.has_sandbox_of(caller);
                let strangers = match demand {
                    0 => 0,
                    _ => state.queue.count_up_to(pool.ceiling(), pool.profile(), is_stranger).min(demand),
                };
                pool.set_demand(demand, strangers, here + share(anywhere));
            }
        }
    }

    /// The estimated wait of a new submission of an account for a sandbox of `profile`. `None` if
    /// nothing waits for the profile, or too little was measured.
    pub(super) fn predict_wait(&self, account: &Account, profile: &str) -> Option<Duration> {
        let profile: ProfileName = profile.into();
        let state = self.state();
        match state.queue.waiting_for(&profile) {
            0 => None,
            _ => state.estimator.estimate(state.queue.ahead_of(account, &profile)),
        }
    }

    /// The numbers of waiting and of running submissions by account.
    pub fn callers(&self) -> BTreeMap<Account, (usize, usize)> {
        let mut rows: BTreeMap<Account, (usize, usize)> =
            self.running.lock().iter().map(|(account, running)| (account.clone(), (0, running))).collect();
        for (account, waiting) in self.state().queue.waiting_by_account() {
            rows.entry(account).or_default().0 = waiting;
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

/// Replaces an offer of the host that the request wants to avoid, if another host has one.
fn prefer_another_host(found: FoundOffer, request: &SandboxRequest, hosts: &[Arc<Host>]) -> FoundOffer {
    let (host, offer) = found;
    if request.avoid.as_deref() != Some(host.name()) {
        return (host, offer);
    }
    let fits = &|host: &Host| host.capacity().fits(request.need);
    match find(hosts, &request.lane.profile, request.avoid.as_deref(), fits) {
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

/// What a submission reserves for each sandbox that runs its program.
fn own_need(work: &Work) -> Resources {
    Resources { cpus: work.limits.cpus, memory: work.sandbox_limits().memory_bytes }
}

/// What a submission reserves before it starts: the memory of all its sandboxes, and the largest of
/// their CPU shares. It mostly waits while a referee runs, and the referee while it runs.
fn need(work: &Work) -> Resources {
    work.referees.iter().map(referee_need).fold(own_need(work), |all, one| Resources {
        cpus: all.cpus.max(one.cpus),
        memory: all.memory.saturating_add(one.memory),
    })
}

fn referee_need(referee: &Referee) -> Resources {
    Resources { cpus: referee.step.limits.cpus, memory: referee.sandbox_limits().memory_bytes }
}

/// The order of lanes needs numbers that compare.
fn room(need: Resources) -> Room {
    Room { micro_cpus: (need.cpus * 1e6).round() as u64, memory: need.memory }
}

/// What a submission pays for its turn: its number of runs.
fn cost(work: &Work) -> u32 {
    let tests = match &work.plan {
        Plan::Run(_) | Plan::Suite(_) => 1,
        Plan::Tests(tests) => tests.len().max(1),
    };
    u32::try_from(tests + usize::from(work.compile.is_some())).unwrap_or(u32::MAX)
}

/// How many submissions of all anonymous callers together may run at once: half as many as hosts
/// have CPUs, within the bound of any account (0 for none).
fn most_anonymous(configured: usize, cpus: f64) -> usize {
    let half = ((cpus / 2.0) as usize).max(1);
    if configured == 0 { half } else { half.min(configured) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use judge::accept::accept;
    use protocol::Principal;

    const MIB: u64 = 1 << 20;

    #[test]
    fn anonymous_callers_leave_half_of_the_cpus_to_others() {
        assert_eq!([0.5, 2.0, 4.0, 9.0].map(|cpus| most_anonymous(0, cpus)), [1, 1, 2, 4]);
        assert_eq!((most_anonymous(3, 16.0), most_anonymous(3, 4.0)), (3, 2));
    }

    #[test]
    fn a_submission_reserves_the_memory_of_all_its_sandboxes_and_the_largest_cpu_share() {
        let profile: Profile = toml::from_str("name='x'\nimage='x'\nentry='a'\nrun=['a']").unwrap();
        let profiles = [("x".to_owned(), Arc::new(profile))].into();
        let checker = |limits: serde_json::Value, code: &str| {
            let files = serde_json::json!([{ "path": "a", "content": code }]);
            serde_json::json!({ "kind": "program", "language": "x", "files": files, "limits": limits })
        };
        let large = checker(serde_json::json!({ "memory_bytes": 2048 * MIB, "cpus": 0.5 }), "1");
        let quick = checker(serde_json::json!({ "memory_bytes": 64 * MIB, "cpus": 2.0 }), "2");
        let submission = serde_json::from_value(serde_json::json!({
            "language": "x", "files": [{ "path": "a", "content": "" }],
            "limits": { "memory_bytes": 8 * MIB, "cpus": 0.05 },
            "tests": [{ "checker": large }, { "checker": quick }, { "checker": large }],
        }));
        let work = accept(&submission.unwrap(), &Principal::Uid(7), &profiles, &|_| None).unwrap();
        assert_eq!(need(&work), Resources { cpus: 2.0, memory: (8 + 2048 + 64) * MIB });
        assert_eq!(own_need(&work), Resources { cpus: 0.05, memory: 8 * MIB });
        assert_eq!(room(need(&work)), Room { micro_cpus: 2_000_000, memory: 2120 * MIB });
    }
}
