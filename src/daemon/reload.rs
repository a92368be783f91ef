//! A new configuration for a running daemon (SIGHUP, `daemon.reload`).
//!
//! All or nothing: what is wrong with it is said, and everything stays as it was. Hosts and profiles that did not change go
//! on undisturbed; a host that is gone or other gets no more work, and is closed when its last run has ended. What only a
//! restart can change is named.

use serde_json::{Value, json};

use super::assembly::Assembly;
use super::{Life, service};
use config::{self, Config, Log, Origins, Socket};
use sandbox::host::{Host, first_probes_done};
use telemetry::log;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How long the first word of new engines is waited for.
const FIRST_LOOK: Duration = Duration::from_secs(3);

/// A configuration in two: what a running daemon takes over, and what only a new one does; each with the defaults in place of
/// the other's. The pattern names every section: a new one, or a new key of a divided one, does not compile until it is on a
/// side. What is taken over whole stands in [`Life::reload`].
fn sides(config: &Config) -> (Config, Config) {
    let Config {
        instance,
        socket: Socket { path, mode, submit, admin },
        engine,
        hosts,
        images,
        profiles,
        queue,
        uids,
        cache,
        isolation,
        log: Log { level, target },
        http,
    } = config.clone();
    let live = Config {
        socket: Socket { submit, admin, ..Socket::default() },
        engine,
        hosts,
        profiles,
        queue,
        isolation,
        log: Log { level, ..Log::default() },
        ..Config::default()
    };
    let fixed = Config {
        instance,
        socket: Socket { path, mode, ..Socket::default() },
        images,
        uids,
        cache,
        log: Log { target, ..Log::default() },
        http,
        ..Config::default()
    };
    (live, fixed)
}

/// The keys whose values differ.
fn changed(before: &Config, after: &Config) -> Vec<String> {
    let rows = |config| -> BTreeMap<String, Value> {
        config::rows(config, &Origins::default()).into_iter().map(|row| (row.key, row.value)).collect()
    };
    let (before, after) = (rows(before), rows(after));
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    keys.into_iter().filter(|key| before.get(*key) != after.get(*key)).cloned().collect()
}

/// The keys that a reload takes over, and those that need a restart.
pub fn changes(before: &Config, after: &Config) -> (Vec<String>, Vec<String>) {
    let (before, after) = (sides(before), sides(after));
    (changed(&before.0, &after.0), changed(&before.1, &after.1))
}

impl Life {
    /// Takes a new configuration over; what changed. The service manager is told.
    pub(super) async fn reload(&mut self) -> Result<Value, String> {
        service::reloading();
        let changed = self.take_over().await;
        service::ready();
        changed
    }

    async fn take_over(&mut self) -> Result<Value, String> {
        let loaded = self.sources.load().map_err(|error| format!("failed to {error}"))?;
        let warnings = loaded.warnings.clone();
        let next = Assembly::of(loaded, &self.sources.environment)?;
        let (applied, restart) = changes(&self.assembly.config, &next.config);

        let old = self.fleet.all();
        let (mut hosts, mut kept, mut added) = (Vec::new(), Vec::new(), Vec::new());
        for engine in &next.engines {
            let same = |other: &&super::assembly::Engine| {
                other.config == engine.config
                    && other.target == engine.target
                    && self.assembly.config.isolation == next.config.isolation
            };
            let known = self.assembly.engines.iter().find(same).and_then(|_| self.fleet.find(&engine.config.name));
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
        let _ = tokio::time::timeout(FIRST_LOOK, first_probes_done(&hosts)).await;
        let gone: Vec<Arc<Host>> =
            old.iter().filter(|host| !hosts.iter().any(|other| Arc::ptr_eq(host, other))).cloned().collect();
        self.fleet.replace(hosts);
        let removed: Vec<String> = gone.iter().map(|host| host.name().to_owned()).collect();
        for host in gone {
            self.leaving.spawn(async move { host.retire().await });
        }
        self.submissions.set_queue_config(next.config.queue.clone());
        log::set_level(&next.config.log.level)?;
        self.reaper.watch_over(&next.targets());
        self.live.replace(next.profiles.clone(), next.roles.clone());
        self.bell.notify_one();
        let profiles: Vec<&String> = next.profiles.keys().collect();
        let changed = json!({
            "hosts": { "kept": kept, "added": added, "removed": removed },
            "profiles": profiles,
            "applied": applied,
            "needs_restart": restart,
        });
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        tracing::info!(%changed, "a new configuration is in effect");
        self.assembly = next;
        Ok(changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::schema::{self, Kind, Leaf};

    /// Another value than the default.
    fn other(leaf: &Leaf) -> Value {
        match &leaf.kind {
            Kind::Truth => json!(leaf.default != json!(true)),
            Kind::Whole(_) | Kind::Signed | Kind::Number => json!(7),
            Kind::Text | Kind::Path => json!("/other"),
            Kind::Word(words) => json!(words.iter().find(|word| leaf.default != json!(word)).unwrap()),
            Kind::Caller => json!(7),
            Kind::List(of) if **of == Kind::Caller => json!([7]),
            Kind::List(_) => json!(["other"]),
            Kind::Map => json!({ "other": "7" }),
        }
    }

    #[test]
    fn every_setting_is_either_taken_over_by_a_reload_or_named_as_one_that_needs_a_restart() {
        let usual = serde_json::to_value(Config::default()).unwrap();
        for (key, leaf) in schema::config().settings() {
            let mut changed = usual.clone();
            let pointer = format!("/{}", key.replace('.', "/"));
            *changed.pointer_mut(&pointer).unwrap() = other(leaf);
            let changed: Config = serde_json::from_value(changed).unwrap();
            let (applied, restart) = changes(&Config::default(), &changed);
            assert_eq!([applied, restart].concat(), std::slice::from_ref(&key), "{key}");
        }
    }

    #[test]
    fn a_host_of_several_is_taken_over() {
        let engine = config::Engine { name: "far".to_owned(), ..config::Engine::default() };
        let after = Config { hosts: vec![engine], ..Config::default() };
        let (applied, restart) = changes(&Config::default(), &after);
        assert!(applied.contains(&"hosts.far.name".to_owned()) && restart.is_empty(), "{applied:?} {restart:?}");
    }
}
