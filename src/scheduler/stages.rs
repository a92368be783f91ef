//! Where the time goes, stage by stage: the last measurements of each, as percentiles.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::model::Report;

/// Measurements kept per stage.
const KEPT: usize = 1024;

/// One stage.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
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

/// The stages of the last submissions.
#[derive(Debug, Default)]
pub(super) struct Stages {
    rings: Mutex<BTreeMap<&'static str, Ring>>,
}

impl Stages {
    pub(super) fn record(&self, report: &Report) {
        let timing = &report.timing;
        let stages = [
            ("queue", timing.queue_ms),
            ("lease", timing.lease_ms),
            ("copy_in", timing.copy_in_ms),
            ("run", timing.run_ms),
            ("setup", timing.setup_ms),
            ("overhead", timing.overhead_ms),
            ("total", timing.total_ms),
        ];
        let mut rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
        for (stage, value) in stages {
            let ring = rings.entry(stage).or_default();
            if ring.values.len() < KEPT {
                ring.values.push(value);
            } else {
                ring.values[ring.next] = value;
            }
            ring.next = (ring.next + 1) % KEPT;
        }
    }

    pub(super) fn rows(&self) -> BTreeMap<&'static str, StageRow> {
        let rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
        rings.iter().map(|(stage, ring)| (*stage, row(&ring.values))).collect()
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

    #[test]
    fn percentiles_are_ranks_of_what_was_measured() {
        let values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        let row = row(&values);
        assert_eq!((row.p50_ms, row.p95_ms, row.p99_ms), (50.0, 95.0, 99.0));
    }
}
