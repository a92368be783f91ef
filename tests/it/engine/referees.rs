//! Checkers and interactors: programs that judge a submission from a sandbox of their own.

use std::os::unix::fs::MetadataExt;

use serde_json::{Value, json};

use crate::harness::{Caller, Daemon, Options, eventually, submission, with};

fn daemon() -> Daemon {
    Daemon::start(&Options { profiles: "python,cpp,bash", floor: 0, ..Options::default() })
}

fn checker(code: &str) -> Value {
    json!({ "kind": "program", "language": "python", "files": [{ "path": "check.py", "content": code }] })
}

/// Judges a program that echoes its input with a checker.
fn echo(caller: &mut Caller, checker: Value, tests: Value) -> Value {
    let work = with(with(submission("bash", "cat"), "checker", checker), "tests", tests);
    caller.ok("submission.run", work)
}

fn verdicts(report: &Value) -> Vec<&str> {
    report["tests"].as_array().unwrap().iter().map(|test| test["verdict"].as_str().unwrap()).collect()
}

const VALIDATOR: &str = r#"
import sys
given, answer, feedback = open(sys.argv[1]).read(), open(sys.argv[2]).read(), sys.argv[3]
assert feedback.endswith("/")
out = sys.stdin.read()
open(feedback + "judgemessage.txt", "w").write("wanted %r, flags %r" % (answer, sys.argv[4:]))
if out.split() == answer.split():
    open(feedback + "score.txt", "w").write("2.5")
    sys.exit(42)
open(feedback + "teammessage.txt", "w").write("Have a look at the sign.")
sys.exit(43)
"#;

#[test]
fn an_output_validator_decides_and_its_feedback_is_hidden_for_secret_tests() {
    let daemon = daemon();
    let mut validator = checker(VALIDATOR);
    validator["args"] = json!(["case_sensitive", "7"]);
    let tests = json!([
        { "stdin": "5\n", "expect": "5" },
        { "stdin": "5\n", "expect": "-5" },
        { "stdin": "6\n", "expect": "-6", "secret": true },
    ]);
    let report = echo(&mut daemon.caller(), validator, tests);
    assert_eq!(verdicts(&report), ["accepted", "wrong_answer", "wrong_answer"], "{report:#}");
    assert_eq!(report["tests"][0]["points"], 2.5);
    assert_eq!(report["tests"][1]["message"], "Have a look at the sign.");
    assert_eq!(report["tests"][1]["feedback"], "wanted '-5', flags ['case_sensitive', '7']");
    assert_eq!(report["tests"][2]["feedback"], Value::Null);
    assert_eq!(report["score"], json!({ "passed": 1, "total": 3, "points": 2.5, "max_points": 3.0 }));
    assert!(report["timing"]["check_ms"].as_f64().unwrap() > 0.0);
}

#[test]
fn a_cpp_checker_with_the_testlib_protocol_gives_points() {
    let daemon = daemon();
    let code = r#"
#include <bits/stdc++.h>
int main(int argc, char** argv) {
    std::ifstream input(argv[1]), output(argv[2]), answer(argv[3]);
    int want, got;
    answer >> want;
    if (!(output >> got)) { std::cerr << "wrong output format no number"; return 2; }
    if (got == want) return 0;
    if (got == want + 1) { std::cerr << "points 0.5 nearly"; return 7; }
    std::cerr << "wrong answer expected " << want; return 1;
}"#;
    let testlib = json!({
        "kind": "program", "language": "cpp", "protocol": "testlib", "files": [{ "path": "check.cpp", "content": code }],
    });
    let test = |input: &str| json!({ "stdin": input, "expect": "5" });
    let tests = json!([test("5"), test("6"), test("7"), test("five")]);
    let mut caller = daemon.caller();
    let report = echo(&mut caller, testlib.clone(), tests.clone());
    assert_eq!(verdicts(&report), ["accepted", "partial", "wrong_answer", "wrong_answer"], "{report:#}");
    assert_eq!(report["verdict"], "partial");
    assert_eq!(report["score"]["points"], 1.5);
    assert_eq!(report["tests"][2]["feedback"], "wrong answer expected 5");
    // the second time the cached artifact is used, and not stored again
    let cache = daemon.folder.path().join("state/cache");
    let entries = || -> Vec<(u64, std::time::SystemTime)> {
        let files = std::fs::read_dir(&cache).into_iter().flatten().map(|entry| entry.unwrap());
        let complete = files.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'));
        complete.map(|entry| entry.metadata().unwrap()).map(|meta| (meta.ino(), meta.modified().unwrap())).collect()
    };
    eventually("the artifact is cached", || entries().len() == 1);
    let first = entries();
    let again = echo(&mut caller, testlib, tests);
    assert_eq!(verdicts(&again), verdicts(&report));
    let then = entries();
    assert!(then.len() == 1 && then[0].0 == first[0].0 && then[0].1 > first[0].1, "{first:?} {then:?}");
}

