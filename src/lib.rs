//! assay: untrusted code in sandboxes that are already started.
pub mod cli;
pub mod docker;
pub mod init;
pub mod model;
pub mod wire;
