//! Chooses the format of the metrics from the `Accept` header of a scraper. Pure.
//!
//! Prometheus lists OpenMetrics first and the older text format after it; `curl` accepts anything
//! and gets the older format, which more tools read. Other formats in the header (protobuf) are not
//! supported and skipped.

use telemetry::metrics::Format;

/// The format with the higher quality; OpenMetrics on a tie. A scraper that accepts neither gets
/// the older text format, as from Prometheus' own exporters.
pub(super) fn format(accept: Option<&str>) -> Format {
    let quality_of = |kind: &str, version: &[&str]| {
        let ranges = accept.unwrap_or("*/*").split(',').filter_map(|range| quality(range, kind, version));
        ranges.fold(0.0, f64::max)
    };
    let open = quality_of("application/openmetrics-text", &["0.0.1", "1.0.0"]);
    let plain = quality_of("text/plain", &["0.0.4"]);
    if open > 0.0 && open >= plain { Format::OpenMetrics } else { Format::Plain }
}

/// Quality (`q`, 0 to 1) of a media range if it names `kind` in one of `versions`; otherwise
/// `None`.
fn quality(range: &str, kind: &str, versions: &[&str]) -> Option<f64> {
    let mut parts = range.split(';').map(str::trim);
    if !parts.next()?.eq_ignore_ascii_case(kind) {
        return None;
    }
    let mut quality = 1.0;
    for part in parts {
        let (name, value) = part.split_once('=')?;
        let value = value.trim().trim_matches('"');
        match name.trim().to_ascii_lowercase().as_str() {
            "version" if !versions.contains(&value) => return None,
            "q" => quality = value.parse::<f64>().ok().filter(|q| (0.0..=1.0).contains(q))?,
            _ => {}
        }
    }
    Some(quality)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scraper_gets_the_format_that_it_prefers() {
        use Format::{OpenMetrics, Plain};
        let prometheus_2 = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                            text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                            application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;q=0.4,\
                            text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let protobuf_first = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;q=0.7,\
                              application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5";
        for (accept, expected) in [
            (prometheus_2, OpenMetrics),
            (prometheus_3, OpenMetrics),
            (protobuf_first, OpenMetrics),
            ("application/openmetrics-text", OpenMetrics),
            ("APPLICATION/OpenMetrics-Text; Version=\"1.0.0\"", OpenMetrics),
            ("text/plain;version=0.0.4", Plain),
            ("text/plain;q=0.9,application/openmetrics-text;q=0.1", Plain),
            ("application/openmetrics-text;version=2.0.0", Plain),
            ("application/openmetrics-text;q=0", Plain),
            ("application/openmetrics-text;q=nonsense", Plain),
            ("*/*", Plain),
            ("", Plain),
            (";;,,=;q=", Plain),
        ] {
            assert_eq!(format(Some(accept)), expected, "{accept}");
        }
        assert_eq!(format(None), Plain);
    }
}
