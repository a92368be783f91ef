//! What a suite's report says: every test once, everything that should have run, and the words of
//! what failed.

use serde_json::{Value, json};

use crate::harness::{Caller, Daemon, Options, patient, with};

fn daemon(profiles: &'static str) -> Daemon {
    Daemon::start(&Options { profiles, floor: 0, ..Options::default() })
}

fn files(files: &[(&str, &str)]) -> Value {
    files.iter().map(|(path, content)| json!({ "path": path, "content": content })).collect()
}

/// A pytest suite with a command, and the code under test.
fn pytest(code: &[(&str, &str)], suite: &[(&str, &str)], command: &[&str]) -> Value {
    let suite = json!({ "format": "pytest", "files": files(suite), "command": command });
    patient(json!({ "language": "python", "preset": "lesson", "files": files(code), "suite": suite }))
}

fn names(report: &Value) -> Vec<String> {
    let cases = report["suite"]["cases"].as_array().unwrap_or_else(|| panic!("{report:#}"));
    cases.iter().map(|case| case["name"].as_str().unwrap().to_owned()).collect()
}

const SHARED: &str = "from main import push\nseen = []\ndef test_a():\n  push(seen, 1)\n  assert seen == [1]\ndef test_b():\n  push(seen, 2)\n  assert seen == [1, 2]\n";

#[test]
fn every_test_runs_once_however_the_command_names_it() {
    let daemon = daemon("python");
    let mut caller = daemon.caller();
    let code = [("main.py", "def push(l, x): l.append(x)"), ("test_own.py", "def test_own(): pass")];
    let suite = [
        ("test_main.py", SHARED),
        ("more/test_more.py", "def test_c(): pass\nclass TestD:\n  def test_d(self): pass\n"),
    ];
    let (a, b) = ("test_main.py::test_a", "test_main.py::test_b");
    let (c, d) = ("more/test_more.py::test_c", "more/test_more.py::TestD::test_d");
    for (command, expect) in [
        (&["pytest"][..], &[a, b, c, d][..]),
        (&["pytest", "-q", "test_main.py"], &[a, b]),
        (&["python3", "-m", "pytest", "-q", "test_main.py", "test_main.py"], &[a, b]),
        (&["pytest", "test_main.py::test_a", "more"], &[a, c, d]),
        (&["pytest", "."], &[c, d, a, b]),
        (&["pytest", "-k", "test_a or test_d"], &[a, d]),
        (&["pytest", "--ignore", "more"], &[a, b]),
        (&["pytest", "--ignore-glob=mo*", "--runxfail", "-p", "no:terminal"], &[a, b]),
        (&["pytest", "--deselect", "test_main.py::test_b", "-p", "no:doctest", "--maxfail", "2"], &[a, c, d]),
    ] {
        let report = caller.ok("submission.run", pytest(&code, &suite, command));
        let (mut got, mut expect) = (names(&report), expect.to_vec());
        got.sort();
        expect.sort();
        assert_eq!(
            (report["verdict"].as_str().unwrap(), got),
            ("accepted", expect.iter().map(|name| (*name).to_owned()).collect()),
            "{command:?}: {report:#}"
        );
    }
}

