//! `assay top`: shows the daemon's status once per interval, with the rate of answers.
//!
//! On a terminal it uses the full screen until q or Ctrl-C, and reconnects when the daemon is gone.
//! Otherwise it prints plain frames, or JSON lines with `--json`, and a missing daemon is an error.

use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::client::{ClientError, RpcClient};
use super::error_output::describe;
use super::interrupt::{self, Interrupt};
use super::out::{self, OutputFormat, TextStyle};
use super::screen::Screen;
use super::{CliError, status};

/// Arguments of `top`.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// Seconds between two updates
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    pub interval: f64,
    /// Exit after N updates, printed as plain frames
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("expected a number of seconds from 0.1 to 3600".to_owned()),
    }
}

/// Reads keys in a thread of its own, since reading a terminal blocks.
fn read_keys() -> UnboundedReceiver<u8> {
    let (sender, keys) = unbounded_channel();
    std::thread::spawn(move || {
        for byte in std::io::Read::bytes(std::io::stdin().lock()) {
            if !byte.is_ok_and(|byte| sender.send(byte).is_ok()) {
                return;
            }
        }
    });
    keys
}

/// Fetches the status; reconnects after an error.
struct StatusSource<'a> {
    socket: &'a Path,
    client: Option<RpcClient>,
    /// When the last status was fetched, and its count of answers.
    last: Option<(Instant, u64)>,
}

impl StatusSource<'_> {
    async fn fetch(&mut self) -> Result<Value, ClientError> {
        let client = match &mut self.client {
            Some(client) => client,
            none => none.insert(RpcClient::connect(self.socket).await?),
        };
        let status = client.call("daemon.status", json!({})).await;
        if status.is_err() {
            self.client = None;
        }
        status
    }

    /// The status as text, with the rate of answers since the call before.
    fn frame(&mut self, status: &Value) -> String {
        let (now, answered) = (Instant::now(), status["counters"]["answered"].as_u64().unwrap_or(0));
        let last = self.last.replace((now, answered));
        status::render(status, last.map(|(at, count)| per_second(count, answered, now - at)))
    }
}

/// What can happen between two updates.
enum TopEvent {
    Timer,
    Quit,
    WindowChange,
    Suspend,
}

/// The sources of events.
struct TopEvents {
    interrupt: Option<Interrupt>,
    window_change: Signal,
    suspend: Signal,
    /// `None` if keys are not read.
    keys: Option<UnboundedReceiver<u8>>,
}

impl TopEvents {
    fn listen() -> std::io::Result<TopEvents> {
        Ok(TopEvents {
            interrupt: Interrupt::listen(),
            window_change: signal(SignalKind::window_change())?,
            suspend: signal(SignalKind::from_raw(nix::libc::SIGTSTP))?,
            keys: None,
        })
    }

    async fn next(&mut self, deadline: Instant) -> TopEvent {
        loop {
            let key = async {
                match &mut self.keys {
                    Some(keys) => keys.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = tokio::time::sleep_until(deadline.into()) => return TopEvent::Timer,
                _ = interrupt::next(&mut self.interrupt) => return TopEvent::Quit,
                _ = self.window_change.recv() => return TopEvent::WindowChange,
                _ = self.suspend.recv() => return TopEvent::Suspend,
                key = key => match key {
                    Some(b'q' | b'Q') => return TopEvent::Quit,
                    Some(_) => {}
                    None => self.keys = None,
                },
            }
        }
    }
}

/// Runs `assay top`.
///
/// # Errors
/// A broken connection, or an error response; on a terminal only for the first status.
pub async fn top(socket: &Path, output: OutputFormat, args: TopArgs) -> Result<u8, CliError> {
    let Ok(mut events) = TopEvents::listen() else { return Ok(1) };
    let mut source = StatusSource { socket, client: None, last: None };
    let mut status = source.fetch().await;
    if let Err(error) = status {
        return Err(error.into());
    }
    let screen = if output.is_json() || args.count.is_some() { None } else { Screen::start() };
    if screen.as_ref().is_some_and(Screen::has_keys) {
        events.keys = Some(read_keys());
    }
    let mut updates = 0;
    loop {
        let text = match status {
            Ok(status) if output.is_json() => {
                out::line(&status);
                None
            }
            Ok(status) => Some(source.frame(&status)),
            Err(error) if screen.is_none() => return Err(error.into()),
            Err(error) => Some(error_frame(&error.into())),
        };
        match (&screen, &text) {
            (Some(screen), Some(text)) => screen.show(text),
            (None, Some(text)) => out::line(text),
            (_, None) => {}
        }
        updates += 1;
        if args.count.is_some_and(|count| updates >= count) {
            return Ok(0);
        }
        let deadline = Instant::now() + Duration::from_secs_f64(args.interval);
        if pause(&mut events, deadline, screen.as_ref(), text.as_deref().unwrap_or_default()).await {
            return Ok(0);
        }
        status = source.fetch().await;
    }
}

/// Waits for the deadline; returns early with `true` when the user quits. Redraws `text` when
/// needed.
async fn pause(events: &mut TopEvents, deadline: Instant, screen: Option<&Screen>, text: &str) -> bool {
    loop {
        match (events.next(deadline).await, screen) {
            (TopEvent::Timer, _) => return false,
            (TopEvent::Quit, _) => return true,
            (TopEvent::WindowChange, None) => {}
            (TopEvent::WindowChange, Some(screen)) => screen.show(text),
            (TopEvent::Suspend, None) => drop(nix::sys::signal::raise(nix::sys::signal::Signal::SIGSTOP)),
            (TopEvent::Suspend, Some(screen)) => {
                screen.suspend();
                screen.show(text);
            }
        }
    }
}

/// The frame while the daemon cannot be reached.
fn error_frame(error: &CliError) -> String {
    let (sentence, remedy) = describe(error);
    let text = wrap(&out::clean(&sentence), 72) + "\n" + &wrap(&remedy.unwrap_or_default(), 72);
    let prefix = out::styled("assay:", TextStyle::Red);
    format!("{prefix} {}\n\nTrying again. Press q to quit.\n", text.replace('\n', "\n  "))
}

/// Wraps text at spaces, at most `columns` wide unless a word is longer.
fn wrap(text: &str, columns: usize) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}

fn per_second(before: u64, after: u64, time: Duration) -> f64 {
    after.saturating_sub(before) as f64 / time.as_secs_f64().max(1e-3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_covers_the_time_between_two_updates() {
        assert_eq!(per_second(10, 30, Duration::from_secs(2)), 10.0);
        // A restarted daemon counts from zero.
        assert_eq!(per_second(30, 10, Duration::from_secs(2)), 0.0);
    }

    #[test]
    fn text_wraps_at_spaces() {
        assert_eq!(wrap("one two three", 7), "one two\nthree");
        assert_eq!(wrap("extraordinary", 5), "extraordinary");
    }

    #[test]
    fn an_interval_is_within_its_bounds() {
        assert!(seconds("0.5").is_ok() && seconds("0").is_err() && seconds("x").is_err() && seconds("nan").is_err());
    }
}
