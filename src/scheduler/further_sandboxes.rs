//! The further sandboxes of a submission whose tests run at the same time: on the host of its own
//! one, from the same image, as far as they are free.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::allocator::{Allocator, FurtherSandbox};
use super::counters::SubmissionCounters;
use super::leases::{audit_and_keep, may_keep, set_limits};
use judge::extra::{ExtraFuture, ExtraSandbox, ExtraSandboxes};
use judge::work::Work;
use sandbox::host::{BusyGuard, Host};
use sandbox::lifecycle::{Lost, Sandbox};
use sandbox::pool::{Lease, RetireReason};

/// Takes further sandboxes for one submission.
#[derive(Debug)]
pub(super) struct FurtherSandboxes<'a> {
    allocator: &'a Allocator,
    work: &'a Work,
    host: Arc<Host>,
    /// The image of the submission's own sandbox, which its program was compiled with.
    image: Arc<str>,
    counters: &'a Arc<SubmissionCounters>,
    /// Whether one could not be used, as would the next.
    has_failed: AtomicBool,
}

impl<'a> FurtherSandboxes<'a> {
    pub(super) fn new(
        allocator: &'a Allocator,
        work: &'a Work,
        host: &Arc<Host>,
        own: &Lease,
        counters: &'a Arc<SubmissionCounters>,
    ) -> FurtherSandboxes<'a> {
        let (host, image, has_failed) = (host.clone(), own.image.clone(), AtomicBool::new(false));
        FurtherSandboxes { allocator, work, host, image, counters, has_failed }
    }

    /// Makes a sandbox fit for the submission, if it can be.
    async fn fit(&self, mut taken: FurtherSandbox) -> Option<Box<dyn ExtraSandbox + '_>> {
        let (work, lease) = (self.work, &mut taken.lease);
        let is_alike = lease.image == self.image && work.isolation.allows(lease.sandbox.isolation());
        if !is_alike || set_limits(&self.host, lease, &work.profile, &work.sandbox_limits()).await.is_err() {
            self.has_failed.store(true, Ordering::Relaxed);
            return None;
        }
        let busy = self.host.mark_busy(lease.sandbox.id(), &work.profile.name, &work.id, &work.caller.principal);
        Some(Box::new(BusySandbox { _busy: busy, taken, source: self }))
    }
}

impl ExtraSandboxes for FurtherSandboxes<'_> {
    fn take(&self) -> ExtraFuture<'_> {
        let may_try = !self.has_failed.load(Ordering::Relaxed);
        let taken = if may_try { self.allocator.take_further(self.work, &self.host) } else { None };
        Box::pin(async move { self.fit(taken?).await })
    }

    fn others_wait(&self) -> bool {
        self.allocator.someone_waits()
    }
}

/// A further sandbox in use. Fields are dropped in this order.
struct BusySandbox<'a> {
    _busy: BusyGuard,
    taken: FurtherSandbox,
    source: &'a FurtherSandboxes<'a>,
}

impl ExtraSandbox for BusySandbox<'_> {
    fn sandbox(&mut self) -> &mut Sandbox {
        &mut self.taken.lease.sandbox
    }

    fn finish(self: Box<Self>, may_serve_again: bool) {
        let FurtherSandboxes { work, counters, .. } = self.source;
        let lease = self.taken.release();
        if may_serve_again && may_keep(work, &lease) {
            let (caller, profile) = (work.caller.clone(), work.profile.name.clone());
            // it had what the compile step made
            audit_and_keep(lease, caller, profile, work.commands(true), (*counters).clone());
        }
    }

    fn lost(mut self: Box<Self>, lost: &Lost) {
        let (work, host) = (self.source.work, self.source.host.name());
        tracing::warn!(
            submission = %work.id.escape_debug(), uid = work.caller.principal.uid(), principal = work.caller.principal.named(), %host, %lost,
            "further sandbox lost during a test, which is run again"
        );
        self.taken.lease.retire_as(RetireReason::Lost);
        if *lost != Lost::OutOfMemory {
            self.source.host.mark_suspect();
        }
    }
}
