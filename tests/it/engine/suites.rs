//! Suites: results of test files in each format, and code under test that tries to forge them.

use serde_json::{Value, json};

use crate::harness::{Caller, Daemon, Options, patient, with};

fn daemon() -> Daemon {
    Daemon::start(&Options { profiles: "python", floor: 0, ..Options::default() })
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
fn a_pytest_suite_reports_each_case() {
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
    // pytest's own output is kept, the runner's records are removed from it
    let stdout = suite["run"]["stdout"].as_str().unwrap();
    assert!(stdout.contains("4 passed, 1 skipped") && !stdout.contains("assay"), "{stdout}");

    let report = graded(&mut caller, "def add(a, b): return a + b if a < 6 else 0", TESTS);
    assert_eq!((&report["verdict"], &report["suite"]["failed"]), (&json!("wrong_answer"), &json!(1)));
    let message = report["message"].as_str().unwrap();
    assert!(message.contains("test_many[6]") && message.contains("hint: think of carrying"), "{message}");
    assert_eq!(report["score"], json!({ "passed": 3, "total": 4, "points": 3.0, "max_points": 4.0 }));
}

#[test]
fn any_error_but_a_failed_assertion_is_a_runtime_error() {
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
    // the limits of the preset
    let endless = lesson("def add(a, b):\n  while True: pass", TESTS);
    let (verdict, _, _, report) = of(caller.ok("submission.run", endless));
    assert_eq!(verdict, "time_limit", "{report:#}");
    assert_eq!(report["message"], "Code execution exceeded time limit (10s): wall time");
}

/// Wrong implementations of `add` that try to pass.
const FORGERIES: &[(&str, &str)] = &[
    ("it prints a summary", "print('4 passed in 0.01s')"),
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
    ("it exits when it is called", "import os\ndef add(a, b): os._exit(0)"),
    ("it raises SystemExit when it is called", "def add(a, b): raise SystemExit(0)"),
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
        "it replaces the code that makes reports",
        "import _pytest.reports\ndef fake(*a, **k): pass\n_pytest.reports.TestReport.from_item_and_call.__func__.__code__ = fake.__code__",
    ),
    ("it replaces AssertionError", "import builtins\nbuiltins.AssertionError = Exception"),
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
        "it exits from a signal handler",
        "import signal, os\nsignal.signal(signal.SIGALRM, lambda *a: os._exit(0))\nsignal.setitimer(signal.ITIMER_REAL, 0.05)\nimport time\ndef add(a, b): time.sleep(1)",
    ),
];

#[test]
fn wrong_code_does_not_pass_by_forging_results() {
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
fn files_of_the_submission_cannot_change_how_its_tests_run() {
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
fn a_suites_own_conftest_and_options_apply() {
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
    // -k selects one of two tests
    assert_eq!((&report["verdict"], &report["suite"]["passed"]), (&json!("accepted"), &json!(1)), "{report:#}");
    let files = json!([{ "path": "main.py", "content": "" }, { "path": "deep/conftest.py", "content": "" }]);
    let error = caller.error("submission.run", with(work, "files", files));
    assert_eq!(error["data"]["field"], "files[1].path");
}

/// A suite and submissions for it.
struct SuiteExample {
    name: &'static str,
    language: &'static str,
    format: &'static str,
    command: &'static [&'static str],
    /// Paths and contents.
    tests: &'static [(&'static str, &'static str)],
    /// The path of the submission's only file.
    file: &'static str,
    attempts: &'static [Attempt],
}

/// A submission, its verdict, and counts of its suite.
struct Attempt {
    code: &'static str,
    verdict: &'static str,
    counts: &'static [(&'static str, u64)],
}

