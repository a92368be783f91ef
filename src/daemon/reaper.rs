//! The reaper: a child process of the daemon that only holds a pipe. When the daemon dies, the pipe
//! closes, and the reaper removes what the dead-man switch cannot: containers that were being
//! created, or that never started.
//!
//! ```text
//!  daemon ---pipe---> reaper (own session, so that killing the daemon's group does not reach it)
//!     a line of targets: the engines from now on
//!     "bye": exit at once
//!     end-of-file: lock, sweep by label until two sweeps a second apart find nothing;
//!                  an engine does not answer: release the lock for a moment, repeat
//!     "failed": the same, but the daemon exited with an error that it has logged; it did not die
//! ```

use std::io::{BufRead, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use super::instance::{Instance, lock};
use super::service;
use config::{self, Config, EnvVars};
use docker::{Client, EngineTarget};
use sandbox::lifecycle;

/// The first argument that makes `assayd` a reaper.
pub const ARGUMENT: &str = "--reap";

/// Variables with the log settings of the reaper.
pub const LOG_LEVEL: &str = "ASSAY_LOG_LEVEL";
pub const LOG_TARGET: &str = "ASSAY_LOG_TARGET";

/// Sent by a daemon that exits in order.
const BYE: &str = "bye";
/// Sent by a daemon that exits with an error: its sandboxes are to be removed.
const FAILED: &str = "failed";

/// How long the lock is waited for: a dying process releases it within milliseconds.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// Time between two sweeps.
const SWEEP_PERIOD: Duration = Duration::from_secs(1);
/// How long the reaper tries an engine that does not answer.
const ENGINE_TIMEOUT: Duration = Duration::from_secs(600);

/// The reaper process and the daemon's end of its pipe.
#[derive(Debug)]
pub struct Reaper {
    child: Child,
    pipe: Option<ChildStdin>,
}

impl Reaper {
    /// # Errors
    /// A message: the process cannot be started.
    pub fn start(
        targets: &[&EngineTarget],
        instance: &str,
        folder: &Path,
        log: &config::LogSettings,
    ) -> Result<Reaper, String> {
        let failed = |error: std::io::Error| format!("failed to start the reaper: {error}");
        let program = std::env::current_exe().map_err(failed)?;
        let mut command = Command::new(program);
        for variable in service::VARIABLES {
            command.env_remove(variable);
        }
        let mut child = command
            .args([ARGUMENT, instance])
            .arg(folder)
            .env(LOG_LEVEL, &log.level)
            .env(LOG_TARGET, log.target.as_str())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let pipe = child.stdin.take();
        let mut reaper = Reaper { child, pipe };
        reaper.set_targets(targets);
        Ok(reaper)
    }

    /// Sends the addresses of the engines.
    pub fn set_targets(&mut self, targets: &[&EngineTarget]) {
        if let Some(pipe) = &mut self.pipe {
            let _ = writeln!(pipe, "{}", serde_json::json!(targets));
        }
    }

    /// Ends the reaper in order: no sandboxes are left.
    pub fn dismiss(mut self) {
        if let Some(mut pipe) = self.pipe.take() {
            let _ = writeln!(pipe, "{BYE}");
        }
        let _ = self.child.wait();
    }
}

impl Drop for Reaper {
    /// Notifies a reaper that was not dismissed that the daemon exits with an error. Does not wait
    /// for the reaper's sweep.
    fn drop(&mut self) {
        if let Some(pipe) = self.pipe.as_mut().filter(|_| !std::thread::panicking()) {
            let _ = writeln!(pipe, "{FAILED}");
        }
    }
}

/// The main function of the reaper process.
pub fn run(instance: &str, folder: &Path) {
    // a session of its own: neither a terminal's hang-up nor a kill of the daemon's group reaches
    // it
    let _ = nix::unistd::setsid();
    let mut targets: Vec<EngineTarget> = Vec::new();
    let mut has_failed = false;
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        if line == BYE {
            return;
        }
        has_failed |= line == FAILED;
        // engines removed by a reload are kept: the daemon may still have sandboxes there
        for mut target in serde_json::from_str::<Vec<EngineTarget>>(&line).unwrap_or_default() {
            target.app = &config::ENGINE_CLIENT_APP;
            if !targets.contains(&target) {
                targets.push(target);
            }
        }
    }
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    let mut clients: Vec<Client> = targets.iter().filter_map(|target| Client::open(target).ok()).collect();
    let deadline = Instant::now() + ENGINE_TIMEOUT;
    let (mut removed, mut is_logged) = (0, false);
    while !clients.is_empty() && Instant::now() < deadline {
        // a new daemon waits for this lock; if it has the lock already, its start-up sweep does the
        // work. The dying daemon may hold it for a moment longer: the kernel closes its pipe before
        // its lock
        let Ok(held) = lock(&folder.join("lock"), LOCK_TIMEOUT, || ()) else { return };
        match has_failed {
            _ if is_logged => {}
            true => {
                tracing::info!(%instance, engines = clients.len(), "the daemon ended with an error: removing its sandboxes")
            }
            false => tracing::warn!(%instance, engines = clients.len(), "the daemon died: removing its sandboxes"),
        }
        is_logged = true;
        removed += runtime.block_on(sweep_all(&mut clients, instance, 2));
        // an engine that does not answer must not delay a new daemon
        drop(held);
        std::thread::sleep(SWEEP_PERIOD);
    }
    tracing::info!(%instance, removed, engines_silent = clients.len(), "sweep finished: no sandboxes of the dead daemon remain on the engines that answered");
}

