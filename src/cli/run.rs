//! `assay run FILE`: streams the program's output, then exits with a status from [`verdict`].

use std::cell::Cell;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::Args;
use serde_json::{Value, json};

use super::client::{RpcClient, connect};
use super::interrupt::{self, Interrupt};
use super::out::OutputFormat;
use super::progress::{self, WaitIndicator};
use super::submission::{SubmissionArgs, draft};
use super::{CliError, out, verdict};

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Print the verdict on stderr even if that is not a terminal
    #[arg(long, short)]
    pub verbose: bool,
    /// Files to bring back from the run, such as out/*.png; they are written below --into
    #[arg(long, value_name = "PATTERN")]
    pub collect: Vec<String>,
    /// The folder for the files of --collect
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub into: PathBuf,
    #[command(flatten)]
    pub submission: SubmissionArgs,
}

/// Runs `assay run`.
///
/// # Errors
/// Usage, a broken connection, or an error response.
pub async fn run(socket: &Path, output: OutputFormat, args: RunArgs) -> Result<u8, CliError> {
    let draft = draft(&args.submission)?;
    let mut client = connect(socket).await?;
    let mut submission = progress::show_while("uploading the files", draft.upload(&mut client)).await?;
    submission["stream"] = json!(!output.is_json());
    if !args.collect.is_empty() {
        submission["collect"] = json!(args.collect);
    }
    let mut streamed = StreamedOutput::default();
    let waiting = WaitIndicator::new(if output.is_json() { "waiting for the report" } else { QUEUED });
    let mut interrupt = Interrupt::listen();
    let interrupt_status = Cell::new(None);
    let report = {
        let cancelled = async { interrupt_status.set(Some(interrupt::next(&mut interrupt).await)) };
        let call = client.call_until("submission.run", submission, cancelled, |method, event| {
            if method == "submission.event" {
                update_indicator(&waiting, &event);
                streamed.print(&event);
            }
        });
        let mut second_interrupt = Interrupt::listen();
        let interrupted_twice = async {
            interrupt::next(&mut second_interrupt).await;
            interrupt::next(&mut second_interrupt).await
        };
        tokio::select! {
            report = waiting.show_while(call) => report?,
            // Closing the connection also cancels the submission.
            status = interrupted_twice => return Ok(status),
        }
    };
    drop(waiting);
    if let Some(status) = interrupt_status.get() {
        output.print(&report, || out::note("assay: interrupted; the submission is cancelled"));
        return Ok(status);
    }
    let status = print_report(&mut client, output, args.verbose, &report, &streamed).await?;
    write_collected(&mut client, &args.into, &report).await?;
    Ok(status)
}

/// Writes the files that the run left and `collect` named.
async fn write_collected(client: &mut RpcClient, folder: &Path, report: &Value) -> Result<(), CliError> {
    for file in out::list(report, "files") {
        let name = out::text(file, "path");
        if let Some(error) = file["error"].as_str() {
            out::note(format_args!("assay: {} is not collected: {error}", out::clean(&name)));
            continue;
        }
        // the daemon only names files below the box; what is written here must not leave the folder
        let is_plain = |part: std::path::Component<'_>| matches!(part, std::path::Component::Normal(_));
        if !Path::new(&name).components().all(is_plain) {
            return Err(CliError::Usage(format!("the daemon names a file outside of the folder: {name:?}")));
        }
        let path = folder.join(&name);
        let data = kept_output(client, file, "content").await?;
        let failed = |error: std::io::Error| CliError::Usage(format!("cannot write {}: {error}", path.display()));
        std::fs::create_dir_all(path.parent().unwrap_or(folder)).map_err(failed)?;
        std::fs::write(&path, data).map_err(failed)?;
    }
    Ok(())
}

const QUEUED: &str = "queued: waiting for a turn, or for a sandbox to be created";

/// Shows an event's news in the progress line; output ends the progress line.
fn update_indicator(waiting: &WaitIndicator, event: &Value) {
    match event["kind"].as_str() {
        Some("stdout" | "stderr") => waiting.stop(),
        Some("state") => waiting.set("running"),
        Some("usage") => waiting.set(format!(
            "running: cpu {}, memory {}",
            out::millis_of(&event["data"], "cpu_ms"),
            out::bytes_of(&event["data"], "memory_bytes")
        )),
        Some("compile") => waiting.set("compiled, running"),
        Some("test") => waiting.set(format!("running, test {} is done", out::clean(&out::text(event, "test")))),
        _ => {}
    }
}

/// How much of the program's output was already printed from events.
#[derive(Debug, Default)]
pub struct StreamedOutput {
    stdout_bytes: usize,
    stderr_bytes: usize,
    dropped_bytes: u64,
}

impl StreamedOutput {
    /// Prints the output in an event.
    pub fn print(&mut self, event: &Value) {
        let kind = event["kind"].as_str().unwrap_or_default();
        if kind != "stdout" && kind != "stderr" {
            return;
        }
        self.dropped_bytes += event["dropped_bytes"].as_u64().unwrap_or(0);
        let data = match (event["data"].as_str(), event["data_b64"].as_str()) {
            (Some(text), _) => text.as_bytes().to_vec(),
            (None, Some(text)) => BASE64.decode(text).unwrap_or_default(),
            (None, None) => return,
        };
        if kind == "stdout" {
            self.stdout_bytes += data.len();
            out::stdout(&data);
        } else {
            self.stderr_bytes += data.len();
            out::stderr(&data);
        }
    }
}

/// Prints what was not streamed, and returns the exit status.
///
/// # Errors
/// A blob with output cannot be fetched.
pub async fn print_report(
    client: &mut RpcClient,
    output: OutputFormat,
    verbose: bool,
    report: &Value,
    streamed: &StreamedOutput,
) -> Result<u8, CliError> {
    if output.is_json() {
        out::json(report);
        return Ok(verdict::exit_of_report(report));
    }
    let verdict = report["verdict"].as_str().unwrap_or_default();
    let mut says_why = true;
    if verdict == "compile_error" {
        says_why = false;
        // some compilers write their errors to stdout
        for stream in ["stdout", "stderr"] {
            let said = kept_output(client, &report["compile"], stream).await?;
            says_why |= !said.is_empty();
            out::stderr(said);
        }
    }
    let run = &report["run"];
    if streamed.stdout_bytes == 0 {
        out::stdout(kept_output(client, run, "stdout").await?);
    }
    if streamed.stderr_bytes == 0 {
        out::stderr(kept_output(client, run, "stderr").await?);
    }
    if streamed.dropped_bytes > 0 {
        out::note(format_args!(
            "assay: {} of output came too fast to be streamed; --json prints what was kept",
            out::bytes(streamed.dropped_bytes)
        ));
    }
    let is_our_fault = matches!(verdict, "system_error" | "cancelled") || run["outcome"] == "start_failed";
    if verbose || is_our_fault || !says_why || std::io::stderr().is_terminal() {
        out::note(format_args!("assay: {}", verdict::summary(report)));
    }
    Ok(verdict::exit_of_report(report))
}

/// A run's output: inline as text or base64, or in a blob.
pub(crate) async fn kept_output(client: &mut RpcClient, run: &Value, key: &str) -> Result<Vec<u8>, CliError> {
    Ok(match &run[key] {
        Value::String(text) => text.as_bytes().to_vec(),
        Value::Object(blob) => match blob.get("blob").and_then(Value::as_str) {
            Some(id) => client.get_blob(id).await?,
            None => Vec::new(),
        },
        _ => BASE64.decode(run[format!("{key}_b64")].as_str().unwrap_or_default()).unwrap_or_default(),
    })
}
