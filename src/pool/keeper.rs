//! Keeps a pool at its level: makes sandboxes when the books want them, drops those that died or grew old.
//!
//! The keeper is one task, woken by events: a lease taken or ended, a caller that waits, a creation that ended, a
//! ready sandbox that died, a run that ended on the host. A failure sets the pool back with exponential backoff and
//! jitter; the reason stands in the snapshot until a creation succeeds again.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::{Notify, Semaphore, oneshot};

use super::lease::{Lease, LeaseError, Seat};
use super::stock::{Levels, Stock, Weather};
use crate::model::StartKind;
use crate::sandbox::{CreateError, Sandbox};

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

/// The state of a pool, for `pool.list`.
#[derive(Debug, Clone, Serialize)]
pub struct PoolState {
    /// The profile.
    pub profile: String,
    /// The host.
    pub host: String,
    /// Ready ones.
    pub ready: usize,
    /// Being made.
    pub creating: usize,
    /// In use.
    pub leased: usize,
    /// Callers waiting.
    pub waiting: usize,
    /// The floor.
    pub floor: usize,
    /// The ceiling.
    pub ceiling: usize,
    /// Made since the start.
    pub created: usize,
    /// Creations that failed since the start.
    pub failed: usize,
    /// The mean time of a creation, in milliseconds.
    pub create_ms: f64,
    /// Why none can be made at the moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
}

/// A ready sandbox in the books.
#[derive(Debug)]
pub(super) struct Shelved {
    sandbox: Sandbox,
    image: Arc<str>,
}

/// A caller that waits.
#[derive(Debug)]
pub(super) struct Waiter {
    reply: oneshot::Sender<Lease>,
}

#[derive(Debug, Default)]
pub(super) struct Books {
    pub(super) stock: Stock<Shelved, Waiter>,
    failures: u32,
    not_before: Option<Instant>,
    broken: Option<String>,
    created: usize,
    failed: usize,
    create_time: Duration,
    closed: bool,
}

/// What all pools of a host share.
#[derive(Debug, Clone)]
pub struct HostShare {
    /// Creations at a time on this host.
    pub creating: Arc<Semaphore>,
    /// Runs under way on this host.
    pub running: Arc<AtomicUsize>,
}

#[derive(Debug)]
pub(super) struct Inner {
    profile: String,
    host: String,
    levels: Levels,
    max_age: Duration,
    share: HostShare,
    factory: Box<dyn Factory>,
    books: Mutex<Books>,
    pub(super) wake: Notify,
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
        levels: Levels,
        max_age: Duration,
        share: HostShare,
        factory: Box<dyn Factory>,
    ) -> Pool {
        let inner = Arc::new(Inner {
            profile: profile.to_owned(),
            host: host.to_owned(),
            levels,
            max_age,
            share,
            factory,
            books: Mutex::default(),
            wake: Notify::new(),
        });
        tokio::spawn(keep(inner.clone()));
        Pool { inner }
    }

    /// The profile's name.
    pub fn profile(&self) -> &str {
        &self.inner.profile
    }

    /// Wakes the keeper: something changed that it should look at.
    pub fn wake(&self) {
        self.inner.wake.notify_one();
    }

    /// Forgets past failures, so that the next creation is tried at once (the engine is back, an image was built).
    pub fn encourage(&self) {
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

    /// Drops every ready sandbox and refuses leases from now on.
    pub fn close(&self) {
        let mut books = self.inner.books();
        books.closed = true;
        books.stock.ready.clear();
        books.stock.waiting.clear();
        drop(books);
        self.wake();
    }

    /// Drops every ready sandbox; the keeper makes new ones (the engine was restarted).
    pub fn flush(&self) {
        self.inner.books().stock.ready.clear();
        self.wake();
    }

    /// Ids of the ready sandboxes.
    pub fn ready_ids(&self) -> Vec<(String, Duration)> {
        let books = self.inner.books();
        books.stock.ready.iter().map(|shelved| (shelved.sandbox.id().to_owned(), shelved.sandbox.age())).collect()
    }

    /// A sandbox: a ready one at once, else the next that becomes ready.
    ///
    /// Dropping the future gives up the place in the line; a sandbox that was on its way goes to the next caller.
    ///
    /// # Errors
    /// None in time, or the pool is closed.
    pub async fn lease(&self, patience: Duration) -> Result<Lease, LeaseError> {
        let waiting = {
            let mut books = self.inner.books();
            if books.closed {
                return Err(LeaseError::Closed);
            }
            match self.take_ready(&mut books) {
                Some(shelved) => {
                    books.stock.leased += 1;
                    drop(books);
                    return Ok(self.inner.seat(shelved, StartKind::Warm));
                }
                None => {
                    let (reply, waiting) = oneshot::channel();
                    books.stock.waiting.push_back(Waiter { reply });
                    waiting
                }
            }
        };
        self.wake();
        match tokio::time::timeout(patience, waiting).await {
            Ok(Ok(lease)) => Ok(lease),
            Ok(Err(_)) => Err(LeaseError::Closed),
            Err(_) => Err(LeaseError::TimedOut(self.inner.books().broken.clone())),
        }
    }

    fn take_ready(&self, books: &mut Books) -> Option<Shelved> {
        while let Some(shelved) = books.stock.ready.pop_front() {
            if !shelved.sandbox.is_lost() {
                return Some(shelved);
            }
        }
        None
    }

    /// The pool's state.
    pub fn state(&self) -> PoolState {
        let books = self.inner.books();
        PoolState {
            profile: self.inner.profile.clone(),
            host: self.inner.host.clone(),
            ready: books.stock.ready.len(),
            creating: books.stock.creating,
            leased: books.stock.leased,
            waiting: books.stock.waiting.iter().filter(|waiter| !waiter.reply.is_closed()).count(),
            floor: self.inner.levels.floor,
            ceiling: self.inner.levels.ceiling,
            created: books.created,
            failed: books.failed,
            create_ms: if books.created == 0 {
                0.0
            } else {
                books.create_time.as_secs_f64() * 1e3 / books.created as f64
            },
            broken: books.broken.clone(),
        }
    }
}