#[test]
fn a_broken_checker_is_never_the_submissions_fault() {
    let daemon = daemon();
    let mut caller = daemon.caller();
    let mut one = |code: &str, limits: Value| {
        let mut checker = checker(code);
        checker["limits"] = limits;
        echo(&mut caller, checker, json!([{ "stdin": "1", "expect": "1" }]))
    };
    let broken = [
        ("raise ValueError('oops')", json!({}), "ValueError: oops"),
        ("import sys; sys.exit(0)", json!({}), "neither 42 nor 43"),
        ("while True: pass", json!({ "cpu_ms": 200 }), "took too long"),
        ("import time; time.sleep(60)", json!({ "wall_ms": 300 }), "took too long"),
        ("x = bytearray(10**9)", json!({}), "too much memory"),
        ("import os; os.kill(os.getpid(), 11)", json!({}), "signal 11"),
        ("import sys; open(sys.argv[3] + 'score.txt', 'w').write('many'); sys.exit(42)", json!({}), "score.txt"),
        ("def", json!({}), "SyntaxError"),
    ];
    for (code, limits, reason) in broken {
        let report = one(code, limits);
        assert_eq!((&report["verdict"], &report["blame"]), (&json!("system_error"), &json!("caller")), "{report:#}");
        let message = report["message"].as_str().unwrap();
        assert!(message.contains(reason) && message.contains("not the submission's fault"), "{code}: {message}");
    }
    // the output of one that prints too much is truncated, and its decision counts
    let flood = "import sys\nsys.stdout.write('x' * 10**7)\nsys.stderr.write('y' * 10**7)\nsys.exit(42)";
    assert_eq!(one(flood, json!({}))["verdict"], "accepted");
}

#[test]
fn a_checker_that_does_not_compile_is_reported_before_any_test_runs() {
    let daemon = daemon();
    let checker =
        json!({ "kind": "program", "language": "cpp", "files": [{ "path": "c.cpp", "content": "int main( {" }] });
    let report = echo(&mut daemon.caller(), checker, json!([{ "stdin": "1" }, { "stdin": "2" }]));
    assert_eq!((&report["verdict"], &report["blame"]), (&json!("system_error"), &json!("caller")));
    assert!(report["message"].as_str().unwrap().starts_with("The checker does not compile: c.cpp:1"), "{report:#}");
    assert_eq!(verdicts(&report), ["skipped", "skipped"]);
}

#[test]
fn the_answer_never_enters_the_submissions_sandbox_and_only_good_runs_are_checked() {
    let daemon = daemon();
    let code = "grep -rls 'hus[h]' /box /tmp /dev/shm /proc/[0-9]*/environ 2>/dev/null; read x; [ $x = 1 ]";
    let checker =
        checker("import sys\nsys.exit(42 if not sys.stdin.read() and open(sys.argv[2]).read() == 'hush' else 43)");
    let tests = json!([{ "stdin": "1\n", "expect": "hush" }, { "stdin": "2\n", "expect": "hush" }]);
    let work = with(with(submission("bash", code), "checker", checker), "tests", tests);
    let report = daemon.caller().ok("submission.run", work);
    assert_eq!(verdicts(&report), ["accepted", "runtime_error"], "{report:#}");
}

