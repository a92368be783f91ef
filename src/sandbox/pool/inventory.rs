//! The state of a pool behind its lock: which sandboxes are ready, kept or being created, and what
//! failed last.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use protocol::{Caller, Isolation, StartKind};
use tokio::sync::Notify;

use super::demand::{DemandRate, Interest};
use super::error::MakeError;
use super::factory::SandboxFactory;
use super::limiter::{CreationLimiter, PermitSeeker, Urgency};
use super::owners::{Owners, Ownership};
use super::reuse::{ReuseRule, gives_way, is_over};
use super::stats::{PoolStats, RetireReason};
use super::stock::{Levels, Stock};
use crate::lifecycle::{PrewarmState, RuntimeChoice, Sandbox};

/// The pause after the first failed creation; doubled after each further one.
const BACKOFF_FIRST: Duration = Duration::from_millis(250);
/// The longest pause. An engine that is back must be noticed within 5 s.
const BACKOFF_MAX: Duration = Duration::from_secs(4);
/// Failed creations in a row after which the next one counts as certain to fail.
const CERTAIN_FAILURES: u32 = 3;
/// Up to a quarter of the pause is subtracted, so that pools do not retry at the same moment.
const JITTER_FRACTION: f64 = 0.25;

/// The settings of a pool, from its profile.
#[derive(Debug, Clone, Copy)]
pub struct PoolSettings {
    pub levels: Levels,
    /// A ready sandbox that is older is replaced.
    pub max_age: Duration,
    /// Among pools that need a sandbox equally, the higher priority goes first.
    pub priority: i32,
    /// Which used sandboxes serve again.
    pub reuse: ReuseRule,
    /// How many ready sandboxes have prewarmed runtimes.
    pub hot: usize,
}

/// What all pools of a host share.
#[derive(Debug, Clone)]
pub struct HostShare {
    pub creating: CreationLimiter,
    /// Runs in progress on this host.
    pub running: Arc<AtomicUsize>,
    /// Notified when a sandbox becomes available.
    pub capacity_changed: Arc<Notify>,
}

/// A sandbox in a pool, ready or kept.
#[derive(Debug)]
pub(super) struct PooledSandbox {
    pub(super) sandbox: Sandbox,
    /// The id of the profile's image.
    pub(super) image: Arc<str>,
    /// [`PoolInventory::generation`] when its creation began.
    pub(super) generation: u64,
    /// Submissions that it served.
    pub(super) uses: u32,
    /// When the first of them began.
    pub(super) first_used: Option<Instant>,
    pub(super) returns: Returns,
}

/// How fast the caller of a used sandbox comes back.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Returns {
    /// How long the sandbox last waited for it.
    last: Option<Duration>,
    /// The longest wait in which a wanted runtime did not get ready.
    too_short: Option<Duration>,
}

impl Returns {
    fn record(&mut self, waited: Duration, prewarm: &PrewarmState) {
        self.last = Some(waited);
        if prewarm.wanted > 0 && !prewarm.is_hot() {
            self.too_short = self.too_short.max(Some(waited));
        }
    }

    /// Whether the caller is likely to come back before a runtime is ready.
    pub(super) fn is_hasty(&self) -> bool {
        self.last.is_some() && self.last <= self.too_short
    }
}

impl PooledSandbox {
    /// Why it can no longer be used, if so.
    fn unusable(&self, max_age: Duration) -> Option<RetireReason> {
        if self.sandbox.is_lost() {
            return Some(RetireReason::Died);
        }
        (self.sandbox.age() >= max_age).then_some(RetireReason::Age)
    }
}

/// The only caller that a used sandbox may serve again.
#[derive(Debug)]
pub(super) struct KeptFor {
    pub(super) owner: Ownership,
    since: Instant,
}

/// A used sandbox that waits for its caller.
#[derive(Debug)]
struct KeptSandbox {
    kept_for: KeptFor,
    pooled: PooledSandbox,
}

impl KeptSandbox {
    fn is_usable_by(&self, caller: &Caller) -> bool {
        self.kept_for.owner.caller() == caller && !self.pooled.sandbox.is_lost()
    }

    /// Why it is retired, even if its place is not needed.
    fn unusable(&self, max_age: Duration) -> Option<RetireReason> {
        let in_service = self.pooled.first_used.map_or(Duration::ZERO, |first| first.elapsed());
        let is_over = is_over(self.kept_for.since.elapsed(), in_service);
        self.pooled.unusable(max_age).or_else(|| is_over.then_some(RetireReason::Idle))
    }

    fn gives_way(&self) -> bool {
        gives_way(self.kept_for.since.elapsed(), self.pooled.uses)
    }
}

