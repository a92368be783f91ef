//! A problem that is handed to the daemon: its tests and validator uploaded once, then one
//! submission after the other.

use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use super::client::RpcClient;
use super::judge_sources::{SubmissionReader, SubmissionSource};
use super::submission::{INLINE_BUDGET_BYTES, put};
use super::{CliError, out, progress};
use package::{ProblemPackage, SCRIPTED, SourceProgram, TestScore};
use protocol::{Report, Verdict};

/// CPU limit in seconds while a time limit is derived.
const MAX_DERIVED_SECONDS: f64 = 60.0;

/// Prints the answer of the test that its argument names.
const ANSWER_SCRIPT: &str = "for f in \"$1\" \"$1.out\" \"$1.ans\" \"${1##*/}\" \"${1##*/}.out\" \"${1##*/}.ans\"\n\
                             do if [ -f \"$f\" ]; then exec cat -- \"$f\"; fi; done\n";

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
    /// Whether everything is as expected; null if nothing is stated.
    pub as_expected: Option<bool>,
    /// What is stated and is not so.
    pub unmet: Vec<String>,
    /// Points, if the problem is scored.
    pub points: Option<f64>,
    /// CPU time of its slowest test in milliseconds.
    pub slowest_ms: f64,
    /// A sentence for the user.
    pub message: String,
    /// The daemon's report.
    #[schemars(with = "Report")]
    pub report: Value,
    #[serde(skip)]
    promises_nothing: bool,
}

impl JudgeRow {
    /// Whether everything is as expected. If nothing is stated, one in a folder of the package
    /// whose name promises nothing is, and otherwise one that is accepted.
    pub fn is_as_expected(&self) -> bool {
        self.as_expected.unwrap_or(self.verdict == "accepted" || self.promises_nothing)
    }
}

/// A problem whose large parts are uploaded.
pub(super) struct PreparedProblem<'a> {
    problem: &'a ProblemPackage,
    client: &'a mut RpcClient,
    /// The submission without its program and its time limits.
    template: Value,
}

fn mib_to_bytes(mib: f64) -> Value {
    json!((mib * 1048576.0).ceil() as u64)
}

fn millis(seconds: f64) -> u64 {
    (seconds * 1e3).ceil() as u64
}

