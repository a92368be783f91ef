//! What there is to see: hosts, pools, profiles, the queue, how it all is.

use std::sync::Arc;

use serde_json::{Value, json};

use super::connection::Context;
use crate::host::{Host, HostState};

/// The rows of `pool.list`.
pub(super) fn pools(context: &Context) -> Vec<Value> {
    let hosts = context.daemon.scheduler.fleet().all();
    let pools = hosts.iter().flat_map(|host| host.pools());
    pools.filter_map(|pool| serde_json::to_value(pool.state()).ok()).collect()
}

/// The rows of `host.list`.
pub(super) fn hosts(context: &Context) -> Vec<Value> {
    let row = |host: &Arc<Host>| {
        let health = host.health();
        let (has, taken) = host.room().amounts();
        json!({
            "name": host.name(),
            "endpoint": host.endpoint(),
            "state": health.state(),
            "engine": health.engine.version,
            "api": health.engine.api,
            "cpus": health.engine.cpus,
            "memory_bytes": health.engine.memory_bytes,
            "no_cell": host.no_cell(),
            "reason": health.reason,
            "remedy": health.remedy,
            "since_ms": health.since.elapsed().as_millis() as u64,
            "sandboxes": host.sandboxes().len(),
            "running": host.running(),
            "room": {
                "cpus": has.cpus, "cpus_taken": taken.cpus, "memory_bytes": has.memory, "memory_bytes_taken": taken.memory,
            },
        })
    };
    context.daemon.scheduler.fleet().all().iter().map(row).collect()
}

/// `profile.list`.
pub(super) fn profiles(context: &Context) -> Value {
    let rows: Vec<Value> = context
        .daemon
        .live
        .profiles()
        .values()
        .map(|profile| {
            let limits = profile.run_limits().ok().map(|limits| {
                json!({
                    "cpu_ms": limits.cpu.as_millis() as u64,
                    "wall_ms": limits.wall.as_millis() as u64,
                    "memory_bytes": limits.memory_bytes,
                    "pids": limits.pids,
                    "cpus": limits.cpus,
                    "output_bytes": limits.output_bytes,
                    "file_bytes": limits.file_bytes,
                    "open_files": limits.open_files,
                })
            });
            json!({
                "name": profile.name,
                "description": profile.description,
                "image": profile.image,
                "entry": profile.entry,
                "compiled": !profile.compile.is_empty(),
                "limits": limits,
            })
        })
        .collect();
    json!({ "profiles": rows })
}

/// `daemon.status`.
pub(super) fn status(context: &Context) -> Value {
    let daemon = &context.daemon;
    let (admitted, running, max) = daemon.scheduler.counts();
    let caller = |(uid, (waiting, running))| json!({ "uid": uid, "waiting": waiting, "running": running });
    let callers: Vec<Value> = daemon.scheduler.desk().callers().into_iter().map(caller).collect();
    json!({
        "instance": daemon.instance,
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_ms": daemon.started.elapsed().as_millis() as u64,
        "draining": daemon.scheduler.is_draining(),
        "hosts": hosts(context),
        "pools": pools(context),
        "queue": {
            "queued": admitted.saturating_sub(running), "running": running, "max": max,
            "waiting": daemon.scheduler.desk().waiting(), "callers": callers,
        },
        "counters": daemon.scheduler.counters(),
        "stages": daemon.scheduler.stages(),
    })
}

/// `daemon.health`.
pub(super) fn health(context: &Context) -> Value {
    let daemon = &context.daemon;
    let hosts = daemon.scheduler.fleet().all();
    let mut checks = Vec::new();
    let mut broken = 0;
    for host in hosts.iter() {
        let health = host.health();
        let is_up = health.state() == HostState::Up;
        broken += usize::from(!is_up);
        checks.push(json!({
            "name": if hosts.len() == 1 { "docker".to_owned() } else { format!("docker {}", host.name()) },
            "ok": is_up,
            "message": match (health.state(), &health.reason) {
                (HostState::Up, _) => format!("engine {} answers at {}", health.engine.version, host.endpoint()),
                (HostState::Draining, _) => "drained by command; `assay hosts resume` gives it work again".to_owned(),
                (_, Some(reason)) => format!("failed to {reason}"),
                (_, None) => "not asked yet".to_owned(),
            },
            "remedy": health.remedy,
        }));
        for pool in host.pools() {
            let state = pool.state();
            broken += usize::from(state.broken.is_some());
            let place = if hosts.len() == 1 { String::new() } else { format!(" on {}", host.name()) };
            checks.push(json!({
                "name": format!("pool {}{place}", state.profile),
                "ok": state.broken.is_none(),
                "message": match &state.broken {
                    None => format!("{} ready, {} being made", state.ready, state.creating),
                    Some(reason) => reason.clone(),
                },
            }));
        }
    }
    let is_up = !daemon.scheduler.fleet().willing().is_empty();
    let status = match (is_up, broken, daemon.scheduler.is_draining()) {
        (false, _, _) => "unhealthy",
        (true, 0, false) => "healthy",
        (true, _, _) => "degraded",
    };
    json!({ "status": status, "docker": if is_up { "connected" } else { "disconnected" }, "checks": checks })
}
