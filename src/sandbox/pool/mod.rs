//! The sandboxes of one profile on one host: ready, being created, leased, and kept for their
//! caller.
//!
//! ```text
//!               plan            create           offer         accept
//!  replenisher ------> ticket ----------> ready -------> Offer -------> Lease --drop--> retired
//!    ^                   | failed: backoff | ^ declined    |              |
//!    |                   |                 | '-------------'              |
//!    '------ wake -------+- died, too old -'------------------------------'
//! ```
//!
//! Pure, with unit tests: [`stock`] decides how many sandboxes to create, `demand` how many are
//! worth keeping ready, `reuse` which used ones are kept, and how long. `limiter` decides which
//! pool of the host creates next. `replenisher` is the pool's task. The pool does not decide which
//! submission gets a sandbox: the scheduler sets the demand ([`Pool::set_demand`]), is notified
//! when a sandbox is ready, and takes offers. [`stats`] counts.

#[cfg(test)]
mod crowd_tests;
mod demand;
mod error;
mod factory;
mod handle;
mod inventory;
mod lease;
mod limiter;
mod owners;
mod replenisher;
mod reuse;
pub mod stats;
pub mod stock;

pub use error::MakeError;
pub use factory::{SandboxFactory, SandboxFuture};
pub use handle::Pool;
pub use inventory::{HostShare, PoolSettings};
pub use lease::{Lease, Offer};
pub use limiter::CreationLimiter;
pub use reuse::ReuseRule;
pub use stats::{PoolStats, RetireReason};
pub use stock::Levels;
