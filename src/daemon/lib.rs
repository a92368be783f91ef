//! The process: lock, start, serve, drain, exit. `main.rs` parses the arguments and calls [`run`].
//!
//! ```text
//!  start:      lock the state folder -> reaper -> hosts, pools -> socket, bound or passed -> READY
//!  serve:      SIGHUP, daemon.reload: a new configuration, all of it or nothing
//!  shut_down:  SIGTERM, SIGINT, daemon.drain: stop admitting -> finish runs -> close pools
//!              -> dismiss the reaper
//!  (SIGKILL:   the reaper's pipe closes -> the reaper removes all sandboxes by label)
//! ```
//!
//! The socket answers before any engine does: the first submissions wait for the first probe of the
//! engines ([`SubmissionService::wait_for_first_probe`]). With a socket of the service manager
//! ([`service`]) the shutdown begins with a hand-over: new connections wait for the next daemon at
//! once, while connected callers may finish.

pub mod assembly;
mod callback_secret;
mod findings;
mod instance;
mod open_store;
mod private_file;
pub mod reaper;
mod receipt_key;
pub mod reload;
mod service;
mod signals;
mod token_store;
mod watchdog;

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::net::UnixListener;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

use assembly::Assembly;
use config::{Config, Sources, bounds};
use instance::Instance;
use reaper::Reaper;
use sandbox::host::Fleet;
use sandbox::lifecycle::Slots;
use scheduler::{Callbacks, ReceiptIssuer, ServiceKeepers, StoreAccess, SubmissionService};
use server::http::HttpServer;
use server::http::access::AccessControl;
use server::{Connections, Daemon, Live, MemoryBlobs, ReloadRequest, rpc};
use signals::{SignalReceived, SignalRequest, Signals};
use telemetry::liveness::LivenessProbe;

pub use service::PassedSockets;

/// How long a hand-over waits for connected callers.
const HAND_OVER_TIME: Duration = Duration::from_secs(1);
/// How long it waits for connections that have not sent their first call: a busy machine delays the
/// first line.
const FIRST_CALL_TIME: Duration = Duration::from_secs(10);
/// How long the shutdown waits for responses to reach the sockets.
const RESPONSE_TIME: Duration = Duration::from_millis(50);
/// How long it waits for reports to be written.
const REPORT_TIME: Duration = Duration::from_secs(5);
/// Bound of the shutdown after the drain: last responses, and pools that are closed.
const SHUTDOWN_TIME: Duration = Duration::from_secs(20);
/// How often the shutdown checks what it waits for.
const POLL_PERIOD: Duration = Duration::from_millis(10);

/// Everything that the daemon holds from its start to its exit.
struct RunningDaemon {
    sources: Sources,
    instance: Instance,
    assembly: Assembly,
    slots: Slots,
    capacity_changed: Arc<Notify>,
    submissions: Arc<SubmissionService>,
    fleet: Arc<Fleet>,
    daemon: Arc<Daemon>,
    /// Reloads that admins request.
    reloads: mpsc::Receiver<ReloadRequest>,
    http_server: Option<HttpServer>,
    accepting: JoinHandle<()>,
    /// Stops accepting connections.
    stop_accepting: watch::Sender<bool>,
    /// Closes the open connections.
    close_connections: watch::Sender<bool>,
    /// The socket file to remove at the end; `None` for a socket of the service manager.
    bound: Option<PathBuf>,
    main_loop: Arc<LivenessProbe>,
    watchdog: Option<JoinHandle<()>>,
    reaper: Reaper,
    /// Opens the store when its disk lets it.
    opening: Option<JoinHandle<()>>,
    /// Writes when tokens were used.
    token_uses: JoinHandle<()>,
    /// Hosts that a reload removed and that still finish runs.
    retiring: JoinSet<()>,
}

