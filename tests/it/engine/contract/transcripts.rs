//! Real conversations with a real daemon, kept in tests/it/golden/transcripts: one line of the socket a line, under who said it.
//! Each line is also validated as it came, and once more as it is kept.
//!
//! What differs from day to day is masked: figures that were measured are 0, names that were made are numbered, and `usage` events,
//! which come when they come, are left out.

use std::collections::BTreeMap;

use base64::Engine as _;
use serde_json::{Value, json};
use server::rpc::schema;

use super::{Validation, must_be};
use crate::harness::{Caller, Daemon, Options, eventually, patient, root, submission, with};

/// A conversation under way.
struct Talk {
    name: &'static str,
    caller: Caller,
    said: Vec<(&'static str, Value)>,
    methods: BTreeMap<u64, String>,
    validation: Validation,
}

impl Talk {
    fn begin(name: &'static str, caller: Caller) -> Talk {
        let hello = caller.hello.clone();
        let mut talk =
            Talk { name, caller, said: Vec::new(), methods: BTreeMap::new(), validation: Validation::default() };
        talk.heard(hello);
        talk
    }

    /// A line of the daemon.
    fn heard(&mut self, line: Value) {
        self.validation.add(self.name, &schema::document(), &line);
        if let Some(method) = line["id"].as_u64().and_then(|id| self.methods.get(&id))
            && line.get("result").is_some()
        {
            let result = &schema::document()["methods"][method]["result"];
            self.validation.add(&format!("{}: the result of {method}", self.name), result, &line["result"]);
        }
        if line["params"]["kind"] != "usage" {
            self.said.push(("daemon", line));
        }
    }

    /// A line that need not be one of the protocol.
    fn say_raw(&mut self, line: &str) {
        self.caller.send_raw(format!("{line}\n").as_bytes());
        self.said.push(("caller", serde_json::from_str(line).unwrap_or_else(|_| json!(line))));
        let answer = self.caller.line();
        self.heard(answer);
    }

    fn send(&mut self, method: &str, params: Value) -> u64 {
        let id = self.caller.send(method, &params);
        self.said.push(("caller", json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })));
        self.methods.insert(id, method.to_owned());
        id
    }

    /// Asks what must be a line of the protocol, and waits for the answer.
    fn ask(&mut self, method: &str, params: Value) -> Value {
        let id = self.send(method, params);
        let (_, line) = self.said.last().unwrap();
        self.validation.add(&format!("{}: the call of {method}", self.name), &schema::document(), line);
        self.until(id)
    }

    /// Asks what must be refused with that word.
    fn refused(&mut self, word: &str, method: &str, params: Value) {
        let id = self.send(method, params);
        let error = self.until(id)["error"].clone();
        assert_eq!(error["data"]["code"], word, "{error}");
    }

    fn until(&mut self, id: u64) -> Value {
        loop {
            let line = self.caller.line();
            self.heard(line.clone());
            if line["id"] == id {
                return line;
            }
        }
    }

    /// Compares it with what is kept.
    fn end(mut self) {
        let mut mask = Mask::default();
        let mut text = String::new();
        let mut events = 0;
        for (who, mut line) in self.said {
            if line["method"] == "submission.event" {
                line["params"]["seq"] = json!(events);
                events += 1;
            } else {
                events = 0;
            }
            if who == "daemon" {
                mask.apply(&mut line);
                self.validation.add(&format!("{}, as it is kept", self.name), &schema::document(), &line);
            } else {
                mask.names(&mut line);
            }
            text += &format!("{}\n", json!({ who: line }));
        }
        must_be(&root().join(format!("tests/it/golden/transcripts/{}.jsonl", self.name)), &text);
        self.validation.must_hold();
    }
}

/// What hides what differs.
#[derive(Default)]
struct Mask {
    names: BTreeMap<String, String>,
}

