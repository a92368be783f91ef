//! A host: its monitor, its images, its pools, and its capacity for runs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use docker::Client;
use parking_lot::Mutex;
use protocol::rows::{HostState, SandboxRow};
use protocol::{Isolation, IsolationRequest, Principal, Profile};

use super::call_metrics::EngineCallMetrics;
use super::capacity::{Capacity, Resources};
use super::exits::ContainerEnd;
use super::images::Images;
use super::monitor::{HostHealth, HostMonitor};
use super::options::HostOptions;
use crate::lifecycle::{self, ContainerId};
use crate::pool::{CreationLimiter, HostShare, Pool};

/// Time for creations in progress when a host is closed. A start takes a third of a second, and
/// longer on a busy engine.
const LAST_CREATIONS: Duration = Duration::from_secs(10);
/// Interval of checks whether those creations have ended.
const CREATION_POLL: Duration = Duration::from_millis(20);
/// Interval of checks whether the last run on a removed host has ended.
const RUN_POLL: Duration = Duration::from_millis(200);
/// Sweeps at the end, and the pause before each.
const LAST_SWEEPS: u32 = 5;
const LAST_SWEEP_PAUSE: Duration = Duration::from_millis(300);

/// A Docker host.
#[derive(Debug)]
pub struct Host {
    options: HostOptions,
    monitor: HostMonitor,
    share: HostShare,
    capacity: Capacity,
    images: Images,
    pub(super) profiles: Mutex<Vec<Arc<Profile>>>,
    pub(super) pools: Mutex<BTreeMap<String, Pool>>,
    leased: Mutex<BTreeMap<ContainerId, LeasedSandbox>>,
}

/// A leased sandbox, for `sandbox.list`.
#[derive(Debug, Clone)]
struct LeasedSandbox {
    profile: String,
    submission: String,
    principal: Principal,
    since: Instant,
}

/// Resolves when each host has been probed once, whatever the result.
pub async fn first_probes_done(hosts: &[Arc<Host>]) {
    futures_util::future::join_all(hosts.iter().map(|host| host.first_probe_done())).await;
}

impl Host {
    /// A host without pools, and without tasks that watch it.
    pub(super) fn new(options: HostOptions) -> Host {
        let share = HostShare {
            creating: CreationLimiter::new(options.max_creating),
            running: Arc::new(AtomicUsize::new(0)),
            capacity_changed: options.capacity_changed.clone(),
        };
        Host {
            monitor: HostMonitor::new(options.name.clone(), options.address_setting.clone(), options.client.clone()),
            images: Images::new(options.client.clone(), &options),
            capacity: Capacity::new(options.capacity_changed.clone()),
            share,
            profiles: Mutex::default(),
            pools: Mutex::default(),
            leased: Mutex::default(),
            options,
        }
    }

    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// The engine's address as a text.
    pub fn endpoint(&self) -> String {
        self.client().endpoint().to_string()
    }

    pub fn client(&self) -> &Client {
        &self.options.client
    }

    pub fn images(&self) -> &Images {
        &self.images
    }

    pub fn monitor(&self) -> &HostMonitor {
        &self.monitor
    }

    pub fn capacity(&self) -> &Capacity {
        &self.capacity
    }

    pub fn calls(&self) -> &EngineCallMetrics {
        &self.options.calls
    }

    pub(super) fn options(&self) -> &HostOptions {
        &self.options
    }

    pub(super) fn share(&self) -> &HostShare {
        &self.share
    }

    // Shortcuts for methods of the monitor.

    pub fn health(&self) -> HostHealth {
        self.monitor.health()
    }

    pub fn state(&self) -> HostState {
        self.monitor.state()
    }

    pub fn answers(&self) -> bool {
        self.monitor.answers()
    }

    pub async fn first_probe_done(&self) {
        self.monitor.first_probe_done().await;
    }

    pub fn mark_suspect(&self) {
        self.monitor.mark_suspect();
    }

    pub async fn container_end(&self, container: &ContainerId) -> ContainerEnd {
        self.monitor.container_end(container).await
    }

    pub async fn was_healthy_since(&self, then: Instant) -> bool {
        self.monitor.was_healthy_since(then).await
    }

    pub fn cell_unavailable_reason(&self) -> Option<String> {
        self.monitor.cell_unavailable_reason()
    }

    /// The engine's version; empty before the first answer.
    pub fn engine_version(&self) -> String {
        self.health().engine.version
    }

    /// The isolation of a profile's runs on this host, as far as it is known.
    pub fn isolation(&self, profile: &Profile) -> Isolation {
        match profile.isolation {
            IsolationRequest::Cell => Isolation::Cell,
            IsolationRequest::Auto if self.cell_unavailable_reason().is_none() => Isolation::Cell,
            IsolationRequest::Auto | IsolationRequest::Split => Isolation::Split,
        }
    }