/// Sweeps all engines until `empty_sweeps` sweeps in a row found nothing; returns the number of
/// removed sandboxes. Only clients of engines that did not answer remain in `clients`.
async fn sweep_all(clients: &mut Vec<Client>, instance: &str, empty_sweeps: u32) -> usize {
    let mut sweeps = tokio::task::JoinSet::new();
    for client in clients.drain(..) {
        let instance = instance.to_owned();
        sweeps.spawn(async move {
            let swept = sweep_until_empty(&client, &instance, empty_sweeps).await;
            (client, swept)
        });
    }
    let mut total = 0;
    for (client, swept) in sweeps.join_all().await {
        match swept {
            Ok(removed) => total += removed,
            Err(removed) => {
                total += removed;
                clients.push(client);
            }
        }
    }
    total
}

/// How the daemon ended before a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DaemonExit {
    /// In order: one empty sweep is enough.
    Clean,
    /// Otherwise: creations may still be under way.
    Unclean,
}

/// `assayd --sweep` (ExecStopPost= of the unit, and removal of the package): removes the sandboxes
/// of this instance from its engines. Does nothing while a daemon or a reaper of this instance
/// runs.
///
/// # Errors
/// A message: the configuration or the state folder cannot be read.
pub fn sweep_up(config: &Config, environment: &EnvVars, exit: DaemonExit) -> Result<usize, String> {
    let engines = super::assembly::engines(config, &config::Origins::default(), environment)?;
    let instance = Instance::claim(&config.instance, LOCK_TIMEOUT)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("failed to start the runtime: {error}"))?;
    let mut clients: Vec<Client> = engines.into_iter().map(|engine| engine.client).collect();
    let empty_sweeps = match exit {
        DaemonExit::Clean => 1,
        DaemonExit::Unclean => 2,
    };
    // an engine that does not answer now is swept by the next daemon
    Ok(runtime.block_on(sweep_all(&mut clients, &instance.label, empty_sweeps)))
}

/// Returns the number of removed sandboxes, as an error if the engine stopped answering.
async fn sweep_until_empty(client: &Client, instance: &str, empty_sweeps: u32) -> Result<usize, usize> {
    let (mut empty, mut removed) = (0, 0);
    loop {
        match lifecycle::sweep(client, instance, None).await {
            Ok(0) => empty += 1,
            Ok(count) => {
                empty = 0;
                removed += count;
            }
            Err(_) => return Err(removed),
        }
        if empty == empty_sweeps {
            return Ok(removed);
        }
        // found sandboxes are gone when sweep returns; a creation under way shows up within the
        // next second
        tokio::time::sleep(if empty == 1 { SWEEP_PERIOD } else { SWEEP_PERIOD / 5 }).await;
    }
}
