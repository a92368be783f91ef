//! Building blocks of metrics: counters and histograms that live next to the code they measure, and
//! the writer that turns them into text when a scraper asks.
//!
//! There is no global registry: each owner writes its own metrics ([`MetricsSource`]). [`Counter`]
//! and [`Histogram`] are shared by cloning; an increment is one atomic operation, an observation
//! holds a lock for about twenty comparisons. A [`Family`] finds its member by labels under a read
//! lock.
//!
//! Label values come from closed lists or from the configuration (hosts, profiles). Nothing from a
//! caller, a program or an engine creates a new series.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
pub use prometheus_client::metrics::counter::Counter;
pub use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
pub use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::{MetricType, family::MetricConstructor};
use prometheus_client::registry::Registry;
pub use prometheus_client::registry::Unit;

/// Text format of a scrape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics, version 1.0.
    OpenMetrics,
    /// Prometheus' text format 0.0.4: what `curl` gets and `promtool check metrics` reads.
    Plain,
}

impl Format {
    pub fn content_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Plain => prometheus_client::encoding::prometheus_text::CONTENT_TYPE,
        }
    }
}

/// Bucket bounds of histograms, in seconds or bytes. Each bucket costs one series per member of a
/// family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Buckets {
    /// Steps of the hot path: 50 µs (parsing) to 1 min.
    Steps,
    /// Whole submissions and waits for a sandbox: 1 ms to 2 min.
    Waits,
    /// Creation of sandboxes and calls of the engine: a ping takes 1 ms, a start 120 to 290 ms, a
    /// removal under load seconds.
    Engine,
    /// Memory of programs: 4 MiB to the policy's ceiling of 2 GiB.
    Memory,
}

impl Buckets {
    /// Upper bounds; the client library adds `+Inf`.
    pub fn bounds(self) -> &'static [f64] {
        const MIB: f64 = 1_048_576.0;
        match self {
            Buckets::Steps => &[
                0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0,
                2.5, 5.0, 10.0, 30.0, 60.0,
            ],
            Buckets::Waits => {
                &[0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0]
            }
            Buckets::Engine => &[
                0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0, 30.0,
                60.0,
            ],
            Buckets::Memory => &[
                4.0 * MIB,
                8.0 * MIB,
                16.0 * MIB,
                32.0 * MIB,
                64.0 * MIB,
                128.0 * MIB,
                256.0 * MIB,
                512.0 * MIB,
                1024.0 * MIB,
                2048.0 * MIB,
            ],
        }
    }

    pub fn histogram(self) -> Histogram {
        Histogram::new(self.bounds().iter().copied())
    }
}

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        self.histogram()
    }
}

/// A family of histograms with the same buckets.
pub type Histograms<L> = Family<L, Histogram, Buckets>;

pub fn histograms<L: Clone + Eq + std::hash::Hash>(buckets: Buckets) -> Histograms<L> {
    Family::new_with_constructor(buckets)
}

/// Labels of one row, made at scrape time.
pub type Labels = Vec<(&'static str, String)>;

/// Makes [`Labels`]: `labels!(host = name, state = "ready")`.
#[macro_export]
macro_rules! labels {
    ($($key:ident = $value:expr),* $(,)?) => { vec![$((stringify!($key), $value.to_string())),*] };
}
pub use crate::labels;

/// Writes metrics in the format of the current scrape. A metric without rows is left out, name and
/// help included.
#[derive(Debug)]
pub struct MetricsWriter<'a> {
    encoder: DescriptorEncoder<'a>,
}

