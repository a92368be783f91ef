//! `assay rpc METHOD [JSON]`: calls any method. The result is on stdout, notifications are on
//! stderr, one per line.

use std::io::Read;
use std::path::Path;

use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use serde_json::{Value, json};

use super::client::{MAX_LINE_BYTES, connect};
use super::progress::WaitIndicator;
use super::{CliError, completions, out};

/// Arguments of `rpc`.
#[derive(Debug, Args)]
pub struct RpcArgs {
    /// The method, such as daemon.status
    #[arg(add = ArgValueCandidates::new(completions::methods))]
    pub method: String,
    /// The parameters; `-` reads them from stdin, `@FILE` from a file
    pub params: Option<String>,
}

/// Runs `assay rpc`.
///
/// # Errors
/// Usage, a broken connection, or an error response.
pub async fn rpc(socket: &Path, args: RpcArgs) -> Result<u8, CliError> {
    let params = match args.params.as_deref() {
        None => json!({}),
        Some("-") => {
            let mut text = String::new();
            std::io::stdin()
                .lock()
                .take(MAX_LINE_BYTES as u64)
                .read_to_string(&mut text)
                .map_err(|error| CliError::Usage(format!("cannot read stdin: {error}")))?;
            parse(&text)?
        }
        Some(name) if name.starts_with('@') => {
            let text = std::fs::read_to_string(&name[1..])
                .map_err(|error| CliError::cannot_read(Path::new(&name[1..]), error))?;
            parse(&text)?
        }
        Some(text) => parse(text)?,
    };
    let mut client = connect(socket).await?;
    let waiting = WaitIndicator::new(format!("waiting for {}", args.method));
    let call = client.call_streaming(&args.method, params, |method, params| {
        waiting.stop();
        out::note(json!({"method": method, "params": params}));
    });
    let result = waiting.show_while(call).await?;
    out::json(&result);
    Ok(0)
}

fn parse(text: &str) -> Result<Value, CliError> {
    serde_json::from_str(text).map_err(|error| CliError::Usage(format!("the parameters are not JSON: {error}")))
}
