//! `assay judge PROBLEM [SUBMISSION...]`: judges submissions to an ICPC problem package and
//! compares the verdicts with what the submissions' folders say to expect.
//!
//! ```text
//!  package (folder or zip) --read--> Problem
//!    --time limit: option, package, or from the jury's accepted submissions-->
//!  each submission: compile, all tests, validator or interactor
//!    --> verdict, points, as expected or not
//! ```

use std::path::{Path, PathBuf};

use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use super::client::{RpcClient, connect};
use super::out::{OutputFormat, TextStyle};
use super::submission::{INLINE_BUDGET_BYTES, put};
use super::table::TextTable;
use super::{CliError, completions, out, progress};
use config::bounds::MAX_TESTS;
use package::{ProblemPackage, SourceProgram, TestScore, file_name};
use protocol::Report;

/// Arguments of `judge`.
#[derive(Debug, Args)]
pub struct JudgeArgs {
    /// The problem package: a folder or a zip file
    pub problem: PathBuf,
    /// Files, folders with one program each, or folders named after a verdict; by default the
    /// package's submissions/
    pub submissions: Vec<PathBuf>,
    /// CPU time limit in seconds, instead of the package's
    #[arg(long, value_name = "SECONDS")]
    pub time_limit: Option<f64>,
    /// The profile, instead of the one that the files' extensions select
    #[arg(long, short, add = ArgValueCandidates::new(completions::profiles))]
    pub language: Option<String>,
}

/// CPU limit in seconds while a time limit is derived.
const MAX_DERIVED_SECONDS: f64 = 60.0;

/// A submission on disk.
#[derive(Debug)]
struct SubmissionSource {
    path: PathBuf,
    program: SourceProgram,
    /// Acceptable verdicts; `None` if neither folder nor source names any.
    expected: Option<Vec<&'static str>>,
}

/// The document of `judge --json`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct JudgeOutput {
    /// The problem's name.
    pub problem: String,
    /// Number of tests.
    pub tests: usize,
    /// CPU time limit in seconds.
    pub time_limit_s: f64,
    /// The result of each submission.
    pub submissions: Vec<JudgeRow>,
    /// Number of submissions with an expected verdict; `accepted` where none is stated.
    pub as_expected: usize,
}

/// The result of one submission.
#[derive(Debug, Serialize, JsonSchema)]
pub struct JudgeRow {
    /// Path below the package's submissions/, or the file's name.
    pub submission: String,
    /// The profile it ran with.
    pub language: String,
    /// The verdict; `partial` if a scored problem gave points.
    pub verdict: String,
    /// Verdicts that its folder or source allows; null if none is stated.
    pub expected: Option<Vec<&'static str>>,
    /// Whether the verdict is one of the expected.
    pub as_expected: Option<bool>,
    /// Points, if the problem is scored.
    pub points: Option<f64>,
    /// CPU time of its slowest test in milliseconds.
    pub slowest_ms: f64,
    /// A sentence for the user.
    pub message: String,
    /// The daemon's report.
    #[schemars(with = "Report")]
    pub report: Value,
}

impl JudgeRow {
    /// Whether the verdict is as expected; accepted, if nothing is stated.
    fn is_as_expected(&self) -> bool {
        match &self.expected {
            Some(verdicts) => verdicts.contains(&self.verdict.as_str()),
            None => self.verdict == "accepted",
        }
    }
}

