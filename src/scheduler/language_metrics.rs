//! Metrics by language: verdicts, durations, queue waits, CPU time and memory of programs.
//!
//! Waits are labelled by language only: uids and tenants are not closed sets.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;

use protocol::{Report, RunReport, StartKind, Verdict};
use strum::VariantArray;
use telemetry::metrics::{Buckets, Counter, Family, Histograms, MetricsWriter, Unit, histograms};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LanguageLabel {
    language: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AnswerLabels {
    language: String,
    verdict: &'static str,
    start: &'static str,
}

type SecondsCounter = Counter<f64, std::sync::atomic::AtomicU64>;

#[derive(Debug)]
pub(super) struct LanguageMetrics {
    answers: Family<AnswerLabels, Counter>,
    took: Histograms<LanguageLabel>,
    waited: Histograms<LanguageLabel>,
    cpu: Family<LanguageLabel, SecondsCounter>,
    memory: Histograms<LanguageLabel>,
}

impl Default for LanguageMetrics {
    fn default() -> Self {
        LanguageMetrics {
            answers: Family::default(),
            took: histograms(Buckets::Waits),
            waited: histograms(Buckets::Waits),
            cpu: Family::default(),
            memory: histograms(Buckets::Memory),
        }
    }
}

/// The `start` label; "none" for a submission that never had a sandbox.
fn start_label(start: Option<StartKind>) -> &'static str {
    start.map_or("none", StartKind::as_str)
}

/// All runs of a submission's own program and of its compiler.
fn runs(report: &Report) -> impl Iterator<Item = &RunReport> {
    let tests = report.tests.iter().filter_map(|test| test.run.as_ref());
    let compile = report.compile.iter().filter(|compile| compile.cached != Some(true));
    compile.chain(&report.run).chain(report.suite.iter().map(|suite| &suite.run)).chain(tests)
}

impl LanguageMetrics {
    /// Creates the series of a language that alerts read, so that their first increase is one: a
    /// series that begins above 0 has no rate.
    pub(super) fn create(&self, language: &str) {
        let of = LanguageLabel { language: language.to_owned() };
        let starts = StartKind::VARIANTS.iter().map(|start| Some(*start)).chain([None]);
        for start in starts.map(start_label) {
            for verdict in [Verdict::SystemError.as_str(), Verdict::Accepted.as_str()] {
                drop(self.answers.get_or_create(&AnswerLabels { language: language.to_owned(), verdict, start }));
            }
        }
        drop(self.waited.get_or_create(&of));
        drop(self.took.get_or_create(&of));
    }

    /// Records the end of a wait for a sandbox, successful or not.
    pub(super) fn record_wait(&self, language: &str, waited: Duration) {
        self.waited.get_or_create(&LanguageLabel { language: language.to_owned() }).observe(waited.as_secs_f64());
    }

    /// Records an answered submission.
    pub(super) fn record_answer(&self, language: &str, report: &Report, took: Duration) {
        let of = LanguageLabel { language: language.to_owned() };
        let (verdict, start) = (report.verdict.as_str(), start_label(report.start));
        self.answers.get_or_create(&AnswerLabels { language: language.to_owned(), verdict, start }).inc();
        self.took.get_or_create(&of).observe(took.as_secs_f64());
        let (mut cpu_ms, mut memory) = (0.0, 0);
        for run in runs(report) {
            cpu_ms += run.cpu_ms.max(0.0);
            memory = memory.max(run.memory_bytes);
        }
        self.cpu.get_or_create(&of).inc_by(cpu_ms / 1e3);
        if memory > 0 {
            self.memory.get_or_create(&of).observe(memory as f64);
        }
    }

    pub(super) fn write(&self, writer: &mut MetricsWriter<'_>) -> std::fmt::Result {
        writer.family(
            "assay_submissions",
            "Submissions answered, by verdict and by the start of their sandbox.",
            None,
            &self.answers,
        )?;
        let seconds = || Some(Unit::Seconds);
        writer.family(
            "assay_submission_duration",
            "Time from the last byte of a call to its report.",
            seconds(),
            &self.took,
        )?;
        writer.family("assay_queue_wait", "Time in the queue for a sandbox.", seconds(), &self.waited)?;
        writer.family("assay_program_cpu", "CPU time of programs and compilers.", seconds(), &self.cpu)?;
        let help = "Peak memory of a submission's programs.";
        writer.family("assay_program_memory_peak", help, Some(Unit::Bytes), &self.memory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{Outcome, RunFacts};
    use telemetry::metrics::{Exposition, Format, MetricsSource};

    #[derive(Debug)]
    struct OnlyLanguages(LanguageMetrics);

    impl MetricsSource for OnlyLanguages {
        fn write(&self, writer: &mut MetricsWriter<'_>) -> std::fmt::Result {
            self.0.write(writer)
        }
    }

    #[test]
    fn what_alerts_read_is_there_before_the_first_answer() {
        let metrics = LanguageMetrics::default();
        metrics.create("python");
        let text = Exposition::of(OnlyLanguages(metrics)).text(Format::Plain).unwrap();
        for start in ["none", "cold", "warm", "hot"] {
            let labels = format!("{{language=\"python\",verdict=\"system_error\",start=\"{start}\"}}");
            assert!(text.contains(&format!("assay_submissions_total{labels} 0\n")), "{text}");
        }
        assert!(text.contains("assay_queue_wait_seconds_count{language=\"python\"} 0\n"), "{text}");
    }

    #[test]
    fn an_answer_is_counted_by_verdict_start_and_resource_use() {
        let mut facts = RunFacts::bare(Outcome::Exited);
        (facts.cpu, facts.memory_bytes) = (Duration::from_millis(1500), 5 << 20);
        let judged = judge::drive::Judged { run: Some(facts), ..judge::drive::Judged::bare(Verdict::Accepted, "") };
        let mut report = judge::render::report("1", judged, &|_| None);
        report.start = Some(StartKind::Warm);
        let metrics = LanguageMetrics::default();
        metrics.record_answer("python", &report, Duration::from_millis(20));
        metrics.record_answer("python", &report, Duration::from_millis(20));
        metrics.record_wait("python", Duration::from_millis(3));
        let text = Exposition::of(OnlyLanguages(metrics)).text(Format::Plain).unwrap();
        for line in [
            "assay_submissions_total{language=\"python\",verdict=\"accepted\",start=\"warm\"} 2\n",
            "assay_submission_duration_seconds_bucket{language=\"python\",le=\"0.025\"} 2\n",
            "assay_queue_wait_seconds_count{language=\"python\"} 1\n",
            "assay_program_cpu_seconds_total{language=\"python\"} 3.0\n",
            "assay_program_memory_peak_bytes_bucket{language=\"python\",le=\"8.388608e+06\"} 2\n",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }
}
