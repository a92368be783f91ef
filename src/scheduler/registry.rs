//! Which submissions there are: by id, per uid and tenant. Bounded in number and time.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use config::bounds;
use judge::events::EventLog;
use judge::pipe::Pipe;
use protocol::Caller;
use protocol::Report;

/// Where a submission is.
#[derive(Debug, Clone)]
pub enum State {
    /// Waiting for a sandbox.
    Queued,
    /// On one.
    Running,
    /// Answered.
    Done(Arc<Report>),
    /// Not started, or not done, when the daemon ended: kept in the state folder for the next one.
    Kept,
}

/// The daemon ends, and the submission is kept for the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IsKept;

impl State {
    /// The word of the protocol.
    pub fn as_str(&self) -> &'static str {
        match self {
            State::Queued | State::Kept => "queued",
            State::Running => "running",
            State::Done(_) => "done",
        }
    }
}

/// What a submission says, and what it is told, while it runs.
#[derive(Debug)]
pub struct Ends {
    /// What happens to it.
    pub log: Arc<EventLog>,
    /// Where its input comes from, when it was left open.
    pub input: Option<Arc<Pipe>>,
}

impl Ends {
    /// Nothing more happens, and nobody shall wait to feed it, also when it never ran.
    pub(super) fn close(&self) {
        self.log.end();
        self.input.iter().for_each(|pipe| pipe.leave());
    }
}

/// One submission.
#[derive(Debug)]
pub struct Entry {
    /// Its id.
    pub id: String,
    /// Whose.
    pub caller: Caller,
    pub(super) digest: [u8; 32],
    /// Whether it goes on without a caller who waits for it.
    pub(super) outlives_caller: bool,
    /// What it says and what it is told.
    pub ends: Ends,
    state: watch::Sender<State>,
    cancel: watch::Sender<bool>,
    /// Whether the drain's end withdrew it, and it can be run again.
    is_interrupted: AtomicBool,
    /// Whether it is among the answered ones that are kept.
    is_counted: AtomicBool,
    /// When it was answered.
    done_at: OnceLock<Instant>,
}

impl Entry {
    pub(super) fn new(id: String, caller: Caller, digest: [u8; 32], outlives_caller: bool, ends: Ends) -> Entry {
        Entry {
            id,
            caller,
            digest,
            outlives_caller,
            ends,
            state: watch::Sender::new(State::Queued),
            cancel: watch::Sender::new(false),
            is_interrupted: AtomicBool::new(false),
            is_counted: AtomicBool::new(false),
            done_at: OnceLock::new(),
        }
    }

    /// Where it is.
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// Withdraws it. Idempotent; one that is answered stays answered.
    pub fn cancel(&self) {
        self.cancel.send_replace(true);
    }

    /// Withdraws it because the daemon ends: one that outlives its caller, and was fed nothing meanwhile, can be run again.
    pub(super) fn interrupt(&self) {
        if !*self.cancel.borrow() && self.outlives_caller && self.ends.input.is_none() {
            self.is_interrupted.store(true, Ordering::Relaxed);
        }
        self.cancel();
    }

    /// Whether the daemon's end withdrew it, and nobody else did before.
    pub(super) fn was_interrupted(&self) -> bool {
        self.is_interrupted.load(Ordering::Relaxed)
    }

    pub(super) fn cancelled(&self) -> watch::Receiver<bool> {
        self.cancel.subscribe()
    }

    /// When it was answered.
    pub fn done_at(&self) -> Option<Instant> {
        self.done_at.get().copied()
    }

    pub(super) fn set(&self, state: State) {
        if matches!(state, State::Done(_)) {
            let _ = self.done_at.set(Instant::now());
        }
        self.state.send_replace(state);
    }

    /// Its report, when it has one; waits as long as it takes. Cancel-safe.
    ///
    /// # Errors
    /// There will be none from this daemon.
    pub async fn report(&self) -> Result<Arc<Report>, IsKept> {
        let mut states = self.state.subscribe();
        loop {
            match &*states.borrow_and_update() {
                State::Done(report) => return Ok(report.clone()),
                State::Kept => return Err(IsKept),
                State::Queued | State::Running => {}
            }
            if states.changed().await.is_err() {
                // the sender is self: this cannot happen while self is borrowed
                std::future::pending::<()>().await;
            }
        }
    }
}

/// What an id leads to.
pub(super) enum Claim {
    /// It is new: go on.
    New,
    /// It is known, with this content.
    Known(Arc<Entry>),
    /// It is known, with other content.
    Conflict,
}

#[derive(Debug, Default)]
struct Books {
    /// By id; one id may stand for a submission each of several callers.
    entries: HashMap<String, Vec<Arc<Entry>>>,
    /// Those that are answered, in that order; forgotten ones are gone when their turn comes.
    finished: VecDeque<(Instant, Weak<Entry>)>,
    /// How many of those are still kept.
    kept: usize,
}

