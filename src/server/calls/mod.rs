//! What callers can ask for, whichever door they come by: the socket ([`crate::rpc`]) or HTTP
//! ([`crate::http`]). A door identifies its caller, reads the request, and writes the reply.
//!
//! | module | contents |
//! |---|---|
//! | [`context`] | a call: its caller, its bytes, its result |
//! | [`peer`] | who calls, and what it may do |
//! | [`json`], [`params`], [`shape`], [`unique_keys`] | parameters from JSON |
//! | [`error`], [`pace`] | errors of calls; slow callers |
//! | [`submissions`], [`events`], [`history`], [`blobs`], [`views`] | what can be asked for |
//! | [`store_admin`], [`tokens`] | what admins can ask for |
//! | [`audit`] | the log of what admins do |
//! | [`state`], [`connections`], [`socket_bytes`], [`blob_store`], [`metrics`] | shared state |

pub(crate) mod audit;
pub(crate) mod blob_store;
pub(crate) mod blobs;
pub(crate) mod connections;
pub(crate) mod context;
pub(crate) mod error;
pub(crate) mod events;
pub(crate) mod history;
pub(crate) mod json;
pub(crate) mod metrics;
pub(crate) mod pace;
pub(crate) mod params;
pub(crate) mod peer;
pub(crate) mod shape;
pub(crate) mod socket_bytes;
pub(crate) mod state;
pub(crate) mod store_admin;
pub(crate) mod submissions;
pub(crate) mod tokens;
pub(crate) mod unique_keys;
pub(crate) mod views;

pub use blob_store::MemoryBlobs;
pub use connections::Connections;
pub use error::CallError;
pub use metrics::ServerMetrics;
pub use peer::{Peer, Roles};
pub use state::{Daemon, Live, LiveSettings, ReloadRequest};

/// Serializes a protocol type, which cannot fail: maps have string keys, and no float is NaN.
pub(crate) fn to_value(of: &impl serde::Serialize) -> serde_json::Value {
    serde_json::to_value(of).unwrap_or_default()
}

/// Decodes a field in base64.
pub(crate) fn decode(field: &str, b64: &str) -> Result<Vec<u8>, CallError> {
    use base64::Engine as _;
    let decoded = base64::engine::general_purpose::STANDARD.decode(b64);
    decoded.map_err(|error| CallError::bad(field, format!("{field}: is not base64: {error}")))
}
