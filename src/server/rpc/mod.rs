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
//! What the methods do is in [`crate::calls`].
//!
//! | module | contents |
//! |---|---|
//! | [`server`], [`connection`], [`context`], [`message`] | transport |
//! | [`input_line`], [`outbox`] | the lines of a connection |
//! | [`methods`], [`submissions`], [`images`] | the methods |

mod connection;
mod context;
mod images;
mod input_line;
mod message;
mod methods;
mod outbox;
mod server;
mod submissions;

pub use server::{bind, serve};
