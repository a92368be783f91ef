//! The program `assayd`: parses its arguments, reads the configuration, starts the log, and runs
//! the daemon.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};
use config::{self, Arguments, Loaded, Sources};
use daemon::assembly::Assembly;
use daemon::reaper::{self, DaemonExit};
use daemon::{self, PassedSockets};
use protocol::{LimitsRequest, Profile};
use serde_json::{Value, json};
use telemetry::log;

/// The arguments; `--version` names the commit.
///
/// # Errors
/// The status to end with: help and the version were printed, or the arguments are not valid.
fn parsed_arguments() -> Result<Arguments, u8> {
    let command = Arguments::command().version(env!("ASSAY_VERSION"));
    let parsed = command.try_get_matches().and_then(|matches| Arguments::from_arg_matches(&matches));
    parsed.map_err(|error| match (error.print(), error.use_stderr()) {
        (Err(failed), false) => unwritten(&failed),
        _ => u8::try_from(error.exit_code()).unwrap_or(1),
    })
}

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let done = match arguments.as_slice() {
        [_, first, instance, folder] if first == reaper::ARGUMENT => {
            reap(&instance.to_string_lossy(), Path::new(folder))
        }
        _ => match parsed_arguments() {
            Ok(arguments) => start(&arguments),
            Err(status) => return ExitCode::from(status),
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { message, status }) => {
            let journal = std::env::var("JOURNAL_STREAM").ok();
            say(&log::as_error(&format!("assayd: {message}"), journal.as_deref()));
            ExitCode::from(status)
        }
    }
}

/// Writes a line to stderr. A closed or full stderr does not change the program's status.
fn say(line: &str) {
    let _ = std::io::stderr().lock().write_all(format!("{line}\n").as_bytes());
}

/// The status after output that could not be written: that of SIGPIPE, without a message, for a
/// reader that has seen enough (`| head`).
fn unwritten(error: &std::io::Error) -> u8 {
    if error.kind() == std::io::ErrorKind::BrokenPipe {
        return 128 + 13;
    }
    say(&format!("assayd: failed to write the output: {error}"));
    1
}

/// Why the program ends with a status other than 0.
struct Failure {
    message: String,
    status: u8,
}

/// The status of a start with a configuration that cannot be used (EX_CONFIG of sysexits). The unit
/// does not start it again: only a change helps.
const WRONG_CONFIGURATION: u8 = 78;

impl From<String> for Failure {
    fn from(message: String) -> Failure {
        Failure { message, status: 1 }
    }
}

/// A failure to use the configuration.
fn wrong_configuration(message: String) -> Failure {
    Failure { message, status: WRONG_CONFIGURATION }
}

/// Runs the reaper, which gets its log settings in variables from the daemon.
fn reap(instance: &str, folder: &Path) -> Result<(), Failure> {
    let variable = |name: &str| std::env::var(name).ok();
    let level = variable(reaper::LOG_LEVEL).unwrap_or_default();
    let target = variable(reaper::LOG_TARGET).and_then(|name| log::LogTarget::from_name(&name)).unwrap_or_default();
    // the reaper also works without a log
    let _ = log::start(&level, target, variable("JOURNAL_STREAM").as_deref());
    reaper::run(instance, folder);
    Ok(())
}

fn start(arguments: &Arguments) -> Result<(), Failure> {
    // the process must have a single thread here
    let sockets = PassedSockets::take()?;
    let sources = arguments.sources().map_err(wrong_configuration)?;
    let loaded = sources.load().map_err(|error| format!("failed to {error}"));
    if arguments.check_config {
        return Ok(check(loaded?, &sources, arguments.json)?);
    }
    let loaded = loaded.map_err(wrong_configuration)?;
    if arguments.check_start {
        Assembly::of(loaded, &sources.environment).map_err(wrong_configuration)?;
        return Ok(());
    }
    let journal = sources.environment.get("JOURNAL_STREAM").map(String::as_str);
    log::start(&loaded.config.log.level, loaded.config.log.target, journal).map_err(wrong_configuration)?;
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
    let assembly = Assembly::of(loaded, &sources.environment).map_err(wrong_configuration)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("failed to start the runtime: {error}"))?;
    Ok(runtime.block_on(daemon::run(sources, assembly, sockets))?)
}

/// Checks all that can be known without the engine, and prints what is in effect.
fn check(loaded: Loaded, sources: &Sources, json: bool) -> Result<(), String> {
    let (mut shown, text) = (config::json(&loaded), config::text(&loaded));
    let assembly = Assembly::of(loaded, &sources.environment)?;
    let (faults, mut warnings) = (assembly.faults(), assembly.all_warnings());
    warnings.extend(assembly.absent_engines());
    let profiles: Vec<_> = assembly.profiles.values().map(|profile| effective_profile(profile)).collect();
    if json {
        shown["profiles"] = assembly.profiles.keys().map(String::as_str).collect::<Vec<_>>().into();
        shown["effective_profiles"] = profiles.into();
        shown["warnings"] = warnings.into();
        shown["faults"] = faults.clone().into();
        print(&format!("{shown:#}\n"));
    } else {
        let names = assembly.profiles.keys().cloned().collect::<Vec<_>>().join(", ");
        let rows: String = profiles.iter().map(|row| format!("#   {}\n", profile_line(row))).collect();
        print(&format!("{text}\n# profiles: {names}\n{rows}"));
        for warning in &warnings {
            say(&format!("assayd: warning: {warning}"));
        }
    }
    match faults.as_slice() {
        [] => Ok(()),
        faults => Err(format!("the daemon would start, but not everything would work:\n  {}", faults.join("\n  "))),
    }
}

/// What is in effect for a profile, its preset and the configuration's levels included.
fn effective_profile(profile: &Profile) -> Value {
    let run = profile.run_limits().unwrap_or_else(|_| profile.preset.limits());
    let compile = (!profile.compile.is_empty()).then(|| profile.base_compile_limits(run).ok()).flatten();
    json!({
        "name": profile.name,
        "image": profile.image,
        "isolation": profile.isolation,
        "floor": profile.pool.floor,
        "ceiling": profile.pool.ceiling,
        "limits": LimitsRequest::from(run),
        "compile_limits": compile.map(LimitsRequest::from),
    })
}

/// The same on one line.
fn profile_line(row: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let limits = |title: &str, limits: &Value| -> String {
        let Some(limits) = limits.as_object() else { return String::new() };
        let shown = limits.iter().map(|(name, value)| match (config::Unit::of(name), value.as_u64()) {
            (Some((unit, short)), Some(number)) => format!("{short} {}", unit.show(number)),
            _ => format!("{name} {value}"),
        });
        format!("; {title}: {}", shown.collect::<Vec<_>>().join(", "))
    };
    format!(
        "{}: image {}, isolation {}, {} to {} sandboxes{}{}",
        text(&row["name"]),
        text(&row["image"]),
        text(&row["isolation"]),
        row["floor"],
        row["ceiling"],
        limits("limits", &row["limits"]),
        limits("compile", &row["compile_limits"])
    )
}

/// Writes to stdout; output that cannot be written ends the program.
fn print(text: &str) {
    let mut stdout = std::io::stdout().lock();
    if let Err(error) = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        std::process::exit(unwritten(&error).into());
    }
}
