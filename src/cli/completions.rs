//! `assay completions SHELL`: a script that asks this program itself, so that it also knows profiles, hosts and names that
//! only a running daemon knows. Where none runs, those are left out.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use clap::Args;
use clap_complete::engine::CompletionCandidate;
use clap_complete::env::Shells;
use serde_json::{Value, json};

use super::client::DEFAULT_SOCKET;

/// What the scripts set when they ask.
pub const VARIABLE: &str = "ASSAY_COMPLETE";

/// Nobody waits longer for a word.
const PATIENCE: Duration = Duration::from_millis(500);

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// Which shell
    pub shell: clap_complete::Shell,
}

/// Prints the script.
pub fn completions(args: CompletionsArgs) -> u8 {
    let shells = Shells::builtins();
    let mut script = Vec::new();
    let written = shells
        .completer(&args.shell.to_string())
        .map(|shell| shell.write_registration(VARIABLE, "assay", "assay", "assay", &mut script));
    super::out::stdout(script);
    u8::from(!matches!(written, Some(Ok(()))))
}

/// Answers a script, when one asks; else goes on.
pub fn answer() {
    clap_complete::CompleteEnv::with_factory(super::command).var(VARIABLE).bin("assay").completer("assay").complete();
}

/// The daemon's answer to a call without parameters; none when it is not there at once.
fn asked(method: &str) -> Option<Value> {
    let socket = std::env::var_os("ASSAY_SOCKET").filter(|path| !path.is_empty());
    let mut stream = UnixStream::connect(socket.unwrap_or(DEFAULT_SOCKET.into())).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.set_write_timeout(Some(PATIENCE)).ok()?;
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": method });
    stream.write_all(format!("{call}\n").as_bytes()).ok()?;
    let mut lines = BufReader::new(stream).lines();
    let _hello = lines.next()?.ok()?;
    let mut reply: Value = serde_json::from_str(&lines.next()?.ok()?).ok()?;
    Some(reply["result"].take())
}

fn rows(method: &str, list: &str, name: &str, help: &str) -> Vec<CompletionCandidate> {
    let reply = asked(method).unwrap_or_default();
    let rows = reply[list].as_array().map_or(&[][..], Vec::as_slice);
    rows.iter()
        .filter_map(|row| {
            let help = row[help].as_str().map(|text| super::out::clean(text).into());
            Some(CompletionCandidate::new(row[name].as_str()?).help(help))
        })
        .collect()
}

/// The profiles.
pub fn profiles() -> Vec<CompletionCandidate> {
    rows("profile.list", "profiles", "name", "description")
}

/// The hosts.
pub fn hosts() -> Vec<CompletionCandidate> {
    rows("host.list", "hosts", "name", "endpoint")
}

/// The caller's submissions.
pub fn submissions() -> Vec<CompletionCandidate> {
    rows("submission.list", "submissions", "id", "state")
}

/// The protocol's methods.
pub fn methods() -> Vec<CompletionCandidate> {
    let methods = server::rpc::schema::METHODS.iter();
    methods.map(|method| CompletionCandidate::new(method.name).help(Some(method.summary.into()))).collect()
}
