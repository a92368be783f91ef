//! The reaper: a child of the daemon that does nothing but hold a pipe. When the daemon dies, the pipe closes and the
//! reaper removes what the dead-man switch cannot: containers whose creation was under way, or that never started.
//!
//! ```text
//!  daemon ---pipe---> reaper (own session, so that no kill of the daemon's group reaches it)
//!     a line of targets: these are the engines from now on
//!     "bye": exit at once          end-of-file: lock, sweep by label until two sweeps a second apart find nothing;
//!                                  an engine is silent: let go of the lock for a moment, again
//!     "failed": the same, but it is no death: the daemon could not start or go on, and said why
//! ```

use std::io::{BufRead, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use super::instance::{Instance, lock};
use super::service;
use config::{self, Config, Environment};
use docker::{Client, Target};
use sandbox::lifecycle;

/// The first argument that makes `assayd` a reaper.
pub const ARGUMENT: &str = "--reap";

/// The variables that tell it how to log.
pub const LOG_LEVEL: &str = "ASSAY_LOG_LEVEL";
/// See [`LOG_LEVEL`].
pub const LOG_TARGET: &str = "ASSAY_LOG_TARGET";

/// What a daemon says that ends in order.
const BYE: &str = "bye";
/// What a daemon says that ends with an error: what it began is to be removed.
const FAILED: &str = "failed";

/// How long the lock is tried: a dying process lets go of it within milliseconds.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// Between sweeps.
const BETWEEN: Duration = Duration::from_secs(1);
/// How long an engine that doesn't answer is waited for.
const PATIENCE: Duration = Duration::from_secs(600);

/// The daemon's end of the pipe.
#[derive(Debug)]
pub struct Reaper {
    child: Child,
    pipe: Option<ChildStdin>,
}

impl Reaper {
    /// Starts it.
    ///
    /// # Errors
    /// In words.
    pub fn start(targets: &[&Target], instance: &str, folder: &Path, log: &config::Log) -> Result<Reaper, String> {
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
        reaper.watch_over(targets);
        Ok(reaper)
    }

    /// Tells it where the engines are from now on.
    pub fn watch_over(&mut self, targets: &[&Target]) {
        if let Some(pipe) = &mut self.pipe {
            let _ = writeln!(pipe, "{}", serde_json::json!(targets));
        }
    }

    /// Tells it that nothing is left, and waits for its end.
    pub fn dismiss(mut self) {
        if let Some(mut pipe) = self.pipe.take() {
            let _ = writeln!(pipe, "{BYE}");
        }
        let _ = self.child.wait();
    }
}

impl Drop for Reaper {
    /// Without a dismissal the daemon ends with an error. It does not wait for what the reaper does then.
    fn drop(&mut self) {
        if let Some(pipe) = self.pipe.as_mut().filter(|_| !std::thread::panicking()) {
            let _ = writeln!(pipe, "{FAILED}");
        }
    }
}

/// The reaper's own life. Returns when there is nothing (more) to do.
pub fn run(instance: &str, folder: &Path) {
    // in its own session no terminal's hang-up and no kill of the daemon's group reaches it
    let _ = nix::unistd::setsid();
    let mut targets: Vec<Target> = Vec::new();
    let mut has_failed = false;
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        if line == BYE {
            return;
        }
        has_failed |= line == FAILED;
        // engines that are gone are kept: the daemon may still have had something there
        for target in serde_json::from_str::<Vec<Target>>(&line).unwrap_or_default() {
            if !targets.contains(&target) {
                targets.push(target);
            }
        }
    }
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    let mut clients: Vec<Client> = targets.iter().filter_map(|target| Client::open(target).ok()).collect();
    let deadline = Instant::now() + PATIENCE;
    let (mut removed, mut is_said) = (0, false);
    while !clients.is_empty() && Instant::now() < deadline {
        // a new daemon waits for this lock; when one has it already, its own start-up sweep does the work. The dying daemon
        // may still hold it for a moment: the kernel closes its pipe before it closes its lock
        let Ok(held) = lock(&folder.join("lock"), LOCK_PATIENCE) else { return };
        match has_failed {
            _ if is_said => {}
            true => {
                tracing::info!(%instance, engines = clients.len(), "the daemon ended with an error: removing what it began")
            }
            false => tracing::warn!(%instance, engines = clients.len(), "the daemon died: removing its sandboxes"),
        }
        is_said = true;
        removed += runtime.block_on(sweep_all(&mut clients, instance, 2));
        // an engine that does not answer keeps no new daemon waiting
        drop(held);
        std::thread::sleep(BETWEEN);
    }
    tracing::info!(%instance, removed, engines_silent = clients.len(), "nothing of that daemon is left where it could be looked");
}

/// Sweeps all of them until `empties` looks in a row found nothing; how many sandboxes were removed. Those that answered are
/// taken out.
async fn sweep_all(clients: &mut Vec<Client>, instance: &str, empties: u32) -> usize {
    let mut sweeps = tokio::task::JoinSet::new();
    for client in clients.drain(..) {
        let instance = instance.to_owned();
        sweeps.spawn(async move {
            let swept = sweep_until_empty(&client, &instance, empties).await;
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

/// What `assayd --sweep` does (ExecStopPost= of the unit, and before a package is removed): removes whatever of this instance
/// is left on its engines. `in_order` says that the daemon ended by itself: then one look is enough. Does nothing while a
/// daemon or a reaper of this instance lives.
///
/// # Errors
/// In words: a configuration or state folder that cannot be read.
pub fn sweep_up(config: &Config, environment: &Environment, in_order: bool) -> Result<usize, String> {
    let engines = super::assembly::engines(config, &config::Origins::default(), environment)?;
    let instance = Instance::claim(&config.instance, LOCK_PATIENCE)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("failed to start the runtime: {error}"))?;
    let mut clients: Vec<Client> = engines.into_iter().map(|engine| engine.client).collect();
    // one that does not answer now is swept by the next daemon, when it does
    Ok(runtime.block_on(sweep_all(&mut clients, &instance.label, if in_order { 1 } else { 2 })))
}

/// How many it removed; as an error when the engine stopped answering.
async fn sweep_until_empty(client: &Client, instance: &str, empties: u32) -> Result<usize, usize> {
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
        if empty == empties {
            return Ok(removed);
        }
        // what was found is gone when sweep returns; a creation under way shows up within the next second
        tokio::time::sleep(if empty == 1 { BETWEEN } else { BETWEEN / 5 }).await;
    }
}
