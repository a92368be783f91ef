//! Makes the receipt of a submission: what went in, on which image, to which result, signed. Pure,
//! and made when the answer is on its way.
//!
//! A digest of several parts is made of each part with its length before it (8 bytes, big-endian),
//! in the order of docs/PROTOCOL.md. A test that is secret, every expected output, and a referee,
//! which may hold answers, count as HMACs under a key of the instance: a digest of `42` can be
//! guessed.

use serde::{Deserialize, Serialize};

use judge::work::{Checker, CompileStep, Plan, PlannedTest, ProgramStep, Referee, Suite, Work, WorkFile};
use protocol::envelope::{Envelope, InputDigest, ReceiptKey, sha256_hex};
use protocol::receipt::{InputKind, Predicate, ReceiptFigures, ReceiptInput, ReceiptRun, ReceiptTimes, Statement};
use protocol::{Blame, LimitsRequest, Outcome, Profile, ReportText, Verdict};

/// Signs the receipts of an instance.
#[derive(Debug)]
pub struct ReceiptIssuer {
    pub key: ReceiptKey,
    /// The instance's name and random id.
    pub instance: String,
    /// The daemon's version.
    pub version: &'static str,
    /// SHA-256 of the init, in hexadecimal.
    pub init_sha256: String,
}

/// What a receipt takes of a report.
#[derive(Deserialize)]
struct JudgedReport {
    verdict: Verdict,
    blame: Option<Blame>,
    #[serde(default)]
    compile: Option<JudgedRun>,
    #[serde(default)]
    run: Option<JudgedRun>,
    #[serde(default)]
    suite: Option<JudgedSuite>,
    #[serde(default)]
    tests: Vec<JudgedRun>,
    #[serde(default)]
    sandbox: Option<JudgedSandbox>,
    timing: JudgedTiming,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct JudgedRun {
    name: String,
    verdict: Option<Verdict>,
    outcome: Option<Outcome>,
    exit_code: Option<i32>,
    signal: Option<i32>,
    cpu_ms: f64,
    memory_bytes: u64,
}

#[derive(Deserialize)]
struct JudgedSuite {
    run: JudgedRun,
}

#[derive(Deserialize)]
struct JudgedSandbox {
    image: String,
    isolation: String,
}

#[derive(Deserialize)]
struct JudgedTiming {
    total_ms: f64,
}

impl ReceiptIssuer {
    /// The receipt of a report; `None` if the text is not one.
    pub fn issue(&self, work: &Work, report: &ReportText, times: ReceiptTimes) -> Option<Envelope> {
        let judged: JudgedReport = serde_json::from_str(report.as_str()).ok()?;
        let JudgedReport { verdict, blame, compile, run, suite, tests, sandbox, timing } = judged;
        let named = |name: &str, run: Option<JudgedRun>| run.map(|run| JudgedRun { name: name.to_owned(), ..run });
        let suite = suite.map(|suite| suite.run);
        let one = [named("compile", compile), named("run", run), named("suite", suite)];
        let runs: Vec<JudgedRun> = one.into_iter().flatten().chain(tests).collect();
        let figures = ReceiptFigures {
            total_ms: timing.total_ms,
            cpu_ms: runs.iter().map(|run| run.cpu_ms).sum(),
            memory_bytes: runs.iter().map(|run| run.memory_bytes).max().unwrap_or(0),
        };
        let ended = |run: JudgedRun| {
            let JudgedRun { name, verdict, outcome, exit_code, signal, .. } = run;
            ReceiptRun { name, verdict, outcome, exit_code, signal }
        };
        let (image, isolation) = sandbox.map(|sandbox| (sandbox.image, sandbox.isolation)).unzip();
        let predicate = Predicate {
            instance: self.instance.clone(),
            version: self.version.to_owned(),
            tenant: work.caller.tenant.clone(),
            language: if work.language.is_empty() { &work.profile.name } else { &work.language }.clone(),
            profile_sha256: profile_sha256(&work.profile),
            init_sha256: self.init_sha256.clone(),
            image,
            isolation,
            limits: LimitsRequest::from(work.limits),
            inputs: self.inputs(work),
            stdin_open: work.stdin_open,
            verdict,
            blame,
            runs: runs.into_iter().map(ended).collect(),
            times,
            figures,
        };
        let statement = Statement::new(&work.id, sha256_hex(report.as_str().as_bytes()), predicate);
        Some(self.key.sign(&statement))
    }