/// Runs `assay judge`: 0 if every verdict is as expected.
///
/// # Errors
/// Usage, a package that cannot be read, a broken connection, or an error response.
pub async fn judge(socket: &Path, output: OutputFormat, args: JudgeArgs) -> Result<u8, CliError> {
    let unpacked = package::unpack(&args.problem)?;
    let folder = unpacked.as_ref().map_or(args.problem.as_path(), |archive| archive.path());
    let problem = ProblemPackage::read(folder, MAX_TESTS)?;
    let sources = submission_sources(&problem, &args)?;
    let mut client = connect(socket).await?;
    let uploading = PreparedProblem::upload(&problem, &mut client);
    let mut prepared = progress::show_while("uploading the tests", uploading).await?;
    let time_limit = match args.time_limit.or(problem.limits.time) {
        Some(seconds) if seconds.is_finite() && seconds > 0.0 => seconds,
        Some(seconds) => {
            let message = format!("--time-limit: expected a positive number of seconds, got {seconds}");
            return Err(CliError::Usage(message));
        }
        None => prepared.derive_time_limit(&args).await?,
    };
    let progress = progress::bar(sources.len() as u64, "judging");
    let mut rows = Vec::with_capacity(sources.len());
    for source in &sources {
        progress.set_message(file_name(&source.path));
        rows.push(prepared.judge(source, time_limit).await?);
        progress.inc(1);
    }
    progress.finish_and_clear();
    let as_expected = rows.iter().filter(|row| row.is_as_expected()).count();
    let all_as_expected = as_expected == rows.len();
    let document = JudgeOutput {
        problem: problem.name.clone(),
        tests: problem.tests.len(),
        time_limit_s: time_limit,
        submissions: rows,
        as_expected,
    };
    output.print(&document, || show(&document));
    Ok(u8::from(!all_as_expected))
}

fn show(document: &JudgeOutput) {
    let JudgeOutput { problem, tests, time_limit_s, submissions, as_expected } = document;
    out::line(format_args!("{}: {tests} tests, {time_limit_s} s of CPU time", out::clean(problem)));
    let mut table =
        TextTable::new(&["", "submission", "language", "verdict", "expected", "points", "slowest", "message"]);
    for row in submissions {
        let (mark, style) = if row.is_as_expected() { ("ok", TextStyle::Green) } else { ("NO", TextStyle::Red) };
        let expected = row.expected.as_ref().map_or("-".to_owned(), |verdicts| verdicts.join(" or "));
        let points = row.points.map_or("-".to_owned(), |points| format!("{points}"));
        let message = row.message.lines().next().unwrap_or_default().chars().take(100).collect();
        let cells =
            [row.submission.clone(), row.language.clone(), row.verdict.replace('_', " "), expected.replace('_', " ")];
        let cells = cells.into_iter().chain([points, out::millis(row.slowest_ms), message]).map(|cell| (cell, None));
        table.styled_row([(mark.to_owned(), Some(style))].into_iter().chain(cells));
    }
    table.print("no submissions");
    out::line(format_args!("{as_expected} of {} as expected", submissions.len()));
}

/// The submissions to judge: those named on the command line, else all of the package.
fn submission_sources(problem: &ProblemPackage, args: &JudgeArgs) -> Result<Vec<SubmissionSource>, CliError> {
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
    let mut sources = Vec::new();
    for path in paths {
        let is_verdict = path.is_dir() && package::verdicts_of_folder(&file_name(&path)).is_some();
        // Folders in the package's submissions/ hold submissions, whatever their names.
        let holds_many = is_verdict || (args.submissions.is_empty() && path.is_dir());
        for path in if holds_many { children(&path)? } else { vec![path] } {
            sources.push(submission_source(&path, args)?);
        }
    }
    Ok(sources)
}

/// The entries of a folder, sorted, without hidden ones.
fn children(folder: &Path) -> Result<Vec<PathBuf>, CliError> {
    let failed = |error: std::io::Error| CliError::cannot_read(folder, error);
    let all: Result<Vec<PathBuf>, _> =
        std::fs::read_dir(folder).map_err(failed)?.map(|entry| Ok(entry?.path())).collect();
    let mut all = all.map_err(failed)?;
    all.retain(|path| !file_name(path).starts_with('.'));
    all.sort();
    Ok(all)
}

