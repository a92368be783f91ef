//! Full-screen terminal mode: alternate screen, hidden cursor, unbuffered keys. The terminal is
//! restored on drop and while the program is stopped.
//!
//! ```text
//!  enter --> frames, each cut to the window --drop--> restored
//!              ^--------- resume <-- stopped <-- suspend (Ctrl-Z)
//! ```

use std::io::IsTerminal;
use std::os::fd::AsFd;

use nix::sys::signal::{Signal, raise};
use nix::sys::termios::{LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr};

use super::out;

/// A terminal in full-screen mode.
pub struct Screen {
    /// The settings to restore; `None` if stdin is not a terminal.
    saved: Option<Termios>,
}

impl Screen {
    /// Enters full-screen mode; `None` if stdout is not a terminal.
    pub fn start() -> Option<Screen> {
        if !std::io::stdout().is_terminal() {
            return None;
        }
        let screen = Screen { saved: tcgetattr(std::io::stdin().as_fd()).ok() };
        screen.enter();
        Some(screen)
    }

    fn enter(&self) {
        if let Some(saved) = &self.saved {
            let mut keys = saved.clone();
            // No echo, no wait for Enter. Ctrl-C and Ctrl-Z still send signals.
            keys.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO);
            keys.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
            keys.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
            let _ = tcsetattr(std::io::stdin().as_fd(), SetArg::TCSANOW, &keys);
        }
        out::stdout("\x1b[?1049h\x1b[?25l\x1b[H\x1b[2J");
    }

    fn leave(&self) {
        if let Some(saved) = &self.saved {
            let _ = tcsetattr(std::io::stdin().as_fd(), SetArg::TCSANOW, saved);
        }
        // Errors are ignored: the terminal may be gone.
        let _ = std::io::Write::write_all(&mut std::io::stdout().lock(), b"\x1b[?25h\x1b[?1049l");
        let _ = std::io::Write::flush(&mut std::io::stdout().lock());
    }

    /// Whether single keys can be read.
    pub fn has_keys(&self) -> bool {
        self.saved.is_some()
    }

    /// Restores the terminal and stops the process; returns when it is resumed.
    pub fn suspend(&self) {
        self.leave();
        let _ = raise(Signal::SIGSTOP);
        self.enter();
    }

    /// Shows a frame, cut to the window.
    pub fn show(&self, text: &str) {
        let (columns, rows) = window_size();
        // Overwrite line by line and clear the rest: clearing the screen first would flicker.
        out::stdout(format!("\x1b[H{}\x1b[J", fit(text, columns, rows).join("\x1b[K\r\n") + "\x1b[K"));
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.leave();
    }
}

/// The window's (columns, rows).
fn window_size() -> (usize, usize) {
    let (rows, columns) = console::Term::stdout().size();
    (usize::from(columns).max(1), usize::from(rows).max(1))
}

/// The lines that fit into the window; if some do not, the last line says how many.
fn fit(text: &str, columns: usize, rows: usize) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(|line| cut(line, columns)).collect();
    if lines.len() > rows {
        let hidden = lines.len() - rows + 1;
        lines.truncate(rows - 1);
        lines.push(cut(&format!("... {hidden} more lines; enlarge the window to see them"), columns));
    }
    lines
}

/// The first columns of a line. Escape sequences take no columns; styles are reset at the cut.
fn cut(line: &str, columns: usize) -> String {
    let mut kept = String::new();
    let (mut width, mut in_escape) = (0, false);
    for c in line.chars() {
        if in_escape {
            kept.push(c);
            in_escape = !c.is_ascii_alphabetic();
        } else if c == '\x1b' {
            kept.push(c);
            in_escape = true;
        } else if width == columns {
            return kept + "\x1b[0m";
        } else {
            kept.push(c);
            width += 1;
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_at_the_window_width_without_counting_escapes() {
        assert_eq!(cut("\x1b[32mabc\x1b[0m", 3), "\x1b[32mabc\x1b[0m");
        assert_eq!(cut("\x1b[32mabcd\x1b[0m", 3), "\x1b[32mabc\x1b[0m");
        assert_eq!(cut("ab", 3), "ab");
    }

    #[test]
    fn a_small_window_says_how_many_lines_are_hidden() {
        assert_eq!(fit("a\nb\nc", 80, 3), ["a", "b", "c"]);
        let lines = fit("a\nb\nc\nd", 80, 3);
        assert!(lines.len() == 3 && lines[2].starts_with("... 2 more"), "{lines:?}");
    }
}
