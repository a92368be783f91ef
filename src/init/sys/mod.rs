//! The system calls that the init makes, each behind a safe function.
//!
//! The only folder of the init with `unsafe`. It makes no decisions: a call in, a result or an
//! errno out. Raw calls are used where a C library wrapper would do more than the call (glibc's
//! set*id functions signal all threads).

mod clock;
mod crossing;
mod errno;
mod files;
mod parked;
mod process;
mod rights;
mod signal;
mod sockets;

pub use clock::*;
pub use crossing::{STACK_BYTES, crossing_code, detour_code, steps_code};
pub use errno::{Errno, errno_of};
pub use files::*;
pub use parked::ParkedThreads;
pub use process::*;
pub use rights::*;
pub use signal::*;
pub use sockets::{SocketCounts, has_more_in_flight, queued_bytes};
