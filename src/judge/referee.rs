//! A referee (checker or interactor) on a sandbox of its own: compiled once, then asked about each
//! test.
//!
//! It finds a test's files under [`CASE`]: `input`, `answer`, for testlib `output`, and for icpc a
//! folder for its feedback. These files stay out of the submission's sandbox, and of the submission
//! only its output enters this one.
//!
//! ```text
//!  prepare --> ready --test--> decided | broken (crash, limit, invalid status) --> next test
//!     '--> broken for all tests (does not compile)
//! ```

use std::time::Duration;

use bytes::Bytes;

use super::cache::{Cache, CacheKey};
use super::cancel::CancelSignal;
use super::checker_result::{CheckerResult, Feedback, checker_result, feedback_text};
use super::decide;
use super::pipe::Pipe;
use super::runner::Runner;
use super::supervise::RunIo;
use crate::work::{PlannedTest, ProgramStep, Referee, WorkFile};
use protocol::RunFacts;
use protocol::submission::Protocol;
use sandbox::lifecycle::{Lost, Sandbox};

/// The folder of a test's files, relative to the box.
pub const CASE: &str = "case";

/// A referee's answer about one test.
pub(super) enum RefereeAnswer {
    Decided(CheckerResult),
    /// The referee failed; the text follows its name in a message.
    Broken(String),
}

/// Runs a referee on its sandbox.
pub(super) struct RefereeRunner<'a> {
    runner: Runner<'a>,
    referee: &'a Referee,
    /// Why it cannot be used for any test.
    broken: Option<String>,
}

impl<'a> RefereeRunner<'a> {
    pub fn new(sandbox: &'a mut Sandbox, referee: &'a Referee, cancel: CancelSignal) -> RefereeRunner<'a> {
        let runner = Runner::new(sandbox, &referee.profile, &referee.files, true, cancel);
        RefereeRunner { runner, referee, broken: None }
    }

    /// Compiles it, if its language needs that.
    pub async fn prepare(&mut self, cache: Option<(&Cache, CacheKey)>) -> Result<(), Lost> {
        let Some(compile) = &self.referee.compile else { return Ok(()) };
        let facts = self.runner.compile(compile, cache).await?.facts;
        if decide::compile_verdict(&facts).is_some() {
            let reason = feedback_text(&facts.stderr).unwrap_or_else(|| decide::message(&facts, &compile.step.limits));
            self.broken = Some(format!("does not compile: {reason}"));
        }
        Ok(())
    }

    /// Why it cannot be used for any test; the text follows its name in a message.
    pub fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// Runs a checker on a test's output.
    pub async fn check(&mut self, test: &PlannedTest, args: &[String], output: &[u8]) -> Result<RefereeAnswer, Lost> {
        let output = Bytes::copy_from_slice(output);
        let mut step = self.test_step(test, args);
        match self.referee.protocol {
            Protocol::Icpc => step.stdin = output,
            Protocol::Testlib => step.files.push(case_file("output", output)),
        }
        let facts = self.runner.step(&step, &[], RunIo::default()).await?;
        self.decide(test, &facts).await
    }

    /// Runs an interactor, which reads from one pipe and writes to the other. The facts are the
    /// interactor's; [`RefereeRunner::decide`] interprets them.
    pub async fn talk(
        &mut self,
        test: &PlannedTest,
        args: &[String],
        from_submission: &Pipe,
        to_submission: &Pipe,
    ) -> Result<RunFacts, Lost> {
        let mut step = self.test_step(test, args);
        // it still has its own time after the submission has used up its limit
        step.limits.wall = test.step.limits.wall + step.limits.wall;
        // truncated output would leave the submission waiting for the rest
        self.runner.truncate_output = false;
        let io = RunIo {
            output: Some(to_submission),
            input: Some(from_submission),
            discards_stdout: true,
            ..RunIo::default()
        };
        self.runner.step(&step, &[], io).await
    }

    /// Interprets a run of the referee for a test.
    pub async fn decide(&mut self, test: &PlannedTest, facts: &RunFacts) -> Result<RefereeAnswer, Lost> {
        let feedback = match self.referee.protocol {
            Protocol::Icpc => self.feedback().await?,
            Protocol::Testlib => Feedback::default(),
        };
        Ok(match checker_result(self.referee.protocol, facts, feedback, test.weight) {
            Ok(result) => RefereeAnswer::Decided(result),
            Err(broken) => RefereeAnswer::Broken(broken),
        })
    }

    async fn feedback(&mut self) -> Result<Feedback, Lost> {
        let names = ["judgemessage.txt", "teammessage.txt", "score.txt"];
        let patterns = names.map(|name| format!("{CASE}/feedback/{name}"));
        let collected = self.runner.collect(&patterns).await?;
        let [judge, team, score] = patterns.map(|path| {
            let found = collected.files.iter().find(|(known, _)| *known == path);
            found.and_then(|(_, bytes)| feedback_text(bytes))
        });
        Ok(Feedback { judge, team, score })
    }

    /// The referee's step for a test, with the files and arguments of its protocol.
    fn test_step(&self, test: &PlannedTest, extra_args: &[String]) -> ProgramStep {
        let mut step = self.referee.step.clone();
        let answer = test.expect.clone().unwrap_or_default();
        step.files = vec![case_file("input", test.step.stdin.clone()), case_file("answer", answer)];
        let path = |name: &str| format!("/box/{CASE}/{name}");
        let args = match self.referee.protocol {
            Protocol::Icpc => {
                // folders are only made for files, so the feedback folder needs one
                step.files.push(case_file("feedback/.keep", Bytes::new()));
                vec![path("input"), path("answer"), path("feedback/")]
            }
            Protocol::Testlib => vec![path("input"), path("output"), path("answer")],
        };
        step.argv.extend(args);
        step.argv.extend_from_slice(extra_args);
        step
    }

    /// Whether another test follows the next run at once.
    pub fn expect_more(&mut self, more: bool) {
        self.runner.more = more;
    }

    /// The signal that kills its runs.
    pub fn cancel(&mut self) -> &mut CancelSignal {
        &mut self.runner.cancel
    }

    /// Time of its compile step and all its runs.
    pub fn time_spent(&self) -> Duration {
        self.runner.timings.compile + self.runner.timings.run
    }
}

fn case_file(name: &str, data: Bytes) -> WorkFile {
    WorkFile { path: format!("{CASE}/{name}"), mode: 0o444, data }
}
