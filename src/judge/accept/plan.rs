//! What a submission runs: one program, tests, or a suite of test files.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::bad;
use super::content::ContentDecoder;
use super::program::{check_program, environment, limit_error, reject_sandbox_limits};
use super::referees::Referees;
use crate::rejected::Rejected;
use crate::suite;
use crate::work::{Plan, PlannedTest, ProgramStep, SharedEnv, Suite, WorkFile, variables_bytes, words_bytes};
use config::bounds;
use protocol::submission::{Submission, SuiteFormat, SuiteSpec, TestSpec};
use protocol::{Limits, Profile};

/// Builds the plan of a submission.
pub(super) struct PlanBuilder<'a> {
    pub submission: &'a Submission,
    pub profile: &'a Profile,
    pub limits: Limits,
    pub env: SharedEnv,
    /// The submission's command with its arguments.
    pub argv: Arc<[String]>,
    pub files: Vec<WorkFile>,
    pub decoder: ContentDecoder<'a>,
    pub referees: Referees<'a>,
}

impl<'a> PlanBuilder<'a> {
    /// The plan. Files of the submission that a suite replaces are removed from `files`.
    pub fn plan(&mut self) -> Result<Plan, Rejected> {
        let Submission { tests, suite, interactor, .. } = self.submission;
        if self.submission.stdin_open && !(tests.is_empty() && suite.is_none()) {
            return Err(bad("stdin_open", "needs a submission without tests and suite; tests have their own stdin"));
        }
        if interactor.is_some() && tests.is_empty() {
            return Err(bad("interactor", "needs tests: a test's stdin is its input, expect the answer"));
        }
        let Submission { stdin, stdin_b64, .. } = self.submission;
        let stdin = self.decoder.content("stdin", stdin.as_ref(), stdin_b64.as_deref())?.unwrap_or_default();
        if let Some(spec) = suite {
            if !tests.is_empty() {
                return Err(bad("suite", "give tests or a suite, not both"));
            }
            return self.suite(spec, stdin).map(Plan::Suite);
        }
        if tests.is_empty() {
            check_program("args", &self.argv, &self.env)?;
            let (argv, env, limits) = (self.argv.clone(), self.env.clone(), self.limits);
            return Ok(Plan::Run(ProgramStep { argv, env, limits, stdin, files: Vec::new() }));
        }
        self.tests(tests, &stdin).map(Plan::Tests)
    }

    /// The command line and the environment of a test. Tests that add nothing to those of the
    /// submission share them.
    fn program(&mut self, field: &str, spec: &TestSpec) -> Result<(Arc<[String]>, SharedEnv), Rejected> {
        let (args_field, env_field) = (format!("{field}.args"), format!("{field}.env"));
        let (mut argv, mut env) = (self.argv.clone(), self.env.clone());
        if spec.args.is_empty() && spec.env.is_empty() {
            return Ok((argv, env));
        }
        if !spec.args.is_empty() {
            argv = argv.iter().chain(&spec.args).cloned().collect();
            self.decoder.count_copy(&args_field, words_bytes(&argv))?;
        }
        if !spec.env.is_empty() {
            let mut variables = self.submission.env.clone();
            variables.extend(spec.env.clone());
            env = environment(&env_field, &self.profile.env, &variables)?.into();
            self.decoder.count_copy(&env_field, variables_bytes(&env))?;
        }
        check_program(&args_field, &argv, &env)?;
        Ok((argv, env))
    }

    fn tests(&mut self, specs: &'a [TestSpec], shared_stdin: &Bytes) -> Result<Vec<PlannedTest>, Rejected> {
        if specs.len() > bounds::MAX_TESTS {
            let message = format!("at most {} tests", bounds::MAX_TESTS);
            return Err(Rejected::TooLarge { field: "tests".to_owned(), message });
        }
        check_program("args", &self.argv, &self.env)?;
        let mut names = BTreeSet::new();
        let mut tests = Vec::with_capacity(specs.len());
        for (index, spec) in specs.iter().enumerate() {
            let test = self.test(index, spec, shared_stdin)?;
            if !names.insert(test.name.clone()) {
                return Err(bad(format!("tests[{index}].name"), format!("{:?} is given twice", test.name)));
            }
            tests.push(test);
        }
        Ok(tests)
    }

