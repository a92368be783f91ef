//! The command line `assay`: one file per command. All commands are clients of the socket protocol,
//! except [`doctor`], which asks the Docker Engine itself and works without the daemon.
//!
//! Results go to stdout, everything else to stderr. `--json` prints the documents that [`outputs`]
//! lists. Colour and progress are for terminals only. Exit status: 0 success, 1 failure, 2 usage;
//! commands that run programs have more (see [`verdict`] and [`man`]).

pub mod client;
pub mod completions;
pub mod doctor;
pub mod error_output;
pub mod examples;
pub mod health;
pub mod history;
pub mod images;
pub mod interrupt;
pub mod judge;
pub mod judge_problem;
pub mod judge_sources;
mod languages;
pub mod lists;
pub mod man;
pub mod out;
pub mod outputs;
pub mod progress;
pub mod receipt;
pub mod rejudge;
pub mod rpc;
pub mod run;
pub mod schema;
pub mod screen;
pub mod show;
pub mod status;
pub mod store;
pub mod submission;
pub mod submissions;
pub mod table;
pub mod test;
pub mod token;
pub mod top;
pub mod verdict;
pub mod when;

use std::path::{Path, PathBuf};

use clap::builder::StyledStr;
use clap::{ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand};

use client::{ClientError, connect};
pub use config::DEFAULT_SOCKET;
use out::OutputFormat;

/// Runs untrusted code in Docker sandboxes and judges it
#[derive(Debug, Parser)]
#[command(name = "assay", version = env!("ASSAY_VERSION"), propagate_version = true)]
pub struct Cli {
    /// The daemon's socket
    #[arg(long, global = true, env = "ASSAY_SOCKET", default_value = DEFAULT_SOCKET, value_name = "PATH")]
    pub socket: PathBuf,
    /// Print JSON instead of text
    #[arg(long, global = true)]
    pub json: bool,
    /// When to use colour: auto, always or never; NO_COLOR also turns it off
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", hide_default_value = true)]
    pub color: ColorChoice,
    #[command(subcommand)]
    pub command: Command,
}

