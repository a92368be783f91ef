//! One Docker host: its client, its health, its images and its pools.
//!
//! ```text
//!            ping ok                      ping fails
//!  Unknown ----------> Up (sweep, pools encouraged) ----------> Down (nothing new; tried again every second)
//!                      ^                                          |
//!                      '------------------ ping ok ---------------'
//! ```
//!
//! The monitor is the one owner of the state. Everything else reads it.

mod factory;
mod images;
mod monitor;

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::Serialize;
use tokio::sync::{Notify, Semaphore, watch};

use crate::docker::Client;
use crate::image::Registries;
use crate::model::Profile;
use crate::pool::{HostShare, Levels, Pool};
use crate::sandbox::Slots;

pub use images::{ImageRow, ImageState};

/// What a host needs to know at its start.
#[derive(Debug)]
pub struct HostConfig {
    /// Its name in reports.
    pub name: String,
    /// Its engine.
    pub client: Client,
    /// The label's value: instance name and random id.
    pub instance: String,
    /// Creations at a time.
    pub max_creating: usize,
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

/// Whether a host's engine answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HostState {
    /// Not asked yet.
    Unknown,
    /// It answers.
    Up,
    /// It does not.
    Down,
}

/// What is known of the engine.
#[derive(Debug, Clone, Default, Serialize)]
pub struct EngineFacts {
    /// Its version.
    pub version: String,
    /// The API version in use.
    pub api: String,
    /// CPUs of its machine.
    pub cpus: i64,
    /// Memory of its machine, in bytes.
    pub memory_bytes: i64,
}

/// The state of a host and why.
#[derive(Debug, Clone)]
pub(crate) struct Health {
    pub(crate) state: HostState,
    pub(crate) reason: Option<String>,
    pub(crate) remedy: Option<String>,
    pub(crate) engine: EngineFacts,
    pub(crate) since: Instant,
}

/// A Docker host.
#[derive(Debug)]
pub struct Host {
    config: HostConfig,
    client: Client,
    health: Mutex<Health>,
    share: HostShare,
    images: images::Images,
    pools: Mutex<BTreeMap<String, Pool>>,
    busy_sandboxes: Mutex<BTreeMap<String, BusySandbox>>,
    suspicion: Notify,
    looked: watch::Sender<bool>,
    oom: Mutex<VecDeque<String>>,
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
#[derive(Debug, Clone, Serialize)]
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

impl Host {
    /// Starts the host's monitor and its pools.
    pub fn start(config: HostConfig) -> Arc<Host> {
        let client = config.client.clone();
        let share = HostShare {
            creating: Arc::new(Semaphore::new(config.max_creating.max(1))),
            running: Arc::new(AtomicUsize::new(0)),
        };
        let images = images::Images::new(client.clone(), &config);
        let host = Arc::new(Host {
            client,
            share,
            images,
            health: Mutex::new(Health {
                state: HostState::Unknown,
                reason: None,
                remedy: None,
                engine: EngineFacts::default(),
                since: Instant::now(),
            }),
            pools: Mutex::default(),
            busy_sandboxes: Mutex::default(),
            suspicion: Notify::new(),
            looked: watch::Sender::new(false),
            oom: Mutex::default(),
            config,
        });
        for profile in &host.config.profiles {
            let levels = Levels { floor: profile.pool.floor, ceiling: profile.pool.ceiling };
            let factory = Box::new(factory::ProfileFactory::new(Arc::downgrade(&host), profile.clone()));
            let pool = Pool::start(
                &profile.name,
                &host.config.name,
                levels,
                profile.pool.max_age(),
                host.share.clone(),
                factory,
            );
            lock(&host.pools).insert(profile.name.clone(), pool);
        }
        tokio::spawn(monitor::watch(host.clone()));
        host
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

    pub(crate) fn health(&self) -> Health {
        lock(&self.health).clone()
    }

    /// Resolves when the engine has been asked for the first time, whatever it said.
    pub async fn looked(&self) {
        let _ = self.looked.subscribe().wait_for(|looked| *looked).await;
    }

    /// Whether the engine reported that the kernel killed for memory in that container. The event may come a moment after
    /// the container's end, so this waits for it a little.
    pub async fn saw_oom(&self, container: &str) -> bool {
        for _ in 0..10 {
            if lock(&self.oom).iter().any(|id| id == container) {
                return true;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        false
    }

    /// Whether its engine answers.
    pub fn is_up(&self) -> bool {
        lock(&self.health).state == HostState::Up
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
    pub fn occupy(self: &Arc<Self>, sandbox: &str, profile: &str, submission: &str, uid: u32) -> Occupied {
        self.share.running.fetch_add(1, Ordering::Relaxed);
        lock(&self.busy_sandboxes).insert(
            sandbox.to_owned(),
            BusySandbox { profile: profile.to_owned(), submission: submission.to_owned(), uid, since: Instant::now() },
        );
        Occupied { host: self.clone(), sandbox: sandbox.to_owned() }
    }

    /// The live sandboxes.
    pub fn sandboxes(&self) -> Vec<SandboxRow> {
        let short = |id: &str| crate::sandbox::short(id).to_owned();
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

    /// Ends all pools and removes what is left on the engine.
    pub async fn close(&self) {
        for pool in self.pools() {
            pool.close();
        }
        // let the dead-man switches work before asking the engine for what they do by themselves
        for _ in 0..5 {
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            match crate::sandbox::sweep(&self.client, &self.config.instance, &|_| false).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }
}

/// A run under way on a host.
#[derive(Debug)]
pub struct Occupied {
    host: Arc<Host>,
    sandbox: String,
}

impl Drop for Occupied {
    fn drop(&mut self) {
        self.host.share.running.fetch_sub(1, Ordering::Relaxed);
        lock(&self.host.busy_sandboxes).remove(&self.sandbox);
        for pool in self.host.pools() {
            pool.wake();
        }
    }
}
