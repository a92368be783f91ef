//! The right to use one sandbox: first offered, then leased.

use std::sync::Arc;
use std::time::Duration;

use protocol::{Caller, StartKind};

use super::inventory::{KeptFor, PoolInner, PooledSandbox};
use super::stats::RetireReason;
use crate::lifecycle::{Audited, Sandbox};

/// A sandbox that is reserved but not yet leased. Dropping it returns the sandbox to the pool and
/// notifies the scheduler, since another submission may be next.
#[derive(Debug)]
pub struct Offer {
    pooled: Option<PooledSandbox>,
    /// Set for a used sandbox.
    owner: Option<KeptFor>,
    pool: Arc<PoolInner>,
}

impl Offer {
    pub(super) fn new(pooled: PooledSandbox, owner: Option<KeptFor>, pool: Arc<PoolInner>) -> Offer {
        Offer { pooled: Some(pooled), owner, pool }
    }

    /// Leases the sandbox for a submission that waited for `waited`. A wait longer than the
    /// sandbox's age means that the sandbox was created meanwhile: a cold start.
    pub fn accept(mut self, waited: Duration) -> Option<Lease> {
        let PooledSandbox { sandbox, image, uses } = self.pooled.take()?;
        let start = if sandbox.age() <= waited { StartKind::Cold } else { StartKind::Warm };
        self.pool.record_lease(start);
        let guard = LeaseGuard { pool: self.pool.clone(), is_kept: false, reason: RetireReason::Used };
        Some(Lease { sandbox, start, image, uses, guard })
    }

    /// Returns the sandbox without notifying the scheduler: no submission wanted it.
    pub fn decline(mut self) {
        self.put_back();
    }

    fn put_back(&mut self) -> bool {
        let Some(pooled) = self.pooled.take() else { return false };
        self.pool.put_back(pooled, self.owner.take());
        true
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        if self.put_back() {
            self.pool.notify_capacity();
        }
    }
}

/// Exclusive use of a sandbox. Dropping it ends the sandbox. The only way back into the pool is
/// [`Lease::keep`], which requires an audit and makes it available to its own caller only.
#[derive(Debug)]
pub struct Lease {
    pub sandbox: Sandbox,
    pub start: StartKind,
    /// The id of the profile's image.
    pub image: Arc<str>,
    /// Submissions that it served before.
    pub uses: u32,
    guard: LeaseGuard,
}

impl Lease {
    /// Sets why the sandbox is retired when the lease is dropped; the default is
    /// [`RetireReason::Used`].
    pub fn retire_as(&mut self, reason: RetireReason) {
        self.guard.reason = reason;
    }

    /// Keeps the sandbox for the next submission of its caller.
    pub fn keep(self, caller: Caller, _audited: Audited) {
        let Lease { sandbox, image, uses, mut guard, .. } = self;
        guard.is_kept = true;
        guard.pool.keep(PooledSandbox { sandbox, image, uses: uses + 1 }, caller);
    }
}

/// The lease's place in the stock. Dropping it gives the place back.
#[derive(Debug)]
struct LeaseGuard {
    pool: Arc<PoolInner>,
    is_kept: bool,
    reason: RetireReason,
}

impl Drop for LeaseGuard {
    fn drop(&mut self) {
        if !self.is_kept {
            self.pool.end_lease(self.reason);
        }
    }
}
