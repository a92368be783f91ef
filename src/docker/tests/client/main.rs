//! The client against a scripted engine and against peers that are not engines. No Docker needed.

#![allow(clippy::unwrap_used)]

mod bad_input;
mod fake;
mod faults;
#[path = "../support/mod.rs"]
mod support;
mod tls;