#[test]
fn many_submissions_that_need_two_sandboxes_each_do_not_deadlock() {
    let options = Options {
        profiles: "bash",
        floor: 2,
        ceiling: 2,
        config: "[engine]\ncpu_overcommit=8\n",
        ..Options::default()
    };
    let daemon = Daemon::start(&options);
    // at first, submissions take all sandboxes that the ceiling allows
    daemon.warm();
    let checker = json!({
        "kind": "program", "language": "bash",
        "files": [{ "path": "check.sh", "content": "read x; [ $x = 42 ] && exit 42; exit 43" }],
    });
    let work = with(with(submission("bash", "echo 42"), "checker", checker), "tests", json!([{}]));
    let mut caller = daemon.caller();
    let calls: Vec<u64> = (0..12).map(|_| caller.send("submission.run", &work)).collect();
    for call in calls {
        assert_eq!(caller.answer(call)["result"]["verdict"], "accepted");
    }
}

/// An interactor for guessing a number: it answers higher, lower or found.
const GUESSING: &str = r#"
import sys
secret = int(open(sys.argv[1]).read())
for turn in range(40):
    line = sys.stdin.readline()
    if not line:
        sys.exit(43)
    guess = int(line)
    if guess == secret:
        print("found", flush=True)
        sys.exit(42)
    print("higher" if guess < secret else "lower", flush=True)
open(sys.argv[3] + "teammessage.txt", "w").write("Too many guesses.")
sys.exit(43)
"#;

fn interact(caller: &mut Caller, interactor: &str, code: &str, tests: Value) -> Value {
    let interactor = json!({ "language": "python", "files": [{ "path": "interact.py", "content": interactor }] });
    let work = with(with(submission("python", code), "interactor", interactor), "tests", tests);
    caller.ok("submission.run", work)
}

const SEARCH: &str = "low, high = 1, 1000\nwhile True:\n  mid = (low + high) // 2\n  print(mid, flush=True)\n  said = input()\n  if said == 'found': break\n  if said == 'higher': low = mid + 1\n  else: high = mid - 1";

#[test]
fn a_conversation_with_an_interactor_is_judged_and_recorded() {
    let daemon = daemon();
    let mut caller = daemon.caller();
    let tests = json!([{ "stdin": "500" }, { "stdin": "1" }, { "stdin": "777", "secret": true }]);
    let report = interact(&mut caller, GUESSING, SEARCH, tests);
    assert_eq!(verdicts(&report), ["accepted", "accepted", "accepted"], "{report:#}");
    let turns = [("submission", "500\n"), ("interactor", "found\n")];
    let transcript: Vec<Value> = turns.iter().map(|(from, data)| json!({ "from": from, "data": data })).collect();
    assert_eq!(report["tests"][0]["transcript"], json!(transcript));
    assert_eq!(report["tests"][2]["transcript"], Value::Null);
}

#[test]
fn the_side_that_ends_first_decides() {
    let daemon = daemon();
    let mut caller = daemon.caller();
    let mut one = |interactor: &str, code: &str, limits: Value| {
        let report = interact(&mut caller, interactor, code, json!([{ "stdin": "7", "limits": limits }]));
        let test = &report["tests"][0];
        let text = |key: &str| test[key].as_str().unwrap_or_default().to_owned();
        (text("verdict"), text("message"), report)
    };
    let none = json!({});
    // too many guesses: the interactor's verdict, although the program continues
    let (verdict, message, _) = one(GUESSING, "while True:\n  print(1, flush=True)\n  input()", none.clone());
    assert_eq!((verdict.as_str(), message.as_str()), ("wrong_answer", "Too many guesses."));
    // the program crashes first
    let (verdict, message, _) = one(GUESSING, "print(1, flush=True)\ninput()\nraise ValueError('x')", none.clone());
    assert_eq!(verdict, "runtime_error");
    assert!(message.contains("ValueError: x"), "{message}");
    // the program exits with status 0 too early
    assert_eq!(one(GUESSING, "print(1)", none.clone()).0, "wrong_answer");
    // accepted by the interactor, but then the program fails
    let (verdict, message, _) = one(GUESSING, "print(7, flush=True)\ninput()\nraise SystemExit(3)", none.clone());
    assert_eq!(verdict, "runtime_error", "{message}");
    // an interactor whose output is never read
    let loud = "import sys\nwhile True: sys.stdout.write('y' * 1000)";
    let (verdict, _, report) = one(loud, "import time; time.sleep(60)", json!({ "wall_ms": 700 }));
    assert_eq!(verdict, "time_limit", "{report:#}");
    // an interactor that exceeds its output limit is broken
    let mut flood = json!({ "language": "python", "files": [{ "path": "i.py", "content": loud }] });
    flood["limits"] = json!({ "output_bytes": 100_000 });
    let code = "import sys\nfor line in sys.stdin: pass";
    let work = with(with(submission("python", code), "interactor", flood), "tests", json!([{}]));
    let report = daemon.caller().ok("submission.run", work);
    assert_eq!(report["verdict"], "system_error", "{report:#}");
    assert!(report["message"].as_str().unwrap().contains("printed too much"), "{report:#}");
    // an interactor that crashes is not a wrong answer
    let (verdict, message, report) = one("raise KeyError('z')", "input()", none);
    assert_eq!((verdict.as_str(), &report["blame"]), ("system_error", &json!("caller")), "{message}");
}

