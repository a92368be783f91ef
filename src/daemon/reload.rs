//! Reload of the configuration (SIGHUP, `daemon.reload`).
//!
//! All or nothing: if the new configuration is invalid, nothing changes. Unchanged hosts and
//! profiles continue undisturbed. A host that was removed or changed gets no more work and is
//! closed after its last run. The result lists the settings that take effect only after a restart.

use serde_json::{Value, json};

use super::assembly::Assembly;
use super::{RunningDaemon, service};
use config::{self, Config, HttpSettings, LogSettings, Origins, SocketSettings};
use sandbox::host::{Host, first_probes_done};
use telemetry::log;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How long a reload waits for the first probe of new engines.
const FIRST_PROBE_TIME: Duration = Duration::from_secs(3);

/// Splits a configuration into the settings that a reload applies and those that need a restart;
/// each half has the defaults in place of the other's settings. The pattern names every section, so
/// a new section does not compile until it is assigned to a half.
fn split(config: &Config) -> (Config, Config) {
    let Config {
        instance,
        socket: SocketSettings { path, mode, submit, admin },
        engine,
        hosts,
        images,
        profiles,
        queue,
        uids,
        cache,
        store,
        isolation,
        log: LogSettings { level, target },
        http:
            HttpSettings {
                listen,
                allow_remote,
                metrics_listen,
                api,
                hosts: http_hosts,
                peer_uids,
                anonymous,
                anonymous_remote,
                run_code_suite,
                callbacks,
                callback_networks,
                egress_socket,
                tokens,
            },
    } = config.clone();
    let live = Config {
        socket: SocketSettings { submit, admin, ..SocketSettings::default() },
        engine,
        hosts,
        profiles,
        queue,
        store,
        isolation,
        log: LogSettings { level, ..LogSettings::default() },
        // who may use the API: what is taken away there is taken away at once
        http: HttpSettings {
            hosts: http_hosts,
            peer_uids,
            anonymous,
            anonymous_remote,
            tokens,
            callbacks,
            callback_networks,
            ..HttpSettings::default()
        },
        ..Config::default()
    };
    let fixed = Config {
        instance,
        socket: SocketSettings { path, mode, ..SocketSettings::default() },
        images,
        uids,
        cache,
        log: LogSettings { target, ..LogSettings::default() },
        http: HttpSettings {
            listen,
            allow_remote,
            metrics_listen,
            api,
            run_code_suite,
            egress_socket,
            ..HttpSettings::default()
        },
        ..Config::default()
    };
    (live, fixed)
}

/// Keys whose values differ.
fn changed(before: &Config, after: &Config) -> Vec<String> {
    let rows = |config| -> BTreeMap<String, Value> {
        config::rows(config, &Origins::default()).into_iter().map(|row| (row.key, row.value)).collect()
    };
    let (before, after) = (rows(before), rows(after));
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    keys.into_iter().filter(|key| before.get(*key) != after.get(*key)).cloned().collect()
}

/// Changed keys that a reload applies, and changed keys that need a restart.
pub fn changes(before: &Config, after: &Config) -> (Vec<String>, Vec<String>) {
    let (before, after) = (split(before), split(after));
    (changed(&before.0, &after.0), changed(&before.1, &after.1))
}

impl RunningDaemon {
    /// Reads and applies the configuration; returns what changed. Notifies the service manager.
    pub(super) async fn reload(&mut self) -> Result<Value, String> {
        service::notify_reloading();
        let changed = self.apply_sources().await;
        service::notify_ready();
        changed
    }

    async fn apply_sources(&mut self) -> Result<Value, String> {
        let loaded = self.sources.load().map_err(|error| format!("failed to {error}"))?;
        let next = Assembly::of(loaded, &self.sources.environment)?;
        let (applied, restart) = changes(&self.assembly.config, &next.config);

        let old = self.fleet.all();
        let (mut hosts, mut kept, mut added) = (Vec::new(), Vec::new(), Vec::new());
        for engine in &next.engines {
            let same = |other: &&super::assembly::ConfiguredEngine| {
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
                    next.host(engine, &self.instance.label, &self.slots, &self.capacity_changed)
                }
            });
        }
        // the old hosts serve until the new ones have been probed
        let _ = tokio::time::timeout(FIRST_PROBE_TIME, first_probes_done(&hosts)).await;
        let gone: Vec<Arc<Host>> =
            old.iter().filter(|host| !hosts.iter().any(|other| Arc::ptr_eq(host, other))).cloned().collect();
        self.fleet.replace(hosts);
        let removed: Vec<String> = gone.iter().map(|host| host.name().to_owned()).collect();
        for host in gone {
            self.retiring.spawn(async move { host.close_when_idle().await });
        }
        self.submissions.set_queue_config(next.config.queue.clone());
        self.submissions.store().set_settings(&next.config.store);
        self.submissions.callbacks().set_settings(&next.config.http);
        log::set_level(&next.config.log.level)?;
        self.reaper.set_targets(&next.targets());
        self.daemon.live.replace(next.live_settings());
        self.daemon.access.set_settings(&next.config.http);
        self.capacity_changed.notify_one();
        let profiles: Vec<&String> = next.profiles.keys().collect();
        let changed = json!({
            "hosts": { "kept": kept, "added": added, "removed": removed },
            "profiles": profiles,
            "applied": applied,
            "needs_restart": restart,
        });
        next.log_warnings();
        tracing::info!(%changed, "the new configuration is in effect");
        self.assembly = next;
        Ok(changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::schema::{self, SettingSchema, ValueKind};

    /// A value that differs from the default.
    fn other(leaf: &SettingSchema) -> Value {
        match &leaf.kind {
            ValueKind::Bool => json!(leaf.default != json!(true)),
            ValueKind::Unsigned(_) | ValueKind::Signed | ValueKind::Number => json!(7),
            ValueKind::Text | ValueKind::Path | ValueKind::Paths => json!("/other"),
            ValueKind::Choice(words) => json!(words.iter().find(|word| leaf.default != json!(word)).unwrap()),
            ValueKind::Caller => json!(7),
            ValueKind::List(of) if matches!(**of, ValueKind::Caller | ValueKind::Unsigned(_)) => json!([7]),
            ValueKind::List(_) => json!(["other"]),
            ValueKind::Map => json!({ "other": "7" }),
        }
    }

    #[test]
    fn every_setting_is_either_applied_by_a_reload_or_listed_as_needing_a_restart() {
        let defaults = serde_json::to_value(Config::default()).unwrap();
        for (key, leaf) in schema::config().settings() {
            let mut changed = defaults.clone();
            let pointer = format!("/{}", key.replace('.', "/"));
            *changed.pointer_mut(&pointer).unwrap() = other(leaf);
            let changed: Config = serde_json::from_value(changed).unwrap();
            let (applied, restart) = changes(&Config::default(), &changed);
            assert_eq!([applied, restart].concat(), std::slice::from_ref(&key), "{key}");
        }
    }

    #[test]
    fn a_change_of_one_of_several_hosts_is_applied() {
        let engine = config::EngineSettings { name: "far".to_owned(), ..config::EngineSettings::default() };
        let after = Config { hosts: vec![engine], ..Config::default() };
        let (applied, restart) = changes(&Config::default(), &after);
        assert!(applied.contains(&"hosts.far.name".to_owned()) && restart.is_empty(), "{applied:?} {restart:?}");
    }
}
