//! Test files run against a submission: what they say, and what the code under test may try to make them say.

use serde_json::{Value, json};

use crate::harness::{Caller, Daemon, Options, patient, with};

fn daemon() -> Daemon {
    Daemon::start(&Options { profiles: "python,javascript,bash,c,go,rust,java", floor: 0, ..Options::default() })
}

const TESTS: &str = "
from main import add
import pytest, unittest

def test_small():
    assert add(1, 2) == 3

@pytest.mark.parametrize('n', [5, 6])
def test_many(n):
    assert add(n, n) == 2 * n, 'hint: think of carrying'

class TestOld(unittest.TestCase):
    def test_zero(self):
        self.assertEqual(add(0, 0), 0)

@pytest.mark.skip(reason='later')
def test_later():
    assert False
";

fn lesson(code: &str, tests: &str) -> Value {
    json!({
        "language": "python", "preset": "lesson", "files": [{ "path": "main.py", "content": code }],
        "suite": { "files": [{ "path": "test_main.py", "content": tests }], "format": "pytest" },
    })
}

fn graded(caller: &mut Caller, code: &str, tests: &str) -> Value {
    caller.ok("submission.run", patient(lesson(code, tests)))
}

#[test]
fn a_pytest_suite_says_how_each_case_went() {
    let daemon = daemon();
    let mut caller = daemon.caller();
    let report = graded(&mut caller, "def add(a, b): return a + b", TESTS);
    assert_eq!(
        (&report["verdict"], &report["message"]),
        (&json!("accepted"), &json!("All 4 tests passed.")),
        "{report:#}"
    );
    let suite = &report["suite"];
    let counts = ["passed", "failed", "errors", "skipped"].map(|key| suite[key].as_u64().unwrap());
    assert_eq!(counts, [4, 0, 0, 1]);
    let names: Vec<_> = suite["cases"].as_array().unwrap().iter().map(|case| case["name"].as_str().unwrap()).collect();
    let expect = ["small", "many[5]", "many[6]", "zero", "later"];
    assert!(names.iter().zip(expect).all(|(name, end)| name.ends_with(end)), "{names:?}");
    assert!(suite["cases"][0]["duration_ms"].as_f64().unwrap() > 0.0);
    // what pytest prints is there for people, our own lines are not
    let stdout = suite["run"]["stdout"].as_str().unwrap();
    assert!(stdout.contains("4 passed, 1 skipped") && !stdout.contains("assay"), "{stdout}");

    let report = graded(&mut caller, "def add(a, b): return a + b if a < 6 else 0", TESTS);
    assert_eq!((&report["verdict"], &report["suite"]["failed"]), (&json!("wrong_answer"), &json!(1)));
    let message = report["message"].as_str().unwrap();
    assert!(message.contains("test_many[6]") && message.contains("hint: think of carrying"), "{message}");
    assert_eq!(report["score"], json!({ "passed": 3, "total": 4, "points": 3.0, "max_points": 4.0 }));
}

#[test]
fn what_is_no_failed_assertion_is_a_runtime_error() {
    let daemon = daemon();
    let mut caller = daemon.caller();
    let of = |report: Value| {
        let suite = &report["suite"];
        (report["verdict"].as_str().unwrap().to_owned(), suite["failed"].as_u64(), suite["errors"].as_u64(), report)
    };
    let (verdict, failed, _, report) = of(graded(&mut caller, "def add(a, b): return a + c", TESTS));
    assert_eq!((verdict.as_str(), failed), ("runtime_error", Some(4)), "{report:#}");
    assert!(report["message"].as_str().unwrap().contains("NameError"), "{report:#}");
    let (verdict, _, errors, report) = of(graded(&mut caller, "def add(a, b) return", TESTS));
    assert_eq!((verdict.as_str(), errors), ("runtime_error", Some(1)), "{report:#}");
    assert!(report["message"].as_str().unwrap().contains("SyntaxError"), "{report:#}");
    let (verdict, ..) = of(graded(&mut caller, "", "def helper(): pass"));
    assert_eq!(verdict, "runtime_error");
    // the preset's own limits
    let endless = lesson("def add(a, b):\n  while True: pass", TESTS);
    let (verdict, _, _, report) = of(caller.ok("submission.run", endless));
    assert_eq!(verdict, "time_limit", "{report:#}");
    assert_eq!(report["message"], "Code execution exceeded time limit (10s)");
}

