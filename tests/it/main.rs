//! Integration tests. Those that need an engine use the real one; each daemon is an instance of its own, with its own
//! socket, state folder and uids, and is ended with everything it made when its test ends, also by failing.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod attacks;
mod chaos;
mod cli;
mod contract;
mod corpus;
mod docker;
mod docs;
mod engine;
mod gateway;
mod harness;
mod hostile;
mod hot;
mod images;
mod init;
mod isolation;
mod judging;
mod languages;
mod layout;
mod logs;
mod metrics;
mod packages;
mod programs;
mod protocol;
mod referees;
mod relay;
mod sandbox;
mod scheduling;
mod service;
mod soak;
mod storm;
mod streams;
mod suites;
mod systemd;
mod terminal;
