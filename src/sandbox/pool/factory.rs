//! The interface through which a pool creates sandboxes; the host implements it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::error::MakeError;
use crate::lifecycle::Sandbox;

/// A creation in progress: the sandbox and the id of the profile's image.
pub type SandboxFuture = Pin<Box<dyn Future<Output = Result<(Sandbox, Arc<str>), MakeError>> + Send>>;

/// Creates the sandboxes of one pool.
pub trait SandboxFactory: Send + Sync + std::fmt::Debug + 'static {
    /// Starts one creation. Dropping the future removes what it created so far.
    fn make(&self) -> SandboxFuture;
}