/// A command and its arguments.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a program and exit with its status
    ///
    /// Exit status: the program's own; 124 time limit, 137 memory limit, 128+N signal N, 123 output
    /// limit, 122 compile error, 126 the program could not be started, 125 failure of assay or the
    /// engine, 2 usage.
    Run(run::RunArgs),
    /// Submit a program and print its id; it runs on after this command exits
    Submit(submission::SubmissionArgs),
    /// Run a program repeatedly and show how verdict, time and memory vary; exits 0 if the verdict
    /// is always the same
    ///
    /// Nothing is replaced by it: what a contest system calls rejudging, which judges stored
    /// submissions again and changes their results, is that system's own.
    Rejudge(rejudge::RejudgeArgs),
    /// Judge submissions to an ICPC problem package; exits 0 if every verdict is as its folder
    /// expects
    ///
    /// Package formats: legacy, 2023-07 and 2025-09. Types: pass-fail, scoring, interactive,
    /// multi-pass, submit-answer. Validators may use any profile.
    Judge(judge_sources::JudgeArgs),
    /// Run test files against code and show the result of each case; exits 0 if all pass
    ///
    /// For python, tests are for pytest or unittest. For other languages, use --format tap, junit
    /// or exit and name the command.
    Test(test::TestArgs),
    /// Wait for a submission; exits as `run` does
    Wait(submissions::WaitArgs),
    /// Show the state of a submission
    Get(submissions::IdArg),
    /// Cancel a submission
    Cancel(submissions::IdArg),
    /// Show finished submissions, newest first, or count them
    History(history::HistoryArgs),
    /// Show a finished submission: evidence, stages, output, memory and CPU over time
    Show(show::ShowArgs),
    /// Print the signed receipt of a submission, or check one
    Receipt(receipt::ReceiptArgs),
    /// Back up, check or shrink what the daemon keeps, or remove a tenant's data
    #[command(subcommand)]
    Store(store::StoreCommand),
    /// Make, list or revoke tokens of the HTTP API
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Show the daemon's queue, hosts, pools and stage times
    Status,
    /// Exit 0 if the daemon is healthy or degraded, else 1
    Health,
    /// Check this machine, its Docker Engine and the daemon; works with the daemon down
    Doctor(doctor::DoctorArgs),
    /// Show, build, pull or remove images of profiles
    #[command(subcommand)]
    Images(images::ImagesCommand),
    /// Show the pools
    Pools,
    /// Show the Docker hosts, or take one out of service and back
    Hosts {
        #[command(subcommand)]
        command: Option<lists::HostsCommand>,
    },
    /// Watch the daemon: queue, hosts, pools, stage times
    ///
    /// Pools: ready sandboxes wait, hot ones with a started runtime; creating are being made;
    /// leased ones run a submission; kept ones were used and wait for the same caller; waiting are
    /// submissions without a sandbox. A pool keeps at least `floor` ready, aims for `level`, and
    /// has at most `ceiling` in all. Stages are the parts of a submission's time (docs/SPEED.md).
    Top(top::TopArgs),
    /// Make the daemon reload its configuration
    Reload,
    /// Refuse new submissions, for maintenance; the daemon stays and finishes what it has
    Drain {
        /// Return when nothing waits or runs any more
        #[arg(long)]
        wait: bool,
    },
    /// Admit submissions again after `drain`
    Resume,
    /// Show the profiles: the values of `--language`
    Profiles,
    /// Show the live sandboxes
    Sandboxes,
    /// Call any method of the socket protocol
    Rpc(rpc::RpcArgs),
    /// Print the JSON Schema of the protocol, or of a command's --json output
    Schema(schema::SchemaArgs),
    /// Print a shell completion script
    Completions(completions::CompletionsArgs),
    /// Print the manual page, or write all pages to a folder
    Man(man::ManArgs),
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The arguments, or files that they name, are not valid.
    #[error("{0}")]
    Usage(String),
    /// What was to be checked or made is not as it should be.
    #[error("{0}")]
    Invalid(String),
    /// The daemon cannot be reached, or answered with an error.
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl CliError {
    /// A usage error for a path that cannot be read.
    fn cannot_read(path: &Path, error: std::io::Error) -> CliError {
        CliError::Usage(format!("cannot read {}: {error}", path.display()))
    }

    /// The exit status, except for commands that run programs.
    pub fn status(&self) -> u8 {
        if matches!(self, CliError::Usage(_)) { verdict::USAGE } else { 1 }
    }
}

impl From<package::Error> for CliError {
    fn from(error: package::Error) -> CliError {
        CliError::Usage(error.to_string())
    }
}

/// The definition of the command line, with examples and JSON output in each command's help.
pub fn command() -> clap::Command {
    with_after_help(Cli::command(), "")
}

fn with_after_help(command: clap::Command, path: &str) -> clap::Command {
    let styles = command.get_styles();
    let (begin, end) = (styles.get_header().render().to_string(), styles.get_header().render_reset().to_string());
    let mut text = format!("{begin}Examples:{end}\n{}", examples::section(path));
    if let Some(sentence) = outputs::of(path).and_then(outputs::JsonOutput::sentence) {
        text.push_str(&format!("\n{sentence}\n"));
    }
    let names: Vec<String> = command.get_subcommands().map(|inner| inner.get_name().to_owned()).collect();
    names.into_iter().fold(command.after_help(StyledStr::from(text.trim_end().to_owned())), |command, name| {
        let inner = format!("{path} {name}").trim().to_owned();
        command.mut_subcommand(name, |command| with_after_help(command, &inner))
    })
}

