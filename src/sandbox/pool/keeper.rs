//! Keeps a pool at its level: makes sandboxes when the books want them, drops those that died or grew old.
//!
//! The keeper is one task, woken by events: an offer taken, a lease ended, another number of callers, a creation that
//! ended, a ready sandbox that died, a run that ended on the host. A failure sets the pool back with exponential backoff and
//! jitter; the reason stands in the snapshot until a creation succeeds again.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::gate::{CreationLimiter, CreationQueueMember, Urgency};
use super::lease::Offer;
use super::state::PoolState;
use super::stock::{HostLoad, Levels, Stock};
use super::tally::{PoolStats, RetireReason};
use super::tide::DemandRate;
use crate::lifecycle::{CreateError, Sandbox};
use protocol::Caller;
use protocol::{Isolation, StartKind};

/// The first pause after a failed creation; doubled for each further one.
const BACKOFF_FIRST: Duration = Duration::from_millis(250);
/// The longest pause: the engine's return must be noticed within 5 s.
const BACKOFF_MOST: Duration = Duration::from_secs(4);

/// Why a factory could not make a sandbox, in words for `pool.list`.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// The creation failed.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// The profile's image is not there yet.
    #[error("{0}")]
    NotReady(String),
}

/// A creation under way.
pub type Making = Pin<Box<dyn Future<Output = Result<(Sandbox, Arc<str>), MakeError>> + Send>>;

/// Makes sandboxes for one pool.
pub trait Factory: Send + Sync + std::fmt::Debug + 'static {
    /// Starts making one.
    fn make(&self) -> Making;
}

/// A ready sandbox in the books.
#[derive(Debug)]
pub(super) struct Shelved {
    pub(super) sandbox: Sandbox,
    pub(super) image: Arc<str>,
    /// Submissions that it served.
    pub(super) uses: u32,
}

impl Shelved {
    /// Why it is of no use any more.
    fn spoilt(&self, max_age: Duration) -> Option<RetireReason> {
        match self.sandbox.is_lost() {
            true => Some(RetireReason::Died),
            false => (self.sandbox.age() >= max_age).then_some(RetireReason::Age),
        }
    }
}

/// A used one, for nobody but its caller.
#[derive(Debug)]
struct Kept {
    of: KeptFor,
    shelved: Shelved,
}

/// Whose a used one is, and since when it waits for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeptFor {
    caller: Caller,
    since: Instant,
}

/// How long a used sandbox is kept for a caller who does not come.
const KEPT_FOR: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Books {
    pub(super) stock: Stock<Shelved>,
    /// As many as the stock says.
    kept: Vec<Kept>,
    reused: usize,
    failures: u32,
    not_before: Option<Instant>,
    broken: Option<String>,
    isolation: Option<Isolation>,
    created: usize,
    failed: usize,
    failures_by_wait: BTreeMap<&'static str, usize>,
    create_time: Duration,
    demand_rate: DemandRate,
    pub(super) stats: PoolStats,
    paused: bool,
    closed: bool,
}

impl Kept {
    fn is_for(&self, caller: &Caller) -> bool {
        self.of.caller == *caller && !self.shelved.sandbox.is_lost()
    }
}

impl Books {
    fn keep(&mut self, shelved: Shelved, of: KeptFor) {
        self.kept.push(Kept { of, shelved });
        self.stock.kept = self.kept.len();
    }

    /// Lets go of used ones that died, grew old, wait in vain, or stand in the way of those who wait.
    fn evict_kept(&mut self, max_age: Duration, levels: Levels) {
        let stats = &mut self.stats;
        self.kept.retain(|kept| {
            let idle = (kept.of.since.elapsed() >= KEPT_FOR).then_some(RetireReason::Idle);
            let why = kept.shelved.spoilt(max_age).or(idle);
            why.into_iter().for_each(|reason| stats.retired(reason, 1));
            why.is_none()
        });
        self.stock.kept = self.kept.len();
        // oldest first; taking one out may have changed the order by one place
        let evicted = self.stock.evict(levels);
        self.kept.sort_by_key(|kept| kept.of.since);
        self.kept.drain(..evicted);
        self.stats.retired(RetireReason::Evicted, evicted);
        self.stock.kept = self.kept.len();
    }

    /// Lets go of ready ones that died or grew old.
    fn evict_ready(&mut self, max_age: Duration) {
        let stats = &mut self.stats;
        self.stock.ready.retain(|shelved| {
            let why = shelved.spoilt(max_age);
            why.into_iter().for_each(|reason| stats.retired(reason, 1));
            why.is_none()
        });
    }

