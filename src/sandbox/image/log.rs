//! The log of a build: a file, and its last lines for the error message.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Lines that an error message shows.
const SHOWN_LINES: usize = 6;
/// Characters of each of them.
const SHOWN_CHARS: usize = 300;

/// A line without colours and control characters: build tools write for a terminal.
fn without_control(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        // ESC [ parameters letter
        if c == '\u{1b}' {
            if chars.next() == Some('[') {
                chars.by_ref().find(|end| ('@'..='~').contains(end));
            }
        } else if !c.is_control() || c == '\t' {
            text.push(c);
        }
    }
    text
}

pub(super) struct BuildLog {
    path: PathBuf,
    /// `None` when the file cannot be written; the build continues.
    file: Option<File>,
    last: VecDeque<String>,
}

impl BuildLog {
    pub(super) fn open(folder: &Path, name: &str) -> BuildLog {
        let stamp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let path = folder.join(format!("{name}-{stamp}.log"));
        let _ = std::fs::create_dir_all(folder);
        let file = File::create(&path).inspect_err(|error| {
            tracing::warn!(log = %path.display(), %error, "the build's log cannot be kept");
        });
        BuildLog { path, file: file.ok(), last: VecDeque::new() }
    }

    /// Adds text; empty lines are dropped.
    pub(super) fn add(&mut self, text: &str) {
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            if let Some(file) = &mut self.file {
                let _ = writeln!(file, "{line}");
            }
            if self.last.len() == SHOWN_LINES {
                self.last.pop_front();
            }
            let line = without_control(line);
            let line: String = line.trim().chars().take(SHOWN_CHARS).collect();
            // three attempts often fail alike
            self.last.retain(|earlier| *earlier != line);
            if !line.is_empty() {
                self.last.push_back(line);
            }
        }
    }

    pub(super) fn last_lines(&self) -> String {
        Vec::from_iter(self.last.iter().map(String::as_str)).join(" | ")
    }

    pub(super) fn into_path(self) -> PathBuf {
        self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_an_error_have_no_colours_and_none_is_there_twice() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = BuildLog::open(folder.path(), "x");
        for _ in 0..3 {
            log.add("Step 1\r\n\u{1b}[91mE: Unable to locate package nope\u{1b}[0m\n\u{1b}[0m\nthe engine said no");
        }
        assert_eq!(log.last_lines(), "Step 1 | E: Unable to locate package nope | the engine said no");
    }
}
