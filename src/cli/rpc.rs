//! `assay rpc METHOD [JSON]`: any method, its result on stdout, its notifications on stderr, one line each.

use std::io::Read;
use std::path::Path;

use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use serde_json::{Value, json};

use super::client::RpcClient;
use super::{CliError, completions, out, progress};

/// Arguments of `rpc`.
#[derive(Debug, Args)]
pub struct RpcArgs {
    /// Such as daemon.status
    #[arg(add = ArgValueCandidates::new(completions::methods))]
    pub method: String,
    /// The parameters; `-` reads them from stdin, `@FILE` from a file
    pub params: Option<String>,
}

/// Calls the method.
///
/// # Errors
/// Parameters that are no JSON; the daemon's error.
pub async fn rpc(socket: &Path, args: RpcArgs) -> Result<u8, CliError> {
    let params = match args.params.as_deref() {
        None => json!({}),
        Some("-") => {
            let mut text = String::new();
            std::io::stdin()
                .lock()
                .take(super::client::MAX_LINE_BYTES as u64)
                .read_to_string(&mut text)
                .map_err(|error| CliError::Usage(format!("cannot read stdin: {error}")))?;
            parse(&text)?
        }
        Some(name) if name.starts_with('@') => {
            let text = std::fs::read_to_string(&name[1..])
                .map_err(|error| CliError::Usage(format!("cannot read {}: {error}", &name[1..])))?;
            parse(&text)?
        }
        Some(text) => parse(text)?,
    };
    let mut client = progress::over(progress::DAEMON, RpcClient::connect(socket)).await?;
    let waiting = progress::Waiting::new(format!("waiting for {}", args.method));
    let call = client.call_streaming(&args.method, params, |method, params| {
        waiting.stop();
        out::note(json!({"method": method, "params": params}));
    });
    let result = waiting.over(call).await?;
    out::json(&result);
    Ok(0)
}

fn parse(text: &str) -> Result<Value, CliError> {
    serde_json::from_str(text).map_err(|error| CliError::Usage(format!("the parameters are not JSON: {error}")))
}