/// Everything that a pool's lock protects.
#[derive(Debug, Default)]
pub(super) struct PoolInventory {
    pub(super) stock: Stock<PooledSandbox>,
    /// `stock.kept` is the length of this list.
    kept: Vec<KeptSandbox>,
    /// The id of the image of the sandbox that was created last, or of the one that was made since.
    image: Option<Arc<str>>,
    /// How often the image was made anew: sandboxes of an earlier generation have an older one.
    pub(super) generation: u64,
    /// How often a used sandbox was kept.
    pub(super) reused: usize,
    /// Creations that failed since the last one that succeeded.
    pub(super) failures: u32,
    /// No creation is started before this time.
    pub(super) not_before: Option<Instant>,
    pub(super) last_error: Option<Arc<MakeError>>,
    /// Why no prewarmed runtime waits, as it was last logged.
    pub(super) hot_failure: Option<String>,
    /// Of the sandbox that was created last.
    pub(super) isolation: Option<Isolation>,
    pub(super) created: usize,
    pub(super) failed: usize,
    pub(super) failures_by_step: BTreeMap<&'static str, usize>,
    creation_time: Duration,
    demand_rate: DemandRate,
    /// Whether the pool is worth a ready sandbox although its floor is 0.
    pub(super) interest: Interest,
    pub(super) stats: PoolStats,
    pub(super) paused: bool,
    pub(super) closed: bool,
}

impl PoolInventory {
    fn add_kept(&mut self, pooled: PooledSandbox, kept_for: KeptFor) {
        self.kept.push(KeptSandbox { kept_for, pooled });
        self.stock.kept = self.kept.len();
    }

    /// Whether the runtimes of a sandbox that is kept for this caller are ready.
    pub(super) fn is_kept_hot(&self, caller: &Caller) -> bool {
        self.kept.iter().any(|kept| kept.is_usable_by(caller) && kept.pooled.sandbox.prewarm_state().is_hot())
    }

    /// Moves a kept sandbox of this caller to the leased ones.
    pub(super) fn lease_kept(&mut self, caller: &Caller) -> Option<(PooledSandbox, KeptFor)> {
        let index = self.kept.iter().position(|kept| kept.is_usable_by(caller))?;
        let KeptSandbox { kept_for, mut pooled } = self.kept.swap_remove(index);
        pooled.returns.record(kept_for.since.elapsed(), &pooled.sandbox.prewarm_state());
        self.stock.kept -= 1;
        self.stock.leased += 1;
        Some((pooled, kept_for))
    }

    /// Moves the oldest ready sandbox to the leased ones.
    pub(super) fn lease_ready(&mut self) -> Option<PooledSandbox> {
        while let Some(pooled) = self.stock.ready.pop_front() {
            if !pooled.sandbox.is_lost() {
                self.stock.leased += 1;
                return Some(pooled);
            }
            self.stats.record_retired(RetireReason::Died, 1);
        }
        None
    }

    /// Retires kept sandboxes that died, are too old or were kept too long, and evicts those whose
    /// place is needed ([`Stock::to_give_up`]).
    pub(super) fn evict_kept(&mut self, max_age: Duration, levels: Levels) {
        let stats = &mut self.stats;
        self.kept.retain(|kept| {
            let reason = kept.unusable(max_age);
            reason.into_iter().for_each(|reason| stats.record_retired(reason, 1));
            reason.is_none()
        });
        self.stock.kept = self.kept.len();
        // oldest first; `lease_kept` may have changed the order
        self.kept.sort_by_key(|kept| kept.kept_for.since);
        let idle = self.kept.iter().take_while(|kept| kept.gives_way()).count();
        let count = self.stock.to_give_up(levels, idle);
        self.kept.drain(..count);
        self.stats.record_retired(RetireReason::Evicted, count);
        self.stock.kept = self.kept.len();
    }

    /// Retires ready sandboxes that died or are too old.
    pub(super) fn retire_unusable_ready(&mut self, max_age: Duration) {
        let stats = &mut self.stats;
        self.stock.ready.retain(|pooled| {
            let reason = pooled.unusable(max_age);
            reason.into_iter().for_each(|reason| stats.record_retired(reason, 1));
            reason.is_none()
        });
    }

    /// Whether a new or returned sandbox may enter the pool. If not, it is counted as retired.
    fn accepts(&mut self, pooled: &PooledSandbox) -> bool {
        let reason = match pooled.sandbox.is_lost() {
            true => Some(RetireReason::Died),
            false if pooled.generation < self.generation => Some(RetireReason::Closed),
            false => (self.closed || self.paused).then_some(RetireReason::Closed),
        };
        reason.into_iter().for_each(|reason| self.stats.record_retired(reason, 1));
        reason.is_none()
    }

