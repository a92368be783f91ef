//! A validated submission: typed, with blobs resolved and limits complete. Every error in a request
//! was reported before a [`Work`] exists.
//!
//! Work is stored as JSON when a daemon hands its queue to the next one, so its field names are a
//! format.

use std::collections::{BTreeMap, BTreeSet};
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

/// An environment that several tests may share: names and values.
pub type SharedEnv = Arc<[(String, String)]>;

/// One execution of a program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProgramStep {
    /// The program and its arguments. Tests that add none share them, and the environment.
    pub argv: Arc<[String]>,
    pub env: SharedEnv,
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
    Compare(Arc<CheckerSpec>),
    /// By a checker program, with these arguments after those of its protocol.
    Program(usize, Arc<[String]>),
    /// By the interactor, with these arguments after those of its protocol.
    Interactor(usize, Arc<[String]>),
    /// By a static validator, with these arguments after those of its protocol: the program is not
    /// run.
    Static(usize, Arc<[String]>),
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
    /// Of a static validator: the submission's language and entry, as its first arguments.
    #[serde(default)]
    pub subject: Vec<String>,
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
    Tests(#[serde(with = "stored_tests")] Vec<PlannedTest>),
    /// Test files with a runner of their own.
    Suite(Suite),
}

/// Memory of a text in a list besides its bytes: the text itself, and its place on the heap.
const WORD_BYTES: u64 = 40;

/// Memory of a command line.
pub(super) fn words_bytes(words: &[String]) -> u64 {
    words.iter().map(|word| word.len() as u64 + WORD_BYTES).sum()
}

/// Memory of an environment.
pub(super) fn variables_bytes(variables: &[(String, String)]) -> u64 {
    variables.iter().map(|(name, value)| (name.len() + value.len()) as u64 + 2 * WORD_BYTES).sum()
}

fn files_bytes(files: &[WorkFile]) -> u64 {
    files.iter().map(|file| (file.data.len() + file.path.len() + size_of::<WorkFile>()) as u64).sum()
}

/// Adds up what a submission holds, and counts what several tests share once.
#[derive(Default)]
struct WorkSize {
    bytes: u64,
    /// The shared values that are counted, by address.
    counted: BTreeSet<usize>,
}

impl WorkSize {
    fn shared<T>(&mut self, values: &Arc<[T]>, bytes: fn(&[T]) -> u64) {
        if self.counted.insert(values.as_ptr().addr()) {
            self.bytes += bytes(values);
        }
    }

    fn step(&mut self, step: &ProgramStep) {
        self.shared(&step.argv, words_bytes);
        self.shared(&step.env, variables_bytes);
        self.bytes += step.stdin.len() as u64 + files_bytes(&step.files);
    }

