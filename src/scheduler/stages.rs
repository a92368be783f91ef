//! Where the time goes, stage by stage, from a call's first byte to its answer's last: the last measurements of each as
//! percentiles for `daemon.status`, and all of them as histograms for whoever scrapes.
//!
//! ```text
//!  first byte   last byte        spawned      handed over                          Done      report     written
//!      | accept    |  parse, admit  |   queue      | lease, send, set up, run, wire  | decide  |  reply   |
//!      '-----------'----------------'--------------'---------------------------------'---------'----------'
//!                                        compile, check, collect: where there are any
//! ```
//!
//! What the words mean, and where a clock does not see what one would like it to:
//!
//! | stage | from, to |
//! |---|---|
//! | accept | the call's first byte being read, its last. What waits in the socket's buffer is not seen: nobody woke for it |
//! | parse | its last byte, work that is understood: JSON, fields, files, the task that does it |
//! | admit | asking the queue, the submission's own task at work |
//! | queue | standing in line, a sandbox being handed over; those of checkers too |
//! | lease | having it, its limits being the submission's |
//! | send | making frames of files and input, and handing them to the connection. Their way to the sandbox is `wire` |
//! | compile | the compile step as a whole, its own set-up, run and wire included, or the look into the cache |
//! | set_up | the init's work before each program's exec, by the init's clock |
//! | run | the programs' own wall time, by the init's clock |
//! | wire | what is left of order to Done when `send`, `set_up` and `run` are taken off: both ways through engine and kernel. The two ways can't be told apart: the init's clock may be another machine's |
//! | check | checkers and interactors, beside or behind the program |
//! | collect | bringing files back. Output comes while the program runs, so taking it in is in `run` and `wire` |
//! | decide | facts to outcome, output to verdict, verdict to report |
//! | reply | the report being there, the last byte of the line that bears it being taken by the caller's socket; of calls that wait for a report |
//! | total | the call's last byte, the report: `total_ms` of the report, without accept and reply |
//!
//! The next test may be handed over while one runs: its `send` lies beside the other's `run` then, and the stages of such a
//! submission come to a little more than its total.
//!
//! A submission tells the stages that it came through: one that never had a sandbox tells nothing of sandboxes. When it was
//! tried twice, the second try is told.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use judge::drive::Timings;
use telemetry::metrics::{Buckets, Histogram};

/// Measurements kept per stage.
const KEPT: usize = 1024;

/// A stage of a submission's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the module's head says what they are")]
pub enum Stage {
    Accept,
    Parse,
    Admit,
    Queue,
    Lease,
    Send,
    Compile,
    SetUp,
    Run,
    Wire,
    Check,
    Collect,
    Decide,
    Reply,
    Total,
}

impl Stage {
    /// All of them, in the order of the way.
    pub const ALL: [Stage; 15] = [
        Stage::Accept,
        Stage::Parse,
        Stage::Admit,
        Stage::Queue,
        Stage::Lease,
        Stage::Send,
        Stage::Compile,
        Stage::SetUp,
        Stage::Run,
        Stage::Wire,
        Stage::Check,
        Stage::Collect,
        Stage::Decide,
        Stage::Reply,
        Stage::Total,
    ];

    /// Its name in `daemon.status` and in the metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Accept => "accept",
            Stage::Parse => "parse",
            Stage::Admit => "admit",
            Stage::Queue => "queue",
            Stage::Lease => "lease",
            Stage::Send => "send",
            Stage::Compile => "compile",
            Stage::SetUp => "set_up",
            Stage::Run => "run",
            Stage::Wire => "wire",
            Stage::Check => "check",
            Stage::Collect => "collect",
            Stage::Decide => "decide",
            Stage::Reply => "reply",
            Stage::Total => "total",
        }
    }
}

/// How long one submission took in each stage that it came through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Laps([Option<Duration>; Stage::ALL.len()]);

impl Laps {
    /// It took so long, whatever was said before.
    pub(super) fn set(&mut self, stage: Stage, took: Duration) {
        self.0[stage as usize] = Some(took);
    }

    /// It took so long beside what it took already.
    pub(super) fn add(&mut self, stage: Stage, took: Duration) {
        let before = self.0[stage as usize].unwrap_or_default();
        self.0[stage as usize] = Some(before + took);
    }

