//! assay: untrusted code in sandboxes that are already started.
pub mod cli;
pub mod config;
pub mod daemon;
pub mod docker;
pub mod host;
pub mod image;
pub mod init;
pub mod judge;
pub mod model;
pub mod policy;
pub mod pool;
pub mod rpc;
pub mod sandbox;
pub mod scheduler;
pub mod wire;