    fn test(&mut self, test: &PlannedTest) {
        self.step(&test.step);
        let texts = test.name.len() + test.group.as_ref().map_or(0, String::len);
        self.bytes += (size_of::<PlannedTest>() + texts + test.expect.as_ref().map_or(0, Bytes::len)) as u64;
        match &test.checker {
            Checker::Compare(_) => {}
            Checker::Program(_, args) | Checker::Interactor(_, args) | Checker::Static(_, args) => {
                self.shared(args, words_bytes);
            }
        }
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
    pub fn commands(&self, is_cached: bool) -> Vec<Arc<[String]>> {
        let compile = self.compile.iter().filter(|_| !is_cached).map(|compile| &compile.step);
        let mut commands: Vec<Arc<[String]>> = compile.chain(self.runs()).map(|step| step.argv.clone()).collect();
        commands.dedup();
        commands
    }

    /// The steps of its plan.
    fn runs(&self) -> impl Iterator<Item = &ProgramStep> {
        let (one, tests) = match &self.plan {
            Plan::Run(step) => (Some(step), &[][..]),
            Plan::Tests(tests) => (None, tests.as_slice()),
            Plan::Suite(suite) => (Some(&suite.step), &[][..]),
        };
        one.into_iter().chain(tests.iter().map(|test| &test.step))
    }

    /// Bytes that it holds in memory: files, inputs, expected outputs, commands and environments.
    pub fn bytes(&self) -> u64 {
        let mut size = WorkSize { bytes: files_bytes(&self.files), ..WorkSize::default() };
        self.compile.iter().for_each(|compile| size.step(&compile.step));
        match &self.plan {
            Plan::Run(step) => size.step(step),
            Plan::Tests(tests) => tests.iter().for_each(|test| size.test(test)),
            Plan::Suite(suite) => {
                size.step(&suite.step);
                size.bytes += suite.sources.values().map(|text| text.len() as u64).sum::<u64>();
            }
        }
        for referee in &self.referees {
            size.bytes += files_bytes(&referee.files);
            size.step(&referee.step);
            referee.compile.iter().for_each(|compile| size.step(&compile.step));
        }
        size.bytes
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
    /// The language that the caller named; its profile may name another one for suites.
    #[serde(default)]
    pub language: String,
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

/// The tests of a saved submission. Tests share their command line, their environment and their
/// checker's arguments, and a file holds each of them once: what is null is that of the test
/// before.
mod stored_tests {
    use std::sync::Arc;

    use serde::de::Error as _;
    use serde::ser::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use serde_json::Value;

    use super::{Checker, PlannedTest};

    /// What tests share, in the JSON of a test.
    const SHARED: [&str; 5] =
        ["/step/argv", "/step/env", "/checker/Program/1", "/checker/Interactor/1", "/checker/Static/1"];

    pub fn serialize<S: Serializer>(tests: &[PlannedTest], to: S) -> Result<S::Ok, S::Error> {
        let mut before = [const { None }; SHARED.len()];
        to.collect_seq(tests.iter().map(|test| StoredTest(without_repeats(test, &mut before))))
    }

    /// A test as it is written, or why it cannot be.
    struct StoredTest(serde_json::Result<Value>);

    impl Serialize for StoredTest {
        fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
            self.0.as_ref().map_err(S::Error::custom)?.serialize(to)
        }
    }

    /// The JSON of a test without what it has in common with the test before.
    fn without_repeats(test: &PlannedTest, before: &mut [Option<Value>; SHARED.len()]) -> serde_json::Result<Value> {
        let mut json = serde_json::to_value(test)?;
        for (path, before) in SHARED.iter().zip(before) {
            let Some(value) = json.pointer_mut(path) else { continue };
            match before {
                Some(before) if before == value => *value = Value::Null,
                _ => *before = Some(value.clone()),
            }
        }
        Ok(json)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<PlannedTest>, D::Error> {
        let mut before = [const { None }; SHARED.len()];
        let mut tests: Vec<PlannedTest> = Vec::new();
        for mut json in Vec::<Value>::deserialize(from)? {
            for (path, before) in SHARED.iter().zip(&mut before) {
                match (json.pointer_mut(path), &before) {
                    (Some(value @ Value::Null), Some(before)) => *value = Value::clone(before),
                    (Some(value), _) => *before = Some(value.clone()),
                    (None, _) => {}
                }
            }
            let mut test: PlannedTest = serde_json::from_value(json).map_err(D::Error::custom)?;
            if let Some(before) = tests.last() {
                share(&mut test, before);
            }
            tests.push(test);
        }
        Ok(tests)
    }

    /// Lets a test share with the one before what is equal.
    fn share(test: &mut PlannedTest, before: &PlannedTest) {
        fn same<T: PartialEq>(value: &mut Arc<[T]>, before: &Arc<[T]>) {
            if *value == *before {
                *value = before.clone();
            }
        }
        same(&mut test.step.argv, &before.step.argv);
        same(&mut test.step.env, &before.step.env);
        match (&mut test.checker, &before.checker) {
            (Checker::Program(_, args), Checker::Program(_, before))
            | (Checker::Static(_, args), Checker::Static(_, before))
            | (Checker::Interactor(_, args), Checker::Interactor(_, before)) => same(args, before),
            _ => {}
        }
    }
}