#[test]
fn the_total_counts_every_collected_test() {
    let daemon = daemon("python");
    let mut caller = daemon.caller();
    let tests = "from main import f\nimport pytest\ndef test_1(): assert f(1) == 1\ndef test_2(): assert f(2) == 2\ndef test_3(): assert f(3) == 3\n@pytest.mark.skip\ndef test_s(): pass\ndef test_4(): assert f(4) == 4\n";
    let mut of = |body: &str| {
        let code = format!("import os, pytest, unittest\ndef f(n):\n  if n == 3: {body}\n  return n\n");
        let work = pytest(&[("main.py", &code)], &[("test_main.py", tests)], &[]);
        // only the one that does not end is to meet the limit
        let limits = if body.contains("iter") { json!({ "wall_ms": 3000 }) } else { work["limits"].clone() };
        caller.ok("submission.run", with(work, "limits", limits))
    };
    for (body, verdict, case, passed) in [
        ("os._exit(0)", "runtime_error", "runtime_error", 2),
        ("all(True for _ in iter(int, 1))", "time_limit", "time_limit", 2),
        ("pytest.skip('hard')", "runtime_error", "runtime_error", 3),
        ("raise unittest.SkipTest('hard')", "runtime_error", "runtime_error", 3),
        ("pass", "accepted", "accepted", 4),
    ] {
        let report = of(body);
        assert_eq!(report["verdict"], verdict, "{body}: {report:#}");
        let score = &report["score"];
        assert_eq!((score["passed"].as_u64(), score["total"].as_u64()), (Some(passed), Some(4)), "{body}: {report:#}");
        let cases = report["suite"]["cases"].as_array().unwrap();
        let third = cases.iter().find(|one| one["name"] == "test_main.py::test_3").unwrap();
        assert_eq!((&third["verdict"], cases.len()), (&json!(case), 5), "{body}: {report:#}");
    }
    let exit = of("os._exit(0)");
    assert!(exit["message"].as_str().unwrap().contains("in test_main.py::test_3 (test 3 of 5)"), "{exit:#}");
}

#[test]
fn two_thousand_tests_fit_a_lesson_and_more_than_the_bound_are_the_callers_fault() {
    let daemon = daemon("python,python-pytest");
    let mut caller = daemon.caller();
    let tests = |count: usize| {
        let tests: String = (0..count).map(|n| format!("def test_{n}(): assert add({n}, 1) == {}\n", n + 1)).collect();
        format!("from main import add\n{tests}")
    };
    let code = [("main.py", "def add(a, b): return a + b")];
    let report = caller.ok("submission.run", pytest(&code, &[("test_main.py", &tests(2000))], &[]));
    assert_eq!(
        (&report["verdict"], &report["score"]["total"]),
        (&json!("accepted"), &json!(2000)),
        "{}",
        report["message"]
    );
    // the fastest of three each, in turns
    let alone = ["python3", "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_main.py"];
    let fastest = |ours: f64, plain: f64, work: &mut Caller| {
        let suite = json!({ "format": "exit", "files": files(&[("test_main.py", &tests(2000))]), "command": alone });
        let work_alone =
            json!({ "language": "python-pytest", "preset": "lesson", "files": files(&code), "suite": suite });
        let cpu = |report: Value| {
            assert_eq!(report["verdict"], "accepted", "{}", report["message"]);
            report["suite"]["run"]["cpu_ms"].as_f64().unwrap_or_else(|| panic!("{report:#}"))
        };
        let one = cpu(work.ok("submission.run", pytest(&code, &[("test_main.py", &tests(2000))], &[])));
        let other = cpu(work.ok("submission.run", patient(work_alone)));
        (ours.min(one), plain.min(other))
    };
    let (ours, plain) = (0..3).fold((f64::MAX, f64::MAX), |(ours, plain), _| fastest(ours, plain, &mut caller));
    assert!(ours <= 1.2 * plain, "{ours} ms of CPU time, and {plain} ms of pytest alone");
    let many = "import pytest\n@pytest.mark.parametrize('n', range(20001))\ndef test(n): pass\n";
    let work =
        with(pytest(&code, &[("test_main.py", many)], &["pytest", "--co"]), "limits", json!({ "wall_ms": 60_000 }));
    let report = caller.ok("submission.run", work);
    assert_eq!(
        (&report["verdict"], &report["blame"]),
        (&json!("system_error"), &json!("caller")),
        "{}",
        report["message"]
    );
    assert!(report["message"].as_str().unwrap().contains("more than 20000 tests"), "{}", report["message"]);
}

