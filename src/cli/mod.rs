//! The command line `assay`: one file per command, all of them callers of the socket protocol except [`doctor`], which
//! asks the Engine itself and so works with the daemon down.
//!
//! Exit status: 0 well, 1 not well, 2 the command line is wrong; `run` and `wait` have their own (see [`verdict`]).
//! `--json` prints what the daemon answered, untouched. Colour and progress bars only on a terminal.

pub mod client;
pub mod completions;
pub mod doctor;
pub mod health;
pub mod images;
pub mod judge;
pub mod lists;
pub mod out;
pub mod rejudge;
pub mod rpc;
pub mod run;
pub mod status;
pub mod submission;
pub mod submissions;
pub mod test;
pub mod top;
pub mod verdict;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use client::{DEFAULT_SOCKET, RpcClient, RpcError};

/// Runs untrusted code in warm Docker sandboxes and says what it is worth.
#[derive(Debug, Parser)]
#[command(name = "assay", version, propagate_version = true)]
pub struct Cli {
    /// The daemon's socket
    #[arg(long, global = true, env = "ASSAY_SOCKET", default_value = DEFAULT_SOCKET, value_name = "PATH")]
    pub socket: PathBuf,
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a program and exit with its status
    ///
    /// Exit status: the program's own; 124 time limit, 137 memory limit, 128+N signal N, 123 output limit,
    /// 122 compile error, 126 the program could not be started, 125 our fault or the engine's, 2 usage.
    Run(run::RunArgs),
    /// Hand a program in and print its id; it outlives this command
    Submit(submission::SubmissionArgs),
    /// Run a program again and again: its verdicts, and the spread of its time and memory; 0 when the verdict is always the same
    Rejudge(rejudge::RejudgeArgs),
    /// Judge submissions against an ICPC problem package; 0 when each is as its folder promises
    ///
    /// The package is legacy or 2023-07: pass-fail, scoring or interactive, with output validators in any of the languages.
    Judge(judge::JudgeArgs),
    /// Run test files against code and show how each case went; 0 when all passed
    ///
    /// For python the tests are pytest's or unittest's. For others say --format tap, junit or exit, and the command.
    Test(test::TestArgs),
    /// Wait for a submission; exits as `run` does
    Wait(submissions::WaitArgs),
    /// Show the state of a submission
    Get(submissions::IdArg),
    /// Withdraw a submission
    Cancel(submissions::IdArg),
    /// Show the daemon, its hosts, pools, queue and stage times
    Status,
    /// Exit 0 when the daemon is healthy or degraded, 1 when not
    Health,
    /// Check this machine, its Docker Engine and the daemon; works with the daemon down
    Doctor(doctor::DoctorArgs),
    /// Show or build the profiles' images
    #[command(subcommand)]
    Images(images::ImagesCommand),
    /// Show the pools
    Pools,
    /// Show the Docker hosts, or take one out of service and back
    Hosts {
        /// What to do with one.
        #[command(subcommand)]
        command: Option<lists::HostsCommand>,
    },
    /// Watch the daemon: hosts, pools, queue by caller, stage times, once a second
    Top(top::TopArgs),
    /// Have the daemon take its configuration over anew
    Reload,
    /// Show the profiles: what `--language` may say
    Profiles,
    /// Show the live sandboxes
    Sandboxes,
    /// Call any method of the socket protocol
    Rpc(rpc::RpcArgs),
    /// Print a completion script
    Completions(completions::CompletionsArgs),
}

/// Why a command did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The command line asks for what cannot be.
    #[error("{0}")]
    Usage(String),
    /// The daemon, or the way to it.
    #[error(transparent)]
    Rpc(#[from] RpcError),
}

impl CliError {
    /// The exit status of a plain command.
    pub fn status(&self) -> u8 {
        if matches!(self, CliError::Usage(_)) { 2 } else { 1 }
    }
}

/// Runs the command and answers the exit status.
pub async fn main(cli: Cli) -> u8 {
    let Cli { socket, json, command } = cli;
    let runs = matches!(command, Command::Run(_) | Command::Wait(_));
    match dispatch(&socket, json, command).await {
        Ok(status) => status,
        Err(error) => {
            complain(&error, json);
            if runs { verdict::exit_of_error(&error) } else { error.status() }
        }
    }
}

async fn dispatch(socket: &std::path::Path, json: bool, command: Command) -> Result<u8, CliError> {
    // Those that need no daemon.
    let command = match command {
        Command::Doctor(args) => return Ok(doctor::doctor(socket, json, args).await),
        Command::Completions(args) => return Ok(completions::completions(args)),
        // Usage errors come before connection errors.
        Command::Run(args) => return run::run(socket, json, args).await,
        Command::Judge(args) => return judge::judge(socket, json, args).await,
        Command::Test(args) => return test::test(socket, json, args).await,
        Command::Rejudge(args) => return rejudge::rejudge(socket, json, args).await,
        Command::Submit(args) => return submissions::submit(socket, json, args).await,
        Command::Rpc(args) => return rpc::rpc(socket, args).await,
        Command::Health => return health::health(socket, json).await,
        other => other,
    };
    let mut client = RpcClient::connect(socket).await?;
    match command {
        Command::Wait(args) => submissions::wait(&mut client, json, args).await,
        Command::Get(args) => submissions::get(&mut client, json, args).await,
        Command::Cancel(args) => submissions::cancel(&mut client, json, args).await,
        Command::Status => status::status(&mut client, json).await,
        Command::Images(command) => images::images(&mut client, json, command).await,
        Command::Pools => lists::pools(&mut client, json).await,
        Command::Hosts { command } => lists::hosts(&mut client, json, command).await,
        Command::Top(args) => top::top(&mut client, json, args).await,
        Command::Reload => lists::reload(&mut client, json).await,
        Command::Profiles => lists::profiles(&mut client, json).await,
        Command::Sandboxes => lists::sandboxes(&mut client, json).await,
        Command::Doctor(_)
        | Command::Completions(_)
        | Command::Run(_)
        | Command::Judge(_)
        | Command::Test(_)
        | Command::Rejudge(_)
        | Command::Submit(_)
        | Command::Rpc(_)
        | Command::Health => Ok(0),
    }
}

/// Says an error on stderr: what failed, every cause, the remedy.
fn complain(error: &CliError, json: bool) {
    let (sentence, remedy) = sentences(error);
    if json && let CliError::Rpc(RpcError::Reply { number, word, message, field, retry_after_ms }) = error {
        out::note(serde_json::json!({"error": {"code": number, "message": message,
            "data": {"code": word, "message": message, "field": field, "retry_after_ms": retry_after_ms}}}));
        return;
    }
    out::note(format_args!("assay: {}", out::clean(&sentence)));
    if let Some(remedy) = remedy {
        out::note(format_args!("  {remedy}"));
    }
}

/// The error as a sentence with its causes, and the remedy.
pub(crate) fn sentences(error: &CliError) -> (String, Option<String>) {
    let CliError::Rpc(error) = error else {
        return (error.to_string(), None);
    };
    let mut sentence = match error {
        RpcError::Reply { word, message, field, .. } => match field {
            Some(field) => format!("{message} ({word}, {field})"),
            None => format!("{message} ({word})"),
        },
        other => format!("failed to {other}"),
    };
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        sentence.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    (sentence, error.remedy())
}
