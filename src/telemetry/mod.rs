//! What the daemon says about itself.
//!
//! What a caller or a program can bring about is logged [`seldom::Seldom`]: nobody outside can flood the log. [`metrics`] is
//! what counts and histograms are made of, and the sheet on which they are written when somebody asks; [`process`] are the
//! figures that the kernel has of this process.

mod journal;
pub mod log;
pub mod metrics;
pub mod process;
pub mod pulse;
pub mod seldom;