/// All submissions that can be asked for.
#[derive(Debug, Default)]
pub(super) struct Registry {
    books: Mutex<Books>,
}

impl Books {
    fn under(&self, id: &str) -> &[Arc<Entry>] {
        self.entries.get(id).map(Vec::as_slice).unwrap_or_default()
    }

    fn remove(&mut self, entry: &Arc<Entry>) {
        let Some(under) = self.entries.get_mut(&entry.id) else { return };
        // the same id may stand for a newer one by now
        let Some(at) = under.iter().position(|known| Arc::ptr_eq(known, entry)) else { return };
        under.swap_remove(at);
        if under.is_empty() {
            self.entries.remove(&entry.id);
        }
        self.kept -= usize::from(entry.is_counted.load(Ordering::Relaxed));
    }
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn claim(&self, caller: &Caller, id: &str, digest: &[u8; 32]) -> Claim {
        match self.lock().under(id).iter().find(|entry| entry.caller == *caller) {
            None => Claim::New,
            Some(entry) if entry.digest == *digest => Claim::Known(entry.clone()),
            Some(_) => Claim::Conflict,
        }
    }

    /// Adds one.
    pub(super) fn add(&self, entry: Arc<Entry>) {
        self.lock().entries.entry(entry.id.clone()).or_default().push(entry);
    }

    /// One was answered `age` ago. Drops the answered ones that are too old or too many, oldest first.
    pub(super) fn finished(&self, entry: &Arc<Entry>, age: Duration) {
        let now = Instant::now();
        let mut books = self.lock();
        entry.is_counted.store(true, Ordering::Relaxed);
        books.kept += 1;
        books.finished.push_back((now.checked_sub(age).unwrap_or(now), Arc::downgrade(entry)));
        while let Some((at, oldest)) = books.finished.front() {
            let oldest = oldest.upgrade();
            let stays = books.kept <= bounds::MAX_KEPT_REPORTS && now.duration_since(*at) <= bounds::REPORT_TTL;
            if stays && oldest.is_some() {
                return;
            }
            books.finished.pop_front();
            if let Some(oldest) = oldest {
                books.remove(&oldest);
            }
        }
    }

    /// Those that are answered, newest first, each with how long ago that was.
    pub(super) fn answered(&self) -> Vec<(Arc<Entry>, Duration)> {
        let books = self.lock();
        let kept = |entry: &Arc<Entry>| books.under(&entry.id).iter().any(|known| Arc::ptr_eq(known, entry));
        let all = books.finished.iter().rev().filter_map(|(at, entry)| Some((entry.upgrade()?, at.elapsed())));
        all.filter(|(entry, _)| kept(entry)).collect()
    }

    /// One that answers to this uid: by any tenant, since the id was told to its owner only. Admins see all.
    pub(super) fn find(&self, uid: u32, admin: bool, id: &str) -> Option<Arc<Entry>> {
        self.lock().under(id).iter().find(|entry| admin || entry.caller.uid == uid).cloned()
    }

    pub(super) fn remove(&self, entry: &Arc<Entry>) {
        self.lock().remove(entry);
    }

    pub(super) fn list(&self, uid: u32, admin: bool) -> Vec<Arc<Entry>> {
        self.lock().entries.values().flatten().filter(|entry| admin || entry.caller.uid == uid).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: usize) -> Arc<Entry> {
        let ends = Ends { log: EventLog::new(false), input: None };
        Arc::new(Entry::new(id.to_string(), Caller { uid: 1, tenant: String::new() }, [0; 32], false, ends))
    }

    #[test]
    fn answered_ones_are_kept_up_to_their_bound_and_waiting_ones_always() {
        let registry = Registry::default();
        registry.add(entry(0));
        for id in 1..=bounds::MAX_KEPT_REPORTS + 10 {
            let entry = entry(id);
            registry.add(entry.clone());
            registry.finished(&entry, Duration::ZERO);
        }
        assert_eq!(registry.list(1, false).len(), bounds::MAX_KEPT_REPORTS + 1);
        assert!(registry.find(1, false, "0").is_some() && registry.find(1, false, "10").is_none());
        assert!(registry.find(1, false, "11").is_some());
    }

    #[test]
    fn forgotten_ones_take_no_place() {
        let registry = Registry::default();
        let kept = entry(0);
        registry.add(kept.clone());
        registry.finished(&kept, Duration::ZERO);
        for id in 1..=bounds::MAX_KEPT_REPORTS * 2 {
            let entry = entry(id);
            registry.add(entry.clone());
            registry.finished(&entry, Duration::ZERO);
            registry.remove(&entry);
        }
        assert!(registry.find(1, false, "0").is_some());
        let books = registry.lock();
        assert_eq!((books.entries.len(), books.kept), (1, 1));
    }
}
