//! Watches one engine: asks it every so often, sweeps when it is back, and tells the pools.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::capacity::Resources;
use super::health::{EngineStatus, Observation};
use super::{EngineFacts, Host, lock};
use crate::lifecycle;
use docker::{Error, Event, Filters};

/// Between looks at an engine that answers.
const UP_EVERY: Duration = Duration::from_secs(5);
/// Between looks at one that doesn't: its return must be noticed within 5 s.
const DOWN_EVERY: Duration = Duration::from_secs(1);
/// Before the second look at one that failed once.
const DOUBTFUL_AFTER: Duration = Duration::from_millis(200);
/// Streams that end together are seen to have ended within this time, on a busy machine too.
const SETTLE: Duration = Duration::from_millis(100);
/// How often it is asked, every 50 ms, how a container ended whose connection has.
const END_LOOKS: u32 = 40;
/// And how often, of one that was killed, whether that was for memory.
const OOM_LOOKS: u32 = 4;
/// How much of a machine's memory runs may take; the rest is for the engine, idle sandboxes and whatever else lives there.
const MEMORY_PERCENT: u64 = 80;
/// Between sweeps: what a lost reply left behind lives at most this long.
const SWEEP_EVERY: Duration = Duration::from_secs(30);

impl Host {
    /// Something failed as if the engine were gone: it is asked at once, and meanwhile gets work only if no other can.
    pub fn mark_suspect(&self) {
        let mut health = lock(&self.health);
        health.known = health.known.after(Observation::Suspected);
        drop(health);
        self.suspicion.notify_one();
    }

    fn record_exit(&self, event: Event) {
        let mut ends = lock(&self.ends);
        let at = ends.iter().position(|(id, _)| *id == event.actor.id).unwrap_or_else(|| {
            if ends.len() == ENDS_KEPT {
                ends.pop_front();
            }
            ends.push_back((event.actor.id.clone(), ContainerEnd::default()));
            ends.len() - 1
        });
        let Some((_, end)) = ends.get_mut(at) else { return };
        match event.action.as_str() {
            "oom" => end.oom = true,
            _ => end.exit_code = event.actor.attributes.get("exitCode").and_then(|code| code.parse().ok()),
        }
    }

    /// How a container ended, when the engine said so. It may say so a moment after the connection's end, and why after
    /// that it did, so this waits a little for both.
    pub async fn container_end(&self, container: &str) -> ContainerEnd {
        let known = || lock(&self.ends).iter().find(|(id, _)| id == container).map(|(_, end)| *end).unwrap_or_default();
        let look = || tokio::time::sleep(Duration::from_millis(50));
        let mut patience = END_LOOKS;
        while known().exit_code.is_none() && patience > 0 {
            look().await;
            patience -= 1;
        }
        let mut patience = OOM_LOOKS;
        while known().exit_code == Some(137) && !known().oom && patience > 0 {
            look().await;
            patience -= 1;
        }
        known()
    }

    /// Whether the engine provably did not fail since then: a stream of its events was open all the time, and it answers
    /// now. Waits a moment, so that an end of that stream has been seen.
    pub async fn was_healthy_since(&self, then: Instant) -> bool {
        tokio::time::sleep(SETTLE).await;
        let watched = |host: &Host| lock(&host.watched_since).is_some_and(|since| since <= then);
        watched(self) && self.client.ping().await.is_ok() && watched(self)
    }

    fn answered(&self, engine: EngineFacts) {
        let mut health = lock(&self.health);
        let before = health.known;
        health.known = before.after(Observation::Answered);
        if before == EngineStatus::Answers {
            return;
        }
        health.reason = None;
        health.remedy = None;
        if before == EngineStatus::Doubtful {
            tracing::debug!(host = %self.config.name, "the engine answers after all");
            return;
        }
        // another engine may be behind the same address
        *lock(&self.cell_unavailable) = None;
        tracing::info!(host = %self.config.name, engine = %engine.version, api = %engine.api, "the engine answers");
        self.capacity.resize(Resources {
            cpus: engine.cpus.max(1) as f64 * self.config.cpu_overcommit,
            memory: (engine.memory_bytes.max(0) as u64).saturating_mul(MEMORY_PERCENT) / 100,
        });
        health.engine = engine;
        health.since = Instant::now();
    }

    fn failed(&self, error: &Error) {
        let mut health = lock(&self.health);
        let before = health.known;
        health.known = before.after(Observation::Failed);
        let reason = error.to_string();
        if health.known == EngineStatus::Gone
            && (before != EngineStatus::Gone || health.reason.as_deref() != Some(&reason))
        {
            let remedy = error.remedy();
            tracing::error!(
                host = %self.config.name, endpoint = %self.client.endpoint(), %error,
                remedy = remedy.as_deref().unwrap_or("none known"),
                "the engine does not answer: this host gets no work until it does"
            );
            health.reason = Some(reason);
            health.remedy = remedy;
            health.since = Instant::now();
        }
    }
}

