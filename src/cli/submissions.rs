//! `submit`, `wait`, `get`, `cancel`: work that outlives the command that handed it in.

use std::path::Path;

use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use serde_json::{Value, json};

use super::client::RpcClient;
use super::run::{Shown, finish};
use super::submission::{SubmissionArgs, draft};
use super::{CliError, completions, out, progress, verdict};

/// A submission's id.
#[derive(Debug, Args)]
pub struct IdArg {
    /// What `submit` printed
    #[arg(add = ArgValueCandidates::new(completions::submissions))]
    pub id: String,
}

/// Arguments of `wait`.
#[derive(Debug, Args)]
pub struct WaitArgs {
    /// What `submit` printed
    #[arg(add = ArgValueCandidates::new(completions::submissions))]
    pub id: String,
    /// Give up after this time; the submission goes on
    #[arg(long)]
    pub timeout_ms: Option<u64>,
    /// Say the verdict on stderr even when that is no terminal
    #[arg(long, short)]
    pub verbose: bool,
}

/// `assay submit`.
///
/// # Errors
/// Usage, connection, or the daemon's refusal.
pub async fn submit(socket: &Path, json: bool, args: SubmissionArgs) -> Result<u8, CliError> {
    let draft = draft(&args)?;
    let mut client = progress::over(progress::DAEMON, RpcClient::connect(socket)).await?;
    let submission = progress::over("handing the files over", draft.send_blobs(&mut client)).await?;
    let reply = client.call("submission.submit", submission).await?;
    if json {
        out::json(&reply)
    } else {
        out::line(out::text(&reply, "id"))
    }
    Ok(0)
}

/// `assay wait`.
///
/// # Errors
/// The daemon's.
pub async fn wait(client: &mut RpcClient, json: bool, args: WaitArgs) -> Result<u8, CliError> {
    let mut params = json!({"id": args.id});
    if let Some(ms) = args.timeout_ms {
        params["timeout_ms"] = json!(ms);
    }
    let report = progress::over(format!("waiting for {}", args.id), client.call("submission.wait", params)).await?;
    if !report["verdict"].is_string() {
        // The time was over first: what came back is a state.
        if json {
            out::json(&report)
        } else {
            out::note(format_args!("assay: still {}", state_of(&report)))
        }
        return Ok(verdict::OUR_FAULT);
    }
    finish(client, json, args.verbose, &report, &Shown::default()).await
}

/// `assay get`.
///
/// # Errors
/// The daemon's.
pub async fn get(client: &mut RpcClient, json: bool, args: IdArg) -> Result<u8, CliError> {
    let reply = client.call("submission.get", json!({"id": args.id})).await?;
    if json {
        out::json(&reply);
        return Ok(0);
    }
    // A state may carry its report, or be one.
    let report = if reply["report"].is_object() { &reply["report"] } else { &reply };
    if report["verdict"].is_string() {
        out::line(verdict::summary(report));
    } else {
        out::line(state_of(&reply));
    }
    Ok(0)
}

/// `assay cancel`.
///
/// # Errors
/// The daemon's.
pub async fn cancel(client: &mut RpcClient, json: bool, args: IdArg) -> Result<u8, CliError> {
    let reply = client.call("submission.cancel", json!({"id": args.id})).await?;
    if json {
        out::json(&reply);
    }
    Ok(0)
}

fn state_of(reply: &Value) -> String {
    out::clean(&out::text(reply, "state"))
}
