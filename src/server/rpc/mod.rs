//! The socket protocol, version 1 (DESIGN section 6): JSON-RPC 2.0, one object per LF-ended line, multiplexed by id.
//!
//! ```text
//!  accept --> peer (SO_PEERCRED, role) --> server.hello
//!     reader: line (bounded) --> call task ----> outbound queue (bounded) --> writer (a slow reader is cut)
//!                                   |  events first, the response last
//!     end-of-file: calls go on, answers still go out        hang-up: this connection's runs are cancelled
//! ```
//!
//! One bad line costs one error, never the connection, as long as the framing holds. [`types`] is the vocabulary,
//! [`params`] and [`results`] what goes in and comes out, [`schema`] says it to others, [`mod@line`] is the framing, [`peer`] who asks,
//! [`blobs`] what is larger than a line, [`methods`] what can be asked, [`views`] what there is to see, [`metrics`] counts.

mod blobs;
mod connection;
mod line;
mod methods;
mod metrics;
pub mod params;
mod peer;
pub mod results;
pub mod schema;
mod server;
mod types;
mod views;

pub use blobs::Blobs;
pub use peer::{Peer, Roles};
pub use server::{Connections, Daemon, Live, Profiles, ReloadAsk, bind, serve};

pub use types::{Code, RpcError};
