//! The daemon. Parses its arguments, sets up the log, and runs `assay::daemon`.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use assay::config::{self, Config, load_profiles};
use assay::daemon::{self, reaper};
use clap::Parser;

/// Runs untrusted code submissions in Docker sandboxes that are already started.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The configuration file [default: /etc/assay/assayd.toml, when it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the effective configuration and exit
    #[arg(long)]
    check_config: bool,
}

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("ASSAY_LOG")
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info")),
        )
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    let words: Vec<String> = std::env::args().collect();
    if let [_, first, instance, folder] = words.as_slice()
        && first == reaper::ARGUMENT
    {
        reaper::run(instance, Path::new(folder));
        return ExitCode::SUCCESS;
    }
    match start(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("assayd: {message}");
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: &Arguments) -> Result<(), String> {
    let environment = config::environment();
    let config =
        Config::load(arguments.config.as_deref(), &environment).map_err(|error| format!("failed to {error}"))?;
    if arguments.check_config {
        daemon::assembly::engines(&config, &environment)?;
        let profiles = load_profiles(&config).map_err(|error| format!("failed to {error}"))?;
        let text = toml::to_string(&config).map_err(|error| error.to_string())?;
        let names: Vec<&str> = profiles.iter().map(|profile| profile.name.as_str()).collect();
        println!("{text}\n# profiles: {}", names.join(", "));
        return Ok(());
    }
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("failed to start the runtime: {error}"))?
        .block_on(daemon::run(arguments.config.as_deref(), config, &environment))
}
