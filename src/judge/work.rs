//! A submission after validation: whole, typed, blobs resolved, limits settled. Everything that can be wrong with a
//! request has been said before one of these exists.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use protocol::caller::Caller;
use protocol::isolation::IsolationRequest;
use protocol::limits::Limits;
use protocol::profile::Profile;
use protocol::submission::{CheckerSpec, Protocol, Stop, SuiteFormat};

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkFile {
    /// Relative to the box.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// The content.
    #[serde(with = "base64")]
    pub data: Bytes,
}

/// One step that runs a program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProgramStep {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Environment.
    pub env: Vec<(String, String)>,
    /// Limits.
    pub limits: Limits,
    /// Standard input.
    #[serde(with = "base64")]
    pub stdin: Bytes,
    /// Files for this step only.
    pub files: Vec<WorkFile>,
}

/// The compile step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CompileStep {
    /// What to run.
    pub step: ProgramStep,
    /// What it makes.
    pub keep: Vec<String>,
}

/// One test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedTest {
    /// Its name.
    pub name: String,
    /// What to run.
    pub step: ProgramStep,
    /// Expected output; without it, exit 0 is accepted.
    #[serde(with = "maybe_base64")]
    pub expect: Option<Bytes>,
    /// Whether messages must not show what was expected.
    pub secret: bool,
    /// Points.
    pub weight: f64,
    /// A name that tests share.
    pub group: Option<String>,
    /// How output is judged.
    pub checker: Checker,
}

/// How output is judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Checker {
    /// By comparison with what is expected.
    Compare(Box<CheckerSpec>),
    /// By one of the work's referees, with these arguments after those of its protocol.
    Program(usize, Vec<String>),
    /// By the program that talks with it: one of the work's referees, with these arguments.
    Interactor(usize, Vec<String>),
}

/// A program that judges, in a sandbox of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Referee {
    /// The recipe.
    #[serde(with = "shared")]
    pub profile: Arc<Profile>,
    /// Its code.
    pub files: Vec<WorkFile>,
    /// Its compile step.
    pub compile: Option<CompileStep>,
    /// How it is run; input, files and the arguments of its protocol come with each test.
    pub step: ProgramStep,
    /// How it is called and how it answers.
    pub protocol: Protocol,
}

/// PlannedTest files run against the submission.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Suite {
    /// What runs them, with the test files beside the code.
    pub step: ProgramStep,
    /// In which form it says how it went.
    pub format: SuiteFormat,
}

/// What is to be run once files (and artifact) are in place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Plan {
    /// One run, judged by its exit status.
    Run(ProgramStep),
    /// Tests in order.
    Tests(Vec<PlannedTest>),
    /// PlannedTest files.
    Suite(Suite),
}

impl ProgramStep {
    fn bytes(&self) -> u64 {
        self.stdin.len() as u64 + self.files.iter().map(|file| file.data.len() as u64).sum::<u64>()
    }
}

impl Work {
    /// What it holds in memory: files, inputs, expectations.
    pub fn bytes(&self) -> u64 {
        let files: u64 = self.files.iter().map(|file| file.data.len() as u64).sum();
        let plan: u64 = match &self.plan {
            Plan::Run(step) => step.bytes(),
            Plan::Tests(tests) => tests
                .iter()
                .map(|test| test.step.bytes() + test.expect.as_ref().map_or(0, |expect| expect.len() as u64))
                .sum(),
            Plan::Suite(suite) => suite.step.bytes(),
        };
        let referees = self.referees.iter().flat_map(|referee| &referee.files);
        files + plan + referees.map(|file| file.data.len() as u64).sum::<u64>()
    }
}

/// A submission, ready to be judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// Its id.
    pub id: String,
    /// Who asks.
    pub caller: Caller,
    /// The recipe.
    #[serde(with = "shared")]
    pub profile: Arc<Profile>,
    /// The code.
    pub files: Vec<WorkFile>,
    /// The compile step.
    pub compile: Option<CompileStep>,
    /// What follows.
    pub plan: Plan,
    /// Programs that judge it.
    pub referees: Vec<Referee>,
    /// Whether more input is fed while it runs.
    pub stdin_open: bool,
    /// When to stop.
    pub stop: Stop,
    /// Memory, CPU share and processes of the sandbox (the run limits).
    pub limits: Limits,
    /// Whether output is cut instead of ending the run.
    pub truncate_output: bool,
    /// How it insists on being kept apart.
    pub isolation: IsolationRequest,
    /// Whether a runtime that waits may run it.
    pub prewarm: bool,
    /// Which files are brought back from the last run.
    pub collect: Vec<String>,
    /// No use for an answer after this time.
    pub deadline: Option<Duration>,
}

/// Bytes as text.
mod base64 {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    pub fn serialize<S: Serializer>(bytes: &Bytes, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
        let text = String::deserialize(from)?;
        STANDARD.decode(text).map(Bytes::from).map_err(D::Error::custom)
    }
}

mod maybe_base64 {
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Text(#[serde(with = "super::base64")] Bytes);

    pub fn serialize<S: Serializer>(bytes: &Option<Bytes>, to: S) -> Result<S::Ok, S::Error> {
        bytes.clone().map(Text).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Bytes>, D::Error> {
        Ok(Option::<Text>::deserialize(from)?.map(|Text(bytes)| bytes))
    }
}

/// What is shared, as if it stood there alone.
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
