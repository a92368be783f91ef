//! What there is to see of the scheduler: counts, stages, metrics.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::Scheduler;
use super::stages::{Stage, StageRow};
use telemetry::metrics::{MetricsWriter, Unit, labels};

impl Scheduler {
    /// Admitted, running, and the most that are admitted.
    pub fn counts(&self) -> (usize, usize, usize) {
        (self.admitted.load(Ordering::Relaxed), self.desk().running(), self.queue().max)
    }

    /// The stages of the last submissions.
    pub fn stages(&self) -> BTreeMap<&'static str, StageRow> {
        self.stages.rows()
    }

    /// A caller's socket has taken the answer, so long after it was there.
    pub fn replied(&self, took: Duration) {
        self.stages.record_one(Stage::Reply, took);
    }

    /// Writes the queue, and what came of submissions since the start.
    ///
    /// # Errors
    /// The writer's.
    pub fn write_metrics(&self, writer: &mut MetricsWriter<'_>) -> fmt::Result {
        let (admitted, running, most) = self.counts();
        writer.gauge("assay_queue_admitted", "Submissions admitted and not answered yet.", None, admitted as f64)?;
        writer.gauge("assay_queue_capacity", "Submissions admitted and not answered at most.", None, most as f64)?;
        writer.gauge("assay_queue_running", "Submissions that have a sandbox.", None, running as f64)?;
        let hosts = self.fleet().all();
        let pools = hosts.iter().flat_map(|host| host.pools());
        let mut waiting: BTreeMap<String, usize> = pools.map(|pool| (pool.profile().to_owned(), 0)).collect();
        waiting.extend(self.desk().waiting_by_profile());
        let rows = waiting.into_iter().map(|(language, count)| (labels!(language = language), count as f64));
        writer.gauges("assay_queue_waiting", "Submissions in line for a sandbox.", None, rows)?;
        let counters = self.counters();
        let of = |counter: &AtomicUsize| counter.load(Ordering::Relaxed) as f64;
        writer.counter("assay_submissions_admitted", "Submissions let in.", None, of(&counters.admitted))?;
        let help = "Submissions tried once more because a sandbox was lost.";
        writer.counter("assay_submissions_retried", help, None, of(&counters.retried))?;
        let audits = [("clean", &counters.kept), ("residue", &counters.residue)];
        let rows = audits.map(|(result, counter)| (labels!(result = result), of(counter)));
        writer.counters("assay_audits", "Audits of used sandboxes, by what they found.", None, rows)?;
        self.tally.write(writer)?;
        let clocks = self.stages.clocks().into_iter().map(|(stage, clock)| (labels!(stage = stage.as_str()), clock));
        writer.histograms("assay_stage_duration", "Time of submissions by stage of their way.", Unit::Seconds, clocks)
    }
}
