//! What the runs of a submission used over time, for history. Bounded in points of one run and of
//! all.
//!
//! A run's points come at a fixed pace. When it has too many, every second one goes and from then
//! on every second one is taken: its whole life is covered, and its last point is never far from
//! its end. Runs that are shorter than the pace have none.

use std::time::Duration;

use serde::Serialize;

use sandbox::lifecycle::Usage;

/// How often a program that runs is asked for what it used. A shorter one costs nothing.
pub const SAMPLE_PERIOD: Duration = Duration::from_millis(100);

/// Points of one run: ten of the longest judge runs, or 150 KiB of text for a submission's report.
pub const MAX_RUN_POINTS: usize = 600;

/// Points of all runs of a submission: 20 full ones. Later runs have none.
pub const MAX_POINTS: usize = 20 * MAX_RUN_POINTS;

/// One run's points. Each has wall time and CPU time in milliseconds, and memory in bytes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunSeries {
    /// `run`, of a suite too, or the name of the test.
    pub name: String,
    pub points: Vec<(f64, f64, u64)>,
    /// Of how many samples one is a point.
    #[serde(skip)]
    stride: usize,
    /// Samples since the last point.
    #[serde(skip)]
    skipped: usize,
}

/// The points of all runs of a submission.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct UsageSeries(Vec<RunSeries>);

/// Milliseconds, to a microsecond.
fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

impl UsageSeries {
    /// Adds a sample of a run; `is_first` of this run, whose name an earlier one may have. Samples
    /// of runs at the same time may alternate.
    pub fn add(&mut self, name: &str, usage: Usage, is_first: bool) {
        let total: usize = self.0.iter().map(|run| run.points.len()).sum();
        let at = match self.0.iter().rposition(|run| run.name == name).filter(|_| !is_first) {
            // a run's clock starts anew when its program is executed, after the fork
            Some(at) if self.0[at].points.last().is_some_and(|(wall, ..)| *wall >= millis(usage.wall)) => return,
            Some(at) => at,
            None if !is_first || total >= MAX_POINTS => return,
            None => {
                self.0.push(RunSeries { name: name.to_owned(), points: Vec::new(), stride: 1, skipped: 0 });
                self.0.len() - 1
            }
        };
        let run = &mut self.0[at];
        run.skipped += 1;
        if run.skipped < run.stride {
            return;
        }
        run.skipped = 0;
        if run.points.len() == MAX_RUN_POINTS || total >= MAX_POINTS {
            let mut at = 0;
            run.points.retain(|_| {
                at += 1;
                at % 2 == 0
            });
            run.stride *= 2;
        }
        // while a program runs, the init's own part is estimated
        let cpu = run.points.last().map_or(0.0, |(_, cpu, _)| *cpu).max(millis(usage.cpu));
        run.points.push((millis(usage.wall), cpu, usage.memory_bytes));
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn runs(&self) -> &[RunSeries] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Usage {
        Usage { wall: Duration::from_millis(ms), cpu: Duration::from_millis(ms / 2), memory_bytes: ms }
    }

    #[test]
    fn a_long_run_has_at_most_so_many_points_over_all_of_its_life() {
        for samples in [1, 599, 600, 601, 1000, 36_000] {
            let mut series = UsageSeries::default();
            for sample in 1..=samples {
                series.add("run", at(sample * 100), sample == 1);
            }
            let points = &series.runs()[0].points;
            assert!(points.len() <= MAX_RUN_POINTS && points.len() >= (samples as usize).min(MAX_RUN_POINTS / 2));
            assert!(points.windows(2).all(|pair| pair[0].0 < pair[1].0));
            let (first, last, end) = (points[0].0, points[points.len() - 1].0, samples as f64 * 100.0);
            assert!(first <= end / 100.0 + 100.0 && last >= end * 0.98 - 100.0, "{samples}: {first} to {last}");
        }
    }

    #[test]
    fn cpu_time_never_goes_back() {
        let mut series = UsageSeries::default();
        series.add("run", Usage { cpu: Duration::from_millis(70), ..at(100) }, true);
        series.add("run", Usage { cpu: Duration::from_millis(69), ..at(200) }, false);
        assert_eq!(series.runs()[0].points, [(100.0, 70.0, 100), (200.0, 70.0, 200)]);
    }

    #[test]
    fn runs_are_apart_also_when_they_alternate_or_have_one_name() {
        let mut series = UsageSeries::default();
        for (name, ms) in [("1", 100), ("2", 100), ("1", 200), ("2", 200), ("2", 100)] {
            series.add(name, at(ms), ms == 100);
        }
        // its program was executed long after the fork: a run of its own all the same
        series.add("2", at(50), false);
        series.add("2", at(300), false);
        let found: Vec<(&str, usize)> = series.runs().iter().map(|run| (run.name.as_str(), run.points.len())).collect();
        assert_eq!(found, [("1", 2), ("2", 2), ("2", 2)]);
        assert_eq!(
            serde_json::to_value(&series).unwrap()[0],
            serde_json::json!({
                "name": "1", "points": [[100.0, 50.0, 100], [200.0, 100.0, 200]],
            })
        );
    }

    #[test]
    fn all_runs_together_are_bounded() {
        let mut series = UsageSeries::default();
        for test in 0..10_000 {
            for ms in 1..=5 {
                series.add(&test.to_string(), at(ms * 100), ms == 1);
            }
        }
        let total: usize = series.runs().iter().map(|run| run.points.len()).sum();
        assert!(total <= MAX_POINTS && total > MAX_POINTS - 10, "{total}");
        for ms in 6..100_000 {
            series.add(&series.runs()[0].name.clone(), at(ms * 100), false);
        }
        assert!(series.runs().iter().map(|run| run.points.len()).sum::<usize>() <= MAX_POINTS);
    }
}
