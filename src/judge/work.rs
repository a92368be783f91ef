//! A validated submission: typed, with blobs resolved and limits complete. Every error in a request
//! was reported before a [`Work`] exists.
//!
//! Work is stored as JSON when a daemon hands its queue to the next one, so its field names are a
//! format.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use protocol::caller::Caller;
use protocol::isolation::IsolationRequest;
use protocol::limits::Limits;
use protocol::profile::Profile;
use protocol::submission::{CheckerSpec, Protocol, Stop, SuiteFormat};

/// A file to write into the sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkFile {
    /// Relative to the box.
    pub path: String,
    /// The nine permission bits.
    pub mode: u32,
    #[serde(with = "base64")]
    pub data: Bytes,
}

/// One execution of a program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProgramStep {
    /// The program and its arguments.
    pub argv: Vec<String>,
    pub env: Vec<(String, String)>,
    pub limits: Limits,
    #[serde(with = "base64")]
    pub stdin: Bytes,
    /// Files that exist during this step only.
    pub files: Vec<WorkFile>,
}

/// A compile step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CompileStep {
    pub step: ProgramStep,
    /// Patterns of the files that it makes.
    pub keep: Vec<String>,
}

/// A test of a submission.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedTest {
    pub name: String,
    pub step: ProgramStep,
    /// The expected output; without it, exit status 0 is accepted.
    #[serde(with = "maybe_base64")]
    pub expect: Option<Bytes>,
    /// Whether messages must not show the expected output.
    pub secret: bool,
    /// Points that the test gives.
    pub weight: f64,
    pub group: Option<String>,
    pub checker: Checker,
}

/// How a test's output is judged. The index is one of [`Work::referees`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Checker {
    /// By comparison with the expected output.
    Compare(Box<CheckerSpec>),
    /// By a checker program, with these arguments after those of its protocol.
    Program(usize, Vec<String>),
    /// By the interactor, with these arguments after those of its protocol.
    Interactor(usize, Vec<String>),
}

/// A checker or interactor, which runs in a sandbox of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Referee {
    #[serde(with = "shared")]
    pub profile: Arc<Profile>,
    pub files: Vec<WorkFile>,
    pub compile: Option<CompileStep>,
    /// Its step without what each test adds: input, files and the arguments of its protocol.
    pub step: ProgramStep,
    pub protocol: Protocol,
}

/// Test files run against the submission.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Suite {
    /// The command that runs them, with the test files.
    pub step: ProgramStep,
    pub format: SuiteFormat,
    /// Paths of the submission's Python files.
    #[serde(default)]
    pub own: Vec<String>,
    /// The test files' sources by path, if the code under test runs in a process of its own: they
    /// are not in the sandbox's file system then.
    #[serde(default)]
    pub sources: BTreeMap<String, String>,
}

/// What a submission runs after its compile step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Plan {
    /// One run, judged by its exit status.
    Run(ProgramStep),
    /// Tests, run in order.
    Tests(Vec<PlannedTest>),
    /// Test files with a runner of their own.
    Suite(Suite),
}

impl ProgramStep {
    fn bytes(&self) -> u64 {
        self.stdin.len() as u64 + self.files.iter().map(|file| file.data.len() as u64).sum::<u64>()
    }
}

/// The limits of a sandbox that has room for the compile step and the runs.
fn sandbox_limits(run: &Limits, compile: Option<&CompileStep>) -> Limits {
    let compile_bytes = compile.map_or(0, |compile| compile.step.limits.memory_bytes);
    Limits { memory_bytes: run.memory_bytes.max(compile_bytes), ..*run }
}

impl Referee {
    /// The limits that its sandbox needs.
    pub fn sandbox_limits(&self) -> Limits {
        sandbox_limits(&self.step.limits, self.compile.as_ref())
    }
}

impl Work {
    /// The limits that its sandbox needs.
    pub fn sandbox_limits(&self) -> Limits {
        sandbox_limits(&self.limits, self.compile.as_ref())
    }

