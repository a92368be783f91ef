//! Writes the metrics of hosts, engines and pools. A scrape never asks an engine: the monitor has
//! its facts.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use protocol::rows::{HostState, PoolState};
use telemetry::disk::DiskSpace;
use telemetry::metrics::{Labels, MetricsWriter, Unit, labels};

use super::capacity::Capacity;
use super::fleet::Fleet;
use super::handle::Host;
use super::monitor::EngineFacts;
use crate::pool::{Pool, PoolStats};

/// The values of the `state` label. Exactly one of a host's series is 1.
const STATES: [(HostState, &str); 5] = [
    (HostState::Unknown, "unknown"),
    (HostState::Up, "up"),
    (HostState::Suspect, "suspect"),
    (HostState::Down, "down"),
    (HostState::Draining, "draining"),
];

impl Fleet {
    /// Writes the metrics of all hosts, engines and pools.
    ///
    /// # Errors
    /// The writer failed.
    pub fn write_metrics(&self, writer: &mut MetricsWriter<'_>) -> fmt::Result {
        let hosts = self.all();
        write_hosts(writer, &hosts)?;
        write_engines(writer, &hosts)?;
        let pools: Vec<PoolMetrics> =
            hosts.iter().flat_map(|host| host.pools()).map(|pool| PoolMetrics::of(&pool)).collect();
        write_pools(writer, &pools)
    }
}

/// One series per host.
fn each<'a, V: FnMut(&Host) -> f64 + 'a>(
    hosts: &'a [Arc<Host>],
    mut value: V,
) -> impl Iterator<Item = (Labels, f64)> + 'a {
    hosts.iter().map(move |host| (labels!(host = host.name()), value(host)))
}

fn write_hosts(writer: &mut MetricsWriter<'_>, hosts: &[Arc<Host>]) -> fmt::Result {
    let states = hosts.iter().flat_map(|host| {
        let now = host.state();
        STATES.map(|(state, name)| (labels!(host = host.name(), state = name), f64::from(u8::from(state == now))))
    });
    writer.gauges("assay_host_state", "1 for the current state of a Docker host, 0 for the others.", None, states)?;
    let cells = |host: &Host| f64::from(u8::from(host.cell_unavailable_reason().is_none()));
    let help = "1 if runs are isolated in cells, or none was tried yet; 0 if sandboxes are split.";
    writer.gauges("assay_host_cells", help, None, each(hosts, cells))?;
    writer.gauges("assay_host_running", "Runs in progress.", None, each(hosts, |host| host.running() as f64))?;
    let capacity = |value: fn(&Capacity) -> f64| each(hosts, move |host| value(host.capacity()));
    let bytes = || Some(Unit::Bytes);
    writer.gauges(
        "assay_host_room_cpus",
        "CPUs' worth of runs that are admitted.",
        None,
        capacity(|room| room.total().cpus),
    )?;
    let help = "CPUs' worth of runs in progress.";
    writer.gauges("assay_host_room_cpus_taken", help, None, capacity(|room| room.reserved().cpus))?;
    let help = "Memory that runs may reserve.";
    writer.gauges("assay_host_room_memory", help, bytes(), capacity(|room| room.total().memory as f64))?;
    let help = "Memory that runs in progress have reserved.";
    writer.gauges("assay_host_room_memory_taken", help, bytes(), capacity(|room| room.reserved().memory as f64))
}

fn write_engines(writer: &mut MetricsWriter<'_>, hosts: &[Arc<Host>]) -> fmt::Result {
    let known: Vec<_> = hosts.iter().map(|host| (host.name().to_owned(), host.health().engine)).collect();
    let known: Vec<_> = known.iter().filter(|(_, engine)| engine.asked.is_some()).collect();
    let info = known.iter().map(|(host, engine)| {
        labels!(
            host = host,
            version = engine.version,
            api_version = engine.api,
            os = engine.os,
            kernel = engine.kernel,
            storage_driver = engine.storage,
            cgroup_driver = engine.cgroups.0,
            cgroup_version = engine.cgroups.1,
        )
    });
    writer.infos("assay_engine", "The Docker Engine of a host.", info)?;
    let of =
        |value: fn(&EngineFacts) -> f64| known.iter().map(move |(host, engine)| (labels!(host = host), value(engine)));
    let help = "Running containers on the engine, including those of others.";
    writer.gauges("assay_engine_containers_running", help, None, of(|engine| engine.containers_running as f64))?;
    let help = "Images on the engine, including those of others.";
    writer.gauges("assay_engine_images", help, None, of(|engine| engine.images as f64))?;
    writer.gauges("assay_engine_cpus", "CPUs of the engine's machine.", None, of(|engine| engine.cpus as f64))?;
    let help = "Memory of the engine's machine.";
    writer.gauges("assay_engine_memory", help, Some(Unit::Bytes), of(|engine| engine.memory_bytes as f64))?;
    let age = |engine: &EngineFacts| engine.asked.map_or(0.0, |asked| asked.elapsed().as_secs_f64());
    let help = "Time since the engine reported these facts.";
    writer.gauges("assay_engine_facts_age", help, Some(Unit::Seconds), of(age))?;

    let disks: Vec<_> = known
        .iter()
        .filter_map(|(host, engine)| Some((labels!(host = host), DiskSpace::of(engine.data.as_deref()?)?)))
        .collect();
    let help = "Free bytes of the disk with the engine's data, for users other than root; of engines on this machine.";
    let free = disks.iter().map(|(labels, disk)| (labels.clone(), disk.free_bytes));
    writer.gauges("assay_engine_disk_free", help, Some(Unit::Bytes), free)?;
    let size = disks.iter().map(|(labels, disk)| (labels.clone(), disk.size_bytes));
    writer.gauges("assay_engine_disk_size", "Bytes of that disk.", Some(Unit::Bytes), size)?;

    let calls: Vec<_> = hosts.iter().map(|host| (host.name(), host.calls().rows())).collect();
    let rows = calls.iter().flat_map(|(host, calls)| {
        calls.iter().map(move |(call, row)| (labels!(host = host, call = label_value(call)), row.took.clone()))
    });
    let help = "Time from a request to the engine to the head of its reply, by call.";
    writer.histograms("assay_engine_call_duration", help, Unit::Seconds, rows)?;
    let rows = calls.iter().flat_map(|(host, calls)| {
        calls.iter().flat_map(move |(call, row)| {
            let call = label_value(call);
            row.errors.iter().map(move |(kind, count)| {
                let kind: &str = kind.into();
                (labels!(host = host, call = call, kind = kind), *count as f64)
            })
        })
    });
    let help = "Requests to the engine that failed, by call and kind; some 4xx are expected.";
    writer.counters("assay_engine_call_errors", help, None, rows)
}