impl MetricsWriter<'_> {
    fn rows<M: EncodeMetric>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        rows: impl IntoIterator<Item = (Labels, M)>,
    ) -> fmt::Result {
        let mut rows = rows.into_iter().peekable();
        let Some((_, first)) = rows.peek() else { return Ok(()) };
        let kind = first.metric_type();
        let mut metric = self.encoder.encode_descriptor(name, help, unit.as_ref(), kind)?;
        for (labels, value) in rows {
            if labels.is_empty() {
                // a metric without labels has one row
                return value.encode(metric);
            }
            value.encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }

    /// A gauge with one row per label set.
    pub fn gauges(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        rows: impl IntoIterator<Item = (Labels, f64)>,
    ) -> fmt::Result {
        self.rows(name, help, unit, rows.into_iter().map(|(labels, value)| (labels, ConstGauge::new(value))))
    }

    /// A gauge without labels.
    pub fn gauge(&mut self, name: &str, help: &str, unit: Option<Unit>, value: f64) -> fmt::Result {
        self.gauges(name, help, unit, [(Labels::new(), value)])
    }

    /// A counter with one row per label set; `_total` is appended to its name.
    pub fn counters(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        rows: impl IntoIterator<Item = (Labels, f64)>,
    ) -> fmt::Result {
        self.rows(name, help, unit, rows.into_iter().map(|(labels, value)| (labels, ConstCounter::new(value))))
    }

    /// A counter without labels.
    pub fn counter(&mut self, name: &str, help: &str, unit: Option<Unit>, value: f64) -> fmt::Result {
        self.counters(name, help, unit, [(Labels::new(), value)])
    }

    pub fn histograms(
        &mut self,
        name: &str,
        help: &str,
        unit: Unit,
        rows: impl IntoIterator<Item = (Labels, Histogram)>,
    ) -> fmt::Result {
        self.rows(name, help, Some(unit), rows)
    }

    /// An info metric, whose labels are its content; `_info` is appended to its name.
    pub fn infos(&mut self, name: &str, help: &str, rows: impl IntoIterator<Item = Labels>) -> fmt::Result {
        let mut rows = rows.into_iter().peekable();
        if rows.peek().is_none() {
            return Ok(());
        }
        let mut metric = self.encoder.encode_descriptor(name, help, None, MetricType::Info)?;
        rows.try_for_each(|labels| metric.encode_info(&labels))
    }

    /// A family of the client library.
    pub fn family<L, M, C>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        family: &Family<L, M, C>,
    ) -> fmt::Result
    where
        L: Clone + Eq + std::hash::Hash + EncodeLabelSet,
        M: EncodeMetric + prometheus_client::metrics::TypedMetric,
        C: MetricConstructor<M>,
    {
        if family.is_empty() {
            return Ok(());
        }
        family.encode(self.encoder.encode_descriptor(name, help, unit.as_ref(), family.metric_type())?)
    }
}

/// The owner of some metrics.
pub trait MetricsSource: fmt::Debug + Send + Sync + 'static {
    /// Writes the current values.
    fn write(&self, writer: &mut MetricsWriter<'_>) -> fmt::Result;
}

/// Adapter from [`MetricsSource`] to the client library's trait.
#[derive(Debug)]
struct SourceCollector<S>(S);

impl<S: MetricsSource> Collector for SourceCollector<S> {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.0.write(&mut MetricsWriter { encoder })
    }
}

/// Renders a source in either format.
#[derive(Debug)]
pub struct Exposition(Registry);

impl Exposition {
    pub fn of(source: impl MetricsSource) -> Exposition {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(SourceCollector(source)));
        Exposition(registry)
    }

    pub fn text(&self, format: Format) -> Result<String, fmt::Error> {
        let mut text = String::with_capacity(64 * 1024);
        match format {
            Format::OpenMetrics => prometheus_client::encoding::text::encode(&mut text, &self.0)?,
            Format::Plain => prometheus_client::encoding::prometheus_text::encode(&mut text, &self.0)?,
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct TestSource(Histogram);

    impl MetricsSource for TestSource {
        fn write(&self, writer: &mut MetricsWriter<'_>) -> fmt::Result {
            writer.gauge("assay_a", "A gauge.", Some(Unit::Bytes), 1.5)?;
            writer.counters("assay_b", "A counter.", None, [(labels!(word = "x\"y\n"), 2.0)])?;
            writer.counters("assay_none", "Nothing.", None, [])?;
            writer.infos("assay_c", "An info.", [labels!(version = 1)])?;
            writer.histograms("assay_d", "A histogram.", Unit::Seconds, [(labels!(k = "v"), self.0.clone())])
        }
    }

    #[test]
    fn metrics_are_written_by_the_rules_of_both_formats() {
        let histogram = Buckets::Waits.histogram();
        histogram.observe(0.3);
        let exposition = Exposition::of(TestSource(histogram));
        let plain = exposition.text(Format::Plain).unwrap();
        for line in [
            "# HELP assay_a_bytes A gauge.\n# TYPE assay_a_bytes gauge\nassay_a_bytes 1.5\n",
            "# TYPE assay_b_total counter\nassay_b_total{word=\"x\\\"y\\n\"} 2",
            "# TYPE assay_c_info gauge\nassay_c_info{version=\"1\"} 1\n",
            "assay_d_seconds_bucket{k=\"v\",le=\"0.5\"} 1\n",
        ] {
            assert!(plain.contains(line), "{line} is not in\n{plain}");
        }
        assert!(!plain.contains("assay_none") && !plain.contains("EOF"));
        let open = exposition.text(Format::OpenMetrics).unwrap();
        for line in [
            "# TYPE assay_a_bytes gauge\n# UNIT assay_a_bytes bytes\n",
            "# TYPE assay_b counter\nassay_b_total{",
            "# TYPE assay_c info\nassay_c_info{",
        ] {
            assert!(open.contains(line), "{line} is not in\n{open}");
        }
        assert!(open.ends_with("# EOF\n"));
    }

    #[test]
    fn bucket_bounds_are_ascending() {
        for buckets in [Buckets::Steps, Buckets::Waits, Buckets::Engine, Buckets::Memory] {
            assert!(buckets.bounds().is_sorted_by(|a, b| a < b));
        }
    }
}
