//! `assay top`: the status, again and again, with the rate of answers between two looks. On a terminal it has the screen to
//! itself until it is interrupted; elsewhere the frames follow each other.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use super::client::RpcClient;
use super::{CliError, out, status};

/// Arguments of `top`.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// Seconds between two looks
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    pub interval: f64,
    /// End after so many looks
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("give a number of seconds from 0.1 to 3600".to_owned()),
    }
}

/// The other screen, given back when dropped.
struct Screen(bool);

impl Screen {
    fn take() -> Screen {
        let terminal = std::io::stdout().is_terminal();
        if terminal {
            out::stdout("\x1b[?1049h\x1b[?25l");
        }
        Screen(terminal)
    }

    fn show(&self, text: &str) {
        match self.0 {
            // home, each line cleared to its end, then the rest of the screen: no flicker
            true => out::stdout(format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n"))),
            false => out::stdout(format!("{text}\n")),
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.0 {
            out::stdout("\x1b[?25h\x1b[?1049l");
        }
    }
}

/// Watches until it is interrupted, or has looked often enough.
///
/// # Errors
/// The daemon's.
pub async fn top(client: &mut RpcClient, json: bool, args: TopArgs) -> Result<u8, CliError> {
    let pause = Duration::from_secs_f64(args.interval);
    let Ok(mut interrupt) = signal(SignalKind::interrupt()) else { return Ok(1) };
    let screen = (!json).then(Screen::take);
    let mut before: Option<(Instant, u64)> = None;
    let mut looks = 0;
    loop {
        let status = client.call("daemon.status", json!({})).await?;
        let now = Instant::now();
        let answered = status["counters"]["answered"].as_u64().unwrap_or(0);
        let rate = before.map(|(at, count)| per_second(count, answered, now - at));
        before = Some((now, answered));
        match &screen {
            None => out::json(&status),
            Some(screen) => screen.show(&frame(&status, rate)),
        }
        looks += 1;
        if args.count.is_some_and(|count| looks >= count) {
            return Ok(0);
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = interrupt.recv() => return Ok(0),
        }
    }
}

fn per_second(before: u64, after: u64, time: Duration) -> f64 {
    after.saturating_sub(before) as f64 / time.as_secs_f64().max(1e-3)
}

fn frame(status: &Value, rate: Option<f64>) -> String {
    let rate = rate.map_or("-".to_owned(), |rate| format!("{rate:.1}"));
    format!("{}\n{rate} answers/s\n", status::render(status))
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
    fn an_interval_is_a_sane_number() {
        assert!(seconds("0.5").is_ok() && seconds("0").is_err() && seconds("x").is_err() && seconds("nan").is_err());
    }
}
