//! A new configuration for a running daemon (SIGHUP, `daemon.reload`).
//!
//! All or nothing: what is wrong with it is said, and everything stays as it was. Hosts and profiles that did not change go
//! on undisturbed; a host that is gone or other gets no more work, and is closed when its last run has ended. What only a
//! restart can change is named.

use serde_json::{Value, json};

use super::assembly::Assembly;
use super::{Life, looked};
use crate::config::Config;
use crate::host::Host;

use std::sync::Arc;

/// What changed and can only be had by a restart.
fn needs_restart(before: &Config, after: &Config) -> Vec<&'static str> {
    let mut keys = Vec::new();
    let mut look = |changed: bool, key| {
        if changed {
            keys.push(key)
        }
    };
    look(before.instance != after.instance, "instance");
    look(
        (&before.socket.path, &before.socket.mode) != (&after.socket.path, &after.socket.mode),
        "socket.path, socket.mode",
    );
    look(before.uids != after.uids, "uids");
    look(before.images != after.images, "images");
    look(before.cache != after.cache, "cache");
    keys
}

impl Life {
    /// Takes a new configuration over; what changed.
    pub(super) async fn reload(&mut self) -> Result<Value, String> {
        let config =
            Config::load(self.path.as_deref(), &self.environment).map_err(|error| format!("failed to {error}"))?;
        let next = Assembly::of(config, &self.environment)?;
        let restart = needs_restart(&self.assembly.config, &next.config);

        let old = self.scheduler.fleet().all();
        let (mut hosts, mut kept, mut added) = (Vec::new(), Vec::new(), Vec::new());
        for engine in &next.engines {
            let same = |other: &&super::assembly::Engine| {
                other.config == engine.config
                    && other.target == engine.target
                    && self.assembly.config.isolation == next.config.isolation
            };
            let known =
                self.assembly.engines.iter().find(same).and_then(|_| self.scheduler.fleet().find(&engine.config.name));
            hosts.push(match known {
                Some(host) => {
                    host.set_profiles(&next.profiles.values().cloned().collect::<Vec<_>>());
                    kept.push(engine.config.name.clone());
                    host
                }
                None => {
                    added.push(engine.config.name.clone());
                    next.host(engine, &self.label, &self.slots, &self.bell)
                }
            });
        }
        // the old ones serve until it is known whether the new ones can
        looked(&hosts).await;
        let gone: Vec<Arc<Host>> =
            old.iter().filter(|host| !hosts.iter().any(|other| Arc::ptr_eq(host, other))).cloned().collect();
        self.scheduler.fleet().replace(hosts);
        let removed: Vec<String> = gone.iter().map(|host| host.name().to_owned()).collect();
        for host in gone {
            self.leaving.spawn(async move { host.retire().await });
        }
        self.scheduler.set_queue(next.config.queue.clone());
        self.reaper.watch_over(&next.targets());
        self.live.replace(next.profiles.clone(), next.roles.clone());
        self.bell.notify_one();
        let profiles: Vec<&String> = next.profiles.keys().collect();
        let changed = json!({
            "hosts": { "kept": kept, "added": added, "removed": removed },
            "profiles": profiles,
            "needs_restart": restart,
        });
        tracing::info!(%changed, "a new configuration is in effect");
        self.assembly = next;
        Ok(changed)
    }
}
