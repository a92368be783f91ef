//! What the daemon reports about itself: its log, metrics, process statistics and the liveness of
//! its loops.
//!
//! Log lines that a caller or a program can trigger go through a [`throttle::LogThrottle`], so
//! that they cannot flood the log. Text from outside goes through [`text::clean`].

pub mod disk;
mod journal;
pub mod liveness;
pub mod log;
pub mod metrics;
pub mod process;
pub mod text;
pub mod throttle;
