//! Queue, estimate and admission together under overload, in simulated time.

use std::time::{Duration, Instant};

use crate::admission::{QueueBounds, QueueLoad, Refusal, admit};
use crate::fair_queue::{FairQueue, Lane, ProfileName, QueueKey};
use crate::wait_estimator::WaitEstimator;
use protocol::{Account, Caller};

const PATIENCE: Duration = Duration::from_secs(8);
/// A run's duration; one at a time.
const RUN: Duration = Duration::from_millis(100);

struct Queued {
    uid: u32,
    at: Duration,
}

impl QueueKey for Queued {
    fn key(&self) -> (Account, ProfileName) {
        (Account::Uid(self.uid), "p".into())
    }
}

/// A scheduler with one place, in simulated time.
struct Simulation {
    begun: Instant,
    now: Duration,
    queue: FairQueue<Queued>,
    estimator: WaitEstimator,
    busy_until: Duration,
    /// Uid and wait of each submission that ran.
    waits: Vec<(u32, Duration)>,
    /// Uid, time and hint of each that was refused.
    refused: Vec<(u32, Duration, Duration)>,
}

impl Simulation {
    fn new() -> Simulation {
        Simulation {
            begun: Instant::now(),
            now: Duration::ZERO,
            queue: FairQueue::default(),
            estimator: WaitEstimator::default(),
            busy_until: Duration::ZERO,
            waits: Vec::new(),
            refused: Vec::new(),
        }
    }

    fn submit(&mut self, uid: u32) -> Result<(), Duration> {
        let predicted_wait = match self.queue.is_empty() {
            true => None,
            false => self.estimator.estimate(self.queue.ahead_of(&Account::Uid(uid), &"p".into())),
        };
        let load = QueueLoad { host_up: true, predicted_wait, patience: PATIENCE, ..QueueLoad::default() };
        match admit(load, QueueBounds { max: 4096, max_per_account: 2048, max_bytes_per_account: 1 }) {
            Ok(()) => {
                self.queue.enqueue(&Caller::of_uid(uid, ""), &Lane::from("p"), 1, Queued { uid, at: self.now });
                Ok(())
            }
            Err(Refusal::WaitTooLong { retry_after, .. }) => {
                self.refused.push((uid, self.now, retry_after));
                Err(retry_after)
            }
            Err(other) => panic!("{other}"),
        }
    }

    /// Lets time pass until `until`.
    fn run(&mut self, until: Duration) {
        while self.busy_until <= until && !self.queue.is_empty() {
            self.now = self.busy_until.max(self.now);
            let next = self.queue.pop_next(&mut |_| true, &mut |_, _| true).unwrap();
            self.estimator.record_allocation(self.begun + self.now, !self.queue.is_empty());
            self.waits.push((next.uid, self.now - next.at));
            // a fifth more or less
            let jitter = 0.8 + f64::from(self.waits.len() as u32 * 7919 % 401) / 1000.0;
            self.busy_until = self.now + RUN.mul_f64(jitter);
        }
        self.now = until;
    }
}

/// A minute in which one uid submits at twice the capacity, and another once a second.
fn a_minute_of_overload() -> Simulation {
    let mut simulation = Simulation::new();
    for tick in 0..1200_u32 {
        simulation.run(Duration::from_millis(50) * tick);
        let _ = simulation.submit(1);
        if tick % 20 == 0 {
            let _ = simulation.submit(2);
        }
    }
    simulation
}

#[test]
fn at_twice_the_capacity_waits_are_bounded_and_no_time_is_lost() {
    let simulation = a_minute_of_overload();
    let most = simulation.waits.iter().map(|(_, wait)| *wait).max().unwrap();
    assert!(most < PATIENCE, "{most:?}");
    // sixty seconds of runs of a tenth
    assert!(simulation.waits.len() >= 570, "{}", simulation.waits.len());
    assert!(simulation.refused.len() > 400, "{}", simulation.refused.len());
}

#[test]
fn a_caller_with_one_submission_a_second_is_not_hurt_by_one_with_twenty() {
    let simulation = a_minute_of_overload();
    assert!(simulation.refused.iter().all(|(uid, ..)| *uid == 1));
    let waits: Vec<Duration> = simulation.waits.iter().filter(|(uid, _)| *uid == 2).map(|(_, wait)| *wait).collect();
    assert!(waits.len() >= 59 && waits.iter().all(|wait| *wait < 4 * RUN), "{waits:?}");
}

#[test]
fn a_refused_caller_that_waits_as_told_is_admitted_and_one_that_does_not_is_not() {
    let mut simulation = a_minute_of_overload();
    // a much longer queue, so that the hint is not at its least
    for _ in 0..40 {
        simulation.queue.enqueue(&Caller::of_uid(1, ""), &Lane::from("p"), 1, Queued { uid: 1, at: simulation.now });
    }
    let now = simulation.now;
    let retry_after = simulation.submit(1).unwrap_err();
    assert!(retry_after > Duration::from_secs(3), "{retry_after:?}");
    simulation.run(now + retry_after.mul_f64(0.7));
    assert!(simulation.submit(1).is_err());
    simulation.run(now + retry_after.mul_f64(1.1));
    assert!(simulation.submit(1).is_ok());
}
