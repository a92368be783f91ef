//! One host and profile's inventory of ready sandboxes.
//!
//! ```text
//!            plan (pure)               create              offer            accept
//!  keeper ----------------> ticket ----------------> ready -------> Offer ----------> Lease ---drop---> retired
//!    ^                        | failed: backoff       | ^ declined    |                 |
//!    |                        |                       | '-------------'                 |
//!    '------- wake -----------+--- died, too old -----'---------------------------------'
//! ```
//!
//! [`stock`] holds the books and decides how many to make, [`tide`] how many are worth keeping ready: pure, table-tested.
//! [`keeper`] makes them, woken by events, in the order of the host's [`gate`], and rings the host's bell when one is ready. Who gets it is not the pool's affair: the scheduler says how many
//! wait ([`Pool::want`]) and takes offers. What became of its sandboxes stands in its [`tally`]. A caller that leaves takes nothing with it.

mod gate;
mod keeper;
mod lease;
mod state;
pub mod stock;
pub mod tally;
mod tide;

pub use gate::CreationLimiter;
pub use keeper::{Factory, HostShare, MakeError, Making, Pool, PoolSettings};
pub use lease::{Lease, Offer};
pub use state::PoolState;
pub use stock::Levels;
pub use tally::{PoolStats, RetireReason};