/// The program: completes for a shell, or parses the arguments, runs the command and returns its
/// exit status.
pub fn start() -> u8 {
    completions::complete_if_called();
    let parsed = command().try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        // Help and version are not errors.
        Err(error) if error.use_stderr() && std::env::args_os().any(|arg| arg == "--json") => {
            let text = error.to_string();
            let text = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
            error_output::print_error(&CliError::Usage(text), OutputFormat::Json);
            return verdict::USAGE;
        }
        Err(error) => {
            return match (error.print(), error.use_stderr()) {
                (Err(failed), false) => out::unwritten(&failed),
                _ => u8::try_from(error.exit_code()).unwrap_or(verdict::USAGE),
            };
        }
    };
    out::set_colors(cli.color);
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let status = runtime.block_on(main(cli));
            // Do not wait for threads that read the terminal.
            runtime.shutdown_background();
            status
        }
        Err(error) => {
            out::note(format_args!("assay: failed to start: {error}"));
            verdict::OUR_FAULT
        }
    }
}

/// Runs the command and returns its exit status.
async fn main(cli: Cli) -> u8 {
    let Cli { socket, json, color: _, command } = cli;
    let output = if json { OutputFormat::Json } else { OutputFormat::Text };
    // For these, 1 means that a program or a verdict failed; errors have other statuses.
    let runs_programs = matches!(
        command,
        Command::Run(_) | Command::Wait(_) | Command::Test(_) | Command::Judge(_) | Command::Rejudge(_)
    );
    match dispatch(&socket, output, command).await {
        Ok(status) => status,
        Err(error) => {
            error_output::print_error(&error, output);
            if runs_programs { verdict::exit_of_error(&error) } else { error.status() }
        }
    }
}

async fn dispatch(socket: &Path, output: OutputFormat, command: Command) -> Result<u8, CliError> {
    match command {
        // Without the daemon.
        Command::Doctor(args) => Ok(doctor::doctor(socket, output, args).await),
        Command::Completions(args) => Ok(completions::completions(args)),
        Command::Schema(args) => schema::schema(output, &args),
        Command::Man(args) => man::man(&args),
        // These connect by themselves: repeatedly, or after they checked their arguments.
        Command::Top(args) => top::top(socket, output, args).await,
        Command::Run(args) => run::run(socket, output, args).await,
        Command::Judge(args) => judge::judge(socket, output, args).await,
        Command::Test(args) => test::test(socket, output, args).await,
        Command::Rejudge(args) => rejudge::rejudge(socket, output, args).await,
        Command::Submit(args) => submissions::submit(socket, output, args).await,
        Command::Rpc(args) => rpc::rpc(socket, args).await,
        Command::Health => Ok(health::health(socket, output).await),
        Command::Wait(args) => submissions::wait(&mut connect(socket).await?, output, args).await,
        Command::Get(args) => submissions::get(&mut connect(socket).await?, output, args).await,
        Command::Cancel(args) => submissions::cancel(&mut connect(socket).await?, output, args).await,
        Command::History(args) => history::history(&mut connect(socket).await?, output, args).await,
        Command::Show(args) => show::show(&mut connect(socket).await?, output, args).await,
        Command::Receipt(args) => receipt::receipt(socket, output, args).await,
        Command::Store(command) => store::store(&mut connect(socket).await?, output, command).await,
        Command::Token(command) => token::token(&mut connect(socket).await?, output, command).await,
        Command::Status => status::status(&mut connect(socket).await?, output).await,
        Command::Images(command) => images::images(&mut connect(socket).await?, output, command).await,
        Command::Pools => lists::pools(&mut connect(socket).await?, output).await,
        Command::Hosts { command } => lists::hosts(&mut connect(socket).await?, output, command).await,
        Command::Reload => lists::reload(&mut connect(socket).await?, output).await,
        Command::Drain { wait } => lists::drain(&mut connect(socket).await?, output, wait).await,
        Command::Resume => lists::resume(&mut connect(socket).await?, output).await,
        Command::Profiles => lists::profiles(&mut connect(socket).await?, output).await,
        Command::Sandboxes => lists::sandboxes(&mut connect(socket).await?, output).await,
    }
}
