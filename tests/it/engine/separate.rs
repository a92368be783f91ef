//! Suites whose code under test runs in a process of its own (`suite.separate`): an ordinary suite
//! gets the same results as in one process, and no attempt to have one accepted without solving it
//! works. tests/separate has the files.

use serde_json::{Value, json};

use crate::harness::{Caller, Daemon, Options, patient, root, with};

fn daemon() -> Daemon {
    Daemon::start(&Options { profiles: "python,python-3.11", floor: 0, ..Options::default() })
}

fn file(name: &str) -> String {
    std::fs::read_to_string(root().join("tests/separate").join(name)).unwrap()
}

/// Code with a pytest suite, in one process or in two.
fn work(code: &str, suite: &[(&str, &str)], is_separate: bool) -> Value {
    let files: Value = suite.iter().map(|(path, content)| json!({ "path": path, "content": content })).collect();
    let suite = json!({ "format": "pytest", "files": files, "separate": is_separate });
    let main = json!([{ "path": "main.py", "content": code }]);
    patient(json!({ "language": "python", "preset": "lesson", "files": main, "suite": suite }))
}

fn judged(caller: &mut Caller, code: &str, suite: &[(&str, &str)], is_separate: bool) -> Value {
    caller.ok("submission.run", work(code, suite, is_separate))
}

#[test]
fn an_ordinary_suite_has_the_same_results_in_one_process_and_in_two() {
    let daemon = daemon();
    let mut caller = daemon.caller();
    caller.ok("image.build", json!({ "profile": "python-3.11" }));
    let (code, suite) = (file("main.py"), file("test_main.py"));
    // pytest 8 and 7
    for (language, is_separate) in [("python", false), ("python", true), ("python-3.11", false), ("python-3.11", true)]
    {
        let mut work = work(&code, &[("test_main.py", &suite)], is_separate);
        work["language"] = json!(language);
        let report = caller.ok("submission.run", work);
        assert_eq!(report["verdict"], "accepted", "{language} {is_separate}: {report:#}");
        assert_eq!(report["score"]["total"], 19, "{language} {is_separate}: {report:#}");
    }
}

#[test]
fn a_failure_in_the_other_process_has_its_place_and_its_words() {
    let daemon = daemon();
    let mut caller = daemon.caller();
    let suite = "from main import f\ndef test(): assert f(1) == 2, 'hint'\n";
    for (code, verdict, words) in [
        ("def f(n): return n", "wrong_answer", "test_main.py:2: AssertionError: hint"),
        ("def f(n):\n  return m", "runtime_error", "main.py:2: NameError: name 'm' is not defined"),
        ("\ndef f(n) return n", "runtime_error", "main.py:2: SyntaxError: "),
        ("import os\ndef f(n): os._exit(0)", "runtime_error", "the code under test has ended its process"),
    ] {
        let report = judged(&mut caller, code, &[("test_main.py", suite)], true);
        assert_eq!(report["verdict"], verdict, "{report:#}");
        let text = format!("{} {}", report["message"], report["suite"]["cases"]);
        assert!(text.contains(words), "{words}: {report:#}");
    }
}

#[test]
fn what_cannot_cross_is_refused_by_name() {
    let daemon = daemon();
    let mut caller = daemon.caller();
    let code = "class A: pass\ndef f(x): return x\n";
    for (test, words) in [
        (
            "from unittest import mock\ndef test(): main.f(mock.MagicMock())",
            "an object of unittest.mock.MagicMock cannot be handed",
        ),
        ("def test():\n  class B(main.A): pass", "cannot be a base class in a separate suite"),
        ("import copy\ndef test(): copy.copy(main.A())", "cannot be copied or pickled"),
    ] {
        let report = judged(&mut caller, code, &[("test_main.py", &format!("import main\n{test}\n"))], true);
        assert_eq!(report["verdict"], "runtime_error", "{report:#}");
        assert!(report["message"].as_str().unwrap().contains(words), "{words}: {report:#}");
    }
    let mut other = work(code, &[("test.sh", "true")], true);
    other["suite"]["format"] = json!("exit");
    other["suite"]["command"] = json!(["sh", "test.sh"]);
    assert_eq!(caller.error("submission.run", other)["data"]["field"], "suite.separate");
    let none = with(work(code, &[("data.json", "{}")], true), "stop", json!("never"));
    assert_eq!(caller.error("submission.run", none)["data"]["field"], "suite.separate");
}