    /// The profile's image is this one now. Sandboxes of another one serve no further submission.
    pub(super) fn use_image(&mut self, id: &str) {
        if self.image.as_deref() != Some(id) {
            self.image = Some(Arc::from(id));
            self.generation += 1;
            self.clear();
        }
    }

    /// Retires all ready and kept sandboxes.
    pub(super) fn clear(&mut self) {
        self.stats.record_retired(RetireReason::Closed, self.stock.ready.len() + self.kept.len());
        self.stock.ready.clear();
        self.kept.clear();
        self.stock.kept = 0;
    }

    /// The mean duration of a creation; zero before the first one.
    pub(super) fn mean_creation_time(&self) -> Duration {
        u32::try_from(self.created).ok().and_then(|count| self.creation_time.checked_div(count)).unwrap_or_default()
    }

    /// The configured levels with the floor raised to follow the demand.
    pub(super) fn levels(&self, configured: Levels) -> Levels {
        let now = Instant::now();
        let floor = self.demand_rate.level(now, self.mean_creation_time(), configured);
        Levels { floor: floor.max(self.interest.level(now, configured)), ..configured }
    }

    /// Why every submission would wait in vain: no sandbox can be made, and none is there.
    pub(super) fn blocked(&self) -> Option<Arc<MakeError>> {
        let error = self.last_error.as_ref().filter(|error| error.is_hopeless())?;
        let is_certain = !error.is_failed_creation() || self.failures >= CERTAIN_FAILURES;
        (is_certain && self.stock.ready.is_empty() && self.kept.is_empty()).then(|| error.clone())
    }

    fn record_success(&mut self, took: Duration, isolation: Isolation) {
        self.created += 1;
        self.creation_time += took;
        self.stats.record_creation(took);
        self.reset_backoff();
        self.last_error = None;
        self.isolation = Some(isolation);
    }

    /// Schedules the next attempt; `jitter` is between 0 and 1.
    fn record_failure(&mut self, error: Arc<MakeError>, jitter: f64) {
        if error.is_failed_creation() {
            self.failed += 1;
            *self.failures_by_step.entry(error.step()).or_default() += 1;
        }
        self.failures = self.failures.saturating_add(1);
        let pause = BACKOFF_FIRST.saturating_mul(1 << (self.failures - 1).min(8)).min(BACKOFF_MAX);
        self.not_before = Some(Instant::now() + pause - pause.mul_f64(jitter * JITTER_FRACTION));
        self.last_error = Some(error);
    }

    pub(super) fn reset_backoff(&mut self) {
        self.failures = 0;
        self.not_before = None;
    }
}

/// What the handles of a pool, its leases and its replenisher share.
#[derive(Debug)]
pub(super) struct PoolInner {
    pub(super) profile: String,
    pub(super) host: String,
    pub(super) settings: PoolSettings,
    pub(super) share: HostShare,
    pub(super) factory: Box<dyn SandboxFactory>,
    inventory: Mutex<PoolInventory>,
    pub(super) owners: Owners,
    /// Wakes the replenisher.
    pub(super) wake: Notify,
    /// Iterations of the replenisher's loop.
    pub(super) loop_count: AtomicU64,
}

