//! Results of the methods and bodies of the notifications as they appear in JSON. Clients ignore
//! unknown fields.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::code::Code;
use crate::history::{HistoryFields, ReceiptKeyRow, RunUsage};
use crate::rows::{HostState, ImageRow, PoolState, SandboxRow};
use crate::status::{Counters, StageRow};
use crate::submission::SuiteFormat;
use crate::{LimitsRequest, Outcome, Report, Verdict};

/// Body of `server.hello`, the first line of a connection.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Hello {
    /// Version of the protocol: 1.
    pub protocol: u32,
    /// Version of the daemon.
    pub version: &'static str,
    /// Name of the instance, and its random id.
    pub instance: String,
    /// Limits of the daemon.
    pub limits: HelloLimits,
    /// Supported parts of the protocol.
    pub features: Vec<&'static str>,
}

/// Limits of the daemon.
#[derive(Debug, Serialize, JsonSchema)]
pub struct HelloLimits {
    /// The longest line, in bytes; anything larger travels as a blob.
    pub max_line_bytes: usize,
    /// The largest blob.
    pub max_blob_bytes: u64,
    /// The largest submission, with its blobs.
    pub max_submission_bytes: u64,
    /// The largest report, without its blobs.
    pub max_report_bytes: usize,
    /// How long a report is kept for `submission.wait` and `submission.get`.
    pub report_ttl_ms: u64,
}

/// An empty result: `{}`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Empty {}

/// Result of `submission.submit`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Submitted {
    /// Id of the submission.
    pub id: String,
}

/// State of a submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum StateWord {
    /// It waits for a sandbox.
    Queued,
    /// It has a sandbox.
    Running,
    /// Its report is available.
    Done,
}

impl StateWord {
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Result of `submission.get`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SubmissionState<'a> {
    /// Id of the submission.
    pub id: &'a str,
    /// State of the submission or host.
    pub state: StateWord,
    /// Its report, when it is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<&'a Report>,
    /// What history says of it, if that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history: Option<&'a HistoryFields>,
    /// What its runs used over time, if history was asked for: runs of more than 100 ms.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub usage: Vec<RunUsage>,
}

/// Result of `submission.wait`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Waited")]
#[serde(untagged)]
#[allow(clippy::large_enum_variant, reason = "one result at a time")]
pub enum WaitResult {
    /// Report of the submission.
    Report(Report),
    /// The state, when `timeout_ms` expired first.
    State(StillGoing),
}

/// A submission that is not done.
#[derive(Debug, Serialize, JsonSchema)]
pub struct StillGoing {
    /// Id of the submission.
    pub id: String,
    /// State of the submission or host.
    pub state: StateWord,
}

/// Result of `submission.list`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Submissions {
    /// One row per submission.
    pub submissions: Vec<SubmissionRow>,
    /// Of history: `cursor` of the next page. Absent on the last one. A page may have fewer rows
    /// than asked for, or none, and a next one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// A row of `submission.list`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SubmissionRow {
    /// Id of the submission.
    pub id: String,
    /// State of the submission or host.
    pub state: StateWord,
    /// uid of its caller, if it came over the socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// `token:NAME` or `anon:ID`, if it came over HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// Tenant that the caller stated; empty if none.
    pub tenant: String,
    /// Of history only.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub history: Option<HistoryFields>,
}

/// Result of `submission.logs`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Logs")]
pub struct SubmissionLogs {
    /// Id of the submission.
    pub id: String,
    /// Its state; the logs are available when it is done.
    pub state: StateWord,
    /// The kept output of each step.
    pub logs: Vec<LogRow>,
}

/// The kept output of a step; each stream as text, as a blob, or in base64 if it is not UTF-8.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub struct LogRow {
    /// `compile`, `run`, or the name of the test.
    pub name: String,
    /// stdout, if it is UTF-8: text, or `{"blob": id}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdout: Option<crate::report::Output>,
    /// stdout in base64, if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdout_b64: Option<String>,
    /// stderr, if it is UTF-8: text, or `{"blob": id}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stderr: Option<crate::report::Output>,
    /// stderr in base64, if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stderr_b64: Option<String>,
}

/// Result of `blob.put`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct BlobPut {
    /// Id of the blob.
    pub blob: String,
}

/// Result of `blob.get`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct BlobPiece {
    /// The piece, in base64.
    pub data_b64: String,
    /// Whether it is the last one.
    pub eof: bool,
}

/// Result of `pool.list`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Pools {
    /// One row per pool.
    pub pools: Vec<PoolState>,
}

/// Result of `host.list`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Hosts {
    /// One row per host.
    pub hosts: Vec<HostRow>,
}

