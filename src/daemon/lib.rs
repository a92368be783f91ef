//! The daemon's life: lock, start, serve, drain, end. `bin/assayd` parses its arguments and calls [`run`].
//!
//! ```text
//!  lock the state folder -> start the reaper -> hosts and pools -> the socket, bound or inherited -> READY
//!        SIGHUP, daemon.reload: a new configuration, all of it or nothing
//!        SIGTERM, SIGINT, daemon.drain: stop admitting -> answer everyone -> close pools -> reaper told -> gone
//!        SIGKILL: the reaper's pipe closes -> it sweeps by label until nothing is left
//! ```
//!
//! Nobody waits for an engine before the socket answers: the first submissions wait for the engines' first word instead
//! ([`SubmissionService::wait_for_first_probe`]). With a socket of the service manager's ([`service`]) the end is a hand-over: new callers wait
//! for the next daemon from the first moment on, and those that are connected may go on for a moment.

pub mod assembly;
mod instance;
pub mod reaper;
pub mod reload;
mod service;
mod signals;
mod watchdog;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::UnixListener;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;

use assembly::Assembly;
use config::{Config, Loaded, Sources, bounds};
use instance::Instance;
use reaper::Reaper;
use sandbox::host::Fleet;
use sandbox::lifecycle::Slots;
use scheduler::SubmissionService;
use server::http::Gateway;
use server::rpc::{self, Blobs, Daemon, Live, ReloadAsk};
use signals::{Came, Signals, Wish};
use telemetry::liveness::LivenessProbe;

pub use service::Inherited;

/// How long callers who are connected may go on while new ones wait for the next daemon already.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// The same for one who was let in and has not been heard yet: on a busy machine a first line takes its time.
const FIRST_WORDS: Duration = Duration::from_secs(10);
/// How long answers are given to get to their callers at the end.
const LAST_ANSWERS: Duration = Duration::from_millis(50);
/// The same for reports, which callers have waited for.
const LAST_REPORTS: Duration = Duration::from_secs(5);
/// What the end takes beyond the drain, at most: last answers, and pools that are closed.
const LAST_STEPS: Duration = Duration::from_secs(20);

/// What lives as long as the daemon does.
struct Life {
    sources: Sources,
    label: String,
    assembly: Assembly,
    slots: Slots,
    bell: Arc<Notify>,
    fleet: Arc<Fleet>,
    submissions: Arc<SubmissionService>,
    live: Arc<Live>,
    reaper: Reaper,
    main_loop: Arc<LivenessProbe>,
    /// Hosts on their way out.
    leaving: JoinSet<()>,
}

