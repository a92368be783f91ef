//! Read-only views of the daemon: hosts, pools, profiles, status.

use std::sync::Arc;

use super::error::CallError;
use super::state::Daemon;
use protocol::code::Code;
use protocol::history::ReceiptKeyRow;
use protocol::results::{CallerRow, DaemonStatus, HostRow, ProfileRow, ProfileRows, QueueStatus, RoomRow, StateWord};
use protocol::rows::PoolState;
use protocol::status::Health;
use protocol::{Account, LimitsRequest, Profile};
use sandbox::host::Host;
use scheduler::{SubmissionPhase, check_health};

pub(crate) fn find_host(daemon: &Daemon, name: &str) -> Result<Arc<Host>, CallError> {
    let fleet = &daemon.fleet;
    fleet.find(name).ok_or_else(|| {
        let known = fleet.all().iter().map(|host| host.name().to_owned()).collect::<Vec<_>>().join(", ");
        let name = name.chars().take(64).collect::<String>();
        CallError::new(Code::NotFound, format!("host: the host {name:?} does not exist; the hosts are {known}"))
            .at_field("host")
    })
}

pub(crate) fn pools(daemon: &Daemon) -> Vec<PoolState> {
    let hosts = daemon.fleet.all();
    hosts.iter().flat_map(|host| host.pools()).map(|pool| pool.state()).collect()
}

pub(crate) fn hosts(daemon: &Daemon) -> Vec<HostRow> {
    let row = |host: &Arc<Host>| {
        let health = host.health();
        let (has, taken) = (host.capacity().total(), host.capacity().reserved());
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
            reason: health.reason(),
            remedy: health.remedy(),
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
    daemon.fleet.all().iter().map(row).collect()
}

pub(crate) fn profiles(daemon: &Daemon) -> ProfileRows {
    let row = |profile: &Arc<Profile>| ProfileRow {
        name: profile.name.clone(),
        description: profile.description.clone(),
        image: profile.image.clone(),
        entry: profile.entry.clone(),
        extensions: profile.extensions.clone(),
        suite_format: profile.suite_format,
        compiled: !profile.compile.is_empty(),
        limits: profile.run_limits().ok().map(LimitsRequest::from),
    };
    ProfileRows { profiles: daemon.live.profiles().values().map(row).collect() }
}

pub(crate) fn status(daemon: &Daemon) -> DaemonStatus<'_> {
    let (admitted, running, max) = daemon.submissions.counts();
    let caller = |(account, (waiting, running)): (Account, _)| {
        let (uid, account) = match account {
            Account::Uid(uid) => (Some(uid), None),
            other => (None, Some(other.to_string())),
        };
        CallerRow { uid, account, waiting, running }
    };
    DaemonStatus {
        instance: &daemon.instance,
        version: env!("CARGO_PKG_VERSION"),
        uptime_ms: daemon.started.elapsed().as_millis() as u64,
        draining: daemon.submissions.is_draining(),
        phase: daemon.phase(),
        hosts: hosts(daemon),
        pools: pools(daemon),
        queue: QueueStatus {
            queued: admitted.saturating_sub(running),
            running,
            max,
            waiting: daemon.submissions.allocator().waiting(),
            callers: daemon.submissions.allocator().callers().into_iter().map(caller).collect(),
        },
        counters: daemon.submissions.counters(),
        stages: daemon.submissions.stages(),
        receipt_key: receipt_key(daemon),
    }
}

fn receipt_key(daemon: &Daemon) -> ReceiptKeyRow {
    let key = daemon.submissions.store().issuer().key.public();
    ReceiptKeyRow { id: key.id(), pem: key.pem() }
}

pub(crate) fn health(daemon: &Daemon) -> Health {
    let submissions = &daemon.submissions;
    check_health(
        &daemon.fleet,
        submissions.store(),
        submissions.callbacks(),
        submissions.is_draining(),
        submissions.is_paused(),
    )
}

/// The published state. A submission kept for the next daemon is still queued for its caller.
pub(crate) fn state_word(state: &SubmissionPhase) -> StateWord {
    match state {
        SubmissionPhase::Queued | SubmissionPhase::Acquiring | SubmissionPhase::Kept => StateWord::Queued,
        SubmissionPhase::Running | SubmissionPhase::Settling => StateWord::Running,
        SubmissionPhase::Done(_) => StateWord::Done,
    }
}
