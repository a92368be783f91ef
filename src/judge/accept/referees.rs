//! Checkers and interactors: what is compared, and which programs judge.
//!
//! Checkers that are the same program are one referee, with one sandbox, whatever arguments each test gives it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::intake::ContentDecoder;
use super::program::{check_program, compile_limits, entry, environment, expand, limit_error};
use super::{ProfileMap, bad, find_profile};
use crate::referee::CASE;
use crate::rejected::Rejected;
use crate::work::{Checker, CompileStep, ProgramStep, Referee};
use config::bounds;
use protocol::submission::{CheckerKind, CheckerSpec, InteractorSpec, Submission};
use protocol::{Ceilings, LimitsRequest};

/// The programs that judge, as they come.
pub(super) struct Referees<'a> {
    profiles: &'a ProfileMap,
    pub all: Vec<Referee>,
    /// What each was made of, without its arguments.
    specs: Vec<InteractorSpec>,
}

impl<'a> Referees<'a> {
    pub fn new(profiles: &'a ProfileMap) -> Referees<'a> {
        Referees { profiles, all: Vec::new(), specs: Vec::new() }
    }

    /// How a test's output is judged.
    pub fn checker(
        &mut self,
        intake: &mut ContentDecoder<'_>,
        test: &str,
        own: Option<&CheckerSpec>,
        submission: &Submission,
    ) -> Result<Checker, Rejected> {
        let at = if own.is_some() { format!("{test}.checker") } else { "checker".to_owned() };
        let spec = own.or(submission.checker.as_ref());
        if let Some(interactor) = &submission.interactor {
            return match spec {
                Some(_) => Err(bad(at, "the interactor judges; leave the checker out")),
                None => {
                    let mut interactor = interactor.clone();
                    // it may talk a lot; nobody keeps it
                    interactor.limits.get_or_insert_default().output_bytes.get_or_insert(Ceilings::OUTPUT_BYTES);
                    let referee = self.referee(intake, "interactor", interactor.clone())?;
                    Ok(Checker::Interactor(referee, interactor.args))
                }
            };
        }
        let spec = spec.cloned().unwrap_or_default();
        check_options(&at, &spec)?;
        if spec.kind != CheckerKind::Program {
            return Ok(Checker::Compare(Box::new(spec)));
        }
        let CheckerSpec { language, files, entry, args, limits, protocol, .. } = spec;
        let language = language.ok_or_else(|| bad(format!("{at}.language"), "say in which language the checker is"))?;
        let program = InteractorSpec { language, files, entry, args: args.clone(), limits, protocol };
        Ok(Checker::Program(self.referee(intake, &at, program)?, args))
    }

    /// The program of this spec: one of before, or a new one.
    fn referee(&mut self, intake: &mut ContentDecoder<'_>, at: &str, spec: InteractorSpec) -> Result<usize, Rejected> {
        let args = spec.args.clone();
        let spec = InteractorSpec { args: Vec::new(), ..spec };
        if let Some(known) = self.specs.iter().position(|known| *known == spec) {
            return Ok(known);
        }
        if self.all.len() >= bounds::MAX_REFEREES {
            let message = format!("at most {} checkers that differ", bounds::MAX_REFEREES);
            return Err(Rejected::TooLarge { field: at.to_owned(), message });
        }
        let profile = find_profile(&format!("{at}.language"), &spec.language, self.profiles)?;
        if spec.files.is_empty() {
            return Err(bad(format!("{at}.files"), "is empty; hand in the program"));
        }
        if let Some(index) = spec.files.iter().position(|file| file.path.split('/').next() == Some(CASE)) {
            return Err(bad(format!("{at}.files[{index}].path"), format!("{CASE} is where the tests' files lie")));
        }
        let files = intake.files(&format!("{at}.files"), &spec.files)?;
        let entry = entry(&format!("{at}.entry"), spec.entry.as_deref(), false, profile, &files)?;
        let denied = |error| limit_error(&format!("{at}.limits"), &error);
        let usual = LimitsRequest {
            cpu_ms: Some(USUAL_CPU.as_millis() as u64),
            wall_ms: Some(USUAL_WALL.as_millis() as u64),
            ..LimitsRequest::default()
        };
        let limits = profile.run_limits().and_then(|limits| limits.with(&usual)).map_err(denied)?;
        let limits = limits.with(&spec.limits.unwrap_or_default()).map_err(denied)?;
        let env = environment(at, &profile.env, &Default::default())?;
        let argv = expand(&profile.run, &entry, profile, &files);
        check_program(&format!("{at}.args"), &[argv.clone(), args].concat(), &env)?;
        let step =
            |argv, limits| ProgramStep { argv, env: env.clone(), limits, stdin: Bytes::new(), files: Vec::new() };
        let compile = match profile.compile.is_empty() {
            true => None,
            false => Some(CompileStep {
                step: step(expand(&profile.compile, &entry, profile, &files), compile_limits(None, profile, limits)?),
                keep: profile.keep.clone(),
            }),
        };
        let step = step(argv, limits);
        let protocol = spec.protocol.unwrap_or_default();
        self.all.push(Referee { profile: Arc::clone(profile), files, compile, step, protocol });
        self.specs.push(spec);
        Ok(self.all.len() - 1)
    }
}

/// A checker's CPU time for one test, when nothing is said.
const USUAL_CPU: Duration = Duration::from_secs(10);

/// Its wall time, likewise.
const USUAL_WALL: Duration = Duration::from_secs(30);

/// Options that belong to another kind, or are out of range.
fn check_options(at: &str, spec: &CheckerSpec) -> Result<(), Rejected> {
    for (name, value) in [("absolute", spec.absolute), ("relative", spec.relative)] {
        if value.is_some_and(|value| !value.is_finite() || value < 0.0) {
            return Err(bad(format!("{at}.{name}"), "must be 0 or more"));
        }
    }
    let belongs = [
        ("absolute", spec.absolute.is_some(), CheckerKind::Float, "float"),
        ("relative", spec.relative.is_some(), CheckerKind::Float, "float"),
        ("unordered", spec.unordered, CheckerKind::Lines, "lines"),
        ("language", spec.language.is_some(), CheckerKind::Program, "program"),
        ("files", !spec.files.is_empty(), CheckerKind::Program, "program"),
        ("entry", spec.entry.is_some(), CheckerKind::Program, "program"),
        ("args", !spec.args.is_empty(), CheckerKind::Program, "program"),
        ("limits", spec.limits.is_some(), CheckerKind::Program, "program"),
        ("protocol", spec.protocol.is_some(), CheckerKind::Program, "program"),
    ];
    if spec.case_insensitive && spec.kind == CheckerKind::Program {
        return Err(bad(format!("{at}.case_insensitive"), "a program compares as it likes; give it an argument"));
    }
    match belongs.into_iter().find(|(_, given, kind, _)| *given && spec.kind != *kind) {
        None => Ok(()),
        Some((name, _, _, word)) => Err(bad(format!("{at}.{name}"), format!("belongs to the kind {word}"))),
    }
}
