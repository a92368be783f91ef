//! The daemon. Parses its arguments, reads its configuration, sets up the log, and runs `daemon`.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use config::{self, Arguments, Loaded, Sources, load_profiles};
use daemon::{self, Inherited, reaper};
use telemetry::log;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    let done = match words.as_slice() {
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

/// The reaper has no configuration of its own: the daemon tells it in variables how to log.
fn reap(instance: &str, folder: &Path) -> Result<(), String> {
    let variable = |name: &str| std::env::var(name).ok();
    let level = variable(reaper::LOG_LEVEL).unwrap_or_default();
    let target = variable(reaper::LOG_TARGET).and_then(|name| log::LogTarget::from_name(&name)).unwrap_or_default();
    // without a log it does its work all the same
    let _ = log::start(&level, target, variable("JOURNAL_STREAM").as_deref());
    reaper::run(instance, folder);
    Ok(())
}

fn start(arguments: &Arguments) -> Result<(), String> {
    // while there is one thread
    let sockets = Inherited::take()?;
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
        // the service manager says how the daemon ended
        let in_order = sources.environment.get("SERVICE_RESULT").is_some_and(|result| result == "success");
        let removed = reaper::sweep_up(&loaded.config, &sources.environment, in_order)?;
        tracing::info!(removed, "nothing of this instance is left on its engines that answer");
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
