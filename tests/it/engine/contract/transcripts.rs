//! Conversations with a real daemon, kept in tests/it/golden/transcripts, one test per file: one
//! line of the socket per row, under its sender. Each line is validated against the schema as
//! received, and again as kept.
//!
//! Values that differ between runs are masked: measured figures are 0, generated names are
//! numbered, and `usage` events are left out.

use std::collections::BTreeMap;

use base64::Engine as _;
use protocol::schema;
use serde_json::{Value, json};

use super::{Validation, must_be};
use crate::engine::faults::outages::SmallDisk;
use crate::harness::{Caller, Daemon, Options, eventually, patient, root, submission, with};

/// A conversation with the daemon, recorded.
struct Conversation {
    name: &'static str,
    caller: Caller,
    lines: Vec<(&'static str, Value)>,
    methods: BTreeMap<u64, String>,
    validation: Validation,
}

impl Conversation {
    fn begin(name: &'static str, caller: Caller) -> Conversation {
        let hello = caller.hello.clone();
        let mut conversation = Conversation {
            name,
            caller,
            lines: Vec::new(),
            methods: BTreeMap::new(),
            validation: Validation::default(),
        };
        conversation.receive(hello);
        conversation
    }

    /// Records and validates a line of the daemon.
    fn receive(&mut self, line: Value) {
        self.validation.add(self.name, &schema::document(), &line);
        if let Some(method) = line["id"].as_u64().and_then(|id| self.methods.get(&id))
            && line.get("result").is_some()
        {
            let result = &schema::document()["methods"][method]["result"];
            self.validation.add(&format!("{}: the result of {method}", self.name), result, &line["result"]);
        }
        if line["params"]["kind"] != "usage" {
            self.lines.push(("daemon", line));
        }
    }

    /// Sends a line that may be invalid, and receives its response.
    fn send_raw_line(&mut self, line: &str) {
        self.caller.send_raw(format!("{line}\n").as_bytes());
        self.lines.push(("caller", serde_json::from_str(line).unwrap_or_else(|_| json!(line))));
        let answer = self.caller.line();
        self.receive(answer);
    }

    fn send(&mut self, method: &str, params: Value) -> u64 {
        let id = self.caller.send(method, &params);
        self.lines.push(("caller", json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })));
        self.methods.insert(id, method.to_owned());
        id
    }

    /// Sends a valid call and receives lines up to its response.
    fn ask(&mut self, method: &str, params: Value) -> Value {
        let id = self.send(method, params);
        let (_, line) = self.lines.last().unwrap();
        self.validation.add(&format!("{}: the call of {method}", self.name), &schema::document(), line);
        self.until(id)
    }

    /// Sends a call that must fail with this error code.
    fn refused(&mut self, code: &str, method: &str, params: Value) {
        let id = self.send(method, params);
        let error = self.until(id)["error"].clone();
        assert_eq!(error["data"]["code"], code, "{error}");
    }

    fn until(&mut self, id: u64) -> Value {
        loop {
            let line = self.caller.line();
            self.receive(line.clone());
            if line["id"] == id {
                return line;
            }
        }
    }

    /// Compares the conversation with the kept file.
    fn end(mut self) {
        let mut mask = Mask::default();
        let mut text = String::new();
        let mut events = 0;
        for (sender, mut line) in self.lines {
            if line["method"] == "submission.event" {
                line["params"]["seq"] = json!(events);
                events += 1;
            } else {
                events = 0;
            }
            if sender == "daemon" {
                mask.apply(&mut line);
                self.validation.add(&format!("{}, as kept", self.name), &schema::document(), &line);
            } else {
                mask.names(&mut line);
            }
            text += &format!("{}\n", json!({ sender: line }));
        }
        must_be(&root().join(format!("tests/it/golden/transcripts/{}.jsonl", self.name)), &text);
        self.validation.must_hold();
    }
}

/// Masks values that differ between runs.
#[derive(Default)]
struct Mask {
    names: BTreeMap<String, String>,
}

