//! Waits, shown: on a terminal, on stderr, once they have lasted a second. Elsewhere nothing is written.
//!
//! ```text
//!  over(future) --a second--> a line that turns, with what is waited for and since when --the end, or stop()--> gone
//! ```

use std::cell::{Cell, RefCell};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

use super::out;

/// A wait that is shorter is not worth a line.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often the line turns.
const TURN: Duration = Duration::from_millis(120);
const TURNS: [char; 4] = ['|', '/', '-', '\\'];

/// One line about what is waited for. It ends where its words do: a bar would fill the window's width, and the `^C` that a
/// terminal echoes would begin another line.
#[derive(Debug)]
pub struct Waiting {
    what: RefCell<String>,
    since: Instant,
    is_shown: Cell<bool>,
    /// Whether the terminal belongs to somebody else from now on, or never was one.
    silent: Cell<bool>,
}

impl Waiting {
    /// Waits for this.
    pub fn new(what: impl Into<String>) -> Waiting {
        let silent = !std::io::stderr().is_terminal();
        Waiting {
            what: RefCell::new(what.into()),
            since: Instant::now(),
            is_shown: Cell::new(false),
            silent: Cell::new(silent),
        }
    }

    /// What is waited for now.
    pub fn say(&self, what: impl Into<String>) {
        *self.what.borrow_mut() = what.into();
    }

    /// Nothing more is shown: output comes.
    pub fn stop(&self) {
        self.silent.set(true);
        self.clear();
    }

    fn clear(&self) {
        if self.is_shown.replace(false) {
            out::stderr("\r\x1b[2K");
        }
    }

    fn show(&self, turn: usize) {
        if self.silent.get() {
            return;
        }
        let columns = usize::from(console::Term::stderr().size().1);
        let line = format!("{} {} {}", TURNS[turn % TURNS.len()], seconds(self.since.elapsed()), self.what.borrow());
        let line: String = line.chars().take(columns.saturating_sub(3)).collect();
        out::stderr(format!("\r\x1b[2K{line}"));
        self.is_shown.set(true);
    }

    /// Awaits it, and shows that when it takes long.
    pub async fn over<T>(&self, future: impl Future<Output = T>) -> T {
        tokio::pin!(future);
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + PATIENCE, TURN);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for turn in 0.. {
            tokio::select! {
                value = &mut future => {
                    self.clear();
                    return value;
                }
                _ = ticks.tick(), if !self.silent.get() => self.show(turn),
            }
        }
        future.await
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.clear();
    }
}

fn seconds(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..100 => format!("{seconds}s"),
        _ => HumanDuration(time).to_string(),
    }
}

/// What is waited for where one call is all there is.
pub const DAEMON: &str = "waiting for the daemon";

/// Awaits one thing.
pub async fn over<T>(what: impl Into<String>, future: impl Future<Output = T>) -> T {
    Waiting::new(what).over(future).await
}

/// A bar for what has a number of steps; nothing where stderr is no terminal.
pub fn steps(count: u64, what: &'static str) -> ProgressBar {
    let bar = match std::io::stderr().is_terminal() {
        true => ProgressBar::new(count),
        false => ProgressBar::hidden(),
    };
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {prefix} [{bar:30}] {pos}/{len} {msg}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.enable_steady_tick(TURN);
    bar.with_prefix(what)
}
