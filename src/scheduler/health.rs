//! The daemon's health, as `daemon.health` and `GET /health` report it.
//!
//! Healthy: every host is up, every pool can create sandboxes, the store keeps what it is to keep,
//! and callbacks can be delivered. Unhealthy: no host takes work. Everything else is degraded; so
//! are a draining daemon, and one whose engines have not answered their first probe yet (it admits
//! submissions, which wait for that probe).

use super::callbacks::Callbacks;
use super::store_access::StoreAccess;
use protocol::rows::HostState;
use protocol::status::{CheckKind, Health, HealthCheck, HealthWord};
use sandbox::host::Fleet;

fn status(takes_work: bool, broken: usize, is_draining: bool) -> HealthWord {
    match (takes_work, broken, is_draining) {
        (false, _, _) => HealthWord::Unhealthy,
        (true, 0, false) => HealthWord::Healthy,
        (true, _, _) => HealthWord::Degraded,
    }
}

fn checks(fleet: &Fleet) -> Vec<HealthCheck> {
    let hosts = fleet.all();
    let mut checks = Vec::new();
    for host in hosts.iter() {
        let health = host.health();
        checks.push(HealthCheck {
            kind: CheckKind::Host,
            name: if hosts.len() == 1 { "docker".to_owned() } else { format!("docker {}", host.name()) },
            ok: health.state() == HostState::Up,
            message: match (health.state(), &health.reason()) {
                (HostState::Up, _) => format!("engine {} answers at {}", health.engine.version, host.endpoint()),
                (HostState::Draining, _) => "drained by command: it gets no work".to_owned(),
                (_, Some(reason)) => format!("failed to {reason}"),
                (_, None) => "not probed yet".to_owned(),
            },
            remedy: match health.state() {
                HostState::Draining => {
                    Some(format!("When the maintenance is over: assay hosts resume {}", host.name()))
                }
                _ => health.remedy(),
            },
        });
        for pool in host.pools() {
            let state = pool.state();
            let place = if hosts.len() == 1 { String::new() } else { format!(" on {}", host.name()) };
            checks.push(HealthCheck {
                kind: CheckKind::Pool,
                name: format!("pool {}{place}", state.profile),
                ok: state.broken.is_none(),
                message: match &state.broken {
                    None => format!("{} ready, {} being created", state.ready, state.creating),
                    Some(reason) => reason.clone(),
                },
                remedy: pool.last_error().and_then(|error| error.remedy(&state.profile)),
            });
        }
    }
    checks
}

/// The health now. Makes no engine call: the hosts' monitors keep the state up to date.
pub fn check_health(
    fleet: &Fleet,
    store: &StoreAccess,
    callbacks: &Callbacks,
    is_draining: bool,
    is_paused: bool,
) -> Health {
    let mut checks = checks(fleet);
    checks.push(store.check());
    checks.extend(callbacks.check(store.waiting_callbacks()));
    if is_paused {
        checks.push(HealthCheck {
            kind: CheckKind::Admission,
            name: "admission".to_owned(),
            ok: false,
            message: "paused by command: submissions are refused".to_owned(),
            remedy: Some("When the maintenance is over: assay resume".to_owned()),
        });
    }
    let is_up = !fleet.schedulable().is_empty();
    let is_probing = fleet.all().iter().any(|host| host.health().state() == HostState::Unknown);
    let broken = checks.iter().filter(|check| !check.ok).count();
    Health {
        status: status(is_up || is_probing, broken, is_draining),
        docker: if is_up { "connected" } else { "disconnected" },
        checks,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_daemon_without_a_host_is_unhealthy() {
        assert_eq!(status(true, 0, false), HealthWord::Healthy);
        assert_eq!(status(true, 1, false), HealthWord::Degraded);
        assert_eq!(status(true, 0, true), HealthWord::Degraded);
        assert_eq!(status(false, 1, false), HealthWord::Unhealthy);
    }
}
