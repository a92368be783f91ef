//! Whose sandbox is made next on a host: creations at a time are bounded, and the pools stand in line for them.
//!
//! ```text
//!   enter --> in line --> the first of the most urgent pool goes through --> CreationPermit --drop--> the next
//! ```
//!
//! A pool for which somebody waits comes first; then the one that holds least of its floor, so that after a start every
//! profile has one sandbox before any has two; then the profile's priority; then whoever stood there first. Urgency is
//! asked when a pass is given, not when a creation begins to wait for one.

use std::cmp::Reverse;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// How urgent a creation is; the least is the most urgent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Urgency {
    /// Whether nobody waits for it.
    pub idle: bool,
    /// Ready sandboxes of its pool.
    pub ready: usize,
    /// The profile's priority.
    pub priority: Reverse<i32>,
}

/// Who stands at a gate.
pub trait CreationQueueMember: Send + Sync {
    /// How urgent it is now. Called with the gate locked: it must not call the gate.
    fn urgency(&self) -> Urgency;
}

struct Waiter {
    who: Arc<dyn CreationQueueMember>,
    go: oneshot::Sender<CreationPermit>,
}

struct Books {
    free: usize,
    /// In the order in which they came.
    waiting: Vec<Waiter>,
}

/// A host's gate. Cloning shares it.
#[derive(Clone)]
pub struct CreationLimiter(Arc<Mutex<Books>>);

impl std::fmt::Debug for CreationLimiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let books = self.books();
        f.debug_struct("CreationLimiter").field("free", &books.free).field("waiting", &books.waiting.len()).finish()
    }
}

/// The right to make one sandbox now; dropped, it is the next one's.
#[derive(Debug)]
pub struct CreationPermit(Option<CreationLimiter>);

impl CreationLimiter {
    /// A gate for so many at a time.
    pub fn new(most: usize) -> CreationLimiter {
        CreationLimiter(Arc::new(Mutex::new(Books { free: most.max(1), waiting: Vec::new() })))
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a pass. Dropping the future leaves the line.
    pub async fn enter(&self, who: Arc<dyn CreationQueueMember>) -> CreationPermit {
        let (go, pass) = oneshot::channel();
        self.books().waiting.push(Waiter { who, go });
        self.serve();
        match pass.await {
            Ok(pass) => pass,
            // the sender lives in the books, which we hold
            Err(_) => std::future::pending().await,
        }
    }

    fn serve(&self) {
        loop {
            let mut books = self.books();
            books.waiting.retain(|waiter| !waiter.go.is_closed());
            if books.free == 0 {
                return;
            }
            let urgent = |at: &usize| (books.waiting[*at].who.urgency(), *at);
            let Some(at) = (0..books.waiting.len()).min_by_key(urgent) else { return };
            let waiter = books.waiting.remove(at);
            books.free -= 1;
            drop(books);
            // who has gone at this very moment gives it back by not taking it
            if let Err(mut pass) = waiter.go.send(CreationPermit(Some(self.clone()))) {
                pass.0 = None;
                self.books().free += 1;
            }
        }
    }
}

impl Drop for CreationPermit {
    fn drop(&mut self) {
        if let Some(gate) = self.0.take() {
            gate.books().free += 1;
            gate.serve();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    struct One {
        idle: bool,
        ready: AtomicUsize,
        priority: i32,
    }

    impl CreationQueueMember for One {
        fn urgency(&self) -> Urgency {
            let ready = self.ready.load(Ordering::Relaxed);
            Urgency { idle: self.idle, ready, priority: Reverse(self.priority) }
        }
    }

    fn one(idle: bool, ready: usize, priority: i32) -> Arc<One> {
        Arc::new(One { idle, ready: ready.into(), priority })
    }

    /// The order in which these go through a gate for one, when all stand there before it opens. Each has one more ready
    /// once it went through.
    async fn order(all: Vec<Arc<One>>) -> Vec<usize> {
        let gate = CreationLimiter::new(1);
        let shut = gate.enter(one(true, 0, 0)).await;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let tasks: Vec<_> = all
            .into_iter()
            .enumerate()
            .map(|(at, who)| {
                let (gate, seen) = (gate.clone(), seen.clone());
                tokio::spawn(async move {
                    let pass = gate.enter(who.clone()).await;
                    seen.lock().unwrap().push(at);
                    who.ready.fetch_add(1, Ordering::Relaxed);
                    drop(pass);
                })
            })
            .collect();
        tokio::task::yield_now().await;
        drop(shut);
        for task in tasks {
            task.await.unwrap();
        }
        Arc::into_inner(seen).unwrap().into_inner().unwrap()
    }

    #[tokio::test]
    async fn every_pool_has_one_before_any_has_two_and_the_preferred_profile_is_first() {
        let (a, b) = (one(true, 0, 0), one(true, 0, 5));
        assert_eq!(order(vec![a.clone(), a.clone(), a, b.clone(), b]).await, [3, 0, 4, 1, 2]);
    }

    #[tokio::test]
    async fn a_pool_for_which_somebody_waits_comes_before_all_others() {
        assert_eq!(order(vec![one(true, 0, 9), one(false, 7, 0), one(true, 0, 0)]).await, [1, 0, 2]);
    }

    #[tokio::test]
    async fn who_leaves_the_line_takes_no_pass_along() {
        let gate = CreationLimiter::new(1);
        let pass = gate.enter(one(true, 0, 0)).await;
        let mut gone = Box::pin(gate.enter(one(true, 0, 0)));
        assert!(futures_util::poll!(&mut gone).is_pending());
        drop(gone);
        drop(pass);
        let _pass = gate.enter(one(true, 0, 0)).await;
        assert_eq!(gate.books().free, 0);
    }
}