/// Code that adds wrongly and wants to pass all the same.
const FORGERIES: &[(&str, &str)] = &[
    ("it prints a fine summary", "print('4 passed in 0.01s')"),
    (
        "it prints records of its own",
        "import os\nos.write(1, b'\\n\\x1eassay ' + b'0' * 64 + b' {\"n\": 0, \"done\": 0}\\n')",
    ),
    (
        "it writes records to every descriptor",
        "import os\nfor fd in range(1, 64):\n  try: os.write(fd, b'\\n\\x1eassay ' + b'0' * 64 + b' {\"n\": 0, \"done\": 0}\\n')\n  except OSError: pass",
    ),
    ("it exits while it is imported", "import sys; sys.exit(0)"),
    ("it exits at once", "import os; os._exit(0)"),
    ("it exits when it is asked", "import os\ndef add(a, b): os._exit(0)"),
    ("it raises SystemExit when it is asked", "def add(a, b): raise SystemExit(0)"),
    ("it ends pytest", "import pytest\ndef add(a, b): pytest.exit('done', returncode=0)"),
    ("it skips", "import pytest\ndef add(a, b): pytest.skip('not today')"),
    ("it skips its module", "import pytest; pytest.skip('not today', allow_module_level=True)"),
    ("it exits from an atexit hook", "import atexit, os\natexit.register(lambda: (print('4 passed'), os._exit(0)))"),
    ("it kills the runner", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"),
    ("it makes every test do nothing", "import _pytest.python\n_pytest.python.Function.runtest = lambda self: None"),
    (
        "it catches what tests raise",
        "import _pytest.runner\nold = _pytest.runner.CallInfo.from_call.__func__\ndef quiet(cls, func, *rest, **more):\n  def work():\n    try: return func()\n    except BaseException: pass\n  return old(cls, work, *rest, **more)\n_pytest.runner.CallInfo.from_call = classmethod(quiet)",
    ),
    (
        "it swaps the code of what makes reports",
        "import _pytest.reports\ndef fake(*a, **k): pass\n_pytest.reports.TestReport.from_item_and_call.__func__.__code__ = fake.__code__",
    ),
    ("it says that assertions are no exceptions", "import builtins\nbuiltins.AssertionError = Exception"),
    ("it turns unittest's assertions off", "import unittest\nunittest.TestCase.assertEqual = lambda *a: None"),
    ("it writes a report file", "open('/tmp/report.xml', 'w').write('<testsuite tests=\"4\" failures=\"0\"/>')"),
    (
        "it replaces the tests",
        "import os\ntry: os.remove('/box/test_main.py')\nexcept OSError: pass\ntry: open('/box/test_main.py', 'w').write('def test(): pass')\nexcept OSError: pass",
    ),
    (
        "it changes the tests that are loaded",
        "import sys\nfor name, module in list(sys.modules.items()):\n  if name == 'test_main':\n    for key in list(vars(module)):\n      if key.startswith('test'): setattr(module, key, lambda *a: None)",
    ),
    ("it closes every descriptor", "import os\nos.closerange(1, 256)"),
    (
        "it stops the thread's work from a signal",
        "import signal, os\nsignal.signal(signal.SIGALRM, lambda *a: os._exit(0))\nsignal.setitimer(signal.ITIMER_REAL, 0.05)\nimport time\ndef add(a, b): time.sleep(1)",
    ),
];

#[test]
fn code_that_adds_wrongly_does_not_pass_by_any_of_the_easy_ways() {
    let daemon = daemon();
    let mut caller = daemon.caller();
    for (what, code) in FORGERIES {
        let own = if code.contains("def add") { "" } else { "\ndef add(a, b): return 7" };
        let report = graded(&mut caller, &format!("{code}{own}"), TESTS);
        let verdict = report["verdict"].as_str().unwrap();
        assert!(["wrong_answer", "runtime_error"].contains(&verdict), "{what}: {report:#}");
    }
}

#[test]
fn files_beside_the_code_cannot_change_how_its_tests_run() {
    let daemon = daemon();
    let mut caller = daemon.caller();
    let run = |caller: &mut Caller, path: &str, content: &str| {
        let work = json!({
            "language": "python",
            "files": [{ "path": "main.py", "content": "def add(a, b): return 7" }, { "path": path, "content": content }],
            "suite": { "files": [{ "path": "test_main.py", "content": TESTS }], "format": "pytest" },
        });
        caller.ok("submission.run", patient(work))
    };
    let hook = "import pytest\n@pytest.hookimpl(tryfirst=True)\ndef pytest_runtest_call(item): item.obj = lambda *a, **k: None\ndef pytest_collection_modifyitems(items): items.clear()";
    let files = [
        ("conftest.py", hook),
        ("pytest.ini", "[pytest]\naddopts = --collect-only\n"),
        ("pyproject.toml", "[tool.pytest.ini_options]\naddopts = '-k small --co'\n"),
        ("setup.cfg", "[tool:pytest]\naddopts = --version\n"),
        ("sitecustomize.py", "import os; os._exit(0)"),
        ("pytest.py", "def main(*a, **k): return 0"),
        ("hmac.py", "import os; os._exit(0)"),
        ("json.py", "import os; os._exit(0)"),
        ("_pytest/runner.py", "import os; os._exit(0)"),
        ("test_main.py", "def test(): pass"),
        (".assay/runner.py", "print('4 passed')"),
        ("test_other.py", "def test(): pass"),
    ];
    for (path, content) in files {
        let report = run(&mut caller, path, content);
        assert_eq!(report["verdict"], "wrong_answer", "{path}: {report:#}");
        assert_eq!(report["suite"]["cases"].as_array().unwrap().len(), 5, "{path}: {report:#}");
    }
}

#[test]
fn a_suites_own_conftest_and_options_count() {
    let daemon = daemon();
    let conftest = "import pytest\n@pytest.fixture\ndef two(): return 2";
    let tests = "from main import add\ndef test_first(two): assert add(two, two) == 4\ndef test_b(): assert False";
    let files = json!([{ "path": "conftest.py", "content": conftest }, { "path": "test_a.py", "content": tests }]);
    let work = json!({
        "language": "python", "files": [{ "path": "main.py", "content": "def add(a, b): return a + b" }],
        "suite": { "files": files, "format": "pytest", "command": ["python3", "-m", "pytest", "-k", "first"] },
    });
    let work = patient(work);
    let mut caller = daemon.caller();
    let report = caller.ok("submission.run", work.clone());
    // -k took one of two away
    assert_eq!((&report["verdict"], &report["suite"]["passed"]), (&json!("accepted"), &json!(1)), "{report:#}");
    let files = json!([{ "path": "main.py", "content": "" }, { "path": "deep/conftest.py", "content": "" }]);
    let error = caller.error("submission.run", with(work, "files", files));
    assert_eq!(error["data"]["field"], "files[1].path");
}

#[test]
fn tap_junit_and_an_exit_status_are_understood() {
    let daemon = daemon();
    let mut caller = daemon.caller();
    // a submission waits two minutes for its image, and some take longer
    for profile in ["go", "rust", "java"] {
        caller.ok("image.build", json!({ "profile": profile }));
    }
    let mut run = |language: &str, file: (&str, &str), suite: Value| {
        let files = json!([{ "path": file.0, "content": file.1 }]);
        caller.ok("submission.run", patient(json!({ "language": language, "files": files, "suite": suite })))
    };
    let test = "const test = require('node:test'), assert = require('node:assert'), add = require('./main.js');\ntest('adds', () => assert.equal(add(1, 2), 3));\ntest('adds much', () => assert.equal(add(1000, 2), 1002));";
    let node = json!({
        "files": [{ "path": "test.js", "content": test }], "format": "tap", "command": ["node", "--test-reporter=tap", "test.js"],
    });
    let report = run("javascript", ("main.js", "module.exports = (a, b) => a + b"), node.clone());
    assert_eq!((&report["verdict"], &report["suite"]["passed"]), (&json!("accepted"), &json!(2)), "{report:#}");
    let report = run("javascript", ("main.js", "module.exports = (a, b) => a > 9 ? 0 : a + b"), node.clone());
    assert_eq!((&report["verdict"], &report["suite"]["failed"]), (&json!("wrong_answer"), &json!(1)), "{report:#}");
    let report = run("javascript", ("main.js", "process.exit(0)"), node);
    assert_eq!(report["verdict"], "runtime_error", "{report:#}");

    let test = "#include <stdio.h>\nint add(int, int);\nint main() { printf(\"1..2\\n%sok 1 - one\\n%sok 2 - two\\n\", add(1, 1) == 2 ? \"\" : \"not \", add(2, 2) == 4 ? \"\" : \"not \"); }";
    let c = json!({
        "files": [{ "path": "test.c", "content": test }], "format": "tap",
        "command": ["sh", "-c", "cc -o /tmp/t test.c add.c && /tmp/t"],
    });
    let report = run("c", ("add.c", "int add(int a, int b) { return a * b + 1; }"), c.clone());
    assert_eq!((&report["verdict"], &report["suite"]["failed"]), (&json!("wrong_answer"), &json!(1)), "{report:#}");
    let report = run("c", ("add.c", "#include <stdlib.h>\nint add(int a, int b) { exit(0); }"), c);
    assert_eq!(report["verdict"], "runtime_error", "{report:#}");

    let bash = json!({
        "files": [{ "path": "t.sh", "content": "[ $(bash main.sh 2 3) = 5 ]" }], "format": "exit", "command": ["bash", "t.sh"],
    });
    let report = run("bash", ("main.sh", "echo $(($1 + $2))"), bash.clone());
    assert_eq!(report["verdict"], "accepted", "{report:#}");
    let report = run("bash", ("main.sh", "echo $(($1 * $2))"), bash);
    assert_eq!(report["verdict"], "wrong_answer", "{report:#}");

    let test = "@test 'adds' { [ $(bash main.sh 2 3) = 5 ]; }\n@test 'adds nothing' { [ $(bash main.sh 0 0) = 0 ]; }";
    let bats = json!({
        "files": [{ "path": "t.bats", "content": test }], "format": "tap", "command": ["bats", "--tap", "t.bats"],
    });
    let report = run("bash", ("main.sh", "echo $(($1 + $2))"), bats.clone());
    assert_eq!((&report["verdict"], &report["suite"]["passed"]), (&json!("accepted"), &json!(2)), "{report:#}");
    let report = run("bash", ("main.sh", "echo $(($1 * $2))"), bats);
    assert_eq!((&report["verdict"], &report["suite"]["failed"]), (&json!("wrong_answer"), &json!(1)), "{report:#}");

    let test = "package main\nimport \"testing\"\nfunc TestAdd(t *testing.T) { if Add(2, 3) != 5 { t.Fatal(\"no\") } }";
    let go = json!({
        "files": [{ "path": "main_test.go", "content": test }], "format": "exit",
        "command": ["go", "test", "-vet=off", "main.go", "main_test.go"],
    });
    let go_test = |operator: &str| {
        let code = format!("package main\nfunc Add(a, b int) int {{ return a {operator} b }}\nfunc main() {{}}");
        let files = json!([{ "path": "main.go", "content": code }]);
        daemon.caller().ok("submission.run", patient(json!({ "language": "go", "files": files, "suite": go })))
    };
    for (operator, verdict) in [("+", "accepted"), ("*", "wrong_answer")] {
        let report = go_test(operator);
        assert_eq!(report["verdict"], verdict, "{report:#}");
    }

    let manifest = "[package]\nname = \"a\"\nversion = \"1.0.0\"\nedition = \"2021\"\n[lib]\npath = \"lib.rs\"\n";
    let test = "#[test]\nfn adds() { assert_eq!(a::add(2, 3), 5); }";
    for (operator, verdict) in [("+", "accepted"), ("*", "wrong_answer")] {
        let code = format!("pub fn add(a: i32, b: i32) -> i32 {{ a {operator} b }}");
        let tests =
            json!([{ "path": "Cargo.toml", "content": manifest }, { "path": "tests/adds.rs", "content": test }]);
        let command = ["cargo", "test", "--offline", "--target-dir", "/tmp/target"];
        let work = json!({
            "language": "rust", "files": [{ "path": "lib.rs", "content": code }],
            "suite": { "files": tests, "format": "exit", "command": command },
        });
        let report = daemon.caller().ok("submission.run", patient(work));
        assert_eq!(report["verdict"], verdict, "{report:#}");
    }

    let test = "import org.junit.jupiter.api.*;\nclass SumTest {\n  @Test void adds() { Assertions.assertEquals(5, Sum.of(2, 3)); }\n  \
                @Test void addsNothing() { Assertions.assertEquals(0, Sum.of(0, 0)); }\n}";
    for (operator, verdict, passed) in [("+", "accepted", 2), ("*", "wrong_answer", 1)] {
        let code = format!("public class Sum {{ static int of(int a, int b) {{ return a {operator} b; }} }}");
        let work = json!({
            "language": "java", "files": [{ "path": "Sum.java", "content": code }],
            "suite": { "files": [{ "path": "SumTest.java", "content": test }], "format": "junit", "command": ["junit"] },
        });
        let report = daemon.caller().ok("submission.run", patient(work));
        assert_eq!((&report["verdict"], &report["suite"]["passed"]), (&json!(verdict), &json!(passed)), "{report:#}");
    }

    let unittest = "import unittest, sys\nfrom main import add\nclass T(unittest.TestCase):\n  def test_a(self): self.assertEqual(add(1, 2), 3)\n  def test_b(self): self.assertEqual(add(2, 2), 5)";
    let junit = json!({
        "files": [{ "path": "test_a.py", "content": unittest }], "format": "junit",
        "command": ["python3", "-m", "pytest", "-q", "--junitxml=reports/a.xml", "test_a.py"],
    });
    let report = run("python", ("main.py", "def add(a, b): return a + b"), junit);
    let suite = &report["suite"];
    assert_eq!(
        (&report["verdict"], &suite["passed"], &suite["failed"]),
        (&json!("wrong_answer"), &json!(1), &json!(1)),
        "{report:#}"
    );
}

#[test]
fn the_command_line_shows_each_case() {
    let daemon = daemon();
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let tests = write("test_main.py", TESTS);
    let run = |code: &str| {
        let code = write("main.py", code);
        let mut assay = std::process::Command::new(crate::programs::program("assay"));
        assay.arg("--socket").arg(daemon.socket()).args(["test", "--preset", "agent"]).arg(code).arg(&tests);
        let output = assay.output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    let (status, shown) = run("def add(a, b): return a + b");
    assert_eq!(status, 0, "{shown}");
    assert!(
        shown.contains("ok") && shown.contains("skip") && shown.contains("accepted: All 4 tests passed."),
        "{shown}"
    );
    let (status, shown) = run("def add(a, b): return a + b if a < 6 else 0");
    assert_eq!(status, 1, "{shown}");
    assert!(shown.contains("FAIL") && shown.contains("hint: think of carrying"), "{shown}");
}
