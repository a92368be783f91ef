//! Submissions, exactly as in JSON. Unknown fields are errors: a typo in a limit must not weaken a
//! sandbox.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::isolation::IsolationRequest;
use super::limits::{LimitsRequest, Preset};

/// Text, or a reference to a blob that was uploaded before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a string or {\"blob\": id}")]
pub enum Content {
    /// The text itself.
    Text(String),
    /// The content of a blob.
    Blob(BlobRef),
}

/// A reference to a blob.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BlobRef {
    /// The id that `blob.put` returned.
    pub blob: String,
}

/// One file of a submission.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileSpec {
    /// Relative path with `/` between components and without `..`.
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

/// The permission bits of a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected an octal string such as \"0755\" or a number")]
pub enum FileMode {
    /// The bits as a number.
    Number(u32),
    /// The bits as an octal string.
    Octal(String),
}

/// How output is compared with the expected output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckerKind {
    /// Byte by byte.
    Exact,
    /// Line by line, without white space at the end of lines and without empty lines at the end.
    Lines,
    /// Words that are separated by any white space.
    #[default]
    Tokens,
    /// Words, with numbers compared within a tolerance: `absolute`, or `relative` to the expected
    /// number. Both are 1e-6 if neither is given.
    Float,
    /// A checker program decides, in a sandbox of its own.
    Program,
}

/// A checker and its options.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CheckerSpec {
    /// The kind of checker.
    pub kind: CheckerKind,
    /// Whether letters are compared without case.
    pub case_insensitive: bool,
    /// For `lines`: whether lines may come in any order.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unordered: bool,
    /// For `float`: how far a number may differ from the expected one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub absolute: Option<f64>,
    /// For `float`: how far a number may differ, as a fraction of the expected one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relative: Option<f64>,
    /// For `program`: the name of its profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// For `program`: its source files.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileSpec>,
    /// For `program`: its entry file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// For `program`: arguments after those of its protocol.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// For `program`: its limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitsRequest>,
    /// For `program`: how it is called and how it reports its result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
}

/// How a checker or interactor is called, and how it reports its result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// As in ICPC problem packages: input, answer and feedback folder as arguments, the output on
    /// stdin; exit status 42 means correct, 43 wrong.
    #[default]
    Icpc,
    /// As in testlib: input, output and answer as arguments; exit status 0 means correct, 1, 2, 4
    /// and 8 wrong, 7 and 50 to 250 give points.
    Testlib,
    /// A static validator of a problem package: it judges the code, and the program is not run. It
    /// finds the submission's files, and what was compiled from them, in its working directory. The
    /// language, the entry and the feedback folder as arguments; exit status as with `icpc`. Only
    /// for checkers.
    Static,
}

/// A program that exchanges messages with the submission and judges it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct InteractorSpec {
    /// The name of its profile.
    pub language: String,
    /// Its source files.
    pub files: Vec<FileSpec>,
    /// Its entry file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// Arguments after those of its protocol.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Its limits for one test.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitsRequest>,
    /// How it is called and how it reports its result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
}

/// The format of a suite's results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SuiteFormat {
    /// pytest, run by the daemon's own runner.
    Pytest,
    /// JUnit XML in files that the command writes to `reports/`.
    Junit,
    /// The Test Anything Protocol on stdout.
    Tap,
    /// Files of tests for node:test.
    Node,
    /// The command's exit status: one case.
    Exit,
}

/// Test files that are run against the submission.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SuiteSpec {
    /// The test files. May be empty if there is a command.
    #[serde(default)]
    pub files: Vec<FileSpec>,
    /// The command that runs them; optional for pytest and node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// The format of the results.
    pub format: SuiteFormat,
    /// Whether the code under test runs in a process of its own, apart from its tests. Only for
    /// pytest.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub separate: bool,
}

/// A test of the submission.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TestSpec {
    /// The test's name; its number, from 1, if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Standard input of the test; the submission's if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdin: Option<Content>,
    /// Standard input as base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdin_b64: Option<String>,
    /// Arguments after the submission's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Environment variables in addition to the submission's.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Files that exist during this test only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileSpec>,
    /// The expected output; without it, exit status 0 is accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expect: Option<Content>,
    /// The expected output as base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expect_b64: Option<String>,
    /// Whether messages must not show the expected output.
    pub secret: bool,
    /// Points that the test gives; 1 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    /// The name of the group that the test belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Limits of the test: `cpu_ms`, `wall_ms`, `output_bytes` and `file_bytes` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitsRequest>,
    /// How the test's output is checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checker: Option<CheckerSpec>,
    /// Arguments for the checker program or interactor instead of its own `args`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checker_args: Option<Vec<String>>,
}

/// When to stop running tests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// Run all tests.
    #[default]
    Never,
    /// Skip all tests after the first that is not accepted.
    FirstFailure,
}

/// A program to run or to judge.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["language", "files"]))]
pub struct Submission {
    /// An id, unique per uid and tenant: the same id returns the same report. Made by the daemon if
    /// absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The customer that the caller acts for, at most 128 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The name of the profile.
    pub language: String,
    /// The source files.
    pub files: Vec<FileSpec>,
    /// The entry file. Absent: the profile's, or the only file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// The command to run instead of the profile's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Arguments after the command.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Options for the compiler, if the profile's `compile_args` allow them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub compile_args: Vec<String>,
    /// Options for the interpreter or runtime, if the profile's `run_args` allow them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub run_args: Vec<String>,
    /// Environment variables in addition to the profile's.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Standard input of the run, and of tests without stdin of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdin: Option<Content>,
    /// Standard input as base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdin_b64: Option<String>,
    /// Whether `submission.input` sends more input during the run.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stdin_open: bool,
    /// The preset that the limits start from, instead of the profile's limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<Preset>,
    /// Limits of the runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitsRequest>,
    /// Limits of the compile step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compile_limits: Option<LimitsRequest>,
    /// Whether prewarmed runtimes may run it; true if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prewarm: Option<bool>,
    /// Whether it needs a sandbox of its own, which serves no other submission before or after it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub fresh: bool,
    /// Tests, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tests: Vec<TestSpec>,
    /// When to stop running tests.
    pub stop: Stop,
    /// On how many sandboxes at most the tests run at the same time, 1 to 32; 1 if absent. Further
    /// sandboxes are used as far as they are free. Order and results are those of tests that run
    /// one after the other. Without effect with an interactor, `passes` or `collect`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parallel: Option<u32>,
    /// The checker of tests without one of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checker: Option<CheckerSpec>,
    /// How often a test may be run; 1 if absent. With more, an icpc checker or interactor that
    /// accepts may leave `nextpass.in` in its feedback folder: the input of the test's next run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passes: Option<u32>,
    /// Test files run against the submission.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suite: Option<SuiteSpec>,
    /// A program that all tests interact with, and that judges them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interactor: Option<InteractorSpec>,
    /// Patterns of files to bring back from the last run: `*` and `?` within a name, `**` for any
    /// number of folders.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub collect: Vec<String>,
    /// Whether output beyond its limit is cut off instead of ending the run.
    pub truncate_output: bool,
    /// Milliseconds after which the caller no longer needs a report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// The isolation that the submission requires.
    pub isolation: IsolationRequest,
    /// A URL that the report is sent to, signed, once it is there. Only of a caller with a token,
    /// and only to receivers that the operator named (`http.callbacks`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub callback_url: Option<String>,
}
