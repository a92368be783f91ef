//! `assay show`: a finished submission with its evidence, stages, output, and what its runs used
//! over time.

use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use serde_json::{Value, json};

use super::client::RpcClient;
use super::history::verdict_style;
use super::out::{self, OutputFormat, TextStyle};
use super::run::kept_output;
use super::table::TextTable;
use super::{CliError, completions, progress, when};

/// Bytes of each output that are shown without `--full`.
const SHOWN_BYTES: usize = 4096;

/// Columns of a drawing.
const DRAWN_COLUMNS: usize = 60;

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Arguments of `show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The submission's id
    #[arg(add = ArgValueCandidates::new(completions::submissions))]
    pub id: String,
    /// Show all of the output
    #[arg(long)]
    pub full: bool,
}

/// Runs `assay show`.
///
/// # Errors
/// A broken connection, or an error response.
pub async fn show(client: &mut RpcClient, output: OutputFormat, args: ShowArgs) -> Result<u8, CliError> {
    let call = client.call("submission.get", json!({ "id": args.id, "history": true }));
    let state = progress::show_while(progress::DAEMON, call).await?;
    let report = &state["report"];
    if output.is_json() || !report.is_object() {
        output.print(&state, || out::line(out::clean(&out::text(&state, "state"))));
        return Ok(0);
    }
    out::stdout(render(&state));
    for (name, run) in runs(report) {
        for stream in ["stdout", "stderr"] {
            let said = kept_output(client, run, stream).await?;
            show_output(&format!("{stream} of {name}"), &said, args.full);
        }
    }
    Ok(0)
}

/// The runs of a report, each with its name.
fn runs(report: &Value) -> Vec<(String, &Value)> {
    let steps = [("compile", &report["compile"]), ("run", &report["run"]), ("suite", &report["suite"]["run"])];
    let steps = steps.into_iter().map(|(name, run)| (name.to_owned(), run));
    let tests = out::list(report, "tests").iter().map(|test| (format!("test {}", out::text(test, "name")), test));
    steps.chain(tests).filter(|(_, run)| run.is_object()).collect()
}

fn show_output(title: &str, said: &[u8], is_full: bool) {
    if said.is_empty() {
        return;
    }
    let shown = if is_full { said } else { &said[..said.len().min(SHOWN_BYTES)] };
    out::line(format_args!("\n{}", out::styled(&out::clean(title), TextStyle::Bold)));
    let text = out::clean(&String::from_utf8_lossy(shown));
    out::line(text.trim_end_matches('\n'));
    if shown.len() < said.len() {
        let left = out::bytes((said.len() - shown.len()) as u64);
        out::line(out::styled(&format!("({left} more with --full)"), TextStyle::Dim));
    }
}

/// All but the output.
fn render(state: &Value) -> String {
    let (report, history) = (&state["report"], &state["history"]);
    let verdict = out::text(report, "verdict");
    let blame = report["blame"].as_str().map(|blame| format!(" (blame: {})", out::clean(blame))).unwrap_or_default();
    let mut text =
        format!("{}  {}{blame}\n", out::clean(&out::text(state, "id")), out::styled(&verdict, verdict_style(&verdict)));
    let message = out::clean(report["message"].as_str().unwrap_or_default());
    if !message.trim().is_empty() {
        text += &format!("{}\n", message.trim_end());
    }
    let mut line = |name: &str, value: String| text += &format!("{name:<10}{}\n", out::clean(&value));
    if history.is_object() {
        let time = |key: &str| history[key].as_i64().map_or("-".to_owned(), when::show);
        line("received", format!("{} UTC", time("received_ms")));
        line("answered", format!("{} UTC", time("answered_ms")));
        line("caller", out::text(history, "principal"));
        line("language", out::text(history, "language"));
    }
    let sandbox = &report["sandbox"];
    if sandbox.is_object() {
        let field = |key: &str| out::text(sandbox, key);
        line(
            "sandbox",
            format!(
                "{} on {}, {}, {} start, use {}",
                field("id"),
                field("host"),
                field("isolation"),
                out::text(report, "start"),
                field("uses")
            ),
        );
        line("image", field("image"));
    }
    let tests = out::list(report, "tests").len();
    if tests > 0 {
        let score = &report["score"];
        let points = format!("{} of {} points", out::text(score, "points"), out::text(score, "max_points"));
        line("tests", format!("{} of {tests} passed, {points}", out::text(score, "passed")));
    }
    let mut section = |name: &str, body: String| {
        if !body.is_empty() {
            text += &format!("\n{}\n{body}", out::styled(name, TextStyle::Bold));
        }
    };
    let colors = out::stdout_has_colors();
    let as_text = |table: TextTable| if table.is_empty() { String::new() } else { table.render(colors) };
    section("stages", as_text(stage_table(&report["timing"])));
    section("runs", as_text(run_table(report)));
    section("over time", drawings(out::list(state, "usage")));
    text
}

fn stage_table(timing: &Value) -> TextTable {
    let mut table = TextTable::new(&["stage", "time"]);
    let stages = ["queue", "lease", "copy_in", "compile", "run", "setup", "check", "collect", "overhead", "total"];
    for stage in stages {
        let ms = timing[format!("{stage}_ms")].as_f64().unwrap_or(0.0);
        if ms > 0.0 {
            table.row([stage.to_owned(), out::millis(ms)]);
        }
    }
    table
}

fn run_table(report: &Value) -> TextTable {
    let mut table = TextTable::new(&["run", "verdict", "outcome", "exit", "cpu", "wall", "memory", "evidence"]);
    for (name, run) in runs(report) {
        let exit = match (run["exit_code"].as_i64(), run["signal"].as_i64()) {
            (Some(code), _) => code.to_string(),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "-".to_owned(),
        };
        let verdict = out::text(run, "verdict");
        let style = (verdict != "-").then(|| verdict_style(&verdict));
        table.styled_row([
            (name, None),
            (verdict, style),
            (out::text(run, "outcome"), None),
            (exit, None),
            (out::millis_of(run, "cpu_ms"), None),
            (out::millis_of(run, "wall_ms"), None),
            (out::bytes_of(run, "memory_bytes"), None),
            (evidence(&run["evidence"]), Some(TextStyle::Dim)),
        ]);
    }
    table
}

/// What supports an outcome; figures that are 0 and the usual source say nothing.
fn evidence(evidence: &Value) -> String {
    let fields = evidence.as_object().into_iter().flatten();
    let said = fields.filter_map(|(name, value)| match value {
        Value::String(text) => Some(format!("{name}={text}")),
        Value::Number(number) if number.as_f64() != Some(0.0) => match number.as_f64() {
            Some(_) if name.ends_with("_bytes") => Some(format!("{name}={}", out::bytes(number.as_u64()?))),
            Some(ms) if name.ends_with("_ms") => Some(format!("{name}={}", out::millis(ms))),
            _ => Some(format!("{name}={number}")),
        },
        _ => None,
    });
    said.collect::<Vec<_>>().join(", ")
}

/// Memory, and the CPUs that were kept busy, of each run that lasted.
fn drawings(usage: &[Value]) -> String {
    let mut text = String::new();
    for run in usage {
        let point = |point: &Value| Some((point[0].as_f64()?, point[1].as_f64()?, point[2].as_f64()?));
        let points: Vec<(f64, f64, f64)> = out::list(run, "points").iter().filter_map(point).collect();
        let Some((end_ms, ..)) = points.last().copied() else { continue };
        let memory: Vec<(f64, f64)> = points.iter().map(|(wall, _, memory)| (*wall, *memory)).collect();
        let cpu = busy_cpus(&points);
        let most = |series: &[(f64, f64)]| series.iter().map(|(_, value)| *value).fold(0.0, f64::max);
        text += &format!("{}, {}\n", out::clean(&out::text(run, "name")), out::millis(end_ms));
        text += &format!("  memory  {}  at most {}\n", bars(&memory, end_ms), out::bytes(most(&memory) as u64));
        text += &format!("  cpu     {}  at most {:.1} CPUs\n", bars(&cpu, end_ms), most(&cpu));
    }
    text
}

/// CPU time per wall time since the point before, at each point.
fn busy_cpus(points: &[(f64, f64, f64)]) -> Vec<(f64, f64)> {
    let (mut last_wall, mut last_cpu) = (0.0, 0.0);
    let mut busy = Vec::with_capacity(points.len());
    for (wall, cpu, _) in points {
        let elapsed = wall - last_wall;
        busy.push((*wall, if elapsed > 0.0 { (cpu - last_cpu).max(0.0) / elapsed } else { 0.0 }));
        (last_wall, last_cpu) = (*wall, *cpu);
    }
    busy
}

/// A row of bars: the highest value in each part of the time, as a part of the highest of all.
fn bars(series: &[(f64, f64)], end: f64) -> String {
    let most = series.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    let columns = series.len().min(DRAWN_COLUMNS);
    let mut heights = vec![None::<f64>; columns];
    for (at, value) in series {
        let column = ((at / end * columns as f64).ceil() as usize).clamp(1, columns) - 1;
        heights[column] = Some(heights[column].map_or(*value, |height: f64| height.max(*value)));
    }
    let mut last = 0.0;
    let bar = |height: Option<f64>| {
        last = height.unwrap_or(last);
        let part = if most > 0.0 { last / most } else { 0.0 };
        BARS[((part * BARS.len() as f64).ceil() as usize).clamp(1, BARS.len()) - 1]
    };
    heights.into_iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drawing_has_the_course_of_a_series() {
        assert_eq!(bars(&[(100.0, 0.0), (200.0, 4.0), (300.0, 8.0)], 300.0), "▁▄█");
        assert_eq!(bars(&[(100.0, 0.0)], 100.0), "▁");
        let long: Vec<(f64, f64)> = (1..=600).map(|at| (f64::from(at), f64::from(at))).collect();
        let drawn = bars(&long, 600.0);
        assert_eq!(drawn.chars().count(), DRAWN_COLUMNS);
        assert!(drawn.starts_with('▁') && drawn.ends_with('█'), "{drawn}");
    }

    #[test]
    fn busy_cpus_are_those_since_the_point_before() {
        let points = [(100.0, 100.0, 0.0), (200.0, 300.0, 0.0), (300.0, 300.0, 0.0), (300.0, 300.0, 0.0)];
        let busy: Vec<f64> = busy_cpus(&points).into_iter().map(|(_, value)| value).collect();
        assert_eq!(busy, [1.0, 2.0, 0.0, 0.0]);
    }

    #[test]
    fn a_submission_is_shown_with_evidence_and_stages() {
        let run = json!({
            "outcome": "memory_limit", "exit_code": null, "signal": 9, "cpu_ms": 100.0, "wall_ms": 200.0,
            "memory_bytes": 1 << 20, "name": "1\u{1b}[2J", "verdict": "memory_limit",
            "evidence": { "limit": "memory_bytes", "limit_value": 1 << 20, "oom_kills": 1, "pids_denied": 0,
                "max_rss_bytes": 2048, "user_ms": 1.5 },
        });
        let state = json!({
            "id": "a", "state": "done", "history": { "principal": "uid:7", "language": "c", "received_ms": 0,
                "answered_ms": 1000 },
            "report": { "verdict": "memory_limit", "message": "Too much memory.", "tests": [run],
                "score": { "passed": 0, "points": 0.0, "max_points": 1.0 }, "timing": { "queue_ms": 0.0, "run_ms": 200.0 },
                "sandbox": { "id": "0123", "host": "local", "isolation": "cell", "uses": 2, "image": "sha256:1" },
                "start": "warm", "blame": null },
            "usage": [{ "name": "1", "points": [[100.0, 50.0, 1000], [200.0, 150.0, 2000]] }],
        });
        let text = render(&state);
        for part in [
            "a  memory_limit\nToo much memory.\n",
            "answered  1970-01-01 00:00:01 UTC\n",
            "sandbox   0123 on local, cell, warm start, use 2\n",
            "limit=memory_bytes, limit_value=1048576, max_rss_bytes=2.0 KiB, oom_kills=1, user_ms=1.50 ms",
            "run    200 ms\n",
            "signal 9",
            "  memory  ▄█  at most 2.0 KiB\n  cpu     ▄█  at most 1.0 CPUs\n",
        ] {
            assert!(text.contains(part), "{part:?} is missing in:\n{text}");
        }
        assert!(!text.contains('\u{1b}') && !text.contains("queue"), "{text}");
    }
}