    /// Whether a run with the profile's default limits fits into the capacity now.
    pub fn has_capacity_for(&self, profile: &str) -> bool {
        self.need_of(profile).is_some_and(|need| self.capacity.fits(need))
    }

    /// How many runs of a profile the host has capacity for now.
    pub fn room_for(&self, profile: &str) -> usize {
        self.need_of(profile).map_or(0, |need| self.capacity.room(need))
    }

    /// What a run of a profile reserves where the submission requests nothing else.
    fn need_of(&self, profile: &str) -> Option<Resources> {
        let profile = self.profiles.lock().iter().find(|known| known.name == profile).cloned()?;
        let memory = |run: u64| run.max(profile.compile_memory_bytes());
        let need = profile.run_limits().map(|run| Resources { cpus: run.cpus, memory: memory(run.memory_bytes) });
        Some(need.unwrap_or_default())
    }

    /// The pool of a profile.
    pub fn pool(&self, profile: &str) -> Option<Pool> {
        self.pools.lock().get(profile).cloned()
    }

    pub fn pools(&self) -> Vec<Pool> {
        self.pools.lock().values().cloned().collect()
    }

    /// Tells the scheduler that a waiting submission may be served.
    pub(super) fn notify_capacity(&self) {
        self.share.capacity_changed.notify_one();
    }

    /// Runs in progress.
    pub fn running(&self) -> usize {
        self.share.running.load(Ordering::Relaxed)
    }

    /// Counts a run until the guard is dropped, so that refilling pools leaves it the CPU.
    pub fn mark_busy(
        self: &Arc<Self>,
        sandbox: &ContainerId,
        profile: &str,
        submission: &str,
        principal: &Principal,
    ) -> BusyGuard {
        self.share.running.fetch_add(1, Ordering::Relaxed);
        let (profile, submission, since) = (profile.to_owned(), submission.to_owned(), Instant::now());
        self.leased
            .lock()
            .insert(sandbox.clone(), LeasedSandbox { profile, submission, principal: principal.clone(), since });
        BusyGuard { host: self.clone(), sandbox: sandbox.clone() }
    }

    /// The host's rows in `sandbox.list`.
    pub fn sandboxes(&self) -> Vec<SandboxRow> {
        let mut rows: Vec<SandboxRow> = Vec::new();
        for pool in self.pools() {
            rows.extend(pool.ready_sandboxes().into_iter().map(|(id, age)| SandboxRow {
                id,
                host: self.options.name.clone(),
                profile: pool.profile().to_owned(),
                state: "ready",
                age_ms: age.as_millis() as u64,
                uid: None,
                principal: None,
                submission: None,
            }));
        }
        rows.extend(self.leased.lock().iter().map(|(id, leased)| SandboxRow {
            id: id.short().to_owned(),
            host: self.options.name.clone(),
            profile: leased.profile.clone(),
            state: "leased",
            age_ms: leased.since.elapsed().as_millis() as u64,
            uid: leased.principal.uid(),
            principal: leased.principal.named(),
            submission: Some(leased.submission.clone()),
        }));
        rows
    }

    /// Stops giving work to the host, or resumes.
    pub fn set_drained(&self, drained: bool) {
        self.monitor.set_drained(drained);
        for pool in self.pools() {
            pool.pause(drained);
        }
        self.notify_capacity();
    }

    /// Stops the monitor's tasks and all pools. Ready sandboxes end by themselves.
    fn stop(&self) {
        self.monitor.close();
        for pool in self.pools() {
            pool.close();
        }
    }

    /// Drains the host, and stops it when its last run has ended.
    pub async fn close_when_idle(&self) {
        self.set_drained(true);
        while self.running() > 0 {
            tokio::time::sleep(RUN_POLL).await;
        }
        self.stop();
    }

    /// Stops the host and removes every container with our label from its engine. For the daemon's
    /// end.
    pub async fn close(&self) {
        self.stop();
        // wait for creations in progress: the engine may finish one after the last sweep
        let begun = Instant::now();
        let is_creating = || self.pools().iter().any(|pool| pool.state().creating > 0);
        while self.answers() && is_creating() && begun.elapsed() < LAST_CREATIONS {
            tokio::time::sleep(CREATION_POLL).await;
        }
        for _ in 0..LAST_SWEEPS {
            // most containers are removed by the engine, since their connections are closed
            tokio::time::sleep(LAST_SWEEP_PAUSE).await;
            match lifecycle::sweep(self.client(), &self.options.instance, None).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }
}

/// A run in progress on a host.
#[derive(Debug)]
pub struct BusyGuard {
    host: Arc<Host>,
    sandbox: ContainerId,
}

impl Drop for BusyGuard {
    fn drop(&mut self) {
        self.host.share.running.fetch_sub(1, Ordering::Relaxed);
        self.host.leased.lock().remove(&self.sandbox);
        for pool in self.host.pools() {
            pool.wake();
        }
    }
}