impl<'a> PreparedProblem<'a> {
    pub async fn upload(
        problem: &'a ProblemPackage,
        client: &'a mut RpcClient,
    ) -> Result<PreparedProblem<'a>, CliError> {
        let validator = match &problem.validator {
            Some(program) => Some(validator_of(problem, program, client).await?),
            None => None,
        };
        let mut static_validator = match &problem.static_validator {
            Some(program) => validator_of(problem, program, client).await?,
            None => json!({}),
        };
        static_validator["kind"] = json!("program");
        static_validator["protocol"] = json!("static");
        let mut template = json!({});
        match &validator {
            Some(interactor) if problem.is_interactive => template["interactor"] = interactor.clone(),
            Some(program) => {
                template["checker"] = program.clone();
                template["checker"]["kind"] = json!("program");
            }
            None => template["checker"] = json!(problem.default_checker(&problem.flags)?),
        }
        if problem.is_multi_pass {
            template["passes"] = json!(problem.limits.passes);
        }
        let mut budget = INLINE_BUDGET_BYTES;
        let mut tests = Vec::with_capacity(problem.tests.len());
        for test in &problem.tests {
            let mut value =
                json!({ "name": test.name, "group": test.group, "args": test.args, "weight": test.accept_points });
            let Some(data) = &test.data else {
                value["checker"] = static_validator.clone();
                value["checker"]["args"] = json!(test.flags);
                tests.push(value);
                continue;
            };
            for (key, path) in [("stdin", &data.input), ("expect", &data.answer)] {
                put(client, &mut value, key, read(path)?, &mut budget).await?;
            }
            if !data.files.is_empty() {
                let mut files = Vec::new();
                for (name, path) in &data.files {
                    let mut file = json!({ "path": name });
                    put(client, &mut file, "content", read(path)?, &mut budget).await?;
                    files.push(file);
                }
                value["files"] = json!(files);
            }
            if validator.is_some() {
                value["checker_args"] = json!(test.flags);
            } else if test.flags != problem.flags {
                value["checker"] = json!(problem.default_checker(&test.flags)?);
            }
            tests.push(value);
        }
        template["tests"] = json!(tests);
        let limits = &problem.limits;
        template["limits"]["memory_bytes"] = mib_to_bytes(limits.memory_mib);
        template["limits"]["output_bytes"] = mib_to_bytes(limits.output_mib);
        let compile = &mut template["compile_limits"];
        compile["cpu_ms"] = json!(millis(limits.compilation_time));
        compile["wall_ms"] = json!(millis(limits.compilation_time * 3.0));
        compile["memory_bytes"] = mib_to_bytes(limits.compilation_memory_mib);
        Ok(PreparedProblem { problem, client, template })
    }

    /// Runs the jury's submissions that must not be too slow, and derives the time limit, in
    /// seconds.
    pub async fn derive_time_limit(&mut self, reader: &mut SubmissionReader<'_>) -> Result<f64, CliError> {
        let failed =
            |reason: String| CliError::Usage(format!("cannot derive a time limit: {reason}; use --time-limit"));
        let sources = reader.for_time_limit()?;
        let mut slowest: Option<f64> = None;
        let progress = progress::bar(sources.len() as u64, "measuring the jury's submissions");
        for source in &sources {
            let row = self.run(source, MAX_DERIVED_SECONDS, true).await?;
            let is_solution = source.folder == "accepted" && source.demands.is_empty();
            if is_solution && row.verdict != "accepted" && row.verdict != "partial" {
                let JudgeRow { submission, verdict, message, .. } = row;
                return Err(failed(format!(
                    "{submission} should be accepted, but its verdict is {verdict}: {message}"
                )));
            }
            let seconds = |test: &Value| test["cpu_ms"].as_f64().unwrap_or(0.0) / 1e3;
            let counts = |test: &&Value| {
                let bounding = source.demands.iter().filter(|demand| demand.bounds_time());
                let name = out::text(test, "name");
                let mut bounding = bounding.peekable();
                bounding.peek().is_none() || bounding.any(|demand| demand.covers(&name))
            };
            let time = out::list(&row.report, "tests").iter().filter(counts).map(seconds).fold(0.0, f64::max);
            slowest = Some(slowest.unwrap_or(0.0).max(time));
            progress.inc(1);
        }
        progress.finish_and_clear();
        let slowest = slowest.ok_or_else(|| failed("the package has no submissions/accepted".into()))?;
        let limits = &self.problem.limits;
        let steps = (slowest * limits.multiplier / limits.resolution).ceil().max(1.0);
        Ok(steps * limits.resolution)
    }

    pub async fn judge(&mut self, source: &SubmissionSource, time_limit: f64) -> Result<JudgeRow, CliError> {
        let all = self.problem.needs_all_tests() || !source.demands.is_empty();
        self.run(source, time_limit, all).await
    }

    async fn run(&mut self, source: &SubmissionSource, time_limit: f64, all_tests: bool) -> Result<JudgeRow, CliError> {
        let mut submission = self.template.clone();
        submission["stop"] = json!(if all_tests { "never" } else { "first_failure" });
        submission["language"] = json!(source.program.language);
        let mut files = self.files(&source.program, &mut (INLINE_BUDGET_BYTES / 2)).await?;
        if self.problem.is_submit_answer {
            files.push(json!({ "path": ".print.sh", "content": ANSWER_SCRIPT }));
            submission["entry"] = json!(".print.sh");
            submission["tests"].as_array_mut().into_iter().flatten().for_each(|test| {
                test["args"] = json!([test["name"]]);
            });
        } else {
            submission["entry"] = json!(source.program.entry);
        }
        submission["files"] = json!(files);
        submission["limits"]["cpu_ms"] = json!(millis(time_limit));
        submission["limits"]["wall_ms"] = json!(millis(time_limit * 2.0) + 2000);
        let report = self.client.call("submission.run", submission).await?;
        Ok(row(self.problem, source, report))
    }

    async fn files(&mut self, program: &SourceProgram, budget: &mut usize) -> Result<Vec<Value>, CliError> {
        files(self.problem, self.client, program, budget).await
    }
}

/// A validator as a checker or interactor object; its files are blobs.
async fn validator_of(
    problem: &ProblemPackage,
    program: &SourceProgram,
    client: &mut RpcClient,
) -> Result<Value, CliError> {
    let mut value = json!({ "language": program.language, "entry": program.entry });
    // The validator may be large, so nothing of it is inline.
    let mut files = files(problem, client, program, &mut 0).await?;
    if program.language == SCRIPTED {
        files.iter_mut().for_each(|file| file["mode"] = json!("0755"));
    }
    value["files"] = json!(files);
    let limits = &problem.limits;
    value["limits"] = json!({
        "cpu_ms": millis(limits.validation_time),
        "wall_ms": millis(limits.validation_time * 3.0),
        "memory_bytes": mib_to_bytes(limits.validation_memory_mib),
    });
    if !problem.is_interactive {
        value["limits"]["output_bytes"] = mib_to_bytes(limits.validation_output_mib);
    }
    Ok(value)
}

/// A program's files, with the package's constants where they belong to the package.
async fn files(
    problem: &ProblemPackage,
    client: &mut RpcClient,
    program: &SourceProgram,
    budget: &mut usize,
) -> Result<Vec<Value>, CliError> {
    let mut files = Vec::with_capacity(program.files.len());
    for (name, path) in &program.files {
        let mut file = json!({ "path": name });
        let mut data = read(path)?;
        if path.starts_with(&problem.root) {
            data = problem.constants.fill(&data);
        }
        put(client, &mut file, "content", data, budget).await?;
        files.push(file);
    }
    Ok(files)
}