/// A row of `host.list`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct HostRow {
    /// Name of the host.
    pub name: String,
    /// Address of its engine.
    pub endpoint: String,
    /// State of the submission or host.
    pub state: HostState,
    /// Version of the engine; empty before its first response.
    pub engine: String,
    /// Version of the engine's API in use; empty before its first response.
    pub api: String,
    /// CPUs of its machine.
    pub cpus: i64,
    /// Memory of its machine.
    pub memory_bytes: i64,
    /// Why it cannot have cells.
    pub no_cell: Option<String>,
    /// Why it is not up.
    pub reason: Option<String>,
    /// What to do about it.
    pub remedy: Option<String>,
    /// How long it has been in this state.
    pub since_ms: u64,
    /// Number of sandboxes on it.
    pub sandboxes: usize,
    /// Number of submissions running on it.
    pub running: usize,
    /// Its capacity for runs, and how much of it is in use.
    pub room: RoomRow,
}

/// Capacity of a host for runs.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RoomRow {
    /// CPUs that may be assigned to runs.
    pub cpus: f64,
    /// CPUs assigned to runs.
    pub cpus_taken: f64,
    /// Memory that may be assigned to runs.
    pub memory_bytes: u64,
    /// Memory assigned to runs.
    pub memory_bytes_taken: u64,
}

/// Result of `profile.list`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ProfileRows {
    /// One row per profile.
    pub profiles: Vec<ProfileRow>,
}

/// A row of `profile.list`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ProfileRow {
    /// Name of the profile, for `language`.
    pub name: String,
    /// One line of text for a human.
    pub description: String,
    /// Name of its image.
    pub image: String,
    /// Default entry file.
    pub entry: String,
    /// File name extensions that stand for it where no language is stated, without the dot.
    pub extensions: Vec<String>,
    /// The format of its test suites where none is stated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suite_format: Option<SuiteFormat>,
    /// Whether it has a compile step.
    pub compiled: bool,
    /// Limits of a run whose submission sets none.
    pub limits: Option<LimitsRequest>,
}

/// Result of `sandbox.list`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Sandboxes {
    /// One row per sandbox.
    pub sandboxes: Vec<SandboxRow>,
}

/// Result of `image.list`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Images")]
pub struct ImageList {
    /// One row per profile and host.
    pub images: Vec<ImageRow>,
}

/// Result of `image.build` and `image.pull`: the fields of the first host, and every host.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ImagesMade {
    /// The first host.
    #[serde(flatten)]
    pub first: ImageMade,
    /// One row per host.
    pub hosts: Vec<ImageMade>,
}

/// An image that is now available on a host.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ImageMade {
    /// Name of the host.
    pub host: String,
    /// Name of the image.
    pub image: String,
    /// Id of the image.
    pub id: String,
    /// Tag of the image.
    pub tag: String,
    /// Whether it was built or pulled by this call; false if it was available before.
    pub built: bool,
    /// How long that took.
    pub took_ms: u64,
}

/// Result of `image.prune`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ImagesPruned {
    /// Whether nothing was removed, because only a list was asked for.
    pub dry_run: bool,
    /// One row per image: first layers, then images, then their bases.
    pub images: Vec<PrunedImage>,
}

/// An image of assay's own that no profile and no container needs.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct PrunedImage {
    /// Name of the host.
    pub host: String,
    /// Id of the image.
    pub id: String,
    /// All names of the image.
    pub tags: Vec<String>,
    /// Size in bytes, with what it shares with other images.
    pub size_bytes: u64,
    /// Whether it was removed.
    pub removed: bool,
    /// Why it could not be removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Body of `image.progress`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ImageProgress {
    /// Profile whose image is built or pulled.
    pub profile: String,
    /// Name of the host.
    pub host: String,
    /// Name of the image.
    pub image: String,
    /// The current step.
    pub step: String,
    /// Completed steps, or bytes.
    pub done: Option<u32>,
    /// Total steps, or bytes.
    pub total: Option<u32>,
    /// A line of the build log.
    pub line: Option<String>,
}

/// Result of `daemon.status`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Status")]
pub struct DaemonStatus<'a> {
    /// Name of the instance, and its random id.
    pub instance: &'a str,
    /// Version of the daemon.
    pub version: &'static str,
    /// Time since its start.
    pub uptime_ms: u64,
    /// Whether it is ending: it admits no more submissions, and finishes those that it has.
    pub draining: bool,
    /// Where it is between start and exit.
    pub phase: DaemonPhase,
    /// The rows of `host.list`.
    pub hosts: Vec<HostRow>,
    /// The rows of `pool.list`.
    pub pools: Vec<PoolState>,
    /// The queue of submissions.
    pub queue: QueueStatus,
    /// Counts of submissions since the start.
    pub counters: Counters,
    /// Durations of recent submissions, by stage.
    pub stages: BTreeMap<&'static str, StageRow>,
    /// The key that signs receipts.
    pub receipt_key: ReceiptKeyRow,
}

