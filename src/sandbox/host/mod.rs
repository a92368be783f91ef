//! One Docker host: its client, its health, its images, its pools and its room for runs; and the [`Fleet`] of them.
//!
//! [`health`] says from what was seen whether a host may be given work; the monitor asks the engine and is the one owner
//! of that state. When an engine answers (again), what it holds of ours is swept and the pools begin anew.

mod calls;
pub mod capacity;
mod factory;
mod fleet;
pub mod health;
mod images;
mod metrics;
mod monitor;

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::{Notify, watch};

use crate::image::Registries;
use crate::lifecycle::Slots;
use crate::pool::{CreationLimiter, HostShare, Levels, Pool, PoolSettings};
use capacity::{Capacity, Resources};
use docker::Client;
use health::EngineStatus;
use protocol::{Isolation, IsolationRequest, Profile};

pub use calls::{CallMetrics, EngineCallMetrics};
pub use fleet::Fleet;
pub use health::HostState;
pub use images::{ImageRow, LayeredImage};
pub use monitor::ContainerEnd;

/// How long sandboxes that are being made when a host is closed are waited for: a start takes a third of a second, and more
/// on a busy engine.
const LAST_CREATIONS: Duration = Duration::from_secs(10);

/// What a host needs to know at its start.
#[derive(Debug)]
pub struct HostConfig {
    /// Its name in reports.
    pub name: String,
    /// Its engine.
    pub client: Client,
    /// How that client's calls go.
    pub calls: Arc<EngineCallMetrics>,
    /// The label's value: instance name and random id.
    pub instance: String,
    /// Creations at a time.
    pub max_creating: usize,
    /// How many CPUs' worth of runs are let in for each CPU that there is.
    pub cpu_overcommit: f64,
    /// The OCI runtime of its sandboxes; the engine's own when absent.
    pub runtime: Option<String>,
    /// The AppArmor profile of cells.
    pub apparmor: Option<String>,
    /// Whether only cells will do, in which nothing is root.
    pub require_nonroot: bool,
    /// Whether root inside must be somebody else outside: a remapping engine, or cells.
    pub require_userns: bool,
    /// Rung when there may be a sandbox for somebody who waits.
    pub capacity_changed: Arc<Notify>,
    /// Uids of programs.
    pub slots: Slots,
    /// The folder with the images' definitions.
    pub images_dir: PathBuf,
    /// Where build logs go.
    pub logs_dir: PathBuf,
    /// Which registries are asked, and when.
    pub registries: Registries,
    /// Whether missing images are built unasked.
    pub build_missing: bool,
    /// The init program's bytes.
    pub init: Vec<u8>,
    /// The profiles.
    pub profiles: Vec<Arc<Profile>>,
}

/// What is known of the engine. What changes by itself is asked for every half minute.
#[derive(Debug, Clone, Default)]
pub struct EngineFacts {
    /// Its version.
    pub version: String,
    /// The API version in use.
    pub api: String,
    /// CPUs of its machine.
    pub cpus: i64,
    /// Memory of its machine, in bytes.
    pub memory_bytes: i64,
    /// Operating system.
    pub os: String,
    /// Kernel.
    pub kernel: String,
    /// Storage driver.
    pub storage: String,
    /// `cgroupfs` or `systemd`, and `1` or `2`.
    pub cgroups: (String, String),
    /// Containers that run there, others' too.
    pub containers_running: i64,
    /// Images there, others' too.
    pub images: i64,
    /// When it said so.
    pub asked: Option<Instant>,
}

/// What is known of a host and why.
#[derive(Debug, Clone)]
pub struct HostHealth {
    known: EngineStatus,
    drained: bool,
    pub reason: Option<String>,
    pub remedy: Option<String>,
    pub engine: EngineFacts,
    pub since: Instant,
}

impl HostHealth {
    pub fn state(&self) -> HostState {
        self.known.state(self.drained)
    }
}

/// A Docker host.
#[derive(Debug)]
pub struct Host {
    config: HostConfig,
    client: Client,
    health: Mutex<HostHealth>,
    share: HostShare,
    capacity: Capacity,
    images: images::Images,
    profiles: Mutex<Vec<Arc<Profile>>>,
    pools: Mutex<BTreeMap<String, Pool>>,
    busy_sandboxes: Mutex<BTreeMap<String, BusySandbox>>,
    suspicion: Notify,
    first_probe_done: watch::Sender<bool>,
    closed: watch::Sender<bool>,
    ends: Mutex<VecDeque<(String, monitor::ContainerEnd)>>,
    /// Why no cells can be made there, as found out by trying.
    cell_unavailable: Mutex<Option<String>>,
    /// Since when a stream of the engine's events has been open.
    watched_since: Mutex<Option<Instant>>,
}