fn submission_source(path: &Path, args: &JudgeArgs) -> Result<SubmissionSource, CliError> {
    let real = path.canonicalize().map_err(|error| CliError::cannot_read(path, error))?;
    let root = if real.is_dir() { real.clone() } else { real.parent().map_or(real.clone(), Path::to_owned) };
    let mut program = match &args.language {
        // With --language, the extension may be unknown.
        Some(language) if real.is_file() => {
            let name = file_name(&real);
            SourceProgram { language: language.clone(), entry: name.clone(), files: vec![(name, real.clone())] }
        }
        _ => {
            SourceProgram::read(&root, &real)?.ok_or_else(|| CliError::Usage(format!("{} is empty", path.display())))?
        }
    };
    if let Some(language) = &args.language {
        program.language.clone_from(language);
    }
    let folder = real.parent().map(file_name).unwrap_or_default();
    let expected_by_source = || {
        let source = program.files.iter().find(|(name, _)| *name == program.entry)?;
        package::verdicts_of_source(&std::fs::read(&source.1).ok()?)
    };
    let expected = expected_by_source().or(package::verdicts_of_folder(&folder).map(<[_]>::to_vec));
    Ok(SubmissionSource { path: real, program, expected })
}

/// A problem whose large parts are uploaded.
struct PreparedProblem<'a> {
    problem: &'a ProblemPackage,
    client: &'a mut RpcClient,
    /// The submission without its program and its time limits.
    template: Value,
}

/// The problem's validator as a checker or interactor object; its files are blobs.
async fn validator(problem: &ProblemPackage, client: &mut RpcClient) -> Result<Option<Value>, CliError> {
    let Some(program) = &problem.validator else { return Ok(None) };
    let mut value = json!({ "language": program.language, "entry": program.entry });
    // The validator repeats in every test, so nothing of it is inline.
    value["files"] = files(client, program, &mut 0).await?;
    if let Some(seconds) = problem.limits.validation_time {
        value["limits"] = json!({ "cpu_ms": seconds * 1e3, "wall_ms": seconds * 3e3 });
    }
    if let Some(mib) = problem.limits.validation_memory_mib {
        value["limits"]["memory_bytes"] = mib_to_bytes(mib);
    }
    Ok(Some(value))
}

fn mib_to_bytes(mib: f64) -> Value {
    json!((mib * 1048576.0) as u64)
}

impl<'a> PreparedProblem<'a> {
    async fn upload(problem: &'a ProblemPackage, client: &'a mut RpcClient) -> Result<PreparedProblem<'a>, CliError> {
        let validator = validator(problem, client).await?;
        let checker = |flags: &[String]| -> Result<Value, CliError> {
            Ok(match &validator {
                None => json!(problem.default_checker(flags)?),
                Some(program) => {
                    let mut checker = program.clone();
                    checker["kind"] = json!("program");
                    checker["args"] = json!(flags);
                    checker
                }
            })
        };
        let mut template = json!({ "stop": if problem.is_scored { "never" } else { "first_failure" } });
        match &validator {
            Some(interactor) if problem.is_interactive => {
                template["interactor"] = interactor.clone();
                template["interactor"]["args"] = json!(problem.flags);
            }
            _ => template["checker"] = checker(&problem.flags)?,
        }
        let mut budget = INLINE_BUDGET_BYTES;
        let mut tests = Vec::with_capacity(problem.tests.len());
        for test in &problem.tests {
            let mut value =
                json!({ "name": test.name, "group": test.group, "args": test.args, "weight": test.accept_points });
            for (key, path) in [("stdin", &test.input), ("expect", &test.answer)] {
                put(client, &mut value, key, read(path)?, &mut budget).await?;
            }
            if let Some(flags) = test.flags.as_ref().filter(|_| !problem.is_interactive) {
                value["checker"] = checker(flags)?;
            }
            tests.push(value);
        }
        template["tests"] = json!(tests);
        if let Some(mib) = problem.limits.memory_mib {
            template["limits"]["memory_bytes"] = mib_to_bytes(mib);
        }
        if let Some(mib) = problem.limits.output_mib {
            template["limits"]["output_bytes"] = mib_to_bytes(mib);
        }
        Ok(PreparedProblem { problem, client, template })
    }

    /// Runs the jury's accepted submissions and derives the time limit, in seconds.
    async fn derive_time_limit(&mut self, args: &JudgeArgs) -> Result<f64, CliError> {
        let folder = self.problem.root.join("submissions").join("accepted");
        let paths = if folder.is_dir() { children(&folder)? } else { Vec::new() };
        let failed =
            |reason: String| CliError::Usage(format!("cannot derive a time limit: {reason}; use --time-limit"));
        let mut slowest: Option<f64> = None;
        let progress = progress::bar(paths.len() as u64, "measuring the jury's submissions");
        for path in &paths {
            let row = self.judge(&submission_source(path, args)?, MAX_DERIVED_SECONDS).await?;
            if row.verdict != "accepted" {
                let JudgeRow { submission, verdict, message, .. } = row;
                return Err(failed(format!(
                    "{submission} should be accepted, but its verdict is {verdict}: {message}"
                )));
            }
            slowest = Some(slowest.unwrap_or(0.0).max(row.slowest_ms / 1e3));
            progress.inc(1);
        }
        progress.finish_and_clear();
        let slowest = slowest.ok_or_else(|| failed("the package has no submissions/accepted".into()))?;
        let limits = &self.problem.limits;
        let steps = (slowest * limits.multiplier / limits.resolution).ceil().max(1.0);
        Ok(steps * limits.resolution)
    }

    async fn judge(&mut self, source: &SubmissionSource, time_limit: f64) -> Result<JudgeRow, CliError> {
        let mut submission = self.template.clone();
        submission["language"] = json!(source.program.language);
        submission["entry"] = json!(source.program.entry);
        submission["files"] = files(self.client, &source.program, &mut (INLINE_BUDGET_BYTES / 2)).await?;
        submission["limits"]["cpu_ms"] = json!((time_limit * 1e3).ceil() as u64);
        submission["limits"]["wall_ms"] = json!((time_limit * 2e3).ceil() as u64 + 2000);
        let report = self.client.call("submission.run", submission).await?;
        Ok(row(self.problem, source, report))
    }
}

