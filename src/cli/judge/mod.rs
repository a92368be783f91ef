//! `assay judge PROBLEM [SUBMISSION...]`: submissions against an ICPC problem package, and against what their folders promise.
//!
//! ```text
//!  package (folder or zip) --read--> problem --time limit: said, or from the jury's accepted solutions-->
//!       each submission: compile, all tests, validator or interactor --> verdict, points, as expected or not
//! ```

mod expected;
mod package;
mod score;
mod yaml;
mod zipped;

use std::path::{Path, PathBuf};

use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use super::client::RpcClient;
use super::submission::{INLINE_BYTES_OF_A_LINE, put};
use super::{CliError, completions, out, progress};
use package::{Problem, Program, file_name};
use protocol::Report;
use score::Part;

/// Arguments of `judge`.
#[derive(Debug, Args)]
pub struct JudgeArgs {
    /// The problem package: a folder, or a zip of one
    pub problem: PathBuf,
    /// Files, folders of one program each, or folders named after a verdict; by default all of the package's submissions/
    pub submissions: Vec<PathBuf>,
    /// CPU time in seconds, whatever the package says
    #[arg(long, value_name = "SECONDS")]
    pub time_limit: Option<f64>,
    /// The profile, whatever the files' endings say
    #[arg(long, short, add = ArgValueCandidates::new(completions::profiles))]
    pub language: Option<String>,
}

/// A derived limit is measured within this, in seconds.
const MOST_SECONDS: f64 = 60.0;

/// A submission on disk.
#[derive(Debug)]
struct Entry {
    path: PathBuf,
    program: Program,
    /// Verdicts that are as expected; none when nothing is.
    expected: Option<Vec<&'static str>>,
}

/// What came of one.
#[derive(Debug)]
struct Row {
    name: String,
    language: String,
    verdict: String,
    expected: Option<Vec<&'static str>>,
    points: Option<f64>,
    slowest_ms: f64,
    message: String,
    report: Value,
}

impl Row {
    /// Whether it is what was expected; accepted, where nothing was.
    fn is_well(&self) -> bool {
        match &self.expected {
            Some(verdicts) => verdicts.contains(&self.verdict.as_str()),
            None => self.verdict == "accepted",
        }
    }

    fn output(self) -> JudgeRow {
        let as_expected = self.expected.as_ref().map(|_| self.is_well());
        JudgeRow {
            submission: self.name,
            language: self.language,
            verdict: self.verdict,
            expected: self.expected,
            as_expected,
            points: self.points,
            slowest_ms: self.slowest_ms,
            message: self.message,
            report: self.report,
        }
    }
}

/// What `judge --json` prints.
#[derive(Debug, Serialize, JsonSchema)]
pub struct JudgeOutput {
    /// The problem's name.
    pub problem: String,
    /// How many tests it has.
    pub tests: usize,
    /// CPU time in seconds.
    pub time_limit_s: f64,
    /// What came of each.
    pub submissions: Vec<JudgeRow>,
    /// How many were as expected; accepted, where nothing was.
    pub as_expected: usize,
}

/// What came of a submission.
#[derive(Debug, Serialize, JsonSchema)]
pub struct JudgeRow {
    /// Its path below the package's submissions/, or its file's name.
    pub submission: String,
    /// Its profile.
    pub language: String,
    /// The verdict; `partial` where a scored problem gave points.
    pub verdict: String,
    /// Verdicts that its folder, or its source, promises; null when nothing does.
    pub expected: Option<Vec<&'static str>>,
    /// Whether it is one of them.
    pub as_expected: Option<bool>,
    /// Of a scored problem.
    pub points: Option<f64>,
    /// CPU time of its slowest test.
    pub slowest_ms: f64,
    /// For people.
    pub message: String,
    /// The daemon's report.
    #[schemars(with = "Report")]
    pub report: Value,
}

