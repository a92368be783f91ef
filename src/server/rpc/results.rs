//! What the methods answer and what is told unasked, exactly as it stands in JSON. Clients ignore fields they don't know.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use protocol::{LimitsRequest, Outcome, Report, Verdict};
use sandbox::host::{HostState, ImageRow, SandboxRow};
use sandbox::pool::PoolState;
use scheduler::{Counters, StageRow, SubmissionPhase};

/// Of `server.hello`, the first line of a connection.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Hello {
    /// The protocol's version: 1.
    pub protocol: u32,
    /// The daemon's version.
    pub version: &'static str,
    /// The instance's name and random id.
    pub instance: String,
    /// What it takes and keeps.
    pub limits: HelloLimits,
    /// Parts of the protocol that are there.
    pub features: Vec<&'static str>,
}

/// What the daemon takes and keeps.
#[derive(Debug, Serialize, JsonSchema)]
pub struct HelloLimits {
    /// The longest line, in bytes; anything larger travels as a blob.
    pub max_line_bytes: usize,
    /// The largest blob.
    pub max_blob_bytes: u64,
    /// The largest submission, its blobs included.
    pub max_submission_bytes: u64,
    /// The largest report, without its blobs.
    pub max_report_bytes: usize,
    /// How long a report is kept for `submission.wait` and `submission.get`.
    pub report_ttl_ms: u64,
}

/// Nothing to say: `{}`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Empty {}

/// Of `submission.submit`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Submitted {
    /// The submission's id.
    pub id: String,
}

/// Where a submission stands.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StateWord {
    /// It waits.
    Queued,
    /// It has a sandbox.
    Running,
    /// It has its report.
    Done,
}

impl StateWord {
    pub(super) fn of(state: &SubmissionPhase) -> StateWord {
        match state {
            SubmissionPhase::Queued | SubmissionPhase::Acquiring | SubmissionPhase::Kept => StateWord::Queued,
            SubmissionPhase::Running | SubmissionPhase::Settling => StateWord::Running,
            SubmissionPhase::Done(_) => StateWord::Done,
        }
    }
}

/// Of `submission.get`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SubmissionState<'a> {
    /// The submission's id.
    pub id: &'a str,
    /// Where it stands.
    pub state: StateWord,
    /// Its report, when it is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<&'a Report>,
}

/// Of `submission.wait`.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
#[allow(clippy::large_enum_variant, reason = "one answer at a time")]
pub enum Waited {
    /// It is done.
    Report(Report),
    /// The time was over first.
    State(StillGoing),
}

/// A submission that is not done.
#[derive(Debug, Serialize, JsonSchema)]
pub struct StillGoing {
    /// The submission's id.
    pub id: String,
    /// Where it stands.
    pub state: StateWord,
}

/// Of `submission.list`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Submissions {
    /// One row each.
    pub submissions: Vec<SubmissionRow>,
}

/// A row of `submission.list`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SubmissionRow {
    /// Its id.
    pub id: String,
    /// Where it stands.
    pub state: StateWord,
    /// Whose it is.
    pub uid: u32,
    /// Whom the caller acted for; empty when that was not said.
    pub tenant: String,
}

/// Of `submission.logs`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Logs {
    /// The submission's id.
    pub id: String,
    /// Where it stands; the logs are there when it is done.
    pub state: StateWord,
    /// The kept output of each step.
    pub logs: Vec<LogRow>,
}

/// The kept output of a step; each stream as text, as a blob, or as base64 where it is no UTF-8.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub struct LogRow {
    /// `compile`, `run`, or the test's name.
    pub name: String,
    /// stdout, when it is UTF-8: text, or `{"blob": id}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdout: Option<protocol::report::Output>,
    /// stdout as base64, when it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdout_b64: Option<String>,
    /// stderr, when it is UTF-8: text, or `{"blob": id}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stderr: Option<protocol::report::Output>,
    /// stderr as base64, when it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stderr_b64: Option<String>,
}

/// Of `blob.put`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct BlobPut {
    /// The blob's id.
    pub blob: String,
}

/// Of `blob.get`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct BlobPiece {
    /// The piece, as base64.
    pub data_b64: String,
    /// Whether it is the last one.
    pub eof: bool,
}

/// Of `pool.list`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Pools {
    /// One row each.
    pub pools: Vec<PoolState>,
}

/// Of `host.list`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Hosts {
    /// One row each.
    pub hosts: Vec<HostRow>,
}

/// A row of `host.list`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct HostRow {
    /// Its name.
    pub name: String,
    /// Where its engine is.
    pub endpoint: String,
    /// What may be done with it.
    pub state: HostState,
    /// The engine's version; empty before it has answered.
    pub engine: String,
    /// The version of the engine's API in use; empty before it has answered.
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
    /// Sandboxes on it.
    pub sandboxes: usize,
    /// Submissions that run on it.
    pub running: usize,
    /// What its runs may take, and have taken.
    pub room: RoomRow,
}

/// A host's room for runs.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RoomRow {
    /// CPUs' worth of runs that are let in.
    pub cpus: f64,
    /// Of them taken.
    pub cpus_taken: f64,
    /// Memory of runs that are let in.
    pub memory_bytes: u64,
    /// Of it taken.
    pub memory_bytes_taken: u64,
}

/// Of `profile.list`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ProfileRows {
    /// One row each.
    pub profiles: Vec<ProfileRow>,
}

