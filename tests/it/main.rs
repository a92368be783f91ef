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
    mod check_config;
    mod cli;
    mod corpus;
    mod cycles;
    mod docs;
    mod languages;
    mod terminal;
    mod tidy;
}

mod engine {
    mod accounting;
    mod as_written;
    mod attacks;
    mod callbacks;
    pub mod contract;
    pub mod docker;
    pub mod faults;
    mod first_lesson;
    mod history;
    mod hostile;
    mod hot;
    pub mod http;
    mod http_api;
    mod http_rights;
    mod http_tokens;
    mod images;
    mod isolation;
    mod judging;
    mod languages;
    mod limits;
    mod logs;
    mod more_languages;
    mod output_memory;
    mod package_formats;
    mod packages;
    mod parallel;
    mod programs;
    mod protocol;
    mod recovery;
    mod referees;
    mod sandbox;
    mod scheduling;
    mod separate;
    mod separation;
    mod service;
    mod socket_memory;
    mod store;
    mod streams;
    mod suite_results;
    mod suites;
}

mod machine {
    mod chaos;
    mod docs;
    mod init;
    mod metrics;
    mod power_cut;
    mod soak;
    mod store_kills;
    mod systemd;
    mod volatile_disk;
}
