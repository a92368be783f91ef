//! Parts of `daemon.status` and `daemon.health`: counters, stages, health.

use schemars::JsonSchema;
use serde::Serialize;
use strum::{EnumCount, IntoStaticStr, VariantArray};

/// A stage of a submission, in order. `scheduler::stages` describes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumCount, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Stage {
    Accept,
    Parse,
    Admit,
    Queue,
    Lease,
    Send,
    Compile,
    SetUp,
    Run,
    Wire,
    Check,
    Collect,
    Decide,
    Reply,
    Total,
}

impl Stage {
    /// The name in `daemon.status` and in metrics.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Counts of submissions and sandboxes since the daemon's start. They only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Counters {
    /// Submissions admitted to the queue.
    pub admitted: usize,
    /// Submissions answered with a report.
    pub answered: usize,
    /// Submissions refused at admission.
    pub refused: usize,
    /// Submissions retried because a sandbox was lost or unfit.
    pub retried: usize,
    /// Submissions answered with `system_error`.
    pub system_error: usize,
    /// Submissions that ran in a ready sandbox.
    pub warm: usize,
    /// Used sandboxes kept for their caller.
    pub kept: usize,
    /// Used sandboxes retired because an audit found residue.
    pub residue: usize,
    /// Submissions that ran in a sandbox created for them.
    pub cold: usize,
}

/// Percentiles of a stage, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct StageRow {
    /// The number of measurements.
    pub count: usize,
    /// Half are below.
    pub p50_ms: f64,
    /// 95 % are below.
    pub p95_ms: f64,
    /// 99 % are below.
    pub p99_ms: f64,
}

/// Result of `daemon.health`.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Health {
    /// `unhealthy` if no host takes work, `degraded` if a check failed or the daemon drains.
    pub status: HealthWord,
    /// `connected` if any host takes work, else `disconnected`.
    pub docker: &'static str,
    /// One row per host and pool, one of the store, one of callbacks where they are configured or
    /// wait, and one while the daemon is paused.
    pub checks: Vec<HealthCheck>,
}

/// The overall state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HealthWord {
    /// Every check passed.
    Healthy,
    /// Work is done, but a check failed or the daemon drains.
    Degraded,
    /// No host takes work.
    Unhealthy,
}

/// Subject of a health check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckKind {
    Host,
    Pool,
    /// Whether submissions are admitted.
    Admission,
    /// Whether reports and submissions are kept.
    Store,
    /// Whether callbacks can be delivered.
    Callbacks,
}

/// The check of one host or pool, of the store, of callbacks, or of admission.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct HealthCheck {
    /// For the summary of `/health`; not published.
    #[serde(skip)]
    pub kind: CheckKind,
    /// `docker` or `pool`, with the host's or profile's name; `store`; `callbacks`; `admission`.
    pub name: String,
    /// Whether the check passed.
    pub ok: bool,
    /// The state, or the failure.
    pub message: String,
    /// How to fix the failure, if known.
    pub remedy: Option<String>,
}
