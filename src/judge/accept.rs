//! From a request to work: every error that a request can have is said here, with the field's name and the remedy,
//! before anything runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;

use super::rejected::Rejected;
use crate::config::bounds;
use crate::model::limits::LimitError;
use crate::model::submission::{CheckerKind, Content, FileMode, FileSpec, Submission, TestSpec};
use crate::model::work::{Caller, Compile, Plan, Step, Test, Work, WorkFile};
use crate::model::{Limits, LimitsRequest, Profile};

fn bad(field: impl Into<String>, message: impl Into<String>) -> Rejected {
    Rejected::Bad { field: field.into(), message: message.into() }
}

fn unsupported(field: &str, message: &str) -> Rejected {
    Rejected::Unsupported { field: field.to_owned(), message: message.to_owned() }
}

/// Finds a blob's content.
pub type Blobs<'a> = &'a dyn Fn(&str) -> Option<Bytes>;

/// Turns a submission into work.
///
/// # Errors
/// The first thing that is wrong, see [`Rejected`].
pub fn accept(
    submission: &Submission,
    uid: u32,
    profiles: &BTreeMap<String, Arc<Profile>>,
    blobs: Blobs<'_>,
) -> Result<Work, Rejected> {
    refuse_unbuilt(submission)?;
    let tenant = submission.tenant.clone().unwrap_or_default();
    if tenant.len() > bounds::MAX_TENANT_BYTES {
        return Err(bad("tenant", format!("is longer than {} bytes", bounds::MAX_TENANT_BYTES)));
    }
    let id = match &submission.id {
        Some(id) if id.is_empty() || id.len() > bounds::MAX_ID_BYTES || id.chars().any(char::is_control) => {
            return Err(bad("id", format!("use 1 to {} bytes without control characters", bounds::MAX_ID_BYTES)));
        }
        Some(id) => id.clone(),
        None => uuid::Uuid::new_v4().to_string(),
    };
    let profile = profiles.get(&submission.language).ok_or_else(|| Rejected::UnknownProfile {
        given: submission.language.chars().take(64).collect(),
        known: profiles.keys().cloned().collect::<Vec<_>>().join(", "),
    })?;
    let limits = run_limits(submission, profile)?;
    let mut intake = Intake { blobs, bytes: 0 };
    if submission.files.is_empty() {
        return Err(bad("files", "is empty; hand in at least one file"));
    }
    let files = intake.files("files", &submission.files)?;
    let entry = entry(submission, profile, &files)?;
    let expand = |words: &[String]| expand(words, &entry, profile, &files);
    let base_env = environment("env", &profile.env, &submission.env)?;
    let shared_stdin = intake.content("stdin", submission.stdin.as_ref(), submission.stdin_b64.as_deref())?;

    let compile = match profile.compile.is_empty() || submission.command.is_some() {
        true => None,
        false => Some(Compile {
            step: Step {
                argv: expand(&profile.compile),
                env: base_env.clone(),
                limits: compile_limits(submission, profile, limits)?,
                stdin: Bytes::new(),
                files: Vec::new(),
            },
            keep: profile.keep.clone(),
        }),
    };
    let command = match &submission.command {
        Some(command) if command.is_empty() || command[0].is_empty() => {
            return Err(bad("command", "must name a program"));
        }
        Some(command) => command.clone(),
        None => expand(&profile.run),
    };
    let argv =
        |more: &[String]| -> Vec<String> { command.iter().chain(&submission.args).chain(more).cloned().collect() };
    let plan = if submission.tests.is_empty() {
        let argv = argv(&[]);
        check_program("args", &argv, &base_env)?;
        Plan::Run(Step { argv, env: base_env, limits, stdin: shared_stdin.unwrap_or_default(), files: Vec::new() })
    } else {
        if submission.tests.len() > bounds::MAX_TESTS {
            return Err(Rejected::TooLarge {
                field: "tests".to_owned(),
                message: format!("at most {} tests", bounds::MAX_TESTS),
            });
        }
        let mut tests = Vec::with_capacity(submission.tests.len());
        for (index, spec) in submission.tests.iter().enumerate() {
            let at = format!("tests[{index}]");
            tests.push(test(
                &mut intake,
                &at,
                index,
                spec,
                submission,
                limits,
                &argv,
                &shared_stdin,
                &files,
                &profile.env,
            )?);
        }
        Plan::Tests(tests)
    };
    Ok(Work {
        id,
        caller: Caller { uid, tenant },
        profile: profile.clone(),
        files,
        compile,
        plan,
        stop: submission.stop,
        limits,
        truncate_output: submission.truncate_output,
        isolation: submission.isolation,
        collect: collect(&submission.collect)?,
        deadline: deadline(submission)?,
    })
}

