//! The program `assay-egress`: reads its arguments and the configuration, opens its socket or takes
//! the one that the service manager passes, and serves the daemon.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use listenfd::ListenFd;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};

use config::{Config, EgressArguments};
use egress::{CallbackClient, NameLookup};
use telemetry::log;

/// The status of a start with a configuration that cannot be used (EX_CONFIG of sysexits), as
/// assayd's.
const WRONG_CONFIGURATION: u8 = 78;

fn main() -> ExitCode {
    // the process must have a single thread here
    let mut passed = ListenFd::from_env();
    let arguments = match EgressArguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1));
        }
    };
    match run(&arguments, &mut passed) {
        Ok(()) => ExitCode::SUCCESS,
        Err((message, status)) => {
            let journal = std::env::var("JOURNAL_STREAM").ok();
            let line = log::as_error(&format!("assay-egress: {message}"), journal.as_deref());
            let _ = std::io::stderr().lock().write_all(format!("{line}\n").as_bytes());
            ExitCode::from(status)
        }
    }
}

fn run(arguments: &EgressArguments, passed: &mut ListenFd) -> Result<(), (String, u8)> {
    let wrong = |message: String| (message, WRONG_CONFIGURATION);
    let other = |message: String| (message, 1);
    let environment = config::environment();
    let load = {
        let (path, environment) = (arguments.config.clone(), environment.clone());
        move || Config::load_elsewhere(path.as_deref(), &environment).map_err(|error| format!("failed to {error}"))
    };
    let config = load().map_err(wrong)?;
    let journal = environment.get("JOURNAL_STREAM").map(String::as_str);
    log::start(&config.log.level, config.log.target, journal).map_err(wrong)?;
    let own = nix::unistd::geteuid().as_raw();
    let daemon = match &arguments.daemon_user {
        None => own,
        Some(user) => uid_of(user).ok_or_else(|| wrong(format!("--daemon-user: the user {user:?} does not exist")))?,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| other(format!("failed to start the runtime: {error}")))?;
    let tls = egress::connector().map_err(other)?;
    let rules = move || load().map(|config| config.http.callback_rules());
    let lookup = NameLookup { server: arguments.resolver };
    let client = CallbackClient { rules: Arc::new(rules), lookup, tls, call_time: egress::CALL_TIME };
    let path = config.http.egress_socket;
    runtime.block_on(async {
        let taken = passed.take_unix_listener(0).map_err(|error| other(format!("the passed socket: {error}")))?;
        let (listener, bound) = match taken {
            Some(listener) => {
                let listener = listener.set_nonblocking(true).and_then(|()| UnixListener::from_std(listener));
                (listener.map_err(|error| other(format!("failed to use the passed socket: {error}")))?, None)
            }
            None => {
                let listener = egress::bind(&path, daemon != own);
                let opened = listener
                    .map_err(|error| other(format!("failed to open {}: {error} (http.egress_socket)", path.display())));
                (opened?, Some(&path))
            }
        };
        let mut end = signal(SignalKind::terminate()).map_err(|error| other(error.to_string()))?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| other(error.to_string()))?;
        let receivers = config.http.callbacks.len();
        tracing::info!(version = env!("CARGO_PKG_VERSION"), receivers, daemon_uid = daemon, "assay-egress starts");
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        let ended = async {
            tokio::select! {
                _ = end.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        egress::serve(listener, daemon, client, ended).await;
        if let Some(path) = bound {
            let _ = std::fs::remove_file(path);
        }
        tracing::info!("assay-egress ends");
        Ok(())
    })
}

/// The uid of a user. A static program reads /etc/passwd itself.
fn uid_of(user: &str) -> Option<u32> {
    if let Ok(uid) = user.parse() {
        return Some(uid);
    }
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(user)).then(|| fields.nth(1)?.parse().ok())?
    })
}
