//! How each test is checked: by comparison, or by a checker or interactor program.
//!
//! Equal checker programs share one referee, and so one sandbox, whatever arguments each test gives
//! them.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::content::ContentDecoder;
use super::program::{ProfileProgram, check_program, entry, environment, limit_error};
use super::{ProfileMap, bad, find_profile};
use crate::referee::CASE;
use crate::rejected::Rejected;
use crate::work::{self, Checker, ProgramStep, Referee};
use config::bounds;
use protocol::submission::{CheckerKind, CheckerSpec, FileSpec, InteractorSpec, Protocol, Submission, TestSpec};
use protocol::{Ceilings, LimitsRequest};

const INTERACTOR_JUDGES: &str = "the interactor judges; leave the checker out";

/// What a referee is made of, without its arguments.
#[derive(Debug, Clone, Copy, PartialEq)]
struct RefereeSource<'a> {
    language: &'a str,
    files: &'a [FileSpec],
    entry: Option<&'a str>,
    limits: Option<LimitsRequest>,
    protocol: Option<Protocol>,
}

/// The referees of a submission, collected test by test.
pub(super) struct Referees<'a> {
    submission: &'a Submission,
    profiles: &'a ProfileMap,
    /// The submission's language and entry for static validators.
    subject: Vec<String>,
    pub all: Vec<Referee>,
    /// Those of `all`.
    sources: Vec<RefereeSource<'a>>,
    /// The checker of the tests without one of their own, once it is known.
    common: Option<Checker>,
    /// How many sources were compared.
    #[cfg(test)]
    sources_read: usize,
}

impl<'a> Referees<'a> {
    pub fn new(submission: &'a Submission, profiles: &'a ProfileMap, subject: Vec<String>) -> Referees<'a> {
        Referees {
            submission,
            profiles,
            subject,
            all: Vec::new(),
            sources: Vec::new(),
            common: None,
            #[cfg(test)]
            sources_read: 0,
        }
    }

    /// The checker of a test. `test_field` is the test's path in the request.
    pub fn checker(
        &mut self,
        decoder: &mut ContentDecoder<'_>,
        test_field: &str,
        test: &'a TestSpec,
    ) -> Result<Checker, Rejected> {
        let checker = self.without_own_args(decoder, test_field, test.checker.as_ref())?;
        let Some(own) = &test.checker_args else { return Ok(checker) };
        let field = format!("{test_field}.checker_args");
        let with_args: fn(usize, Arc<[String]>) -> Checker = match &checker {
            Checker::Compare(_) => return Err(bad(field, "needs a checker program or an interactor")),
            Checker::Program(..) => Checker::Program,
            Checker::Interactor(..) => Checker::Interactor,
            Checker::Static(..) => Checker::Static,
        };
        check_program(&field, own, &[])?;
        decoder.count_copy(&field, work::words_bytes(own))?;
        let (Checker::Program(index, _) | Checker::Interactor(index, _) | Checker::Static(index, _)) = checker else {
            return Ok(checker);
        };
        Ok(with_args(index, own.as_slice().into()))
    }

    /// The checker of a test with the arguments that belong to it for all tests.
    fn without_own_args(
        &mut self,
        decoder: &mut ContentDecoder<'_>,
        test_field: &str,
        own: Option<&'a CheckerSpec>,
    ) -> Result<Checker, Rejected> {
        if let Some(own) = own {
            let field = format!("{test_field}.checker");
            return match self.submission.interactor {
                Some(_) if own.protocol != Some(Protocol::Static) => Err(bad(field, INTERACTOR_JUDGES)),
                _ => self.of_spec(decoder, &field, own),
            };
        }
        if let Some(common) = &self.common {
            return Ok(common.clone());
        }
        let submission = self.submission;
        let common = match (&submission.interactor, &submission.checker) {
            (Some(_), Some(_)) => return Err(bad("checker", INTERACTOR_JUDGES)),
            (Some(interactor), None) => self.interactor(decoder, interactor)?,
            (None, Some(checker)) => self.of_spec(decoder, "checker", checker)?,
            (None, None) => Checker::Compare(Arc::default()),
        };
        Ok(self.common.insert(common).clone())
    }

    fn of_spec(
        &mut self,
        decoder: &mut ContentDecoder<'_>,
        field: &str,
        spec: &'a CheckerSpec,
    ) -> Result<Checker, Rejected> {
        check_options(field, spec)?;
        if spec.kind != CheckerKind::Program {
            return Ok(Checker::Compare(Arc::new(spec.clone())));
        }
        let CheckerSpec { language, files, entry, args, limits, protocol, .. } = spec;
        let language = language
            .as_ref()
            .ok_or_else(|| bad(format!("{field}.language"), "is missing; name the checker's profile"))?;
        let (entry, limits, protocol) = (entry.as_deref(), *limits, *protocol);
        let source = RefereeSource { language, files, entry, limits, protocol };
        let kind = if protocol == Some(Protocol::Static) { Checker::Static } else { Checker::Program };
        Ok(kind(self.referee(decoder, field, source, args)?, args.as_slice().into()))
    }

    fn interactor(
        &mut self,
        decoder: &mut ContentDecoder<'_>,
        interactor: &'a InteractorSpec,
    ) -> Result<Checker, Rejected> {
        let InteractorSpec { language, files, entry, args, limits, protocol } = interactor;
        if *protocol == Some(Protocol::Static) {
            return Err(bad("interactor.protocol", "an interactor needs icpc or testlib; static is for checkers"));
        }
        // its output is passed on and not kept, so there may be much of it
        let mut limits = limits.unwrap_or_default();
        limits.output_bytes.get_or_insert(Ceilings::OUTPUT_BYTES);
        let (entry, limits, protocol) = (entry.as_deref(), Some(limits), *protocol);
        let source = RefereeSource { language, files, entry, limits, protocol };
        Ok(Checker::Interactor(self.referee(decoder, "interactor", source, args)?, args.as_slice().into()))
    }

    /// The index of the referee that is made of `source`: a known one, or a new one.
    fn referee(
        &mut self,
        decoder: &mut ContentDecoder<'_>,
        field: &str,
        source: RefereeSource<'a>,
        args: &[String],
    ) -> Result<usize, Rejected> {
        #[cfg(test)]
        {
            self.sources_read += 1;
        }
        if let Some(known) = self.sources.iter().position(|known| *known == source) {
            return Ok(known);
        }
        if self.all.len() >= bounds::MAX_REFEREES {
            let message = format!("at most {} different checkers", bounds::MAX_REFEREES);
            return Err(Rejected::TooLarge { field: field.to_owned(), message });
        }
        let profile = find_profile(&format!("{field}.language"), source.language, self.profiles)?;
        if source.files.is_empty() {
            return Err(bad(format!("{field}.files"), "is empty; hand in the program"));
        }
        if let Some(index) = source.files.iter().position(|file| file.path.split('/').next() == Some(CASE)) {
            let message = format!("the folder {CASE} is reserved for the tests' files");
            return Err(bad(format!("{field}.files[{index}].path"), message));
        }
        let files = decoder.files(&format!("{field}.files"), source.files)?;
        let entry = entry(&format!("{field}.entry"), source.entry, false, profile, &files)?;
        let denied = |error| limit_error(&format!("{field}.limits"), &error);
        let limits = profile.run_limits().and_then(|limits| limits.with(&DEFAULT_LIMITS)).map_err(denied)?;
        let limits = limits.with(&source.limits.unwrap_or_default()).map_err(denied)?;
        let env = environment(field, &profile.env, &BTreeMap::new())?;
        let (compile_args, run_args) = (&[][..], &[][..]);
        let program = ProfileProgram { profile, entry: &entry, files: &files, env: &env, compile_args, run_args };
        let argv = program.run_command(&limits);
        check_program(&format!("{field}.args"), &[&argv, args].concat(), &env)?;
        let compile = program.compile_step(None, limits)?;
        let (argv, env) = (argv.into(), env.into());
        let step = ProgramStep { argv, env, limits, stdin: Bytes::new(), files: Vec::new() };
        let protocol = source.protocol.unwrap_or_default();
        let subject = if protocol == Protocol::Static { self.subject.clone() } else { Vec::new() };
        self.all.push(Referee { profile: Arc::clone(profile), files, compile, step, protocol, subject });
        self.sources.push(source);
        Ok(self.all.len() - 1)
    }
}

