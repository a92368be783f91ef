//! What submissions came to and what their programs used, by language; how long they waited for a sandbox.
//!
//! "Class" of a wait is the language: the line is ordered by uid and tenant, and neither is a closed list.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;

use protocol::{Report, RunReport, StartKind};
use telemetry::metrics::{Buckets, Counter, Family, Histograms, MetricsWriter, Unit, histograms};

/// A profile's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Language {
    language: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answer {
    language: String,
    verdict: &'static str,
    start: &'static str,
}

/// Seconds, counted in fractions.
type Seconds = Counter<f64, std::sync::atomic::AtomicU64>;

/// The counts.
#[derive(Debug)]
pub(super) struct Tally {
    answers: Family<Answer, Counter>,
    took: Histograms<Language>,
    waited: Histograms<Language>,
    cpu: Family<Language, Seconds>,
    memory: Histograms<Language>,
}

impl Default for Tally {
    fn default() -> Self {
        Tally {
            answers: Family::default(),
            took: histograms(Buckets::Waits),
            waited: histograms(Buckets::Waits),
            cpu: Family::default(),
            memory: histograms(Buckets::Memory),
        }
    }
}

/// In a word; a submission that had no sandbox started in none.
fn start_word(start: Option<StartKind>) -> &'static str {
    match start {
        Some(StartKind::Hot) => "hot",
        Some(StartKind::Warm) => "warm",
        Some(StartKind::Cold) => "cold",
        None => "none",
    }
}

/// Every run of a submission's own program and its compiler's.
fn runs(report: &Report) -> impl Iterator<Item = &RunReport> {
    let tests = report.tests.iter().filter_map(|test| test.run.as_ref());
    let compile = report.compile.iter().filter(|compile| compile.cached != Some(true));
    compile.chain(&report.run).chain(report.suite.iter().map(|suite| &suite.run)).chain(tests)
}

impl Tally {
    /// Somebody in line was served, or gave up.
    pub(super) fn waited(&self, language: &str, waited: Duration) {
        self.waited.get_or_create(&Language { language: language.to_owned() }).observe(waited.as_secs_f64());
    }

    /// A submission was answered.
    pub(super) fn answered(&self, language: &str, report: &Report, took: Duration) {
        let of = Language { language: language.to_owned() };
        let (verdict, start) = (report.verdict.as_str(), start_word(report.start));
        self.answers.get_or_create(&Answer { language: language.to_owned(), verdict, start }).inc();
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

    /// Writes them.
    pub(super) fn write(&self, writer: &mut MetricsWriter<'_>) -> std::fmt::Result {
        writer.family(
            "assay_submissions",
            "Submissions answered, by verdict and by what their sandbox was when they came.",
            None,
            &self.answers,
        )?;
        let seconds = || Some(Unit::Seconds);
        writer.family("assay_submission_duration", "From a call's last byte to the report.", seconds(), &self.took)?;
        writer.family("assay_queue_wait", "Time in line for a sandbox.", seconds(), &self.waited)?;
        writer.family("assay_program_cpu", "CPU time of programs and compilers.", seconds(), &self.cpu)?;
        let help = "The most memory that one of a submission's programs used.";
        writer.family("assay_program_memory_peak", help, Some(Unit::Bytes), &self.memory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{Outcome, RunFacts, Verdict};
    use telemetry::metrics::{Exposition, Format, MetricsSource};

    #[derive(Debug)]
    struct Alone(Tally);

    impl MetricsSource for Alone {
        fn write(&self, writer: &mut MetricsWriter<'_>) -> std::fmt::Result {
            self.0.write(writer)
        }
    }

    #[test]
    fn an_answer_is_counted_by_what_it_came_to_and_what_its_programs_used() {
        let mut facts = RunFacts::bare(Outcome::Exited);
        (facts.cpu, facts.memory_bytes) = (Duration::from_millis(1500), 5 << 20);
        let judged = judge::drive::Judged { run: Some(facts), ..judge::drive::Judged::bare(Verdict::Accepted, "") };
        let mut report = judge::render::report("1", judged, &|_| None);
        report.start = Some(StartKind::Warm);
        let tally = Tally::default();
        tally.answered("python", &report, Duration::from_millis(20));
        tally.answered("python", &report, Duration::from_millis(20));
        tally.waited("python", Duration::from_millis(3));
        let text = Exposition::of(Alone(tally)).text(Format::Plain).unwrap();
        for line in [
            "assay_submissions_total{language=\"python\",verdict=\"accepted\",start=\"warm\"} 2\n",
            "assay_submission_duration_seconds_bucket{language=\"python\",le=\"0.025\"} 2\n",
            "assay_queue_wait_seconds_count{language=\"python\"} 1\n",
            "assay_program_cpu_seconds_total{language=\"python\"} 3.0\n",
            "assay_program_memory_peak_bytes_bucket{language=\"python\",le=\"8.388608e+06\"} 2\n",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
