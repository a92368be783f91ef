//! A referee (checker or interactor) on a sandbox of its own: compiled once, then asked about each
//! test.
//!
//! It finds a test's files under [`CASE`]: `input`, `answer`, for testlib `output`, and for icpc a
//! folder for its feedback. These files stay out of the submission's sandbox, and of the submission
//! only its output enters this one, or for a static validator its code.
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
use super::runner::{CompileResult, Runner};
use super::supervise::RunIo;
use super::talk::{TalkClock, TalkSide};
use super::transcript::Speaker;
use crate::work::{PlannedTest, ProgramStep, Referee, WorkFile};
use protocol::RunFacts;
use protocol::Verdict;
use protocol::submission::Protocol;
use sandbox::lifecycle::{Lost, Sandbox};

/// The folder of a test's files, relative to the box.
pub const CASE: &str = "case";
/// The folder of the submission's code, for a static validator.
const CODE: &str = "case/code";
/// Its folder for feedback.
const FEEDBACK: &str = "case/feedback/";
/// A file that makes the folder exist.
const KEEP: &str = ".keep";

/// A referee's answer about one test.
pub(super) enum RefereeAnswer {
    Decided(CheckerResult),
    /// It accepts so far: the program is to be run again with this input.
    Again(Bytes),
    /// The referee failed; the text follows its name in a message.
    Broken(String),
}

/// Runs a referee on its sandbox.
pub(super) struct RefereeRunner<'a> {
    runner: Runner<'a>,
    referee: &'a Referee,
    /// Why it cannot be used for any test.
    broken: Option<String>,
    /// Whether it may ask for another run of the program.
    is_multi_pass: bool,
    /// For a static validator: the submission's files, and what was compiled from them.
    pub code: &'a [WorkFile],
    /// Its feedback folder, from one pass of a test to the next.
    kept_feedback: Vec<WorkFile>,
}

