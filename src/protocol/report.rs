//! Reports, exactly as in JSON. Clients ignore fields that they do not know.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::outcome::{Evidence, Outcome};
use super::submission::BlobRef;
use super::verdict::Verdict;

/// Whose fault a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Blame {
    /// The submission's: it killed its sandbox more than once, or its checker failed.
    Caller,
    /// The host's engine, machine or network.
    Host,
    /// The daemon's own.
    Assay,
}

impl Blame {
    /// The word in the protocol.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// What a submission started with.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::IntoStaticStr, strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum StartKind {
    /// A runtime that was already running in a ready sandbox.
    Hot,
    /// A ready sandbox of the pool.
    Warm,
    /// A sandbox that was created for this submission.
    Cold,
}

impl StartKind {
    /// The word in the protocol.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Output in a report: text, or a blob if it is large.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Output {
    /// The text itself.
    Text(String),
    /// A blob to fetch with `blob.get`.
    Blob(BlobRef),
}

impl Default for Output {
    fn default() -> Self {
        Output::Text(String::new())
    }
}

/// One run of a program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunReport {
    /// How the run ended.
    pub outcome: Outcome,
    /// The exit status, if the program exited.
    pub exit_code: Option<i32>,
    /// The signal, if one terminated the program.
    pub signal: Option<i32>,
    /// CPU time in milliseconds.
    pub cpu_ms: f64,
    /// Wall time in milliseconds; in an interactive test that of its own turns.
    pub wall_ms: f64,
    /// Peak memory in bytes.
    pub memory_bytes: u64,
    /// stdout, if it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout: Option<Output>,
    /// stdout as base64, if it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout_b64: Option<String>,
    /// stderr, if it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr: Option<Output>,
    /// stderr as base64, if it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr_b64: Option<String>,
    /// Whether stdout was longer than what was kept.
    pub stdout_truncated: bool,
    /// Whether stderr was longer than what was kept.
    #[serde(default)]
    pub stderr_truncated: bool,
    /// The evidence for the outcome.
    pub evidence: Evidence,
    /// What this run started with; absent if it did not run, because its artifact came from the
    /// cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<StartKind>,
    /// For a compile step: whether its artifact came from the cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached: Option<bool>,
}

/// The result of one test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TestReport {
    /// The test's name.
    pub name: String,
    /// The test's verdict.
    pub verdict: Verdict,
    /// A message for the submitter.
    pub message: String,
    /// The test's group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Points that it gave.
    #[serde(default)]
    pub points: f64,
    /// A checker's message for the problem author; absent for a secret test.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feedback: Option<String>,
    /// How often the program was run, if the submission has `passes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passes: Option<u32>,
    /// The conversation of an interactive test, in order; absent for a secret test.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub transcript: Vec<TranscriptEntry>,
    /// Whether the conversation was longer than what was recorded.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub transcript_truncated: bool,
    /// The test's run; absent if it was skipped.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunReport>,
}

/// What one side of a conversation wrote until the other side wrote something.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "SaidReport")]
pub struct TranscriptEntry {
    /// `submission` or `interactor`.
    pub from: String,
    /// The bytes as text, if they are UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// The bytes as base64, if they are not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_b64: Option<String>,
}

/// One case of a suite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CaseReport {
    /// The case's name.
    pub name: String,
    /// `accepted`, `wrong_answer` (an assertion), `runtime_error` (anything else), `skipped`, or
    /// the verdict of a limit that was exceeded while it ran.
    pub verdict: Verdict,
    /// The message of a case that did not pass.
    pub message: String,
    /// Duration in milliseconds, if the suite reports it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<f64>,
}

/// The result of a suite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SuiteReport {
    /// The cases, in the order of the suite's output.
    pub cases: Vec<CaseReport>,
    /// Cases that passed.
    pub passed: usize,
    /// Cases that failed, by an assertion or another error.
    pub failed: usize,
    /// Cases and files that could not be run.
    pub errors: usize,
    /// Cases that the suite's own source skips.
    pub skipped: usize,
    /// Cases that were planned and did not run, because the suite ended before their turn.
    #[serde(default)]
    pub not_run: usize,
    /// The run of the suite's command.
    pub run: RunReport,
}

/// The score of a submission.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Score {
    /// Tests that were accepted.
    pub passed: usize,
    /// Number of tests.
    pub total: usize,
    /// Points that the tests gave.
    pub points: f64,
    /// Points that the tests can give.
    pub max_points: f64,
}

/// Time spent in each part of a submission, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Timing {
    /// Waiting in the queue for a sandbox.
    pub queue_ms: f64,
    /// Taking the sandbox, including an update of its limits if they differ from the pool's.
    pub lease_ms: f64,
    /// Sending the files to the sandbox.
    pub copy_in_ms: f64,
    /// The compile step, or reading its artifact from the cache.
    pub compile_ms: f64,
    /// All runs together.
    pub run_ms: f64,
    /// Checkers and interactors.
    pub check_ms: f64,
    /// Bringing files back from the sandbox.
    pub collect_ms: f64,
    /// From the last byte of the request to the report.
    pub total_ms: f64,
    /// The part of `run_ms` outside set-up and program: connection, engine, daemon.
    pub overhead_ms: f64,
    /// The part of `run_ms` in which the init cleans up, forks and executes.
    pub setup_ms: f64,
}

/// A file that matched `collect`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct FileReport {
    /// The path, relative to the box.
    pub path: String,
    /// The size in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// The content, if it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<Output>,
    /// The content as base64, if it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_b64: Option<String>,
    /// Why the content is missing: `not_a_file`, `too_large`, `too_many`, `name`, `unreadable`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The sandbox of a submission.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SandboxInfo {
    /// The first 12 digits of the container's id.
    pub id: String,
    /// The name of its host.
    pub host: String,
    /// The image's id.
    pub image: String,
    /// The name of its profile.
    pub profile: String,
    /// `split` or `cell`.
    pub isolation: String,
    /// The version of the host's Docker Engine.
    pub engine: String,
    /// Submissions that it has served, this one included. 1 in a new sandbox.
    pub uses: u32,
}

/// The result of a submission.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// The submission's id.
    pub id: String,
    /// The verdict of the whole submission.
    pub verdict: Verdict,
    /// A message for the submitter.
    pub message: String,
    /// The compile step, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compile: Option<RunReport>,
    /// The tests, in the order of the submission.
    #[serde(default)]
    pub tests: Vec<TestReport>,
    /// The run of a submission without tests or suite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunReport>,
    /// The result of the suite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suite: Option<SuiteReport>,
    /// Tests passed and points.
    pub score: Score,
    /// Time spent in each part.
    pub timing: Timing,
    /// What it started with; absent if no sandbox was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<StartKind>,
    /// The sandbox; absent if none was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<SandboxInfo>,
    /// Files that matched `collect`.
    #[serde(default)]
    pub files: Vec<FileReport>,
    /// Whose fault a `system_error` is; null for any other verdict.
    pub blame: Option<Blame>,
}