fn row(problem: &ProblemPackage, source: &SubmissionSource, report: Value) -> JudgeRow {
    let tests = out::list(&report, "tests");
    let slowest_ms = tests.iter().filter_map(|test| test["cpu_ms"].as_f64()).fold(0.0, f64::max);
    let score = |result: &Value| {
        let accepted = result["verdict"] == "accepted";
        let test = problem.tests.iter().find(|test| result["name"] == test.name.as_str());
        let given = result["points"].as_f64().unwrap_or(0.0);
        let points = match test {
            Some(test) if !accepted && given == 0.0 => test.reject_points,
            _ => given,
        };
        TestScore { group: test.map(|test| test.group.clone()).unwrap_or_default(), accepted, points }
    };
    let scores: Vec<TestScore> = tests.iter().map(score).collect();
    let points = problem.is_scored.then(|| package::points("", &problem.groups, &scores));
    let mut verdict = out::text(&report, "verdict");
    let may_be_partial = !matches!(verdict.as_str(), "system_error" | "cancelled" | "compile_error" | "accepted");
    if may_be_partial && points.is_some_and(|points| points > 0.0) {
        verdict = "partial".to_owned();
    }
    let mut row = JudgeRow {
        submission: display_name(&problem.root, &source.path),
        language: source.program.language.clone(),
        verdict,
        expected: source.expected.clone(),
        as_expected: None,
        points,
        slowest_ms,
        message: out::clean(report["message"].as_str().unwrap_or_default()),
        report,
    };
    row.as_expected = row.expected.as_ref().map(|_| row.is_as_expected());
    row
}

/// The path below the package's submissions/, or the file's name.
fn display_name(root: &Path, path: &Path) -> String {
    match path.strip_prefix(root.join("submissions")) {
        Ok(below) => below.display().to_string(),
        Err(_) => file_name(path),
    }
}

async fn files(client: &mut RpcClient, program: &SourceProgram, budget: &mut usize) -> Result<Value, CliError> {
    let mut files = Vec::with_capacity(program.files.len());
    for (name, path) in &program.files {
        let mut file = json!({ "path": name });
        put(client, &mut file, "content", read(path)?, budget).await?;
        files.push(file);
    }
    Ok(json!(files))
}

fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    std::fs::read(path).map_err(|error| CliError::cannot_read(path, error))
}