/// Runs the daemon until it is told to end. A reload reads `sources` again; `assembly` is what they
/// say now.
///
/// # Errors
/// A message: the daemon could not start, or could not listen for signals.
pub async fn run(sources: Sources, assembly: Assembly, sockets: PassedSockets) -> Result<(), String> {
    let mut running = RunningDaemon::start(sources, assembly, sockets).await?;
    running.serve().await?;
    running.shut_down().await;
    Ok(())
}

impl RunningDaemon {
    async fn start(sources: Sources, assembly: Assembly, mut sockets: PassedSockets) -> Result<RunningDaemon, String> {
        assembly.log_warnings();
        let config = &assembly.config;
        raise_open_files();
        let instance = Instance::claim(&config.instance, instance::LOCK_TIMEOUT)?;
        let issuer = ReceiptIssuer {
            key: receipt_key::open(instance.folder())?,
            instance: instance.label.clone(),
            version: env!("ASSAY_VERSION"),
            init_sha256: assembly.init_sha256(),
        };
        let store = Arc::new(StoreAccess::new(&config.store, issuer));
        let callbacks = Callbacks::new(&config.http, callback_secret::open(instance.folder())?);
        let is_open = open_store::open(&store, instance.folder())?;
        let reaper = Reaper::start(&assembly.targets(), &instance.label, instance.folder(), &config.log)?;
        let engines: Vec<String> = assembly.engines.iter().map(|engine| engine.target.endpoint.to_string()).collect();
        tracing::info!(
            version = env!("ASSAY_VERSION"), instance = %instance.label, engines = engines.join(", "),
            socket = %config.socket.path.display(), profiles = assembly.profiles.len(), "assayd starts"
        );

        let capacity_changed = Arc::new(Notify::new());
        let slots = Slots::new(config.uids.base, config.uids.count as usize);
        let hosts: Vec<_> = assembly
            .engines
            .iter()
            .map(|engine| assembly.host(engine, &instance.label, &slots, &capacity_changed))
            .collect();
        let fleet = Arc::new(Fleet::new(hosts));
        let live = Arc::new(Live::new(assembly.live_settings()));
        let access = Arc::new(AccessControl::new(&config.http, live.clone()));
        let blobs = Arc::new(MemoryBlobs::default());
        let keepers = ServiceKeepers {
            state_folder: instance.folder(),
            cache: assembly.cache(instance.folder()),
            blobs: blobs.clone(),
            store: store.clone(),
            callbacks: Arc::new(callbacks),
        };
        let submissions =
            SubmissionService::start(fleet.clone(), capacity_changed.clone(), config.queue.clone(), keepers);
        submissions.callbacks().set_tokens(access.clone());
        let opening = match is_open {
            true => {
                token_store::load(&store, &access).await;
                submissions.take_over(&assembly.profiles).await;
                None
            }
            false => {
                let (submissions, profiles) = (submissions.clone(), assembly.profiles.clone());
                let (opened_store, access) = (store.clone(), access.clone());
                let opened = async move {
                    token_store::load(&opened_store, &access).await;
                    submissions.take_over(&profiles).await;
                };
                Some(tokio::spawn(open_store::try_again(store.clone(), instance.folder().to_owned(), opened)))
            }
        };
        let token_uses = tokio::spawn(token_store::keep_uses(store, access.clone()));
        let (accept_loop, main_loop) = (Arc::new(LivenessProbe::default()), Arc::new(LivenessProbe::default()));
        let (reload, reloads) = mpsc::channel::<ReloadRequest>(1);
        let daemon = Arc::new(Daemon {
            instance: instance.label.clone(),
            commit: env!("ASSAY_COMMIT"),
            started: Instant::now(),
            fleet: fleet.clone(),
            submissions: submissions.clone(),
            live,
            access,
            blobs,
            drain: Arc::new(Notify::new()),
            reload,
            metrics: Arc::default(),
            connections: Connections::default(),
            accept_loop: accept_loop.clone(),
            handing_over: AtomicBool::new(false),
        });
        let state_dir = instance.folder().to_owned();
        let http_server = HttpServer::open(&config.http, sockets.http.take(), daemon.clone(), state_dir).await?;
        let (listener, bound) = listen(sockets, config).await?;
        let (stop_accepting, stopped) = watch::channel(false);
        let (close_connections, closed) = watch::channel(false);
        let accepting = tokio::spawn(rpc::serve(listener, daemon.clone(), stopped, closed));
        service::notify_ready();
        let watchdog = service::watchdog_timeout().map(|timeout| {
            let (fleet, submissions) = (fleet.clone(), submissions.clone());
            tokio::spawn(watchdog::watch(fleet, submissions, accept_loop, main_loop.clone(), timeout))
        });
        Ok(RunningDaemon {
            sources,
            instance,
            assembly,
            slots,
            capacity_changed,
            submissions,
            fleet,
            daemon,
            reloads,
            http_server,
            accepting,
            stop_accepting,
            close_connections,
            bound,
            main_loop,
            watchdog,
            reaper,
            opening,
            token_uses,
            retiring: JoinSet::new(),
        })
    }

