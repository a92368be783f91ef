//! The right to use one sandbox.

use std::sync::Arc;

use super::keeper::Inner;
use crate::model::StartKind;
use crate::sandbox::Sandbox;

/// A sandbox that is yours until you drop it. There is no put-back: dropping ends it (invariant 3).
#[derive(Debug)]
pub struct Lease {
    /// The sandbox.
    pub sandbox: Sandbox,
    /// How it came about.
    pub start: StartKind,
    /// The profile's image, pinned.
    pub image: Arc<str>,
    pub(super) _seat: Seat,
}

/// A place in the books, given back when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) pool: Arc<Inner>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.pool.books().stock.leased -= 1;
        self.pool.wake.notify_one();
    }
}

/// Why there is no lease.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// None became ready in time.
    #[error("no sandbox became ready in time{}", .0.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default())]
    TimedOut(Option<String>),
    /// The pool has been closed.
    #[error("the pool is closed")]
    Closed,
}