impl PoolInner {
    pub(super) fn new(
        profile: &str,
        host: &str,
        settings: PoolSettings,
        share: HostShare,
        factory: Box<dyn SandboxFactory>,
    ) -> PoolInner {
        PoolInner {
            profile: profile.to_owned(),
            host: host.to_owned(),
            settings,
            share,
            factory,
            inventory: Mutex::default(),
            owners: Owners::default(),
            wake: Notify::new(),
            loop_count: AtomicU64::new(0),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, PoolInventory> {
        self.inventory.lock()
    }

    /// Tells the scheduler that a sandbox may be available.
    pub(super) fn notify_capacity(&self) {
        self.share.capacity_changed.notify_one();
    }

    /// Records that an offered sandbox was taken.
    pub(super) fn record_lease(&self, start: StartKind, is_unused: bool) {
        let mut inventory = self.lock();
        let now = Instant::now();
        if is_unused {
            inventory.demand_rate.record(now);
        }
        inventory.interest.record(now);
        inventory.stats.record_lease(start);
        drop(inventory);
        self.wake.notify_one();
    }

    /// Returns an offered sandbox that was not taken.
    pub(super) fn put_back(&self, pooled: PooledSandbox, kept_for: Option<KeptFor>) {
        let mut inventory = self.lock();
        inventory.stock.leased -= 1;
        match (inventory.accepts(&pooled), kept_for) {
            (true, None) => inventory.stock.ready.push_front(pooled),
            (true, Some(kept_for)) => inventory.add_kept(pooled, kept_for),
            (false, _) => {}
        }
        drop(inventory);
        self.wake.notify_one();
    }

    /// Ends a lease without returning the sandbox.
    pub(super) fn end_lease(&self, reason: RetireReason) {
        let mut inventory = self.lock();
        inventory.stock.leased -= 1;
        inventory.stats.record_retired(reason, 1);
        drop(inventory);
        self.wake.notify_one();
    }

    /// Ends a lease and keeps the used sandbox for its caller.
    pub(super) fn keep(&self, mut pooled: PooledSandbox, owner: Ownership, choice: &RuntimeChoice) {
        // the caller is likely to come back at once
        if self.settings.hot > 0 {
            pooled.sandbox.prewarm_for(choice);
        }
        let mut inventory = self.lock();
        inventory.stock.leased -= 1;
        let levels = inventory.levels(self.settings.levels);
        if !inventory.stock.may_keep(levels) {
            inventory.stats.record_retired(RetireReason::Evicted, 1);
        } else if inventory.accepts(&pooled) {
            inventory.add_kept(pooled, KeptFor { owner, since: Instant::now() });
            inventory.reused += 1;
        }
        drop(inventory);
        self.notify_capacity();
        self.wake.notify_one();
    }

    /// Adds a new sandbox to the ready ones. False if the pool does not accept it any more.
    pub(super) fn add_ready(&self, ticket: CreationTicket, sandbox: Sandbox, image: Arc<str>, took: Duration) -> bool {
        let mut inventory = self.lock();
        let (generation, returns) = (ticket.generation, Returns::default());
        ticket.redeem(&mut inventory);
        inventory.record_success(took, sandbox.isolation());
        let pooled = PooledSandbox { sandbox, image, generation, uses: 0, first_used: None, returns };
        let accepted = inventory.accepts(&pooled);
        if accepted {
            inventory.image = Some(pooled.image.clone());
            inventory.stock.ready.push_back(pooled);
        }
        drop(inventory);
        self.wake.notify_one();
        if accepted {
            self.notify_capacity();
        }
        accepted
    }

    pub(super) fn record_failure(&self, error: MakeError, jitter: f64) {
        let error = Arc::new(error);
        let mut inventory = self.lock();
        let reason = error.to_string();
        let is_known = inventory.last_error.as_ref().is_some_and(|last| last.to_string() == reason);
        if !error.is_logged_elsewhere() && !is_known {
            let (profile, host, step, remedy) = (&self.profile, &self.host, error.step(), error.remedy(&self.profile));
            match error.is_hopeless() {
                true => tracing::error!(
                    %profile, %host, step, error = reason, remedy,
                    "no sandbox can be made: submissions of this profile are refused"
                ),
                false => {
                    tracing::warn!(%profile, %host, step, error = reason, remedy, "a sandbox could not be made")
                }
            }
        }
        inventory.record_failure(error, jitter);
        let is_blocked = inventory.blocked().is_some();
        drop(inventory);
        // so that submissions that wait for it are answered
        if is_blocked {
            self.notify_capacity();
        }
    }
}

impl PermitSeeker for PoolInner {
    fn urgency(&self) -> Urgency {
        let inventory = self.lock();
        let ready = inventory.stock.ready.len();
        Urgency {
            idle: inventory.stock.demand + inventory.stock.referee_demand <= ready,
            ready,
            priority: Reverse(self.settings.priority),
        }
    }
}

/// The right to create one sandbox. Dropping it gives the place in the stock back.
pub(super) struct CreationTicket {
    pub(super) pool: Arc<PoolInner>,
    /// The pool's generation when the creation began.
    generation: u64,
    is_redeemed: bool,
}

impl CreationTicket {
    /// A ticket for a place that `stock.creating` already counts.
    pub(super) fn new(pool: Arc<PoolInner>, generation: u64) -> CreationTicket {
        CreationTicket { pool, generation, is_redeemed: false }
    }

    /// From now on the sandbox is counted elsewhere.
    fn redeem(mut self, inventory: &mut PoolInventory) {
        self.is_redeemed = true;
        inventory.stock.creating -= 1;
    }
}

impl Drop for CreationTicket {
    fn drop(&mut self) {
        if !self.is_redeemed {
            self.pool.lock().stock.creating -= 1;
        }
        self.pool.wake.notify_one();
    }
}
