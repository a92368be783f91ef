//! `assay judge PROBLEM [SUBMISSION...]`: judges submissions to an ICPC problem package and
//! compares the verdicts with what the submissions' folders say to expect.
//!
//! ```text
//!  package (folder or zip) --read--> Problem
//!    --time limit: option, package, or from the jury's accepted submissions-->
//!  each submission: compile, all tests, validator or interactor
//!    --> verdict, points, as expected or not
//! ```

use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;

use super::client::connect;
use super::judge_problem::{JudgeRow, PreparedProblem};
use super::judge_sources::{JudgeArgs, SkippedSubmission, SubmissionReader};
use super::languages::OfferedLanguages;
use super::out::{OutputFormat, TextStyle};
use super::table::TextTable;
use super::{CliError, out, progress};
use config::bounds::MAX_TESTS;
use package::ProblemPackage;

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
    /// Files and folders that were not judged.
    pub skipped: Vec<SkippedSubmission>,
    /// What the package has and has no effect.
    pub notes: Vec<String>,
    /// Number of submissions with an expected verdict; `accepted` where none is stated, and any in
    /// folders of the package that promise nothing.
    pub as_expected: usize,
}

/// Runs `assay judge`: 0 if every verdict is as expected.
///
/// # Errors
/// Usage, a package that cannot be read, a broken connection, or an error response.
pub async fn judge(socket: &Path, output: OutputFormat, args: JudgeArgs) -> Result<u8, CliError> {
    let unpacked = package::unpack(&args.problem)?;
    let folder = unpacked.as_ref().map_or(args.problem.as_path(), |archive| archive.path());
    let mut client = connect(socket).await?;
    let languages = OfferedLanguages::ask(&mut client).await?;
    let problem = ProblemPackage::read(folder, MAX_TESTS, &languages.by_ending)?;
    let mut reader = SubmissionReader { problem: &problem, args: &args, languages, skipped: Vec::new() };
    let sources = reader.all()?;
    if let Some(SkippedSubmission { submission, reason }) = reader.skipped.first().filter(|_| sources.is_empty()) {
        return Err(CliError::Usage(format!("nothing to judge: {submission}: {reason}")));
    }
    let uploading = PreparedProblem::upload(&problem, &mut client);
    let mut prepared = progress::show_while("uploading the tests", uploading).await?;
    let time_limit = match args.time_limit.or(problem.limits.time) {
        Some(seconds) if seconds.is_finite() && seconds > 0.0 => seconds,
        Some(seconds) => {
            let message = format!("--time-limit: expected a positive number of seconds, got {seconds}");
            return Err(CliError::Usage(message));
        }
        None => prepared.derive_time_limit(&mut reader).await?,
    };
    let progress = progress::bar(sources.len() as u64, "judging");
    let mut rows = Vec::with_capacity(sources.len());
    for source in &sources {
        progress.set_message(source.name.clone());
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
        skipped: reader.skipped,
        notes: problem.notes.clone(),
        as_expected,
    };
    output.print(&document, || show(&document));
    Ok(u8::from(!all_as_expected))
}

fn show(document: &JudgeOutput) {
    let JudgeOutput { problem, tests, time_limit_s, submissions, skipped, notes, as_expected } = document;
    let wall = time_limit_s * 2.0 + 2.0;
    let limits = format!("{time_limit_s} s of CPU time, {wall} s of wall time");
    out::line(format_args!("{}: {tests} tests, {limits}", out::clean(problem)));
    let mut table =
        TextTable::new(&["", "submission", "language", "verdict", "expected", "points", "slowest", "message"]);
    for row in submissions {
        let (mark, style) = if row.is_as_expected() { ("ok", TextStyle::Green) } else { ("NO", TextStyle::Red) };
        let expected = row.expected.as_ref().map_or("-".to_owned(), |verdicts| verdicts.join(" or "));
        let points = row.points.map_or("-".to_owned(), |points| format!("{points}"));
        let told = row.unmet.first().filter(|_| row.verdict == "accepted").unwrap_or(&row.message);
        let message = told.lines().next().unwrap_or_default().chars().take(100).collect();
        let cells =
            [row.submission.clone(), row.language.clone(), row.verdict.replace('_', " "), expected.replace('_', " ")];
        let cells = cells.into_iter().chain([points, out::millis(row.slowest_ms), message]).map(|cell| (cell, None));
        table.styled_row([(mark.to_owned(), Some(style))].into_iter().chain(cells));
    }
    table.print("no submissions");
    for SkippedSubmission { submission, reason } in skipped {
        out::line(format_args!("not judged: {}: {}", out::clean(submission), out::clean(reason)));
    }
    notes.iter().for_each(|note| out::line(format_args!("note: {}", out::clean(note))));
    out::line(format_args!("{as_expected} of {} as expected", submissions.len()));
}
