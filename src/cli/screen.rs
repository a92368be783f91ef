//! The terminal, borrowed: the other screen, no cursor, keys as they are pressed. It is given back when dropped, and while
//! the program is stopped.
//!
//! ```text
//!  take --> frames, each fitted to the window --drop--> as it was before
//!             ^--------- resume <-- stopped <-- suspend (Ctrl-Z)
//! ```

use std::io::IsTerminal;
use std::os::fd::AsFd;

use nix::sys::signal::{Signal, raise};
use nix::sys::termios::{LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr};

use super::out;

/// A borrowed terminal.
pub struct Screen {
    /// As its keys were before; none when stdin is no terminal.
    before: Option<Termios>,
}

impl Screen {
    /// Takes it; none when stdout is no terminal.
    pub fn take() -> Option<Screen> {
        if !std::io::stdout().is_terminal() {
            return None;
        }
        let screen = Screen { before: tcgetattr(std::io::stdin().as_fd()).ok() };
        screen.enter();
        Some(screen)
    }

    fn enter(&self) {
        if let Some(before) = &self.before {
            let mut keys = before.clone();
            // no echo, no waiting for Enter; Ctrl-C and Ctrl-Z stay signals
            keys.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO);
            keys.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
            keys.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
            let _ = tcsetattr(std::io::stdin().as_fd(), SetArg::TCSANOW, &keys);
        }
        out::stdout("\x1b[?1049h\x1b[?25l\x1b[H\x1b[2J");
    }

    fn leave(&self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(std::io::stdin().as_fd(), SetArg::TCSANOW, before);
        }
        // a terminal that is gone needs nothing given back
        let _ = std::io::Write::write_all(&mut std::io::stdout().lock(), b"\x1b[?25h\x1b[?1049l");
        let _ = std::io::Write::flush(&mut std::io::stdout().lock());
    }

    /// Whether keys can be read one by one.
    pub fn has_keys(&self) -> bool {
        self.before.is_some()
    }

    /// Stops the program with the terminal given back; answers when it goes on.
    pub fn suspend(&self) {
        self.leave();
        let _ = raise(Signal::SIGSTOP);
        self.enter();
    }

    /// Shows a frame, cut to the window.
    pub fn show(&self, text: &str) {
        let (columns, rows) = size();
        // home, each line cleared to its end, then the rest of the screen: no flicker
        out::stdout(format!("\x1b[H{}\x1b[J", fitted(text, columns, rows).join("\x1b[K\r\n") + "\x1b[K"));
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.leave();
    }
}

/// The window's columns and rows.
fn size() -> (usize, usize) {
    let (rows, columns) = console::Term::stdout().size();
    (usize::from(columns).max(1), usize::from(rows).max(1))
}

/// The lines that fit; the last one says how many do not.
fn fitted(text: &str, columns: usize, rows: usize) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(|line| cut(line, columns)).collect();
    if lines.len() > rows {
        let unseen = lines.len() - rows + 1;
        lines.truncate(rows - 1);
        lines.push(cut(&format!("... {unseen} more lines; a higher window shows them"), columns));
    }
    lines
}

/// A line's first columns. Colours take none, and end where the line is cut.
fn cut(line: &str, columns: usize) -> String {
    let mut kept = String::new();
    let (mut wide, mut escape) = (0, false);
    for c in line.chars() {
        if escape {
            kept.push(c);
            escape = !c.is_ascii_alphabetic();
        } else if c == '\x1b' {
            kept.push(c);
            escape = true;
        } else if wide == columns {
            return kept + "\x1b[0m";
        } else {
            kept.push(c);
            wide += 1;
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_at_the_window_and_colours_take_no_room() {
        assert_eq!(cut("\x1b[32mabc\x1b[0m", 3), "\x1b[32mabc\x1b[0m");
        assert_eq!(cut("\x1b[32mabcd\x1b[0m", 3), "\x1b[32mabc\x1b[0m");
        assert_eq!(cut("ab", 3), "ab");
    }

    #[test]
    fn a_low_window_says_what_it_does_not_show() {
        assert_eq!(fitted("a\nb\nc", 80, 3), ["a", "b", "c"]);
        let few = fitted("a\nb\nc\nd", 80, 3);
        assert!(few.len() == 3 && few[2].starts_with("... 2 more"), "{few:?}");
    }
}
