//! Further sandboxes of a submission, on which its tests run at the same time (`parallel`), as the
//! judge sees them. The scheduler implements the traits.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;

use sandbox::lifecycle::{Lost, Sandbox};

/// A further sandbox, once it has the submission's limits; `None` if none is free.
pub type ExtraFuture<'s> = Pin<Box<dyn Future<Output = Option<Box<dyn ExtraSandbox + 's>>> + Send + 's>>;

/// Where further sandboxes come from.
pub trait ExtraSandboxes: Debug + Sync {
    /// One that is free now, with the submission's limits. Never waits for one.
    fn take(&self) -> ExtraFuture<'_>;

    /// Whether other submissions wait for sandboxes.
    fn others_wait(&self) -> bool;
}

/// A further sandbox. Dropping it retires it.
pub trait ExtraSandbox: Send {
    fn sandbox(&mut self) -> &mut Sandbox;

    /// Ends its use. It may serve again unless a run on it ended in a way that makes that unsafe.
    fn finish(self: Box<Self>, may_serve_again: bool);

    /// It failed during a run.
    fn lost(self: Box<Self>, lost: &Lost);
}
