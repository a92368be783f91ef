//! The log of a process: where it goes, and the levels, which can change at run time
//! ([`set_level`]).
//!
//! ```text
//!   auto:  is stderr the journal's (JOURNAL_STREAM)?
//!              --yes--> journald, with fields (ASSAY_SUBMISSION=...)
//!              --no---> lines of text on stderr, with colours on a terminal
//!   journal, text, json: fixed; json is one object per line on stderr
//! ```
//!
//! Nothing from a program or a caller may look like a log line of ours: it is escaped where it
//! enters ([`clean`]), and once more when a line of text is made.

use std::fmt;
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::sync::OnceLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::prelude::*;
use tracing_subscriber::{Registry, fmt as lines, reload};

use super::journal::Journal;
pub use super::journal::SOCKET as JOURNAL_SOCKET;
use super::text::{clean, quoted};

/// Names that `log.level` accepts before `=`, and the module path each stands for. `gateway` is the
/// former name of `http`.
pub const MODULES: &[(&str, &str)] = &[
    ("audit", AUDIT),
    ("calls", "server::calls"),
    ("cli", "cli"),
    ("config", "config"),
    ("daemon", "daemon"),
    ("docker", "docker"),
    ("gateway", "server::http"),
    ("host", "sandbox::host"),
    ("http", "server::http"),
    ("image", "sandbox::image"),
    ("judge", "judge"),
    ("policy", "sandbox::policy"),
    ("pool", "sandbox::pool"),
    ("rpc", "server::rpc"),
    ("sandbox", "sandbox::lifecycle"),
    ("scheduler", "scheduler"),
    ("telemetry", "telemetry"),
];

/// The target of the audit log, which a lower level of the rest does not turn off.
pub const AUDIT: &str = "audit";

/// Destination of the log (`log.target`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogTarget {
    /// The journal if stderr is connected to it, otherwise text on stderr.
    #[default]
    Auto,
    /// The journal, with fields.
    Journal,
    /// Lines of text on stderr.
    Text,
    /// One JSON object per line on stderr.
    Json,
}

impl LogTarget {
    /// The value in a configuration file.
    pub fn as_str(self) -> &'static str {
        match self {
            LogTarget::Auto => "auto",
            LogTarget::Journal => "journal",
            LogTarget::Text => "text",
            LogTarget::Json => "json",
        }
    }

    pub fn from_name(name: &str) -> Option<LogTarget> {
        [LogTarget::Auto, LogTarget::Journal, LogTarget::Text, LogTarget::Json]
            .into_iter()
            .find(|target| target.as_str() == name)
    }
}

static LEVEL: OnceLock<reload::Handle<Targets, Registry>> = OnceLock::new();

/// Parses levels: a default and those of single modules, such as `info, pool=debug`.
///
/// # Errors
/// A message with the mistake and the valid values.
pub fn filter(text: &str) -> Result<Targets, String> {
    let level = |name: &str| {
        let known = ["off", "error", "warn", "info", "debug", "trace"].contains(&name.to_ascii_lowercase().as_str());
        let level = known.then(|| name.parse::<LevelFilter>().ok()).flatten();
        level.ok_or_else(|| format!("{name:?} is not a valid level; use off, error, warn, info, debug or trace"))
    };
    let mut targets = Targets::new().with_default(LevelFilter::INFO).with_target(AUDIT, LevelFilter::INFO);
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        targets = match part.split_once('=') {
            None => targets.with_default(level(part)?),
            Some((module, name)) => {
                let level = level(name.trim())?;
                targets.with_target(target(module.trim())?, level)
            }
        };
    }
    Ok(targets)
}

/// The tracing target of one of [`MODULES`], or of another crate by its full path.
fn target(module: &str) -> Result<String, String> {
    if let Some((_, path)) = MODULES.iter().find(|(name, _)| *name == module) {
        return Ok((*path).to_owned());
    }
    let names = MODULES.iter().map(|(name, _)| name);
    let near = names.into_iter().find(|known| strsim::damerau_levenshtein(module, known) <= 2);
    match near {
        Some(near) => Err(format!("unknown module {module:?}; did you mean {near}?")),
        None if module.is_empty() => {
            Err("the name of the module is missing before =; for example: pool=debug".to_owned())
        }
        None => Ok(module.to_owned()),
    }
}

