//! What a caller hands in, exactly as it stands in JSON. Unknown fields are errors: a typo in a limit must not weaken a
//! sandbox.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::isolation::IsolationRequest;

use super::limits::{LimitsRequest, Preset};

/// Text, or a reference to a blob that was put before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a string or {\"blob\": id}")]
pub enum Content {
    /// The text itself.
    Text(String),
    /// A blob.
    Blob(BlobRef),
}

/// A reference to a blob.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BlobRef {
    /// The id that `blob.put` answered.
    pub blob: String,
}

/// One file of a submission.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileSpec {
    /// Relative, `/` between components, no `..`.
    pub path: String,
    /// The content as text or as a blob.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Content>,
    /// The content as base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_b64: Option<String>,
    /// Permission bits as an octal string such as `"0755"`, or as a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<FileMode>,
}

/// A file mode.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected an octal string such as \"0755\" or a number")]
pub enum FileMode {
    /// A number.
    Number(u32),
    /// An octal string.
    Octal(String),
}

/// How output is compared with what is expected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckerKind {
    /// Byte for byte.
    Exact,
    /// Line by line; space at the end of lines and empty lines at the end don't count.
    Lines,
    /// Words; any white space separates.
    #[default]
    Tokens,
    /// Words, numbers among them within a tolerance: as near as `absolute`, or as `relative` to what was expected; 1e-6 each
    /// when neither is given.
    Float,
    /// A program decides, in a sandbox of its own.
    Program,
}

/// A checker and its options.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CheckerSpec {
    /// Which.
    pub kind: CheckerKind,
    /// Letters compare without case.
    pub case_insensitive: bool,
    /// For `lines`: in any order.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unordered: bool,
    /// For `float`: how far off a number may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub absolute: Option<f64>,
    /// For `float`: how far off a number may be, as a part of what was expected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relative: Option<f64>,
    /// For `program`: its profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// For `program`: its files.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileSpec>,
    /// For `program`: the file to start with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// For `program`: arguments after those of its protocol.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// For `program`: its limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitsRequest>,
    /// For `program`: how it is called and how it answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
}

/// How a program that judges is called, and how it answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// The ICPC problem package's: input, answer and feedback folder as arguments, the output on stdin; exit status 42 is right,
    /// 43 is wrong.
    #[default]
    Icpc,
    /// testlib's: input, output and answer as arguments; exit status 0 is right, 1, 2, 4 and 8 are wrong, 7 and 50 to 250 give
    /// points.
    Testlib,
}

/// A program that talks with the submission and judges it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct InteractorSpec {
    /// Its profile.
    pub language: String,
    /// Its files.
    pub files: Vec<FileSpec>,
    /// The file to start with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// Arguments after those of its protocol.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Its limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitsRequest>,
    /// How it is called and how it answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
}

/// In which form test files say how it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SuiteFormat {
    /// pytest, through a plugin of ours.
    Pytest,
    /// JUnit's XML in files that the command writes.
    Junit,
    /// TAP on stdout.
    Tap,
    /// The command's exit status: one case.
    Exit,
}

/// PlannedTest files that are run against the submission.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SuiteSpec {
    /// The test files.
    pub files: Vec<FileSpec>,
    /// What runs them; for pytest it may be absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// In which form it says how it went.
    pub format: SuiteFormat,
}

/// One test.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TestSpec {
    /// Its name; its number when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Standard input.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdin: Option<Content>,
    /// Standard input as base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdin_b64: Option<String>,
    /// Arguments after the submission's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Environment beside the submission's.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Files that are there for this test only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileSpec>,
    /// Expected output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expect: Option<Content>,
    /// Expected output as base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expect_b64: Option<String>,
    /// Whether messages must not show what was expected.
    pub secret: bool,
    /// Points.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    /// A name that tests share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// `cpu_ms`, `wall_ms`, `output_bytes` and `file_bytes` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitsRequest>,
    /// How output is compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checker: Option<CheckerSpec>,
}

/// When to stop testing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// Run all tests.
    #[default]
    Never,
    /// Skip what comes after the first test that is not accepted.
    FirstFailure,
}

/// A submission.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["language", "files"]))]
pub struct Submission {
    /// Idempotent per uid and tenant; made by the daemon when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Whom the caller acts for, at most 128 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// A profile's name.
    pub language: String,
    /// The code.
    pub files: Vec<FileSpec>,
    /// The file to start with; the profile's when absent (or the only file).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// Instead of the profile's run command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Arguments after the command.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Environment beside the profile's.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Standard input of the run, and of tests that have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdin: Option<Content>,
    /// Standard input as base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdin_b64: Option<String>,
    /// Whether more input is fed while it runs, by `submission.input`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stdin_open: bool,
    /// Limits start from this preset instead of the profile's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<Preset>,
    /// Limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitsRequest>,
    /// Limits of the compile step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compile_limits: Option<LimitsRequest>,
    /// Whether a prewarmed runtime may serve it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prewarm: Option<bool>,
    /// The tests.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tests: Vec<TestSpec>,
    /// When to stop.
    pub stop: Stop,
    /// How the output of tests without a checker of their own is compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checker: Option<CheckerSpec>,
    /// PlannedTest files run against the submission.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suite: Option<SuiteSpec>,
    /// An interactive partner, which judges too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interactor: Option<InteractorSpec>,
    /// Files to bring back from the last run: `*` and `?` within a name, `**` for any number of folders.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub collect: Vec<String>,
    /// Whether output beyond its limit is cut instead of ending the run.
    pub truncate_output: bool,
    /// The caller has no use for an answer after this time, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// Which isolation.
    pub isolation: IsolationRequest,
}
