//! What happened to a program, and the evidence for it. Facts come from init and kernel; nothing here is a verdict.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What happened to the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It exited by itself; `exit_code` says how.
    Exited,
    /// A signal that was not ours ended it.
    Signaled,
    /// The CPU time was used up.
    CpuLimit,
    /// The wall time was over.
    WallLimit,
    /// The kernel killed for memory.
    MemoryLimit,
    /// Too much output, or a file too large.
    OutputLimit,
    /// The program could not be started.
    StartFailed,
    /// The caller withdrew it.
    Cancelled,
    /// The sandbox or its host failed under it.
    Lost,
}

/// Where a memory figure comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MemorySource {
    /// The cgroup's peak rose during the run: exact for the sandbox.
    CgroupPeak,
    /// Samples above the baseline: a lower bound.
    Sampled,
    /// The largest resident set of one process.
    MaxRss,
}

/// The evidence that goes with a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Evidence {
    /// Which limit fired: `cpu_ms`, `wall_ms`, `memory_bytes`, `output_bytes`, `file_bytes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    /// The limit's value in the unit of its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_value: Option<u64>,
    /// Kernel OOM kills in the sandbox during the run.
    pub oom_kills: u64,
    /// Forks that the process limit denied.
    pub pids_denied: u64,
    /// Largest resident set of one process.
    pub max_rss_bytes: u64,
    /// Where `memory_bytes` comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_source: Option<MemorySource>,
    /// User CPU time in milliseconds.
    pub user_ms: f64,
    /// System CPU time in milliseconds.
    pub system_ms: f64,
    /// Processes that outlived the main one and were killed.
    pub survivors: u32,
    /// All bytes written to stdout, kept or not.
    pub stdout_bytes: u64,
    /// All bytes written to stderr, kept or not.
    pub stderr_bytes: u64,
    /// The set-up step that failed, for `start_failed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_step: Option<String>,
    /// What the host saw when the sandbox was lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<String>,
}

/// One run as the daemon knows it: outcome, figures, output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunFacts {
    /// What happened.
    pub outcome: Outcome,
    /// The exit status, when it exited.
    pub exit_code: Option<i32>,
    /// The signal, when one ended it.
    pub signal: Option<i32>,
    /// CPU time of the tree.
    pub cpu: Duration,
    /// Wall time.
    pub wall: Duration,
    /// Memory used.
    pub memory_bytes: u64,
    /// What was kept of stdout.
    pub stdout: Vec<u8>,
    /// What was kept of stderr.
    pub stderr: Vec<u8>,
    /// Whether stdout was longer than what was kept.
    pub stdout_truncated: bool,
    /// Whether stderr was longer than what was kept.
    pub stderr_truncated: bool,
    /// The evidence.
    pub evidence: Evidence,
}

impl RunFacts {
    /// A run of which nothing is known but its outcome.
    pub fn bare(outcome: Outcome) -> RunFacts {
        RunFacts {
            outcome,
            exit_code: None,
            signal: None,
            cpu: Duration::ZERO,
            wall: Duration::ZERO,
            memory_bytes: 0,
            stdout: Vec::new(),
            stderr: Vec::new(),
            stdout_truncated: false,
            stderr_truncated: false,
            evidence: Evidence::default(),
        }
    }
}