/// Whether systemd connected stderr to the journal: `JOURNAL_STREAM` is its device and inode.
fn is_journal_stream(stream: Option<&str>) -> bool {
    let expected = stream.and_then(|stream| stream.split_once(':'));
    let expected = expected.and_then(|(device, inode)| Some((device.parse().ok()?, inode.parse().ok()?)));
    let stderr = nix::sys::stat::fstat(std::io::stderr().as_fd()).ok().map(|stat| (stat.st_dev, stat.st_ino));
    expected.is_some() && expected == stderr
}

/// Starts the log of this process. `journal_stream` is the value of `JOURNAL_STREAM`.
///
/// # Errors
/// A message: the journal was requested but cannot be reached, or `level` is invalid.
pub fn start(level: &str, target: LogTarget, journal_stream: Option<&str>) -> Result<(), String> {
    let (filter, handle) = reload::Layer::new(filter(level)?);
    let registry = tracing_subscriber::registry().with(filter);
    let journal = match target {
        LogTarget::Journal => Some(Journal::open().map_err(|error| {
            format!(
                "failed to reach the journal: {error} (log.target; use \"text\" or \"auto\" on a machine without one)"
            )
        })?),
        LogTarget::Auto if is_journal_stream(journal_stream) => Journal::open().ok(),
        _ => None,
    };
    let started = match (journal, target) {
        (Some(journal), _) => registry.with(journal).try_init(),
        (None, LogTarget::Json) => {
            let json = lines::layer().json().flatten_event(true).with_current_span(false).with_span_list(false);
            registry.with(json.with_writer(std::io::stderr)).try_init()
        }
        (None, _) => {
            let colour = std::io::stderr().is_terminal();
            let text = lines::layer().with_writer(std::io::stderr).with_ansi(colour).with_target(false);
            registry.with(text.fmt_fields(debug_fn(field).delimited(" "))).try_init()
        }
    };
    started.map_err(|error| format!("failed to start the log: {error}"))?;
    let _ = LEVEL.set(handle);
    // a panic ends only its task: without this it is a line without a priority
    std::panic::set_hook(Box::new(|panic| tracing::error!("{}", clean(&panic.to_string()))));
    Ok(())
}

/// A message for stderr before the log was started, or when it could not be. The journal reads a
/// priority at the start of a line; there it is an error.
pub fn as_error(message: &str, journal_stream: Option<&str>) -> String {
    match is_journal_stream(journal_stream) {
        true => message.lines().map(|line| format!("<3>{line}")).collect::<Vec<_>>().join("\n"),
        false => message.to_owned(),
    }
}

/// Formats one field of a line of text.
fn field(writer: &mut Writer<'_>, field: &tracing::field::Field, value: &dyn fmt::Debug) -> fmt::Result {
    let text = clean(&format!("{value:?}"));
    match field.name() {
        "message" => write!(writer, "{text}"),
        name if writer.has_ansi_escapes() => write!(writer, "\u{1b}[2m{name}=\u{1b}[0m{}", quoted(&text)),
        name => write!(writer, "{name}={}", quoted(&text)),
    }
}

/// Changes the levels at run time.
///
/// # Errors
/// See [`filter`].
pub fn set_level(level: &str) -> Result<(), String> {
    let filter = filter(level)?;
    match LEVEL.get() {
        Some(handle) => handle.reload(filter).map_err(|error| error.to_string()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_apply_to_all_modules_or_to_single_ones() {
        let filter = filter("warn, pool=debug,hyper=trace").unwrap();
        use tracing::Level;
        assert!(filter.would_enable("sandbox::pool::replenisher", &Level::DEBUG));
        assert!(!filter.would_enable("server::rpc", &Level::INFO));
        assert!(filter.would_enable("hyper::proto", &Level::TRACE));
        assert!(super::filter("").unwrap().would_enable("server::rpc", &Level::INFO));
    }

    #[test]
    fn an_invalid_level_is_an_error_with_the_valid_ones() {
        for (text, expected) in [
            ("loud", "use off, error, warn, info, debug or trace"),
            ("info,pol=debug", "did you mean pool?"),
            ("=debug", "module is missing"),
            ("pool=7", "is not a valid level"),
        ] {
            let error = filter(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn only_the_device_and_inode_of_stderr_match_the_journal_stream() {
        let stat = nix::sys::stat::fstat(std::io::stderr().as_fd()).unwrap();
        assert!(is_journal_stream(Some(&format!("{}:{}", stat.st_dev, stat.st_ino))));
        assert!(!is_journal_stream(Some("1:1")) && !is_journal_stream(Some("x")) && !is_journal_stream(None));
    }
}