impl<'a> RefereeRunner<'a> {
    pub fn new(
        sandbox: &'a mut Sandbox,
        referee: &'a Referee,
        is_multi_pass: bool,
        cancel: CancelSignal,
    ) -> RefereeRunner<'a> {
        let runner = Runner::new(sandbox, &referee.profile, &referee.files, true, cancel);
        RefereeRunner { runner, referee, broken: None, is_multi_pass, code: &[], kept_feedback: Vec::new() }
    }

    /// Compiles it, if its language needs that.
    pub async fn prepare(&mut self, cache: Option<(&Cache, &CacheKey)>) -> Result<(), Lost> {
        let Some(compile) = &self.referee.compile else { return Ok(()) };
        let CompileResult { facts, not_made, .. } = self.runner.compile(compile, cache).await?;
        if decide::compile_verdict(&facts).is_some() {
            let reason = feedback_text(&facts.stderr).unwrap_or_else(|| decide::message(&facts, &compile.step.limits));
            self.broken = Some(format!("does not compile: {reason}"));
        } else if let Some(file) = not_made {
            self.broken = Some(format!("does not compile: {}", decide::not_made_message(&file)));
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
            Protocol::Static => {}
        }
        let facts = self.runner.step(&step, &[], RunIo::default()).await?;
        self.decide(test, &facts).await
    }

    /// Runs a static validator on the submission's code.
    pub async fn check_code(&mut self, test: &PlannedTest, args: &[String]) -> Result<RefereeAnswer, Lost> {
        let is_multi_pass = std::mem::take(&mut self.is_multi_pass);
        let answer = self.check(test, args, &[]).await;
        self.is_multi_pass = is_multi_pass;
        answer
    }

    /// Runs an interactor, which reads from one pipe and writes to the other. The facts are the
    /// interactor's; [`RefereeRunner::decide`] interprets them.
    pub async fn talk(
        &mut self,
        test: &PlannedTest,
        args: &[String],
        from_submission: &Pipe,
        to_submission: &Pipe,
        clock: &TalkClock,
    ) -> Result<RunFacts, Lost> {
        let step = self.test_step(test, args);
        // truncated output would leave the submission waiting for the rest
        self.runner.truncate_output = false;
        let io = RunIo {
            output: Some(to_submission),
            input: Some(from_submission),
            discards_stdout: true,
            talk: Some(TalkSide::new(clock, Speaker::Interactor)),
            ..RunIo::default()
        };
        self.runner.step(&step, &[], io).await
    }

    /// Wall time that its turns in one talk may take together.
    pub fn wall_limit(&self) -> Duration {
        self.referee.step.limits.wall
    }

    /// Forgets what it left for the next pass of a test.
    pub fn begin_test(&mut self) {
        self.kept_feedback.clear();
    }

    /// Interprets a run of the referee for a test.
    pub async fn decide(&mut self, test: &PlannedTest, facts: &RunFacts) -> Result<RefereeAnswer, Lost> {
        let mut feedback = match self.referee.protocol {
            Protocol::Icpc | Protocol::Static => match self.feedback().await? {
                Ok(feedback) => feedback,
                Err(broken) => return Ok(RefereeAnswer::Broken(broken)),
            },
            Protocol::Testlib => Feedback::default(),
        };
        let next_pass = feedback.next_pass.take();
        Ok(match (checker_result(self.referee.protocol, facts, feedback, test.weight), next_pass) {
            (Ok(result), Some(input)) if result.verdict == Verdict::Accepted => RefereeAnswer::Again(input),
            (Ok(_), Some(_)) => RefereeAnswer::Broken("left nextpass.in, but does not accept".to_owned()),
            (result, _) => Self::answer(result),
        })
    }

    fn answer(result: Result<CheckerResult, String>) -> RefereeAnswer {
        match result {
            Ok(result) => RefereeAnswer::Decided(result),
            Err(broken) => RefereeAnswer::Broken(broken),
        }
    }

    /// What it left in its feedback folder, or why that cannot be used.
    async fn feedback(&mut self) -> Result<Result<Feedback, String>, Lost> {
        let names = ["judgemessage.txt", "teammessage.txt", "score.txt", "score_multiplier.txt"];
        let paths = names.map(|name| format!("{CASE}/feedback/{name}"));
        let all = [format!("{CASE}/feedback/**")];
        let collected = self.runner.collect(if self.is_multi_pass { &all } else { &paths }).await?;
        let find = |path: &str| collected.files.iter().find(|(known, _)| known == path);
        let [judge, team, score, multiplier] =
            paths.map(|path| find(&path).and_then(|(_, bytes)| feedback_text(bytes)));
        let next_path = format!("{CASE}/feedback/nextpass.in");
        let next_pass = find(&next_path).filter(|_| self.is_multi_pass).map(|(_, bytes)| Bytes::from(bytes.clone()));
        if next_pass.is_some() {
            if let Some((path, _)) = collected.refused.first() {
                return Ok(Err(format!("left {path:?}, which cannot be kept for the next pass")));
            }
            let below = |path: &str| path.strip_prefix(FEEDBACK).filter(|name| *name != KEEP).map(str::to_owned);
            let kept = collected.files.into_iter().filter(|(path, _)| *path != next_path);
            self.kept_feedback = kept.filter_map(|(path, data)| Some(kept_file(below(&path)?, data.into()))).collect();
        }
        Ok(Ok(Feedback { judge, team, score, multiplier, next_pass }))
    }

    /// The referee's step for a test, with the files and arguments of its protocol.
    fn test_step(&self, test: &PlannedTest, extra_args: &[String]) -> ProgramStep {
        let mut step = self.referee.step.clone();
        let answer = test.expect.clone().unwrap_or_default();
        step.files = vec![case_file("input", test.step.stdin.clone()), case_file("answer", answer)];
        let mut argv = step.argv.to_vec();
        let path = |name: &str| format!("/box/{CASE}/{name}");
        let args = match self.referee.protocol {
            Protocol::Icpc => {
                // folders are only made for files, so the feedback folder needs one
                step.files.push(case_file(&format!("feedback/{KEEP}"), Bytes::new()));
                if !self.kept_feedback.is_empty() {
                    // files of ours are read-only, and it may append to what it left before
                    step.files.extend(self.kept_feedback.iter().cloned());
                    let copy = format!("cp -r {CASE}/kept/. {FEEDBACK} && exec \"$@\"");
                    let command = ["/bin/sh", "-c", &copy, "sh"].map(str::to_owned);
                    argv.splice(..0, command);
                }
                vec![path("input"), path("answer"), path("feedback/")]
            }
            Protocol::Testlib => vec![path("input"), path("output"), path("answer")],
            Protocol::Static => {
                let copy = |file: &WorkFile| WorkFile {
                    path: format!("{CODE}/{}", file.path),
                    mode: file.mode,
                    data: file.data.clone(),
                };
                step.files = self.code.iter().map(copy).collect();
                step.files.push(case_file(&format!("feedback/{KEEP}"), Bytes::new()));
                // it stands in the folder of the code; its own program is outside
                argv = argv.iter().map(|word| self.absolute(word)).collect();
                let enter = format!("cd {CODE} && exec \"$@\"");
                argv.splice(..0, ["/bin/sh", "-c", &enter, "sh"].map(str::to_owned));
                self.referee.subject.iter().cloned().chain([path("feedback/")]).collect()
            }
        };
        argv.extend(args);
        argv.extend_from_slice(extra_args);
        step.argv = argv.into();
        step
    }

    /// A word of its command that is a path in its folder, from any other folder.
    fn absolute(&self, word: &str) -> String {
        let Referee { files, compile, .. } = self.referee;
        let name = word.strip_prefix("./").unwrap_or(word);
        let is_own = files.iter().any(|file| file.path == name)
            || compile.as_ref().is_some_and(|compile| compile.keep.iter().any(|made| made == name));
        if is_own || name != word { format!("/box/{name}") } else { word.to_owned() }
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

/// A file of an earlier pass; its copy can be written to.
fn kept_file(name: String, data: Bytes) -> WorkFile {
    WorkFile { path: format!("{CASE}/kept/{name}"), mode: 0o644, data }
}

fn case_file(name: &str, data: Bytes) -> WorkFile {
    WorkFile { path: format!("{CASE}/{name}"), mode: 0o444, data }
}
