//! Compiles in the commit, and the shipped profiles for what their files say about languages
//! ([`languages`](../languages/index.html)).

#![allow(clippy::print_stdout)]

#[path = "../../scripts/commit.rs"]
mod commit;

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/profiles");
    commit::set();
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(&folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            paths.push(path);
        }
    }
    paths.sort();
    let mut code = String::from("&[\n");
    for path in paths {
        println!("cargo::rerun-if-changed={}", path.display());
        writeln!(code, "    {:?},", std::fs::read_to_string(path)?)?;
    }
    code.push_str("]\n");
    Ok(std::fs::write(Path::new(&std::env::var("OUT_DIR")?).join("profiles.rs"), code)?)
}