fn refuse_unbuilt(submission: &Submission) -> Result<(), Rejected> {
    if submission.stdin_open {
        return Err(unsupported("stdin_open", "is not built yet; hand the whole input in as stdin"));
    }
    if submission.suite.is_some() {
        return Err(unsupported("suite", "is not built yet; use tests"));
    }
    if submission.interactor.is_some() {
        return Err(unsupported("interactor", "is not built yet"));
    }
    Ok(())
}

fn limit_error(prefix: &str, error: &LimitError) -> Rejected {
    Rejected::Denied {
        field: format!("{prefix}.{}", error.field),
        message: format!("{} was asked for, allowed is {} to {}", error.given, error.low, error.high),
    }
}

fn run_limits(submission: &Submission, profile: &Profile) -> Result<Limits, Rejected> {
    let base = match submission.preset {
        Some(preset) => preset.limits(),
        None => profile.run_limits().map_err(|error| limit_error("limits", &error))?,
    };
    let request = submission.limits.unwrap_or_default();
    base.with(&request).map_err(|error| limit_error("limits", &error))
}

fn compile_limits(submission: &Submission, profile: &Profile, run: Limits) -> Result<Limits, Rejected> {
    let wrong = |error: LimitError| limit_error("compile_limits", &error);
    let request = submission.compile_limits.unwrap_or_default();
    sandbox_wide("compile_limits", &request)?;
    profile.base_compile_limits(run).and_then(|base| base.with(&request)).map_err(wrong)
}

/// Memory, processes and CPU share belong to the sandbox as a whole, so a single step cannot have its own.
fn sandbox_wide(field: &str, request: &LimitsRequest) -> Result<(), Rejected> {
    let wide = [
        ("memory_bytes", request.memory_bytes.is_some()),
        ("pids", request.pids.is_some()),
        ("cpus", request.cpus.is_some()),
    ];
    match wide.into_iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((name, _)) => Err(bad(
            format!("{field}.{name}"),
            "belongs to the whole sandbox; set it in limits (here: cpu_ms, wall_ms, output_bytes, file_bytes)",
        )),
    }
}

