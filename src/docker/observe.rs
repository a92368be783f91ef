//! Observer hook: latency and status of every Engine call.
//!
//! The observer is called once for each request that was sent: with the status if a head came, with
//! the error otherwise. Bodies are not timed, because a build's body lasts minutes and says nothing
//! about the engine. A dropped call is not reported. A call that was repeated under another API
//! version is reported twice, because the engine received two requests.

use std::fmt;
use std::time::Duration;

use super::{Error, Op};

/// Receives every call. Runs inside the call's own future, so it must not block.
pub trait Observer: fmt::Debug + Send + Sync {
    /// `took` is the time to the head, or to the error.
    fn answered(&self, op: &'static Op, took: Duration, head: Result<u16, &Error>);
}
