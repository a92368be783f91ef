//! The program `assayd`: parses its arguments, reads the configuration, starts the log, and runs
//! the daemon.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use config::{self, Arguments, Loaded, Sources, load_profiles};
use daemon::reaper::{self, DaemonExit};
use daemon::{self, PassedSockets};
use telemetry::log;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let done = match arguments.as_slice() {
        [_, first, instance, folder] if first == reaper::ARGUMENT => reap(instance, Path::new(folder)),
        _ => start(&Arguments::parse()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("assayd: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the reaper, which gets its log settings in variables from the daemon.
fn reap(instance: &str, folder: &Path) -> Result<(), String> {
    let variable = |name: &str| std::env::var(name).ok();
    let level = variable(reaper::LOG_LEVEL).unwrap_or_default();
    let target = variable(reaper::LOG_TARGET).and_then(|name| log::LogTarget::from_name(&name)).unwrap_or_default();
    // the reaper also works without a log
    let _ = log::start(&level, target, variable("JOURNAL_STREAM").as_deref());
    reaper::run(instance, folder);
    Ok(())
}

fn start(arguments: &Arguments) -> Result<(), String> {
    // the process must have a single thread here
    let sockets = PassedSockets::take()?;
    let sources = arguments.sources()?;
    let loaded = sources.load().map_err(|error| format!("failed to {error}"))?;
    if arguments.check_config {
        return check(&loaded, &sources, arguments.json);
    }
    let journal = sources.environment.get("JOURNAL_STREAM").map(String::as_str);
    log::start(&loaded.config.log.level, loaded.config.log.target, journal)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    if arguments.sweep {
        // set by the service manager
        let exit = match sources.environment.get("SERVICE_RESULT").map(String::as_str) {
            Some("success") => DaemonExit::Clean,
            _ => DaemonExit::Unclean,
        };
        let removed = reaper::sweep_up(&loaded.config, &sources.environment, exit)?;
        tracing::info!(removed, "sweep finished: no sandboxes of this instance remain on the engines that answered");
        return Ok(());
    }
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("failed to start the runtime: {error}"))?
        .block_on(daemon::run(sources, loaded, sockets))
}

fn check(loaded: &Loaded, sources: &Sources, json: bool) -> Result<(), String> {
    daemon::assembly::engines(&loaded.config, &loaded.origins, &sources.environment)?;
    let profiles = load_profiles(&loaded.config, &loaded.origins).map_err(|error| format!("failed to {error}"))?;
    let names: Vec<&str> = profiles.iter().map(|profile| profile.name.as_str()).collect();
    if json {
        let mut all = config::json(loaded);
        all["profiles"] = names.into();
        println!("{all:#}");
        return Ok(());
    }
    print!("{}", config::text(loaded));
    println!("\n# profiles: {}", names.join(", "));
    for warning in &loaded.warnings {
        eprintln!("assayd: warning: {warning}");
    }
    Ok(())
}