/// A leased sandbox, for `sandbox.list`.
#[derive(Debug, Clone)]
struct BusySandbox {
    profile: String,
    submission: String,
    uid: u32,
    since: Instant,
}

/// A row of `sandbox.list`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct SandboxRow {
    /// Container id, 12 digits.
    pub id: String,
    /// The host.
    pub host: String,
    /// The profile.
    pub profile: String,
    /// `ready` or `leased`.
    pub state: &'static str,
    /// Time in this state, in milliseconds.
    pub age_ms: u64,
    /// Whose submission runs in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Which submission runs in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub submission: Option<String>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Resolves when every one's engine has been asked for the first time, whatever they said.
pub async fn first_probes_done(hosts: &[Arc<Host>]) {
    futures_util::future::join_all(hosts.iter().map(|host| host.first_probe_done())).await;
}

impl Host {
    /// Starts the host's monitor and its pools.
    pub fn start(config: HostConfig) -> Arc<Host> {
        let client = config.client.clone();
        let share = HostShare {
            creating: CreationLimiter::new(config.max_creating),
            running: Arc::new(AtomicUsize::new(0)),
            capacity_changed: config.capacity_changed.clone(),
        };
        let images = images::Images::new(client.clone(), &config);
        let host = Arc::new(Host {
            client,
            share,
            capacity: Capacity::new(config.capacity_changed.clone()),
            images,
            health: Mutex::new(HostHealth {
                known: EngineStatus::Unknown,
                drained: false,
                reason: None,
                remedy: None,
                engine: EngineFacts::default(),
                since: Instant::now(),
            }),
            profiles: Mutex::default(),
            pools: Mutex::default(),
            busy_sandboxes: Mutex::default(),
            suspicion: Notify::new(),
            first_probe_done: watch::Sender::new(false),
            closed: watch::Sender::new(false),
            ends: Mutex::default(),
            cell_unavailable: Mutex::default(),
            watched_since: Mutex::default(),
            config,
        });
        host.set_profiles(&host.config.profiles);
        tokio::spawn(monitor::watch(host.clone()));
        host
    }

    /// Pools for these profiles from now on: those that are new or other get a new one, those that are gone are closed.
    pub fn set_profiles(self: &Arc<Self>, profiles: &[Arc<Profile>]) {
        let before = std::mem::replace(&mut *lock(&self.profiles), profiles.to_vec());
        let same = |profile: &Profile| before.iter().any(|other| **other == *profile);
        let mut pools = lock(&self.pools);
        pools.retain(|name, pool| {
            let stays = profiles.iter().any(|profile| profile.name == *name && same(profile));
            if !stays {
                pool.close();
            }
            stays
        });
        for profile in profiles {
            pools.entry(profile.name.clone()).or_insert_with(|| {
                Pool::start(
                    &profile.name,
                    &self.config.name,
                    PoolSettings {
                        levels: Levels { floor: profile.pool.floor, ceiling: profile.pool.ceiling },
                        max_age: profile.pool.max_age(),
                        priority: profile.pool.priority,
                        reuse: profile.pool.reuse,
                        hot: if profile.prewarm.is_empty() { 0 } else { profile.pool.hot },
                    },
                    self.share.clone(),
                    Box::new(factory::ProfileFactory::new(Arc::downgrade(self), profile.clone())),
                )
            });
        }
    }

    /// Why no cells can be made there; none when they can, or when it was not tried yet.
    pub fn cell_unavailable_reason(&self) -> Option<String> {
        lock(&self.cell_unavailable).clone()
    }

    /// How runs of a profile are kept apart there, as far as is known.
    pub fn isolation(&self, profile: &Profile) -> Isolation {
        match profile.isolation {
            IsolationRequest::Cell => Isolation::Cell,
            IsolationRequest::Auto if self.cell_unavailable_reason().is_none() => Isolation::Cell,
            IsolationRequest::Auto | IsolationRequest::Split => Isolation::Split,
        }
    }

