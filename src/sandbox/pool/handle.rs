//! The public handle of a pool.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use protocol::Caller;
use protocol::rows::PoolState;

use super::error::MakeError;
use super::factory::SandboxFactory;
use super::inventory::{HostShare, PoolInner, PoolSettings};
use super::lease::Offer;
use super::replenisher::replenish;
use super::stats::PoolStats;

/// The pool of one profile on one host. Clones share it.
#[derive(Debug, Clone)]
pub struct Pool {
    inner: Arc<PoolInner>,
}

impl Pool {
    /// Starts a pool and its replenisher, which runs until [`Pool::close`].
    pub fn start(
        profile: &str,
        host: &str,
        settings: PoolSettings,
        share: HostShare,
        factory: Box<dyn SandboxFactory>,
    ) -> Pool {
        let inner = Arc::new(PoolInner::new(profile, host, settings, share, factory));
        tokio::spawn(replenish(inner.clone()));
        Pool { inner }
    }

    /// The profile's name.
    pub fn profile(&self) -> &str {
        &self.inner.profile
    }

    /// Iterations of the replenisher's loop. It grows after each [`Pool::wake`] unless the
    /// replenisher hangs. `None` once the pool is closed.
    pub fn loop_count(&self) -> Option<u64> {
        let count = self.inner.loop_count.load(Ordering::Relaxed);
        (!self.inner.lock().closed).then_some(count)
    }

    /// Wakes the replenisher.
    pub fn wake(&self) {
        self.inner.wake.notify_one();
    }

    /// Makes the next creation start at once, because the cause of past failures may be gone: the
    /// engine is back, or an image was built.
    pub fn reset_backoff(&self) {
        self.inner.lock().reset_backoff();
        self.wake();
    }

    /// The number of ready sandboxes.
    pub fn ready(&self) -> usize {
        self.inner.lock().stock.ready.len()
    }

    /// Whether it holds its floor, counting the sandboxes that are in use.
    pub fn is_filled(&self) -> bool {
        let stock = &self.inner.lock().stock;
        stock.ready.len() + stock.leased + stock.kept >= self.inner.settings.levels.floor
    }

    /// The mean duration of a creation; zero before the first one.
    pub fn mean_creation_time(&self) -> Duration {
        self.inner.lock().mean_creation_time()
    }

    /// Retires every ready and kept sandbox, and refuses leases from now on.
    pub fn close(&self) {
        let mut inventory = self.inner.lock();
        inventory.closed = true;
        inventory.clear();
        drop(inventory);
        self.wake();
    }

    /// Retires every ready and kept sandbox and creates none while paused (the host is drained).
    pub fn pause(&self, paused: bool) {
        let mut inventory = self.inner.lock();
        inventory.paused = paused;
        if paused {
            inventory.clear();
        }
        drop(inventory);
        self.wake();
    }

    /// Retires every ready and kept sandbox; the replenisher creates new ones (the engine was
    /// restarted).
    pub fn flush(&self) {
        self.inner.lock().clear();
        self.wake();
    }

    /// The counters since the pool was started.
    pub fn stats(&self) -> PoolStats {
        self.inner.lock().stats.clone()
    }

    /// The age of the oldest ready sandbox.
    pub fn oldest(&self) -> Option<Duration> {
        self.inner.lock().stock.ready.iter().map(|pooled| pooled.sandbox.age()).max()
    }

    /// Short container ids and ages of the ready sandboxes.
    pub fn ready_sandboxes(&self) -> Vec<(String, Duration)> {
        let inventory = self.inner.lock();
        let row =
            |pooled: &super::inventory::PooledSandbox| (pooled.sandbox.id().short().to_owned(), pooled.sandbox.age());
        inventory.stock.ready.iter().map(row).collect()
    }

    /// Sets the demand: `demand` submissions wait for their first sandbox, `strangers` of them
    /// cannot use a kept one, and `referee_demand` wait for a second one. The latter are exempt
    /// from the ceiling, or they could deadlock.
    pub fn set_demand(&self, demand: usize, strangers: usize, referee_demand: usize) {
        let stock = &mut self.inner.lock().stock;
        let grew = demand > stock.demand || strangers > stock.strangers || referee_demand > stock.referee_demand;
        (stock.demand, stock.strangers, stock.referee_demand) = (demand, strangers, referee_demand);
        if grew {
            self.wake();
        }
    }

