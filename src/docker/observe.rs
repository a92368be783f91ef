//! Whoever wants to know how the engine's calls go, without being in their way.
//!
//! The client tells its observer every request that got a head, or none: which call, how long the head took, and what it said.
//! Bodies are not timed: a build's lasts minutes and says nothing of the engine. A call that was dropped is not told, and one
//! that was repeated under another version is told twice, since the engine was asked twice.

use std::fmt;
use std::time::Duration;

use super::Error;

/// Is told of every call. Called on the call's own way, so it must be quick and must not wait.
pub trait Observer: fmt::Debug + Send + Sync {
    /// A head came with this status, or none came.
    fn answered(&self, call: &'static str, took: Duration, head: Result<u16, &Error>);
}
