//! Progress on stderr, on a terminal only.
//!
//! ```text
//!  show_while(future) --1 s--> a spinner line: elapsed time, what is waited for
//!                              --future done, or stop()--> line cleared
//! ```

use std::cell::{Cell, RefCell};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

use super::out;

/// Shorter waits are not shown.
const SHOW_AFTER: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(120);
const SPINNER: [char; 4] = ['|', '/', '-', '\\'];

/// Text for a wait that is a single call.
pub const DAEMON: &str = "waiting for the daemon";

/// A spinner line that names what is waited for. It is not wider than its text: a full-width line
/// would wrap when the terminal echoes `^C`.
#[derive(Debug)]
pub struct WaitIndicator {
    what: RefCell<String>,
    since: Instant,
    is_shown: Cell<bool>,
    /// Set from the start if stderr is not a terminal, and by [`stop`](WaitIndicator::stop).
    is_silent: Cell<bool>,
}

impl WaitIndicator {
    pub fn new(what: impl Into<String>) -> WaitIndicator {
        WaitIndicator {
            what: RefCell::new(what.into()),
            since: Instant::now(),
            is_shown: Cell::new(false),
            is_silent: Cell::new(!std::io::stderr().is_terminal()),
        }
    }

    /// Changes what is waited for.
    pub fn set(&self, what: impl Into<String>) {
        *self.what.borrow_mut() = what.into();
    }

    /// Clears the line and shows nothing more; call it before other output.
    pub fn stop(&self) {
        self.is_silent.set(true);
        self.clear();
    }

    fn clear(&self) {
        if self.is_shown.replace(false) {
            out::stderr("\r\x1b[2K");
        }
    }

    fn show(&self, tick: usize) {
        if self.is_silent.get() {
            return;
        }
        let columns = usize::from(console::Term::stderr().size().1);
        let spinner = SPINNER[tick % SPINNER.len()];
        let line = format!("{spinner} {} {}", elapsed(self.since.elapsed()), self.what.borrow());
        let line: String = line.chars().take(columns.saturating_sub(3)).collect();
        out::stderr(format!("\r\x1b[2K{line}"));
        self.is_shown.set(true);
    }

    /// Awaits a future and shows the line once that takes longer than a second.
    pub async fn show_while<T>(&self, future: impl Future<Output = T>) -> T {
        tokio::pin!(future);
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + SHOW_AFTER, TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for tick in 0.. {
            tokio::select! {
                value = &mut future => {
                    self.clear();
                    return value;
                }
                _ = ticks.tick(), if !self.is_silent.get() => self.show(tick),
            }
        }
        future.await
    }
}

impl Drop for WaitIndicator {
    fn drop(&mut self) {
        self.clear();
    }
}

fn elapsed(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..100 => format!("{seconds}s"),
        _ => HumanDuration(time).to_string(),
    }
}

/// Awaits a future with a [`WaitIndicator`].
pub async fn show_while<T>(what: impl Into<String>, future: impl Future<Output = T>) -> T {
    WaitIndicator::new(what).show_while(future).await
}

/// A progress bar of `count` steps; hidden if stderr is not a terminal.
pub fn bar(count: u64, what: &'static str) -> ProgressBar {
    let bar = if std::io::stderr().is_terminal() { ProgressBar::new(count) } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {prefix} [{bar:30}] {pos}/{len} {msg}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.enable_steady_tick(TICK);
    bar.with_prefix(what)
}
