//! One host and profile's inventory of ready sandboxes.
//!
//! ```text
//!            plan (pure)               create                    lease
//!  keeper ----------------> ticket ----------------> ready ----------------> Lease ---drop---> retired
//!    ^                        | failed: backoff        | died, too old
//!    '------- wake -----------+------------------------+----------------------'
//! ```
//!
//! [`stock`] holds the books and decides how many to make: pure, table-tested. [`keeper`] makes them, woken by
//! events. [`lease`] hands them out: first come, first served; a caller that leaves takes nothing with it.

mod keeper;
mod lease;
mod stock;

pub use keeper::{Factory, HostShare, MakeError, Making, Pool, PoolState};
pub use lease::{Lease, LeaseError};
pub use stock::Levels;
