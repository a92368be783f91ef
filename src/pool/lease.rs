//! The right to use one sandbox, offered and taken.

use std::sync::Arc;
use std::time::Duration;

use super::keeper::{Inner, Shelved};
use crate::model::StartKind;
use crate::sandbox::Sandbox;

/// A ready sandbox, held out to somebody. Dropped, it goes back to the front of the shelf, and the bell rings: it may be
/// due to another.
#[derive(Debug)]
pub struct Offer {
    shelved: Option<Shelved>,
    pool: Arc<Inner>,
}

impl Offer {
    pub(super) fn new(shelved: Shelved, pool: Arc<Inner>) -> Offer {
        Offer { shelved: Some(shelved), pool }
    }

    /// Takes it. Who waited longer than the sandbox is old had it made for them: a cold start.
    pub fn accept(mut self, waited: Duration) -> Option<Lease> {
        let Shelved { sandbox, image } = self.shelved.take()?;
        self.pool.taken();
        let start = if sandbox.age() <= waited { StartKind::Cold } else { StartKind::Warm };
        Some(Lease { sandbox, start, image, _seat: Seat { pool: self.pool.clone() } })
    }

    /// Puts it back without ringing the bell: nobody wanted it.
    pub fn decline(mut self) {
        self.put_back();
    }

    fn put_back(&mut self) -> bool {
        let Some(shelved) = self.shelved.take() else { return false };
        self.pool.put_back(shelved);
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

/// A sandbox that is yours until you drop it. There is no put-back: dropping ends it (invariant 3).
#[derive(Debug)]
pub struct Lease {
    /// The sandbox.
    pub sandbox: Sandbox,
    /// How it came about.
    pub start: StartKind,
    /// The profile's image, pinned.
    pub image: Arc<str>,
    _seat: Seat,
}

/// A place in the books, given back when dropped.
#[derive(Debug)]
struct Seat {
    pool: Arc<Inner>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.pool.books().stock.leased -= 1;
        self.pool.wake.notify_one();
    }
}
