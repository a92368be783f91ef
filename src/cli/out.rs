//! What people see: aligned tables, colour on a terminal only, and writes that end the program quietly when the reader
//! of a pipe has left (`assay status | head -1`).

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU8, Ordering};

use serde_json::Value;

/// Writes text to stdout. A reader that left ends the program, as SIGPIPE would.
pub fn stdout(text: impl AsRef<[u8]>) {
    write_or_leave(std::io::stdout().lock(), text.as_ref());
}

/// Writes text to stderr.
pub fn stderr(text: impl AsRef<[u8]>) {
    let _ = std::io::stderr().lock().write_all(text.as_ref());
}

fn write_or_leave(mut to: impl Write, bytes: &[u8]) {
    if to.write_all(bytes).and_then(|()| to.flush()).is_err() {
        std::process::exit(128 + 13);
    }
}

/// One line on stdout.
pub fn line(text: impl std::fmt::Display) {
    stdout(format!("{text}\n"));
}

/// One line on stderr.
pub fn note(text: impl std::fmt::Display) {
    stderr(format!("{text}\n"));
}

/// JSON on stdout: indented for a terminal, one line otherwise.
pub fn json(value: &Value) {
    if std::io::stdout().is_terminal() { line(format_args!("{value:#}")) } else { line(value) }
}

/// The same of what can be written as JSON.
pub fn json_of(value: &impl serde::Serialize) {
    // what is ours always can
    json(&serde_json::to_value(value).unwrap_or_default());
}

/// A colour of the sixteen that every terminal has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tint {
    /// Good.
    Green,
    /// Worth a look.
    Yellow,
    /// Bad.
    Red,
    /// Secondary.
    Dim,
    /// Headings.
    Bold,
}

/// What `--color` says.
static COLOURS: AtomicU8 = AtomicU8::new(AUTO);
const AUTO: u8 = 0;
const ALWAYS: u8 = 1;
const NEVER: u8 = 2;

/// From now on.
pub fn set_colours(choice: clap::ColorChoice) {
    let choice = match choice {
        clap::ColorChoice::Auto => AUTO,
        clap::ColorChoice::Always => ALWAYS,
        clap::ColorChoice::Never => NEVER,
    };
    COLOURS.store(choice, Ordering::Relaxed);
}

fn colours_on(stream: &impl IsTerminal) -> bool {
    match COLOURS.load(Ordering::Relaxed) {
        ALWAYS => true,
        NEVER => false,
        _ => stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
    }
}

/// Whether stdout may carry colour: `--color`, or a terminal, and NO_COLOR not set.
pub fn colours() -> bool {
    colours_on(&std::io::stdout())
}

/// The text in a colour, when stdout may carry it.
pub fn tint(text: &str, tint: Tint) -> String {
    if colours() { format!("{}{text}\x1b[0m", code(tint)) } else { text.to_owned() }
}

/// The text in a colour, when stderr may carry it.
pub fn tint_on_stderr(text: &str, tint: Tint) -> String {
    if colours_on(&std::io::stderr()) { format!("{}{text}\x1b[0m", code(tint)) } else { text.to_owned() }
}

fn code(tint: Tint) -> &'static str {
    match tint {
        Tint::Green => "\x1b[32m",
        Tint::Yellow => "\x1b[33m",
        Tint::Red => "\x1b[31m",
        Tint::Dim => "\x1b[2m",
        Tint::Bold => "\x1b[1m",
    }
}

/// Text from elsewhere without control characters, so that no program under test can write to the terminal through us.
/// Line ends and tabs stay.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect()
}

/// A table under construction. Columns whose cells are all numbers (with a unit) lean right.
#[derive(Debug)]
pub struct Table {
    head: Vec<String>,
    rows: Vec<Vec<(String, Option<Tint>)>>,
}

