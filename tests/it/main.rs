//! The integration tests, one file per subject.

mod cli;