#[test]
fn a_failure_shows_its_place_and_the_tests_own_words() {
    let daemon = daemon("python");
    let mut caller = daemon.caller();
    let suite = "import unittest\nfrom main import f\nclass T(unittest.TestCase):\n  def test_f(self):\n    for n in (1, 2):\n      with self.subTest('doubles', n=n):\n        self.assertEqual(f(n), 2 * n, 'think of two')\n";
    let mut message = |code: &str, suite: &str, command: &[&str]| {
        let report = caller.ok("submission.run", pytest(&[("main.py", code)], &[("test_main.py", suite)], command));
        assert_ne!(report["verdict"], "accepted", "{report:#}");
        report["message"].as_str().unwrap().to_owned()
    };
    let subtest = message("def f(n): return n + 1", suite, &[]);
    for words in ["test_main.py:7: ", "3 != 4 : think of two", "[doubles] (n=2)"] {
        assert!(subtest.contains(words), "{words}: {subtest}");
    }
    let syntax = message("\ndef f(n) return n", suite, &[]);
    assert!(syntax.contains("main.py:2: SyntaxError: ") && syntax.contains("def f(n) return n"), "{syntax}");
    let usage = message("", suite, &["pytest", "--bogus"]);
    assert!(usage.contains("unrecognized arguments: --bogus"), "{usage}");
    let missing = message("", suite, &["pytest", "no_such.py"]);
    assert!(missing.contains("not found: no_such.py"), "{missing}");
    let crash = message("def f(n):\n  return m", "from main import f\ndef test(): assert f(1)\n", &[]);
    assert!(crash.contains("main.py:2: NameError: name 'm' is not defined"), "{crash}");
}

#[test]
fn a_command_may_stand_alone_and_doctests_of_the_code_run() {
    let daemon = daemon("python");
    let mut caller = daemon.caller();
    let code = "def f(n):\n  '''\n  >>> f(2)\n  4\n  '''\n  return RESULT\n\ndef test_own(): assert f(1) == 4\n";
    let of = |caller: &mut Caller, result: &str, command: &[&str], suite: &[(&str, &str)]| {
        let code = code.replace("RESULT", result);
        let report = caller.ok("submission.run", pytest(&[("main.py", &code)], suite, command));
        (report["verdict"].as_str().unwrap().to_owned(), names(&report))
    };
    let alone = of(&mut caller, "4", &["pytest", "main.py"], &[]);
    assert_eq!(alone, ("accepted".to_owned(), vec!["main.py::test_own".to_owned()]));
    let suite = [("test_main.py", "from main import f\ndef test(): assert f(2) == 4\n")];
    let both = of(&mut caller, "4", &["pytest", "--doctest-modules"], &suite);
    assert_eq!((both.0.as_str(), both.1.len()), ("accepted", 2), "{both:?}");
    let wrong = of(
        &mut caller,
        "4 if n == 2 and not __import__('sys').modules.get('doctest') else 5",
        &["pytest", "--doctest-modules"],
        &suite,
    );
    assert_ne!(wrong.0, "accepted", "{wrong:?}");
    let none = pytest(&[("main.py", "")], &[], &[]);
    assert_eq!(caller.error("submission.run", none)["data"]["field"], "suite.files");
}