impl Table {
    /// A table with these headings.
    pub fn new(head: &[&str]) -> Table {
        Table { head: head.iter().map(|name| (*name).to_owned()).collect(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row<I: IntoIterator<Item = String>>(&mut self, cells: I) {
        self.tinted(cells.into_iter().map(|cell| (cell, None)));
    }

    /// Adds a row with colours.
    pub fn tinted<I: IntoIterator<Item = (String, Option<Tint>)>>(&mut self, cells: I) {
        self.rows.push(cells.into_iter().map(|(cell, tint)| (clean(&cell).replace(['\n', '\t'], " "), tint)).collect());
    }

    /// Whether no row was added.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as text, with colour or without.
    pub fn render(&self, colour: bool) -> String {
        let wide = |text: &str| text.chars().count();
        let cell = |row: &Vec<(String, Option<Tint>)>, at: usize| row.get(at).map_or(String::new(), |c| c.0.clone());
        let shape: Vec<(usize, bool)> = (0..self.head.len())
            .map(|at| {
                let width =
                    self.rows.iter().map(|row| wide(&cell(row, at))).max().unwrap_or(0).max(wide(&self.head[at]));
                let mut digits = false;
                let right = self.rows.iter().map(|row| cell(row, at)).filter(|text| text != "-").all(|text| {
                    digits = true;
                    let (number, unit) = text.split_once(' ').unwrap_or((text.as_str(), ""));
                    number.parse::<f64>().is_ok() && !unit.contains(' ')
                });
                (width, right && digits)
            })
            .collect();
        let mut text = String::new();
        let mut push = |cells: &[(String, Option<Tint>)]| {
            let mut row = String::new();
            for (at, &(width, right)) in shape.iter().enumerate() {
                let (content, tint) = cells.get(at).map_or(("", None), |(content, tint)| (content.as_str(), *tint));
                let pad = " ".repeat(width - wide(content));
                let content = match tint {
                    Some(tint) if colour && !content.is_empty() => format!("{}{content}\x1b[0m", code(tint)),
                    _ => content.to_owned(),
                };
                if at > 0 {
                    row.push_str("  ");
                }
                row.push_str(&if right { pad + &content } else { content + &pad });
            }
            text.push_str(row.trim_end());
            text.push('\n');
        };
        push(&self.head.iter().map(|name| (name.clone(), Some(Tint::Dim))).collect::<Vec<_>>());
        self.rows.iter().for_each(|row| push(row));
        text
    }

    /// Prints it on stdout, or the word given when it is empty.
    pub fn print(&self, when_empty: &str) {
        if self.is_empty() { line(when_empty) } else { stdout(self.render(colours())) }
    }
}

/// A string field, or `-`.
pub fn text(value: &Value, key: &str) -> String {
    match &value[key] {
        Value::String(text) if !text.is_empty() => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(flag) => if *flag { "yes" } else { "no" }.to_owned(),
        _ => "-".to_owned(),
    }
}

/// A list field; empty when it is missing.
pub fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

/// Milliseconds for people: `0.42 ms`, `118 ms`, `2.1 s`, `3 min`, `5 h`.
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

/// A millisecond field for people, or `-`.
pub fn millis_of(value: &Value, key: &str) -> String {
    value[key].as_f64().map_or("-".to_owned(), millis)
}

/// Bytes for people, in powers of 1024.
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

/// A byte field for people, or `-`.
pub fn bytes_of(value: &Value, key: &str) -> String {
    value[key].as_u64().map_or("-".to_owned(), bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_lean_right_and_words_left() {
        let mut table = Table::new(&["name", "ready"]);
        table.row(["python".into(), "2".into()]);
        table.row(["c".into(), "10".into()]);
        assert_eq!(table.render(false), "name    ready\npython      2\nc          10\n");
        let mut ids = Table::new(&["sandbox", "age"]);
        ids.row(["8fce".into(), "2.10 s".into()]);
        assert_eq!(ids.render(false), "sandbox     age\n8fce     2.10 s\n");
    }

    #[test]
    fn a_cell_cannot_write_to_the_terminal() {
        let mut table = Table::new(&["message"]);
        table.row(["a\x1b[2Jb\nc".into()]);
        assert!(!table.render(false).contains('\x1b'));
        assert_eq!(table.render(false).lines().count(), 2);
    }

    #[test]
    fn figures_read_well() {
        assert_eq!((millis(0.418), millis(2100.0)), ("0.42 ms".into(), "2.10 s".into()));
        assert_eq!((bytes(512), bytes(128 << 20)), ("512 B".into(), "128.0 MiB".into()));
    }
}
