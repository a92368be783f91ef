//! What is run: one program, tests, or test files.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::bad;
use super::intake::ContentDecoder;
use super::program::{check_program, environment, limit_error, sandbox_wide};
use super::referees::Referees;
use crate::rejected::Rejected;
use crate::suite;
use crate::work::{Checker, Plan, PlannedTest, ProgramStep, Suite, WorkFile};
use config::bounds;
use protocol::submission::{FileSpec, Submission, SuiteFormat, SuiteSpec, TestSpec};
use protocol::{Limits, Profile};

/// What a plan builds on.
pub(super) struct PlanBuilder<'a> {
    pub submission: &'a Submission,
    pub profile: &'a Profile,
    pub limits: Limits,
    pub env: Vec<(String, String)>,
    pub command: Vec<String>,
    pub files: Vec<WorkFile>,
}

impl PlanBuilder<'_> {
    /// The plan. Takes those of the submission's files out that test files stand in the place of.
    pub fn plan(&mut self, intake: &mut ContentDecoder<'_>, referees: &mut Referees<'_>) -> Result<Plan, Rejected> {
        let Submission { tests, suite, interactor, .. } = self.submission;
        if self.submission.stdin_open && !(tests.is_empty() && suite.is_none()) {
            return Err(bad("stdin_open", "belongs to a submission without tests and suite; tests have their stdin"));
        }
        if interactor.is_some() && tests.is_empty() {
            return Err(bad("interactor", "needs tests: a test's stdin is its input, expect the answer"));
        }
        let stdin = intake.content("stdin", self.submission.stdin.as_ref(), self.submission.stdin_b64.as_deref())?;
        if let Some(spec) = suite {
            if !tests.is_empty() {
                return Err(bad("suite", "give tests or a suite, not both"));
            }
            return self.suite(intake, spec, stdin.unwrap_or_default()).map(Plan::Suite);
        }
        if tests.is_empty() {
            let argv = self.argv(&[]);
            check_program("args", &argv, &self.env)?;
            let (env, limits) = (self.env.clone(), self.limits);
            return Ok(Plan::Run(ProgramStep {
                argv,
                env,
                limits,
                stdin: stdin.unwrap_or_default(),
                files: Vec::new(),
            }));
        }
        if tests.len() > bounds::MAX_TESTS {
            let message = format!("at most {} tests", bounds::MAX_TESTS);
            return Err(Rejected::TooLarge { field: "tests".to_owned(), message });
        }
        let mut names = BTreeSet::new();
        let mut all = Vec::with_capacity(tests.len());
        for (index, spec) in tests.iter().enumerate() {
            let at = format!("tests[{index}]");
            let checker = referees.checker(intake, &at, spec.checker.as_ref(), self.submission)?;
            let test = self.test(intake, &at, index, spec, &stdin, checker)?;
            if !names.insert(test.name.clone()) {
                return Err(bad(format!("{at}.name"), format!("{:?} stands twice", test.name)));
            }
            all.push(test);
        }
        Ok(Plan::Tests(all))
    }

    fn argv(&self, more: &[String]) -> Vec<String> {
        self.command.iter().chain(&self.submission.args).chain(more).cloned().collect()
    }

    fn test(
        &self,
        intake: &mut ContentDecoder<'_>,
        at: &str,
        index: usize,
        spec: &TestSpec,
        shared_stdin: &Option<Bytes>,
        checker: Checker,
    ) -> Result<PlannedTest, Rejected> {
        let request = spec.limits.unwrap_or_default();
        sandbox_wide(&format!("{at}.limits"), &request)?;
        let limits = self.limits.with(&request).map_err(|error| limit_error(&format!("{at}.limits"), &error))?;
        let stdin = intake
            .content(&format!("{at}.stdin"), spec.stdin.as_ref(), spec.stdin_b64.as_deref())?
            .or_else(|| shared_stdin.clone())
            .unwrap_or_default();
        let expect = intake.content(&format!("{at}.expect"), spec.expect.as_ref(), spec.expect_b64.as_deref())?;
        let files = intake.files(&format!("{at}.files"), &spec.files)?;
        if let Some(file) = files.iter().find(|file| self.files.iter().any(|other| other.path == file.path)) {
            return Err(bad(format!("{at}.files"), format!("{:?} is a file of the submission already", file.path)));
        }
        let weight = spec.weight.unwrap_or(1.0);
        if !weight.is_finite() || weight < 0.0 {
            return Err(bad(format!("{at}.weight"), "must be 0 or more"));
        }
        let name = spec.name.clone().unwrap_or_else(|| (index + 1).to_string());
        if name.len() > bounds::MAX_NAME_BYTES || name.chars().any(char::is_control) {
            let most = bounds::MAX_NAME_BYTES;
            return Err(bad(format!("{at}.name"), format!("use at most {most} bytes without control characters")));
        }
        let argv = self.argv(&spec.args);
        let mut variables = self.submission.env.clone();
        variables.extend(spec.env.clone());
        let env = environment(&format!("{at}.env"), &self.profile.env, &variables)?;
        check_program(&format!("{at}.args"), &argv, &env)?;
        let step = ProgramStep { argv, env, limits, stdin, files };
        Ok(PlannedTest { name, step, expect, secret: spec.secret, weight, group: spec.group.clone(), checker })
    }

    fn suite(&mut self, intake: &mut ContentDecoder<'_>, spec: &SuiteSpec, stdin: Bytes) -> Result<Suite, Rejected> {
        if spec.files.is_empty() {
            return Err(bad("suite.files", "is empty; hand in at least one test file"));
        }
        let mut files = intake.files("suite.files", &spec.files)?;
        let is = |path: &str, name: &str| path == name || path.ends_with(&format!("/{name}"));
        let argv = match spec.format {
            SuiteFormat::Pytest => {
                let at = |file: &FileSpec| is(&file.path, "conftest.py");
                if spec.files.iter().any(at)
                    && let Some(at) = self.submission.files.iter().position(at)
                {
                    let message = "a conftest.py of the submission's would change how its tests run; leave it out";
                    return Err(bad(format!("files[{at}].path"), message));
                }
                if !stdin.is_empty() {
                    return Err(bad("stdin", "a pytest suite has no input of the caller's"));
                }
                files.push(suite::runner_file());
                let mut argv = suite::pytest_command();
                argv.extend(pytest_arguments(&spec.command)?);
                argv
            }
            _ if spec.command.first().is_none_or(String::is_empty) => {
                return Err(bad("suite.command", "must name a program; only pytest has one of its own"));
            }
            _ => spec.command.clone(),
        };
        // a test file that was handed in with the code is the suite's, whatever is in it
        self.files.retain(|file| !files.iter().any(|test| test.path == file.path));
        check_program("suite.command", &argv, &self.env)?;
        let step = ProgramStep { argv, env: self.env.clone(), limits: self.limits, stdin, files };
        Ok(Suite { step, format: spec.format })
    }
}

/// What follows `pytest` or `python3 -m pytest` in a command: it is run by a runner of ours.
fn pytest_arguments(command: &[String]) -> Result<Vec<String>, Rejected> {
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    let rest = match words.as_slice() {
        [] | ["pytest"] => &[],
        ["pytest", rest @ ..] | ["python" | "python3", "-m", "pytest", rest @ ..] => rest,
        _ => {
            let message = "a pytest suite is run by assay's own runner; give pytest and its options, or nothing";
            return Err(bad("suite.command", message));
        }
    };
    Ok(rest.iter().map(|word| (*word).to_owned()).collect())
}
