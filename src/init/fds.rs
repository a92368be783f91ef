//! Descriptor numbers of the protocol with a prewarmed runtime, which every runtime's start-up code
//! in the profiles uses too.

/// Where a prewarmed runtime reads what to load, and later its run.
pub const ORDER_FD: i32 = 1023;

/// Where a prewarmed runtime writes `ready`.
pub const READY_FD: i32 = 1022;
