//! What a submission with many tests takes in memory and in a file.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::content::ContentDecoder;
use super::{ProfileMap, accept};
use crate::work::{Checker, Plan, PlannedTest, Work};
use config::bounds;
use protocol::{Principal, Profile, Submission};

fn profiles() -> ProfileMap {
    let text = "name='python'\nimage='p'\nentry='main.py'\nrun=['python3','{entry}']";
    let python: Profile = toml::from_str(text).unwrap();
    BTreeMap::from([("python".to_owned(), Arc::new(python))])
}

fn submission(more: Value) -> Submission {
    let mut json = json!({ "language": "python", "files": [{ "path": "main.py", "content": "" }] });
    json.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(json).unwrap()
}

fn work(more: Value) -> Work {
    accept(&submission(more), &Principal::Uid(1000), &profiles(), &|_| None).unwrap()
}

fn tests(work: &Work) -> &[PlannedTest] {
    let Plan::Tests(tests) = &work.plan else { panic!("no tests") };
    tests
}

/// 100 variables of 1.1 KB.
fn variables() -> BTreeMap<String, String> {
    (0..100).map(|index| (format!("V{index}"), "x".repeat(1100))).collect()
}

/// A submission with arguments, an environment and checker's arguments of 100 KB together.
fn large(tests: Vec<Value>) -> Work {
    let words = |bytes: usize| vec!["y".repeat(1000); bytes / 1000];
    let environment: BTreeMap<_, _> = variables().into_iter().take(30).collect();
    let checker = json!({
        "kind": "program", "language": "python", "files": [{ "path": "c.py", "content": "c" }], "args": words(30_000),
    });
    work(json!({ "args": words(40_000), "env": environment, "checker": checker, "tests": tests }))
}

#[test]
fn tests_share_what_they_add_nothing_to_and_it_counts_once() {
    let many = large(vec![json!({}); bounds::MAX_TESTS]);
    let [first, .., last] = tests(&many) else { panic!("no tests") };
    assert!(Arc::ptr_eq(&first.step.argv, &last.step.argv) && Arc::ptr_eq(&first.step.env, &last.step.env));
    let (Checker::Program(_, one), Checker::Program(_, other)) = (&first.checker, &last.checker) else {
        panic!("no program");
    };
    assert!(Arc::ptr_eq(one, other));
    let per_test = (size_of::<PlannedTest>() + "1000".len()) as u64;
    let shared = large(vec![json!({})]).bytes() - per_test;
    assert!((100_000..150_000).contains(&shared), "{shared}");
    let all = shared + bounds::MAX_TESTS as u64 * per_test;
    assert!(many.bytes().abs_diff(all) < 2 * bounds::MAX_TESTS as u64, "{} of {all}", many.bytes());
}

#[test]
fn what_a_test_adds_counts_as_a_copy() {
    let shared = large(vec![json!({})]).bytes();
    let cases = [json!({ "args": ["1"] }), json!({ "env": { "A": "1" } }), json!({ "checker_args": ["1"] })];
    for (own, copy) in cases.into_iter().zip([40_000, 33_000, 0]) {
        let bytes = large(vec![own; 10]).bytes();
        assert!(bytes > 10 * copy && bytes < shared + 10 * (copy + 10_000), "{bytes} {copy}");
    }
}

#[test]
fn copies_count_towards_the_bound_of_a_submission() {
    let mut decoder = ContentDecoder::new(&|_| None);
    assert!(decoder.count_copy("tests[0].args", bounds::MAX_SUBMISSION_BYTES).is_ok());
    assert_eq!(decoder.count_copy("tests[1].args", 1).unwrap_err().field(), "tests[1].args");
}

#[test]
fn a_saved_submission_holds_what_tests_share_once() {
    let mut all = vec![json!({}); 200];
    all[100] = json!({ "args": ["own"], "env": { "A": "own" }, "checker_args": ["own"] });
    all[101] = json!({ "checker": { "kind": "exact" } });
    let work = large(all);
    let saved = serde_json::to_string(&work).unwrap();
    assert!(saved.len() < 500_000, "{}", saved.len());
    let loaded: Work = serde_json::from_str(&saved).unwrap();
    assert_eq!(loaded, work);
    assert!(loaded.bytes() < 2 * work.bytes(), "{} {}", loaded.bytes(), work.bytes());
    // as releases before wrote it
    let mut whole = serde_json::to_value(&work).unwrap();
    whole["plan"]["Tests"] = tests(&work).iter().map(|test| serde_json::to_value(test).unwrap()).collect();
    assert_eq!(serde_json::from_value::<Work>(whole).unwrap(), work);
}
