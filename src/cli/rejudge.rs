//! `assay rejudge FILE --times N`: the same submission again and again, and whether anything of it depends on chance.

use std::collections::BTreeMap;
use std::path::Path;

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::client::RpcClient;
use super::submission::{SubmissionArgs, draft};
use super::{CliError, out, progress};

/// Arguments of `rejudge`.
#[derive(Debug, Args)]
pub struct RejudgeArgs {
    /// How often
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub times: u32,
    /// The program.
    #[command(flatten)]
    pub submission: SubmissionArgs,
}

/// What `rejudge --json` prints.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RejudgeOutput {
    /// How often it was judged.
    pub times: u32,
    /// How often each verdict came.
    pub verdicts: BTreeMap<String, u32>,
    /// CPU time in milliseconds, of the slowest test.
    pub cpu_ms: Option<SpreadOutput>,
    /// Wall time in milliseconds, of the slowest test.
    pub wall_ms: Option<SpreadOutput>,
    /// Memory in bytes, of the largest test.
    pub memory_bytes: Option<SpreadOutput>,
}

/// A spread.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SpreadOutput {
    /// The least.
    pub min: f64,
    /// The middle one.
    pub p50: f64,
    /// The most.
    pub max: f64,
}

/// Least, middle and most of what was measured.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Spread(Vec<f64>);

impl Spread {
    fn add(&mut self, value: Option<f64>) {
        self.0.extend(value);
    }

    /// (least, middle, most); none without a value.
    pub fn of(&self) -> Option<(f64, f64, f64)> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        Some((*sorted.first()?, sorted[sorted.len() / 2], *sorted.last()?))
    }

    fn output(&self) -> Option<SpreadOutput> {
        self.of().map(|(min, p50, max)| SpreadOutput { min, p50, max })
    }
}

/// The figure of a report: the run's, or the most of any test's.
fn figure(report: &Value, key: &str) -> Option<f64> {
    let tests = report["tests"].as_array().into_iter().flatten();
    tests.chain([&report["run"]]).filter_map(|run| run[key].as_f64()).max_by(f64::total_cmp)
}

/// Judges again and again; 0 when the verdict was the same each time.
///
/// # Errors
/// Usage, connection, or the daemon's refusal.
pub async fn rejudge(socket: &Path, json: bool, args: RejudgeArgs) -> Result<u8, CliError> {
    let draft = draft(&args.submission)?;
    if args.submission.id.is_some() {
        return Err(CliError::Usage("--id: the same id answers the same report; leave it out".to_owned()));
    }
    let mut client = progress::over(progress::DAEMON, RpcClient::connect(socket)).await?;
    let submission = progress::over("handing the files over", draft.send_blobs(&mut client)).await?;
    let mut verdicts: BTreeMap<String, u32> = BTreeMap::new();
    let keys = ["cpu_ms", "wall_ms", "memory_bytes"];
    let mut spreads = [Spread::default(), Spread::default(), Spread::default()];
    let bar = progress::steps(args.times.into(), "judging");
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
    if json {
        let [cpu_ms, wall_ms, memory_bytes] = spreads.map(|spread| spread.output());
        out::json_of(&RejudgeOutput { times: args.times, verdicts, cpu_ms, wall_ms, memory_bytes });
    } else {
        for (verdict, count) in &verdicts {
            out::line(format_args!("{count:6} of {}  {}", args.times, out::clean(verdict)));
        }
        let mut table = out::Table::new(&["", "least", "middle", "most"]);
        let memory = |bytes: f64| out::bytes(bytes as u64);
        for (spread, name, show) in [
            (&spreads[0], "cpu", &out::millis as &dyn Fn(f64) -> String),
            (&spreads[1], "wall", &out::millis),
            (&spreads[2], "memory", &memory),
        ] {
            if let Some((min, p50, max)) = spread.of() {
                table.row([name.to_owned(), show(min), show(p50), show(max)]);
            }
        }
        table.print("");
    }
    Ok(u8::from(!is_steady))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_spread_is_least_middle_and_most() {
        let mut spread = Spread::default();
        assert_eq!(spread.of(), None);
        for value in [5.0, 1.0, 3.0] {
            spread.add(Some(value));
        }
        spread.add(None);
        assert_eq!(spread.of(), Some((1.0, 3.0, 5.0)));
    }

    #[test]
    fn the_figure_of_many_tests_is_the_largest() {
        let report = json!({ "tests": [{ "cpu_ms": 1.0 }, { "cpu_ms": 7.5 }, { "verdict": "skipped" }] });
        assert_eq!((figure(&report, "cpu_ms"), figure(&report, "wall_ms")), (Some(7.5), None));
        assert_eq!(figure(&json!({ "run": { "cpu_ms": 2 } }), "cpu_ms"), Some(2.0));
    }
}