    /// Handles signals, reloads and drain requests until the daemon is told to end.
    async fn serve(&mut self) -> Result<(), String> {
        let mut signals = Signals::listen().map_err(|error| format!("failed to listen for signals: {error}"))?;
        let drain = self.daemon.drain.clone();
        loop {
            tokio::select! {
                SignalReceived { request, name, sender } = signals.next() => {
                    if request == SignalRequest::Exit {
                        tracing::info!(%sender, "{name}: shutting down");
                        return Ok(());
                    }
                    tracing::info!(%sender, "{name}: reading the configuration again");
                    if let Err(error) = self.reload().await {
                        tracing::error!(%error, "the new configuration is not applied; the old one stays in effect");
                    }
                }
                () = drain.notified() => return Ok(()),
                () = self.main_loop.requested() => self.main_loop.acknowledge(),
                Some(reply) = self.reloads.recv() => {
                    let _ = reply.send(self.reload().await);
                }
                Some(_) = self.retiring.join_next(), if !self.retiring.is_empty() => {}
            }
        }
    }

    async fn shut_down(mut self) {
        self.main_loop.mark_ended();
        service::notify_stopping(self.assembly.config.queue.drain() + SHUTDOWN_TIME);
        if self.bound.is_none() {
            self.hand_over().await;
        }
        tracing::info!("draining: no new submissions are admitted, running ones are finished");
        self.submissions.drain().await;
        let _ = self.stop_accepting.send(true);
        let _ = self.accepting.await;
        wait_for_responses(&self.daemon.connections).await;
        let _ = self.close_connections.send(true);
        for host in self.fleet.all().iter() {
            let host = host.clone();
            self.retiring.spawn(async move { host.close().await });
        }
        while self.retiring.join_next().await.is_some() {}
        if let Some(socket) = self.bound {
            let _ = std::fs::remove_file(socket);
        }
        if let Some(watchdog) = self.watchdog {
            watchdog.abort();
        }
        // the HTTP server is last, so that health and metrics are available to the end of the drain
        if let Some(http_server) = self.http_server {
            http_server.close().await;
        }
        if let Some(opening) = self.opening {
            opening.abort();
        }
        self.token_uses.abort();
        let store = self.submissions.store().clone();
        token_store::write_uses(&store, &self.daemon.access);
        let _ = tokio::task::spawn_blocking(move || store.close()).await;
        self.reaper.dismiss();
        tracing::info!("assayd ends");
    }

    /// Leaves new connections to the next daemon, and waits a bounded time for the callers that are
    /// connected.
    async fn hand_over(&self) {
        let connections = &self.daemon.connections;
        tracing::info!("new connections wait for the next daemon");
        let _ = self.stop_accepting.send(true);
        self.daemon.handing_over.store(true, Ordering::Relaxed);
        let start = Instant::now();
        let must_wait = || match start.elapsed() {
            elapsed if elapsed < HAND_OVER_TIME => connections.count() > 0,
            elapsed => elapsed < FIRST_CALL_TIME && connections.silent_connections() > 0,
        };
        while must_wait() && !self.submissions.is_draining() {
            tokio::time::sleep(POLL_PERIOD).await;
        }
    }
}