    /// What judging took. What there was none of is not told.
    pub(super) fn judged(&mut self, timings: &Timings) {
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

    fn told(&self) -> impl Iterator<Item = (Stage, Duration)> {
        Stage::ALL.into_iter().zip(self.0).filter_map(|(stage, took)| Some((stage, took?)))
    }
}

/// One stage.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct StageRow {
    /// Measurements behind the percentiles.
    pub count: usize,
    /// Half are below.
    pub p50_ms: f64,
    /// 95 % are below.
    pub p95_ms: f64,
    /// 99 % are below.
    pub p99_ms: f64,
}

#[derive(Debug, Default)]
struct Ring {
    values: Vec<f64>,
    next: usize,
}

impl Ring {
    fn push(&mut self, value: f64) {
        if self.values.len() < KEPT {
            self.values.push(value);
        } else {
            self.values[self.next] = value;
        }
        self.next = (self.next + 1) % KEPT;
    }
}

/// The stages of the last submissions.
#[derive(Debug)]
pub(super) struct Stages {
    rings: Mutex<[Ring; Stage::ALL.len()]>,
    clocks: [Histogram; Stage::ALL.len()],
}

impl Default for Stages {
    fn default() -> Self {
        Stages { rings: Mutex::default(), clocks: Stage::ALL.map(|_| Buckets::Steps.histogram()) }
    }
}

impl Stages {
    /// One submission came through.
    pub(super) fn record(&self, laps: &Laps) {
        let mut rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
        for (stage, took) in laps.told() {
            rings[stage as usize].push(took.as_secs_f64() * 1e3);
        }
        drop(rings);
        for (stage, took) in laps.told() {
            self.clocks[stage as usize].observe(took.as_secs_f64());
        }
    }

    /// One more of one stage.
    pub(super) fn record_one(&self, stage: Stage, took: Duration) {
        let mut laps = Laps::default();
        laps.set(stage, took);
        self.record(&laps);
    }

    /// Percentiles of those stages of which there is something to say.
    pub(super) fn rows(&self) -> BTreeMap<&'static str, StageRow> {
        let rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
        let known = Stage::ALL.into_iter().zip(rings.iter()).filter(|(_, ring)| !ring.values.is_empty());
        known.map(|(stage, ring)| (stage.as_str(), row(&ring.values))).collect()
    }

    /// All measurements since the start.
    pub(super) fn clocks(&self) -> Vec<(Stage, Histogram)> {
        Stage::ALL.into_iter().zip(self.clocks.iter().cloned()).collect()
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
    fn percentiles_are_ranks_of_what_was_measured() {
        let values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        let row = row(&values);
        assert_eq!((row.p50_ms, row.p95_ms, row.p99_ms), (50.0, 95.0, 99.0));
    }

    #[test]
    fn the_parts_of_a_run_are_the_whole_of_it() {
        let timings = Timings {
            copy_in: MS(5),
            compile_copy_in: MS(2),
            compile: MS(100),
            run: MS(50),
            setup: MS(7),
            program: MS(30),
            ..Timings::default()
        };
        let mut laps = Laps::default();
        laps.judged(&timings);
        let of = |stage: Stage| laps.0[stage as usize].unwrap_or_default();
        assert_eq!(of(Stage::Wire), MS(10));
        let parts = [Stage::Send, Stage::Compile, Stage::SetUp, Stage::Run, Stage::Wire].map(of);
        assert_eq!(parts.iter().sum::<Duration>(), timings.compile + timings.run);
    }

    #[test]
    fn what_a_submission_did_not_come_through_is_not_told_and_a_second_try_replaces_the_first() {
        let mut laps = Laps::default();
        laps.judged(&Timings { run: MS(1), collect: MS(1), ..Timings::default() });
        laps.judged(&Timings { compile: MS(9), ..Timings::default() });
        let told: Vec<Stage> = laps.told().map(|(stage, _)| stage).collect();
        assert_eq!(told, [Stage::Send, Stage::Compile, Stage::Decide]);
    }

    #[test]
    fn only_the_last_measurements_count_for_percentiles_and_all_of_them_for_the_histogram() {
        let stages = Stages::default();
        for ms in 0..2 * KEPT as u64 {
            stages.record_one(Stage::Run, MS(if ms < KEPT as u64 { 1000 } else { 1 }));
        }
        let rows = stages.rows();
        assert_eq!((rows.len(), rows["run"].count, rows["run"].p99_ms), (1, KEPT, 1.0));
        let clock = format!("{:?}", stages.clocks()[Stage::Run as usize].1);
        assert!(clock.contains(&format!("count: {}", 2 * KEPT)), "{clock}");
    }
}
