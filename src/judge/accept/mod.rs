//! Turns a request into work. Every error that a request can have is reported here, with the
//! field's name and the remedy, before anything runs.
//!
//! `content` decodes content and files, `program` settles command lines and limits, `plan` what is
//! run, `referees` the checkers and interactors.

mod content;
mod imports;
mod plan;
mod program;
mod referees;
#[cfg(test)]
mod size_tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::rejected::Rejected;
use crate::work::{Plan, Work, WorkFile};
use config::bounds;
use content::ContentDecoder;
use plan::PlanBuilder;
use program::{ProfileProgram, check_allowed, entry, environment, limit_error};
use protocol::language_code::{code_of_profile, entry_point};
use protocol::submission::{CheckerKind, Protocol, Submission, SuiteFormat, TestSpec};
use protocol::{Caller, Limits, Principal, Profile};
use referees::Referees;

fn bad(field: impl Into<String>, message: impl Into<String>) -> Rejected {
    Rejected::Bad { field: field.into(), message: message.into() }
}

/// Finds a blob's content by its id.
pub type BlobLookup<'a> = &'a dyn Fn(&str) -> Option<Bytes>;

/// Profiles by name.
pub type ProfileMap = BTreeMap<String, Arc<Profile>>;

/// Turns a submission of a principal into work.
///
/// # Errors
/// The first error that is found, see [`Rejected`].
pub fn accept(
    submission: &Submission,
    principal: &Principal,
    profiles: &ProfileMap,
    blobs: BlobLookup<'_>,
) -> Result<Work, Rejected> {
    let caller = Caller { principal: principal.clone(), tenant: tenant(submission)? };
    let id = id(submission)?;
    let profile = find_profile("language", &submission.language, profiles)?;
    let limits = run_limits(submission, profile)?;
    let mut decoder = ContentDecoder::new(blobs);
    if submission.files.is_empty() && submission.suite.is_none() {
        return Err(bad("files", "is empty; hand in at least one file"));
    }
    let files = decoder.files("files", &submission.files)?;
    // a command, or a suite's command, may name something other than a file of the submission
    let has_command = submission.command.is_some() || submission.suite.is_some();
    let entry = entry("entry", submission.entry.as_deref(), has_command, profile, &files)?;
    let env = environment("env", &profile.env, &submission.env)?;
    let Submission { compile_args, run_args, .. } = submission;
    check_allowed("compile_args", profile, &profile.compile_args, compile_args)?;
    check_allowed("run_args", profile, &profile.run_args, run_args)?;
    let program = ProfileProgram { profile, entry: &entry, files: &files, env: &env, compile_args, run_args };
    let compile = match has_command {
        true => None,
        false => program.compile_step(submission.compile_limits.as_ref(), limits)?,
    };
    let command = match &submission.command {
        Some(command) if command.is_empty() || command[0].is_empty() => {
            return Err(bad("command", "must name a program"));
        }
        Some(command) => command.clone(),
        None => program.run_command(&limits),
    };
    let passes = passes(submission)?;
    let code = code_of_profile(&profile.name);
    let subject = vec![code.to_owned(), entry_point(code, &entry)];
    let referees = Referees::new(submission, profiles, subject);
    let argv = command.into_iter().chain(submission.args.iter().cloned()).collect();
    let env = env.into();
    let mut builder = PlanBuilder { submission, profile, limits, env, argv, files, decoder, referees };
    let plan = builder.plan()?;
    Ok(Work {
        id,
        caller,
        language: profile.name.clone(),
        profile: Arc::clone(sandbox_profile(&plan, profile, profiles)),
        loaded: loaded_profile(submission, profile, &builder.files, profiles).cloned(),
        files: builder.files,
        compile,
        plan,
        referees: builder.referees.all,
        passes,
        parallel: parallel(submission)?,
        stdin_open: submission.stdin_open,
        stop: submission.stop,
        limits,
        truncate_output: submission.truncate_output,
        isolation: submission.isolation,
        prewarm: submission.prewarm.unwrap_or(true),
        fresh: submission.fresh,
        collect: collect(&submission.collect)?,
        deadline: deadline(submission)?,
    })
}

