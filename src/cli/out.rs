//! Output of the commands: stdout and stderr, text or JSON, colours, and how figures are written.
//!
//! A write to a closed pipe ends the program with the status of SIGPIPE and without a message
//! (`assay status | head -1`); any other that fails, such as to a full disk, with a message.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU8, Ordering};

use serde_json::Value;

/// How a command prints its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputFormat {
    /// Text and tables.
    Text,
    /// JSON documents (`--json`).
    Json,
}

impl OutputFormat {
    pub fn is_json(self) -> bool {
        self == OutputFormat::Json
    }

    /// Prints `value` as JSON, or calls `text` to print it as text.
    pub fn print(self, value: &impl serde::Serialize, text: impl FnOnce()) {
        match self {
            // Serialization of these types cannot fail.
            OutputFormat::Json => json(&serde_json::to_value(value).unwrap_or_default()),
            OutputFormat::Text => text(),
        }
    }
}

/// Writes to stdout and flushes it.
pub fn stdout(text: impl AsRef<[u8]>) {
    let mut stdout = std::io::stdout().lock();
    if let Err(error) = stdout.write_all(text.as_ref()).and_then(|()| stdout.flush()) {
        std::process::exit(unwritten(&error).into());
    }
}

/// The status of a command whose output was lost. No program's own status looks like it.
const UNWRITTEN: u8 = 125;

/// The status after output that could not be written; says why, unless the reader is gone.
pub fn unwritten(error: &std::io::Error) -> u8 {
    if error.kind() == std::io::ErrorKind::BrokenPipe {
        return 128 + 13;
    }
    note(format_args!("assay: failed to write the output: {error}"));
    UNWRITTEN
}

/// Writes to stderr; errors are ignored.
pub fn stderr(text: impl AsRef<[u8]>) {
    let _ = std::io::stderr().lock().write_all(text.as_ref());
}

/// Prints a line on stdout.
pub fn line(text: impl std::fmt::Display) {
    stdout(format!("{text}\n"));
}

/// Prints a line on stderr.
pub fn note(text: impl std::fmt::Display) {
    stderr(format!("{text}\n"));
}

/// Prints JSON on stdout: indented on a terminal, one line otherwise.
pub fn json(value: &Value) {
    if std::io::stdout().is_terminal() { line(format_args!("{value:#}")) } else { line(value) }
}

/// A text style that every terminal has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextStyle {
    Green,
    Yellow,
    Red,
    Dim,
    Bold,
}

impl TextStyle {
    fn escape_code(self) -> &'static str {
        match self {
            TextStyle::Green => "\x1b[32m",
            TextStyle::Yellow => "\x1b[33m",
            TextStyle::Red => "\x1b[31m",
            TextStyle::Dim => "\x1b[2m",
            TextStyle::Bold => "\x1b[1m",
        }
    }

    /// The text with the escape codes of this style, whatever it is printed to.
    pub fn apply(self, text: &str) -> String {
        format!("{}{text}\x1b[0m", self.escape_code())
    }
}

/// The choice of `--color`, set once at start.
static COLORS: AtomicU8 = AtomicU8::new(AUTO);
const AUTO: u8 = 0;
const ALWAYS: u8 = 1;
const NEVER: u8 = 2;

pub fn set_colors(choice: clap::ColorChoice) {
    let choice = match choice {
        clap::ColorChoice::Auto => AUTO,
        clap::ColorChoice::Always => ALWAYS,
        clap::ColorChoice::Never => NEVER,
    };
    COLORS.store(choice, Ordering::Relaxed);
}

fn has_colors(stream: &impl IsTerminal) -> bool {
    match COLORS.load(Ordering::Relaxed) {
        ALWAYS => true,
        NEVER => false,
        _ => stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
    }
}

/// Whether stdout gets colour: by `--color`, else on a terminal unless NO_COLOR is set.
pub fn stdout_has_colors() -> bool {
    has_colors(&std::io::stdout())
}

/// The text in a style, if stdout gets colour.
pub fn styled(text: &str, style: TextStyle) -> String {
    if stdout_has_colors() { style.apply(text) } else { text.to_owned() }
}

/// The text in a style, if stderr gets colour.
pub fn styled_for_stderr(text: &str, style: TextStyle) -> String {
    if has_colors(&std::io::stderr()) { style.apply(text) } else { text.to_owned() }
}

/// Replaces control characters except newline and tab, so that untrusted text cannot send escape
/// sequences to the terminal.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect()
}

/// A scalar field as text; `-` if it is missing or empty.
pub fn text(value: &Value, key: &str) -> String {
    match &value[key] {
        Value::String(text) if !text.is_empty() => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(flag) => if *flag { "yes" } else { "no" }.to_owned(),
        _ => "-".to_owned(),
    }
}

/// Who called, as a row says it: a daemon of version 0.1 knows only uids.
pub fn caller(row: &Value) -> String {
    let named = row["account"].as_str().or_else(|| row["principal"].as_str()).map(clean);
    named.or_else(|| row["uid"].as_u64().map(|uid| format!("uid:{uid}"))).unwrap_or_else(|| "-".to_owned())
}

/// A list field; empty if it is missing.
pub fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

/// A duration in milliseconds with a fitting unit: `0.42 ms`, `118 ms`, `2.10 s`, `3 min`, `5 h`.
pub fn millis(ms: f64) -> String {
    match ms {
        _ if ms < 10.0 => format!("{ms:.2} ms"),
        _ if ms < 100.0 => format!("{ms:.1} ms"),
        _ if ms < 1000.0 => format!("{ms:.0} ms"),
        _ if ms < 120_000.0 => format!("{:.2} s", ms / 1000.0),
        _ if ms < 7_200_000.0 => format!("{:.0} min", ms / 60_000.0),
        _ => format!("{:.0} h", ms / 3_600_000.0),
    }
}

/// A field in milliseconds; `-` if it is missing.
pub fn millis_of(value: &Value, key: &str) -> String {
    value[key].as_f64().map_or("-".to_owned(), millis)
}

/// A size with a fitting unit, in powers of 1024.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut size = count as f64 / 1024.0;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

/// A field in bytes; `-` if it is missing.
pub fn bytes_of(value: &Value, key: &str) -> String {
    value[key].as_u64().map_or("-".to_owned(), bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_fitting_units() {
        assert_eq!((millis(0.418), millis(2100.0)), ("0.42 ms".into(), "2.10 s".into()));
        assert_eq!((bytes(512), bytes(128 << 20)), ("512 B".into(), "128.0 MiB".into()));
    }
}
