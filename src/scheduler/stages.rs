//! Where a submission's time goes, by stage, from the first byte of its call to the last byte of
//! the answer: percentiles of the last measurements for `daemon.status`, histograms of all for
//! metrics.
//!
//! ```text
//!  first    last           task                                        run
//!  byte     byte           started  allocated                          done     report   written
//!    | accept | parse, admit | queue  | lease, send, set up, run, wire   | decide | reply  |
//!    '--------'--------------'--------'----------------------------------'--------'--------'
//!                                       compile, check, collect: if the submission has them
//! ```
//!
//! What each stage covers (from, to), and what its clock cannot see:
//!
//! * `accept`: first byte of the call read, last byte read. Time in the socket's buffer before the
//!   first read is not included
//! * `parse`: last byte read, work validated: JSON, fields, files
//! * `admit`: admission requested, the submission's task running
//! * `queue`: queued, sandbox allocated; includes the sandboxes of checkers
//! * `lease`: sandbox allocated, its limits set to the submission's
//! * `send`: encoding files and input and handing them to the connection. The transfer itself is in
//!   `wire`
//! * `compile`: the whole compile step with its own set-up, run and wire, or the cache lookup
//! * `set_up`: the init's work before each program's exec, by the init's clock
//! * `run`: the programs' wall time, by the init's clock
//! * `wire`: order to Done, minus `send`, `set_up` and `run`: both ways through engine and kernel.
//!   They cannot be told apart, because the init may run on a machine with another clock
//! * `check`: checkers and interactors, during or after the program
//! * `collect`: bringing files back. Output is received while the program runs, so it is in `run`
//!   and `wire`
//! * `decide`: facts to outcome, output to verdict, verdict to report
//! * `reply`: report available, last byte of the reply written to the caller's socket; for calls
//!   that wait for a report
//! * `total`: last byte of the call read, report available: `total_ms` of the report, without
//!   accept and reply
//!
//! The next test may be sent while one runs: its `send` overlaps the other's `run`, and the stages
//! of such a submission add up to a little more than its total.
//!
//! Only stages that a submission passed through are recorded. After a retry the second attempt
//! counts.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use strum::{EnumCount as _, VariantArray as _};

use judge::drive::Timings;
pub use protocol::status::Stage;
use protocol::status::StageRow;
use telemetry::metrics::{Buckets, Histogram};

/// Measurements kept per stage for percentiles.
const SAMPLES: usize = 1024;

/// The time that one submission took in each stage it passed through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct StageTimes([Option<Duration>; Stage::COUNT]);

impl StageTimes {
    /// Sets the time of a stage.
    pub(super) fn set(&mut self, stage: Stage, took: Duration) {
        self.0[stage as usize] = Some(took);
    }

    /// Adds to the time of a stage.
    pub(super) fn add(&mut self, stage: Stage, took: Duration) {
        let before = self.0[stage as usize].unwrap_or_default();
        self.0[stage as usize] = Some(before + took);
    }

    /// Sets the stages of judging. Steps that the submission does not have stay unset.
    pub(super) fn set_judging(&mut self, timings: &Timings) {
        self.set(Stage::Send, timings.copy_in);
        self.set(Stage::Decide, timings.decide);
        let ran = !timings.run.is_zero();
        let to_run = timings.copy_in.saturating_sub(timings.compile_copy_in);
        let wire = timings.run.saturating_sub(to_run).saturating_sub(timings.setup).saturating_sub(timings.program);
        let some = |took: Duration| (!took.is_zero()).then_some(took);
        for (stage, took) in [
            (Stage::Compile, some(timings.compile.saturating_sub(timings.compile_copy_in))),
            (Stage::SetUp, ran.then_some(timings.setup)),
            (Stage::Run, ran.then_some(timings.program)),
            (Stage::Wire, ran.then_some(wire)),
            (Stage::Check, some(timings.check)),
            (Stage::Collect, some(timings.collect)),
        ] {
            self.0[stage as usize] = took;
        }
    }

    fn iter(&self) -> impl Iterator<Item = (Stage, Duration)> {
        Stage::VARIANTS.iter().copied().zip(self.0).filter_map(|(stage, took)| Some((stage, took?)))
    }
}

#[derive(Debug, Default)]
struct SampleRing {
    values: Vec<f64>,
    next: usize,
}

