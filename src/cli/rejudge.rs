//! `assay rejudge FILE --times N`: runs a submission repeatedly and shows how verdict and figures
//! vary.

use std::collections::BTreeMap;
use std::path::Path;

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::client::connect;
use super::out::OutputFormat;
use super::submission::{SubmissionArgs, draft};
use super::table::TextTable;
use super::{CliError, out, progress};

/// Arguments of `rejudge`.
#[derive(Debug, Args)]
pub struct RejudgeArgs {
    /// Number of runs
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub times: u32,
    #[command(flatten)]
    pub submission: SubmissionArgs,
}

/// The document of `rejudge --json`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RejudgeOutput {
    /// Number of runs.
    pub times: u32,
    /// How often each verdict occurred.
    pub verdicts: BTreeMap<String, u32>,
    /// CPU time of the slowest test in milliseconds.
    pub cpu_ms: Option<SpreadOutput>,
    /// Wall time of the slowest test in milliseconds.
    pub wall_ms: Option<SpreadOutput>,
    /// Memory of the largest test in bytes.
    pub memory_bytes: Option<SpreadOutput>,
}

/// Minimum, median and maximum over all runs.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SpreadOutput {
    /// The smallest value.
    pub min: f64,
    /// The median value.
    pub p50: f64,
    /// The largest value.
    pub max: f64,
}

/// Collects values to find minimum, median and maximum.
#[derive(Debug, Default, Clone, PartialEq)]
struct Spread(Vec<f64>);

impl Spread {
    fn add(&mut self, value: Option<f64>) {
        self.0.extend(value);
    }

    /// (minimum, median, maximum); `None` without a value.
    fn summary(&self) -> Option<(f64, f64, f64)> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        Some((*sorted.first()?, sorted[sorted.len() / 2], *sorted.last()?))
    }

    fn output(&self) -> Option<SpreadOutput> {
        self.summary().map(|(min, p50, max)| SpreadOutput { min, p50, max })
    }
}

/// A figure of the report: the run's, or the largest of its tests.
fn figure(report: &Value, key: &str) -> Option<f64> {
    let tests = report["tests"].as_array().into_iter().flatten();
    tests.chain([&report["run"]]).filter_map(|run| run[key].as_f64()).max_by(f64::total_cmp)
}

/// Runs `assay rejudge`: 0 if every run has the same verdict.
///
/// # Errors
/// Usage, a broken connection, or an error response.
pub async fn rejudge(socket: &Path, output: OutputFormat, args: RejudgeArgs) -> Result<u8, CliError> {
    let draft = draft(&args.submission)?;
    if args.submission.id.is_some() {
        let message = "--id cannot be used here: the same id would return the same report";
        return Err(CliError::Usage(message.to_owned()));
    }
    let mut client = connect(socket).await?;
    let submission = progress::show_while("uploading the files", draft.upload(&mut client)).await?;
    let mut verdicts: BTreeMap<String, u32> = BTreeMap::new();
    let keys = ["cpu_ms", "wall_ms", "memory_bytes"];
    let mut spreads = [Spread::default(), Spread::default(), Spread::default()];
    let bar = progress::bar(args.times.into(), "judging");
    for _ in 0..args.times {
        let report = client.call("submission.run", submission.clone()).await?;
        bar.inc(1);
        *verdicts.entry(out::text(&report, "verdict")).or_default() += 1;
        for (spread, key) in spreads.iter_mut().zip(keys) {
            spread.add(figure(&report, key));
        }
    }
    bar.finish_and_clear();
    let is_steady = verdicts.len() == 1;
    let [cpu_ms, wall_ms, memory_bytes] = spreads.each_ref().map(Spread::output);
    let document = RejudgeOutput { times: args.times, verdicts, cpu_ms, wall_ms, memory_bytes };
    output.print(&document, || show(&document, &spreads));
    Ok(u8::from(!is_steady))
}

fn show(document: &RejudgeOutput, spreads: &[Spread; 3]) {
    for (verdict, count) in &document.verdicts {
        out::line(format_args!("{count:6} of {}  {}", document.times, out::clean(verdict)));
    }
    let mut table = TextTable::new(&["", "min", "median", "max"]);
    let memory = |bytes: f64| out::bytes(bytes as u64);
    for (spread, name, show) in [
        (&spreads[0], "cpu", &out::millis as &dyn Fn(f64) -> String),
        (&spreads[1], "wall", &out::millis),
        (&spreads[2], "memory", &memory),
    ] {
        if let Some((min, p50, max)) = spread.summary() {
            table.row([name.to_owned(), show(min), show(p50), show(max)]);
        }
    }
    table.print("");
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_spread_is_minimum_median_and_maximum() {
        let mut spread = Spread::default();
        assert_eq!(spread.summary(), None);
        for value in [5.0, 1.0, 3.0] {
            spread.add(Some(value));
        }
        spread.add(None);
        assert_eq!(spread.summary(), Some((1.0, 3.0, 5.0)));
    }

    #[test]
    fn the_figure_of_several_tests_is_the_largest() {
        let report = json!({ "tests": [{ "cpu_ms": 1.0 }, { "cpu_ms": 7.5 }, { "verdict": "skipped" }] });
        assert_eq!((figure(&report, "cpu_ms"), figure(&report, "wall_ms")), (Some(7.5), None));
        assert_eq!(figure(&json!({ "run": { "cpu_ms": 2 } }), "cpu_ms"), Some(2.0));
    }
}
