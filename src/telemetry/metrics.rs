//! What metrics are made of: counts and histograms that their owners keep, and the sheet that they are written on when somebody
//! asks.
//!
//! Who does something counts it, beside what it does: there is no registry to which everybody would have to be introduced.
//! [`Counter`] and [`Histogram`] are shared by cloning; an increment is one atomic operation, an observation takes a lock that
//! is held for some twenty comparisons. A [`Family`] looks its member up by its labels under a lock for reading.
//!
//! Labels are closed lists, or names out of the configuration (hosts, profiles): nothing that a caller, a program or an engine
//! says makes a new series.

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

/// The two forms of the text that a scraper may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The older form of Prometheus, 0.0.4: what `curl` gets, and `promtool check metrics` reads.
    Plain,
}

impl Format {
    /// Its content type.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Plain => prometheus_client::encoding::prometheus_text::CONTENT_TYPE,
        }
    }
}

/// Bounds of histograms, in the unit of what is measured. One table: a bucket costs a series for each member of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Buckets {
    /// Steps of the hot path: from what a parser takes to a minute.
    Steps,
    /// Whole submissions, and waits for a sandbox.
    Waits,
    /// Sandboxes being made, and calls of the engine: a ping takes 1 ms, a start 120 to 290 ms, a removal under load seconds.
    Engine,
    /// Memory of programs: 4 MiB to the 2 GiB that policy allows.
    Memory,
}

impl Buckets {
    /// The upper bounds; the one without a bound is added by itself.
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

    /// A histogram with these bounds.
    pub fn histogram(self) -> Histogram {
        Histogram::new(self.bounds().iter().copied())
    }
}

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        self.histogram()
    }
}

/// Histograms by labels.
pub type Histograms<L> = Family<L, Histogram, Buckets>;

/// A family of histograms with these bounds.
pub fn histograms<L: Clone + Eq + std::hash::Hash>(buckets: Buckets) -> Histograms<L> {
    Family::new_with_constructor(buckets)
}

/// The labels of a row that is written, not kept.
pub type Labels = Vec<(&'static str, String)>;

/// Labels of one row: `labels!(host = name, state = "ready")`.
macro_rules! labels {
    ($($key:ident = $value:expr),* $(,)?) => { vec![$((stringify!($key), $value.to_string())),*] };
}
pub(crate) use labels;

/// What metrics are written on. A metric without rows leaves no trace.
#[derive(Debug)]
pub struct Sheet<'a> {
    encoder: DescriptorEncoder<'a>,
}

impl Sheet<'_> {
    /// A family of values; none at all where it has no rows.
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
                // it is the only one
                return value.encode(metric);
            }
            value.encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }

    /// Something that goes up and down.
    ///
    /// # Errors
    /// The writer's.
    pub fn gauges(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        rows: impl IntoIterator<Item = (Labels, f64)>,
    ) -> fmt::Result {
        self.rows(name, help, unit, rows.into_iter().map(|(labels, value)| (labels, ConstGauge::new(value))))
    }

    /// One of those, without labels.
    ///
    /// # Errors
    /// The writer's.
    pub fn gauge(&mut self, name: &str, help: &str, unit: Option<Unit>, value: f64) -> fmt::Result {
        self.gauges(name, help, unit, [(Labels::new(), value)])
    }

    /// Something that only goes up; `_total` is added to its name.
    ///
    /// # Errors
    /// The writer's.
    pub fn counters(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        rows: impl IntoIterator<Item = (Labels, f64)>,
    ) -> fmt::Result {
        self.rows(name, help, unit, rows.into_iter().map(|(labels, value)| (labels, ConstCounter::new(value))))
    }

    /// One of those, without labels.
    ///
    /// # Errors
    /// The writer's.
    pub fn counter(&mut self, name: &str, help: &str, unit: Option<Unit>, value: f64) -> fmt::Result {
        self.counters(name, help, unit, [(Labels::new(), value)])
    }

    /// How something is distributed.
    ///
    /// # Errors
    /// The writer's.
    pub fn histograms(
        &mut self,
        name: &str,
        help: &str,
        unit: Unit,
        rows: impl IntoIterator<Item = (Labels, Histogram)>,
    ) -> fmt::Result {
        self.rows(name, help, Some(unit), rows)
    }

    /// What something is, in words; `_info` is added to its name.
    ///
    /// # Errors
    /// The writer's.
    pub fn infos(&mut self, name: &str, help: &str, rows: impl IntoIterator<Item = Labels>) -> fmt::Result {
        let mut rows = rows.into_iter().peekable();
        if rows.peek().is_none() {
            return Ok(());
        }
        let mut metric = self.encoder.encode_descriptor(name, help, None, MetricType::Info)?;
        rows.try_for_each(|labels| metric.encode_info(&labels))
    }

    /// A family that somebody keeps, as it is.
    ///
    /// # Errors
    /// The writer's.
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

/// Writes all metrics there are.
pub trait Book: fmt::Debug + Send + Sync + 'static {
    /// Writes them.
    ///
    /// # Errors
    /// The writer's.
    fn write(&self, sheet: &mut Sheet<'_>) -> fmt::Result;
}

/// A book, as the encoders want it.
#[derive(Debug)]
struct Read<B>(B);

impl<B: Book> Collector for Read<B> {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.0.write(&mut Sheet { encoder })
    }
}

/// A book that can be read in both formats.
#[derive(Debug)]
pub struct Exposition(Registry);

impl Exposition {
    /// Of this book.
    pub fn of(book: impl Book) -> Exposition {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Read(book)));
        Exposition(registry)
    }

    /// Its text now.
    ///
    /// # Errors
    /// None in practice: a string takes everything.
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
    struct Little(Histogram);

    impl Book for Little {
        fn write(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
            sheet.gauge("assay_a", "A gauge.", Some(Unit::Bytes), 1.5)?;
            sheet.counters("assay_b", "A counter.", None, [(labels!(word = "x\"y\n"), 2.0)])?;
            sheet.counters("assay_none", "Nothing.", None, [])?;
            sheet.infos("assay_c", "An info.", [labels!(version = 1)])?;
            sheet.histograms("assay_d", "A histogram.", Unit::Seconds, [(labels!(k = "v"), self.0.clone())])
        }
    }

    #[test]
    fn a_metric_is_written_in_both_formats_by_the_rules_of_each() {
        let histogram = Buckets::Waits.histogram();
        histogram.observe(0.3);
        let book = Exposition::of(Little(histogram));
        let plain = book.text(Format::Plain).unwrap();
        for line in [
            "# HELP assay_a_bytes A gauge.\n# TYPE assay_a_bytes gauge\nassay_a_bytes 1.5\n",
            "# TYPE assay_b_total counter\nassay_b_total{word=\"x\\\"y\\n\"} 2",
            "# TYPE assay_c_info gauge\nassay_c_info{version=\"1\"} 1\n",
            "assay_d_seconds_bucket{k=\"v\",le=\"0.5\"} 1\n",
        ] {
            assert!(plain.contains(line), "{line} is not in\n{plain}");
        }
        assert!(!plain.contains("assay_none") && !plain.contains("EOF"));
        let open = book.text(Format::OpenMetrics).unwrap();
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
    fn the_bounds_of_every_histogram_grow() {
        for buckets in [Buckets::Steps, Buckets::Waits, Buckets::Engine, Buckets::Memory] {
            assert!(buckets.bounds().is_sorted_by(|a, b| a < b));
        }
    }
}
