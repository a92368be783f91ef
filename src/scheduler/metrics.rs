//! Figures of the scheduler: counts, stages, metrics.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::SubmissionService;
use super::stages::Stage;
use protocol::status::StageRow;
use telemetry::metrics::{MetricsWriter, Unit, labels};

impl SubmissionService {
    /// Submissions admitted and running, and the limit of admitted ones.
    pub fn counts(&self) -> (usize, usize, usize) {
        (self.admitted.load(Ordering::Relaxed), self.allocator().running(), self.queue_config().max)
    }

    /// Percentiles of the stages of the last submissions.
    pub fn stages(&self) -> BTreeMap<&'static str, StageRow> {
        self.stages.rows()
    }

    /// Records that a report was written to its caller's socket, `took` after it was available.
    pub fn record_reply(&self, took: Duration) {
        self.stages.record_one(Stage::Reply, took);
    }

    /// Writes the metrics of the queue and of submissions.
    ///
    /// # Errors
    /// The writer failed.
    pub fn write_metrics(&self, writer: &mut MetricsWriter<'_>) -> fmt::Result {
        let (admitted, running, most) = self.counts();
        writer.gauge("assay_queue_admitted", "Submissions admitted and not answered yet.", None, admitted as f64)?;
        writer.gauge("assay_queue_capacity", "Limit of submissions admitted and not answered.", None, most as f64)?;
        writer.gauge("assay_queue_running", "Submissions that have a sandbox.", None, running as f64)?;
        let hosts = self.fleet.all();
        let pools = hosts.iter().flat_map(|host| host.pools());
        let mut waiting: BTreeMap<String, usize> = pools.map(|pool| (pool.profile().to_owned(), 0)).collect();
        waiting.keys().for_each(|language| self.languages.create(language));
        waiting.extend(self.allocator().waiting_by_profile());
        let rows = waiting.into_iter().map(|(language, count)| (labels!(language = language), count as f64));
        writer.gauges("assay_queue_waiting", "Submissions that wait for a sandbox.", None, rows)?;
        let counters = &self.counters;
        let of = |counter: &AtomicUsize| counter.load(Ordering::Relaxed) as f64;
        writer.counter("assay_submissions_admitted", "Submissions admitted.", None, of(&counters.admitted))?;
        let help = "Submissions retried because a sandbox was lost or unfit.";
        writer.counter("assay_submissions_retried", help, None, of(&counters.retried))?;
        let audits = [("clean", &counters.kept), ("residue", &counters.residue)];
        let rows = audits.map(|(result, counter)| (labels!(result = result), of(counter)));
        writer.counters("assay_audits", "Audits of used sandboxes, by result.", None, rows)?;
        self.languages.write(writer)?;
        self.store.write_metrics(writer)?;
        self.callbacks.write_metrics(writer)?;
        let stages = self.stages.histograms().into_iter();
        let rows = stages.map(|(stage, histogram)| (labels!(stage = stage.as_str()), histogram));
        writer.histograms("assay_stage_duration", "Time of submissions by stage.", Unit::Seconds, rows)
    }
}