/// A row of `profile.list`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ProfileRow {
    /// What `language` says.
    pub name: String,
    /// For people.
    pub description: String,
    /// Its image.
    pub image: String,
    /// The file to start with.
    pub entry: String,
    /// Whether it has a compile step.
    pub compiled: bool,
    /// The limits of a run that asks for none.
    pub limits: Option<LimitsRequest>,
}

/// Of `sandbox.list`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Sandboxes {
    /// One row each.
    pub sandboxes: Vec<SandboxRow>,
}

/// Of `image.list`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Images {
    /// One row for each profile and host.
    pub images: Vec<ImageRow>,
}

/// Of `image.build` and `image.pull`: the first host's, and all of them.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ImagesMade {
    /// The first host's.
    #[serde(flatten)]
    pub first: ImageMade,
    /// Every host's.
    pub hosts: Vec<ImageMade>,
}

/// An image that is there now.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ImageMade {
    /// The host.
    pub host: String,
    /// The image's name.
    pub image: String,
    /// Its id.
    pub id: String,
    /// Its tag.
    pub tag: String,
    /// Whether it was made or fetched now; false when it was there.
    pub built: bool,
    /// How long that took.
    pub took_ms: u64,
}

/// Of `image.progress`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ImageProgress {
    /// Whose image.
    pub profile: String,
    /// On which host.
    pub host: String,
    /// The image.
    pub image: String,
    /// What is going on.
    pub step: String,
    /// Steps, or bytes, done.
    pub done: Option<u32>,
    /// Of so many.
    pub total: Option<u32>,
    /// A line of the log.
    pub line: Option<String>,
}

/// Of `daemon.status`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Status<'a> {
    /// The instance's name and random id.
    pub instance: &'a str,
    /// The daemon's version.
    pub version: &'static str,
    /// Since its start.
    pub uptime_ms: u64,
    /// Whether it lets nothing in any more.
    pub draining: bool,
    /// As `host.list`.
    pub hosts: Vec<HostRow>,
    /// As `pool.list`.
    pub pools: Vec<PoolState>,
    /// Who waits.
    pub queue: Queue,
    /// What came of submissions since the start.
    pub counters: &'a Counters,
    /// Where the time of the last submissions went, by stage.
    pub stages: BTreeMap<&'static str, StageRow>,
}

/// Who waits.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Queue {
    /// Let in, without a sandbox.
    pub queued: usize,
    /// With a sandbox.
    pub running: usize,
    /// How many may be let in.
    pub max: usize,
    /// Runs that wait for a sandbox.
    pub waiting: usize,
    /// The same by uid.
    pub callers: Vec<CallerRow>,
}

/// A uid that waits, or runs.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CallerRow {
    /// The uid.
    pub uid: u32,
    /// Of its runs, how many wait.
    pub waiting: usize,
    /// Of its runs, how many have a sandbox.
    pub running: usize,
}

/// Of `daemon.reload`: what the new configuration changed.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Reloaded {
    /// Hosts, by their names.
    pub hosts: ReloadedHosts,
    /// The profiles now.
    pub profiles: Vec<String>,
    /// Keys that changed and are in effect.
    pub applied: Vec<String>,
    /// What changed and is in effect only after a restart.
    pub needs_restart: Vec<String>,
}

/// Hosts, by their names.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ReloadedHosts {
    /// As they were.
    pub kept: Vec<String>,
    /// New ones.
    pub added: Vec<String>,
    /// No more.
    pub removed: Vec<String>,
}

/// Of `submission.event`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct EventBody {
    /// The submission's id.
    pub id: String,
    /// Its number; the first is 0.
    pub seq: u64,
    /// What kind, which says what `data` is.
    pub kind: EventKind,
    /// The test that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<String>,
    /// Text for `stdout` and `stderr`, a word for `state`, `compile` and `test`, figures for `usage`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<EventData>,
    /// Output that is no UTF-8, as base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_b64: Option<String>,
    /// How many bytes of output before it this reader has missed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropped_bytes: Option<u64>,
}

/// The kinds of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// It was let in; always the first, and it carries the id.
    Accepted,
    /// `running`: it has a sandbox.
    State,
    /// The compile step has ended: its outcome.
    Compile,
    /// A test has ended: its verdict.
    Test,
    /// Output.
    Stdout,
    /// Output.
    Stderr,
    /// What the program that runs has used so far, twice a second.
    Usage,
}

/// What an event carries.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum EventData {
    /// Of `compile`.
    Outcome(Outcome),
    /// Of `test`.
    Verdict(Verdict),
    /// Of `stdout` and `stderr`; `running`, of `state`.
    Text(String),
    /// Of `usage`.
    Usage(UsageRow),
}

/// What the program that runs has used so far.
#[derive(Debug, Serialize, JsonSchema)]
pub struct UsageRow {
    /// Wall time.
    pub wall_ms: f64,
    /// CPU time.
    pub cpu_ms: f64,
    /// Memory.
    pub memory_bytes: u64,
}

/// The error of a response.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ErrorBody<'a> {
    /// The JSON-RPC number.
    pub code: i64,
    /// For people.
    pub message: &'a str,
    /// The same for programs.
    pub data: ErrorData<'a>,
}

/// An error for programs.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ErrorData<'a> {
    /// One of a closed list; treat a word that you don't know as `internal`.
    pub code: super::Code,
    /// For people.
    pub message: &'a str,
    /// The request's field that is to blame, by its path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<&'a str>,
    /// When to try again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

/// As a value. What is ours always can be one.
pub(super) fn value(of: &impl Serialize) -> Value {
    serde_json::to_value(of).unwrap_or_default()
}