/// The scores of all tests in a report.
fn scores(problem: &ProblemPackage, report: &Value) -> Vec<TestScore> {
    let score = |(test, result): (&package::ProblemTest, &Value)| {
        let verdict = serde_json::from_value(result["verdict"].clone()).unwrap_or(Verdict::SystemError);
        let given = result["points"].as_f64().unwrap_or(0.0);
        let points = if verdict != Verdict::Accepted && given == 0.0 { test.reject_points } else { given };
        TestScore { name: test.name.clone(), group: test.group.clone(), verdict, points }
    };
    problem.tests.iter().zip(out::list(report, "tests")).map(score).collect()
}

fn row(problem: &ProblemPackage, source: &SubmissionSource, report: Value) -> JudgeRow {
    let tests = out::list(&report, "tests");
    let slowest_ms = tests.iter().filter_map(|test| test["cpu_ms"].as_f64()).fold(0.0, f64::max);
    let scores = scores(problem, &report);
    let grades = package::grades(&problem.groups, &scores);
    let whole = grades.get("").copied();
    let mut verdict = out::text(&report, "verdict");
    let mut message = out::clean(report["message"].as_str().unwrap_or_default());
    let is_final = matches!(verdict.as_str(), "system_error" | "cancelled" | "compile_error");
    let too_much = problem.groups.iter().find_map(|group| {
        let (grade, max) = (grades.get(&group.path)?, group.max_points?);
        (grade.points > max + 1e-6).then(|| format!("The group {} has {} of {max} points.", group.path, grade.points))
    });
    if let (Some(whole), false) = (whole, is_final) {
        if let Some(mistake) = problem.wrong_points(&scores).or(too_much.filter(|_| problem.is_scored)) {
            (verdict, message) = ("system_error".to_owned(), mistake);
        } else if problem.needs_all_tests() {
            verdict = graded(problem, &scores, whole).to_owned();
        }
    }
    let messages: Vec<(String, String)> =
        tests.iter().map(|test| (out::text(test, "name"), out::text(test, "feedback"))).collect();
    let points = whole.filter(|_| problem.is_scored).map(|whole| whole.points);
    let mut unmet = Vec::new();
    let of_tests = whole.filter(|_| problem.is_scored && verdict == "partial").map(|whole| of_tests(&scores, whole));
    let is_expected = |expected: &Vec<&str>| {
        expected.contains(&verdict.as_str()) || of_tests.is_some_and(|verdict| expected.contains(&verdict.as_str()))
    };
    if let Some(expected) = source.verdicts.as_ref().filter(|expected| !is_expected(expected)) {
        unmet.push(format!("expected is {}", expected.join(" or ")));
    }
    if let Some(stated) = source.points.filter(|stated| points.is_none_or(|points| (points - stated).abs() > 1e-6)) {
        unmet.push(format!("expected are {stated} points"));
    }
    unmet.extend(source.demands.iter().filter_map(|demand| demand.unmet(&scores, &grades, &messages, "")));
    if is_final && verdict != "compile_error" && source.verdicts.is_none() {
        unmet.push(format!("the verdict is {verdict}"));
    }
    let is_stated = source.verdicts.is_some() || source.points.is_some() || !source.demands.is_empty();
    JudgeRow {
        submission: source.name.clone(),
        language: source.program.language.clone(),
        verdict,
        expected: source.verdicts.clone(),
        as_expected: is_stated.then_some(unmet.is_empty()),
        unmet,
        points,
        slowest_ms,
        message,
        report,
        promises_nothing: source.in_package && !is_final,
    }
}

/// The verdict of a problem with groups: `partial` for some of the points.
fn graded(problem: &ProblemPackage, scores: &[TestScore], whole: package::Grade) -> &'static str {
    if !problem.is_scored {
        return whole.verdict.as_str();
    }
    let best = ["", "secret"]
        .into_iter()
        .find_map(|path| problem.groups.iter().find(|group| group.path == path).and_then(|group| group.max_points));
    let is_best = best.is_none_or(|best| problem.minimizes || whole.points >= best - 1e-6);
    let all_accepted = scores.iter().all(|score| matches!(score.verdict, Verdict::Accepted | Verdict::Skipped));
    match whole.verdict {
        Verdict::Accepted if is_best && all_accepted => "accepted",
        Verdict::Accepted => "partial",
        _ if whole.points > 0.0 => "partial",
        other => other.as_str(),
    }
}

/// What a folder's name may promise of a program with some of the points: the verdict of its tests,
/// whatever points they give.
fn of_tests(scores: &[TestScore], whole: package::Grade) -> Verdict {
    let all_accepted = scores.iter().all(|score| score.verdict == Verdict::Accepted);
    match whole.verdict {
        Verdict::Accepted if !all_accepted => Verdict::Partial,
        verdict => verdict,
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    std::fs::read(path).map_err(|error| CliError::cannot_read(path, error))
}
