//! A submission after validation: whole, typed, blobs resolved, limits settled. Everything that can be wrong with a
//! request has been said before one of these exists.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::limits::Limits;
use super::profile::Profile;
use super::submission::{CheckerSpec, Stop};

/// Who asks: the socket's word for the uid, the caller's word for the tenant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Caller {
    /// From SO_PEERCRED.
    pub uid: u32,
    /// Opaque; empty when none was given.
    pub tenant: String,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkFile {
    /// Relative to the box.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// The content.
    pub data: Bytes,
}

/// One step that runs a program.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Environment.
    pub env: Vec<(String, String)>,
    /// Limits.
    pub limits: Limits,
    /// Standard input.
    pub stdin: Bytes,
    /// Files for this step only.
    pub files: Vec<WorkFile>,
}

/// The compile step.
#[derive(Debug, Clone, PartialEq)]
pub struct Compile {
    /// What to run.
    pub step: Step,
    /// What it makes.
    pub keep: Vec<String>,
}

/// One test.
#[derive(Debug, Clone, PartialEq)]
pub struct Test {
    /// Its name.
    pub name: String,
    /// What to run.
    pub step: Step,
    /// Expected output; without it, exit 0 is accepted.
    pub expect: Option<Bytes>,
    /// Whether messages must not show what was expected.
    pub secret: bool,
    /// Points.
    pub weight: f64,
    /// A name that tests share.
    pub group: Option<String>,
    /// How output is compared.
    pub checker: CheckerSpec,
}

/// What is to be run once files (and artifact) are in place.
#[derive(Debug, Clone, PartialEq)]
pub enum Plan {
    /// One run, judged by its exit status.
    Run(Step),
    /// Tests in order.
    Tests(Vec<Test>),
}

impl Step {
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
        };
        files + plan
    }
}

/// A submission, ready to be judged.
#[derive(Debug, Clone)]
pub struct Work {
    /// Its id.
    pub id: String,
    /// Who asks.
    pub caller: Caller,
    /// The recipe.
    pub profile: Arc<Profile>,
    /// The code.
    pub files: Vec<WorkFile>,
    /// The compile step.
    pub compile: Option<Compile>,
    /// What follows.
    pub plan: Plan,
    /// When to stop.
    pub stop: Stop,
    /// Memory, CPU share and processes of the sandbox (the run limits).
    pub limits: Limits,
    /// Whether output is cut instead of ending the run.
    pub truncate_output: bool,
    /// No use for an answer after this time.
    pub deadline: Option<Duration>,
}
