//! The interfaces for callers: JSON-RPC on a Unix socket ([`rpc`]) and HTTP ([`http`]).

pub mod http;
pub mod rpc;
