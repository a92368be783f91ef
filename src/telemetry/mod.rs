//! What the daemon says about itself.
//!
//! What a caller or a program can bring about is logged [`seldom::Seldom`]: nobody outside can flood the log.

pub mod seldom;
