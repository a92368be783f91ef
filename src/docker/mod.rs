//! A Docker Engine client over hyper that has never heard of sandboxes.
//!
//! ```text
//!  Client --call--> negotiate once --> dial (2 s) --> HTTP/1.1 handshake --> head (per call) --> body (idle)
//!                                                                    \-> 101: Hijacked, the connection is yours
//! ```
//!
//! * One connection per call on the Unix socket: a connect costs 0.1 ms, and a stale pooled connection costs a retry.
//! * Every phase has a deadline of its own and its name stands in the error ([`deadlines`]); there is no blanket timeout.
//! * Versions are negotiated, never pinned ([`version`]).
//! * A hijack consumes its connection and is a type of its own ([`Hijacked`]): never pooled, never half-closed.
//! * Streams are decoded sans-IO ([`stdcopy`], [`jsonlines`]).
//!
//! **Dropping a future.** Every call's future may be dropped at any point; the connection goes with it. What the
//! engine had been told by then it may still do: a create or start runs on (find a create by the name that you
//! chose), a pull, a wait and an event stream end.

mod call;
pub mod deadlines;
mod dial;
pub mod endpoint;
pub mod error;
mod hijack;
pub mod jsonlines;
mod reply;
mod request;
pub mod stdcopy;
pub mod types;
pub mod version;

use std::sync::{Arc, Mutex, PoisonError};

pub use call::containers::{Removal, WaitCondition};
pub use call::images::BuildOptions;
pub use call::system::Events;
pub use endpoint::Endpoint;
pub use error::Error;
pub use hijack::{HijackReader, HijackWriter, Hijacked};
pub use types::*;
pub use version::ApiVersion;

/// A client of one engine. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    endpoint: Endpoint,
    version: Mutex<Option<ApiVersion>>,
}

impl Client {
    /// A client of that endpoint. No IO happens yet.
    pub fn new(endpoint: Endpoint) -> Client {
        Client { inner: Arc::new(Inner { endpoint, version: Mutex::new(None) }) }
    }

    /// Where its engine is.
    pub fn endpoint(&self) -> &Endpoint {
        &self.inner.endpoint
    }

    fn remembered(&self) -> Option<ApiVersion> {
        *self.inner.version.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, version: Option<ApiVersion>) {
        *self.inner.version.lock().unwrap_or_else(PoisonError::into_inner) = version;
    }
}