/// Waits for responses on their way to the sockets, and longer for reports.
async fn wait_for_responses(connections: &Connections) {
    let start = Instant::now();
    while start.elapsed() < RESPONSE_TIME || (connections.pending_reports() > 0 && start.elapsed() < REPORT_TIME) {
        tokio::time::sleep(POLL_PERIOD).await;
    }
}

/// File descriptors that the daemon may need: one per connection of either door, one per attached
/// sandbox, and some more.
const OPEN_FILES: u64 = (2 * bounds::MAX_CONNECTIONS + bounds::MAX_API_CONNECTIONS) as u64;

/// Raises the limit of open files to the hard limit; warns when that is too low.
fn raise_open_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_err() {
        tracing::warn!(soft, hard, "failed to raise the limit of open files");
    }
    if hard < OPEN_FILES {
        tracing::warn!(
            hard,
            "the limit of open files is {hard}, up to {OPEN_FILES} may be needed: connections will be refused under \
             load (LimitNOFILE= in the unit, ulimit -n)"
        );
    }
}

/// The listener for callers, and its path if it is ours to remove.
async fn listen(sockets: PassedSockets, config: &Config) -> Result<(UnixListener, Option<PathBuf>), String> {
    let path = config.socket.path.clone();
    let passed_path = sockets.path();
    let Some(listener) = sockets.callers else {
        let mode = config.socket_mode().unwrap_or(config::DEFAULT_SOCKET_MODE);
        let listener = rpc::bind(&path, mode).await.map_err(|error| format!("failed to {error}"))?;
        return Ok((listener, Some(path)));
    };
    if passed_path.as_ref() != Some(&path) {
        tracing::warn!(
            configured = %path.display(), passed = %passed_path.clone().unwrap_or_default().display(),
            "socket.path is ignored: the service manager passed a socket with another path (ListenStream=)"
        );
    }
    let passed_mode = passed_path.and_then(|path| std::fs::metadata(path).ok()).map(|found| found.mode() & 0o777);
    if let (Some(passed), Some(configured)) = (passed_mode, config.socket_mode())
        && passed != configured
    {
        tracing::warn!(
            configured = %config.socket.mode, passed = format!("{passed:04o}"),
            "socket.mode is ignored: the service manager passed a socket with another mode (SocketMode=)"
        );
    }
    listener
        .set_nonblocking(true)
        .and_then(|()| UnixListener::from_std(listener))
        .map(|listener| (listener, None))
        .map_err(|error| format!("failed to use the socket that was passed: {error}"))
}

#[cfg(test)]
mod tests {
    use std::any::{type_name, type_name_of_val};

    use super::RunningDaemon;

    #[test]
    fn every_module_with_a_log_level_of_its_own_exists() {
        let types = [
            type_name::<RunningDaemon>(),
            type_name::<config::Config>(),
            type_name::<docker::Client>(),
            type_name::<judge::cache::Cache>(),
            type_name::<sandbox::host::Host>(),
            type_name::<sandbox::image::ResolvedImage>(),
            type_name::<sandbox::lifecycle::Sandbox>(),
            type_name::<sandbox::policy::Approved>(),
            type_name::<sandbox::pool::Pool>(),
            type_name::<scheduler::SubmissionService>(),
            type_name::<server::http::HttpServer>(),
            type_name::<server::Daemon>(),
            type_name_of_val(&server::rpc::bind),
            type_name::<telemetry::liveness::LivenessProbe>(),
        ];
        // the daemon does not link the CLI, and the audit log has lines of several modules
        for (name, path) in telemetry::log::MODULES.iter().filter(|(name, _)| !["audit", "cli"].contains(name)) {
            let prefix = format!("{path}::");
            assert!(types.iter().any(|found| found.starts_with(&prefix)), "{name}: no type of {path}");
        }
    }
}
