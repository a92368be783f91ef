//! A program that judges, on a sandbox of its own: compiled once, then asked about each test.
//!
//! It finds a test under [`CASE`]: `input`, `answer`, for testlib `output`, and for icpc a folder for its feedback. What it
//! was handed stays out of the submission's sandbox, and nothing of the submission but its output comes into this one.
//!
//! ```text
//!  prepare --> ready --test--> ruling | broken (it crashed, hung, flooded, said nonsense) --> next test
//!     '--> broken for all tests (it does not compile)
//! ```

use bytes::Bytes;

use super::cache::{Cache, CacheKey};
use super::decide;
use super::pipe::Pipe;
use super::ruling::{CheckerResult, Feedback, ruling, text};
use super::runner::{CancelSignal, RunIo, Runner};
use crate::work::{PlannedTest, ProgramStep, Referee, WorkFile};
use protocol::RunFacts;
use protocol::submission::Protocol;
use sandbox::lifecycle::{Lost, Sandbox};

/// Where a test's files lie, below the box.
pub const CASE: &str = "case";

/// A referee at its place.
pub(super) struct RefereeRunner<'a> {
    runner: Runner<'a>,
    referee: &'a Referee,
    /// Why it cannot judge at all.
    broken: Option<String>,
}

impl<'a> RefereeRunner<'a> {
    pub fn new(sandbox: &'a mut Sandbox, referee: &'a Referee, cancel: CancelSignal) -> RefereeRunner<'a> {
        let runner = Runner::new(sandbox, &referee.profile, &referee.files, true, cancel);
        RefereeRunner { runner, referee, broken: None }
    }

    /// Compiles it.
    pub async fn prepare(&mut self, cache: Option<(&Cache, CacheKey)>) -> Result<(), Lost> {
        let Some(compile) = &self.referee.compile else { return Ok(()) };
        let facts = self.runner.compile(compile, cache).await?.facts;
        if decide::compile_verdict(&facts).is_some() {
            let words = text(&facts.stderr).unwrap_or_else(|| decide::message(&facts, &compile.step.limits));
            self.broken = Some(format!("does not compile: {words}"));
        }
        Ok(())
    }

    /// Why it cannot judge at all.
    pub fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// Judges an output.
    pub async fn check(
        &mut self,
        test: &PlannedTest,
        args: &[String],
        output: &[u8],
    ) -> Result<Result<CheckerResult, String>, Lost> {
        let output = Bytes::copy_from_slice(output);
        let mut step = self.case(test, args);
        match self.referee.protocol {
            Protocol::Icpc => step.stdin = output,
            Protocol::Testlib => step.files.push(file("output", output)),
        }
        let facts = self.runner.step(&step, &[], RunIo::default()).await?;
        self.rule(test, &facts).await
    }

    /// Talks with the submission, and judges it. The facts are its own.
    pub async fn talk(
        &mut self,
        test: &PlannedTest,
        args: &[String],
        hears: &Pipe,
        says: &Pipe,
    ) -> Result<RunFacts, Lost> {
        let mut step = self.case(test, args);
        // it goes on when the submission has used its time up
        step.limits.wall = test.step.limits.wall + step.limits.wall;
        // words that are cut would leave the other waiting for them
        self.runner.truncate_output = false;
        let ports = RunIo { output: Some(says), input: Some(hears), forgets_stdout: true, ..RunIo::default() };
        self.runner.step(&step, &[], ports).await
    }

    /// What came of its run.
    pub async fn rule(&mut self, test: &PlannedTest, facts: &RunFacts) -> Result<Result<CheckerResult, String>, Lost> {
        let left = match self.referee.protocol {
            Protocol::Icpc => self.feedback().await?,
            Protocol::Testlib => Feedback::default(),
        };
        Ok(ruling(self.referee.protocol, facts, left, test.weight))
    }

    async fn feedback(&mut self) -> Result<Feedback, Lost> {
        let names = ["judgemessage.txt", "teammessage.txt", "score.txt"];
        let patterns = names.map(|name| format!("{CASE}/feedback/{name}"));
        let brought = self.runner.collect(&patterns).await?;
        let [judge, team, score] = patterns.map(|path| {
            let found = brought.files.iter().find(|(known, _)| *known == path);
            found.and_then(|(_, bytes)| text(bytes))
        });
        Ok(Feedback { judge, team, score })
    }

    /// Its step for a test: files, and the arguments of its protocol.
    fn case(&self, test: &PlannedTest, more: &[String]) -> ProgramStep {
        let mut step = self.referee.step.clone();
        let answer = test.expect.clone().unwrap_or_default();
        step.files = vec![file("input", test.step.stdin.clone()), file("answer", answer)];
        let path = |name: &str| format!("/box/{CASE}/{name}");
        let args = match self.referee.protocol {
            Protocol::Icpc => {
                // a folder is there when a file in it is
                step.files.push(file("feedback/.keep", Bytes::new()));
                vec![path("input"), path("answer"), path("feedback/")]
            }
            Protocol::Testlib => vec![path("input"), path("output"), path("answer")],
        };
        step.argv.extend(args);
        step.argv.extend_from_slice(more);
        step
    }

    /// Whether it is asked again after the next time.
    pub fn expect_more(&mut self, more: bool) {
        self.runner.more = more;
    }

    /// What ends its runs.
    pub fn cancel(&mut self) -> &mut CancelSignal {
        &mut self.runner.cancel
    }

    /// What its runs took.
    pub fn spent(&self) -> std::time::Duration {
        self.runner.timings.compile + self.runner.timings.run
    }
}

fn file(name: &str, data: Bytes) -> WorkFile {
    WorkFile { path: format!("{CASE}/{name}"), mode: 0o444, data }
}
