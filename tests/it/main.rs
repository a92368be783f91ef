//! Integration tests, in three groups: `offline` needs nothing but Rust, `engine` a Docker Engine,
//! `machine` root, further tools or much time. Each daemon is an instance of its own, with its own
//! socket, state folder and uids; it is ended with everything it made when its test ends, also by
//! failing.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod documents;
mod harness;
mod private_engine;
mod programs;
mod relay;

mod offline {
    mod cli;
    mod corpus;
    mod cycles;
    mod docs;
    mod terminal;
    mod tidy;
}

mod engine {
    mod attacks;
    mod chaos;
    mod contract;
    pub mod docker;
    mod first_lesson;
    pub mod gateway;
    mod hostile;
    mod hot;
    mod images;
    mod isolation;
    mod judging;
    mod languages;
    mod logs;
    mod packages;
    mod protocol;
    mod referees;
    mod sandbox;
    mod scheduling;
    mod service;
    mod streams;
    mod suites;
}

mod machine {
    mod docs;
    mod init;
    mod metrics;
    mod soak;
    mod storm;
    mod systemd;
}
