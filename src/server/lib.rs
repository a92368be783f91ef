//! The interfaces for callers: JSON-RPC on a Unix socket ([`rpc`]) and HTTP ([`http`]). What can be
//! asked for, whichever door a call comes by, is in `calls`.

mod calls;
pub mod http;
pub mod rpc;

pub use calls::{
    CallError, Connections, Daemon, Live, LiveSettings, MemoryBlobs, Peer, ReloadRequest, Roles, ServerMetrics,
};