/// The name of a call or step as a label value: `follow the engine's events` becomes
/// `follow_the_engines_events`.
fn label_value(name: &str) -> String {
    name.chars().filter(|c| *c != '\'').map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

/// What the metrics of a pool are written from.
struct PoolMetrics {
    state: PoolState,
    stats: PoolStats,
    oldest: f64,
}

impl PoolMetrics {
    fn of(pool: &Pool) -> PoolMetrics {
        let oldest = pool.oldest().map_or(0.0, |age| age.as_secs_f64());
        PoolMetrics { state: pool.state(), stats: pool.stats(), oldest }
    }

    fn labels(&self) -> Labels {
        labels!(host = self.state.host, profile = self.state.profile)
    }

    fn with(&self, key: &'static str, value: &str) -> Labels {
        let mut labels = self.labels();
        labels.push((key, value.to_owned()));
        labels
    }
}

fn write_pools(writer: &mut MetricsWriter<'_>, pools: &[PoolMetrics]) -> fmt::Result {
    let of = |value: fn(&PoolMetrics) -> f64| pools.iter().map(move |row| (row.labels(), value(row)));
    let states = pools.iter().flat_map(|row| {
        let PoolState { ready, creating, leased, kept, .. } = row.state;
        [("ready", ready), ("creating", creating), ("leased", leased), ("kept", kept)]
            .map(|(state, count)| (row.with("state", state), count as f64))
    });
    writer.gauges("assay_pool_sandboxes", "Sandboxes by state.", None, states)?;
    let help = "Ready sandboxes whose prewarmed runtimes are ready.";
    writer.gauges("assay_pool_hot_sandboxes", help, None, of(|row| row.state.hot as f64))?;
    let hot = pools.iter().filter_map(|row| Some((row.labels(), row.state.hot_bytes? as f64)));
    let help = "Memory that prewarmed runtimes add to a sandbox.";
    writer.gauges("assay_pool_hot_memory", help, Some(Unit::Bytes), hot)?;
    let help = "The fewest sandboxes to keep ready.";
    writer.gauges("assay_pool_floor", help, None, of(|row| row.state.floor as f64))?;
    let help = "Sandboxes to keep ready at the current rate of leases.";
    writer.gauges("assay_pool_level", help, None, of(|row| row.state.level as f64))?;
    let help = "The most sandboxes in all states together.";
    writer.gauges("assay_pool_ceiling", help, None, of(|row| row.state.ceiling as f64))?;
    let help = "Submissions that wait for a sandbox of this pool.";
    writer.gauges("assay_pool_waiting", help, None, of(|row| row.state.waiting as f64))?;
    let help = "1 if the last creation failed.";
    writer.gauges("assay_pool_broken", help, None, of(|row| f64::from(u8::from(row.state.broken.is_some()))))?;
    let help = "Age of the oldest ready sandbox; 0 if there is none.";
    writer.gauges("assay_pool_oldest_ready_age", help, Some(Unit::Seconds), of(|row| row.oldest))?;
    let leases = pools.iter().flat_map(|row| {
        [("hit", row.stats.hits), ("miss", row.stats.misses)]
            .map(|(result, count)| (row.with("result", result), count as f64))
    });
    let help = "Leases: a hit if a sandbox was ready, a miss if one had to be created.";
    writer.counters("assay_pool_leases", help, None, leases)?;
    let refills = pools.iter().map(|row| (row.labels(), row.stats.refills.clone()));
    writer.histograms("assay_pool_refill_duration", "Duration of a successful creation.", Unit::Seconds, refills)?;
    let failures = pools.iter().flat_map(|row| {
        // the usual steps from the start, so that their first failure is an increase
        let mut failures: BTreeMap<&str, usize> = ["create", "hello", "image"].map(|step| (step, 0)).into();
        failures.extend(row.state.failures.iter().map(|(step, count)| (*step, *count)));
        failures
            .into_iter()
            .map(|(step, count)| (row.with("wait", &label_value(step)), count as f64))
            .collect::<Vec<_>>()
    });
    let help = "Creations that failed, by step.";
    writer.counters("assay_pool_failures", help, None, failures)?;
    let retired = pools.iter().flat_map(|row| {
        row.stats.retirements().map(|(reason, count)| (row.with("reason", reason.into()), count as f64))
    });
    writer.counters("assay_pool_retirements", "Retired sandboxes by reason.", None, retired)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_name_becomes_a_label_value() {
        assert_eq!(label_value("follow the engine's events"), "follow_the_engines_events");
        assert_eq!(label_value("attach to"), "attach_to");
    }
}
