//! The daemon's life: lock, start, serve, drain, end. `bin/assayd` parses its arguments and calls [`run`].
//!
//! ```text
//!  lock the state folder -> start the reaper -> hosts and pools -> bind the socket -> READY
//!        SIGHUP, daemon.reload: a new configuration, all of it or nothing
//!        SIGTERM, SIGINT, daemon.drain: stop admitting -> answer everyone -> close pools -> reaper told -> gone
//!        SIGKILL: the reaper's pipe closes -> it sweeps by label until nothing is left
//! ```

pub mod assembly;
mod instance;
pub mod reaper;
mod reload;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;

use crate::config::{Config, Environment, bounds};
use crate::host::{Fleet, Host};
use crate::rpc::{self, Blobs, Daemon, Live, ReloadAsk};
use crate::sandbox::Slots;
use crate::scheduler::Scheduler;
use assembly::Assembly;
use instance::Instance;
use reaper::Reaper;

/// How long the first word of the engines is waited for.
const FIRST_LOOK: Duration = Duration::from_secs(3);

/// What lives as long as the daemon does.
struct Life {
    path: Option<PathBuf>,
    environment: Environment,
    label: String,
    assembly: Assembly,
    slots: Slots,
    bell: Arc<Notify>,
    scheduler: Arc<Scheduler>,
    live: Arc<Live>,
    reaper: Reaper,
    /// Hosts on their way out.
    leaving: JoinSet<()>,
}

/// Runs until it is told to end. `path` is the configuration's file, for a reload; `config` what it says now.
///
/// # Errors
/// What kept it from starting, in words.
pub async fn run(path: Option<&Path>, config: Config, environment: &Environment) -> Result<(), String> {
    let assembly = Assembly::of(config, environment)?;
    let config = &assembly.config;
    raise_open_files();
    let instance = Instance::claim(&config.instance)?;
    let reaper = Reaper::start(&assembly.targets(), &instance.label, instance.folder())?;
    let engines: Vec<String> = assembly.engines.iter().map(|engine| engine.target.endpoint.to_string()).collect();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"), instance = %instance.label, engines = engines.join(", "),
        socket = %config.socket.path.display(), profiles = assembly.profiles.len(), "assayd starts"
    );

    let bell = Arc::new(Notify::new());
    let slots = Slots::new(config.uids.base, config.uids.count as usize);
    let hosts: Vec<_> =
        assembly.engines.iter().map(|engine| assembly.host(engine, &instance.label, &slots, &bell)).collect();
    let fleet = Arc::new(Fleet::new(hosts));
    let blobs = Arc::new(Blobs::default());
    let shelf = blobs.clone();
    let scheduler = Scheduler::new(
        fleet.clone(),
        bell.clone(),
        config.queue.clone(),
        instance.folder().join("kept"),
        assembly.cache(instance.folder()),
        Box::new(move |uid, bytes| shelf.keep(uid, bytes)),
    );
    match scheduler.resume(&assembly.profiles) {
        0 => {}
        submissions => tracing::info!(submissions, "goes on with what the last daemon left unstarted"),
    }
    let live = Arc::new(Live::new(assembly.profiles.clone(), assembly.roles.clone()));
    let drain = Arc::new(Notify::new());
    let (reload, mut reloads) = mpsc::channel::<ReloadAsk>(1);
    let daemon = Arc::new(Daemon {
        instance: instance.label.clone(),
        started: Instant::now(),
        scheduler: scheduler.clone(),
        live: live.clone(),
        blobs,
        drain: drain.clone(),
        reload,
    });
    // the first caller finds a daemon that knows whether there is an engine; its absence keeps nobody from being told so
    looked(&fleet.all()).await;
    let mode = config.socket_mode().unwrap_or(0o660);
    let socket = config.socket.path.clone();
    let listener = rpc::bind(&socket, mode).await.map_err(|error| format!("failed to {error}"))?;
    let (stop, stopped) = watch::channel(false);
    let (leave, left) = watch::channel(false);
    let serving = tokio::spawn(rpc::serve(listener, daemon, stopped, left));
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);

    let mut life = Life {
        path: path.map(Path::to_owned),
        environment: environment.clone(),
        label: instance.label.clone(),
        assembly,
        slots,
        bell,
        scheduler: scheduler.clone(),
        live,
        reaper,
        leaving: JoinSet::new(),
    };
    life.until_the_end(&drain, &mut reloads).await?;
    tracing::info!("draining: nothing new is admitted, what runs is finished");
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    scheduler.drain().await;
    let _ = stop.send(true);
    let _ = serving.await;
    // the last answers are on their way to their writers
    tokio::time::sleep(Duration::from_millis(50)).await;
    let _ = leave.send(true);
    let Life { reaper, mut leaving, .. } = life;
    for host in fleet.all().iter() {
        let host = host.clone();
        leaving.spawn(async move { host.close().await });
    }
    while leaving.join_next().await.is_some() {}
    let _ = std::fs::remove_file(&socket);
    reaper.dismiss();
    tracing::info!("assayd ends");
    Ok(())
}

/// Descriptors that the daemon may need: a connection each of callers, an attach stream each of sandboxes, and the rest.
const OPEN_FILES: u64 = 2 * bounds::MAX_CONNECTIONS as u64;

/// Takes all open files that the system lets us have; says so when that is little.
fn raise_open_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_err() {
        tracing::warn!(soft, hard, "the limit of open files cannot be raised");
    }
    if hard < OPEN_FILES {
        tracing::warn!(
            hard,
            "at most {hard} files may be open, {OPEN_FILES} may be needed: callers will be refused under load \
             (LimitNOFILE= in the unit, ulimit -n)"
        );
    }
}

/// Waits until every host's engine has been asked once, for [`FIRST_LOOK`] at most.
async fn looked(hosts: &[Arc<Host>]) {
    let looks = futures_util::future::join_all(hosts.iter().map(|host| host.looked()));
    let _ = tokio::time::timeout(FIRST_LOOK, looks).await;
}

impl Life {
    /// Takes new configurations over until it is told to end.
    async fn until_the_end(&mut self, drain: &Notify, reloads: &mut mpsc::Receiver<ReloadAsk>) -> Result<(), String> {
        let failed = |error: std::io::Error| format!("failed to listen for signals: {error}");
        let mut term = signal(SignalKind::terminate()).map_err(failed)?;
        let mut int = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut hup = signal(SignalKind::hangup()).map_err(failed)?;
        loop {
            tokio::select! {
                _ = term.recv() => return Ok(()),
                _ = int.recv() => return Ok(()),
                () = drain.notified() => return Ok(()),
                _ = hup.recv() => {
                    if let Err(error) = self.reload().await {
                        tracing::error!(%error, "the new configuration is not taken over; the old one stays in effect");
                    }
                }
                Some(reply) = reloads.recv() => {
                    let _ = reply.send(self.reload().await);
                }
                Some(_) = self.leaving.join_next(), if !self.leaving.is_empty() => {}
            }
        }
    }
}
