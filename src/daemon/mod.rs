//! The daemon's life: lock, start, serve, drain, end. `bin/assayd` parses its arguments and calls [`run`].
//!
//! ```text
//!  lock the state folder -> start the reaper -> hosts and pools -> bind the socket -> READY
//!        SIGTERM, SIGINT, daemon.drain: stop admitting -> answer everyone -> close pools -> reaper told -> gone
//!        SIGKILL: the reaper's pipe closes -> it sweeps by label until nothing is left
//! ```

mod instance;
pub mod reaper;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};

use crate::config::{Config, Environment, load_profiles};
use crate::docker::{self, Client, Target};
use crate::host::{Host, HostConfig};
use crate::image::Registries;
use crate::model::Profile;
use crate::rpc::{self, Blobs, Daemon, Roles};
use crate::sandbox::Slots;
use crate::scheduler::Scheduler;
use instance::Instance;

/// How long the socket waits for the first word of the engine.
const FIRST_LOOK: Duration = Duration::from_secs(3);

/// Which engine the configuration and the environment name, and a client of it.
///
/// # Errors
/// In words.
pub fn engine(config: &Config, environment: &Environment) -> Result<(Target, Client), String> {
    let found = config.engine.target(environment).and_then(|target| Ok((Client::open(&target)?, target)));
    found.map(|(client, target)| (target, client)).map_err(|error| format!("failed to {error}"))
}

/// Runs until it is told to end.
///
/// # Errors
/// What kept it from starting, in words.
pub async fn run(config: Config, environment: &Environment) -> Result<(), String> {
    let (target, client) = engine(&config, environment)?;
    let profiles = load_profiles(&config).map_err(|error| format!("failed to {error}"))?;
    let roles =
        Roles::new(&config.socket).map_err(|error| format!("failed to use socket.submit or .admin: {error}"))?;
    let init_path = match &config.images.init {
        Some(path) => path.clone(),
        None => std::env::current_exe()
            .map_err(|error| format!("failed to find the daemon's own program: {error}"))?
            .with_file_name("assay-init"),
    };
    let init = std::fs::read(&init_path)
        .map_err(|error| format!("failed to read the init program {}: {error} (images.init)", init_path.display()))?;
    let instance = Instance::claim(&config.instance)?;
    let reaper = reaper::Reaper::start(&target, &instance.label, instance.folder())?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"), instance = %instance.label, engine = %target.endpoint,
        socket = %config.socket.path.display(), profiles = profiles.len(), "assayd starts"
    );

    if target.is_plaintext() {
        tracing::warn!(engine = %target.endpoint,
            "the engine is spoken to without TLS (engine.allow_plaintext): whoever reaches its port is root there");
    }

    let profiles: BTreeMap<String, Arc<Profile>> =
        profiles.into_iter().map(|profile| (profile.name.clone(), Arc::new(profile))).collect();
    let host = Host::start(HostConfig {
        name: "local".to_owned(),
        client,
        instance: instance.label.clone(),
        max_creating: config.engine.max_creating,
        slots: Slots::new(config.uids.base, config.uids.count as usize),
        images_dir: config.images.dir.clone(),
        logs_dir: config.instance.state_dir.join("build-logs"),
        registries: Registries {
            policy: config.images.pull,
            trusted: config.images.trusted.clone(),
            docker_folder: docker::Environment::from(environment.clone()).docker_folder(),
            pulled: Arc::default(),
        },
        build_missing: config.images.build_missing,
        init,
        profiles: profiles.values().cloned().collect(),
    });
    let blobs = Arc::new(Blobs::default());
    let shelf = blobs.clone();
    let scheduler =
        Scheduler::new(host.clone(), config.queue.clone(), Box::new(move |uid, bytes| shelf.keep(uid, bytes)));
    let drain = Arc::new(Notify::new());
    let daemon = Arc::new(Daemon {
        instance: instance.label.clone(),
        started: Instant::now(),
        scheduler: scheduler.clone(),
        profiles,
        blobs,
        roles,
        drain: drain.clone(),
    });
    // the first caller finds a daemon that knows whether there is an engine; its absence keeps nobody from being told so
    let _ = tokio::time::timeout(FIRST_LOOK, host.looked()).await;
    let mode = config.socket_mode().unwrap_or(0o660);
    let listener = rpc::bind(&config.socket.path, mode).await.map_err(|error| format!("failed to {error}"))?;
    let (stop, stopped) = watch::channel(false);
    let (leave, left) = watch::channel(false);
    let serving = tokio::spawn(rpc::serve(listener, daemon, stopped, left));
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);

    wait_for_end(&drain).await?;
    tracing::info!("draining: nothing new is admitted, what runs is finished");
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    scheduler.drain().await;
    let _ = stop.send(true);
    let _ = serving.await;
    // the last answers are on their way to their writers
    tokio::time::sleep(Duration::from_millis(50)).await;
    let _ = leave.send(true);
    host.close().await;
    let _ = std::fs::remove_file(&config.socket.path);
    reaper.dismiss();
    tracing::info!("assayd ends");
    Ok(())
}

async fn wait_for_end(drain: &Notify) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("failed to listen for signals: {error}");
    let mut term = signal(SignalKind::terminate()).map_err(failed)?;
    let mut int = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut hup = signal(SignalKind::hangup()).map_err(failed)?;
    loop {
        tokio::select! {
            _ = term.recv() => return Ok(()),
            _ = int.recv() => return Ok(()),
            () = drain.notified() => return Ok(()),
            _ = hup.recv() => tracing::warn!("reload is not built yet: restart assayd to apply a new configuration"),
        }
    }
}