/// The profile whose sandboxes run the plan: for a pytest suite, the one that the language's
/// profile names for it, if its sandboxes are made alike.
fn sandbox_profile<'p>(plan: &Plan, profile: &'p Arc<Profile>, profiles: &'p ProfileMap) -> &'p Arc<Profile> {
    let is_pytest = matches!(plan, Plan::Suite(suite) if suite.format == SuiteFormat::Pytest);
    let named = profile.suites.as_ref().filter(|_| is_pytest).and_then(|name| profiles.get(name));
    match named {
        Some(other) if other.is_made_like(profile) => other,
        _ => profile,
    }
}

/// The profile whose runtime has loaded a module that the program imports, if its sandboxes are
/// made alike.
fn loaded_profile<'p>(
    submission: &Submission,
    profile: &Profile,
    files: &[WorkFile],
    profiles: &'p ProfileMap,
) -> Option<&'p Arc<Profile>> {
    let may_wait = submission.suite.is_none() && submission.command.is_none() && submission.prewarm != Some(false);
    let wanted = profile.imports.iter().filter(|(module, _)| may_wait && imports::import(files, module));
    let mut named = wanted.filter_map(|(_, name)| profiles.get(name));
    named.find(|other| profile.can_run_in(other))
}

fn tenant(submission: &Submission) -> Result<String, Rejected> {
    match submission.tenant.clone().unwrap_or_default() {
        tenant if tenant.len() > bounds::MAX_TENANT_BYTES => {
            Err(bad("tenant", format!("is longer than {} bytes", bounds::MAX_TENANT_BYTES)))
        }
        tenant => Ok(tenant),
    }
}

/// The submission's id; a new one if it has none.
fn id(submission: &Submission) -> Result<String, Rejected> {
    match &submission.id {
        Some(id) if id.is_empty() || id.len() > bounds::MAX_ID_BYTES || id.chars().any(char::is_control) => {
            Err(bad("id", format!("use 1 to {} bytes without control characters", bounds::MAX_ID_BYTES)))
        }
        Some(id) => Ok(id.clone()),
        None => Ok(uuid::Uuid::new_v4().to_string()),
    }
}

fn run_limits(submission: &Submission, profile: &Profile) -> Result<Limits, Rejected> {
    let base = match submission.preset {
        Some(preset) => Ok(preset.limits()),
        None => profile.run_limits(),
    };
    base.and_then(|base| base.with(&submission.limits.unwrap_or_default()))
        .map_err(|error| limit_error("limits", &error))
}

fn find_profile<'p>(field: &str, language: &str, profiles: &'p ProfileMap) -> Result<&'p Arc<Profile>, Rejected> {
    profiles.get(language).ok_or_else(|| Rejected::UnknownProfile {
        field: field.to_owned(),
        requested: language.chars().take(64).collect(),
        known: profiles.keys().cloned().collect::<Vec<_>>().join(", "),
    })
}

/// How often a test may be run: more than once only where an icpc program judges.
fn passes(submission: &Submission) -> Result<u32, Rejected> {
    let passes = submission.passes.unwrap_or(1);
    if passes == 0 || passes > bounds::MAX_PASSES {
        return Err(bad("passes", format!("must be 1 to {}", bounds::MAX_PASSES)));
    }
    let is_icpc = |protocol: Option<Protocol>| protocol.unwrap_or_default() == Protocol::Icpc;
    let is_static = |test: &TestSpec| test.checker.as_ref().is_some_and(|own| own.protocol == Some(Protocol::Static));
    let may_repeat =
        |test: &TestSpec| match (&submission.interactor, test.checker.as_ref().or(submission.checker.as_ref())) {
            _ if is_static(test) => true,
            (Some(interactor), _) => is_icpc(interactor.protocol),
            (None, checker) => {
                checker.is_some_and(|checker| checker.kind == CheckerKind::Program && is_icpc(checker.protocol))
            }
        };
    if passes > 1 && (submission.tests.is_empty() || !submission.tests.iter().all(may_repeat)) {
        return Err(bad("passes", "needs tests that a checker program or an interactor of protocol icpc judges"));
    }
    Ok(passes)
}

