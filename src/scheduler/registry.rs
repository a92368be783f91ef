//! Which submissions there are: by id, per uid and tenant. Bounded in number and time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::watch;

use crate::config::bounds;
use crate::model::Report;
use crate::model::work::Caller;

/// Where a submission is.
#[derive(Debug, Clone)]
pub enum State {
    /// Waiting for a sandbox.
    Queued,
    /// On one.
    Running,
    /// Answered.
    Done(Arc<Report>),
}

impl State {
    /// The word of the protocol.
    pub fn as_str(&self) -> &'static str {
        match self {
            State::Queued => "queued",
            State::Running => "running",
            State::Done(_) => "done",
        }
    }
}

/// One submission.
#[derive(Debug)]
pub struct Entry {
    /// Its id.
    pub id: String,
    /// Whose.
    pub caller: Caller,
    digest: [u8; 32],
    state: watch::Sender<State>,
    cancel: watch::Sender<bool>,
    finished: Mutex<Option<Instant>>,
}

impl Entry {
    pub(super) fn new(id: String, caller: Caller, digest: [u8; 32]) -> Entry {
        Entry {
            id,
            caller,
            digest,
            state: watch::Sender::new(State::Queued),
            cancel: watch::Sender::new(false),
            finished: Mutex::new(None),
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

    pub(super) fn cancelled(&self) -> watch::Receiver<bool> {
        self.cancel.subscribe()
    }

    pub(super) fn set(&self, state: State) {
        if matches!(state, State::Done(_)) {
            *self.finished.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
        self.state.send_replace(state);
    }

    /// Its report, when it has one; waits as long as it takes. Cancel-safe.
    pub async fn report(&self) -> Arc<Report> {
        let mut states = self.state.subscribe();
        loop {
            if let State::Done(report) = &*states.borrow_and_update() {
                return report.clone();
            }
            if states.changed().await.is_err() {
                // the sender is self: this cannot happen while self is borrowed
                std::future::pending::<()>().await;
            }
        }
    }

    fn finished(&self) -> Option<Instant> {
        *self.finished.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Key = (u32, String, String);

fn key(caller: &Caller, id: &str) -> Key {
    (caller.uid, caller.tenant.clone(), id.to_owned())
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

/// All submissions that can be asked for.
#[derive(Debug, Default)]
pub(super) struct Registry {
    entries: Mutex<HashMap<Key, Arc<Entry>>>,
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Arc<Entry>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn claim(&self, caller: &Caller, id: &str, digest: &[u8; 32]) -> Claim {
        match self.lock().get(&key(caller, id)) {
            None => Claim::New,
            Some(entry) if entry.digest == *digest => Claim::Known(entry.clone()),
            Some(_) => Claim::Conflict,
        }
    }

    /// Adds one; drops finished ones that are too old or too many, oldest first.
    pub(super) fn add(&self, entry: Arc<Entry>) {
        let mut entries = self.lock();
        entries.insert(key(&entry.caller, &entry.id), entry);
        if entries.len().is_multiple_of(64) || entries.len() > bounds::MAX_KEPT_REPORTS {
            let fresh = |entry: &Entry| entry.finished().is_none_or(|at| at.elapsed() < bounds::REPORT_TTL);
            entries.retain(|_, entry| fresh(entry));
            let mut finished: Vec<(Instant, Key)> =
                entries.iter().filter_map(|(key, entry)| Some((entry.finished()?, key.clone()))).collect();
            finished.sort();
            let surplus = finished.len().saturating_sub(bounds::MAX_KEPT_REPORTS);
            for (_, key) in finished.into_iter().take(surplus) {
                entries.remove(&key);
            }
        }
    }

    /// One that answers to this uid: by any tenant, since the id was told to its owner only. Admins see all.
    pub(super) fn find(&self, uid: u32, admin: bool, id: &str) -> Option<Arc<Entry>> {
        self.lock().values().find(|entry| entry.id == id && (admin || entry.caller.uid == uid)).cloned()
    }

    pub(super) fn remove(&self, entry: &Entry) {
        self.lock().remove(&key(&entry.caller, &entry.id));
    }

    pub(super) fn list(&self, uid: u32, admin: bool) -> Vec<Arc<Entry>> {
        self.lock().values().filter(|entry| admin || entry.caller.uid == uid).cloned().collect()
    }
}
