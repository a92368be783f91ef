//! What there is to see: hosts, pools, profiles, the queue, how it all is.

use std::sync::Arc;

use super::connection::Context;
use super::results::{CallerRow, HostRow, ProfileRow, ProfileRows, Queue, RoomRow, Status};
use protocol::{LimitsRequest, Profile};
use sandbox::host::Host;
use sandbox::pool::PoolState;
use scheduler::Health;

/// The rows of `pool.list`.
pub(super) fn pools(context: &Context) -> Vec<PoolState> {
    let hosts = context.daemon.fleet.all();
    hosts.iter().flat_map(|host| host.pools()).map(|pool| pool.state()).collect()
}

/// The rows of `host.list`.
pub(super) fn hosts(context: &Context) -> Vec<HostRow> {
    let row = |host: &Arc<Host>| {
        let health = host.health();
        let (has, taken) = host.capacity().amounts();
        HostRow {
            name: host.name().to_owned(),
            endpoint: host.endpoint(),
            state: health.state(),
            engine: health.engine.version.clone(),
            api: health.engine.api.clone(),
            cpus: health.engine.cpus,
            memory_bytes: health.engine.memory_bytes,
            no_cell: host.cell_unavailable_reason(),
            since_ms: health.since.elapsed().as_millis() as u64,
            reason: health.reason,
            remedy: health.remedy,
            sandboxes: host.sandboxes().len(),
            running: host.running(),
            room: RoomRow {
                cpus: has.cpus,
                cpus_taken: taken.cpus,
                memory_bytes: has.memory,
                memory_bytes_taken: taken.memory,
            },
        }
    };
    context.daemon.fleet.all().iter().map(row).collect()
}

/// `profile.list`.
pub(super) fn profiles(context: &Context) -> ProfileRows {
    let row = |profile: &Arc<Profile>| ProfileRow {
        name: profile.name.clone(),
        description: profile.description.clone(),
        image: profile.image.clone(),
        entry: profile.entry.clone(),
        compiled: !profile.compile.is_empty(),
        limits: profile.run_limits().ok().map(|limits| LimitsRequest {
            cpu_ms: Some(limits.cpu.as_millis() as u64),
            wall_ms: Some(limits.wall.as_millis() as u64),
            memory_bytes: Some(limits.memory_bytes),
            pids: Some(limits.pids),
            cpus: Some(limits.cpus),
            output_bytes: Some(limits.output_bytes),
            file_bytes: Some(limits.file_bytes),
            open_files: Some(limits.open_files),
        }),
    };
    ProfileRows { profiles: context.daemon.live.profiles().values().map(row).collect() }
}

/// `daemon.status`.
pub(super) fn status(context: &Context) -> Status<'_> {
    let daemon = &context.daemon;
    let (admitted, running, max) = daemon.submissions.counts();
    let caller = |(uid, (waiting, running))| CallerRow { uid, waiting, running };
    Status {
        instance: &daemon.instance,
        version: env!("CARGO_PKG_VERSION"),
        uptime_ms: daemon.started.elapsed().as_millis() as u64,
        draining: daemon.submissions.is_draining(),
        hosts: hosts(context),
        pools: pools(context),
        queue: Queue {
            queued: admitted.saturating_sub(running),
            running,
            max,
            waiting: daemon.submissions.allocator().waiting(),
            callers: daemon.submissions.allocator().callers().into_iter().map(caller).collect(),
        },
        counters: daemon.submissions.counters(),
        stages: daemon.submissions.stages(),
    }
}

/// `daemon.health`.
pub(super) fn health(context: &Context) -> Health {
    Health::of(&context.daemon.fleet, context.daemon.submissions.is_draining())
}
