//! `assay run FILE`: output as it arrives, then the exit status of DESIGN section 7.

use std::cell::Cell;
use std::io::IsTerminal;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::Args;
use serde_json::{Value, json};

use super::client::RpcClient;
use super::interrupt::{self, Interrupt};
use super::progress::{self, Waiting};
use super::submission::{SubmissionArgs, draft};
use super::{CliError, out, verdict};

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Say the verdict on stderr even when that is no terminal
    #[arg(long, short)]
    pub verbose: bool,
    /// The program.
    #[command(flatten)]
    pub submission: SubmissionArgs,
}

/// Runs the program.
///
/// # Errors
/// Usage, connection, or the daemon's refusal.
pub async fn run(socket: &Path, json: bool, args: RunArgs) -> Result<u8, CliError> {
    let draft = draft(&args.submission)?;
    let mut client = progress::over(progress::DAEMON, RpcClient::connect(socket)).await?;
    let mut submission = progress::over("handing the files over", draft.send_blobs(&mut client)).await?;
    submission["stream"] = json!(!json);
    let mut shown = Shown::default();
    let waiting = Waiting::new(if json { "waiting for the report" } else { IN_LINE });
    let mut interrupt = Interrupt::listen();
    let ended = Cell::new(None);
    let report = {
        let withdrawn = async { ended.set(Some(interrupt::next(&mut interrupt).await)) };
        let call = client.call_until("submission.run", submission, withdrawn, |method, event| {
            if method == "submission.event" {
                follow(&waiting, &event);
                shown.tell(&event);
            }
        });
        let mut again = Interrupt::listen();
        let impatient = async {
            interrupt::next(&mut again).await;
            interrupt::next(&mut again).await
        };
        tokio::select! {
            report = waiting.over(call) => report?,
            // the connection closes, which withdraws it as well
            status = impatient => return Ok(status),
        }
    };
    drop(waiting);
    if let Some(status) = ended.get() {
        if json {
            out::json(&report);
        } else {
            out::note("assay: interrupted; the submission is withdrawn");
        }
        return Ok(status);
    }
    finish(&mut client, json, args.verbose, &report, &shown).await
}

/// What a submission waits for that has not begun.
const IN_LINE: &str = "in line: waiting for its turn, or for a sandbox to be made";

/// Says in the line of progress what an event says; nothing any more once there is output.
fn follow(waiting: &Waiting, event: &Value) {
    match event["kind"].as_str() {
        Some("stdout" | "stderr") => waiting.stop(),
        Some("state") => waiting.say("running"),
        Some("usage") => waiting.say(format!(
            "running: cpu {}, memory {}",
            out::millis_of(&event["data"], "cpu_ms"),
            out::bytes_of(&event["data"], "memory_bytes")
        )),
        Some("compile") => waiting.say("compiled, running"),
        Some("test") => waiting.say(format!("running, test {} is done", out::clean(&out::text(event, "test")))),
        _ => {}
    }
}

/// What of the program's output was shown already.
#[derive(Debug, Default)]
pub struct Shown {
    stdout: usize,
    stderr: usize,
    dropped: u64,
}

impl Shown {
    /// Shows an event's output.
    pub fn tell(&mut self, event: &Value) {
        let kind = event["kind"].as_str().unwrap_or_default();
        if kind != "stdout" && kind != "stderr" {
            return;
        }
        self.dropped += event["dropped_bytes"].as_u64().unwrap_or(0);
        let data = match (event["data"].as_str(), event["data_b64"].as_str()) {
            (Some(text), _) => text.as_bytes().to_vec(),
            (None, Some(text)) => BASE64.decode(text).unwrap_or_default(),
            (None, None) => return,
        };
        if kind == "stdout" {
            self.stdout += data.len();
            out::stdout(&data);
        } else {
            self.stderr += data.len();
            out::stderr(&data);
        }
    }
}

/// Shows what is left of a report and answers the exit status.
///
/// # Errors
/// An output that stands in a blob cannot be fetched.
pub async fn finish(
    client: &mut RpcClient,
    json: bool,
    verbose: bool,
    report: &Value,
    shown: &Shown,
) -> Result<u8, CliError> {
    if json {
        out::json(report);
        return Ok(verdict::exit_of_report(report));
    }
    let verdict = report["verdict"].as_str().unwrap_or_default();
    if verdict == "compile_error" {
        out::stderr(output(client, &report["compile"], "stderr").await?);
    }
    let run = &report["run"];
    if shown.stdout == 0 {
        out::stdout(output(client, run, "stdout").await?);
    }
    if shown.stderr == 0 {
        out::stderr(output(client, run, "stderr").await?);
    }
    if shown.dropped > 0 {
        out::note(format_args!(
            "assay: {} of output came too fast to be shown; --json has what was kept",
            out::bytes(shown.dropped)
        ));
    }
    let ours = matches!(verdict, "system_error" | "cancelled") || run["outcome"] == "start_failed";
    if verbose || ours || std::io::stderr().is_terminal() {
        out::note(format_args!("assay: {}", verdict::summary(report)));
    }
    Ok(verdict::exit_of_report(report))
}

/// A run's kept output, wherever it stands.
async fn output(client: &mut RpcClient, run: &Value, key: &str) -> Result<Vec<u8>, CliError> {
    Ok(match &run[key] {
        Value::String(text) => text.as_bytes().to_vec(),
        Value::Object(blob) => match blob.get("blob").and_then(Value::as_str) {
            Some(id) => client.get_blob(id).await?,
            None => Vec::new(),
        },
        _ => BASE64.decode(run[format!("{key}_b64")].as_str().unwrap_or_default()).unwrap_or_default(),
    })
}
