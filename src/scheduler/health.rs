//! How it all is: what `daemon.health` and `GET /health` say.
//!
//! Healthy is: every host is up and every pool can be filled. Unhealthy is: no host can be given work. Everything between is
//! degraded, and so are a daemon on its way out and one that has only begun to ask its engines: what comes then is taken, and
//! waits for their first word.

use schemars::JsonSchema;
use serde::Serialize;

use super::Scheduler;
use sandbox::host::{Fleet, HostState};

/// Of `daemon.health`.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Health {
    /// The whole: `unhealthy` when no host takes work, `degraded` when something is wrong.
    pub status: HealthWord,
    /// Whether any engine answers: `connected` or `disconnected`.
    pub docker: &'static str,
    /// What was looked at.
    pub checks: Vec<HealthCheck>,
}

/// How it all is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HealthWord {
    /// All is well.
    Healthy,
    /// It works; something is wrong.
    Degraded,
    /// It does not work.
    Unhealthy,
}

/// Subject of a health check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckKind {
    Host,
    Pool,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct HealthCheck {
    /// Not published.
    #[serde(skip)]
    pub kind: CheckKind,
    /// What.
    pub name: String,
    /// Whether it is well.
    pub ok: bool,
    /// What was seen.
    pub message: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

/// From what was looked at.
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
            message: match (health.state(), &health.reason) {
                (HostState::Up, _) => format!("engine {} answers at {}", health.engine.version, host.endpoint()),
                (HostState::Draining, _) => "drained by command; `assay hosts resume` gives it work again".to_owned(),
                (_, Some(reason)) => format!("failed to {reason}"),
                (_, None) => "not asked yet".to_owned(),
            },
            remedy: health.remedy,
        });
        for pool in host.pools() {
            let state = pool.state();
            let place = if hosts.len() == 1 { String::new() } else { format!(" on {}", host.name()) };
            checks.push(HealthCheck {
                kind: CheckKind::Pool,
                name: format!("pool {}{place}", state.profile),
                ok: state.broken.is_none(),
                message: match &state.broken {
                    None => format!("{} ready, {} being made", state.ready, state.creating),
                    Some(reason) => reason.clone(),
                },
                remedy: None,
            });
        }
    }
    checks
}

impl Scheduler {
    /// How it all is. Asks nobody: the hosts' monitors know.
    pub fn health(&self) -> Health {
        let checks = checks(self.fleet());
        let is_up = !self.fleet().schedulable().is_empty();
        let is_asking = self.fleet().all().iter().any(|host| host.health().state() == HostState::Unknown);
        let broken = checks.iter().filter(|check| !check.ok).count();
        Health {
            status: status(is_up || is_asking, broken, self.is_draining()),
            docker: if is_up { "connected" } else { "disconnected" },
            checks,
        }
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