impl Mask {
    /// Names that were made: ids of blobs and submissions.
    fn names(&mut self, value: &mut Value) {
        match value {
            Value::Object(map) => map.values_mut().for_each(|inner| self.names(inner)),
            Value::Array(list) => list.iter_mut().for_each(|inner| self.names(inner)),
            Value::String(text) => {
                let is_uuid = text.len() == 36 && text.matches('-').count() == 4;
                if is_uuid {
                    let next = format!("made-{}", self.names.len() + 1);
                    *text = self.names.entry(text.clone()).or_insert(next).clone();
                }
            }
            _ => {}
        }
    }

    fn apply(&mut self, value: &mut Value) {
        self.names(value);
        measured(value, "");
    }
}

/// Figures that were measured, and facts about this machine.
fn measured(value: &mut Value, within: &str) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                let is_figure = key.ends_with("_ms") || ["memory_bytes", "max_rss_bytes"].contains(&key.as_str());
                match (key.as_str(), &inner) {
                    // announced, not measured
                    _ if within == "limits" => {}
                    (_, Value::Number(_)) if is_figure => *inner = json!(0),
                    ("version" | "instance" | "engine" | "image" | "host", Value::String(_)) => *inner = json!("..."),
                    ("id", Value::String(_)) if within == "sandbox" => *inner = json!("..."),
                    ("isolation", Value::String(_)) => *inner = json!("cell"),
                    ("start", Value::String(_)) => *inner = json!("warm"),
                    ("memory_source", Value::String(_)) => *inner = json!("cgroup_peak"),
                    // words about places of this machine, or about time
                    ("message", Value::String(text)) if text.contains('/') || text.contains(" ms") => {
                        *inner = json!("...");
                    }
                    // a test runner says how long it took
                    ("suite", Value::Object(_)) => {
                        inner["run"]["stdout"] = json!("...");
                        inner["run"]["evidence"]["stdout_bytes"] = json!(0);
                        measured(inner, key);
                    }
                    _ => measured(inner, key),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|inner| measured(inner, within)),
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

/// Waits until what was submitted has said something: what a run has used is known from then on.
fn says_something(daemon: &Daemon, id: &str) {
    let mut watcher = daemon.caller();
    watcher.send("submission.wait", &json!({ "id": id, "stream": true, "from_seq": 0 }));
    while watcher.line()["params"]["kind"] != "stdout" {}
}

#[test]
fn conversations_go_as_they_are_kept() {
    let daemon = Daemon::start(&Options { profiles: "python,c", floor: 1, ..Options::default() });
    daemon.warm();
    let talk = |name| Talk::begin(name, daemon.caller());

    let mut hello = talk("hello");
    hello.ask("profile.list", json!({}));
    hello.ask("submission.list", json!({}));
    hello.ask("daemon.reload", json!({}));
    hello.ask("host.drain", json!({ "host": "local" }));
    hello.ask("host.resume", json!({ "host": "local" }));
    hello.end();
    eventually("work is taken again", || daemon.caller().ok("daemon.health", json!({}))["status"] == "healthy");

    let mut run = talk("run");
    run.ask(
        "submission.run",
        named("run-1", with(submission("python", "print(int(input())*2)"), "stdin", json!("21\n"))),
    );
    run.ask("submission.run", named("run-2", submission("python", "raise SystemExit(3)")));
    run.ask("submission.run", named("run-3", submission("c", "int main() { return x; }")));
    run.end();

    let mut streamed = talk("streamed-run");
    let hello = submission("c", "#include <stdio.h>\nint main() { puts(\"hello\"); }");
    streamed.ask("submission.run", with(named("stream-1", hello), "stream", json!(true)));
    streamed.end();

    let mut tests = talk("tests");
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

    let mut cancel = talk("cancel");
    let run = cancel.send("submission.run", with(endless("cancel-1"), "stream", json!(true)));
    while cancel.said.last().unwrap().1["params"]["kind"] != "stdout" {
        let line = cancel.caller.line();
        cancel.heard(line);
    }
    let asked = cancel.send("submission.cancel", json!({ "request": run }));
    // two answers, in whatever order
    let answer = |cancel: &mut Talk| loop {
        let line = cancel.caller.line();
        if line.get("id").is_some() {
            return line;
        }
    };
    let (first, second) = (answer(&mut cancel), answer(&mut cancel));
    let (report, done) = if first["id"] == run { (first, second) } else { (second, first) };
    assert_eq!(done["id"], asked);
    cancel.heard(done);
    cancel.heard(report);
    cancel.end();

    let mut blobs = talk("blobs");
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

    let mut wait = talk("wait");
    wait.ask("submission.submit", endless("wait-1"));
    says_something(&daemon, "wait-1");
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

    // what is too much of today for a file is validated all the same
    let mut today = talk("today");
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
        today.heard(line.clone());
        if line["id"] == id {
            break;
        }
    }
    assert!(usage > 0);
    today.validation.must_hold();
}