/// Result of `daemon.pause` and `daemon.resume`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Admission {
    /// Whether submissions are refused until `daemon.resume`.
    pub paused: bool,
    /// Admitted submissions without a sandbox.
    pub queued: usize,
    /// Submissions with a sandbox.
    pub running: usize,
}

/// Phase of the daemon's life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DaemonPhase {
    /// It accepts connections and submissions.
    #[default]
    Serving,
    /// It refuses submissions until it is resumed, and finishes those that it has.
    Paused,
    /// New connections wait for the next daemon; connected callers may still submit.
    HandingOver,
    /// It admits nothing more and finishes what runs.
    Draining,
}

/// The queue of submissions.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Queue")]
pub struct QueueStatus {
    /// Admitted submissions without a sandbox.
    pub queued: usize,
    /// Submissions with a sandbox.
    pub running: usize,
    /// Maximum number of admitted submissions.
    pub max: usize,
    /// Runs that wait for a sandbox.
    pub waiting: usize,
    /// The same per caller.
    pub callers: Vec<CallerRow>,
}

/// A caller with waiting or running runs. Anonymous ones are one row, `anon`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CallerRow {
    /// uid of the caller, if it came over the socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// `token:NAME` or `anon`, if it came over HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Its runs that wait for a sandbox.
    pub waiting: usize,
    /// Its runs that have a sandbox.
    pub running: usize,
}

/// Result of `daemon.reload`: what the new configuration changed.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Reloaded {
    /// Changes of hosts.
    pub hosts: ReloadedHosts,
    /// The profiles now.
    pub profiles: Vec<String>,
    /// Changed settings that are in effect.
    pub applied: Vec<String>,
    /// Changed settings that take effect after a restart.
    pub needs_restart: Vec<String>,
}

/// Names of hosts, by what a reload did with them.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ReloadedHosts {
    /// Hosts without changes.
    pub kept: Vec<String>,
    /// Hosts that were added.
    pub added: Vec<String>,
    /// Hosts that were removed.
    pub removed: Vec<String>,
}

/// Body of `submission.event`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct EventBody {
    /// Id of the submission.
    pub id: String,
    /// Number of the event; the first is 0.
    pub seq: u64,
    /// Kind of event; determines the meaning of `data`.
    pub kind: EventKind,
    /// The test that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<String>,
    /// Text for `stdout` and `stderr`, a word for `state`, `compile` and `test`, figures for
    /// `usage`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<EventData>,
    /// Output that is not UTF-8, in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_b64: Option<String>,
    /// Number of bytes of output before this event that this reader missed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropped_bytes: Option<u64>,
}

/// Kinds of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// The submission was admitted; always the first event.
    Accepted,
    /// `running`: it has a sandbox.
    State,
    /// The compile step has ended: its outcome.
    Compile,
    /// A test has ended: its verdict.
    Test,
    /// A piece of standard output.
    Stdout,
    /// A piece of standard error.
    Stderr,
    /// What the running program has used so far, twice a second.
    Usage,
}

impl EventKind {
    pub fn as_str(self) -> &'static str {
        match self {
            EventKind::Accepted => "accepted",
            EventKind::State => "state",
            EventKind::Compile => "compile",
            EventKind::Test => "test",
            EventKind::Stdout => "stdout",
            EventKind::Stderr => "stderr",
            EventKind::Usage => "usage",
        }
    }
}

/// Data of an event.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum EventData {
    /// Data of `compile`.
    Outcome(Outcome),
    /// Data of `test`.
    Verdict(Verdict),
    /// Data of `stdout` and `stderr`; `running`, of `state`.
    Text(String),
    /// Data of `usage`.
    Usage(UsageRow),
}

/// What the running program has used so far.
#[derive(Debug, Serialize, JsonSchema)]
pub struct UsageRow {
    /// Wall time so far.
    pub wall_ms: f64,
    /// CPU time so far.
    pub cpu_ms: f64,
    /// Memory in use.
    pub memory_bytes: u64,
}

/// The error of a response.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ErrorBody<'a> {
    /// The JSON-RPC error number.
    pub code: i64,
    /// Text for a human.
    pub message: &'a str,
    /// The same for programs.
    pub data: ErrorData<'a>,
}

/// An error for programs.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ErrorData<'a> {
    /// One of a closed list; treat an unknown code as `internal`.
    pub code: Code,
    /// Text for a human.
    pub message: &'a str,
    /// Path of the field of the request that is at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<&'a str>,
    /// When to try again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}
