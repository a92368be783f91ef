//! What is known about one engine: its health, its facts, and how containers ended on it.
//!
//! [`HostMonitor`] only records and answers; `watch` probes the engine and follows its events.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use docker::{Client, EngineEvent, Error as EngineError};
use parking_lot::Mutex;
use protocol::rows::HostState;
use tokio::sync::{Notify, watch};

use super::exits::{ContainerEnd, ContainerExits, KILLED};
use super::health::{EngineStatus, Observation};
use crate::lifecycle::{ContainerId, CreateError};

/// When an engine fails, the ends of all its streams are noticed within this time, even on a busy
/// machine.
const SETTLE: Duration = Duration::from_millis(100);

/// Interval of checks for an event that is expected.
const EVENT_POLL: Duration = Duration::from_millis(50);
/// Checks for the exit of a container whose connection has ended.
const EXIT_POLLS: u32 = 40;
/// Further checks, for a killed container, whether it was out of memory.
const OOM_POLLS: u32 = 4;

/// What is known about an engine and its machine. Refreshed every half minute.
#[derive(Debug, Clone, Default)]
pub struct EngineFacts {
    pub version: String,
    /// The API version in use.
    pub api: String,
    pub cpus: i64,
    pub memory_bytes: i64,
    pub os: String,
    pub kernel: String,
    /// The storage driver.
    pub storage: String,
    /// The driver (`cgroupfs` or `systemd`) and the version (`1` or `2`).
    pub cgroups: (String, String),
    /// Whether it applies AppArmor profiles.
    pub has_apparmor: bool,
    /// Running containers on the engine, including those of others.
    pub containers_running: i64,
    /// Images on the engine, including those of others.
    pub images: i64,
    /// The folder of the engine's data, if the engine is on this machine.
    pub data: Option<PathBuf>,
    /// When the engine reported this. `None` before the first time.
    pub asked: Option<Instant>,
}

/// The health of a host.
#[derive(Debug, Clone)]
pub struct HostHealth {
    pub(super) status: EngineStatus,
    pub(super) drained: bool,
    /// Why the engine is down.
    pub error: Option<Arc<EngineError>>,
    pub engine: EngineFacts,
    /// Since when the engine is up or down.
    pub since: Instant,
}

impl HostHealth {
    pub fn state(&self) -> HostState {
        self.status.state(self.drained)
    }

    /// Why the engine is down, as a text that reads after "failed to".
    pub fn reason(&self) -> Option<String> {
        self.error.as_ref().map(ToString::to_string)
    }

    /// What the operator can do about it, if known.
    pub fn remedy(&self) -> Option<String> {
        let error = self.error.as_ref()?;
        Some(error.remedy().unwrap_or_else(|| UNKNOWN_REMEDY.to_owned()))
    }
}

/// The most different errors that one outage of an engine logs.
const MAX_LOGGED: usize = 4;

/// What to do about an error that has no remedy of its own.
const UNKNOWN_REMEDY: &str =
    "look at the engine's own log (journalctl -u docker); `assay doctor --no-pull` tries each kind of call";

/// What is known about one engine, across connections and restarts of the engine.
#[derive(Debug)]
pub struct HostMonitor {
    host: String,
    /// Where the engine's address is set.
    setting: String,
    client: Client,
    health: Mutex<HostHealth>,
    /// The errors of the present outage that were logged: a peer that fails in several ways in
    /// turns must not fill the log. Never more than [`MAX_LOGGED`].
    logged: Mutex<Vec<String>>,
    /// Why cells are not possible: the error of the last attempt to make one.
    cell_unavailable: Mutex<Option<String>>,
    exits: Mutex<ContainerExits>,
    /// Since when the stream of events has been open without interruption.
    watched_since: Mutex<Option<Instant>>,
    suspicion: Notify,
    first_probe_done: watch::Sender<bool>,
    closed: watch::Sender<bool>,
}

impl HostMonitor {
    pub(super) fn new(host: String, setting: String, client: Client) -> HostMonitor {
        HostMonitor {
            host,
            setting,
            client,
            health: Mutex::new(HostHealth {
                status: EngineStatus::Unknown,
                drained: false,
                error: None,
                engine: EngineFacts::default(),
                since: Instant::now(),
            }),
            logged: Mutex::default(),
            cell_unavailable: Mutex::default(),
            exits: Mutex::default(),
            watched_since: Mutex::default(),
            suspicion: Notify::new(),
            first_probe_done: watch::Sender::new(false),
            closed: watch::Sender::new(false),
        }
    }

    pub fn health(&self) -> HostHealth {
        self.health.lock().clone()
    }

    pub fn state(&self) -> HostState {
        self.health.lock().state()
    }

    /// Whether the last probe was answered and no call has failed since.
    pub fn answers(&self) -> bool {
        self.status() == EngineStatus::Answers
    }