    /// Whether one that comes back, or a new one, may be put on a shelf; counted as let go when not.
    fn takes(&mut self, shelved: &Shelved) -> bool {
        let why = match shelved.sandbox.is_lost() {
            true => Some(RetireReason::Died),
            false => (self.closed || self.paused).then_some(RetireReason::Closed),
        };
        why.into_iter().for_each(|reason| self.stats.retired(reason, 1));
        why.is_none()
    }

    fn drop_all(&mut self) {
        self.stats.retired(RetireReason::Closed, self.stock.ready.len() + self.kept.len());
        self.stock.ready.clear();
        self.kept.clear();
        self.stock.kept = 0;
    }

    /// The mean time of a creation.
    fn create_mean(&self) -> Duration {
        u32::try_from(self.created).ok().and_then(|count| self.create_time.checked_div(count)).unwrap_or_default()
    }

    /// The levels to aim for: a floor that follows the rate.
    fn levels(&self, levels: Levels) -> Levels {
        Levels { floor: self.demand_rate.level(Instant::now(), self.create_mean(), levels), ..levels }
    }
}

/// What a profile says of its pool.
#[derive(Debug, Clone, Copy)]
pub struct PoolSettings {
    /// The levels.
    pub levels: Levels,
    /// A ready sandbox older than this is replaced.
    pub max_age: Duration,
    /// Among pools that want one equally: the higher first.
    pub priority: i32,
    /// Submissions that one sandbox serves at most.
    pub reuse: u32,
    /// KeptFor the ready ones, how many have their runtimes waiting in them.
    pub hot: usize,
}

/// What all pools of a host share.
#[derive(Debug, Clone)]
pub struct HostShare {
    /// Creations at a time on this host, and whose is next.
    pub creating: CreationLimiter,
    /// Runs under way on this host.
    pub running: Arc<AtomicUsize>,
    /// Rung when a sandbox is ready for whoever is next.
    pub capacity_changed: Arc<Notify>,
}

#[derive(Debug)]
pub(super) struct Inner {
    profile: String,
    host: String,
    settings: PoolSettings,
    share: HostShare,
    factory: Box<dyn Factory>,
    books: Mutex<Books>,
    pub(super) wake: Notify,
    /// How often the keeper looked.
    turns: AtomicU64,
}

impl Inner {
    pub(super) fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A pool. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Pool {
    inner: Arc<Inner>,
}

impl Pool {
    /// A pool and its keeper, which runs until [`Pool::close`].
    pub fn start(
        profile: &str,
        host: &str,
        settings: PoolSettings,
        share: HostShare,
        factory: Box<dyn Factory>,
    ) -> Pool {
        let inner = Arc::new(Inner {
            profile: profile.to_owned(),
            host: host.to_owned(),
            settings,
            share,
            factory,
            books: Mutex::default(),
            wake: Notify::new(),
            turns: AtomicU64::new(0),
        });
        tokio::spawn(keep(inner.clone()));
        Pool { inner }
    }

    /// The profile's name.
    pub fn profile(&self) -> &str {
        &self.inner.profile
    }

    /// How often the keeper looked at its books: it grows whenever it is woken, or the keeper hangs. None once it is closed.
    pub fn turns(&self) -> Option<u64> {
        let turns = self.inner.turns.load(Ordering::Relaxed);
        (!self.inner.books().closed).then_some(turns)
    }

    /// Wakes the keeper: something changed that it should look at.
    pub fn wake(&self) {
        self.inner.wake.notify_one();
    }

    /// Forgets past failures, so that the next creation is tried at once (the engine is back, an image was built).
    pub fn reset_backoff(&self) {
        let mut books = self.inner.books();
        books.failures = 0;
        books.not_before = None;
        drop(books);
        self.wake();
    }

    /// Ready sandboxes now.
    pub fn ready(&self) -> usize {
        self.inner.books().stock.ready.len()
    }

    /// The mean time of a creation; zero when none was made yet.
    pub fn create_mean(&self) -> Duration {
        self.inner.books().create_mean()
    }

    /// Drops every ready sandbox and refuses leases from now on.
    pub fn close(&self) {
        let mut books = self.inner.books();
        books.closed = true;
        books.drop_all();
        drop(books);
        self.wake();
    }

    /// Drops every ready sandbox and makes no more, until it may again (its host is drained).
    pub fn pause(&self, paused: bool) {
        let mut books = self.inner.books();
        books.paused = paused;
        if paused {
            books.drop_all();
        }
        drop(books);
        self.wake();
    }

    /// Drops every ready sandbox; the keeper makes new ones (the engine was restarted).
    pub fn flush(&self) {
        self.inner.books().drop_all();
        self.wake();
    }

    /// What came of its sandboxes since its start.
    pub fn stats(&self) -> PoolStats {
        self.inner.books().stats.clone()
    }