impl Inner {
    fn seat(self: &Arc<Self>, shelved: Shelved, start: StartKind) -> Lease {
        Lease { sandbox: shelved.sandbox, start, image: shelved.image, _seat: Seat { pool: self.clone() } }
    }

    /// Gives a new sandbox to the first caller that still waits, else puts it on the shelf.
    fn shelve(self: &Arc<Self>, sandbox: Sandbox, image: Arc<str>, took: Duration) {
        let mut end = sandbox.watch_end();
        let mut books = self.books();
        books.created += 1;
        books.create_time += took;
        books.failures = 0;
        books.not_before = None;
        books.broken = None;
        if books.closed {
            return;
        }
        let mut shelved = Shelved { sandbox, image };
        while let Some(waiter) = books.stock.waiting.pop_front() {
            books.stock.leased += 1;
            // the lock is released for the hand-over: a refused lease gives its seat back under the same lock
            drop(books);
            match waiter.reply.send(self.seat(shelved, StartKind::Cold)) {
                Ok(()) => return,
                Err(lease) => {
                    let Lease { sandbox, image, .. } = lease;
                    shelved = Shelved { sandbox, image };
                }
            }
            books = self.books();
        }
        books.stock.ready.push_back(shelved);
        drop(books);
        let pool = self.clone();
        tokio::spawn(async move {
            let _ = end.wait_for(|ended| *ended).await;
            pool.wake.notify_one();
        });
    }

    fn failed(&self, error: &MakeError) {
        let mut books = self.books();
        books.failed += 1;
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
struct Ticket(Arc<Inner>);

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.books().stock.creating -= 1;
        self.0.wake.notify_one();
    }
}

async fn keep(pool: Arc<Inner>) {
    loop {
        let (tickets, pause) = {
            let mut books = pool.books();
            if books.closed {
                return;
            }
            books.stock.ready.retain(|shelved| !shelved.sandbox.is_lost() && shelved.sandbox.age() < pool.max_age);
            books.stock.waiting.retain(|waiter| !waiter.reply.is_closed());
            let held_back = books.not_before.and_then(|at| at.checked_duration_since(Instant::now()));
            let busy = pool.share.running.load(Ordering::Relaxed) > 0;
            let want = match held_back {
                Some(_) => 0,
                // after a failure one is tried alone
                None if books.failures > 0 => 1.min(books.stock.want(pool.levels, Weather { busy })),
                None => books.stock.want(pool.levels, Weather { busy }),
            };
            books.stock.creating += want;
            (want, held_back.unwrap_or(Duration::from_secs(2)))
        };
        for _ in 0..tickets {
            let ticket = Ticket(pool.clone());
            tokio::spawn(make_one(ticket));
        }
        let _ = tokio::time::timeout(pause, pool.wake.notified()).await;
    }
}

async fn make_one(ticket: Ticket) {
    let pool = ticket.0.clone();
    let Ok(_permit) = pool.share.creating.acquire().await else { return };
    if pool.books().closed {
        return;
    }
    let begun = Instant::now();
    match pool.factory.make().await {
        Ok((sandbox, image)) => pool.shelve(sandbox, image, begun.elapsed()),
        Err(error) => pool.failed(&error),
    }
}