    /// The commands of its steps, each once, in order; without the compile step's if that was
    /// cached.
    pub fn commands(&self, is_cached: bool) -> Vec<Vec<String>> {
        let compile = self.compile.iter().filter(|_| !is_cached).map(|compile| &compile.step);
        let runs: Vec<&ProgramStep> = match &self.plan {
            Plan::Run(step) => vec![step],
            Plan::Tests(tests) => tests.iter().map(|test| &test.step).collect(),
            Plan::Suite(suite) => vec![&suite.step],
        };
        let mut commands: Vec<Vec<String>> = compile.chain(runs).map(|step| step.argv.clone()).collect();
        commands.dedup();
        commands
    }

    /// Bytes that it holds in memory: files, inputs and expected outputs.
    pub fn bytes(&self) -> u64 {
        let files: u64 = self.files.iter().map(|file| file.data.len() as u64).sum();
        let plan: u64 = match &self.plan {
            Plan::Run(step) => step.bytes(),
            Plan::Tests(tests) => tests
                .iter()
                .map(|test| test.step.bytes() + test.expect.as_ref().map_or(0, |expect| expect.len() as u64))
                .sum(),
            Plan::Suite(suite) => {
                suite.step.bytes() + suite.sources.values().map(|text| text.len() as u64).sum::<u64>()
            }
        };
        let referees = self.referees.iter().flat_map(|referee| &referee.files);
        files + plan + referees.map(|file| file.data.len() as u64).sum::<u64>()
    }
}

fn one() -> u32 {
    1
}

/// A submission that is ready to be judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Work {
    pub id: String,
    pub caller: Caller,
    #[serde(with = "shared")]
    pub profile: Arc<Profile>,
    /// A profile whose runtime has loaded what the program imports. Its sandboxes do as well.
    #[serde(skip)]
    pub loaded: Option<Arc<Profile>>,
    pub files: Vec<WorkFile>,
    pub compile: Option<CompileStep>,
    pub plan: Plan,
    pub referees: Vec<Referee>,
    /// How often a test may be run.
    #[serde(default = "one")]
    pub passes: u32,
    /// On how many sandboxes at most the tests run at the same time.
    #[serde(default = "one")]
    pub parallel: u32,
    /// Whether the caller sends more input during the run.
    pub stdin_open: bool,
    pub stop: Stop,
    /// The run limits, which set the sandbox's CPU share and processes, and the least of its
    /// memory.
    pub limits: Limits,
    /// Whether output beyond its limit is cut off instead of ending the run.
    pub truncate_output: bool,
    pub isolation: IsolationRequest,
    /// Whether prewarmed runtimes may run it.
    pub prewarm: bool,
    /// Whether it needs a sandbox that serves it only.
    #[serde(default)]
    pub fresh: bool,
    /// Patterns of files to bring back from the last run.
    pub collect: Vec<String>,
    /// Time after which the caller no longer needs a report.
    pub deadline: Option<Duration>,
}

/// Bytes as a base64 string.
mod base64 {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD as BASE64;
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    pub fn serialize<S: Serializer>(bytes: &Bytes, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&BASE64.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
        let text = String::deserialize(from)?;
        BASE64.decode(text).map(Bytes::from).map_err(D::Error::custom)
    }
}

mod maybe_base64 {
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Base64Text(#[serde(with = "super::base64")] Bytes);

    pub fn serialize<S: Serializer>(bytes: &Option<Bytes>, to: S) -> Result<S::Ok, S::Error> {
        bytes.clone().map(Base64Text).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Bytes>, D::Error> {
        Ok(Option::<Base64Text>::deserialize(from)?.map(|Base64Text(bytes)| bytes))
    }
}

/// The value of an [`Arc`] in place of the pointer.
mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<T: Serialize, S: Serializer>(value: &Arc<T>, to: S) -> Result<S::Ok, S::Error> {
        T::serialize(value, to)
    }

    pub fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Arc<T>, D::Error> {
        T::deserialize(from).map(Arc::new)
    }
}