/// A referee's limits for one test where the request gives none: 10 s of CPU time, 30 s of wall
/// time.
const DEFAULT_LIMITS: LimitsRequest = LimitsRequest {
    cpu_ms: Some(10_000),
    wall_ms: Some(30_000),
    memory_bytes: None,
    pids: None,
    cpus: None,
    output_bytes: None,
    file_bytes: None,
    open_files: None,
};

/// Rejects options that belong to another kind of checker, and values out of range.
fn check_options(field: &str, spec: &CheckerSpec) -> Result<(), Rejected> {
    for (name, value) in [("absolute", spec.absolute), ("relative", spec.relative)] {
        if value.is_some_and(|value| !value.is_finite() || value < 0.0) {
            return Err(bad(format!("{field}.{name}"), "must be 0 or more"));
        }
    }
    let options = [
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
        return Err(bad(
            format!("{field}.case_insensitive"),
            "does not apply to a checker program; give it an argument instead",
        ));
    }
    match options.into_iter().find(|(_, is_set, kind, _)| *is_set && spec.kind != *kind) {
        None => Ok(()),
        Some((name, _, _, word)) => Err(bad(format!("{field}.{name}"), format!("applies to the kind {word} only"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::Profile;
    use serde_json::json;

    #[test]
    fn a_checker_of_all_tests_is_read_once_however_many_tests_there_are() {
        let profile: Profile = toml::from_str("name='x'\nimage='x'\nentry='a'\nrun=['a']").unwrap();
        let profiles = [("x".to_owned(), Arc::new(profile))].into();
        let files = json!([{ "path": "a", "content": "x".repeat(1000) }]);
        let interactor = json!({ "language": "x", "files": files });
        let checker = json!({ "language": "x", "files": files, "kind": "program" });
        for (field, program) in [("checker", checker), ("interactor", interactor)] {
            let mut submission = json!({ "language": "x", "files": files });
            submission[field] = program;
            let submission: Submission = serde_json::from_value(submission).unwrap();
            let args = |at: usize| (at % 2 == 1).then(|| vec!["own".to_owned()]);
            let test = |at| TestSpec { checker_args: args(at), ..TestSpec::default() };
            let all: Vec<TestSpec> = (0..1000).map(test).collect();
            let mut referees = Referees::new(&submission, &profiles, Vec::new());
            let no_blobs = |_: &str| None;
            let mut decoder = ContentDecoder::new(&no_blobs);
            for (at, test) in all.iter().enumerate() {
                let made = referees.checker(&mut decoder, "tests[0]", test).unwrap();
                let (Checker::Program(index, own) | Checker::Interactor(index, own)) = made else { panic!("{made:?}") };
                assert_eq!((index, own.to_vec()), (0, args(at).unwrap_or_default()));
            }
            assert_eq!((referees.sources_read, referees.all.len()), (1, 1), "{field}");
        }
    }
}
