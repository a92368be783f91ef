//! `submit`, `wait`, `get`, `cancel`: submissions that outlive the command that made them.

use std::path::Path;

use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use serde_json::{Value, json};

use super::client::{RpcClient, connect};
use super::out::OutputFormat;
use super::run::{StreamedOutput, print_report};
use super::submission::{SubmissionArgs, draft};
use super::{CliError, completions, out, progress, verdict};

/// A submission's id.
#[derive(Debug, Args)]
pub struct IdArg {
    /// The id that `submit` printed
    #[arg(add = ArgValueCandidates::new(completions::submissions))]
    pub id: String,
}

/// Arguments of `wait`.
#[derive(Debug, Args)]
pub struct WaitArgs {
    /// The id that `submit` printed
    #[arg(add = ArgValueCandidates::new(completions::submissions))]
    pub id: String,
    /// Stop waiting after this time; the submission continues
    #[arg(long)]
    pub timeout_ms: Option<u64>,
    /// Print the verdict on stderr even if that is not a terminal
    #[arg(long, short)]
    pub verbose: bool,
}

/// Runs `assay submit`.
///
/// # Errors
/// Usage, a broken connection, or an error response.
pub async fn submit(socket: &Path, output: OutputFormat, args: SubmissionArgs) -> Result<u8, CliError> {
    let draft = draft(&args)?;
    let mut client = connect(socket).await?;
    let submission = progress::show_while("uploading the files", draft.upload(&mut client)).await?;
    let reply = client.call("submission.submit", submission).await?;
    output.print(&reply, || out::line(out::text(&reply, "id")));
    Ok(0)
}

/// Runs `assay wait`.
///
/// # Errors
/// A broken connection, or an error response.
pub async fn wait(client: &mut RpcClient, output: OutputFormat, args: WaitArgs) -> Result<u8, CliError> {
    let mut params = json!({"id": args.id});
    if let Some(ms) = args.timeout_ms {
        params["timeout_ms"] = json!(ms);
    }
    let waiting = format!("waiting for {}", args.id);
    let report = progress::show_while(waiting, client.call("submission.wait", params)).await?;
    if !report["verdict"].is_string() {
        // The timeout came first: the reply is a state.
        output.print(&report, || out::note(format_args!("assay: still {}", state_of(&report))));
        return Ok(verdict::OUR_FAULT);
    }
    print_report(client, output, args.verbose, &report, &StreamedOutput::default()).await
}

/// Runs `assay get`.
///
/// # Errors
/// A broken connection, or an error response.
pub async fn get(client: &mut RpcClient, output: OutputFormat, args: IdArg) -> Result<u8, CliError> {
    let reply = client.call("submission.get", json!({"id": args.id})).await?;
    output.print(&reply, || {
        // The reply is a state with a report, a state alone, or a report.
        let report = if reply["report"].is_object() { &reply["report"] } else { &reply };
        if report["verdict"].is_string() {
            out::line(verdict::summary(report));
        } else {
            out::line(state_of(&reply));
        }
    });
    Ok(0)
}

/// Runs `assay cancel`.
///
/// # Errors
/// A broken connection, or an error response.
pub async fn cancel(client: &mut RpcClient, output: OutputFormat, args: IdArg) -> Result<u8, CliError> {
    let reply = client.call("submission.cancel", json!({"id": args.id})).await?;
    output.print(&reply, || {});
    Ok(0)
}

fn state_of(reply: &Value) -> String {
    out::clean(&out::text(reply, "state"))
}
