//! Entry point of the fuzz target `http`; see `targets.rs`.
#![no_main]
#[path = "../targets.rs"]
mod targets;
libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::run("http", data));
