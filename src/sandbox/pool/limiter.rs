//! Bounds the creations in progress on a host, and decides which pool creates next.
//!
//! ```text
//!   acquire --> queue --> the most urgent creation --> CreationPermit --drop--> the next one
//! ```
//!
//! A pool with waiting submissions comes first. Then the pool with the fewest ready sandboxes, so
//! that after a start every profile has one before any has two; then the profile's priority; then
//! the order of arrival. Urgency is evaluated when a permit is granted, not when a creation is
//! queued.

use std::cmp::Reverse;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// The urgency of a creation; the smallest value is the most urgent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Urgency {
    /// True when no submission waits for the sandbox.
    pub idle: bool,
    /// The pool's ready sandboxes.
    pub ready: usize,
    /// The profile's priority; a higher one is more urgent.
    pub priority: Reverse<i32>,
}

/// A pool that asks for permits.
pub trait PermitSeeker: Send + Sync {
    /// The current urgency. Called with the limiter locked: it must not call the limiter.
    fn urgency(&self) -> Urgency;
}

struct QueuedCreation {
    seeker: Arc<dyn PermitSeeker>,
    reply: oneshot::Sender<CreationPermit>,
}

struct PermitQueue {
    free: usize,
    /// In order of arrival.
    waiting: Vec<QueuedCreation>,
}

/// The limiter of a host. Clones share it.
#[derive(Clone)]
pub struct CreationLimiter(Arc<Mutex<PermitQueue>>);

impl std::fmt::Debug for CreationLimiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let queue = self.0.lock();
        f.debug_struct("CreationLimiter").field("free", &queue.free).field("waiting", &queue.waiting.len()).finish()
    }
}

/// The right to create one sandbox now. Dropping it grants a permit to the next creation.
#[derive(Debug)]
pub struct CreationPermit(Option<CreationLimiter>);

impl CreationLimiter {
    /// A limiter that allows `max` creations at a time, at least one.
    pub fn new(max: usize) -> CreationLimiter {
        CreationLimiter(Arc::new(Mutex::new(PermitQueue { free: max.max(1), waiting: Vec::new() })))
    }

    /// Waits for a permit. Dropping the future leaves the queue.
    pub async fn acquire(&self, seeker: Arc<dyn PermitSeeker>) -> CreationPermit {
        let (reply, permit) = oneshot::channel();
        self.0.lock().waiting.push(QueuedCreation { seeker, reply });
        self.grant();
        match permit.await {
            Ok(permit) => permit,
            // unreachable: the sender is in the queue, which `self` keeps alive
            Err(_) => std::future::pending().await,
        }
    }

    fn grant(&self) {
        loop {
            let mut queue = self.0.lock();
            queue.waiting.retain(|waiting| !waiting.reply.is_closed());
            if queue.free == 0 {
                return;
            }
            let key = |index: &usize| (queue.waiting[*index].seeker.urgency(), *index);
            let Some(index) = (0..queue.waiting.len()).min_by_key(key) else { return };
            let next = queue.waiting.remove(index);
            queue.free -= 1;
            drop(queue);
            // the receiver was dropped just now: take the permit back without recursion through
            // Drop
            if let Err(mut permit) = next.reply.send(CreationPermit(Some(self.clone()))) {
                permit.0 = None;
                self.0.lock().free += 1;
            }
        }
    }
}

impl Drop for CreationPermit {
    fn drop(&mut self) {
        if let Some(limiter) = self.0.take() {
            limiter.0.lock().free += 1;
            limiter.grant();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    struct FakePool {
        idle: bool,
        ready: AtomicUsize,
        priority: i32,
    }

    impl PermitSeeker for FakePool {
        fn urgency(&self) -> Urgency {
            let ready = self.ready.load(Ordering::Relaxed);
            Urgency { idle: self.idle, ready, priority: Reverse(self.priority) }
        }
    }

    fn pool(idle: bool, ready: usize, priority: i32) -> Arc<FakePool> {
        Arc::new(FakePool { idle, ready: ready.into(), priority })
    }

    /// The order in which a limiter of one grants permits to these pools, when all are queued
    /// before the first is granted. Each permit adds a ready sandbox to its pool.
    async fn order(pools: Vec<Arc<FakePool>>) -> Vec<usize> {
        let limiter = CreationLimiter::new(1);
        let held = limiter.acquire(pool(true, 0, 0)).await;
        let granted = Arc::new(Mutex::new(Vec::new()));
        let tasks: Vec<_> = pools
            .into_iter()
            .enumerate()
            .map(|(index, pool)| {
                let (limiter, granted) = (limiter.clone(), granted.clone());
                tokio::spawn(async move {
                    let permit = limiter.acquire(pool.clone()).await;
                    granted.lock().push(index);
                    pool.ready.fetch_add(1, Ordering::Relaxed);
                    drop(permit);
                })
            })
            .collect();
        tokio::task::yield_now().await;
        drop(held);
        for task in tasks {
            task.await.unwrap();
        }
        Arc::into_inner(granted).unwrap().into_inner()
    }

    #[tokio::test]
    async fn every_pool_gets_one_before_any_gets_two_and_higher_priority_goes_first() {
        let (a, b) = (pool(true, 0, 0), pool(true, 0, 5));
        assert_eq!(order(vec![a.clone(), a.clone(), a, b.clone(), b]).await, [3, 0, 4, 1, 2]);
    }

    #[tokio::test]
    async fn a_pool_with_waiting_submissions_comes_before_all_others() {
        assert_eq!(order(vec![pool(true, 0, 9), pool(false, 7, 0), pool(true, 0, 0)]).await, [1, 0, 2]);
    }

    #[tokio::test]
    async fn a_dropped_acquire_takes_no_permit() {
        let limiter = CreationLimiter::new(1);
        let permit = limiter.acquire(pool(true, 0, 0)).await;
        let mut dropped = Box::pin(limiter.acquire(pool(true, 0, 0)));
        assert!(futures_util::poll!(&mut dropped).is_pending());
        drop(dropped);
        drop(permit);
        let _permit = limiter.acquire(pool(true, 0, 0)).await;
        assert_eq!(limiter.0.lock().free, 0);
    }
}
