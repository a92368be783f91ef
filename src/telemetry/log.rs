//! The log: where it goes, what is said, and that it stays text.
//!
//! ```text
//!   auto:  stderr is the journal's (JOURNAL_STREAM)?  --yes--> journald, with fields (ASSAY_SUBMISSION=...)
//!                                                     --no---> lines for people on stderr, in colour on a terminal
//!   journal, text, json: what they say; json is a line each, for a pipe
//! ```
//!
//! Nothing that a program or caller writes may look like a line of ours: whatever is not printable is escaped where it enters
//! ([`clean`]), and once more where people's lines are made. Levels can be changed while the daemon runs ([`set_level`]).

use std::borrow::Cow;
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

/// What a value in a line may have, in characters: an error with its causes is a fifth of it.
const MAX_VALUE: usize = 2000;

/// The modules that may have a level of their own; `tests` compares them with the code map.
const MODULES: &[&str] = &[
    "cli",
    "config",
    "daemon",
    "docker",
    "gateway",
    "host",
    "image",
    "init",
    "judge",
    "model",
    "policy",
    "pool",
    "rpc",
    "sandbox",
    "scheduler",
    "telemetry",
    "wire",
];

/// Where the log goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// To the journal when stderr leads there, else lines for people on stderr.
    #[default]
    Auto,
    /// To the journal, with fields.
    Journal,
    /// Lines for people on stderr.
    Text,
    /// A JSON object per line on stderr.
    Json,
}

impl Target {
    /// The word in a configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Target::Auto => "auto",
            Target::Journal => "journal",
            Target::Text => "text",
            Target::Json => "json",
        }
    }

    /// The one of that word.
    pub fn named(word: &str) -> Option<Target> {
        [Target::Auto, Target::Journal, Target::Text, Target::Json].into_iter().find(|one| one.as_str() == word)
    }
}

static LEVEL: OnceLock<reload::Handle<Targets, Registry>> = OnceLock::new();

/// Reads levels: one for all, and of single modules, such as `info, pool=debug`.
///
/// # Errors
/// What is wrong, and what to write.
pub fn filter(text: &str) -> Result<Targets, String> {
    let level = |word: &str| {
        let known = ["off", "error", "warn", "info", "debug", "trace"].contains(&word.to_ascii_lowercase().as_str());
        let level = known.then(|| word.parse::<LevelFilter>().ok()).flatten();
        level.ok_or_else(|| format!("{word:?} is no level; write off, error, warn, info, debug or trace"))
    };
    let mut targets = Targets::new().with_default(LevelFilter::INFO);
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        targets = match part.split_once('=') {
            None => targets.with_default(level(part)?),
            Some((module, word)) => {
                let level = level(word.trim())?;
                targets.with_target(target(module.trim())?, level)
            }
        };
    }
    Ok(targets)
}

/// A module of ours by its short name, or any other crate's by its whole one.
fn target(module: &str) -> Result<String, String> {
    if MODULES.contains(&module) {
        return Ok(format!("assay::{module}"));
    }
    let near = MODULES.iter().find(|known| strsim::damerau_levenshtein(module, known) <= 2);
    match near {
        Some(near) => Err(format!("there is no module {module:?}; did you mean {near}?")),
        None if module.is_empty() => Err("a module's name is missing before =; write such as pool=debug".to_owned()),
        None => Ok(module.to_owned()),
    }
}

/// Whether stderr is the stream that systemd connected to the journal: `JOURNAL_STREAM` has its device and inode.
fn leads_to_journal(stream: Option<&str>) -> bool {
    let said = stream.and_then(|stream| stream.split_once(':'));
    let said = said.and_then(|(device, inode)| Some((device.parse().ok()?, inode.parse().ok()?)));
    let is = nix::sys::stat::fstat(std::io::stderr().as_fd()).ok().map(|about| (about.st_dev, about.st_ino));
    said.is_some() && said == is
}