/// On how many sandboxes at most the tests run at the same time.
fn parallel(submission: &Submission) -> Result<u32, Rejected> {
    match submission.parallel.unwrap_or(1) {
        parallel @ 1..=bounds::MAX_PARALLEL => Ok(parallel),
        _ => Err(bad("parallel", format!("must be 1 to {}", bounds::MAX_PARALLEL))),
    }
}

/// Checks the patterns of files to collect: paths relative to the box, with `*` and `?` in any
/// part.
fn collect(patterns: &[String]) -> Result<Vec<String>, Rejected> {
    if patterns.len() > bounds::MAX_COLLECT_PATTERNS {
        let message = format!("at most {} patterns", bounds::MAX_COLLECT_PATTERNS);
        return Err(Rejected::TooLarge { field: "collect".to_owned(), message });
    }
    for (index, pattern) in patterns.iter().enumerate() {
        let is_valid = |part: &str| !["", ".", ".."].contains(&part) && !part.contains('\0');
        if pattern.len() > bounds::MAX_PATH_BYTES || !pattern.split('/').all(is_valid) {
            let message = "must be a path below the box without empty parts, . and .., such as out/*.png or **/*.txt";
            return Err(bad(format!("collect[{index}]"), message));
        }
    }
    Ok(patterns.to_vec())
}

