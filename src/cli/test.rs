//! `assay test CODE TESTFILE...`: test files run against code, case by case.

use std::path::{Path, PathBuf};

use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use serde_json::{Value, json};

use super::client::RpcClient;
use super::submission::{INLINE_BYTES_OF_A_LINE, PRESETS, language_of, no_language, put, read_file};
use super::{CliError, completions, out, progress, verdict};

/// Arguments of `test`.
#[derive(Debug, Args)]
pub struct TestArgs {
    /// The code under test
    pub code: PathBuf,
    /// The test files; they win over files of the same name
    #[arg(required = true)]
    pub tests: Vec<PathBuf>,
    /// More of the code under test
    #[arg(long = "with", value_name = "FILE")]
    pub with: Vec<PathBuf>,
    /// The profile; by default the code's ending says it
    #[arg(long, short, add = ArgValueCandidates::new(completions::profiles))]
    pub language: Option<String>,
    /// How the tests say how it went; by default pytest for python
    #[arg(long, value_parser = ["pytest", "junit", "tap", "exit"])]
    pub format: Option<String>,
    /// Where limits start from
    #[arg(long, value_parser = PRESETS)]
    pub preset: Option<String>,
    /// What runs the tests, such as: -- bash test.sh
    #[arg(last = true)]
    pub command: Vec<String>,
}

/// Runs the tests; 0 when all that were run passed.
///
/// # Errors
/// Usage, connection, or the daemon's refusal.
pub async fn test(socket: &Path, json: bool, args: TestArgs) -> Result<u8, CliError> {
    let language = match args.language.as_deref().or_else(|| language_of(&args.code)) {
        Some(language) => language,
        None => return Err(no_language(&args.code)),
    };
    let format = match (&args.format, language) {
        (Some(format), _) => format.as_str(),
        (None, "python") => "pytest",
        (None, _) => {
            return Err(CliError::Usage("say how the tests say how it went: --format tap, junit or exit".into()));
        }
    };
    let mut code = vec![read_file(&args.code)?];
    for path in &args.with {
        code.push(read_file(path)?);
    }
    let tests = args.tests.iter().map(|path| read_file(path)).collect::<Result<Vec<_>, _>>()?;
    let mut client = progress::over(progress::DAEMON, RpcClient::connect(socket)).await?;
    let mut room = INLINE_BYTES_OF_A_LINE;
    let code = files(&mut client, code, &mut room).await?;
    let tests = files(&mut client, tests, &mut room).await?;
    let mut submission = json!({ "language": language, "files": code, "suite": { "files": tests, "format": format } });
    if !args.command.is_empty() {
        submission["suite"]["command"] = json!(args.command);
    }
    if let Some(preset) = &args.preset {
        submission["preset"] = json!(preset);
    }
    // not streamed: what was streamed cannot be tried again when a sandbox is lost
    let report = progress::over("waiting for the tests", client.call("submission.run", submission)).await?;
    if json {
        out::json(&report);
    } else {
        show(&report);
    }
    Ok(match report["verdict"].as_str() {
        Some("accepted") => 0,
        Some("system_error" | "cancelled") => verdict::OUR_FAULT,
        _ => 1,
    })
}

fn show(report: &Value) {
    let mut table = out::Table::new(&["", "case", "took", "message"]);
    for case in out::list(&report["suite"], "cases") {
        let (mark, tint) = match case["verdict"].as_str() {
            Some("accepted") => ("ok", out::Tint::Green),
            Some("skipped") => ("skip", out::Tint::Dim),
            Some("wrong_answer") => ("FAIL", out::Tint::Red),
            _ => ("ERROR", out::Tint::Red),
        };
        let message = case["message"].as_str().unwrap_or_default();
        let first = message.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_owned();
        let cells = [out::text(case, "name"), out::millis_of(case, "duration_ms"), first].map(|cell| (cell, None));
        table.tinted([(mark.to_owned(), Some(tint))].into_iter().chain(cells));
    }
    if !table.is_empty() {
        table.print("");
    }
    out::line(verdict::summary(report));
}

async fn files(client: &mut RpcClient, from: Vec<(String, Vec<u8>, u32)>, room: &mut usize) -> Result<Value, CliError> {
    let mut files = Vec::with_capacity(from.len());
    for (path, data, mode) in from {
        let mut file = json!({ "path": path, "mode": format!("{mode:04o}") });
        put(client, &mut file, "content", data, room).await?;
        files.push(file);
    }
    Ok(json!(files))
}