/// Judges; 0 when every submission is as expected.
///
/// # Errors
/// Usage, a package that is none, connection, or the daemon's refusal.
pub async fn judge(socket: &Path, json: bool, args: JudgeArgs) -> Result<u8, CliError> {
    let unpacked = zipped::unpack(&args.problem)?;
    let problem = Problem::read(unpacked.as_ref().map_or(args.problem.as_path(), |folder| folder.path()))?;
    let entries = entries(&problem, &args)?;
    let mut client = progress::over(progress::DAEMON, RpcClient::connect(socket)).await?;
    let mut bench = progress::over("handing the tests over", Bench::new(&problem, &mut client)).await?;
    let limit = match args.time_limit.or(problem.limits.time) {
        Some(seconds) if seconds.is_finite() && seconds > 0.0 => seconds,
        Some(seconds) => return Err(CliError::Usage(format!("--time-limit: {seconds} are no seconds"))),
        None => bench.derive(&args).await?,
    };
    let progress = progress::steps(entries.len() as u64, "judging");
    let mut rows = Vec::with_capacity(entries.len());
    for entry in &entries {
        progress.set_message(file_name(&entry.path));
        rows.push(bench.judge(entry, limit).await?);
        progress.inc(1);
    }
    progress.finish_and_clear();
    let well = rows.iter().filter(|row| row.is_well()).count();
    let all_well = well == rows.len();
    if json {
        out::json_of(&JudgeOutput {
            problem: problem.name,
            tests: problem.tests.len(),
            time_limit_s: limit,
            submissions: rows.into_iter().map(Row::output).collect(),
            as_expected: well,
        });
    } else {
        show(&problem, limit, &rows, well);
    }
    Ok(u8::from(!all_well))
}

fn show(problem: &Problem, limit: f64, rows: &[Row], well: usize) {
    let tests = problem.tests.len();
    out::line(format_args!("{}: {tests} tests, {limit} s of CPU time", out::clean(&problem.name)));
    let mut table =
        out::Table::new(&["", "submission", "language", "verdict", "expected", "points", "slowest", "message"]);
    for row in rows {
        let (mark, tint) = if row.is_well() { ("ok", out::Tint::Green) } else { ("NO", out::Tint::Red) };
        let expected = row.expected.as_ref().map_or("-".to_owned(), |verdicts| verdicts.join(" or "));
        let points = row.points.map_or("-".to_owned(), |points| format!("{points}"));
        let message = row.message.lines().next().unwrap_or_default().chars().take(100).collect();
        let cells = [row.name.clone(), row.language.clone(), row.verdict.replace('_', " "), expected.replace('_', " ")];
        let cells = cells.into_iter().chain([points, out::millis(row.slowest_ms), message]).map(|cell| (cell, None));
        table.tinted([(mark.to_owned(), Some(tint))].into_iter().chain(cells));
    }
    table.print("no submissions");
    out::line(format_args!("{well} of {} as expected", rows.len()));
}

/// What is to be judged.
fn entries(problem: &Problem, args: &JudgeArgs) -> Result<Vec<Entry>, CliError> {
    let mut paths = Vec::new();
    if args.submissions.is_empty() {
        let folder = problem.root.join("submissions");
        if !folder.is_dir() {
            return Err(CliError::Usage(format!("{} is missing; name the submissions", folder.display())));
        }
        paths.extend(children(&folder)?.into_iter().filter(|path| path.is_dir()));
    } else {
        paths.extend(args.submissions.iter().cloned());
    }
    let mut entries = Vec::new();
    for path in paths {
        let is_verdict = path.is_dir() && expected::of_folder(&file_name(&path)).is_some();
        // the package's own folders hold submissions, whatever they are called
        let holds_many = is_verdict || (args.submissions.is_empty() && path.is_dir());
        for path in if holds_many { children(&path)? } else { vec![path] } {
            entries.push(entry(&path, args)?);
        }
    }
    Ok(entries)
}

fn children(folder: &Path) -> Result<Vec<PathBuf>, CliError> {
    let wrong = |error: std::io::Error| CliError::Usage(format!("cannot read {}: {error}", folder.display()));
    let all: Result<Vec<PathBuf>, _> =
        std::fs::read_dir(folder).map_err(wrong)?.map(|entry| Ok(entry?.path())).collect();
    let mut all = all.map_err(wrong)?;
    all.retain(|path| !file_name(path).starts_with('.'));
    all.sort();
    Ok(all)
}