/// Runs until it is told to end. `sources` is where the configuration is, for a reload; `loaded` what it says now; `sockets` what
/// the service manager opened.
///
/// # Errors
/// What kept it from starting, in words.
pub async fn run(sources: Sources, loaded: Loaded, mut sockets: Inherited) -> Result<(), String> {
    let assembly = Assembly::of(loaded, &sources.environment)?;
    let config = &assembly.config;
    raise_open_files();
    let instance = Instance::claim(&config.instance, instance::PATIENCE)?;
    let reaper = Reaper::start(&assembly.targets(), &instance.label, instance.folder(), &config.log)?;
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
    let submissions = SubmissionService::start(
        fleet.clone(),
        bell.clone(),
        config.queue.clone(),
        instance.folder(),
        assembly.cache(instance.folder()),
        blobs.clone(),
    );
    match submissions.load_reports() {
        0 => {}
        reports => tracing::info!(reports, "has the reports that the last daemon kept"),
    }
    match submissions.resume(&assembly.profiles) {
        0 => {}
        submissions => tracing::info!(submissions, "resumes submissions that the last daemon left unfinished"),
    }
    let live = Arc::new(Live::new(assembly.profiles.clone(), assembly.roles.clone()));
    let drain = Arc::new(Notify::new());
    let (accept_loop, main_loop) = (Arc::new(LivenessProbe::default()), Arc::new(LivenessProbe::default()));
    let connections = rpc::Connections::default();
    let (reload, mut reloads) = mpsc::channel::<ReloadAsk>(1);
    let daemon = Arc::new(Daemon {
        instance: instance.label.clone(),
        started: Instant::now(),
        fleet: fleet.clone(),
        submissions: submissions.clone(),
        live: live.clone(),
        blobs,
        drain: drain.clone(),
        reload,
        metrics: Arc::default(),
        connections: connections.clone(),
        accept_loop: accept_loop.clone(),
    });
    let gateway =
        Gateway::open(&config.http, sockets.http.take(), daemon.clone(), instance.folder().to_owned()).await?;
    let (listener, bound) = listen(sockets, config).await?;
    let (stop, stopped) = watch::channel(false);
    let (leave, left) = watch::channel(false);
    let serving = tokio::spawn(rpc::serve(listener, daemon, stopped, left));
    service::ready();
    let watching = service::watchdog().map(|within| {
        tokio::spawn(watchdog::watch(fleet.clone(), submissions.clone(), accept_loop, main_loop.clone(), within))
    });

    let mut life = Life {
        sources,
        label: instance.label.clone(),
        assembly,
        slots,
        bell,
        fleet: fleet.clone(),
        submissions: submissions.clone(),
        live,
        reaper,
        main_loop,
        leaving: JoinSet::new(),
    };
    life.until_the_end(&drain, &mut reloads).await?;
    life.main_loop.mark_ended();
    service::stopping(life.assembly.config.queue.drain() + LAST_STEPS);
    if bound.is_none() {
        tracing::info!("new callers wait for the next daemon");
        let _ = stop.send(true);
        let begun = Instant::now();
        let waits = |begun: Instant| match begun.elapsed() {
            so_far if so_far < LAST_WORDS => connections.count() > 0,
            so_far => so_far < FIRST_WORDS && connections.unheard() > 0,
        };
        while waits(begun) && !submissions.is_draining() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    tracing::info!("draining: nothing new is admitted, what runs is finished");
    submissions.drain().await;
    submissions.save_reports().await;
    let _ = stop.send(true);
    let _ = serving.await;
    // the last answers are on their way to their writers; reports are waited for
    let begun = Instant::now();
    while begun.elapsed() < LAST_ANSWERS || (connections.owed() > 0 && begun.elapsed() < LAST_REPORTS) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let _ = leave.send(true);
    let Life { reaper, mut leaving, .. } = life;
    for host in fleet.all().iter() {
        let host = host.clone();
        leaving.spawn(async move { host.close().await });
    }
    while leaving.join_next().await.is_some() {}
    if let Some(socket) = bound {
        let _ = std::fs::remove_file(socket);
    }
    if let Some(watching) = watching {
        watching.abort();
    }
    // whoever looks how the drain goes is answered to its end
    if let Some(gateway) = gateway {
        gateway.close().await;
    }
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

/// The socket that callers come by; with its path when it is ours to remove.
async fn listen(sockets: Inherited, config: &Config) -> Result<(UnixListener, Option<PathBuf>), String> {
    let path = config.socket.path.clone();
    let at = sockets.path();
    let Some(listener) = sockets.callers else {
        let mode = config.socket_mode().unwrap_or(0o660);
        let listener = rpc::bind(&path, mode).await.map_err(|error| format!("failed to {error}"))?;
        return Ok((listener, Some(path)));
    };
    if at.as_ref() != Some(&path) {
        tracing::warn!(
            configured = %path.display(), passed = %at.unwrap_or_default().display(),
            "the service manager's socket is another than socket.path: callers come by the manager's (ListenStream=)"
        );
    }
    listener
        .set_nonblocking(true)
        .and_then(|()| UnixListener::from_std(listener))
        .map(|listener| (listener, None))
        .map_err(|error| format!("failed to use the socket that was passed: {error}"))
}

impl Life {
    /// Takes new configurations over until it is told to end.
    async fn until_the_end(&mut self, drain: &Notify, reloads: &mut mpsc::Receiver<ReloadAsk>) -> Result<(), String> {
        let mut signals = Signals::listen().map_err(|error| format!("failed to listen for signals: {error}"))?;
        loop {
            tokio::select! {
                Came { wish, name, sender } = signals.next() => {
                    if wish == Wish::End {
                        tracing::info!(%sender, "{name}: draining, then the end");
                        return Ok(());
                    }
                    tracing::info!(%sender, "{name}: the configuration is read again");
                    if let Err(error) = self.reload().await {
                        tracing::error!(%error, "the new configuration is not taken over; the old one stays in effect");
                    }
                }
                () = drain.notified() => return Ok(()),
                () = self.main_loop.requested() => self.main_loop.acknowledge(),
                Some(reply) = reloads.recv() => {
                    let _ = reply.send(self.reload().await);
                }
                Some(_) = self.leaving.join_next(), if !self.leaving.is_empty() => {}
            }
        }
    }
}