    fn inputs(&self, work: &Work) -> Vec<ReceiptInput> {
        let mut inputs: Vec<ReceiptInput> = work.files.iter().map(|file| file_input(InputKind::File, file)).collect();
        inputs.extend(work.compile.as_ref().map(compile_input));
        match &work.plan {
            Plan::Run(step) => {
                let mut command = InputDigest::plain();
                add_command(&mut command, step);
                inputs.push(command.input(InputKind::Command, ""));
                inputs.push(bytes_input(InputDigest::plain(), InputKind::Stdin, "", &step.stdin));
            }
            Plan::Tests(tests) => inputs.extend(tests.iter().flat_map(|test| self.test_inputs(test))),
            Plan::Suite(suite) => inputs.extend(suite_inputs(suite)),
        }
        inputs.extend(work.referees.iter().map(|referee| self.referee_input(referee)));
        inputs.push(settings_input(work));
        inputs
    }

    fn test_inputs(&self, test: &PlannedTest) -> impl Iterator<Item = ReceiptInput> {
        let mut digest = if test.secret { self.key.secret_digest() } else { InputDigest::plain() };
        add_step(&mut digest, &test.step);
        match &test.checker {
            Checker::Compare(spec) => add_json(&mut digest, &("compare", &**spec)),
            Checker::Program(at, args) => add_json(&mut digest, &("program", at, &**args)),
            Checker::Interactor(at, args) => add_json(&mut digest, &("interactor", at, &**args)),
            Checker::Static(at, args) => add_json(&mut digest, &("static", at, &**args)),
        }
        add_json(&mut digest, &(test.weight, &test.group));
        let expect = test.expect.as_ref();
        let expect = expect.map(|bytes| bytes_input(self.key.secret_digest(), InputKind::Expect, &test.name, bytes));
        [digest.input(InputKind::Test, &test.name)].into_iter().chain(expect)
    }