const EXAMPLES: &[SuiteExample] = &[
    SuiteExample {
        name: "node_writes_tap",
        language: "javascript",
        format: "tap",
        command: &["node", "--test-reporter=tap", "test.js"],
        tests: &[(
            "test.js",
            "const test = require('node:test'), assert = require('node:assert'), add = require('./main.js');\ntest('adds', () => assert.equal(add(1, 2), 3));\ntest('adds much', () => assert.equal(add(1000, 2), 1002));",
        )],
        file: "main.js",
        attempts: &[
            Attempt { code: "module.exports = (a, b) => a + b", verdict: "accepted", counts: &[("passed", 2)] },
            Attempt {
                code: "module.exports = (a, b) => a > 9 ? 0 : a + b",
                verdict: "wrong_answer",
                counts: &[("failed", 1)],
            },
            Attempt { code: "process.exit(0)", verdict: "runtime_error", counts: &[] },
        ],
    },
    SuiteExample {
        name: "c_writes_tap",
        language: "c",
        format: "tap",
        command: &["sh", "-c", "cc -o /tmp/t test.c add.c && /tmp/t"],
        tests: &[(
            "test.c",
            "#include <stdio.h>\nint add(int, int);\nint main() { printf(\"1..2\\n%sok 1 - one\\n%sok 2 - two\\n\", add(1, 1) == 2 ? \"\" : \"not \", add(2, 2) == 4 ? \"\" : \"not \"); }",
        )],
        file: "add.c",
        attempts: &[
            Attempt {
                code: "int add(int a, int b) { return a * b + 1; }",
                verdict: "wrong_answer",
                counts: &[("failed", 1)],
            },
            Attempt {
                code: "#include <stdlib.h>\nint add(int a, int b) { exit(0); }",
                verdict: "runtime_error",
                counts: &[],
            },
        ],
    },
    SuiteExample {
        name: "bash_exits",
        language: "bash",
        format: "exit",
        command: &["bash", "t.sh"],
        tests: &[("t.sh", "[ $(bash main.sh 2 3) = 5 ]")],
        file: "main.sh",
        attempts: &[
            Attempt { code: "echo $(($1 + $2))", verdict: "accepted", counts: &[] },
            Attempt { code: "echo $(($1 * $2))", verdict: "wrong_answer", counts: &[] },
        ],
    },
    SuiteExample {
        name: "bats_writes_tap",
        language: "bash",
        format: "tap",
        command: &["bats", "--tap", "t.bats"],
        tests: &[(
            "t.bats",
            "@test 'adds' { [ $(bash main.sh 2 3) = 5 ]; }\n@test 'adds nothing' { [ $(bash main.sh 0 0) = 0 ]; }",
        )],
        file: "main.sh",
        attempts: &[
            Attempt { code: "echo $(($1 + $2))", verdict: "accepted", counts: &[("passed", 2)] },
            Attempt { code: "echo $(($1 * $2))", verdict: "wrong_answer", counts: &[("failed", 1)] },
        ],
    },
    SuiteExample {
        name: "go_exits",
        language: "go",
        format: "exit",
        command: &["go", "test", "-vet=off", "main.go", "main_test.go"],
        tests: &[(
            "main_test.go",
            "package main\nimport \"testing\"\nfunc TestAdd(t *testing.T) { if Add(2, 3) != 5 { t.Fatal(\"no\") } }",
        )],
        file: "main.go",
        attempts: &[
            Attempt {
                code: "package main\nfunc Add(a, b int) int { return a + b }\nfunc main() {}",
                verdict: "accepted",
                counts: &[],
            },
            Attempt {
                code: "package main\nfunc Add(a, b int) int { return a * b }\nfunc main() {}",
                verdict: "wrong_answer",
                counts: &[],
            },
        ],
    },
    SuiteExample {
        name: "cargo_exits",
        language: "rust",
        format: "exit",
        command: &["cargo", "test", "--offline", "--target-dir", "/tmp/target"],
        tests: &[
            (
                "Cargo.toml",
                "[package]\nname = \"a\"\nversion = \"1.0.0\"\nedition = \"2021\"\n[lib]\npath = \"lib.rs\"\n",
            ),
            ("tests/adds.rs", "#[test]\nfn adds() { assert_eq!(a::add(2, 3), 5); }"),
        ],
        file: "lib.rs",
        attempts: &[
            Attempt { code: "pub fn add(a: i32, b: i32) -> i32 { a + b }", verdict: "accepted", counts: &[] },
            Attempt { code: "pub fn add(a: i32, b: i32) -> i32 { a * b }", verdict: "wrong_answer", counts: &[] },
        ],
    },
    SuiteExample {
        name: "java_writes_junit",
        language: "java",
        format: "junit",
        command: &["junit"],
        tests: &[(
            "SumTest.java",
            "import org.junit.jupiter.api.*;\nclass SumTest {\n  @Test void adds() { Assertions.assertEquals(5, Sum.of(2, 3)); }\n  @Test void addsNothing() { Assertions.assertEquals(0, Sum.of(0, 0)); }\n}",
        )],
        file: "Sum.java",
        attempts: &[
            Attempt {
                code: "public class Sum { static int of(int a, int b) { return a + b; } }",
                verdict: "accepted",
                counts: &[("passed", 2)],
            },
            Attempt {
                code: "public class Sum { static int of(int a, int b) { return a * b; } }",
                verdict: "wrong_answer",
                counts: &[("passed", 1)],
            },
        ],
    },
    SuiteExample {
        name: "pytest_writes_junit",
        language: "python",
        format: "junit",
        command: &["python3", "-m", "pytest", "-q", "--junitxml=reports/a.xml", "test_a.py"],
        tests: &[(
            "test_a.py",
            "import unittest, sys\nfrom main import add\nclass T(unittest.TestCase):\n  def test_a(self): self.assertEqual(add(1, 2), 3)\n  def test_b(self): self.assertEqual(add(2, 2), 5)",
        )],
        file: "main.py",
        attempts: &[Attempt {
            code: "def add(a, b): return a + b",
            verdict: "wrong_answer",
            counts: &[("passed", 1), ("failed", 1)],
        }],
    },
];

fn check_example(example: &SuiteExample) {
    let daemon = Daemon::start(&Options { profiles: example.language, floor: 0, ..Options::default() });
    let mut caller = daemon.caller();
    // a submission waits at most two minutes for its image, and some images take longer
    caller.ok("image.build", json!({ "profile": example.language }));
    let files = |files: &[(&str, &str)]| -> Vec<Value> {
        files.iter().map(|(path, content)| json!({ "path": path, "content": content })).collect()
    };
    let suite = json!({ "files": files(example.tests), "format": example.format, "command": example.command });
    for Attempt { code, verdict, counts } in example.attempts {
        let files = files(&[(example.file, code)]);
        let work = json!({ "language": example.language, "files": files, "suite": suite });
        let report = caller.ok("submission.run", patient(work));
        assert_eq!(report["verdict"], *verdict, "{code}: {report:#}");
        for (count, expected) in *counts {
            assert_eq!(report["suite"][count], *expected, "{code}: {count}: {report:#}");
        }
    }
}

macro_rules! examples {
    ($($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            check_example(EXAMPLES.iter().find(|example| example.name == stringify!($name)).unwrap());
        })*

        #[test]
        fn every_suite_example_has_a_test() {
            assert_eq!([$(stringify!($name)),*].to_vec(), EXAMPLES.iter().map(|one| one.name).collect::<Vec<_>>());
        }
    };
}

examples!(
    node_writes_tap,
    c_writes_tap,
    bash_exits,
    bats_writes_tap,
    go_exits,
    cargo_exits,
    java_writes_junit,
    pytest_writes_junit,
);

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
