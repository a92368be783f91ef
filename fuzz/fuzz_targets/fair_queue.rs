//! Entry point of the fuzz target `fair_queue`; see `targets.rs`.
#![no_main]
#[path = "../targets.rs"]
mod targets;
libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::run("fair_queue", data));