#[test]
fn a_right_solution_is_not_blamed_for_what_the_suite_does_itself() {
    let daemon = daemon("python");
    let mut caller = daemon.caller();
    let tests = "import sys\nfrom unittest import mock\nimport unittest, pytest, main\nfrom helper import *\ncount = 0\nclass Base:\n  def check(self, n): assert main.f(n) == n\nclass TestA(Base):\n  shared = []\n  @classmethod\n  def setup_class(cls): cls.extra = 1\n  def setup_method(self): self.value = 3\n  def test_it(self): self.check(self.value)\n  @pytest.fixture\n  def five(self): return 5\n  def test_five(self, five): self.check(five)\ndef setup_module(): \n  global count\n  count = 10\n@mock.patch('main.f', lambda n: 99)\ndef test_patched(): assert main.f(1) == 99\ndef test_monkey(monkeypatch):\n  monkeypatch.setattr(main, 'f', lambda n: 7)\n  monkeypatch.setattr('builtins.len', lambda x: 3)\n  assert main.f(1) == 7 and len('') == 3\ndef test_count():\n  global count\n  count += 1\n  assert count == 11\n@pytest.mark.xfail(reason='known')\ndef test_known(): assert False\n@unittest.skipIf(True, 'never')\ndef test_never(): assert False\nclass U(unittest.TestCase):\n  @unittest.expectedFailure\n  def test_x(self): self.fail()\n  def test_s(self): self.skipTest('now')\n  def test_c(self): self.assertEqual(Counter(2).n, two)\nclass A(unittest.IsolatedAsyncioTestCase):\n  async def test_a(self): self.assertEqual(main.f(4), 4)\n";
    let helper = "two = 2\nclass Counter:\n  def __init__(self, n): self.n = n\n";
    let conftest = "import pytest\n@pytest.fixture(autouse=True)\ndef around(): yield\ndef pytest_collection_modifyitems(items):\n  for item in items:\n    if 'five' in item.name: item.add_marker(pytest.mark.skip(reason='slow'))\n";
    let suite = [("test_main.py", tests), ("helper.py", helper), ("conftest.py", conftest)];
    let report = caller.ok("submission.run", pytest(&[("main.py", "def f(n): return n")], &suite, &[]));
    assert_eq!(report["verdict"], "accepted", "{report:#}");
    assert_eq!((&report["suite"]["skipped"], &report["score"]["passed"]), (&json!(3), &json!(8)), "{report:#}");
}

const NODE: &str = "import test, { describe } from 'node:test';\nimport assert from 'node:assert';\nimport { add } from './add.mjs';\ndescribe('add', () => {\n  test('small', () => assert.equal(add(1, 2), 3));\n  test('large', () => assert.equal(add(1000, 2), 1002, 'carry'));\n});\ntest('none', () => assert.equal(add(0, 0), 0));\n";

#[test]
fn node_tests_are_cases_with_place_and_words() {
    let daemon = daemon("javascript");
    let mut caller = daemon.caller();
    let mut of = |code: &str| {
        let suite = json!({ "format": "node", "files": files(&[("add.test.mjs", NODE), ("b.test.mjs", "import test from 'node:test';\ntest('b', () => {});")]) });
        caller.ok(
            "submission.run",
            patient(json!({ "language": "javascript", "files": files(&[("add.mjs", code)]), "suite": suite })),
        )
    };
    let report = of("export const add = (a, b) => a + b;");
    assert_eq!(
        (&report["verdict"], names(&report)),
        (&json!("accepted"), ["add > small", "add > large", "none", "b"].map(str::to_owned).to_vec()),
        "{report:#}"
    );
    let report = of("export const add = (a, b) => a > 9 ? 0 : a + b;");
    assert_eq!((&report["verdict"], &report["score"]["passed"]), (&json!("wrong_answer"), &json!(3)), "{report:#}");
    assert_eq!(report["message"], "add > large: add.test.mjs:6: carry", "{report:#}");
    let report = of("export const add = (a, b) => a + c;");
    assert_eq!(report["verdict"], "runtime_error", "{report:#}");
    assert!(report["message"].as_str().unwrap().contains("add.mjs:1: c is not defined"), "{report:#}");
    for code in [
        "process.exit(0);\nexport const add = 1;",
        "export const add = (a, b) => { process.exit(0) };",
        "export const add = (a, b) return",
    ] {
        let report = of(code);
        assert_eq!(report["verdict"], "runtime_error", "{code}: {report:#}");
    }
    assert!(of("export const add = (a, b) return").get("message").unwrap().as_str().unwrap().contains("SyntaxError"));
}