    /// How old the oldest ready sandbox is.
    pub fn oldest(&self) -> Option<Duration> {
        self.inner.books().stock.ready.iter().map(|shelved| shelved.sandbox.age()).max()
    }

    /// Ids of the ready sandboxes.
    pub fn ready_ids(&self) -> Vec<(String, Duration)> {
        let books = self.inner.books();
        books.stock.ready.iter().map(|shelved| (shelved.sandbox.id().to_owned(), shelved.sandbox.age())).collect()
    }

    /// Says how many wait for a sandbox of this pool, and how many of those who hold another one do: the ceiling is not for
    /// them.
    pub fn set_demand(&self, demand: usize, referee_demand: usize) {
        let mut books = self.inner.books();
        let more = demand > books.stock.demand || referee_demand > books.stock.referee_demand;
        (books.stock.demand, books.stock.referee_demand) = (demand, referee_demand);
        drop(books);
        if more {
            self.wake();
        }
    }

    /// Holds out a ready sandbox, the oldest.
    pub fn offer(&self) -> Option<Offer> {
        let mut books = self.inner.books();
        let shelved = self.take_ready(&mut books)?;
        books.stock.leased += 1;
        Some(Offer::new(shelved, None, self.inner.clone()))
    }

    /// Whether used sandboxes are kept for their callers.
    pub fn reuses(&self) -> bool {
        self.inner.settings.reuse > 1
    }

    /// Holds out a used sandbox to the caller whose it was.
    pub fn offer_kept(&self, caller: &Caller) -> Option<Offer> {
        let mut books = self.inner.books();
        let at = books.kept.iter().position(|kept| kept.is_for(caller))?;
        let Kept { of, shelved } = books.kept.swap_remove(at);
        books.stock.kept -= 1;
        books.stock.leased += 1;
        Some(Offer::new(shelved, Some(of), self.inner.clone()))
    }

    fn take_ready(&self, books: &mut Books) -> Option<Shelved> {
        while let Some(shelved) = books.stock.ready.pop_front() {
            if !shelved.sandbox.is_lost() {
                return Some(shelved);
            }
            books.stats.retired(RetireReason::Died, 1);
        }
        None
    }

    /// The pool's state.
    pub fn state(&self) -> PoolState {
        let books = self.inner.books();
        let heat: Vec<_> = books.stock.ready.iter().map(|shelved| shelved.sandbox.heat_state()).collect();
        PoolState {
            hot: heat.iter().filter(|heat| heat.is_hot()).count(),
            hot_bytes: heat.iter().filter(|heat| heat.is_hot()).map(|heat| heat.memory_bytes).max(),
            hot_failed: heat.iter().find_map(|heat| heat.failed.clone()),
            profile: self.inner.profile.clone(),
            host: self.inner.host.clone(),
            isolation: books.isolation,
            ready: books.stock.ready.len(),
            creating: books.stock.creating,
            leased: books.stock.leased,
            kept: books.stock.kept,
            reused: books.reused,
            waiting: books.stock.demand + books.stock.referee_demand,
            floor: self.inner.settings.levels.floor,
            level: books.levels(self.inner.settings.levels).floor,
            ceiling: self.inner.settings.levels.ceiling,
            created: books.created,
            failed: books.failed,
            failures: books.failures_by_wait.clone(),
            create_ms: books.create_mean().as_secs_f64() * 1e3,
            broken: books.broken.clone(),
        }
    }
}

impl CreationQueueMember for Inner {
    fn urgency(&self) -> Urgency {
        let books = self.books();
        let ready = books.stock.ready.len();
        Urgency {
            idle: books.stock.demand + books.stock.referee_demand <= ready,
            ready,
            priority: Reverse(self.settings.priority),
        }
    }
}

impl Inner {
    pub(super) fn ring(&self) {
        self.share.capacity_changed.notify_one();
    }

    /// One that was offered was taken.
    pub(super) fn taken(&self, start: StartKind) {
        let mut books = self.books();
        books.demand_rate.taken(Instant::now());
        books.stats.taken(start);
        drop(books);
        self.wake.notify_one();
    }

    /// Takes back what was offered and not taken.
    pub(super) fn put_back(&self, shelved: Shelved, of: Option<KeptFor>) {
        let mut books = self.books();
        books.stock.leased -= 1;
        if books.takes(&shelved) {
            match of {
                None => books.stock.ready.push_front(shelved),
                Some(of) => books.keep(shelved, of),
            }
        }
        drop(books);
        self.wake.notify_one();
    }