#[test]
fn when_both_sides_wait_the_one_whose_turn_it_is_decides() {
    let daemon = daemon();
    let mut caller = daemon.caller();
    let mut one = |interactor: &str, code: &str| {
        let report = interact(&mut caller, interactor, code, json!([{ "stdin": "7" }]));
        let test = report["tests"][0].clone();
        let verdict = test["verdict"].as_str().unwrap().to_owned();
        (verdict, test["evidence"]["limit"].clone(), test["message"].as_str().unwrap().to_owned(), report)
    };
    let waits = ("time_limit".to_owned(), json!("idle_ms"));
    // it never speaks; it does not flush; it does not end the line
    let keeps = "import os, sys\nsys.stdout.write('7\\n')\nos.read(0, 1)";
    for code in ["input()", keeps, "print(7, end='', flush=True)\ninput()"] {
        let (verdict, limit, message, report) = one(GUESSING, code);
        assert_eq!((verdict, limit), waits, "{code}: {report:#}");
        assert!(message.contains("flush"), "{message}");
    }
    // an interactor that does not answer, and one that does not read
    let silent = "import sys, time\nsys.stdin.readline()\ntime.sleep(60)";
    let deaf = "import time; time.sleep(60)";
    for (interactor, code) in [(silent, "print(1, flush=True)\ninput()"), (deaf, "while True: print('x' * 1000)")] {
        let (verdict, _, message, report) = one(interactor, code);
        assert_eq!((verdict.as_str(), &report["blame"]), ("system_error", &json!("caller")), "{report:#}");
        assert!(message.contains("interactor"), "{message}");
    }
    // one that computes does not wait
    let computes = "import time\nwhile time.process_time() < 1.7: pass\nprint(7, flush=True)\ninput()";
    let (verdict, _, _, report) = one(GUESSING, computes);
    assert_eq!(verdict, "accepted", "{report:#}");
}

#[test]
fn a_submission_that_does_not_finish_its_answer_is_not_the_interactors_failure() {
    let daemon = daemon();
    let mut caller = daemon.caller();
    let interactor = "import sys\nwords = []\nprint('two numbers', flush=True)\nwhile len(words) < 2:\n  line = sys.stdin.readline()\n  if not line: sys.exit(43)\n  words += line.split()\nsys.exit(42)";
    let read = "import time\ninput()\n";
    for (code, limit) in [
        ("print(flush=True)\ntime.sleep(60)", "idle_ms"),
        ("print(1, flush=True)\ntime.sleep(60)", "idle_ms"),
        ("print(1, flush=True)\ninput()", "idle_ms"),
        ("while True:\n  print(flush=True)\n  time.sleep(0.3)", "wall_ms"),
        ("while True:\n  print(flush=True)\n  time.sleep(0.02)", "wall_ms"),
        ("while True:\n  print(flush=True)\n  end = time.time() + 0.2\n  while time.time() < end: pass", "wall_ms"),
    ] {
        let limits = json!({ "wall_ms": 3000, "cpu_ms": 10_000 });
        let work = json!([{ "stdin": "", "limits": limits }]);
        let report = interact(&mut caller, interactor, &format!("{read}{code}"), work);
        let test = &report["tests"][0];
        assert_eq!((&test["verdict"], &test["evidence"]["limit"]), (&json!("time_limit"), &json!(limit)), "{report:#}");
        assert_eq!(report["blame"], Value::Null, "{report:#}");
    }
    let report = interact(&mut caller, interactor, &format!("{read}print(1)\nprint(2)"), json!([{}]));
    assert_eq!(verdicts(&report), ["accepted"], "{report:#}");
}