/// Starts the log of this process. `journal_stream` is the variable of that name.
///
/// # Errors
/// In words: the journal is asked for and not there, or the level is none.
pub fn start(level: &str, target: Target, journal_stream: Option<&str>) -> Result<(), String> {
    let (filter, handle) = reload::Layer::new(filter(level)?);
    let registry = tracing_subscriber::registry().with(filter);
    let journal = match target {
        Target::Journal => Some(Journal::open().map_err(|error| {
            format!("failed to reach the journal: {error} (log.target; write \"text\" or \"auto\" where there is none)")
        })?),
        Target::Auto if leads_to_journal(journal_stream) => Journal::open().ok(),
        _ => None,
    };
    let started = match (journal, target) {
        (Some(journal), _) => registry.with(journal).try_init(),
        (None, Target::Json) => {
            let json = lines::layer().json().flatten_event(true).with_current_span(false).with_span_list(false);
            registry.with(json.with_writer(std::io::stderr)).try_init()
        }
        (None, _) => {
            let colour = std::io::stderr().is_terminal();
            let people = lines::layer().with_writer(std::io::stderr).with_ansi(colour).with_target(false);
            registry.with(people.fmt_fields(debug_fn(field).delimited(" "))).try_init()
        }
    };
    started.map_err(|error| format!("failed to start the log: {error}"))?;
    let _ = LEVEL.set(handle);
    Ok(())
}

/// One field of a line for people.
fn field(writer: &mut Writer<'_>, field: &tracing::field::Field, value: &dyn fmt::Debug) -> fmt::Result {
    let text = clean(&format!("{value:?}"));
    match field.name() {
        "message" => write!(writer, "{text}"),
        name if writer.has_ansi_escapes() => write!(writer, "\u{1b}[2m{name}=\u{1b}[0m{}", quoted(&text)),
        name => write!(writer, "{name}={}", quoted(&text)),
    }
}

/// A value that could be taken for more than one stands in quotes.
pub(super) fn quoted(text: &str) -> Cow<'_, str> {
    match !text.starts_with('"') && text.contains([' ', '=', '"']) {
        true => format!("{text:?}").into(),
        false => text.into(),
    }
}

/// Other levels from now on.
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

/// Text of others as it may stand in the log: one line, nothing that moves a terminal's cursor or turns its writing
/// direction, and not endless.
pub fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (count, c) in text.chars().enumerate() {
        if count == MAX_VALUE {
            out.push_str("...");
            break;
        }
        // marks that turn the direction of writing are not control characters, and lie as well as they do
        let turns =
            matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
        if c.is_control() || turns { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_for_all_and_for_single_modules() {
        let filter = filter("warn, pool=debug,hyper=trace").unwrap();
        use tracing::Level;
        assert!(filter.would_enable("assay::pool::keeper", &Level::DEBUG));
        assert!(!filter.would_enable("assay::rpc", &Level::INFO));
        assert!(filter.would_enable("hyper::proto", &Level::TRACE));
        assert!(super::filter("").unwrap().would_enable("assay::rpc", &Level::INFO));
    }

    #[test]
    fn a_level_that_is_none_is_told_what_there_is() {
        for (text, words) in [
            ("loud", "write off, error, warn, info, debug or trace"),
            ("info,pol=debug", "did you mean pool?"),
            ("=debug", "name is missing"),
            ("pool=7", "is no level"),
        ] {
            let error = filter(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn the_modules_with_levels_are_those_of_the_code_map() {
        let map = include_str!("../lib.rs").lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
        assert_eq!(map.collect::<Vec<_>>(), MODULES);
    }

    #[test]
    fn nothing_of_others_leaves_its_line() {
        assert_eq!(clean("a\nb\u{1b}[31mc\u{202e}d"), "a\\nb\\u{1b}[31mc\\u{202e}d");
        assert_eq!(clean("häßlich 漢"), "häßlich 漢");
        assert!(clean(&"x".repeat(100_000)).len() < 2100);
    }

    #[test]
    fn only_stderr_itself_is_the_journals_stream() {
        let about = nix::sys::stat::fstat(std::io::stderr().as_fd()).unwrap();
        assert!(leads_to_journal(Some(&format!("{}:{}", about.st_dev, about.st_ino))));
        assert!(!leads_to_journal(Some("1:1")) && !leads_to_journal(Some("x")) && !leads_to_journal(None));
    }
}
