//! The service manager's watchdog: told that the daemon lives when everything that it lives by has just turned.
//!
//! ```text
//!  every third of WatchdogSec:  ask the vital loops to turn -> all of them did -> WATCHDOG=1
//!                                                           -> one hangs: its name in the log, and no word until it turns
//! ```
//!
//! Vital are the loop that lets callers in, the main loop, the desk, and the pools' keepers. None of them waits for an
//! engine: one that is down, or hangs, is no reason to be killed. There is no timer that says "alive" by itself.

use std::sync::Arc;
use std::time::Duration;

use crate::scheduler::Scheduler;
use crate::telemetry::pulse::Pulse;

/// A loop that has to turn.
struct Vital {
    /// What it does, for the log.
    name: String,
    /// Asks it to turn.
    ask: Box<dyn Fn() + Send + Sync>,
    /// How often it turned; none when it has ended, which is no fault.
    turns: Box<dyn Fn() -> Option<u64> + Send + Sync>,
}

impl Vital {
    fn of_pulse(name: &str, pulse: &Arc<Pulse>) -> Vital {
        let (asking, counting) = (pulse.clone(), pulse.clone());
        Vital { name: name.to_owned(), ask: Box::new(move || asking.ask()), turns: Box::new(move || counting.turns()) }
    }
}

/// What the daemon lives by now: pools come and go with a reload.
fn vitals(scheduler: &Arc<Scheduler>, door: &Arc<Pulse>, main: &Arc<Pulse>) -> Vec<Vital> {
    let (asking, counting) = (scheduler.clone(), scheduler.clone());
    let mut vitals = vec![
        Vital::of_pulse("the loop that lets callers in", door),
        Vital::of_pulse("the main loop", main),
        Vital {
            name: "the desk".to_owned(),
            ask: Box::new(move || asking.desk().ring()),
            turns: Box::new(move || Some(counting.desk().turns())),
        },
    ];
    for host in scheduler.fleet().all().iter() {
        for pool in host.pools() {
            let counting = pool.clone();
            vitals.push(Vital {
                name: format!("the keeper of pool {} on {}", pool.profile(), host.name()),
                ask: Box::new(move || pool.wake()),
                turns: Box::new(move || counting.turns()),
            });
        }
    }
    vitals
}

/// Between looks at whether they turned.
const LOOK: Duration = Duration::from_millis(10);

/// Resolves when every one of them has turned since the call. Says who keeps it waiting for longer than `patience`.
async fn beat(vitals: &[Vital], patience: Duration) {
    let mut missing: Vec<(&Vital, u64)> =
        vitals.iter().filter_map(|vital| Some((vital, (vital.turns)()?))).inspect(|(vital, _)| (vital.ask)()).collect();
    let mut left = Some(patience);
    loop {
        missing.retain(|(vital, before)| (vital.turns)().is_some_and(|turns| turns <= *before));
        if missing.is_empty() {
            return;
        }
        tokio::time::sleep(LOOK).await;
        left = match left.map(|left| left.saturating_sub(LOOK)) {
            Some(Duration::ZERO) => {
                let hang = missing.iter().map(|(vital, _)| vital.name.as_str()).collect::<Vec<_>>().join(", ");
                tracing::error!(hang, "the watchdog is not told that the daemon lives: something does not turn");
                None
            }
            left => left,
        };
    }
}

/// Tells the watchdog that the daemon lives, while it does; `within` is how long the service manager waits for the word.
pub(super) async fn watch(scheduler: Arc<Scheduler>, door: Arc<Pulse>, main: Arc<Pulse>, within: Duration) {
    let every = within / 3;
    loop {
        beat(&vitals(&scheduler, &door, &main), every).await;
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
        tokio::time::sleep(every).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turning(pulse: &Arc<Pulse>) -> tokio::task::JoinHandle<()> {
        let pulse = pulse.clone();
        tokio::spawn(async move {
            loop {
                pulse.asked().await;
                pulse.turned();
            }
        })
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_a_beat_when_all_turn_and_none_while_one_hangs() {
        let (one, other) = (Arc::new(Pulse::default()), Arc::new(Pulse::default()));
        let vitals = [Vital::of_pulse("one", &one), Vital::of_pulse("other", &other)];
        let _one = turning(&one);
        let patience = Duration::from_secs(1);
        let an_hour = Duration::from_secs(3600);
        assert!(tokio::time::timeout(an_hour, beat(&vitals, patience)).await.is_err(), "a beat, though one hangs");
        let _other = turning(&other);
        assert!(tokio::time::timeout(an_hour, beat(&vitals, patience)).await.is_ok(), "no beat, though all turn");
    }

    #[tokio::test(start_paused = true)]
    async fn turns_of_before_do_not_count_and_what_has_ended_is_not_waited_for() {
        let (one, ended) = (Arc::new(Pulse::default()), Arc::new(Pulse::default()));
        let vitals = [Vital::of_pulse("one", &one), Vital::of_pulse("ended", &ended)];
        one.turned();
        ended.ended();
        assert!(tokio::time::timeout(Duration::from_secs(9), beat(&vitals, Duration::from_secs(1))).await.is_err());
        let _one = turning(&one);
        beat(&vitals, Duration::from_secs(1)).await;
    }
}
