//! How a run ended, and the evidence for it. Facts from the init and the kernel; verdicts are in
//! [`verdict`](crate::verdict).

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It exited; `exit_code` is its status.
    Exited,
    /// It was terminated by a signal that the sandbox did not send.
    Signaled,
    /// It used as much CPU time as its limit, or more.
    CpuLimit,
    /// It exceeded its wall time.
    WallLimit,
    /// It used more memory than its limit.
    MemoryLimit,
    /// It wrote too much output, or a file that is too large.
    OutputLimit,
    /// The program could not be started.
    StartFailed,
    /// The caller cancelled it.
    Cancelled,
    /// The sandbox or its host failed during the run.
    Lost,
}

/// How a memory figure was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MemorySource {
    /// The cgroup's peak rose during the run: exact.
    CgroupPeak,
    /// An earlier run of the sandbox used more: samples, and the largest process without its
    /// mapped files.
    Sampled,
    /// The largest resident set of one process.
    MaxRss,
}

/// Evidence for a run's outcome.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Evidence {
    /// The limit that was exceeded: `cpu_ms`, `wall_ms`, `memory_bytes`, `output_bytes`,
    /// `file_bytes`; `idle_ms` if a submission and its interactor waited for each other,
    /// `talk_ms` if the whole exchange took too long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    /// The limit's value, in the unit that its name ends with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_value: Option<u64>,
    /// Processes that the kernel killed for memory during the run.
    pub oom_kills: u64,
    /// Forks that the process limit denied.
    pub pids_denied: u64,
    /// Largest resident set of a single process.
    pub max_rss_bytes: u64,
    /// How `memory_bytes` was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_source: Option<MemorySource>,
    /// User CPU time in milliseconds.
    pub user_ms: f64,
    /// System CPU time in milliseconds.
    pub system_ms: f64,
    /// Processes that outlived the main one and were killed.
    pub survivors: u32,
    /// Bytes written to stdout, including those that were not kept.
    pub stdout_bytes: u64,
    /// Bytes written to stderr, including those that were not kept.
    pub stderr_bytes: u64,
    /// The set-up step that failed, for `start_failed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_step: Option<String>,
    /// The host's error, for `lost`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<String>,
}

/// A run inside the daemon: outcome, measurements, output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunFacts {
    pub outcome: Outcome,
    /// The exit status, if it exited.
    pub exit_code: Option<i32>,
    /// The signal, if one terminated it.
    pub signal: Option<i32>,
    /// CPU time of all its processes.
    pub cpu: Duration,
    pub wall: Duration,
    /// Peak memory, measured as `evidence.memory_source` says.
    pub memory_bytes: u64,
    /// The part of stdout that was kept.
    pub stdout: Vec<u8>,
    /// The part of stderr that was kept.
    pub stderr: Vec<u8>,
    pub stdout_truncated: bool,
    pub stderr_truncated: bool,
    pub evidence: Evidence,
    /// Whether a runtime that was already running ran it.
    #[serde(default)]
    pub hot: bool,
    /// The program that its profile runs and that its image lacks, if that is why it did not start.
    #[serde(default)]
    pub missing_program: Option<String>,
}

impl RunFacts {
    /// A run with an outcome and no measurements.
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
            hot: false,
            missing_program: None,
        }
    }
}