/// The patterns of what is to be brought back: paths below the box, of which any part may hold `*` and `?`.
fn collect(patterns: &[String]) -> Result<Vec<String>, Rejected> {
    if patterns.len() > bounds::MAX_COLLECT_PATTERNS {
        let message = format!("at most {} patterns", bounds::MAX_COLLECT_PATTERNS);
        return Err(Rejected::TooLarge { field: "collect".to_owned(), message });
    }
    for (at, pattern) in patterns.iter().enumerate() {
        let sound = |part: &str| !["", ".", ".."].contains(&part) && !part.contains('\0');
        if pattern.len() > bounds::MAX_PATH_BYTES || !pattern.split('/').all(sound) {
            let message = "must be a path below the box without empty parts, . and .., such as out/*.png or **/*.txt";
            return Err(bad(format!("collect[{at}]"), message));
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

fn entry(submission: &Submission, profile: &Profile, files: &[WorkFile]) -> Result<String, Rejected> {
    let has = |path: &str| files.iter().any(|file| file.path == path);
    match &submission.entry {
        Some(entry) if has(entry) => Ok(entry.clone()),
        Some(entry) => Err(bad("entry", format!("{entry:?} is not among the files"))),
        None if has(&profile.entry) => Ok(profile.entry.clone()),
        None if files.len() == 1 => Ok(files[0].path.clone()),
        None if submission.command.is_some() => Ok(profile.entry.clone()),
        None => Err(bad("entry", format!("name it: there are several files and none is {:?}", profile.entry))),
    }
}

/// `{entry}`, `{stem}` (the entry without its ending) and `{sources}` in a profile's command. A file name that begins with a hyphen cannot become an option.
fn expand(words: &[String], entry: &str, profile: &Profile, files: &[WorkFile]) -> Vec<String> {
    let safe = |path: &str| if path.starts_with('-') { format!("./{path}") } else { path.to_owned() };
    let mut argv = Vec::with_capacity(words.len());
    for word in words {
        if word == "{sources}" {
            let is_source = |path: &str| {
                path.rsplit_once('.').is_some_and(|(_, ending)| profile.source_extensions.iter().any(|e| e == ending))
            };
            let sources: Vec<String> =
                files.iter().filter(|file| is_source(&file.path)).map(|file| safe(&file.path)).collect();
            argv.extend(if sources.is_empty() { vec![safe(entry)] } else { sources });
        } else {
            let stem = entry.rsplit_once('.').map_or(entry, |(stem, _)| stem);
            argv.push(word.replace("{entry}", &safe(entry)).replace("{stem}", &safe(stem)));
        }
    }
    argv
}

fn environment(
    field: &str,
    base: &BTreeMap<String, String>,
    more: &BTreeMap<String, String>,
) -> Result<Vec<(String, String)>, Rejected> {
    for (name, value) in more {
        if name.is_empty() || name.contains('=') || name.contains('\0') || value.contains('\0') {
            return Err(bad(format!("{field}.{}", name.escape_debug()), "names have no '=', and neither part a NUL"));
        }
    }
    let merged: BTreeMap<&String, &String> = base.iter().chain(more).collect();
    if merged.len() > bounds::MAX_ENV {
        return Err(bad(field, format!("at most {} variables", bounds::MAX_ENV)));
    }
    Ok(merged.into_iter().map(|(name, value)| (name.clone(), value.clone())).collect())
}

fn check_program(field: &str, argv: &[String], env: &[(String, String)]) -> Result<(), Rejected> {
    if argv.len() > bounds::MAX_ARGS {
        return Err(bad(field, format!("at most {} arguments", bounds::MAX_ARGS)));
    }
    if argv.iter().any(|word| word.contains('\0')) {
        return Err(bad(field, "an argument must not contain a NUL"));
    }
    let bytes = argv.iter().map(|word| word.len() + 8).sum::<usize>()
        + env.iter().map(|(name, value)| name.len() + value.len() + 16).sum::<usize>();
    if bytes > bounds::MAX_ARGV_ENV_BYTES {
        let message = format!("arguments and environment together exceed {} bytes", bounds::MAX_ARGV_ENV_BYTES);
        return Err(Rejected::TooLarge { field: field.to_owned(), message });
    }
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "the submission's parts that a test builds on, each read once")]
fn test(
    intake: &mut Intake<'_>,
    at: &str,
    index: usize,
    spec: &TestSpec,
    submission: &Submission,
    limits: Limits,
    argv: &dyn Fn(&[String]) -> Vec<String>,
    shared_stdin: &Option<Bytes>,
    submitted: &[WorkFile],
    base_env: &BTreeMap<String, String>,
) -> Result<Test, Rejected> {
    let request = spec.limits.unwrap_or_default();
    sandbox_wide(&format!("{at}.limits"), &request)?;
    let limits = limits.with(&request).map_err(|error| limit_error(&format!("{at}.limits"), &error))?;
    let checker = spec.checker.clone().unwrap_or_default();
    if checker.kind == CheckerKind::Program {
        let message = "program is not built yet; use exact, lines, tokens or float";
        return Err(unsupported(&format!("{at}.checker.kind"), message));
    }
    for (name, value) in [("absolute", checker.absolute), ("relative", checker.relative)] {
        if value.is_some_and(|value| !value.is_finite() || value < 0.0) {
            return Err(bad(format!("{at}.checker.{name}"), "must be 0 or more"));
        }
        if value.is_some() && checker.kind != CheckerKind::Float {
            return Err(bad(format!("{at}.checker.{name}"), "belongs to the kind float"));
        }
    }
    if checker.unordered && checker.kind != CheckerKind::Lines {
        return Err(bad(format!("{at}.checker.unordered"), "belongs to the kind lines"));
    }
    let stdin = intake
        .content(&format!("{at}.stdin"), spec.stdin.as_ref(), spec.stdin_b64.as_deref())?
        .or_else(|| shared_stdin.clone())
        .unwrap_or_default();
    let expect = intake.content(&format!("{at}.expect"), spec.expect.as_ref(), spec.expect_b64.as_deref())?;
    let files = intake.files(&format!("{at}.files"), &spec.files)?;
    if let Some(file) = files.iter().find(|file| submitted.iter().any(|other| other.path == file.path)) {
        return Err(bad(format!("{at}.files"), format!("{:?} is a file of the submission already", file.path)));
    }
    let weight = spec.weight.unwrap_or(1.0);
    if !weight.is_finite() || weight < 0.0 {
        return Err(bad(format!("{at}.weight"), "must be 0 or more"));
    }
    let argv = argv(&spec.args);
    let mut variables = submission.env.clone();
    variables.extend(spec.env.clone());
    let env = environment(&format!("{at}.env"), base_env, &variables)?;
    check_program(&format!("{at}.args"), &argv, &env)?;
    Ok(Test {
        name: spec.name.clone().unwrap_or_else(|| (index + 1).to_string()),
        step: Step { argv, env, limits, stdin, files },
        expect,
        secret: spec.secret,
        weight,
        group: spec.group.clone(),
        checker,
    })
}

/// What has come in so far, against the bound on the whole.
struct Intake<'a> {
    blobs: Blobs<'a>,
    bytes: u64,
}

impl Intake<'_> {
    fn take(&mut self, field: &str, data: Bytes) -> Result<Bytes, Rejected> {
        self.bytes += data.len() as u64;
        if self.bytes > bounds::MAX_SUBMISSION_BYTES {
            let message = format!("the submission exceeds {} bytes in all", bounds::MAX_SUBMISSION_BYTES);
            return Err(Rejected::TooLarge { field: field.to_owned(), message });
        }
        Ok(data)
    }

    fn content(
        &mut self,
        field: &str,
        content: Option<&Content>,
        b64: Option<&str>,
    ) -> Result<Option<Bytes>, Rejected> {
        let data = match (content, b64) {
            (None, None) => return Ok(None),
            (Some(_), Some(_)) => return Err(bad(field, format!("give {field} or {field}_b64, not both"))),
            (Some(Content::Text(text)), None) => Bytes::copy_from_slice(text.as_bytes()),
            (Some(Content::Blob(reference)), None) => (self.blobs)(&reference.blob)
                .ok_or_else(|| Rejected::NoBlob { field: field.to_owned(), blob: reference.blob.clone() })?,
            (None, Some(b64)) => base64::engine::general_purpose::STANDARD
                .decode(b64)
                .map(Bytes::from)
                .map_err(|error| bad(format!("{field}_b64"), format!("is not base64: {error}")))?,
        };
        self.take(field, data).map(Some)
    }

    fn files(&mut self, field: &str, specs: &[FileSpec]) -> Result<Vec<WorkFile>, Rejected> {
        if specs.len() > bounds::MAX_FILES {
            let message = format!("at most {} files", bounds::MAX_FILES);
            return Err(Rejected::TooLarge { field: field.to_owned(), message });
        }
        let mut seen = BTreeSet::new();
        let mut files = Vec::with_capacity(specs.len());
        for (index, spec) in specs.iter().enumerate() {
            let at = format!("{field}[{index}]");
            check_path(&format!("{at}.path"), &spec.path)?;
            if !seen.insert(spec.path.clone()) {
                return Err(bad(format!("{at}.path"), format!("{:?} stands twice", spec.path)));
            }
            let data = self
                .content(&format!("{at}.content"), spec.content.as_ref(), spec.content_b64.as_deref())?
                .ok_or_else(|| bad(format!("{at}.content"), "give content, content_b64 or a blob"))?;
            let mode = mode(&format!("{at}.mode"), spec.mode.as_ref())?;
            files.push(WorkFile { path: spec.path.clone(), mode, data });
        }
        for file in &files {
            let below = format!("{}/", file.path);
            if let Some(other) = files.iter().find(|other| other.path.starts_with(&below)) {
                return Err(bad(field, format!("{:?} is a file and the folder of {:?}", file.path, other.path)));
            }
        }
        Ok(files)
    }
}