#[test]
fn a_suite_that_does_not_compile_shows_the_compilers_line() {
    let daemon = daemon("c");
    let mut caller = daemon.caller();
    for format in ["tap", "junit", "exit"] {
        let suite = json!({ "format": format, "command": ["sh", "-c", "cc -o /tmp/t test.c add.c && /tmp/t"],
            "files": files(&[("test.c", "int add(int, int);\nint main() { return add(1, 2) != 3; }\n")]) });
        let work = json!({ "language": "c", "files": files(&[("add.c", "int add(int a, int b) { return a + c; }")]), "suite": suite });
        let report = caller.ok("submission.run", patient(work));
        assert_ne!(report["verdict"], "accepted", "{report:#}");
        assert!(report["message"].as_str().unwrap().contains("add.c:1:"), "{format}: {report:#}");
    }
}

#[test]
fn a_node_suite_that_ends_early_counts_what_should_have_run() {
    let daemon = daemon("javascript");
    let mut caller = daemon.caller();
    let tests = "import test, { describe } from 'node:test';\nimport assert from 'node:assert';\nimport { add } from './add.mjs';\ndescribe('add', () => {\n  test('one', () => assert.equal(add(1, 2), 3));\n  test('two', () => assert.equal(add(2, 2), 4));\n});\ntest('three', () => assert.equal(add(3, 3), 6));\ntest('four', () => assert.equal(add(4, 4), 8));\ntest('five', async () => assert.equal(add(5, 5), 10));\n";
    let suite = json!({ "format": "node", "files": files(&[("add.test.mjs", tests)]) });
    for (code, verdict) in [("for (;;) ;", "time_limit"), ("process.exit(0);", "runtime_error")] {
        let code = format!("export const add = (a, b) => {{ if (a == 3) {code}; return a + b; }};");
        let work = json!({ "language": "javascript", "files": files(&[("add.mjs", &code)]), "suite": suite, "limits": { "cpu_ms": 1500, "wall_ms": 60000 } });
        let report = caller.ok("submission.run", work);
        let cases: Vec<_> =
            report["suite"]["cases"].as_array().unwrap().iter().map(|case| case["verdict"].as_str().unwrap()).collect();
        assert_eq!(cases, ["accepted", "accepted", verdict, "skipped", "skipped"], "{report:#}");
        assert_eq!(names(&report)[..4], ["add > one", "add > two", "three", "four"], "{report:#}");
        assert_eq!((&report["verdict"], &report["suite"]["not_run"]), (&json!(verdict), &json!(2)), "{report:#}");
        assert_eq!((&report["score"]["passed"], &report["score"]["total"]), (&json!(2), &json!(5)), "{report:#}");
        assert!(!report["suite"]["run"]["stdout"].as_str().unwrap().contains("assay"), "{report:#}");
    }
}

#[test]
fn reports_and_modules_of_the_submission_do_not_stand_for_the_suites() {
    let daemon = daemon("javascript");
    let mut caller = daemon.caller();
    let refused = |caller: &mut Caller, format: &str, own: &str, tests: &[(&str, &str)]| {
        let suite = json!({ "format": format, "command": ["true"], "files": files(tests) });
        let work = json!({ "language": "javascript", "files": files(&[("a.js", ""), (own, "")]), "suite": suite });
        let error = caller.error("submission.run", work);
        (error["data"]["field"].as_str().unwrap().to_owned(), error["message"].as_str().unwrap().to_owned())
    };
    let (field, message) = refused(&mut caller, "junit", "reports/TEST-a.xml", &[("t.sh", "")]);
    assert_eq!((field.as_str(), message.contains("reports/")), ("files[1].path", true), "{message}");
    let tests = [("a.test.js", "const helper = require('./helper');"), ("helper.js", "")];
    let (field, message) = refused(&mut caller, "node", "helper", &tests);
    assert_eq!((field.as_str(), message.contains("helper.js")), ("files[1].path", true), "{message}");
}
