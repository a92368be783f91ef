//! `assay`: parse, run, exit.

use std::process::ExitCode;

use clap::Parser;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    ExitCode::from(assay::cli::main(assay::cli::Cli::parse()).await)
}