    pub(super) fn status(&self) -> EngineStatus {
        self.health.lock().status
    }

    pub(super) fn set_drained(&self, drained: bool) {
        self.health.lock().drained = drained;
    }

    pub(super) fn set_facts(&self, facts: EngineFacts) {
        self.health.lock().engine = facts;
    }

    /// Records that a call failed as if the engine were down. The engine is probed at once;
    /// meanwhile the host is given work only if no other host is up.
    pub fn mark_suspect(&self) {
        let mut health = self.health.lock();
        health.status = health.status.after(Observation::Suspected);
        drop(health);
        self.suspicion.notify_one();
    }

    /// Resolves after [`HostMonitor::mark_suspect`].
    pub(super) async fn suspected(&self) {
        self.suspicion.notified().await;
    }

    /// Records an answered probe.
    pub(super) fn record_answer(&self, engine: EngineFacts) {
        let mut health = self.health.lock();
        let before = health.status;
        health.status = before.after(Observation::Answered);
        if before == EngineStatus::Answers {
            return;
        }
        health.error = None;
        if before == EngineStatus::Suspect {
            tracing::debug!(host = %self.host, "the engine answers after all");
            return;
        }
        // a different engine may answer at the same address
        *self.cell_unavailable.lock() = None;
        tracing::info!(host = %self.host, engine = %engine.version, api = %engine.api, "the engine answers");
        health.engine = engine;
        health.since = Instant::now();
    }

    /// Records a failed probe.
    pub(super) fn record_failure(&self, error: EngineError) {
        let mut health = self.health.lock();
        let before = health.status;
        health.status = before.after(Observation::Failed);
        if health.status != EngineStatus::Down {
            return;
        }
        let mut logged = self.logged.lock();
        if before != EngineStatus::Down {
            health.since = Instant::now();
            logged.clear();
        }
        let text = error.to_string();
        if logged.len() < MAX_LOGGED && !logged.contains(&text) {
            logged.push(text);
            let remedy = error.remedy();
            tracing::error!(
                host = %self.host, endpoint = %self.client.endpoint(), setting = self.setting, %error,
                remedy = remedy.as_deref().unwrap_or(UNKNOWN_REMEDY),
                "the engine does not answer: this host gets no work until it does"
            );
        }
        health.error = Some(Arc::new(error));
    }

    pub(super) fn set_first_probe_done(&self) {
        self.first_probe_done.send_replace(true);
    }

    /// Resolves after the first probe of the engine, whatever its result.
    pub async fn first_probe_done(&self) {
        let _ = self.first_probe_done.subscribe().wait_for(|done| *done).await;
    }

    /// Why cells are not possible on this host. `None` if they are, or if none was tried yet.
    pub fn cell_unavailable_reason(&self) -> Option<String> {
        self.cell_unavailable.lock().clone()
    }

    pub(super) fn set_cell_unavailable(&self, error: &CreateError) {
        let reason = error.to_string();
        if self.cell_unavailable.lock().replace(reason.clone()).is_none() {
            tracing::warn!(host = %self.host, reason, "no cells on this host: its sandboxes are split");
        }
    }

    pub(super) fn record_exit(&self, event: &EngineEvent) {
        self.exits.lock().record_exit(event);
    }

    pub(super) fn set_watched(&self, watched: bool) {
        *self.watched_since.lock() = watched.then(Instant::now);
    }

    /// How a container ended, as far as the engine reported it. The events arrive some time after
    /// the end of the connection, `oom` possibly after `die`, so this waits for both within a bound
    /// (2.2 s).
    pub async fn container_end(&self, container: &ContainerId) -> ContainerEnd {
        let known = || self.exits.lock().get(container.as_str());
        let mut polls = EXIT_POLLS;
        while known().exit_code.is_none() && polls > 0 {
            tokio::time::sleep(EVENT_POLL).await;
            polls -= 1;
        }
        let mut polls = OOM_POLLS;
        while known().exit_code == Some(KILLED) && !known().oom && polls > 0 {
            tokio::time::sleep(EVENT_POLL).await;
            polls -= 1;
        }
        known()
    }

    /// Whether the engine provably did not fail since `then`: its stream of events has been open
    /// all the time, and it answers now. Waits first, so that the end of that stream would have
    /// been seen.
    pub async fn was_healthy_since(&self, then: Instant) -> bool {
        tokio::time::sleep(SETTLE).await;
        let watched = || self.watched_since.lock().is_some_and(|since| since <= then);
        watched() && self.client.ping().await.is_ok() && watched()
    }

    pub(super) fn close(&self) {
        self.closed.send_replace(true);
    }

    /// Resolves when the host is closed.
    pub(super) async fn closed(&self) {
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }
}
