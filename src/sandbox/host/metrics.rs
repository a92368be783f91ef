//! Hosts, engines and pools, written for whoever scrapes. Nothing here asks an engine: the monitor keeps what it last heard.

use std::fmt;
use std::sync::Arc;

use super::capacity::Resources;
use super::{Fleet, Host, HostState};
use crate::pool::{PoolState, PoolStats};
use telemetry::metrics::{Labels, MetricsWriter, Unit, labels};

/// All states of a host: one of them is 1.
const STATES: [(HostState, &str); 5] = [
    (HostState::Unknown, "unknown"),
    (HostState::Up, "up"),
    (HostState::Suspect, "suspect"),
    (HostState::Down, "down"),
    (HostState::Draining, "draining"),
];

impl Fleet {
    /// Writes hosts, engines and pools.
    ///
    /// # Errors
    /// The writer's.
    pub fn write_metrics(&self, writer: &mut MetricsWriter<'_>) -> fmt::Result {
        let hosts = self.all();
        write_hosts(writer, &hosts)?;
        write_engines(writer, &hosts)?;
        let pools: Vec<Row> = hosts.iter().flat_map(|host| host.pools()).map(|pool| Row::of(&pool)).collect();
        write_pools(writer, &pools)
    }
}

/// A row for each host.
fn each<'a, V: FnMut(&Host) -> f64 + 'a>(
    hosts: &'a [Arc<Host>],
    mut value: V,
) -> impl Iterator<Item = (Labels, f64)> + 'a {
    hosts.iter().map(move |host| (labels!(host = host.name()), value(host)))
}

fn write_hosts(writer: &mut MetricsWriter<'_>, hosts: &[Arc<Host>]) -> fmt::Result {
    let states = hosts.iter().flat_map(|host| {
        let now = host.state();
        STATES.map(|(state, word)| (labels!(host = host.name(), state = word), f64::from(u8::from(state == now))))
    });
    writer.gauges("assay_host_state", "1 for the state that a Docker host is in.", None, states)?;
    let cells = |host: &Host| f64::from(u8::from(host.cell_unavailable_reason().is_none()));
    let help = "1 where runs are kept apart in cells, as far as is known; 0 where sandboxes are split.";
    writer.gauges("assay_host_cells", help, None, each(hosts, cells))?;
    writer.gauges("assay_host_running", "Runs under way.", None, each(hosts, |host| host.running() as f64))?;
    let room = |which: fn((Resources, Resources)) -> f64| each(hosts, move |host| which(host.capacity().amounts()));
    let bytes = || Some(Unit::Bytes);
    writer.gauges("assay_host_room_cpus", "CPUs' worth of runs that are let in.", None, room(|(has, _)| has.cpus))?;
    let help = "CPUs' worth of runs under way.";
    writer.gauges("assay_host_room_cpus_taken", help, None, room(|(_, taken)| taken.cpus))?;
    let help = "Memory for runs.";
    writer.gauges("assay_host_room_memory", help, bytes(), room(|(has, _)| has.memory as f64))?;
    let help = "Memory of runs under way.";
    writer.gauges("assay_host_room_memory_taken", help, bytes(), room(|(_, taken)| taken.memory as f64))
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
    let of = |value: fn(&super::EngineFacts) -> f64| {
        known.iter().map(move |(host, engine)| (labels!(host = host), value(engine)))
    };
    let help = "Containers that run on the engine, others' too.";
    writer.gauges("assay_engine_containers_running", help, None, of(|engine| engine.containers_running as f64))?;
    let help = "Images on the engine, others' too.";
    writer.gauges("assay_engine_images", help, None, of(|engine| engine.images as f64))?;
    writer.gauges("assay_engine_cpus", "CPUs of the engine's machine.", None, of(|engine| engine.cpus as f64))?;
    let help = "Memory of the engine's machine.";
    writer.gauges("assay_engine_memory", help, Some(Unit::Bytes), of(|engine| engine.memory_bytes as f64))?;
    let age = |engine: &super::EngineFacts| engine.asked.map_or(0.0, |asked| asked.elapsed().as_secs_f64());
    let help = "Since when what is said of the engine is known.";
    writer.gauges("assay_engine_facts_age", help, Some(Unit::Seconds), of(age))?;

    let calls: Vec<_> = hosts.iter().map(|host| (host.name(), host.calls().rows())).collect();
    let rows = calls.iter().flat_map(|(host, calls)| {
        calls.iter().map(move |(call, row)| (labels!(host = host, call = word(call)), row.took.clone()))
    });
    let help = "From a request to the engine to the head of its reply, by call.";
    writer.histograms("assay_engine_call_duration", help, Unit::Seconds, rows)?;
    let rows = calls.iter().flat_map(|(host, calls)| {
        calls.iter().flat_map(move |(call, row)| {
            let call = word(call);
            row.errors.iter().map(move |(kind, count)| (labels!(host = host, call = call, kind = kind), *count as f64))
        })
    });
    let help = "Requests to the engine that failed, by call and kind; some 4xx are expected.";
    writer.counters("assay_engine_call_errors", help, None, rows)
}