    /// Reserves the oldest ready sandbox.
    pub fn offer(&self) -> Option<Offer> {
        let pooled = self.inner.lock().lease_ready()?;
        Some(Offer::new(pooled, None, self.inner.clone()))
    }

    /// Whether the runtimes of a sandbox are ready that this caller may use: an unused one, or one
    /// that is kept for it.
    pub fn is_hot_for(&self, caller: Option<&Caller>) -> bool {
        let inventory = self.inner.lock();
        let is_hot = |pooled: &super::inventory::PooledSandbox| pooled.sandbox.prewarm_state().is_hot();
        inventory.stock.ready.iter().any(is_hot) || caller.is_some_and(|caller| inventory.is_kept_hot(caller))
    }

    /// Records that a submission would be served by this pool if a runtime waited in it.
    pub fn record_interest(&self) {
        if self.inner.lock().interest.record(Instant::now()) {
            self.wake();
        }
    }

    /// The most sandboxes at a time.
    pub fn ceiling(&self) -> usize {
        self.inner.settings.levels.ceiling
    }

    /// Whether a sandbox of this pool is in use by this caller, or kept for it.
    pub fn has_sandbox_of(&self, caller: &Caller) -> bool {
        self.inner.owners.contains(caller)
    }

    /// Whether used sandboxes are kept for their callers.
    pub fn reuses(&self) -> bool {
        self.inner.settings.reuse.is_on()
    }

    /// Reserves a used sandbox that was kept for this caller.
    pub fn offer_kept(&self, caller: &Caller) -> Option<Offer> {
        let (pooled, owner) = self.inner.lock().lease_kept(caller)?;
        Some(Offer::new(pooled, Some(owner), self.inner.clone()))
    }

    /// The error of the last creation, unless one has succeeded since.
    pub fn last_error(&self) -> Option<Arc<MakeError>> {
        self.inner.lock().last_error.clone()
    }

    /// Why every submission would wait in vain, if so.
    pub fn blocked(&self) -> Option<Arc<MakeError>> {
        self.inner.lock().blocked()
    }

    /// The profile's image was made, or asked for again, and is this one: forgets that it could not
    /// be had, and retires sandboxes of an older one.
    pub fn use_image(&self, id: &str) {
        let mut inventory = self.inner.lock();
        inventory.last_error.take_if(|error| matches!(**error, MakeError::Image(_)));
        inventory.use_image(id);
    }

    /// Records that no sandbox can be made, found out without an attempt.
    pub fn record_failure(&self, error: MakeError) {
        self.inner.record_failure(error, 0.0);
    }

    /// The pool's row in `pool.list`.
    pub fn state(&self) -> PoolState {
        let inventory = self.inner.lock();
        let prewarm: Vec<_> = inventory.stock.ready.iter().map(|pooled| pooled.sandbox.prewarm_state()).collect();
        let settings = &self.inner.settings;
        PoolState {
            hot: prewarm.iter().filter(|prewarm| prewarm.is_hot()).count(),
            hot_bytes: prewarm.iter().filter(|prewarm| prewarm.is_hot()).map(|prewarm| prewarm.memory_bytes).max(),
            hot_failed: prewarm.iter().find_map(|prewarm| prewarm.failed.clone()),
            profile: self.inner.profile.clone(),
            host: self.inner.host.clone(),
            isolation: inventory.isolation,
            ready: inventory.stock.ready.len(),
            creating: inventory.stock.creating,
            leased: inventory.stock.leased,
            kept: inventory.stock.kept,
            reused: inventory.reused,
            waiting: inventory.stock.demand + inventory.stock.referee_demand,
            floor: settings.levels.floor,
            level: inventory.levels(settings.levels).floor,
            ceiling: settings.levels.ceiling,
            created: inventory.created,
            failed: inventory.failed,
            failures: inventory.failures_by_step.clone(),
            create_ms: inventory.mean_creation_time().as_secs_f64() * 1e3,
            broken: inventory.last_error.as_ref().map(|error| error.sentence()),
        }
    }
}