#[test]
fn waiting_for_the_interactor_is_not_charged() {
    let daemon = daemon();
    let mut caller = daemon.caller();
    // many answers that take no time: the relay's part is not charged
    let echo = "import sys\nn = int(open(sys.argv[1]).read())\nfor i in range(n):\n  print(i, flush=True)\n  if sys.stdin.readline() != '%d\\n' % i: sys.exit(43)\nprint('end', flush=True)\nsys.exit(42)";
    let code = "for line in iter(input, 'end'): print(line, flush=True)";
    let report = interact(&mut caller, echo, code, json!([{ "stdin": "3000" }]));
    let figures = |report: &Value| {
        let charged = report["tests"][0]["wall_ms"].as_f64().unwrap();
        (charged, report["timing"]["run_ms"].as_f64().unwrap())
    };
    assert_eq!(verdicts(&report), ["accepted"], "{}", report["tests"][0]["message"]);
    let (charged, whole) = figures(&report);
    assert!(charged < whole / 2.0, "{charged} of {whole} ms");
    // a few answers that take longer than the wall limit in all
    let slow = "import sys, time\nfor i in range(4):\n  end = time.process_time() + 0.7\n  while time.process_time() < end: pass\n  print(i, flush=True)\n  if sys.stdin.readline() != '%d\\n' % i: sys.exit(43)\nprint('end', flush=True)\nsys.exit(42)";
    let report = interact(&mut caller, slow, code, json!([{ "stdin": "", "limits": { "wall_ms": 2500 } }]));
    assert_eq!(verdicts(&report), ["accepted"], "{}", report["tests"][0]["message"]);
    let (charged, whole) = figures(&report);
    assert!(charged < 2500.0 && whole > 2500.0, "{charged} of {whole} ms");
}

#[test]
fn a_long_conversation_is_relayed_completely() {
    let daemon = daemon();
    let echo = "import os, sys\nn = int(open(sys.argv[1]).read())\nfor i in range(0, n, 1000):\n  for j in range(i, i + 1000): print(j)\n  sys.stdout.flush()\n  for j in range(i, i + 1000):\n    if int(sys.stdin.readline()) != 2 * j: sys.exit(43)\nos.close(1)\nsys.exit(42 if sys.stdin.read() == '' else 43)";
    let code = "import sys\nfor line in sys.stdin: print(2 * int(line), flush=(int(line) % 1000 == 999))";
    let tests =
        json!([{ "stdin": "200000", "limits": { "output_bytes": 60_000_000, "cpu_ms": 60_000, "wall_ms": 120_000 } }]);
    let report = interact(&mut daemon.caller(), echo, code, tests);
    assert_eq!(verdicts(&report), ["accepted"], "{}", report["tests"][0]["message"]);
    assert_eq!(report["tests"][0]["transcript_truncated"], true);
}

#[test]
fn a_conversation_and_a_check_can_be_cancelled() {
    let daemon = daemon();
    let sleeper = json!({ "language": "python", "files": [{ "path": "i.py", "content": "while True: pass" }] });
    let interactive = with(with(submission("python", "input()"), "interactor", sleeper.clone()), "tests", json!([{}]));
    cancelled(&daemon, with(interactive, "id", json!("interactive")));
    let checker = with(sleeper, "kind", json!("program"));
    let check = with(with(submission("python", "print(1)"), "checker", checker), "tests", json!([{}, {}]));
    cancelled(&daemon, with(check, "id", json!("check")));
}

/// Cancels a submission from another connection once it runs.
fn cancelled(daemon: &Daemon, work: Value) {
    let id = work["id"].clone();
    let mut caller = daemon.caller();
    let call = caller.send("submission.run", &work);
    let mut other = daemon.caller();
    eventually("it runs", || {
        let rows = other.ok("submission.list", json!({ "state": "running" }));
        !rows["submissions"].as_array().unwrap().is_empty()
    });
    std::thread::sleep(std::time::Duration::from_millis(400));
    other.ok("submission.cancel", json!({ "id": id }));
    let report = caller.answer(call)["result"].clone();
    assert_eq!((&report["verdict"], &report["blame"]), (&json!("cancelled"), &Value::Null), "{report:#}");
}