    /// Keeps a used one for its caller.
    pub(super) fn keep(&self, mut shelved: Shelved, caller: Caller) {
        // its caller is likely to come at once
        if self.settings.hot > 0 {
            shelved.sandbox.heat();
        }
        let mut books = self.books();
        books.stock.leased -= 1;
        if books.takes(&shelved) {
            books.keep(shelved, KeptFor { caller, since: Instant::now() });
            books.reused += 1;
        }
        drop(books);
        self.ring();
        self.wake.notify_one();
    }

    /// Puts a new sandbox on the shelf.
    fn shelve(self: &Arc<Self>, ticket: Ticket, sandbox: Sandbox, image: Arc<str>, took: Duration) {
        let mut end = sandbox.watch_end();
        let mut books = self.books();
        ticket.spend(&mut books);
        books.created += 1;
        books.create_time += took;
        books.stats.made(took);
        books.failures = 0;
        books.not_before = None;
        books.broken = None;
        books.isolation = Some(sandbox.isolation());
        let shelved = Shelved { sandbox, image, uses: 0 };
        if !books.takes(&shelved) {
            self.wake.notify_one();
            return;
        }
        books.stock.ready.push_back(shelved);
        drop(books);
        self.wake.notify_one();
        self.ring();
        let pool = self.clone();
        tokio::spawn(async move {
            let _ = end.wait_for(|ended| *ended).await;
            pool.wake.notify_one();
        });
    }

    fn failed(&self, error: &MakeError) {
        let mut books = self.books();
        // an image that is not there yet, or a host that is down, is no creation that failed
        if let MakeError::Create(error) = error {
            books.failed += 1;
            *books.failures_by_wait.entry(error.wait()).or_default() += 1;
        }
        books.failures = books.failures.saturating_add(1);
        let doubled = BACKOFF_FIRST.saturating_mul(1 << (books.failures - 1).min(8)).min(BACKOFF_MOST);
        let jitter = doubled.mul_f64(f64::from(uuid::Uuid::new_v4().as_bytes()[0]) / 1024.0);
        books.not_before = Some(Instant::now() + doubled - jitter);
        let reason = error.to_string();
        // a host that is down and an image that is being built speak for themselves
        if matches!(error, MakeError::Create(_)) && books.broken.as_deref() != Some(&reason) {
            tracing::warn!(profile = %self.profile, host = %self.host, error = %reason, "a sandbox could not be made");
        }
        books.broken = Some(reason);
    }
}

/// The ticket: the right to create one sandbox, given back when dropped.
struct Ticket {
    pool: Arc<Inner>,
    spent: bool,
}

impl Ticket {
    /// The sandbox is counted elsewhere from now on.
    fn spend(mut self, books: &mut Books) {
        self.spent = true;
        books.stock.creating -= 1;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.spent {
            self.pool.books().stock.creating -= 1;
        }
        self.pool.wake.notify_one();
    }
}

async fn keep(pool: Arc<Inner>) {
    loop {
        let (tickets, pause) = {
            let mut books = pool.books();
            if books.closed {
                return;
            }
            books.evict_ready(pool.settings.max_age);
            let levels = books.levels(pool.settings.levels);
            books.evict_kept(pool.settings.max_age, levels);
            let held_back = books.not_before.and_then(|at| at.checked_duration_since(Instant::now()));
            let busy = pool.share.running.load(Ordering::Relaxed) > 0;
            // those that are taken first; beside a run only what is sorely missing, as with sandboxes
            let hot = if busy { pool.settings.hot.div_ceil(2) } else { pool.settings.hot };
            books.stock.ready.iter_mut().take(hot).for_each(|shelved| shelved.sandbox.heat());
            let want = match held_back {
                _ if books.paused => 0,
                Some(_) => 0,
                // after a failure one is tried alone
                None if books.failures > 0 => 1.min(books.stock.want(levels, HostLoad { busy })),
                None => books.stock.want(levels, HostLoad { busy }),
            };
            books.stock.creating += want;
            (want, held_back.unwrap_or(Duration::from_secs(2)))
        };
        pool.turns.fetch_add(1, Ordering::Relaxed);
        for _ in 0..tickets {
            let ticket = Ticket { pool: pool.clone(), spent: false };
            tokio::spawn(make_one(ticket));
        }
        let _ = tokio::time::timeout(pause, pool.wake.notified()).await;
    }
}

async fn make_one(ticket: Ticket) {
    let pool = ticket.pool.clone();
    let _pass = pool.share.creating.enter(pool.clone()).await;
    if pool.books().closed {
        return;
    }
    let begun = Instant::now();
    match pool.factory.make().await {
        Ok((sandbox, image)) => pool.shelve(ticket, sandbox, image, begun.elapsed()),
        Err(error) => pool.failed(&error),
    }
}