fn entry(path: &Path, args: &JudgeArgs) -> Result<Entry, CliError> {
    let real =
        path.canonicalize().map_err(|error| CliError::Usage(format!("cannot read {}: {error}", path.display())))?;
    let root = if real.is_dir() { real.clone() } else { real.parent().map_or(real.clone(), Path::to_owned) };
    let mut program = match &args.language {
        // its ending need not say anything
        Some(language) if real.is_file() => {
            let name = file_name(&real);
            Program { language: language.clone(), entry: name.clone(), files: vec![(name, real.clone())] }
        }
        _ => package::one_of(&root, &real)?.ok_or_else(|| CliError::Usage(format!("{} is empty", path.display())))?,
    };
    if let Some(language) = &args.language {
        program.language.clone_from(language);
    }
    let folder = real.parent().map(file_name).unwrap_or_default();
    let by_source = || {
        let source = program.files.iter().find(|(name, _)| *name == program.entry)?;
        expected::of_source(&std::fs::read(&source.1).ok()?)
    };
    let expected = by_source().or(expected::of_folder(&folder).map(<[_]>::to_vec));
    Ok(Entry { path: real, program, expected })
}

/// A problem that the daemon has the large parts of.
struct Bench<'a> {
    problem: &'a Problem,
    client: &'a mut RpcClient,
    /// Everything of a submission but its program and its time.
    base: Value,
}

impl<'a> Bench<'a> {
    async fn new(problem: &'a Problem, client: &'a mut RpcClient) -> Result<Bench<'a>, CliError> {
        let mut room = INLINE_BYTES_OF_A_LINE;
        let validator = match &problem.validator {
            None => None,
            Some(program) => {
                let mut value = json!({ "language": program.language, "entry": program.entry });
                value["files"] = files(client, program, &mut 0).await?;
                let limits = &problem.limits;
                if let Some(seconds) = limits.validation_time {
                    value["limits"] = json!({ "cpu_ms": seconds * 1e3, "wall_ms": seconds * 3e3 });
                }
                if let Some(mib) = limits.validation_memory_mib {
                    value["limits"]["memory_bytes"] = json!((mib * 1048576.0) as u64);
                }
                Some(value)
            }
        };
        let checker = |flags: &[String]| -> Result<Value, CliError> {
            Ok(match &validator {
                None => problem.default_checker(flags)?,
                Some(program) => {
                    let mut checker = program.clone();
                    checker["kind"] = json!("program");
                    checker["args"] = json!(flags);
                    checker
                }
            })
        };
        let mut base = json!({ "stop": if problem.is_scored { "never" } else { "first_failure" } });
        match &validator {
            Some(interactor) if problem.is_interactive => {
                base["interactor"] = interactor.clone();
                base["interactor"]["args"] = json!(problem.flags);
            }
            _ => base["checker"] = checker(&problem.flags)?,
        }
        let mut tests = Vec::with_capacity(problem.tests.len());
        for test in &problem.tests {
            let mut value = json!({ "name": test.name, "group": test.group, "args": test.args, "weight": test.accept });
            for (key, path) in [("stdin", &test.input), ("expect", &test.answer)] {
                put(client, &mut value, key, read(path)?, &mut room).await?;
            }
            if let Some(flags) = test.flags.as_ref().filter(|_| !problem.is_interactive) {
                value["checker"] = checker(flags)?;
            }
            tests.push(value);
        }
        base["tests"] = json!(tests);
        let limits = &problem.limits;
        if let Some(mib) = limits.memory_mib {
            base["limits"]["memory_bytes"] = json!((mib * 1048576.0) as u64);
        }
        if let Some(mib) = limits.output_mib {
            base["limits"]["output_bytes"] = json!((mib * 1048576.0) as u64);
        }
        Ok(Bench { problem, client, base })
    }

    /// The time limit in seconds, from the jury's accepted solutions.
    async fn derive(&mut self, args: &JudgeArgs) -> Result<f64, CliError> {
        let folder = self.problem.root.join("submissions").join("accepted");
        let paths = if folder.is_dir() { children(&folder)? } else { Vec::new() };
        let mut slowest: Option<f64> = None;
        let progress = progress::steps(paths.len() as u64, "measuring the jury's solutions");
        for path in &paths {
            let row = self.judge(&entry(path, args)?, MOST_SECONDS).await?;
            if row.verdict != "accepted" {
                let (name, message) = (row.name, row.message);
                let said = format!("{name} is to be accepted, and is {}: {message}", row.verdict);
                return Err(CliError::Usage(format!("no time limit can be derived: {said}; say --time-limit")));
            }
            slowest = Some(slowest.unwrap_or(0.0).max(row.slowest_ms / 1e3));
            progress.inc(1);
        }
        progress.finish_and_clear();
        let Some(slowest) = slowest else {
            let why = "the package says no time limit, and has no submissions/accepted to derive it from";
            return Err(CliError::Usage(format!("{why}; say --time-limit")));
        };
        let limits = &self.problem.limits;
        let steps = (slowest * limits.multiplier / limits.resolution).ceil().max(1.0);
        Ok(steps * limits.resolution)
    }

    async fn judge(&mut self, entry: &Entry, limit: f64) -> Result<Row, CliError> {
        let mut submission = self.base.clone();
        submission["language"] = json!(entry.program.language);
        submission["entry"] = json!(entry.program.entry);
        submission["files"] = files(self.client, &entry.program, &mut (INLINE_BYTES_OF_A_LINE / 2)).await?;
        submission["limits"]["cpu_ms"] = json!((limit * 1e3).ceil() as u64);
        submission["limits"]["wall_ms"] = json!((limit * 2e3).ceil() as u64 + 2000);
        let report = self.client.call("submission.run", submission).await?;
        Ok(row(self.problem, entry, report))
    }
}