    /// A referee may hold answers.
    fn referee_input(&self, referee: &Referee) -> ReceiptInput {
        let Referee { profile, files, compile, step, protocol, subject } = referee;
        let mut digest = self.key.secret_digest();
        digest.part(profile_sha256(profile).as_bytes());
        add_json(&mut digest, &(protocol, subject));
        add_files(&mut digest, files);
        for step in compile.iter().map(|compile| &compile.step).chain([step]) {
            add_step(&mut digest, step);
        }
        digest.input(InputKind::Referee, &profile.name)
    }
}

/// How a profile makes sandboxes and runs programs. Profiles whose sandboxes are interchangeable
/// have the same one.
fn profile_sha256(profile: &Profile) -> String {
    let Profile { image, isolation, runtime, allow, run, env, .. } = profile;
    let json = serde_json::to_vec(&(image, isolation, runtime, allow, run, env));
    sha256_hex(&json.unwrap_or_default())
}

fn add_json(digest: &mut InputDigest, value: &impl Serialize) {
    // numbers and texts, which always have a text
    digest.part(&serde_json::to_vec(value).unwrap_or_default());
}

fn add_command(digest: &mut InputDigest, step: &ProgramStep) {
    add_json(digest, &(&*step.argv, &*step.env, LimitsRequest::from(step.limits)));
}

fn add_files(digest: &mut InputDigest, files: &[WorkFile]) {
    for file in files {
        add_json(digest, &(&file.path, file.mode));
        digest.part(&file.data);
    }
}

fn add_step(digest: &mut InputDigest, step: &ProgramStep) {
    add_command(digest, step);
    digest.part(&step.stdin);
    add_files(digest, &step.files);
}

fn bytes_input(mut digest: InputDigest, kind: InputKind, name: &str, bytes: &[u8]) -> ReceiptInput {
    digest.update(bytes);
    digest.input(kind, name)
}

fn file_input(kind: InputKind, file: &WorkFile) -> ReceiptInput {
    bytes_input(InputDigest::plain(), kind, &file.path, &file.data)
}

fn compile_input(compile: &CompileStep) -> ReceiptInput {
    let mut digest = InputDigest::plain();
    add_step(&mut digest, &compile.step);
    add_json(&mut digest, &compile.keep);
    digest.input(InputKind::Compile, "")
}

fn suite_inputs(suite: &Suite) -> impl Iterator<Item = ReceiptInput> {
    let Suite { step, format, own: _, sources } = suite;
    let mut digest = InputDigest::plain();
    add_command(&mut digest, step);
    add_json(&mut digest, format);
    let source = |(path, text): (&String, &String)| {
        bytes_input(InputDigest::plain(), InputKind::SuiteFile, path, text.as_bytes())
    };
    let files = step.files.iter().map(|file| file_input(InputKind::SuiteFile, file));
    [digest.input(InputKind::Suite, "")].into_iter().chain(files).chain(sources.iter().map(source))
}

fn settings_input(work: &Work) -> ReceiptInput {
    let Work { passes, parallel, stop, truncate_output, collect, isolation, fresh, .. } = work;
    let mut digest = InputDigest::plain();
    add_json(&mut digest, &(passes, parallel, stop, truncate_output, collect, isolation, fresh));
    digest.input(InputKind::Settings, "")
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use judge::accept::accept;
    use protocol::Principal;
    use serde_json::{Value, json};

    pub(crate) fn issuer() -> ReceiptIssuer {
        ReceiptIssuer {
            key: ReceiptKey::from_pem(&ReceiptKey::generate().unwrap()).unwrap(),
            instance: "test-0".to_owned(),
            version: "1",
            init_sha256: "i".to_owned(),
        }
    }

    fn work(change: impl FnOnce(&mut Value)) -> Work {
        let profile = |name: &str| -> Profile {
            toml::from_str(&format!(
                "name='{name}'\nimage='c'\nentry='a.c'\nrun=['./a']\ncompile=['cc','a.c']\nkeep=['a']"
            ))
            .unwrap()
        };
        let profiles: BTreeMap<String, Arc<Profile>> =
            ["c", "other"].map(|name| (name.to_owned(), Arc::new(profile(name)))).into();
        let mut submission = json!({
            "id": "a", "tenant": "t", "language": "c", "files": [{ "path": "a.c", "content": "x" }],
            "tests": [
                { "name": "open", "stdin": "1", "expect": "42" },
                { "name": "hidden", "stdin": "2", "expect": "43", "secret": true },
            ],
        });
        change(&mut submission);
        accept(&serde_json::from_value(submission).unwrap(), &Principal::Uid(7), &profiles, &|_| None).unwrap()
    }

    fn run(fields: Value) -> Value {
        let mut run = json!({
            "outcome": "exited", "exit_code": 0, "signal": null, "cpu_ms": 2.0, "wall_ms": 3.0, "memory_bytes": 5,
            "stdout_truncated": false, "evidence": protocol::Evidence::default(),
        });
        run.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        run
    }

    fn report() -> ReportText {
        let test = |name: &str| run(json!({ "name": name, "verdict": "accepted", "message": "" }));
        let report: protocol::Report = serde_json::from_value(json!({
            "id": "a", "verdict": "accepted", "message": "", "blame": null, "compile": run(json!({})),
            "tests": [test("open"), test("hidden")], "timing": { "total_ms": 9.5 },
            "score": { "passed": 2, "total": 2, "points": 2.0, "max_points": 2.0 },
            "sandbox": { "image": "sha256:1", "isolation": "cell", "id": "s", "host": "h" },
        }))
        .unwrap();
        ReportText::from(&report)
    }

    fn predicate(issuer: &ReceiptIssuer, work: &Work) -> Predicate {
        let envelope = issuer.issue(work, &report(), ReceiptTimes { received_ms: 1, answered_ms: 2 }).unwrap();
        envelope.open(issuer.key.public()).unwrap().predicate
    }

    #[test]
    fn a_receipt_names_the_report_the_image_and_how_each_run_ended() {
        let issuer = issuer();
        let times = ReceiptTimes { received_ms: 1, answered_ms: 2 };
        let statement = issuer.issue(&work(|_| {}), &report(), times).unwrap().open(issuer.key.public()).unwrap();
        assert_eq!(statement.subject[0].name, "a");
        assert_eq!(statement.subject[0].digest.sha256, sha256_hex(report().as_str().as_bytes()));
        let Predicate { image, isolation, verdict, runs, figures, times, language, tenant, .. } = statement.predicate;
        assert_eq!((image.as_deref(), isolation.as_deref()), (Some("sha256:1"), Some("cell")));
        assert_eq!((language.as_str(), tenant.as_str(), verdict), ("c", "t", Verdict::Accepted));
        let ended: Vec<_> = runs.iter().map(|run| (run.name.as_str(), run.outcome, run.exit_code)).collect();
        let exited = Some(Outcome::Exited);
        assert_eq!(ended, [("compile", exited, Some(0)), ("open", exited, Some(0)), ("hidden", exited, Some(0))]);
        assert_eq!(figures, ReceiptFigures { total_ms: 9.5, cpu_ms: 6.0, memory_bytes: 5 });
        assert_eq!(times, ReceiptTimes { received_ms: 1, answered_ms: 2 });
    }

    #[test]
    fn what_is_secret_has_no_digest_that_could_be_guessed() {
        let inputs = predicate(&issuer(), &work(|_| {})).inputs;
        let of = |kind, name: &str| inputs.iter().find(|input| input.kind == kind && input.name == name).unwrap();
        assert_eq!(of(InputKind::File, "a.c").sha256.as_deref(), Some(sha256_hex(b"x").as_str()));
        assert!(of(InputKind::Test, "open").sha256.is_some());
        let secret = [(InputKind::Test, "hidden"), (InputKind::Expect, "open"), (InputKind::Expect, "hidden")];
        for (kind, name) in secret {
            let input = of(kind, name);
            assert!(input.sha256.is_none() && input.hmac_sha256.is_some(), "{input:?}");
        }
        let all = serde_json::to_string(&inputs).unwrap();
        for guess in ["42", "43", "2"] {
            assert!(!all.contains(&sha256_hex(guess.as_bytes())), "{guess}");
        }
    }

    #[test]
    fn the_same_submission_gives_the_same_predicate_and_any_change_another_one() {
        let issuer = issuer();
        let usual = predicate(&issuer, &work(|_| {}));
        assert_eq!(usual, predicate(&issuer, &work(|json| json["id"] = "b".into())));
        let set = |path: &'static str, value: Value| move |json: &mut Value| *json.pointer_mut(path).unwrap() = value;
        let add = |key: &'static str, value: Value| move |json: &mut Value| json[key] = value;
        let others = [
            predicate(&issuer, &work(set("/files/0/content", "y".into()))),
            predicate(&issuer, &work(set("/tests/0/stdin", "2".into()))),
            predicate(&issuer, &work(set("/tests/0/expect", "2".into()))),
            predicate(&issuer, &work(set("/tests/1/stdin", "1".into()))),
            predicate(&issuer, &work(set("/tests/1/secret", false.into()))),
            predicate(&issuer, &work(set("/tenant", "u".into()))),
            predicate(&issuer, &work(add("env", json!({ "A": "B" })))),
            predicate(&issuer, &work(add("args", json!(["-v"])))),
            predicate(&issuer, &work(add("limits", json!({ "cpu_ms": 5 })))),
            predicate(&issuer, &work(add("compile_limits", json!({ "cpu_ms": 5 })))),
            predicate(&issuer, &work(add("stop", json!("first_failure")))),
            predicate(&issuer, &work(add("collect", json!(["a"])))),
            predicate(&issuer, &work(add("truncate_output", true.into()))),
        ];
        for (at, other) in others.iter().enumerate() {
            assert_ne!(*other, usual, "{at}");
        }
    }

    #[test]
    fn a_run_a_suite_and_a_referee_are_inputs() {
        let issuer = issuer();
        let kinds = |change: fn(&mut Value)| -> Vec<InputKind> {
            predicate(&issuer, &work(change)).inputs.into_iter().map(|input| input.kind).collect()
        };
        let run = kinds(|json| {
            json.as_object_mut().unwrap().remove("tests");
        });
        let expected = [InputKind::File, InputKind::Compile, InputKind::Command, InputKind::Stdin, InputKind::Settings];
        assert_eq!(run, expected);
        let suite = kinds(|json| {
            json.as_object_mut().unwrap().remove("tests");
            json["suite"] = json!({ "format": "exit", "command": ["sh", "t"],
                "files": [{ "path": "t", "content": "exit" }] });
        });
        assert_eq!(suite, [InputKind::File, InputKind::Suite, InputKind::SuiteFile, InputKind::Settings]);
        let program = json!({ "kind": "program", "language": "other",
            "files": [{ "path": "a.c", "content": "int main() {}" }] });
        let checked = |content: &'static str| {
            let program = program.clone();
            predicate(
                &issuer,
                &work(move |json| {
                    json["tests"][0]["checker"] = program;
                    json["tests"][0]["checker"]["files"][0]["content"] = content.into();
                }),
            )
        };
        let referee = checked("a").inputs.into_iter().find(|input| input.kind == InputKind::Referee).unwrap();
        assert!(referee.sha256.is_none() && referee.name == "other");
        assert_ne!(checked("a"), checked("b"));
    }

    #[test]
    fn profiles_whose_sandboxes_are_interchangeable_make_no_difference() {
        let issuer = issuer();
        let mut other = work(|_| {});
        let mut profile = (*other.profile).clone();
        profile.name = "with-a-module".to_owned();
        profile.pool.floor += 1;
        other.profile = Arc::new(profile.clone());
        assert_eq!(predicate(&issuer, &other), predicate(&issuer, &work(|_| {})));
        profile.image = "another".to_owned();
        other.profile = Arc::new(profile);
        assert_ne!(predicate(&issuer, &other), predicate(&issuer, &work(|_| {})));
    }
}
