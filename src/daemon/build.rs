//! Compiles in the commit.

#![allow(clippy::print_stdout)]

#[path = "../../scripts/commit.rs"]
mod commit;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    commit::set();
}