fn row(problem: &Problem, entry: &Entry, report: Value) -> Row {
    let tests = out::list(&report, "tests");
    let slowest_ms = tests.iter().filter_map(|test| test["cpu_ms"].as_f64()).fold(0.0, f64::max);
    let part = |test: &Value| {
        let accepted = test["verdict"] == "accepted";
        let known = problem.tests.iter().find(|known| test["name"] == known.name.as_str());
        let given = test["points"].as_f64().unwrap_or(0.0);
        let points = match known {
            Some(known) if !accepted && given == 0.0 => known.reject,
            _ => given,
        };
        Part { group: known.map(|known| known.group.clone()).unwrap_or_default(), accepted, points }
    };
    let parts: Vec<Part> = tests.iter().map(part).collect();
    let points = problem.is_scored.then(|| score::points("", &problem.groups, &parts));
    let mut verdict = out::text(&report, "verdict");
    let judged = !matches!(verdict.as_str(), "system_error" | "cancelled" | "compile_error" | "accepted");
    if judged && points.is_some_and(|points| points > 0.0) {
        verdict = "partial".to_owned();
    }
    Row {
        name: shown(&problem.root, &entry.path),
        language: entry.program.language.clone(),
        verdict,
        expected: entry.expected.clone(),
        points,
        slowest_ms,
        message: out::clean(report["message"].as_str().unwrap_or_default()),
        report,
    }
}

/// Below the package's submissions/, or the file's name.
fn shown(root: &Path, path: &Path) -> String {
    match path.strip_prefix(root.join("submissions")) {
        Ok(below) => below.display().to_string(),
        Err(_) => file_name(path),
    }
}

async fn files(client: &mut RpcClient, program: &Program, room: &mut usize) -> Result<Value, CliError> {
    let mut files = Vec::with_capacity(program.files.len());
    for (name, path) in &program.files {
        let mut file = json!({ "path": name });
        put(client, &mut file, "content", read(path)?, room).await?;
        files.push(file);
    }
    Ok(json!(files))
}

fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    std::fs::read(path).map_err(|error| CliError::Usage(format!("cannot read {}: {error}", path.display())))
}
