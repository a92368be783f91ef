//! `assay test CODE TESTFILE...`: runs test files against code and shows the result of each case.

use std::path::{Path, PathBuf};

use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use serde_json::{Value, json};

use super::client::{RpcClient, connect};
use super::languages::{OfferedLanguages, stated};
use super::out::{OutputFormat, TextStyle};
use super::submission::{INLINE_BUDGET_BYTES, LocalFile, PRESETS, put, read_file};
use super::table::TextTable;
use super::{CliError, completions, out, progress, verdict};

/// Arguments of `test`.
#[derive(Debug, Args)]
pub struct TestArgs {
    /// The code under test
    pub code: PathBuf,
    /// The test files; they replace files of the same name
    #[arg(required = true)]
    pub tests: Vec<PathBuf>,
    /// Another file of the code under test
    #[arg(long = "with", value_name = "FILE")]
    pub with: Vec<PathBuf>,
    /// The profile; by default the one that has the code's ending in its `extensions`
    #[arg(long, short, add = ArgValueCandidates::new(completions::profiles))]
    pub language: Option<String>,
    /// How the tests report their results; by default as the profile says in `suite_format`
    #[arg(long, value_parser = ["pytest", "node", "junit", "tap", "exit"])]
    pub format: Option<String>,
    /// The set of limits to start from
    #[arg(long, value_parser = PRESETS)]
    pub preset: Option<String>,
    /// Run the code in a process of its own, apart from its tests (pytest)
    #[arg(long)]
    pub separate: bool,
    /// The command that runs the tests, such as: -- bash test.sh
    #[arg(last = true)]
    pub command: Vec<String>,
}

/// Runs `assay test`: 0 if every test that ran passed.
///
/// # Errors
/// Usage, a broken connection, or an error response.
pub async fn test(socket: &Path, output: OutputFormat, args: TestArgs) -> Result<u8, CliError> {
    let language = stated(args.language.as_deref(), &args.code)?;
    let read = |paths: &[&PathBuf]| paths.iter().map(|path| read_file(path)).collect::<Result<Vec<_>, _>>();
    let own: Vec<&PathBuf> = std::iter::once(&args.code).chain(&args.with).collect();
    let suite: Vec<&PathBuf> = args.tests.iter().collect();
    let (mut code, mut tests) = (read(&own)?, read(&suite)?);
    let mut client = connect(socket).await?;
    let (language, format) = match (language, &args.format) {
        (Some(language), Some(format)) => (language, format.clone()),
        (language, format) => {
            let offered = OfferedLanguages::of(&mut client).await?;
            let language = language.map_or_else(|| offered.of_file(&args.code), Ok)?;
            // a command of one's own does not run files of node:test
            let of_profile =
                offered.suite_format(&language).filter(|format| format != "node" || args.command.is_empty());
            let format = format.clone().or(of_profile).ok_or_else(|| {
                let message = "the format of the test results is unknown: use --format tap, junit or exit";
                CliError::Usage(message.into())
            })?;
            (language, format)
        }
    };
    if format == "node" {
        // modules of node find each other by their paths
        let all: Vec<&PathBuf> = own.into_iter().chain(suite).collect();
        let names = below_common_folder(&all)?;
        code.iter_mut().chain(&mut tests).zip(names).for_each(|(file, name)| file.name = name);
    }
    let mut budget = INLINE_BUDGET_BYTES;
    let code = files(&mut client, code, &mut budget).await?;
    let tests = files(&mut client, tests, &mut budget).await?;
    let mut submission = json!({ "language": language, "files": code, "suite": { "files": tests, "format": format } });
    if !args.command.is_empty() {
        submission["suite"]["command"] = json!(args.command);
    }
    if args.separate {
        submission["suite"]["separate"] = json!(true);
    }
    if let Some(preset) = &args.preset {
        submission["preset"] = json!(preset);
    }
    // Not streamed: a streamed submission cannot be retried when its sandbox is lost.
    let report = progress::show_while("waiting for the tests", client.call("submission.run", submission)).await?;
    output.print(&report, || show(&report));
    Ok(match report["verdict"].as_str() {
        Some("accepted") => 0,
        Some("system_error" | "cancelled") => verdict::OUR_FAULT,
        _ => 1,
    })
}

/// The files' paths below the deepest folder that they share.
fn below_common_folder(paths: &[&PathBuf]) -> Result<Vec<String>, CliError> {
    let absolute = |path: &&PathBuf| path.canonicalize().map_err(|error| CliError::cannot_read(path, error));
    let paths = paths.iter().map(absolute).collect::<Result<Vec<_>, _>>()?;
    let folder = |path: &Path| path.parent().unwrap_or(Path::new("/")).to_owned();
    let mut common = paths.first().map(|path| folder(path)).unwrap_or_default();
    for path in &paths {
        while !path.starts_with(&common) && common.pop() {}
    }
    let below = |path: &PathBuf| path.strip_prefix(&common).unwrap_or(path).to_string_lossy().into_owned();
    Ok(paths.iter().map(below).collect())
}

fn show(report: &Value) {
    let mut table = TextTable::new(&["", "case", "took", "message"]);
    for case in out::list(&report["suite"], "cases") {
        let (mark, style) = match case["verdict"].as_str() {
            Some("accepted") => ("ok", TextStyle::Green),
            Some("skipped") => ("skip", TextStyle::Dim),
            Some("wrong_answer") => ("FAIL", TextStyle::Red),
            _ => ("ERROR", TextStyle::Red),
        };
        let message = case["message"].as_str().unwrap_or_default();
        let first = message.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_owned();
        let cells = [out::text(case, "name"), out::millis_of(case, "duration_ms"), first].map(|cell| (cell, None));
        table.styled_row([(mark.to_owned(), Some(style))].into_iter().chain(cells));
    }
    if !table.is_empty() {
        table.print("");
    }
    out::line(verdict::summary(report));
}

async fn files(client: &mut RpcClient, from: Vec<LocalFile>, budget: &mut usize) -> Result<Value, CliError> {
    let mut files = Vec::with_capacity(from.len());
    for LocalFile { name, data, mode } in from {
        let mut file = json!({ "path": name, "mode": format!("{mode:04o}") });
        put(client, &mut file, "content", data, budget).await?;
        files.push(file);
    }
    Ok(json!(files))
}