    fn test(&mut self, index: usize, spec: &'a TestSpec, shared_stdin: &Bytes) -> Result<PlannedTest, Rejected> {
        let field = format!("tests[{index}]");
        let checker = self.referees.checker(&mut self.decoder, &field, spec)?;
        let mut request = spec.limits.unwrap_or_default();
        // a wall limit of the submission holds for a test that only sets its CPU time
        request.wall_ms = request.wall_ms.or(self.submission.limits.and_then(|limits| limits.wall_ms));
        let limits_field = format!("{field}.limits");
        reject_sandbox_limits(&limits_field, &request)?;
        let limits = self.limits.with(&request).map_err(|error| limit_error(&limits_field, &error))?;
        let stdin = self
            .decoder
            .content(&format!("{field}.stdin"), spec.stdin.as_ref(), spec.stdin_b64.as_deref())?
            .unwrap_or_else(|| shared_stdin.clone());
        let expect =
            self.decoder.content(&format!("{field}.expect"), spec.expect.as_ref(), spec.expect_b64.as_deref())?;
        let files = self.decoder.files(&format!("{field}.files"), &spec.files)?;
        if let Some(file) = files.iter().find(|file| self.files.iter().any(|other| other.path == file.path)) {
            return Err(bad(format!("{field}.files"), format!("{:?} is already a file of the submission", file.path)));
        }
        let weight = spec.weight.unwrap_or(1.0);
        if !(0.0..=bounds::MAX_WEIGHT).contains(&weight) {
            return Err(bad(format!("{field}.weight"), format!("must be 0 to {:e}", bounds::MAX_WEIGHT)));
        }
        let name = spec.name.clone().unwrap_or_else(|| (index + 1).to_string());
        if name.len() > bounds::MAX_NAME_BYTES || name.chars().any(char::is_control) {
            let max = bounds::MAX_NAME_BYTES;
            return Err(bad(format!("{field}.name"), format!("use at most {max} bytes without control characters")));
        }
        let (argv, env) = self.program(&field, spec)?;
        let step = ProgramStep { argv, env, limits, stdin, files };
        Ok(PlannedTest { name, step, expect, secret: spec.secret, weight, group: spec.group.clone(), checker })
    }

    fn suite(&mut self, spec: &SuiteSpec, stdin: Bytes) -> Result<Suite, Rejected> {
        if spec.files.is_empty() && spec.command.is_empty() {
            return Err(bad("suite.files", "is empty; hand in at least one test file, or a command"));
        }
        let mut files = self.decoder.files("suite.files", &spec.files)?;
        self.reject_interference(spec, &files)?;
        let sources = if spec.separate { self.separate(spec, &mut files)? } else { BTreeMap::new() };
        let argv = match spec.format {
            SuiteFormat::Pytest => {
                if !stdin.is_empty() {
                    return Err(bad("stdin", "does not apply to a pytest suite"));
                }
                files.extend(suite::runner_files(spec.separate));
                let mut argv = suite::pytest_command(spec.separate);
                argv.extend(pytest_arguments(&spec.command)?);
                argv
            }
            SuiteFormat::Node if spec.command.is_empty() => {
                let argv = suite::node_command(&files);
                files.push(suite::preloaded());
                argv
            }
            _ if spec.command.first().is_none_or(String::is_empty) => {
                return Err(bad("suite.command", "must name a program; only pytest and node have one of their own"));
            }
            _ => spec.command.clone(),
        };
        // the suite's files replace files of the submission with the same path
        self.files.retain(|file| !files.iter().any(|test| test.path == file.path));
        let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
        self.files.retain(|file| !suite::is_byte_code_of(&paths, &file.path));
        check_program("suite.command", &argv, &self.env)?;
        let own = self.files.iter().map(|file| file.path.clone()).filter(|path| path.ends_with(".py")).collect();
        let step = ProgramStep { argv: argv.into(), env: self.env.clone(), limits: self.limits, stdin, files };
        Ok(Suite { step, format: spec.format, own, sources })
    }

