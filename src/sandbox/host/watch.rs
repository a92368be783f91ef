//! The tasks that probe one engine, follow its events, and sweep what was left behind on it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use docker::{Client, Endpoint, Error as EngineError, Filters};

use super::capacity::Resources;
use super::handle::Host;
use super::health::EngineStatus;
use super::monitor::EngineFacts;
use crate::lifecycle;
use crate::policy::LABEL_INSTANCE;
use crate::pool::Pool;

/// Interval of probes of an engine that answers.
const UP_INTERVAL: Duration = Duration::from_secs(5);
/// The same until the pools are filled for the first time.
const FILLING_INTERVAL: Duration = Duration::from_secs(1);
/// Interval of probes of an engine that does not answer. Its return must be noticed within 5 s.
const DOWN_INTERVAL: Duration = Duration::from_secs(1);
/// Time until the second probe after a failed one.
const SUSPECT_INTERVAL: Duration = Duration::from_millis(200);
/// The part of a machine's memory that runs may use, in percent. The rest is for the engine, idle
/// sandboxes and other programs.
const MEMORY_PERCENT: u64 = 80;
/// Interval of sweeps. A container whose creation's reply was lost lives at most this long.
const SWEEP_INTERVAL: Duration = Duration::from_secs(30);

/// Probes the engine until the host is closed.
pub(super) async fn watch(host: Arc<Host>) {
    tokio::spawn(follow_events(host.clone()));
    let monitor = host.monitor();
    let mut last_sweep = Instant::now();
    // since when the pools are being filled
    let mut filling: Option<Instant> = None;
    loop {
        match probe(&host).await {
            Ok(facts) => {
                if matches!(monitor.status(), EngineStatus::Unknown | EngineStatus::Down) {
                    start_over(&host, facts).await;
                    filling = Some(Instant::now());
                    last_sweep = Instant::now();
                } else {
                    monitor.record_answer(facts);
                    if last_sweep.elapsed() > SWEEP_INTERVAL {
                        sweep(&host).await;
                        // status requests and scrapes read these facts without asking the engine
                        if let Ok(facts) = query_facts(host.client()).await {
                            monitor.set_facts(facts);
                        }
                        last_sweep = Instant::now();
                    }
                }
                host.notify_capacity();
            }
            Err(error) => monitor.record_failure(error),
        }
        monitor.set_first_probe_done();
        if filling.is_some_and(|since| log_if_filled(&host, since)) {
            filling = None;
        }
        let interval = match monitor.status() {
            EngineStatus::Answers if filling.is_some() => FILLING_INTERVAL,
            EngineStatus::Answers => UP_INTERVAL,
            EngineStatus::Suspect => SUSPECT_INTERVAL,
            EngineStatus::Unknown | EngineStatus::Down => DOWN_INTERVAL,
        };
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = monitor.suspected() => {}
            () = monitor.closed() => return,
        }
    }
}

/// Logs that every pool holds its floor, once after the engine began to answer. Those for which no
/// sandbox can be made have an error of their own in the log, and are counted.
fn log_if_filled(host: &Host, since: Instant) -> bool {
    let pools = host.pools();
    let (broken, others): (Vec<&Pool>, Vec<&Pool>) = pools.iter().partition(|pool| pool.blocked().is_some());
    let is_filled = host.answers() && !others.is_empty() && others.iter().all(|pool| pool.is_filled());
    if is_filled {
        let sandboxes: usize = others.iter().map(|pool| pool.ready()).sum();
        let broken = Some(broken.len()).filter(|count| *count > 0);
        let took_ms = since.elapsed().as_millis() as u64;
        tracing::info!(host = %host.name(), pools = others.len(), broken, sandboxes, took_ms, "the pools are warm");
    }
    is_filled
}

/// Pings the engine. Asks for its facts only if they are not known.
async fn probe(host: &Host) -> Result<EngineFacts, EngineError> {
    host.client().ping().await?;
    let health = host.health();
    match health.status {
        EngineStatus::Answers | EngineStatus::Suspect => Ok(health.engine),
        EngineStatus::Unknown | EngineStatus::Down => query_facts(host.client()).await,
    }
}

async fn query_facts(client: &Client) -> Result<EngineFacts, EngineError> {
    let info = client.info().await?;
    Ok(EngineFacts {
        version: info.server_version.unwrap_or_default(),
        api: client.negotiated().map(|version| version.to_string()).unwrap_or_default(),
        cpus: info.ncpu.unwrap_or_default(),
        memory_bytes: info.mem_total.unwrap_or_default(),
        os: info.operating_system.unwrap_or_default(),
        kernel: info.kernel_version.unwrap_or_default(),
        storage: info.driver.unwrap_or_default(),
        cgroups: (info.cgroup_driver.unwrap_or_default(), info.cgroup_version.unwrap_or_default()),
        has_apparmor: info.security_options.iter().any(|option| option.starts_with("name=apparmor")),
        containers_running: info.containers_running.unwrap_or_default(),
        images: info.images.unwrap_or_default(),
        data: info.docker_root_dir.map(PathBuf::from).filter(|_| matches!(client.endpoint(), Endpoint::Unix(_))),
        asked: Some(Instant::now()),
    })
}

/// The engine answers for the first time, or again: its sandboxes are gone, and it may be another
/// engine.
async fn start_over(host: &Host, facts: EngineFacts) {
    if let Some(apparmor) = host.options().apparmor.as_ref().filter(|_| !facts.has_apparmor) {
        tracing::warn!(host = %host.name(), %apparmor, "engine.apparmor_profile has no effect: the engine has no AppArmor");
    }
    host.images().forget();
    for pool in host.pools() {
        pool.flush();
    }
    sweep(host).await;
    host.check_images().await;
    host.capacity().resize(Resources {
        cpus: facts.cpus.max(1) as f64 * host.options().cpu_overcommit,
        memory: (facts.memory_bytes.max(0) as u64).saturating_mul(MEMORY_PERCENT) / 100,
    });
    host.monitor().record_answer(facts);
    for pool in host.pools() {
        pool.reset_backoff();
    }
}

/// Removes containers with our label and without a slot: those of an earlier daemon, and those
/// whose creation's reply was lost.
async fn sweep(host: &Host) {
    match lifecycle::sweep(host.client(), &host.options().instance, Some(&host.options().slots)).await {
        Ok(0) => {}
        Ok(left) => tracing::info!(host = %host.name(), left, "removed sandboxes that were left behind"),
        Err(error) => tracing::warn!(host = %host.name(), %error, "could not look for left-over sandboxes"),
    }
}

/// Records how containers end. An open stream also proves that the engine has been alive
/// ([`HostMonitor::was_healthy_since`](super::HostMonitor::was_healthy_since)). Events are hints
/// only, since engines drop events of slow readers: the init's own counters decide if the init is
/// alive.
async fn follow_events(host: Arc<Host>) {
    let label = format!("{LABEL_INSTANCE}={}", host.options().instance);
    let filters = Filters::new().with("label", &label).with("event", "oom").with("event", "die");
    let monitor = host.monitor();
    loop {
        if monitor.answers()
            && let Ok(mut events) = host.client().events(&filters).await
        {
            monitor.set_watched(true);
            loop {
                let event = tokio::select! {
                    event = events.next() => event,
                    () = monitor.closed() => return,
                };
                let Ok(Some(event)) = event else { break };
                monitor.record_exit(&event);
            }
            monitor.set_watched(false);
        }
        tokio::select! {
            () = tokio::time::sleep(DOWN_INTERVAL) => {}
            () = monitor.closed() => return,
        }
    }
}