impl SampleRing {
    fn push(&mut self, value: f64) {
        if self.values.len() < SAMPLES {
            self.values.push(value);
        } else {
            self.values[self.next] = value;
        }
        self.next = (self.next + 1) % SAMPLES;
    }
}

/// Stage times of all submissions.
#[derive(Debug)]
pub(super) struct StageMetrics {
    rings: Mutex<[SampleRing; Stage::COUNT]>,
    histograms: [Histogram; Stage::COUNT],
}

impl Default for StageMetrics {
    fn default() -> Self {
        StageMetrics { rings: Mutex::default(), histograms: std::array::from_fn(|_| Buckets::Steps.histogram()) }
    }
}

impl StageMetrics {
    /// Records one submission.
    pub(super) fn record(&self, times: &StageTimes) {
        let mut rings = self.rings.lock();
        for (stage, took) in times.iter() {
            rings[stage as usize].push(took.as_secs_f64() * 1e3);
        }
        drop(rings);
        for (stage, took) in times.iter() {
            self.histograms[stage as usize].observe(took.as_secs_f64());
        }
    }

    /// Records one stage.
    pub(super) fn record_one(&self, stage: Stage, took: Duration) {
        let mut times = StageTimes::default();
        times.set(stage, took);
        self.record(&times);
    }

    /// Percentiles of the stages that have measurements.
    pub(super) fn rows(&self) -> BTreeMap<&'static str, StageRow> {
        let rings = self.rings.lock();
        let known = Stage::VARIANTS.iter().zip(rings.iter()).filter(|(_, ring)| !ring.values.is_empty());
        known.map(|(stage, ring)| (stage.as_str(), row(&ring.values))).collect()
    }

    /// Histograms of all measurements since the start.
    pub(super) fn histograms(&self) -> Vec<(Stage, Histogram)> {
        Stage::VARIANTS.iter().copied().zip(self.histograms.iter().cloned()).collect()
    }
}

fn row(values: &[f64]) -> StageRow {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let rank = (share * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
    };
    StageRow { count: sorted.len(), p50_ms: at(0.50), p95_ms: at(0.95), p99_ms: at(0.99) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn percentiles_are_ranks_of_the_measurements() {
        let values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        let row = row(&values);
        assert_eq!((row.p50_ms, row.p95_ms, row.p99_ms), (50.0, 95.0, 99.0));
    }

    #[test]
    fn the_parts_of_a_run_add_up_to_the_whole() {
        let timings = Timings {
            copy_in: MS(5),
            compile_copy_in: MS(2),
            compile: MS(100),
            run: MS(50),
            setup: MS(7),
            program: MS(30),
            ..Timings::default()
        };
        let mut times = StageTimes::default();
        times.set_judging(&timings);
        let of = |stage: Stage| times.0[stage as usize].unwrap_or_default();
        assert_eq!(of(Stage::Wire), MS(10));
        let parts = [Stage::Send, Stage::Compile, Stage::SetUp, Stage::Run, Stage::Wire].map(of);
        assert_eq!(parts.iter().sum::<Duration>(), timings.compile + timings.run);
    }

    #[test]
    fn skipped_stages_are_not_recorded_and_a_second_attempt_replaces_the_first() {
        let mut times = StageTimes::default();
        times.set_judging(&Timings { run: MS(1), collect: MS(1), ..Timings::default() });
        times.set_judging(&Timings { compile: MS(9), ..Timings::default() });
        let recorded: Vec<Stage> = times.iter().map(|(stage, _)| stage).collect();
        assert_eq!(recorded, [Stage::Send, Stage::Compile, Stage::Decide]);
    }

    #[test]
    fn percentiles_use_the_last_measurements_and_histograms_all() {
        let stages = StageMetrics::default();
        for ms in 0..2 * SAMPLES as u64 {
            stages.record_one(Stage::Run, MS(if ms < SAMPLES as u64 { 1000 } else { 1 }));
        }
        let rows = stages.rows();
        assert_eq!((rows.len(), rows["run"].count, rows["run"].p99_ms), (1, SAMPLES, 1.0));
        let histogram = format!("{:?}", stages.histograms()[Stage::Run as usize].1);
        assert!(histogram.contains(&format!("count: {}", 2 * SAMPLES)), "{histogram}");
    }
}
