//! The command line `assay`: one file per command, all of them callers of the socket protocol except [`doctor`], which
//! asks the Engine itself and so works with the daemon down.
//!
//! Exit status: 0 well, 1 not well, 2 the command line is wrong; what runs programs has more (see [`verdict`] and [`man`]).
//! `--json` prints what [`outputs`] says. Colour and progress only on a terminal; what was asked for goes to stdout, all
//! else to stderr. [`examples`] end every command's help.

pub mod client;
pub mod complaint;
pub mod completions;
pub mod doctor;
pub mod examples;
pub mod health;
pub mod images;
pub mod interrupt;
pub mod judge;
pub mod lists;
pub mod man;
pub mod out;
pub mod outputs;
pub mod progress;
pub mod rejudge;
pub mod rpc;
pub mod run;
pub mod schema;
pub mod screen;
pub mod status;
pub mod submission;
pub mod submissions;
pub mod test;
pub mod top;
pub mod verdict;

use std::path::PathBuf;

use clap::builder::StyledStr;
use clap::{ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand};

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
    /// Whether to use colour; NO_COLOR says never, too
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", hide_default_value = true)]
    pub color: ColorChoice,
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
    /// Print the JSON Schema of the protocol, or of what a command prints with --json
    Schema(schema::SchemaArgs),
    /// Print a completion script, which asks the daemon for profiles, hosts and submissions
    Completions(completions::CompletionsArgs),
    /// Print the manual page, or write all of them to a folder
    Man(man::ManArgs),
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

/// The command line, each command with its examples and its JSON.
pub fn command() -> clap::Command {
    with_ends(Cli::command(), "")
}

fn with_ends(command: clap::Command, path: &str) -> clap::Command {
    let styles = command.get_styles();
    let (begin, end) = (styles.get_header().render().to_string(), styles.get_header().render_reset().to_string());
    let mut text = format!("{begin}Examples:{end}\n{}", examples::section(path));
    if let Some(sentence) = outputs::of(path).and_then(outputs::Json::sentence) {
        text.push_str(&format!("\n{sentence}\n"));
    }
    let names: Vec<String> = command.get_subcommands().map(|inner| inner.get_name().to_owned()).collect();
    names.into_iter().fold(command.after_help(StyledStr::from(text.trim_end().to_owned())), |command, name| {
        let inner = format!("{path} {name}").trim().to_owned();
        command.mut_subcommand(name, |command| with_ends(command, &inner))
    })
}

/// The program: answers a shell that completes, or parses, runs, and answers the exit status.
pub fn start() -> u8 {
    completions::answer();
    let parsed = command().try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        // help and versions are no errors
        Err(error) if error.use_stderr() && std::env::args_os().any(|word| word == "--json") => {
            let text = error.to_string();
            let text = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
            complaint::complain(&CliError::Usage(text), true);
            return verdict::USAGE;
        }
        Err(error) => {
            let _ = error.print();
            return u8::try_from(error.exit_code()).unwrap_or(verdict::USAGE);
        }
    };
    out::set_colours(cli.color);
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let status = runtime.block_on(main(cli));
            // a thread that reads keys would be waited for
            runtime.shutdown_background();
            status
        }
        Err(error) => {
            out::note(format_args!("assay: failed to start: {error}"));
            verdict::OUR_FAULT
        }
    }
}

/// Runs the command and answers the exit status.
pub async fn main(cli: Cli) -> u8 {
    let Cli { socket, json, color: _, command } = cli;
    // of these 1 means that a program, or a verdict, is not well
    let judges = matches!(
        command,
        Command::Run(_) | Command::Wait(_) | Command::Test(_) | Command::Judge(_) | Command::Rejudge(_)
    );
    match dispatch(&socket, json, command).await {
        Ok(status) => status,
        Err(error) => {
            complaint::complain(&error, json);
            if judges { verdict::exit_of_error(&error) } else { error.status() }
        }
    }
}

async fn dispatch(socket: &std::path::Path, json: bool, command: Command) -> Result<u8, CliError> {
    // Those that need no daemon.
    let command = match command {
        Command::Doctor(args) => return Ok(doctor::doctor(socket, json, args).await),
        Command::Completions(args) => return Ok(completions::completions(args)),
        Command::Schema(args) => return schema::schema(json, &args),
        Command::Man(args) => return man::man(&args),
        // This one connects again and again.
        Command::Top(args) => return top::top(socket, json, args).await,
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
    // the first caller may be who starts it, through its socket
    let mut client = progress::over(progress::DAEMON, RpcClient::connect(socket)).await?;
    match command {
        Command::Wait(args) => submissions::wait(&mut client, json, args).await,
        Command::Get(args) => submissions::get(&mut client, json, args).await,
        Command::Cancel(args) => submissions::cancel(&mut client, json, args).await,
        Command::Status => status::status(&mut client, json).await,
        Command::Images(command) => images::images(&mut client, json, command).await,
        Command::Pools => lists::pools(&mut client, json).await,
        Command::Hosts { command } => lists::hosts(&mut client, json, command).await,
        Command::Reload => lists::reload(&mut client, json).await,
        Command::Profiles => lists::profiles(&mut client, json).await,
        Command::Sandboxes => lists::sandboxes(&mut client, json).await,
        Command::Doctor(_)
        | Command::Completions(_)
        | Command::Schema(_)
        | Command::Man(_)
        | Command::Top(_)
        | Command::Run(_)
        | Command::Judge(_)
        | Command::Test(_)
        | Command::Rejudge(_)
        | Command::Submit(_)
        | Command::Rpc(_)
        | Command::Health => Ok(0),
    }
}