impl Mask {
    /// Replaces generated ids of blobs and submissions, and cursors, by numbered names.
    fn names(&mut self, value: &mut Value) {
        match value {
            Value::Object(map) => map.values_mut().for_each(|inner| self.names(inner)),
            Value::Array(list) => list.iter_mut().for_each(|inner| self.names(inner)),
            Value::String(text) => {
                let is_uuid = text.len() == 36 && text.matches('-').count() == 4;
                let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
                let is_cursor = text.split_once('-').is_some_and(|(at, key)| is_number(at) && is_number(key));
                if let Some((page, _)) = text.split_once("#login=") {
                    *text = format!("{page}#login=...");
                    return;
                }
                let secret = text.strip_prefix("assay_").unwrap_or(text);
                let is_secret = secret.len() == 64 && secret.bytes().all(|byte| byte.is_ascii_hexdigit());
                if is_uuid || is_cursor || is_secret {
                    let next = format!("made-{}", self.names.len() + 1);
                    *text = self.names.entry(text.clone()).or_insert(next).clone();
                }
            }
            _ => {}
        }
    }

    fn apply(&mut self, value: &mut Value) {
        self.names(value);
        mask_measured(value, "");
    }
}

/// Replaces measured figures and facts about this machine.
fn mask_measured(value: &mut Value, within: &str) {
    match value {
        Value::Object(map) => {
            // of runs that took long on this machine
            map.retain(|key, inner| key != "usage" || !inner.is_array());
            for (key, inner) in map {
                let figures = ["memory_bytes", "max_rss_bytes", "max_memory_bytes", "bytes"];
                let is_figure = key.ends_with("_ms") || figures.contains(&key.as_str());
                match (key.as_str(), &inner) {
                    // configured, not measured
                    _ if within == "limits" => {}
                    (_, Value::Number(_)) if is_figure => *inner = json!(0),
                    ("version" | "instance" | "engine" | "image" | "host", Value::String(_)) => *inner = json!("..."),
                    // a signature, and the place of a backup
                    ("payload" | "sig" | "keyid" | "folder", Value::String(_)) => *inner = json!("..."),
                    ("id", Value::String(_)) if within == "sandbox" => *inner = json!("..."),
                    ("uses", Value::Number(_)) if within == "sandbox" => *inner = json!(1),
                    ("isolation", Value::String(_)) => *inner = json!("cell"),
                    ("start", Value::String(_)) => *inner = json!("warm"),
                    ("memory_source", Value::String(_)) => *inner = json!("cgroup_peak"),
                    // messages with paths of this machine, or with durations
                    ("message", Value::String(text)) if text.contains('/') || text.contains(" ms") => {
                        *inner = json!("...");
                    }
                    // a test runner prints its duration
                    ("suite", Value::Object(_)) => {
                        inner["run"]["stdout"] = json!("...");
                        inner["run"]["evidence"]["stdout_bytes"] = json!(0);
                        mask_measured(inner, key);
                    }
                    _ => mask_measured(inner, key),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|inner| mask_measured(inner, within)),
        _ => {}
    }
}

fn named(id: &str, submission: Value) -> Value {
    with(submission, "id", json!(id))
}

fn endless(id: &str) -> Value {
    let forever = submission("python", "import time\nprint('on', flush=True)\nwhile True: time.sleep(1)");
    named(id, with(forever, "limits", json!({ "wall_ms": 600_000 })))
}

/// Waits for output of a submission; its usage is known from then on.
fn wait_for_output(daemon: &Daemon, id: &str) {
    let mut watcher = daemon.caller();
    watcher.send("submission.wait", &json!({ "id": id, "stream": true, "from_seq": 0 }));
    while watcher.line()["params"]["kind"] != "stdout" {}
}

/// A daemon with a ready sandbox of each language of the transcripts.
fn daemon() -> Daemon {
    let daemon = Daemon::start(&Options { profiles: "python,c", floor: 1, ..Options::default() });
    daemon.warm();
    daemon
}

#[test]
fn the_transcript_of_hello_is_kept() {
    let daemon = daemon();
    let mut hello = Conversation::begin("hello", daemon.caller());
    hello.ask("profile.list", json!({}));
    hello.ask("submission.list", json!({}));
    hello.ask("daemon.reload", json!({}));
    hello.ask("host.drain", json!({ "host": "local" }));
    hello.ask("host.resume", json!({ "host": "local" }));
    hello.end();
}

#[test]
fn the_transcript_of_runs_is_kept() {
    let daemon = daemon();
    let mut run = Conversation::begin("run", daemon.caller());
    run.ask(
        "submission.run",
        named("run-1", with(submission("python", "print(int(input())*2)"), "stdin", json!("21\n"))),
    );
    run.ask("submission.run", named("run-2", submission("python", "raise SystemExit(3)")));
    run.ask("submission.run", named("run-3", submission("c", "int main() { return x; }")));
    run.end();
}

#[test]
fn the_transcript_of_a_streamed_run_is_kept() {
    let daemon = daemon();
    let mut streamed = Conversation::begin("streamed-run", daemon.caller());
    let hello = submission("c", "#include <stdio.h>\nint main() { puts(\"hello\"); }");
    streamed.ask("submission.run", with(named("stream-1", hello), "stream", json!(true)));
    streamed.end();
}

#[test]
fn the_transcript_of_tests_is_kept() {
    let daemon = daemon();
    let mut tests = Conversation::begin("tests", daemon.caller());
    let add = named("tests-1", submission("python", "print(sum(map(float, input().split())))"));
    let given = json!([
        { "name": "words", "stdin": "1 2\n", "expect": "3.0\n", "checker": { "kind": "tokens" } },
        { "name": "nearly", "stdin": "0.1 0.2\n", "expect": "0.3", "checker": { "kind": "float", "absolute": 1e-9 }, "weight": 2 },
        { "name": "bytes", "stdin": "1 2\n", "expect": "3", "checker": { "kind": "exact" } },
        { "name": "never", "stdin": "1 2\n", "expect": "3.0", "group": "later" },
    ]);
    tests.ask("submission.run", with(with(add, "tests", given), "stop", json!("first_failure")));
    let checker = json!({ "kind": "program", "language": "python", "files": [{ "path": "check.py",
        "content": "import sys\nsays = sys.stdin.read().split()\nsys.exit(42 if sorted(says) == ['1', '2'] else 43)" }] });
    let any_order = named("tests-2", submission("python", "print(2)\nprint(1)"));
    tests.ask("submission.run", with(with(any_order, "tests", json!([{ "expect": "1 2" }])), "checker", checker));
    let suite = json!({ "format": "pytest", "files": [{ "path": "test_it.py",
        "content": "from main import f\ndef test_right(): assert f(1) == 2\ndef test_wrong(): assert f(2) == 5" }] });
    let doubles = patient(submission("python", "def f(x): return 2 * x"));
    tests.ask("submission.run", with(named("tests-3", doubles), "suite", suite));
    tests.end();
}

#[test]
fn the_transcript_of_a_cancelled_run_is_kept() {
    let daemon = daemon();
    let mut cancel = Conversation::begin("cancel", daemon.caller());
    let run = cancel.send("submission.run", with(endless("cancel-1"), "stream", json!(true)));
    while cancel.lines.last().unwrap().1["params"]["kind"] != "stdout" {
        let line = cancel.caller.line();
        cancel.receive(line);
    }
    let asked = cancel.send("submission.cancel", json!({ "request": run }));
    // the two responses come in any order
    let answer = |cancel: &mut Conversation| loop {
        let line = cancel.caller.line();
        if line.get("id").is_some() {
            return line;
        }
    };
    let (first, second) = (answer(&mut cancel), answer(&mut cancel));
    let (report, done) = if first["id"] == run { (first, second) } else { (second, first) };
    assert_eq!(done["id"], asked);
    cancel.receive(done);
    cancel.receive(report);
    cancel.end();
}

#[test]
fn the_transcript_of_blobs_is_kept() {
    let daemon = daemon();
    let mut blobs = Conversation::begin("blobs", daemon.caller());
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let answer = blobs.ask("blob.put", json!({ "data_b64": encode("1 2 "), "offset": 0, "eof": false }));
    let blob = answer["result"]["blob"].clone();
    blobs.ask("blob.put", json!({ "data_b64": encode("3\n"), "offset": 4, "eof": true, "blob": blob }));
    let long = "print('x' * 1500000, sum(map(int, input().split())))";
    let long = with(named("blobs-1", submission("python", long)), "limits", json!({ "output_bytes": 2_000_000 }));
    let report = blobs.ask("submission.run", with(long, "stdin", json!({ "blob": blob })));
    let output = report["result"]["run"]["stdout"]["blob"].clone();
    let last = blobs.ask("blob.get", json!({ "blob": output, "offset": 1_499_998, "max": 100 }));
    assert_eq!(last["result"]["data_b64"], encode("xx 6\n"));
    let collect =
        with(named("blobs-2", submission("python", "open('out.txt', 'w').write('kept')")), "collect", json!(["*.txt"]));
    blobs.ask("submission.run", collect);
    blobs.end();
}

#[test]
fn the_transcript_of_waiting_is_kept() {
    let daemon = daemon();
    let mut wait = Conversation::begin("wait", daemon.caller());
    wait.ask("submission.submit", endless("wait-1"));
    wait_for_output(&daemon, "wait-1");
    wait.ask("submission.wait", json!({ "id": "wait-1", "timeout_ms": 10 }));
    wait.ask("submission.get", json!({ "id": "wait-1" }));
    wait.ask("submission.cancel", json!({ "id": "wait-1" }));
    wait.ask("submission.wait", json!({ "id": "wait-1" }));
    let echo = named("wait-2", submission("python", "print(input())"));
    wait.ask("submission.submit", with(echo, "stdin_open", json!(true)));
    wait.ask("submission.input", json!({ "id": "wait-2", "data": "fed later\n", "eof": true }));
    wait.ask("submission.wait", json!({ "id": "wait-2", "stream": true, "from_seq": 0 }));
    wait.ask("submission.get", json!({ "id": "wait-2" }));
    wait.ask("submission.logs", json!({ "id": "wait-2" }));
    wait.end();
}

/// Responses that differ from machine to machine are validated, not kept.
#[test]
fn status_and_events_are_valid() {
    let daemon = daemon();
    let mut today = Conversation::begin("today", daemon.caller());
    for method in [
        "daemon.status",
        "daemon.health",
        "pool.list",
        "host.list",
        "sandbox.list",
        "image.list",
        "rpc.discover",
        "submission.list",
    ] {
        today.ask(method, json!({}));
    }
    let built = today.ask("image.build", json!({ "profile": "python" }));
    assert_eq!(built["result"]["built"], false);
    let busy = "import time\nwhile time.process_time() < 1.5: pass";
    let id = today.caller.send("submission.run", &with(patient(submission("python", busy)), "stream", json!(true)));
    let mut usage = 0;
    loop {
        let line = today.caller.line();
        usage += usize::from(line["params"]["kind"] == "usage");
        today.receive(line.clone());
        if line["id"] == id {
            break;
        }
    }
    assert!(usage > 0);
    today.validation.must_hold();
}

/// A daemon with a queue of 3 submissions, 2 per uid, and a profile whose image cannot be built.
fn small_daemon() -> (Daemon, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    for profile in ["python.toml", "bash.toml"] {
        std::fs::copy(root().join("config/profiles").join(profile), folder.path().join(profile)).unwrap();
    }
    let text = "name = 'lost'\ndescription = 'an image without a folder'\nimage = 'lost'\nentry = 'a'\nrun = ['a']\n";
    std::fs::write(folder.path().join("lost.toml"), text).unwrap();
    let config = "[queue]\nmax=3\nmax_per_uid=2\n";
    let options = Options {
        profiles: "python,bash,lost",
        floor: 0,
        config,
        profiles_dir: Some(folder.path()),
        ..Options::default()
    };
    (Daemon::start(&options), folder)
}

fn plain() -> Value {
    submission("python", "print(1)")
}

#[test]
fn the_transcript_of_errors_is_kept() {
    let (daemon, _profiles) = small_daemon();
    let mut errors = Conversation::begin("errors", daemon.caller());
    errors.send_raw_line("nonsense");
    errors.send_raw_line("[]");
    errors.send_raw_line(r#"{"jsonrpc":"2.0","id":"a","method":"daemon.status","extra":1}"#);
    errors.refused("not_found", "submission.walk", json!({}));
    errors.refused("not_found", "submission.wait", json!({ "id": "none" }));
    errors.refused("bad_request", "submission.run", with(plain(), "limits", json!({ "cpu_msx": 1 })));
    errors.refused("bad_request", "submission.run", json!({ "language": "python", "files": [] }));
    errors.refused(
        "unknown_profile",
        "submission.run",
        json!({ "language": "cobol", "files": [{ "path": "a", "content": "" }] }),
    );
    errors.refused("unsupported", "submission.run", with(plain(), "isolation", json!("split")));
    errors.refused("denied", "submission.run", with(plain(), "limits", json!({ "cpus": 64 })));
    errors.refused("too_large", "submission.run", with(plain(), "collect", json!(vec!["a"; 100])));
    errors.refused("image_failed", "image.build", json!({ "profile": "lost" }));
    errors.ask("submission.run", named("conflict-1", plain()));
    errors.refused("conflict", "submission.run", named("conflict-1", submission("python", "print(2)")));
    errors.ask("submission.submit", endless("endless-1"));
    errors.ask("submission.submit", endless("endless-2"));
    errors.refused("quota_exceeded", "submission.submit", plain());
    errors.ask("daemon.drain", json!({}));
    errors.refused("draining", "submission.submit", plain());
    // so that the drain does not wait for them
    for id in ["endless-1", "endless-2"] {
        errors.caller.ok("submission.cancel", json!({ "id": id }));
    }
    errors.end();
}

#[test]
fn the_transcript_of_errors_of_other_uids_is_kept() {
    let (daemon, _profiles) = small_daemon();
    let (mut first, mut second) = (daemon.caller(), daemon.caller_as(3010));
    first.ok("submission.submit", endless("endless-1"));
    first.ok("submission.submit", endless("endless-2"));
    second.ok("submission.submit", endless("endless-3"));
    let mut others = Conversation::begin("errors-of-others", daemon.caller_as(3011));
    others.refused("queue_full", "submission.submit", plain());
    others.refused("forbidden", "daemon.drain", json!({}));
    others.end();
}

#[test]
fn the_transcript_of_history_is_kept() {
    let daemon = Daemon::start(&Options { profiles: "bash", floor: 1, ..Options::default() });
    daemon.warm();
    let mut history = Conversation::begin("history", daemon.caller());
    let tenant = |id, code| with(named(id, submission("bash", code)), "tenant", json!("T"));
    history.ask("submission.run", tenant("first", "echo hello"));
    history.ask("submission.run", tenant("second", "exit 3"));
    let page = history.ask("submission.list", json!({ "tenant": "T", "limit": 1 }));
    let cursor = page["result"]["next_cursor"].clone();
    history.ask("submission.list", json!({ "tenant": "T", "limit": 1, "cursor": cursor }));
    history.ask("submission.get", json!({ "id": "first", "history": true }));
    history.ask("submission.stats", json!({ "tenant": "T" }));
    history.ask("receipt.get", json!({ "id": "second" }));
    history.refused("bad_request", "submission.list", json!({ "cursor": "none" }));
    history.refused("not_found", "receipt.get", json!({ "id": "none" }));
    history.ask("store.check", json!({}));
    history.ask("store.backup", json!({}));
    history.ask("store.vacuum", json!({}));
    history.ask("store.forget", json!({ "tenant": "T" }));
    history.refused("not_found", "submission.get", json!({ "id": "first" }));
    history.end();
}

#[test]
fn the_transcript_of_tokens_is_kept() {
    let config = "[http]\napi = true\nhosts = ['https://judge.example']\n[[http.tokens]]\nname = 'file'\n\
                  sha256 = '0000000000000000000000000000000000000000000000000000000000000000'\ntenant = 'T'\n";
    let daemon = Daemon::start_bare(&Options { profiles: "bash", floor: 0, config, ..Options::default() });
    let mut tokens = Conversation::begin("tokens", daemon.caller());
    tokens.ask("token.add", json!({ "name": "ci", "tenant": "T" }));
    tokens.refused("conflict", "token.add", json!({ "name": "ci", "tenant": "T" }));
    tokens.refused("bad_request", "token.add", json!({ "name": "other" }));
    tokens.refused("bad_request", "token.add", json!({ "name": "a b", "tenant": "T" }));
    tokens.refused("bad_request", "token.add", json!({ "name": "late", "tenant": "T", "expires_ms": 1 }));
    tokens.ask("token.add", json!({ "name": "ci", "replace": true, "role": "admin" }));
    tokens.refused("conflict", "token.add", json!({ "name": "ci", "tenant": "U", "replace": true }));
    tokens.ask("token.list", json!({}));
    tokens.ask("token.revoke", json!({ "name": "ci" }));
    tokens.refused("conflict", "token.add", json!({ "name": "ci", "tenant": "T" }));
    tokens.refused("conflict", "token.revoke", json!({ "name": "file" }));
    tokens.refused("not_found", "token.revoke", json!({ "name": "none" }));
    tokens.ask("session.code", json!({}));
    tokens.end();
}

#[test]
fn the_transcript_of_an_unreachable_deadline_is_kept() {
    let daemon = Daemon::start(&Options { profiles: "bash", floor: 1, ceiling: 1, ..Options::default() });
    let sleeper = submission("bash", "sleep 0.5");
    let mut crowd = daemon.caller();
    for _ in 0..14 {
        crowd.send("submission.run", &sleeper);
    }
    // the daemon estimates the wait from the first ones
    for _ in 0..6 {
        assert_eq!(crowd.line()["result"]["verdict"], "accepted");
    }
    let mut late = Conversation::begin("errors-of-deadlines", daemon.caller());
    late.refused("deadline_unreachable", "submission.run", with(sleeper, "deadline_ms", json!(700)));
    late.end();
    drop(crowd);
}

#[test]
fn the_transcript_without_a_host_is_kept() {
    let nowhere = Options { floor: 0, engine: Some("unix:///nonexistent/docker.sock"), ..Options::default() };
    let daemon = Daemon::start_bare(&nowhere);
    let mut first = daemon.caller();
    eventually("the engine was asked", || first.ok("daemon.health", json!({}))["status"] == "unhealthy");
    let mut alone = Conversation::begin("no-host", daemon.caller());
    alone.refused("no_host", "submission.run", plain());
    let health = alone.ask("daemon.health", json!({}));
    assert_eq!(health["result"]["status"], "unhealthy");
    alone.end();
}

#[test]
fn the_transcript_of_a_full_store_is_kept() {
    let disk = SmallDisk::new(2 << 20);
    let state: &'static str = disk.path().join("state").to_str().unwrap().to_owned().leak();
    let daemon = Daemon::start(&Options { env: &[("ASSAY_STATE_DIR", state)], ..Options::default() });
    daemon.warm();
    let mut full = Conversation::begin("errors-of-a-full-store", daemon.caller());
    full.refused("store_full", "submission.submit", named("full-1", plain()));
    full.refused("not_found", "submission.get", json!({ "id": "full-1" }));
    full.end();
}

#[test]
fn every_kept_transcript_has_a_test() {
    let source = include_str!("transcripts.rs");
    for entry in std::fs::read_dir(root().join("tests/it/golden/transcripts")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let name = name.strip_suffix(".jsonl").unwrap();
        assert!(source.contains(&format!("\"{name}\"")), "{name}");
    }
}