#[test]
fn every_error_that_can_be_had_is_as_it_is_kept() {
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
    let daemon = Daemon::start(&options);
    let mut errors = Talk::begin("errors", daemon.caller());
    errors.say_raw("nonsense");
    errors.say_raw("[]");
    errors.say_raw(r#"{"jsonrpc":"2.0","id":"a","method":"daemon.status","extra":1}"#);
    let plain = || submission("python", "print(1)");
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
    errors.refused("internal", "image.build", json!({ "profile": "lost" }));
    errors.ask("submission.run", named("conflict-1", plain()));
    errors.refused("conflict", "submission.run", named("conflict-1", submission("python", "print(2)")));
    errors.ask("submission.submit", endless("endless-1"));
    errors.ask("submission.submit", endless("endless-2"));
    errors.refused("quota_exceeded", "submission.submit", plain());
    // another uid takes the last place
    let mut other = daemon.caller_as(3010);
    other.ok("submission.submit", endless("endless-3"));
    let mut others = Talk::begin("errors-of-others", daemon.caller_as(3011));
    others.refused("queue_full", "submission.submit", plain());
    others.refused("forbidden", "daemon.drain", json!({}));
    others.end();
    errors.ask("daemon.drain", json!({}));
    errors.refused("draining", "submission.submit", plain());
    // so that the drain need not wait for them
    for (caller, id) in [(&mut errors.caller, "endless-1"), (&mut other, "endless-3")] {
        caller.ok("submission.cancel", json!({ "id": id }));
    }
    errors.caller.ok("submission.cancel", json!({ "id": "endless-2" }));
    errors.end();

    let daemon = Daemon::start(&Options { profiles: "bash", floor: 1, ceiling: 1, ..Options::default() });
    let sleeper = submission("bash", "sleep 0.5");
    let mut crowd = daemon.caller();
    for _ in 0..14 {
        crowd.send("submission.run", &sleeper);
    }
    // the pace is known after some
    for _ in 0..6 {
        assert_eq!(crowd.line()["result"]["verdict"], "accepted");
    }
    let mut late = Talk::begin("errors-of-deadlines", daemon.caller());
    late.refused("deadline_unreachable", "submission.run", with(sleeper, "deadline_ms", json!(700)));
    late.end();
    drop(crowd);

    let nowhere = Options { floor: 0, engine: Some("unix:///nonexistent/docker.sock"), ..Options::default() };
    let daemon = Daemon::start_bare(&nowhere);
    let mut first = daemon.caller();
    eventually("the engine was asked", || first.ok("daemon.health", json!({}))["status"] == "unhealthy");
    let mut alone = Talk::begin("no-host", daemon.caller());
    alone.refused("no_host", "submission.run", plain());
    let health = alone.ask("daemon.health", json!({}));
    assert_eq!(health["result"]["status"], "unhealthy");
    alone.end();
}

#[test]
fn no_transcript_is_kept_of_which_nobody_speaks() {
    let source = include_str!("transcripts.rs");
    for entry in std::fs::read_dir(root().join("tests/it/golden/transcripts")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let name = name.strip_suffix(".jsonl").unwrap();
        assert!(source.contains(&format!("\"{name}\"")), "{name}");
    }
}