/// Ends of containers that are remembered: more than can run at a time.
const ENDS_KEPT: usize = 1024;

/// How a container ended, by the engine's events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ContainerEnd {
    /// The kernel killed in it for memory.
    pub oom: bool,
    /// Its init's exit code; 137 when it was killed.
    pub exit_code: Option<i64>,
}

impl ContainerEnd {
    /// Whether the init ended by its own doing. Nothing in a sandbox can send it SIGKILL: that comes from outside.
    pub fn is_its_own(&self) -> bool {
        !self.oom && self.exit_code.is_some_and(|code| code != 137 && code != 255)
    }
}

/// Follows how containers end; that this stream is open is also the proof that the engine has lived on
/// ([`Host::was_healthy_since`]). The events themselves are a hint (engines drop events of slow readers): the init's own counters decide
/// whenever the init lives to tell.
async fn follow_ends(host: Arc<Host>) {
    let label = format!("{}={}", crate::policy::LABEL_INSTANCE, host.config.instance);
    let filters = Filters::new().with("label", &label).with("event", "oom").with("event", "die");
    loop {
        if host.answers()
            && let Ok(mut events) = host.client.events(&filters).await
        {
            *lock(&host.watched_since) = Some(Instant::now());
            loop {
                let event = tokio::select! {
                    event = events.next() => event,
                    () = host.ended() => return,
                };
                let Ok(Some(event)) = event else { break };
                host.record_exit(event);
            }
            *lock(&host.watched_since) = None;
        }
        tokio::select! {
            () = tokio::time::sleep(DOWN_EVERY) => {}
            () = host.ended() => return,
        }
    }
}

pub(super) async fn watch(host: Arc<Host>) {
    tokio::spawn(follow_ends(host.clone()));
    let mut swept = Instant::now();
    loop {
        match look(&host).await {
            Ok(engine) => {
                if matches!(lock(&host.health).known, EngineStatus::Unknown | EngineStatus::Gone) {
                    begin_anew(&host).await;
                    host.answered(engine);
                    for pool in host.pools() {
                        pool.reset_backoff();
                    }
                    swept = Instant::now();
                } else {
                    host.answered(engine);
                    if swept.elapsed() > SWEEP_EVERY {
                        sweep(&host).await;
                        // what it has changes, and who asks us for it must not have to wait for the engine
                        if let Ok(facts) = ask(&host).await {
                            lock(&host.health).engine = facts;
                        }
                        swept = Instant::now();
                    }
                }
                host.share.capacity_changed.notify_one();
            }
            Err(error) => host.failed(&error),
        }
        host.first_probe_done.send_replace(true);
        let known = lock(&host.health).known;
        let pause = match known {
            EngineStatus::Answers => UP_EVERY,
            EngineStatus::Doubtful => DOUBTFUL_AFTER,
            EngineStatus::Unknown | EngineStatus::Gone => DOWN_EVERY,
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = host.suspicion.notified() => {}
            () = host.ended() => return,
        }
    }
}

/// Whether the engine answers; what it is, when it was not known.
async fn look(host: &Host) -> Result<EngineFacts, Error> {
    host.client.ping().await?;
    let known = host.health();
    match known.known {
        EngineStatus::Answers | EngineStatus::Doubtful => Ok(known.engine),
        EngineStatus::Unknown | EngineStatus::Gone => ask(host).await,
    }
}

async fn ask(host: &Host) -> Result<EngineFacts, Error> {
    let info = host.client.info().await?;
    Ok(EngineFacts {
        version: info.server_version.unwrap_or_default(),
        api: host.client.negotiated().map(|version| version.to_string()).unwrap_or_default(),
        cpus: info.ncpu.unwrap_or_default(),
        memory_bytes: info.mem_total.unwrap_or_default(),
        os: info.operating_system.unwrap_or_default(),
        kernel: info.kernel_version.unwrap_or_default(),
        storage: info.driver.unwrap_or_default(),
        cgroups: (info.cgroup_driver.unwrap_or_default(), info.cgroup_version.unwrap_or_default()),
        containers_running: info.containers_running.unwrap_or_default(),
        images: info.images.unwrap_or_default(),
        asked: Some(Instant::now()),
    })
}

/// The engine is there (again): what lay ready there is of no use any more.
async fn begin_anew(host: &Host) {
    host.images.forget();
    for pool in host.pools() {
        pool.flush();
    }
    sweep(host).await;
}

/// Removes what stands on the engine under our label and in no slot of ours: what a daemon before left, and what a lost reply
/// made.
async fn sweep(host: &Host) {
    match lifecycle::sweep(&host.client, &host.config.instance, Some(&host.config.slots)).await {
        Ok(0) => {}
        Ok(left) => tracing::info!(host = %host.config.name, left, "removed sandboxes that were left behind"),
        Err(error) => tracing::warn!(host = %host.config.name, %error, "could not look for left-over sandboxes"),
    }
}
