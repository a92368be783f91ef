//! `assay top`: the status, again and again, with the rate of answers between two looks. On a terminal it has the screen to
//! itself until q or Ctrl-C, and a daemon that is gone is waited for; elsewhere plain frames, or with `--json` lines, follow
//! each other, and a daemon that is gone is an error.

use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use super::client::{RpcClient, RpcError};
use super::complaint::sentences;
use super::interrupt::{self, Interrupt};
use super::out::{self, Tint};
use super::screen::Screen;
use super::{CliError, status};

/// Arguments of `top`.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// Seconds between two looks
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    pub interval: f64,
    /// End after so many looks, which follow each other as plain frames
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("give a number of seconds from 0.1 to 3600".to_owned()),
    }
}

/// Keys, from a thread of their own: a terminal has no other way to be read while one waits for something else.
fn keys() -> tokio::sync::mpsc::UnboundedReceiver<u8> {
    let (sender, keys) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for byte in std::io::Read::bytes(std::io::stdin().lock()) {
            if !byte.is_ok_and(|byte| sender.send(byte).is_ok()) {
                return;
            }
        }
    });
    keys
}

/// A daemon that may come and go.
struct Watched<'a> {
    socket: &'a Path,
    client: Option<RpcClient>,
}

impl Watched<'_> {
    async fn status(&mut self) -> Result<Value, RpcError> {
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
}

/// Watches until it is interrupted, or has looked often enough.
///
/// # Errors
/// The daemon's; on a terminal only at the first look.
pub async fn top(socket: &Path, json: bool, args: TopArgs) -> Result<u8, CliError> {
    let pause = Duration::from_secs_f64(args.interval);
    let mut interrupt = Interrupt::listen();
    let (Ok(mut resized), Ok(mut stopped)) =
        (signal(SignalKind::window_change()), signal(SignalKind::from_raw(nix::libc::SIGTSTP)))
    else {
        return Ok(1);
    };
    let mut daemon = Watched { socket, client: None };
    let mut look = Some(daemon.status().await?);
    let screen = if json || args.count.is_some() { None } else { Screen::take() };
    let mut keys = screen.as_ref().filter(|screen| screen.has_keys()).map(|_| keys());
    let mut before: Option<(Instant, u64)> = None;
    let mut looks = 0;
    loop {
        let status = match look.take() {
            Some(status) => Ok(status),
            None => daemon.status().await,
        };
        let text = match status {
            Ok(status) if json => {
                out::line(&status);
                String::new()
            }
            Ok(status) => {
                let (now, answered) = (Instant::now(), status["counters"]["answered"].as_u64().unwrap_or(0));
                let rate = before.map(|(at, count)| per_second(count, answered, now - at));
                before = Some((now, answered));
                frame(&status, rate)
            }
            Err(error) if screen.is_none() => return Err(error.into()),
            Err(error) => gone(&error.into()),
        };
        match &screen {
            Some(screen) => screen.show(&text),
            None if json => {}
            None => out::line(&text),
        }
        looks += 1;
        if args.count.is_some_and(|count| looks >= count) {
            return Ok(0);
        }
        let next = tokio::time::sleep(pause);
        tokio::pin!(next);
        loop {
            let key = async {
                match &mut keys {
                    Some(keys) => keys.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = &mut next => break,
                _ = interrupt::next(&mut interrupt) => return Ok(0),
                key = key => match key {
                    Some(b'q' | b'Q') => return Ok(0),
                    Some(_) => {}
                    None => keys = None,
                },
                // at once in the new window, and where it was left
                _ = resized.recv(), if screen.is_some() => screen.iter().for_each(|screen| screen.show(&text)),
                _ = stopped.recv() => match &screen {
                    Some(screen) => {
                        screen.suspend();
                        screen.show(&text);
                    }
                    None => drop(nix::sys::signal::raise(nix::sys::signal::Signal::SIGSTOP)),
                },
            }
        }
    }
}

/// What is shown while there is no daemon.
fn gone(error: &CliError) -> String {
    let (sentence, remedy) = sentences(error);
    let said = folded(&out::clean(&sentence), 72) + "\n" + &folded(&remedy.unwrap_or_default(), 72);
    format!("{} {}\n\nTrying again. q leaves.\n", out::tint("assay:", Tint::Red), said.replace('\n', "\n  "))
}

/// Words in lines of at most so many characters, unless a word is longer.
fn folded(text: &str, columns: usize) -> String {
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

fn frame(status: &Value, rate: Option<f64>) -> String {
    status::render_with(status, rate.map(|rate| format!("{rate:.1}")).as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_of_the_time_between_two_looks() {
        assert_eq!(per_second(10, 30, Duration::from_secs(2)), 10.0);
        // a daemon that was restarted counts from zero
        assert_eq!(per_second(30, 10, Duration::from_secs(2)), 0.0);
    }

    #[test]
    fn what_is_said_is_folded_at_words() {
        assert_eq!(folded("one two three", 7), "one two\nthree");
        assert_eq!(folded("extraordinary", 5), "extraordinary");
    }

    #[test]
    fn an_interval_is_a_sane_number() {
        assert!(seconds("0.5").is_ok() && seconds("0").is_err() && seconds("x").is_err() && seconds("nan").is_err());
    }
}