fn deadline(submission: &Submission) -> Result<Option<Duration>, Rejected> {
    match submission.deadline_ms {
        None => Ok(None),
        Some(0) => Err(bad("deadline_ms", "must be at least 1")),
        Some(ms) if ms > 86_400_000 => Err(bad("deadline_ms", "must be at most 86400000 (a day)")),
        Some(ms) => Ok(Some(Duration::from_millis(ms))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::Checker;
    use protocol::submission::{BlobRef, Content, FileSpec};

    fn profiles() -> BTreeMap<String, Arc<Profile>> {
        let text = "name='c'\nimage='c'\nentry='main.c'\nrun=['./main']\ncompile=['gcc','{sources}','-o','main']\n\
                    keep=['main']\nfinds_start=true\nsource_extensions=['c']";
        let c: Profile = toml::from_str(text).unwrap();
        let python: Profile =
            toml::from_str("name='python'\nimage='p'\nentry='main.py'\nrun=['python3','{entry}']").unwrap();
        BTreeMap::from([("c".to_owned(), Arc::new(c)), ("python".to_owned(), Arc::new(python))])
    }

    fn parse(json: &str) -> Result<Work, Rejected> {
        let submission: Submission = serde_json::from_str(json).unwrap();
        accept(&submission, &Principal::Uid(1000), &profiles(), &|id| {
            (id == "known").then(|| Bytes::from_static(b"blob"))
        })
    }

    fn field_of(json: &str) -> String {
        parse(json).unwrap_err().field().to_owned()
    }

    #[test]
    fn a_minimal_submission_is_accepted() {
        let work = parse(r#"{"language":"python","files":[{"path":"main.py","content":"print(1)"}]}"#).unwrap();
        let Plan::Run(step) = work.plan else { panic!("no run") };
        assert_eq!(*step.argv, ["python3", "main.py"]);
        assert!(work.compile.is_none());
    }

    #[test]
    fn sources_are_expanded_and_a_file_name_is_never_taken_for_an_option() {
        let work = parse(
            r#"{"language":"c","files":[{"path":"a.c","content":""},{"path":"b.h","content":""},{"path":"-x.c","content":""}],"entry":"a.c"}"#,
        )
        .unwrap();
        assert_eq!(*work.compile.unwrap().step.argv, ["gcc", "a.c", "./-x.c", "-o", "main"]);
    }

    #[test]
    fn an_entry_need_not_be_named_where_it_can_be_known() {
        let of = |language: &str, paths: &[&str]| {
            let files: Vec<_> = paths.iter().map(|path| serde_json::json!({ "path": path, "content": "" })).collect();
            parse(&serde_json::json!({ "language": language, "files": files }).to_string()).map(|work| {
                match work.compile {
                    Some(compile) => compile.step.argv.join(" "),
                    None => match work.plan {
                        Plan::Run(step) => step.argv.join(" "),
                        _ => String::new(),
                    },
                }
            })
        };
        assert_eq!(of("python", &["data.txt", "solve.py"]).unwrap(), "python3 solve.py");
        assert!(of("python", &["a.py", "b.py"]).is_err() && of("python", &["a.txt", "b.txt"]).is_err());
        assert_eq!(of("c", &["a.c", "b.c", "a.h"]).unwrap(), "gcc a.c b.c -o main");
    }

    #[test]
    fn every_invalid_path_is_rejected_by_field() {
        for path in ["/etc/passwd", "../a", "a/../b", "a//b", "./a", "", "a/", "a\\u0000b"] {
            let json = format!(r#"{{"language":"python","files":[{{"path":"{path}","content":""}}]}}"#);
            assert_eq!(field_of(&json), "files[0].path", "{path}");
        }
    }

    #[test]
    fn a_path_too_deep_and_weights_that_overflow_are_rejected_by_field() {
        let deep = vec!["d"; 300].join("/");
        let json = format!(r#"{{"language":"python","files":[{{"path":"{deep}","content":""}}]}}"#);
        assert_eq!(field_of(&json), "files[0].path");
        for weight in ["1e300", "-1", "1e10"] {
            let tests = format!(r#"[{{"weight":1}},{{"weight":{weight}}}]"#);
            let json = format!(r#"{{"language":"python","files":[{{"path":"a","content":""}}],"tests":{tests}}}"#);
            assert_eq!(field_of(&json), "tests[1].weight", "{weight}");
        }
    }

    #[test]
    fn duplicates_symlinks_and_missing_content_are_rejected() {
        let twice = r#"{"language":"python","files":[{"path":"a","content":""},{"path":"a","content":""}]}"#;
        assert_eq!(field_of(twice), "files[1].path");
        let link = r#"{"language":"python","files":[{"path":"a","content":"","mode":"0120777"}]}"#;
        assert_eq!(field_of(link), "files[0].mode");
        assert_eq!(field_of(r#"{"language":"python","files":[{"path":"a"}]}"#), "files[0].content");
        assert_eq!(field_of(r#"{"language":"python","files":[]}"#), "files");
        let under = r#"{"language":"python","files":[{"path":"a","content":""},{"path":"a/b","content":""}]}"#;
        assert_eq!(field_of(under), "files");
    }

    #[test]
    fn the_error_for_an_unknown_language_lists_the_profiles() {
        let error = parse(r#"{"language":"cobol","files":[]}"#).unwrap_err();
        assert!(error.to_string().contains("c, python"), "{error}");
    }

    #[test]
    fn a_limit_above_its_ceiling_is_denied_by_field() {
        let json = r#"{"language":"python","files":[{"path":"a","content":""}],"limits":{"memory_bytes":99999999999}}"#;
        assert_eq!(field_of(json), "limits.memory_bytes");
        assert!(matches!(parse(json).unwrap_err(), Rejected::Denied { .. }));
    }

    #[test]
    fn a_test_cannot_have_its_own_memory_limit() {
        let json = r#"{"language":"python","files":[{"path":"a","content":""}],"tests":[{"limits":{"memory_bytes":10000000}}]}"#;
        assert_eq!(field_of(json), "tests[0].limits.memory_bytes");
    }

    fn with(more: serde_json::Value) -> Result<Work, Rejected> {
        let mut json = serde_json::json!({ "language": "python", "files": [{ "path": "main.py", "content": "" }] });
        json.as_object_mut().unwrap().append(&mut more.as_object().unwrap().clone());
        parse(&json.to_string())
    }

    #[test]
    fn a_wall_limit_of_the_submission_holds_for_a_test_that_sets_its_cpu_time() {
        use serde_json::json;
        let walls = |limits: serde_json::Value| {
            let work = with(json!({ "limits": limits, "tests": [{}, { "limits": { "cpu_ms": 20_000 } }] })).unwrap();
            let Plan::Tests(tests) = work.plan else { panic!("no tests") };
            tests.iter().map(|test| test.step.limits.wall.as_secs()).collect::<Vec<_>>()
        };
        assert_eq!(walls(json!({})), [10, 40]);
        assert_eq!(walls(json!({ "cpu_ms": 15_000 })), [30, 40]);
        assert_eq!(walls(json!({ "wall_ms": 6_000 })), [6, 6]);
    }

    #[test]
    fn a_compile_step_has_memory_of_its_own() {
        let memory = |more: &str| {
            let json = format!(
                r#"{{"language":"c","files":[{{"path":"main.c","content":""}}],"limits":{{"memory_bytes":33554432}}{more}}}"#
            );
            let work = parse(&json)?;
            let compile = work.compile.as_ref().unwrap().step.limits.memory_bytes;
            Ok::<_, Rejected>((work.limits.memory_bytes >> 20, compile >> 20, work.sandbox_limits().memory_bytes >> 20))
        };
        assert_eq!(memory("").unwrap(), (32, 1024, 1024));
        assert_eq!(memory(r#","compile_limits":{"memory_bytes":67108864}"#).unwrap(), (32, 64, 64));
        let denied = memory(r#","compile_limits":{"cpus":2}"#).unwrap_err();
        assert_eq!(denied.field(), "compile_limits.cpus");
    }

    #[test]
    fn equal_checkers_share_a_referee_and_too_many_are_rejected() {
        use serde_json::json;
        let checker = |code: &str, args: &[&str]| json!({ "kind": "program", "language": "python", "files": [{ "path": "c.py", "content": code }], "args": args });
        let tests = |codes: &[&str]| {
            let tests: Vec<_> = codes.iter().map(|code| json!({ "checker": checker(code, &[code]) })).collect();
            with(json!({ "tests": tests, "checker": { "kind": "exact" } }))
        };
        let work = tests(&["a", "b", "a"]).unwrap();
        assert_eq!(work.referees.len(), 2);
        let Plan::Tests(all) = work.plan else { panic!("no tests") };
        assert_eq!(all[2].checker, Checker::Program(0, ["a".to_owned()].into()));
        assert_eq!(tests(&["a", "b", "c", "d", "e"]).unwrap_err().field(), "tests[4].checker");
    }

    #[test]
    fn every_error_in_a_checker_is_rejected_by_field() {
        use serde_json::json;
        let field = |checker: serde_json::Value| {
            with(json!({ "tests": [{ "checker": checker }] })).unwrap_err().field().to_owned()
        };
        let files = json!([{ "path": "c.py", "content": "" }]);
        assert_eq!(field(json!({ "kind": "program", "files": files })), "tests[0].checker.language");
        assert_eq!(field(json!({ "kind": "program", "language": "x", "files": files })), "tests[0].checker.language");
        assert_eq!(field(json!({ "kind": "program", "language": "python" })), "tests[0].checker.files");
        let inside = json!([{ "path": "case/input", "content": "" }]);
        assert_eq!(
            field(json!({ "kind": "program", "language": "python", "files": inside })),
            "tests[0].checker.files[0].path"
        );
        assert_eq!(field(json!({ "kind": "tokens", "language": "python" })), "tests[0].checker.language");
        assert_eq!(field(json!({ "kind": "tokens", "absolute": 1.0 })), "tests[0].checker.absolute");
        let limits = json!({ "memory_bytes": 99_999_999_999u64 });
        let wild = json!({ "kind": "program", "language": "python", "files": files, "limits": limits });
        assert_eq!(field(wild), "tests[0].checker.limits.memory_bytes");
    }

    #[test]
    fn an_interactor_excludes_checkers_and_needs_tests() {
        use serde_json::json;
        let interactor = json!({ "language": "python", "files": [{ "path": "i.py", "content": "" }] });
        let field = |more| with(more).unwrap_err().field().to_owned();
        assert_eq!(field(json!({ "interactor": interactor })), "interactor");
        let both = json!({ "interactor": interactor, "tests": [{ "checker": { "kind": "exact" } }] });
        assert_eq!(field(both), "tests[0].checker");
        assert_eq!(with(json!({ "interactor": interactor, "tests": [{}, {}] })).unwrap().referees.len(), 1);
    }

    #[test]
    fn a_pytest_suite_runs_in_the_profile_that_the_language_names_for_it() {
        let profile = |text: &str| Arc::new(toml::from_str::<Profile>(text).unwrap());
        let run = "entry='main.py'\nrun=['python3','{entry}']";
        let of = |other: &str, format: &str| {
            let python = profile(&format!("name='python'\nimage='p'\nsuites='q'\n{run}"));
            let other = profile(&format!("name='q'\n{other}\n{run}"));
            let profiles = [python, other].map(|one| (one.name.clone(), one)).into();
            let text = format!(
                r#"{{"language":"python","files":[{{"path":"main.py","content":""}}],
                    "suite":{{"files":[{{"path":"t.py","content":""}}],"format":"{format}","command":["pytest"]}}}}"#
            );
            accept(&serde_json::from_str(&text).unwrap(), &Principal::Uid(1), &profiles, &|_| None)
                .unwrap()
                .profile
                .name
                .clone()
        };
        assert_eq!(of("image='p'", "pytest"), "q");
        assert_eq!(of("image='p'", "exit"), "python");
        assert_eq!(of("image='other'", "pytest"), "python");
        assert_eq!(of("image='p'\nisolation='split'", "pytest"), "python");
    }

    #[test]
    fn a_program_that_imports_a_module_may_run_where_it_is_loaded() {
        let profile = |text: &str| Arc::new(toml::from_str::<Profile>(text).unwrap());
        let run = "entry='main.py'\nrun=['python3','{entry}']";
        let of = |other: &str, code: &str, more: &str| {
            let python = profile(&format!("name='python'\nimage='p'\n{run}\n[imports]\nnumpy='q'"));
            let other = profile(&format!("name='q'\n{other}\n{run}"));
            let profiles = [python, other].map(|one| (one.name.clone(), one)).into();
            let text = format!(r#"{{"language":"python","files":[{{"path":"main.py","content":"{code}"}}]{more}}}"#);
            let work = accept(&serde_json::from_str(&text).unwrap(), &Principal::Uid(1), &profiles, &|_| None).unwrap();
            assert_eq!(work.profile.name, "python");
            work.loaded.is_some()
        };
        assert!(of("image='p'", "import numpy", ""));
        assert!(!of("image='p'", "print(1)", ""));
        assert!(!of("image='p'", "import numpy", r#","prewarm":false"#));
        assert!(!of("image='p'", "import numpy", r#","command":["true"]"#));
        assert!(!of("image='other'", "import numpy", ""));
    }

    #[test]
    fn suite_files_replace_submission_files_with_the_same_path() {
        use serde_json::json;
        let suite = |files: serde_json::Value| json!({ "suite": { "files": files, "format": "pytest" } });
        let work =
            with(suite(json!([{ "path": "main.py", "content": "theirs" }, { "path": "test_a.py", "content": "" }])));
        let work = work.unwrap();
        assert!(work.files.is_empty() && work.compile.is_none());
        let field = |more| with(more).unwrap_err().field().to_owned();
        assert_eq!(field(suite(json!([]))), "suite.files");
        let named = json!({ "suite": { "command": ["pytest", "main.py"], "format": "pytest" } });
        let Plan::Suite(named) = with(named).unwrap().plan else { panic!("no suite") };
        assert_eq!(named.own, ["main.py"]);
        assert_eq!(
            field(json!({ "suite": { "files": [{ "path": "t", "content": "" }], "format": "tap" } })),
            "suite.command"
        );
        let mut both = suite(json!([{ "path": "test_a.py", "content": "" }]));
        both["tests"] = json!([{}]);
        assert_eq!(field(both), "suite");
    }

    #[test]
    fn a_command_of_pytest_that_runs_no_tests_is_rejected_by_its_option() {
        use serde_json::json;
        let of = |words: &[&str]| {
            let files = json!([{ "path": "test_a.py", "content": "" }]);
            with(json!({ "suite": { "files": files, "format": "pytest", "command": words } }))
        };
        for words in [["pytest", "--pdb"], ["pytest", "--trace"], ["pytest", "-V"], ["pytest", "--pdbcls=a:B"]] {
            let error = of(&words).unwrap_err();
            assert_eq!(error.field(), "suite.command[1]", "{words:?}");
        }
        assert_eq!(of(&["python3", "-m", "pytest", "-q", "--fixtures"]).unwrap_err().field(), "suite.command[4]");
        assert!(of(&["pytest", "-k", "--pdb", "-q", "--tb=short"]).is_ok());
        let report = json!([{ "path": "a", "content": "" }, { "path": "reports/a.xml", "content": "" }]);
        let junit = json!({ "files": [], "format": "junit", "command": ["junit"] });
        assert_eq!(with(json!({ "files": report, "suite": junit })).unwrap_err().field(), "files[1].path");
    }

    #[test]
    fn duplicate_test_names_are_rejected_and_only_a_run_may_have_open_stdin() {
        use serde_json::json;
        let field = |more| with(more).unwrap_err().field().to_owned();
        assert_eq!(field(json!({ "tests": [{ "name": "a" }, { "name": "a" }] })), "tests[1].name");
        assert_eq!(field(json!({ "tests": [{ "name": "2" }, {}] })), "tests[1].name");
        assert_eq!(field(json!({ "tests": [{}], "stdin_open": true })), "stdin_open");
        assert!(with(json!({ "stdin_open": true })).unwrap().stdin_open);
    }

    #[test]
    fn a_collect_pattern_stays_below_the_box() {
        let with = |pattern: &str| {
            let files = serde_json::json!([{ "path": "a", "content": "" }]);
            let json = serde_json::json!({ "language": "python", "files": files, "collect": ["ok", pattern] });
            parse(&json.to_string())
        };
        assert_eq!(with("out/**/*.png").unwrap().collect, ["ok", "out/**/*.png"]);
        for wrong in ["", "/etc/passwd", "../x", "a//b", "a/./b", "a/"] {
            assert_eq!(with(wrong).unwrap_err().field(), "collect[1]", "{wrong}");
        }
    }

    #[test]
    fn a_blob_reference_is_replaced_by_its_content() {
        let blob = Content::Blob(BlobRef { blob: "known".to_owned() });
        let mut submission = Submission {
            language: "python".to_owned(),
            files: vec![FileSpec { path: "a.py".to_owned(), content: Some(blob), ..Default::default() }],
            ..Default::default()
        };
        let find = |id: &str| (id == "known").then(|| Bytes::from_static(b"blob"));
        let work = accept(&submission, &Principal::Uid(1), &profiles(), &find).unwrap();
        assert_eq!(work.files[0].data, "blob");
        submission.files[0].content = Some(Content::Blob(BlobRef { blob: "gone".to_owned() }));
        assert!(matches!(accept(&submission, &Principal::Uid(1), &profiles(), &find), Err(Rejected::NoBlob { .. })));
    }
}
