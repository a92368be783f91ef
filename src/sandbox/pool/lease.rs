//! The right to use one sandbox: first offered, then leased.

use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::{Caller, StartKind};

use super::inventory::{KeptFor, PoolInner, PooledSandbox, Returns};
use super::owners::Ownership;
use super::reuse::Service;
use super::stats::RetireReason;
use crate::lifecycle::{Audited, RuntimeChoice, Sandbox};

/// A sandbox that is reserved but not yet leased. Dropping it returns the sandbox to the pool and
/// notifies the scheduler, since another submission may be next.
#[derive(Debug)]
pub struct Offer {
    pooled: Option<PooledSandbox>,
    /// Set for a used sandbox.
    kept_for: Option<KeptFor>,
    pool: Arc<PoolInner>,
}

impl Offer {
    pub(super) fn new(pooled: PooledSandbox, kept_for: Option<KeptFor>, pool: Arc<PoolInner>) -> Offer {
        Offer { pooled: Some(pooled), kept_for, pool }
    }

    /// Leases the sandbox for a submission that waited for `waited`. A wait longer than the
    /// sandbox's age means that the sandbox was created meanwhile: a cold start.
    /// `caller` is its owner from now on; a referee's sandbox has none.
    pub fn accept(mut self, waited: Duration, caller: Option<&Caller>) -> Option<Lease> {
        let PooledSandbox { sandbox, image, generation, uses, first_used, returns } = self.pooled.take()?;
        let start = if sandbox.age() <= waited { StartKind::Cold } else { StartKind::Warm };
        let kept = self.kept_for.take().map(|kept_for| kept_for.owner);
        let owner = kept.or_else(|| caller.map(|caller| self.pool.owners.add(caller.clone())));
        self.pool.record_lease(start, uses == 0);
        let first_used = first_used.unwrap_or_else(Instant::now);
        let guard = LeaseGuard { pool: self.pool.clone(), owner, is_kept: false, reason: RetireReason::Used };
        Some(Lease { sandbox, start, image, generation, uses, first_used, returns, guard })
    }

    /// Returns the sandbox without notifying the scheduler: no submission wanted it.
    pub fn decline(mut self) {
        self.put_back();
    }

    fn put_back(&mut self) -> bool {
        let Some(pooled) = self.pooled.take() else { return false };
        self.pool.put_back(pooled, self.kept_for.take());
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
    generation: u64,
    /// Submissions that it served before.
    pub uses: u32,
    first_used: Instant,
    returns: Returns,
    guard: LeaseGuard,
}

impl Lease {
    /// Sets why the sandbox is retired when the lease is dropped; the default is
    /// [`RetireReason::Used`].
    pub fn retire_as(&mut self, reason: RetireReason) {
        self.guard.reason = reason;
    }

    /// Whether the pool may keep the sandbox for another submission of this caller.
    pub fn may_keep(&self, caller: &Caller) -> bool {
        let (isolation, since_first) = (self.sandbox.isolation(), self.first_used.elapsed());
        let service = Service { isolation, uses: self.uses + 1, since_first };
        self.guard.pool.settings.reuse.allows(&caller.tenant, service)
    }

    /// The runtimes that should wait for the next submission, if it runs the commands of the last
    /// one. The others end. To be called before the audit.
    pub fn choose_runtimes(&mut self, commands: Vec<Arc<[String]>>) -> RuntimeChoice {
        let choice = RuntimeChoice::For { commands, is_hasty: self.returns.is_hasty() };
        self.sandbox.drop_unwanted(&choice);
        choice
    }

    /// Keeps the sandbox, with these runtimes, for the next submission of its caller.
    pub fn keep(self, caller: Caller, choice: &RuntimeChoice, _audited: Audited) {
        let Lease { sandbox, image, generation, uses, first_used, returns, mut guard, .. } = self;
        guard.is_kept = true;
        let first_used = Some(first_used);
        let pooled = PooledSandbox { sandbox, image, generation, uses: uses + 1, first_used, returns };
        let owner = guard.owner.take().unwrap_or_else(|| guard.pool.owners.add(caller));
        guard.pool.keep(pooled, owner, choice);
    }
}

/// The lease's place in the stock. Dropping it gives the place back.
#[derive(Debug)]
struct LeaseGuard {
    pool: Arc<PoolInner>,
    /// Whose it is; a referee's sandbox has no owner.
    owner: Option<Ownership>,
    is_kept: bool,
    reason: RetireReason,
}

impl Drop for LeaseGuard {
    fn drop(&mut self) {
        if !self.is_kept {
            self.owner = None;
            self.pool.end_lease(self.reason);
        }
    }
}
