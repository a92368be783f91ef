//! The right to use one sandbox, offered and taken.

use std::sync::Arc;
use std::time::Duration;

use super::keeper::{Inner, KeptFor, Shelved};
use super::tally::RetireReason;
use crate::lifecycle::{Audited, Sandbox};
use protocol::Caller;
use protocol::StartKind;

/// A ready sandbox, held out to somebody. Dropped, it goes back to the front of the shelf, and the bell rings: it may be
/// due to another.
#[derive(Debug)]
pub struct Offer {
    shelved: Option<Shelved>,
    /// Whose it is, when it was used.
    of: Option<KeptFor>,
    pool: Arc<Inner>,
}

impl Offer {
    pub(super) fn new(shelved: Shelved, of: Option<KeptFor>, pool: Arc<Inner>) -> Offer {
        Offer { shelved: Some(shelved), of, pool }
    }

    /// Takes it. Who waited longer than the sandbox is old had it made for them: a cold start.
    pub fn accept(mut self, waited: Duration) -> Option<Lease> {
        let Shelved { sandbox, image, uses } = self.shelved.take()?;
        let start = if sandbox.age() <= waited { StartKind::Cold } else { StartKind::Warm };
        self.pool.taken(start);
        let guard = LeaseGuard { pool: self.pool.clone(), is_given_back: false, why: RetireReason::Used };
        Some(Lease { sandbox, start, image, uses, guard })
    }

    /// Puts it back without ringing the capacity_changed: nobody wanted it.
    pub fn decline(mut self) {
        self.put_back();
    }

    fn put_back(&mut self) -> bool {
        let Some(shelved) = self.shelved.take() else { return false };
        self.pool.put_back(shelved, self.of.take());
        true
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        if self.put_back() {
            self.pool.ring();
        }
    }
}

/// A sandbox that is yours until you drop it. Dropping ends it (invariant 3): the one way back goes through an audit, and
/// leads to its own caller only.
#[derive(Debug)]
pub struct Lease {
    /// The sandbox.
    pub sandbox: Sandbox,
    /// How it came about.
    pub start: StartKind,
    /// The profile's image, pinned.
    pub image: Arc<str>,
    /// Submissions that it served before.
    pub uses: u32,
    guard: LeaseGuard,
}

impl Lease {
    /// Says why it ends, when it is not for having served.
    pub fn retire_as(&mut self, why: RetireReason) {
        self.guard.why = why;
    }

    /// Keeps it for its caller's next submission.
    pub fn keep(self, caller: Caller, _audited: Audited) {
        let Lease { sandbox, image, uses, mut guard, .. } = self;
        guard.is_given_back = true;
        guard.pool.keep(Shelved { sandbox, image, uses: uses + 1 }, caller);
    }
}

/// A place in the books, given back when dropped.
#[derive(Debug)]
struct LeaseGuard {
    pool: Arc<Inner>,
    is_given_back: bool,
    /// Why it is not.
    why: RetireReason,
}

impl Drop for LeaseGuard {
    fn drop(&mut self) {
        if self.is_given_back {
            return;
        }
        let mut books = self.pool.books();
        books.stock.leased -= 1;
        books.stats.retired(self.why, 1);
        drop(books);
        self.pool.wake.notify_one();
    }
}