/// A step's name, which is made for sentences, as a label: `follow the engine's events` is `follow_the_engines_events`.
fn word(name: &str) -> String {
    name.chars().filter(|c| *c != '\'').map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

/// A pool, as it is and was.
struct Row {
    state: PoolState,
    stats: PoolStats,
    oldest: f64,
}

impl Row {
    fn of(pool: &crate::pool::Pool) -> Row {
        let oldest = pool.oldest().map_or(0.0, |age| age.as_secs_f64());
        Row { state: pool.state(), stats: pool.stats(), oldest }
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

fn write_pools(writer: &mut MetricsWriter<'_>, pools: &[Row]) -> fmt::Result {
    let of = |value: fn(&Row) -> f64| pools.iter().map(move |row| (row.labels(), value(row)));
    let states = pools.iter().flat_map(|row| {
        let PoolState { ready, creating, leased, kept, .. } = row.state;
        [("ready", ready), ("creating", creating), ("leased", leased), ("kept", kept)]
            .map(|(state, count)| (row.with("state", state), count as f64))
    });
    writer.gauges("assay_pool_sandboxes", "Sandboxes, by what they do.", None, states)?;
    let help = "Ready sandboxes whose runtimes wait in them.";
    writer.gauges("assay_pool_hot_sandboxes", help, None, of(|row| row.state.hot as f64))?;
    let hot = pools.iter().filter_map(|row| Some((row.labels(), row.state.hot_bytes? as f64)));
    let help = "What runtimes that wait add to a sandbox.";
    writer.gauges("assay_pool_hot_memory", help, Some(Unit::Bytes), hot)?;
    let help = "Sandboxes kept ready, whatever the rate.";
    writer.gauges("assay_pool_floor", help, None, of(|row| row.state.floor as f64))?;
    let help = "Sandboxes kept ready at the rate at which they are taken.";
    writer.gauges("assay_pool_level", help, None, of(|row| row.state.level as f64))?;
    let help = "Sandboxes at most.";
    writer.gauges("assay_pool_ceiling", help, None, of(|row| row.state.ceiling as f64))?;
    let help = "Those who wait for a sandbox of this pool.";
    writer.gauges("assay_pool_waiting", help, None, of(|row| row.state.waiting as f64))?;
    let help = "1 when the last creation failed and none has succeeded since.";
    writer.gauges("assay_pool_broken", help, None, of(|row| f64::from(u8::from(row.state.broken.is_some()))))?;
    let help = "Age of the oldest ready sandbox; 0 without any.";
    writer.gauges("assay_pool_oldest_ready_age", help, Some(Unit::Seconds), of(|row| row.oldest))?;
    let leases = pools.iter().flat_map(|row| {
        [("hit", row.stats.hits), ("miss", row.stats.misses)]
            .map(|(result, count)| (row.with("result", result), count as f64))
    });
    let help = "Sandboxes taken: hit when one was ready, miss when it had to be made meanwhile.";
    writer.counters("assay_pool_leases", help, None, leases)?;
    let refills = pools.iter().map(|row| (row.labels(), row.stats.refills.clone()));
    writer.histograms("assay_pool_refill_duration", "Time of making a sandbox.", Unit::Seconds, refills)?;
    let failures = pools
        .iter()
        .flat_map(|row| row.state.failures.iter().map(|(wait, count)| (row.with("wait", &word(wait)), *count as f64)));
    let help = "Sandboxes that could not be made, by what was waited for.";
    writer.counters("assay_pool_failures", help, None, failures)?;
    let retired = pools.iter().flat_map(|row| {
        row.stats.retirements().map(|(reason, count)| (row.with("reason", reason.as_str()), count as f64))
    });
    writer.counters("assay_pool_retirements", "Sandboxes let go, by why.", None, retired)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_told_in_one_word() {
        assert_eq!(word("follow the engine's events"), "follow_the_engines_events");
        assert_eq!(word("attach to"), "attach_to");
    }
}
