//! What a caller gets back, exactly as it stands in JSON. Clients ignore fields they don't know.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::outcome::{Evidence, Outcome};
use super::submission::BlobRef;
use super::verdict::Verdict;

/// Whose fault a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Blame {
    /// The submission killed its sandbox again and again.
    Caller,
    /// The host's engine, machine or network.
    Host,
    /// Ours.
    Assay,
}

/// How the sandbox came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StartKind {
    /// A runtime was already running in it.
    Hot,
    /// It was waiting in the pool.
    Warm,
    /// It was made for this submission.
    Cold,
}

/// Output in a report: text, or a blob when it is large.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Output {
    /// The text.
    Text(String),
    /// A blob to fetch with `blob.get`.
    Blob(BlobRef),
}

impl Default for Output {
    fn default() -> Self {
        Output::Text(String::new())
    }
}

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunReport {
    /// What happened.
    pub outcome: Outcome,
    /// The exit status.
    pub exit_code: Option<i32>,
    /// The signal.
    pub signal: Option<i32>,
    /// CPU time in milliseconds.
    pub cpu_ms: f64,
    /// Wall time in milliseconds.
    pub wall_ms: f64,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// stdout, when it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout: Option<Output>,
    /// stdout as base64, when it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout_b64: Option<String>,
    /// stderr, when it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr: Option<Output>,
    /// stderr as base64, when it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr_b64: Option<String>,
    /// Whether stdout was cut.
    pub stdout_truncated: bool,
    /// Whether stderr was cut.
    #[serde(default)]
    pub stderr_truncated: bool,
    /// The evidence.
    pub evidence: Evidence,
    /// For a compile step: whether its artifact came from the cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached: Option<bool>,
}

/// One test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TestReport {
    /// Its name.
    pub name: String,
    /// Its verdict.
    pub verdict: Verdict,
    /// For people.
    pub message: String,
    /// Its group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Points it gave.
    #[serde(default)]
    pub points: f64,
    /// What a checker says to who wrote the problem; not of a secret test.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feedback: Option<String>,
    /// What was said in an interactive test, in order; not of a secret test.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub transcript: Vec<TranscriptEntry>,
    /// Whether more was said.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub transcript_truncated: bool,
    /// Its run; absent when it was skipped.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunReport>,
}

/// What one side said, until the other did.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TranscriptEntry {
    /// `submission` or `interactor`.
    pub from: String,
    /// The words, when they are UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// The same as base64, when they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_b64: Option<String>,
}

/// One case of a suite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CaseReport {
    /// Its name.
    pub name: String,
    /// `accepted`, `wrong_answer` (an assertion), `runtime_error` (anything else), `skipped`.
    pub verdict: Verdict,
    /// What it says.
    pub message: String,
    /// How long it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<f64>,
}

/// What test files say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SuiteReport {
    /// The cases.
    pub cases: Vec<CaseReport>,
    /// Cases that passed.
    pub passed: usize,
    /// Cases in which an assertion failed, or something else went wrong.
    pub failed: usize,
    /// Cases and files that could not be tried.
    pub errors: usize,
    /// Cases that were skipped.
    pub skipped: usize,
    /// The run.
    pub run: RunReport,
}

/// Points.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Score {
    /// Tests accepted.
    pub passed: usize,
    /// Tests in all.
    pub total: usize,
    /// Points given.
    pub points: f64,
    /// Points possible.
    pub max_points: f64,
}

/// Where the time went, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Timing {
    /// Waiting for a sandbox.
    pub queue_ms: f64,
    /// Taking it (a container update included, when limits differ from the pool's).
    pub lease_ms: f64,
    /// Handing the files over.
    pub copy_in_ms: f64,
    /// The compile step.
    pub compile_ms: f64,
    /// All runs.
    pub run_ms: f64,
    /// Checkers and interactors.
    pub check_ms: f64,
    /// Bringing files back.
    pub collect_ms: f64,
    /// From the request's last byte to the report.
    pub total_ms: f64,
    /// The part of `run_ms` that is neither set-up nor program: wire, engine's copying, daemon.
    pub overhead_ms: f64,
    /// The part of `run_ms` that the init took to clean, fork and exec.
    pub setup_ms: f64,
}

/// A file that was to be brought back.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct FileReport {
    /// Its path below the box.
    pub path: String,
    /// Its size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// What is in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<Output>,
    /// The same, where it is no UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_b64: Option<String>,
    /// Why it is not here: `not_a_file`, `too_large`, `too_many`, `name`, `unreadable`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Which sandbox it was.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SandboxInfo {
    /// Container id, 12 digits.
    pub id: String,
    /// The host's name.
    pub host: String,
    /// The profile's image, pinned.
    pub image: String,
    /// The profile.
    pub profile: String,
    /// `split` or `cell`.
    pub isolation: String,
    /// The Engine's version.
    pub engine: String,
}

/// The answer to a submission.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// The submission's id.
    pub id: String,
    /// The verdict.
    pub verdict: Verdict,
    /// For people.
    pub message: String,
    /// The compile step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compile: Option<RunReport>,
    /// The tests.
    #[serde(default)]
    pub tests: Vec<TestReport>,
    /// The run, when there are no tests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunReport>,
    /// What the test files say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suite: Option<SuiteReport>,
    /// Points.
    pub score: Score,
    /// Where the time went.
    pub timing: Timing,
    /// How the sandbox came about; absent when none was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<StartKind>,
    /// Which sandbox; absent when none was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<SandboxInfo>,
    /// Files brought back.
    #[serde(default)]
    pub files: Vec<FileReport>,
    /// Whose fault.
    pub blame: Option<Blame>,
}
