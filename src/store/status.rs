//! What the store says of itself, and the settings that may change while it runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::error::Error;
use crate::set_aside::SetAside;
use crate::settings::Retention;

/// What the store says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// Bytes of the database in use, and of the outputs.
    pub bytes: u64,
    /// Changes that wait for the writer.
    pub waiting: usize,
    /// History that found no room in the queue.
    pub dropped: u64,
    /// Submissions without a report.
    pub unfinished: u64,
    /// When the oldest of them arrived, in milliseconds since 1970.
    pub oldest_unfinished_ms: Option<i64>,
    /// Reports that a caller is still to fetch.
    pub outbox: u64,
    /// Callbacks that are still to be delivered.
    pub callbacks: u64,
    /// The same for each principal that has any.
    pub callbacks_by_principal: Vec<(String, u64)>,
    /// When the report of the oldest of them was stored, in milliseconds since 1970.
    pub oldest_callback_ms: Option<i64>,
    /// Reports in history.
    pub history: u64,
    /// Groups that were committed.
    pub commits: u64,
    /// Changes in them.
    pub changes: u64,
    /// How long the last commit took.
    pub last_commit: Duration,
    /// How long all commits took together.
    pub commit_time: Duration,
    /// New submissions are refused: only the reserve of the disk is free.
    pub is_full: bool,
    /// Why the last change failed, if it did.
    pub fault: Option<String>,
    /// The file that was damaged, if one was.
    pub set_aside: Option<SetAside>,
}

/// Shared by callers, readers and the writer.
#[derive(Debug, Default)]
pub(crate) struct Status {
    retention: Mutex<Retention>,
    commits: AtomicU64,
    changes: AtomicU64,
    last_commit_micros: AtomicU64,
    commit_micros: AtomicU64,
    /// Reports in history, counted when the file is opened and with each commit.
    history: AtomicI64,
    is_full: AtomicBool,
    fault: Mutex<Option<String>>,
    set_aside: Mutex<Option<SetAside>>,
    /// Damage that a reader found.
    damage: Mutex<Option<Arc<rusqlite::Error>>>,
}

impl Status {
    pub(crate) fn retention(&self) -> Retention {
        self.retention.lock().clone()
    }

    pub(crate) fn set_retention(&self, retention: Retention) {
        *self.retention.lock() = retention;
    }

    pub(crate) fn committed(&self, changes: usize, took: Duration) {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.changes.fetch_add(changes as u64, Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.last_commit_micros.store(micros, Ordering::Relaxed);
        self.commit_micros.fetch_add(micros, Ordering::Relaxed);
    }

    pub(crate) fn set_history(&self, count: i64) {
        self.history.store(count, Ordering::Relaxed);
    }

    /// Reports that a commit added, or removed if it is negative.
    pub(crate) fn count_history(&self, more: i64) {
        self.history.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn set_full(&self, is_full: bool) {
        self.is_full.store(is_full, Ordering::Relaxed);
    }

    pub(crate) fn set_fault(&self, error: Option<&Error>) {
        *self.fault.lock() = error.map(ToString::to_string);
    }

    pub(crate) fn set_aside(&self, aside: SetAside) {
        *self.set_aside.lock() = Some(aside);
    }

    pub(crate) fn suspect(&self, error: Arc<rusqlite::Error>) {
        *self.damage.lock() = Some(error);
    }

    pub(crate) fn take_damage(&self) -> Option<Arc<rusqlite::Error>> {
        self.damage.lock().take()
    }

    /// What needs no read of the file.
    pub(crate) fn figures(&self) -> Figures {
        Figures {
            commits: self.commits.load(Ordering::Relaxed),
            changes: self.changes.load(Ordering::Relaxed),
            last_commit: Duration::from_micros(self.last_commit_micros.load(Ordering::Relaxed)),
            commit_time: Duration::from_micros(self.commit_micros.load(Ordering::Relaxed)),
            history: self.history.load(Ordering::Relaxed).max(0).unsigned_abs(),
            is_full: self.is_full.load(Ordering::Relaxed),
            fault: self.fault.lock().clone(),
            set_aside: self.set_aside.lock().clone(),
            ..Figures::default()
        }
    }
}