    fn set_cell_unavailable(&self, error: &crate::lifecycle::CreateError) {
        let reason = error.to_string();
        if lock(&self.cell_unavailable).replace(reason.clone()).is_none() {
            tracing::warn!(host = %self.config.name, reason, "no cells on this host: its sandboxes are split");
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// Its endpoint, for people.
    pub fn endpoint(&self) -> String {
        self.client.endpoint().to_string()
    }

    /// Its client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Its images.
    pub fn images(&self) -> &images::Images {
        &self.images
    }

    /// How its engine's calls go.
    pub fn calls(&self) -> &EngineCallMetrics {
        &self.config.calls
    }

    pub fn health(&self) -> HostHealth {
        lock(&self.health).clone()
    }

    /// Resolves when the host is closed.
    async fn ended(&self) {
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }

    /// Closes it once what runs there has ended; it gets no more work meanwhile.
    pub async fn retire(&self) {
        self.set_drained(true);
        while self.running() > 0 {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        self.stop();
    }

    /// Resolves when the engine has been asked for the first time, whatever it said.
    pub async fn first_probe_done(&self) {
        let _ = self.first_probe_done.subscribe().wait_for(|looked| *looked).await;
    }

    /// What may be done with it.
    pub fn state(&self) -> HostState {
        lock(&self.health).state()
    }

    /// Whether its engine answers.
    pub fn answers(&self) -> bool {
        lock(&self.health).known == EngineStatus::Answers
    }

    /// Gives it no more work, or some again.
    pub fn set_drained(&self, drained: bool) {
        lock(&self.health).drained = drained;
        tracing::info!(host = %self.config.name, drained, "host drained or resumed by command");
        for pool in self.pools() {
            pool.pause(drained);
        }
        self.share.capacity_changed.notify_one();
    }

    /// Whether a usual run of a profile would fit in its room now.
    pub fn has_capacity_for(&self, profile: &str) -> bool {
        let known = lock(&self.profiles).iter().find(|known| known.name == profile).cloned();
        known.is_some_and(|profile| self.capacity.fits(Host::need(&profile)))
    }

    /// Its room for runs.
    pub fn capacity(&self) -> &Capacity {
        &self.capacity
    }

    /// What a run in a profile's sandbox takes of the room.
    fn need(profile: &Profile) -> Resources {
        let limits = profile.run_limits().ok();
        limits.map_or_else(Resources::default, |limits| Resources { cpus: limits.cpus, memory: limits.memory_bytes })
    }

    /// The engine's version.
    pub fn engine_version(&self) -> String {
        lock(&self.health).engine.version.clone()
    }

    /// The pool of a profile.
    pub fn pool(&self, profile: &str) -> Option<Pool> {
        lock(&self.pools).get(profile).cloned()
    }

    /// All pools.
    pub fn pools(&self) -> Vec<Pool> {
        lock(&self.pools).values().cloned().collect()
    }

    /// Counts a run while it lives, so that refill leaves it the CPU.
    pub fn mark_busy(self: &Arc<Self>, sandbox: &str, profile: &str, submission: &str, uid: u32) -> BusyGuard {
        self.share.running.fetch_add(1, Ordering::Relaxed);
        lock(&self.busy_sandboxes).insert(
            sandbox.to_owned(),
            BusySandbox { profile: profile.to_owned(), submission: submission.to_owned(), uid, since: Instant::now() },
        );
        BusyGuard { host: self.clone(), sandbox: sandbox.to_owned() }
    }

    /// The live sandboxes.
    pub fn sandboxes(&self) -> Vec<SandboxRow> {
        let short = |id: &str| crate::lifecycle::short(id).to_owned();
        let mut rows: Vec<SandboxRow> = Vec::new();
        for pool in self.pools() {
            rows.extend(pool.ready_ids().into_iter().map(|(id, age)| SandboxRow {
                id: short(&id),
                host: self.config.name.clone(),
                profile: pool.profile().to_owned(),
                state: "ready",
                age_ms: age.as_millis() as u64,
                uid: None,
                submission: None,
            }));
        }
        rows.extend(lock(&self.busy_sandboxes).iter().map(|(id, busy)| SandboxRow {
            id: short(id),
            host: self.config.name.clone(),
            profile: busy.profile.clone(),
            state: "leased",
            age_ms: busy.since.elapsed().as_millis() as u64,
            uid: Some(busy.uid),
            submission: Some(busy.submission.clone()),
        }));
        rows
    }

    /// Runs under way.
    pub fn running(&self) -> usize {
        self.share.running.load(Ordering::Relaxed)
    }

    /// Ends the monitor and all pools. What lay ready ends by itself.
    fn stop(&self) {
        self.closed.send_replace(true);
        for pool in self.pools() {
            pool.close();
        }
    }

    /// Ends it with the daemon: removes whatever bears our label on the engine.
    pub async fn close(&self) {
        self.stop();
        // what is being made comes to an end first: the engine may finish a creation after we last looked
        let begun = Instant::now();
        let is_making = || self.pools().iter().any(|pool| pool.state().creating > 0);
        while self.answers() && is_making() && begun.elapsed() < LAST_CREATIONS {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // let the dead-man switches work before asking the engine for what they do by themselves
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_millis(300)).await;
            match crate::lifecycle::sweep(&self.client, &self.config.instance, None).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }
}

/// A run under way on a host.
#[derive(Debug)]
pub struct BusyGuard {
    host: Arc<Host>,
    sandbox: String,
}

impl Drop for BusyGuard {
    fn drop(&mut self) {
        self.host.share.running.fetch_sub(1, Ordering::Relaxed);
        lock(&self.host.busy_sandboxes).remove(&self.sandbox);
        for pool in self.host.pools() {
            pool.wake();
        }
    }
}
