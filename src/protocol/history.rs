//! Results that come from the store: history, statistics, usage over time, and what is done to the
//! store itself.

use schemars::JsonSchema;
use serde::Serialize;

/// What history says of a finished submission besides its report.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct HistoryFields {
    /// The row's key. Of several submissions with one id, the later one has the higher key.
    pub key: i64,
    /// Who called, such as `uid:1000`.
    pub principal: String,
    /// The submission's language.
    pub language: String,
    /// The verdict's word.
    pub verdict: String,
    /// Whose fault a `system_error` is; null for any other verdict.
    pub blame: Option<String>,
    /// The beginning of its report's message.
    pub message: String,
    /// When it arrived, in milliseconds since 1970.
    pub received_ms: i64,
    /// When it was answered, in milliseconds since 1970.
    pub answered_ms: i64,
    /// From its arrival to its report.
    pub total_ms: f64,
    /// CPU time of its runs.
    pub cpu_ms: f64,
    /// The most memory that one of its runs used.
    pub memory_bytes: u64,
}

/// Result of `submission.stats`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SubmissionStats {
    /// One row per language, tenant and verdict.
    pub rows: Vec<StatsRow>,
}

/// Finished submissions of one language, tenant and verdict.
#[derive(Debug, Serialize, JsonSchema)]
pub struct StatsRow {
    /// Language of the submissions.
    pub language: String,
    /// The tenant; empty if none was stated.
    pub tenant: String,
    /// Verdict of the submissions.
    pub verdict: String,
    /// How many there are.
    pub count: u64,
    /// CPU time of all.
    pub cpu_ms: f64,
    /// The mean time from arrival to report.
    pub mean_total_ms: f64,
    /// The most memory of one.
    pub max_memory_bytes: u64,
}

/// Result of `store.backup`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct StoreBackup {
    /// The folder of the copy, in the state folder: `assay.db`, and `assay.db-outputs` if there are
    /// large outputs. The next backup removes it.
    pub folder: String,
    /// Bytes of all of it.
    pub bytes: u64,
}

/// Result of `store.check`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct StoreCheck {
    /// What is wrong; empty if nothing is.
    pub findings: Vec<String>,
}

/// Result of `store.vacuum`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct StoreVacuumed {
    /// Bytes of the file now.
    pub bytes: u64,
}

/// Result of `store.forget`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct StoreForgotten {
    /// Submissions and reports that were removed.
    pub removed: u64,
}

/// What a run used over time.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RunUsage {
    /// `run`, of a suite too, or the name of the test.
    pub name: String,
    /// At most 600 points: wall time and CPU time so far in milliseconds, and memory in use in
    /// bytes.
    pub points: Vec<(f64, f64, u64)>,
}

/// The public half of the key that signs receipts.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ReceiptKeyRow {
    /// SHA-256 of the key in DER, in hexadecimal: `keyid` of signatures.
    pub id: String,
    /// The ed25519 key in PEM form.
    pub pem: String,
}