    /// Takes the sources out of the test files of a separate suite.
    fn separate(&self, spec: &SuiteSpec, files: &mut [WorkFile]) -> Result<BTreeMap<String, String>, Rejected> {
        let mut sources = BTreeMap::new();
        for file in files.iter_mut().filter(|file| file.path.ends_with(".py")) {
            let text = String::from_utf8(std::mem::take(&mut file.data).into());
            let text = text.map_err(|_| bad("suite.files", format!("{:?} is not UTF-8", file.path)))?;
            sources.insert(file.path.clone(), text);
        }
        if spec.format != SuiteFormat::Pytest || sources.is_empty() {
            return Err(bad("suite.separate", "needs a pytest suite with files of its own"));
        }
        Ok(sources)
    }

    /// Rejects files of the submission that would run in place of the suite's, or change how
    /// it runs.
    fn reject_interference(&self, spec: &SuiteSpec, files: &[WorkFile]) -> Result<(), Rejected> {
        let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
        let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
        let runs_pytest = spec.format != SuiteFormat::Pytest
            && !paths.is_empty()
            && spec.command.iter().any(|word| word.split(' ').any(|word| word.ends_with("pytest")));
        let settings = ["conftest.py", "pytest.ini", ".pytest.ini", "tox.ini"];
        let has_conftest = paths.iter().any(|path| name(path) == "conftest.py");
        for (index, file) in self.submission.files.iter().enumerate() {
            let field = format!("files[{index}].path");
            let own = name(&file.path);
            if own == "conftest.py" && has_conftest || runs_pytest && settings.contains(&own.as_str()) {
                let message = format!("the submission's {own} would change how its tests run; leave it out");
                return Err(bad(field, message));
            }
            if let Some(hidden) = suite::shadowed(&paths, &file.path) {
                let message =
                    format!("{:?} would be imported in place of the suite's {hidden}; leave it out", file.path);
                return Err(bad(field, message));
            }
            if let Some(why) = suite::interferes(spec.format, files, &file.path) {
                return Err(bad(field, format!("{:?} would change how its tests run: {why}; leave it out", file.path)));
            }
            let is_below =
                |inner: &str, outer: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'));
            if let Some(other) = paths.iter().find(|path| is_below(&file.path, path) || is_below(path, &file.path)) {
                let message =
                    format!("{:?} and the suite's {other:?}: one would be both a file and a folder", file.path);
                return Err(bad(field, message));
            }
        }
        Ok(())
    }
}

/// Options with which pytest shows something instead of running tests.
const WITHOUT_TESTS: [&str; 11] = [
    "--setup-only",
    "--setup-plan",
    "--fixtures",
    "--funcargs",
    "--fixtures-per-test",
    "--markers",
    "--cache-show",
    "--version",
    "-V",
    "--help",
    "-h",
];

/// The arguments after `pytest` or `python3 -m pytest` in a command, which our own runner replaces.
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
    let takes_value = |word: &str| ["-k", "-m", "-o", "-p", "--deselect", "--ignore"].contains(&word);
    for (at, word) in rest.iter().enumerate().filter(|(at, _)| *at == 0 || !takes_value(rest[*at - 1])) {
        let option = word.split('=').next().unwrap_or_default();
        let why = match option {
            "--pdb" | "--pdbcls" | "--trace" => "starts a debugger, which needs a terminal",
            option if WITHOUT_TESTS.contains(&option) => "runs no tests",
            _ => continue,
        };
        let place = command.len() - rest.len() + at;
        return Err(bad(format!("suite.command[{place}]"), format!("{option} {why}; leave it out")));
    }
    Ok(rest.iter().map(|word| (*word).to_owned()).collect())
}