fn check_path(field: &str, path: &str) -> Result<(), Rejected> {
    if path.is_empty() {
        return Err(bad(field, "is empty"));
    }
    if path.len() > bounds::MAX_PATH_BYTES {
        return Err(bad(field, format!("is longer than {} bytes", bounds::MAX_PATH_BYTES)));
    }
    if path.starts_with('/') {
        return Err(bad(field, format!("{path:?} is absolute; use a path relative to the submission")));
    }
    if path.chars().any(char::is_control) {
        return Err(bad(field, "contains a control character"));
    }
    for component in path.split('/') {
        match component {
            ".." => return Err(bad(field, format!("{path:?} leaves the submission's folder"))),
            "" | "." => return Err(bad(field, format!("{path:?} has an empty component or a single dot"))),
            name if name.len() > bounds::MAX_NAME_BYTES => {
                return Err(bad(field, format!("a name is longer than {} bytes", bounds::MAX_NAME_BYTES)));
            }
            _ => {}
        }
    }
    Ok(())
}

fn mode(field: &str, mode: Option<&FileMode>) -> Result<u32, Rejected> {
    let number = match mode {
        None => return Ok(0o644),
        Some(FileMode::Number(number)) => *number,
        Some(FileMode::Octal(text)) => u32::from_str_radix(text, 8)
            .map_err(|_| bad(field, format!("{text:?} is not octal; use something like \"0755\"")))?,
    };
    const TYPE_BITS: u32 = 0o170_000;
    if number & TYPE_BITS != 0 && number & TYPE_BITS != 0o100_000 {
        return Err(bad(field, "says that the file is no plain file; only plain files can be handed in"));
    }
    if number & !(TYPE_BITS | 0o777) != 0 {
        return Err(bad(field, "only the nine permission bits can be set"));
    }
    Ok(number & 0o777)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::submission::BlobRef;

    fn profiles() -> BTreeMap<String, Arc<Profile>> {
        let text = "name='c'\nimage='c'\nentry='main.c'\nrun=['./main']\ncompile=['gcc','{sources}','-o','main']\n\
                    keep=['main']\nsource_extensions=['c']";
        let c: Profile = toml::from_str(text).unwrap();
        let python: Profile =
            toml::from_str("name='python'\nimage='p'\nentry='main.py'\nrun=['python3','{entry}']").unwrap();
        BTreeMap::from([("c".to_owned(), Arc::new(c)), ("python".to_owned(), Arc::new(python))])
    }

    fn parse(json: &str) -> Result<Work, Rejected> {
        let submission: Submission = serde_json::from_str(json).unwrap();
        accept(&submission, 1000, &profiles(), &|id| (id == "known").then(|| Bytes::from_static(b"blob")))
    }

    fn field_of(json: &str) -> String {
        parse(json).unwrap_err().field().to_owned()
    }

    #[test]
    fn a_plain_submission_becomes_work() {
        let work = parse(r#"{"language":"python","files":[{"path":"main.py","content":"print(1)"}]}"#).unwrap();
        let Plan::Run(step) = work.plan else { panic!("no run") };
        assert_eq!(step.argv, ["python3", "main.py"]);
        assert!(work.compile.is_none());
    }

    #[test]
    fn sources_are_collected_and_an_entry_cannot_become_an_option() {
        let work = parse(
            r#"{"language":"c","files":[{"path":"a.c","content":""},{"path":"b.h","content":""},{"path":"-x.c","content":""}],"entry":"a.c"}"#,
        )
        .unwrap();
        assert_eq!(work.compile.unwrap().step.argv, ["gcc", "a.c", "./-x.c", "-o", "main"]);
    }

    #[test]
    fn every_bad_path_is_named() {
        for path in ["/etc/passwd", "../a", "a/../b", "a//b", "./a", "", "a/", "a\\u0000b"] {
            let json = format!(r#"{{"language":"python","files":[{{"path":"{path}","content":""}}]}}"#);
            assert_eq!(field_of(&json), "files[0].path", "{path}");
        }
    }

    #[test]
    fn duplicates_symlinks_and_missing_content_are_refused() {
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
    fn an_unknown_language_says_which_there_are() {
        let error = parse(r#"{"language":"cobol","files":[]}"#).unwrap_err();
        assert!(error.to_string().contains("c, python"), "{error}");
    }

    #[test]
    fn a_limit_above_its_ceiling_is_denied_by_name() {
        let json = r#"{"language":"python","files":[{"path":"a","content":""}],"limits":{"memory_bytes":99999999999}}"#;
        assert_eq!(field_of(json), "limits.memory_bytes");
        assert!(matches!(parse(json).unwrap_err(), Rejected::Denied { .. }));
    }

    #[test]
    fn a_test_cannot_have_a_memory_limit_of_its_own() {
        let json = r#"{"language":"python","files":[{"path":"a","content":""}],"tests":[{"limits":{"memory_bytes":10000000}}]}"#;
        assert_eq!(field_of(json), "tests[0].limits.memory_bytes");
    }

    #[test]
    fn what_is_not_built_yet_is_unsupported() {
        let json = r#"{"language":"python","files":[{"path":"a","content":""}],"suite":{}}"#;
        assert!(matches!(parse(json).unwrap_err(), Rejected::Unsupported { .. }));
    }

    #[test]
    fn a_pattern_stays_below_the_box() {
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
    fn a_blob_stands_for_its_content() {
        let blob = Content::Blob(BlobRef { blob: "known".to_owned() });
        let mut submission = Submission {
            language: "python".to_owned(),
            files: vec![FileSpec { path: "a.py".to_owned(), content: Some(blob), ..Default::default() }],
            ..Default::default()
        };
        let find = |id: &str| (id == "known").then(|| Bytes::from_static(b"blob"));
        let work = accept(&submission, 1, &profiles(), &find).unwrap();
        assert_eq!(work.files[0].data, "blob");
        submission.files[0].content = Some(Content::Blob(BlobRef { blob: "gone".to_owned() }));
        assert!(matches!(accept(&submission, 1, &profiles(), &find), Err(Rejected::NoBlob { .. })));
    }
}
