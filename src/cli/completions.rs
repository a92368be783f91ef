//! `assay completions SHELL`: a script that calls this program for candidates. Names of profiles,
//! hosts and submissions come from the daemon; without one they are left out.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use clap::Args;
use clap_complete::engine::CompletionCandidate;
use clap_complete::env::Shells;
use serde_json::{Value, json};

use config::DEFAULT_SOCKET;

/// Set by the completion scripts when they call this program.
const VARIABLE: &str = "ASSAY_COMPLETE";

/// Bound on each read and write, so that the shell does not hang.
const IO_TIMEOUT: Duration = Duration::from_millis(500);

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell to complete for
    pub shell: clap_complete::Shell,
}

/// Prints the completion script.
pub fn completions(args: CompletionsArgs) -> u8 {
    let shells = Shells::builtins();
    let mut script = Vec::new();
    let written = shells
        .completer(&args.shell.to_string())
        .map(|shell| shell.write_registration(VARIABLE, "assay", "assay", "assay", &mut script));
    super::out::stdout(script);
    u8::from(!matches!(written, Some(Ok(()))))
}

/// Answers a call of a completion script and exits; otherwise returns.
pub fn complete_if_called() {
    clap_complete::CompleteEnv::with_factory(super::command).var(VARIABLE).bin("assay").completer("assay").complete();
}

/// The result of a method without parameters; `None` if the daemon does not answer in time.
fn call(method: &str) -> Option<Value> {
    let socket = std::env::var_os("ASSAY_SOCKET").filter(|path| !path.is_empty());
    let mut stream = UnixStream::connect(socket.unwrap_or(DEFAULT_SOCKET.into())).ok()?;
    stream.set_read_timeout(Some(IO_TIMEOUT)).ok()?;
    stream.set_write_timeout(Some(IO_TIMEOUT)).ok()?;
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method });
    stream.write_all(format!("{request}\n").as_bytes()).ok()?;
    let mut lines = BufReader::new(stream).lines();
    let _hello = lines.next()?.ok()?;
    let mut reply: Value = serde_json::from_str(&lines.next()?.ok()?).ok()?;
    Some(reply["result"].take())
}

/// The field `name` of each row in `list`, with the field `help` as its description.
fn candidates(method: &str, list: &str, name: &str, help: &str) -> Vec<CompletionCandidate> {
    let reply = call(method).unwrap_or_default();
    let rows = reply[list].as_array().map_or(&[][..], Vec::as_slice);
    rows.iter()
        .filter_map(|row| {
            let help = row[help].as_str().map(|text| super::out::clean(text).into());
            Some(CompletionCandidate::new(row[name].as_str()?).help(help))
        })
        .collect()
}

/// Names of profiles.
pub fn profiles() -> Vec<CompletionCandidate> {
    candidates("profile.list", "profiles", "name", "description")
}

/// Names of hosts.
pub fn hosts() -> Vec<CompletionCandidate> {
    candidates("host.list", "hosts", "name", "endpoint")
}

/// Ids of the caller's submissions.
pub fn submissions() -> Vec<CompletionCandidate> {
    candidates("submission.list", "submissions", "id", "state")
}

/// Methods of the protocol.
pub fn methods() -> Vec<CompletionCandidate> {
    let methods = protocol::Method::ALL.iter();
    methods.map(|method| CompletionCandidate::new(method.name()).help(Some(method.summary().into()))).collect()
}
