//! Server of the socket protocol, version 1: JSON-RPC 2.0, one object per LF-terminated line,
//! multiplexed by id.
//!
//! ```text
//!  accept --> peer (SO_PEERCRED, role) --> server.hello
//!     reader: line (bounded) --> call task --> outbound queue (bounded) --> writer (or closed)
//!                '----- bytes of the uid (bounded) -----'
//!                                   |  events first, the response last
//!     end-of-file: calls continue, responses are written   hang-up: its runs are cancelled
//! ```
//!
//! The published types are in the crate [`protocol`]. An invalid line costs one error response,
//! never the connection, as long as the framing holds.
//!
//! | module | contents |
//! |---|---|
//! | [`server`], [`connection`], [`context`], [`message`], [`error`] | transport |
//! | [`input_line`], [`outbox`] | the lines of a connection |
//! | [`peer`], [`connections`], [`socket_bytes`], [`blob_store`], [`state`] | shared state |
//! | [`methods`], [`submissions`], [`history`], [`store_admin`] | the methods |
//! | [`images`], [`blobs`], [`views`] | further methods |

mod blob_store;
mod blobs;
mod connection;
mod connections;
mod context;
mod error;
mod history;
mod images;
mod input_line;
mod message;
mod methods;
mod metrics;
mod outbox;
mod peer;
mod server;
mod socket_bytes;
mod state;
mod store_admin;
mod submissions;
mod unique_keys;
mod views;

pub use blob_store::MemoryBlobs;
pub use connections::Connections;
pub use error::CallError;
pub use metrics::RpcMetrics;
pub use peer::{Peer, Roles};
pub use server::{bind, serve};
pub use state::{Daemon, Live, LiveSettings, ReloadRequest};

/// Serializes a protocol type, which cannot fail: maps have string keys, and no float is NaN.
fn to_value(of: &impl serde::Serialize) -> serde_json::Value {
    serde_json::to_value(of).unwrap_or_default()
}

/// Decodes a field in base64.
fn decode(field: &str, b64: &str) -> Result<Vec<u8>, CallError> {
    use base64::Engine as _;
    let decoded = base64::engine::general_purpose::STANDARD.decode(b64);
    decoded.map_err(|error| CallError::bad(field, format!("{field}: is not base64: {error}")))
}
