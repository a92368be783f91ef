//! Watches one engine: asks it every so often, sweeps when it is back, and tells the pools.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{EngineFacts, Health, Host, HostState, lock};
use crate::docker::{Error, Filters};
use crate::sandbox;

/// Between looks at an engine that answers.
const UP_EVERY: Duration = Duration::from_secs(5);
/// Between looks at one that doesn't: its return must be noticed within 5 s.
const DOWN_EVERY: Duration = Duration::from_secs(1);
/// Between reconciles: what a lost reply left behind lives at most this long.
const RECONCILE_EVERY: Duration = Duration::from_secs(30);

impl Host {
    /// Something failed as if the engine were gone: look at once.
    pub(super) fn suspect(&self) {
        self.suspicion.notify_one();
    }

    fn up(&self, engine: EngineFacts) -> bool {
        let mut health = lock(&self.health);
        let was_up = health.state == HostState::Up;
        if !was_up {
            tracing::info!(host = %self.config.name, engine = %engine.version, api = %engine.api, "the engine answers");
            let since = Instant::now();
            *health = Health { state: HostState::Up, reason: None, remedy: None, engine, since };
        }
        was_up
    }

    fn down(&self, error: &Error) {
        let mut health = lock(&self.health);
        let reason = error.to_string();
        if health.state != HostState::Down || health.reason.as_deref() != Some(&reason) {
            let remedy = error.remedy();
            tracing::error!(
                host = %self.config.name, endpoint = %self.client.endpoint(), %error,
                remedy = remedy.as_deref().unwrap_or("none known"),
                "the engine does not answer: nothing new is admitted until it does"
            );
            let engine = std::mem::take(&mut health.engine);
            *health = Health { state: HostState::Down, reason: Some(reason), remedy, engine, since: Instant::now() };
        }
    }
}

/// Container ids of memory kills that are remembered: more than can run at a time.
const OOM_KEPT: usize = 1024;

/// Follows the engine's oom events. They are a hint (engines drop events of slow readers): the init's own counters decide
/// whenever the init lives to tell.
async fn follow_oom(host: Arc<Host>) {
    let label = format!("{}={}", crate::policy::LABEL_INSTANCE, host.config.instance);
    let filters = Filters::new().with("label", &label).with("event", "oom");
    loop {
        if host.is_up()
            && let Ok(mut events) = host.client.events(&filters).await
        {
            while let Ok(Some(event)) = events.next().await {
                let mut seen = lock(&host.oom);
                if seen.len() == OOM_KEPT {
                    seen.pop_front();
                }
                seen.push_back(event.actor.id);
            }
        }
        tokio::time::sleep(DOWN_EVERY).await;
    }
}

pub(super) async fn watch(host: Arc<Host>) {
    tokio::spawn(follow_oom(host.clone()));
    let mut reconciled = Instant::now();
    loop {
        match look(&host).await {
            Ok(engine) => {
                if !host.up(engine) {
                    recover(&host).await;
                    reconciled = Instant::now();
                } else if reconciled.elapsed() > RECONCILE_EVERY {
                    reconcile(&host).await;
                    reconciled = Instant::now();
                }
            }
            Err(error) => host.down(&error),
        }
        host.looked.send_replace(true);
        let pause = if host.is_up() { UP_EVERY } else { DOWN_EVERY };
        let _ = tokio::time::timeout(pause, host.suspicion.notified()).await;
    }
}

async fn look(host: &Host) -> Result<EngineFacts, Error> {
    let ping = host.client.ping().await?;
    let known = host.health();
    if known.state == HostState::Up {
        return Ok(known.engine);
    }
    let info = host.client.info().await?;
    Ok(EngineFacts {
        version: info.server_version.unwrap_or_default(),
        api: ping.api_version.to_string(),
        cpus: info.ncpu.unwrap_or_default(),
        memory_bytes: info.mem_total.unwrap_or_default(),
    })
}

/// The engine is there (again): nothing of ours that it holds is of use, so all of it goes.
async fn recover(host: &Arc<Host>) {
    host.images.forget();
    for pool in host.pools() {
        pool.flush();
    }
    let busy: Vec<String> = lock(&host.busy_sandboxes).keys().cloned().collect();
    match sandbox::sweep(&host.client, &host.config.instance, &|id| busy.iter().any(|busy| busy == id)).await {
        Ok(0) => {}
        Ok(left) => tracing::info!(host = %host.config.name, left, "removed sandboxes that were left behind"),
        Err(error) => tracing::warn!(host = %host.config.name, %error, "could not look for left-over sandboxes"),
    }
    for pool in host.pools() {
        pool.encourage();
    }
}

/// Removes what stands on the engine under our label and in no book of ours, twice in a row: once may be a sandbox on
/// its way in or out.
async fn reconcile(host: &Host) {
    let mut suspects = match strangers(host).await {
        Ok(ids) if ids.is_empty() => return,
        Ok(ids) => ids,
        Err(error) => return tracing::debug!(%error, "could not reconcile"),
    };
    tokio::time::sleep(Duration::from_secs(20)).await;
    let Ok(again) = strangers(host).await else { return };
    suspects.retain(|id| again.contains(id));
    if suspects.is_empty() {
        return;
    }
    tracing::warn!(host = %host.config.name, count = suspects.len(), "sandboxes in no book of ours: removing them");
    for id in suspects {
        let _ = host.client.remove_container(&id, true).await;
    }
}

async fn strangers(host: &Host) -> Result<Vec<String>, Error> {
    let listed = sandbox::list(&host.client, &host.config.instance).await?;
    let mut known: Vec<String> = lock(&host.busy_sandboxes).keys().cloned().collect();
    for pool in host.pools() {
        known.extend(pool.ready_ids().into_iter().map(|(id, _)| id));
    }
    Ok(listed.into_iter().filter(|id| !known.contains(id)).collect())
}
