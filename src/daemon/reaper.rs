//! The reaper: a child of the daemon that does nothing but hold a pipe. When the daemon dies, the pipe closes and the
//! reaper removes what the dead-man switch cannot: containers whose creation was under way, or that never started.
//!
//! ```text
//!  daemon ---pipe---> reaper (own session, so that no kill of the daemon's group reaches it)
//!     a line of targets: these are the engines from now on
//!     "bye": exit at once          end-of-file: lock, sweep by label until two sweeps a second apart find nothing
//! ```

use std::io::{BufRead, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use super::instance::lock;
use crate::docker::{Client, Target};
use crate::sandbox;

/// The first argument that makes `assayd` a reaper.
pub const ARGUMENT: &str = "--reap";

/// What a daemon says that ends in order.
const BYE: &str = "bye";

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
    pub fn start(targets: &[&Target], instance: &str, folder: &Path) -> Result<Reaper, String> {
        let failed = |error: std::io::Error| format!("failed to start the reaper: {error}");
        let program = std::env::current_exe().map_err(failed)?;
        let mut child = Command::new(program)
            .args([ARGUMENT, instance])
            .arg(folder)
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

/// The reaper's own life. Returns when there is nothing (more) to do.
pub fn run(instance: &str, folder: &Path) {
    // in its own session no terminal's hang-up and no kill of the daemon's group reaches it
    let _ = nix::unistd::setsid();
    let mut targets: Vec<Target> = Vec::new();
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        if line == BYE {
            return;
        }
        // engines that are gone are kept: the daemon may still have had something there
        for target in serde_json::from_str::<Vec<Target>>(&line).unwrap_or_default() {
            if !targets.contains(&target) {
                targets.push(target);
            }
        }
    }
    // a new daemon waits for this lock; when one has it already, its own start-up sweep does the work. The dying daemon
    // may still hold it for a moment: the kernel closes its pipe before it closes its lock
    let Ok(_lock) = lock(&folder.join("lock"), LOCK_PATIENCE) else { return };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    tracing::warn!(%instance, "the daemon died: removing its sandboxes");
    let removed: usize = runtime.block_on(async {
        let mut sweeps = tokio::task::JoinSet::new();
        for client in targets.iter().filter_map(|target| Client::open(target).ok()) {
            let instance = instance.to_owned();
            sweeps.spawn(async move { sweep_until_empty(&client, &instance).await });
        }
        sweeps.join_all().await.into_iter().sum()
    });
    tracing::info!(%instance, removed, "nothing of the dead daemon is left");
}

async fn sweep_until_empty(client: &Client, instance: &str) -> usize {
    let deadline = Instant::now() + PATIENCE;
    let (mut empty, mut removed) = (0, 0);
    while empty < 2 && Instant::now() < deadline {
        match sandbox::sweep(client, instance, None).await {
            Ok(0) => empty += 1,
            Ok(count) => {
                empty = 0;
                removed += count;
            }
            Err(_) => empty = 0,
        }
        // what was found is gone when sweep returns; a creation under way shows up within the next second
        tokio::time::sleep(if empty == 1 { BETWEEN } else { BETWEEN / 5 }).await;
    }
    removed
}
