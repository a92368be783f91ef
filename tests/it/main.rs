//! The integration tests, one file per subject.
#![allow(clippy::unwrap_used)]

mod cli;