#[test]
fn what_the_tests_use_of_libraries_is_what_it_was() {
    let daemon = daemon();
    let mut caller = daemon.caller();
    only_the_right_one_is_accepted(&mut caller, "test_libraries.py", "libraries.txt");
    // a conftest.py that imports the code under test first
    let tests =
        "import unittest\nclass T(unittest.TestCase):\n  def test(self): self.assertEqual(__import__('main').f(), 1)\n";
    let suite = [("conftest.py", "import main\n"), ("test_main.py", tests)];
    let code = "import unittest\nunittest.TestCase.assertEqual = lambda *a: None\ndef f(): return 2\n";
    for is_separate in [false, true] {
        let report = judged(&mut caller, code, &suite, is_separate);
        assert_ne!(report["verdict"], "accepted", "{report:#}");
    }
}

#[test]
fn fixtures_are_the_suites_own() {
    let daemon = daemon();
    only_the_right_one_is_accepted(&mut daemon.caller(), "test_fixtures.py", "fixtures.txt");
}

/// Submissions of which the first one is right; `REST` in the others stands for its code.
fn only_the_right_one_is_accepted(caller: &mut Caller, tests: &str, submissions: &str) {
    let (tests, submissions) = (file(tests), file(submissions));
    let parts: Vec<(&str, &str)> =
        submissions.split("=== ").skip(1).map(|part| part.split_once("\n---\n").unwrap()).collect();
    let right = parts[0].1;
    for (what, code) in &parts {
        for is_separate in [false, true] {
            let code = code.replace("REST\n", right);
            let report = judged(caller, &code, &[("test_main.py", &tests)], is_separate);
            assert_eq!(report["verdict"] == "accepted", *what == "right", "{what}, {is_separate}: {report:#}");
        }
    }
}

#[test]
fn a_doctest_is_not_passed_by_a_change_that_is_undone() {
    let daemon = daemon();
    let mut caller = daemon.caller();
    let mut work =
        work(&file("doctests.py"), &[("test_main.py", "from main import f\ndef test(): assert f(1) == 5\n")], false);
    work["suite"]["command"] = json!(["pytest", "--doctest-modules"]);
    let report = caller.ok("submission.run", work);
    assert_eq!(report["verdict"], "runtime_error", "{report:#}");
    assert!(report["message"].as_str().unwrap().contains("OutputChecker.check_output"), "{report:#}");
}

#[test]
fn no_separate_suite_is_accepted_without_being_solved() {
    let daemon = daemon();
    let mut caller = daemon.caller();
    let (tests, helper, attacks) = (file("test_attacked.py"), file("helper.py"), file("attacks.txt"));
    let suite = [("test_main.py", tests.as_str()), ("helper.py", helper.as_str())];
    let attacks: Vec<(&str, &str)> =
        attacks.split("=== ").skip(1).map(|part| part.split_once("\n---\n").unwrap()).collect();
    assert!(attacks.len() > 15);
    for (what, code) in attacks {
        for is_separate in [false, true] {
            let report = judged(&mut caller, code, &suite, is_separate);
            // docs/SECURITY.md: in one process objects can be equal to everything
            let is_accepted = what == "right" || !is_separate && what.starts_with("a list that is equal");
            assert_eq!(report["verdict"] == "accepted", is_accepted, "{what}, {is_separate}: {report:#}");
            let score = &report["score"];
            assert_eq!(score["passed"] == score["total"], is_accepted, "{what}, {is_separate}: {report:#}");
        }
    }
}
