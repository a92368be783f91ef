//! Tests of one submission on several sandboxes at the same time.

use serde_json::{Value, json};

use crate::harness::{Caller, Daemon, Options, engine, eventually, patient, submission, with};

/// Room for four runs on any machine.
const ROOMY: &str = "[engine]\ncpu_overcommit=4.0\n";

fn daemon(profiles: &str, floor: u32, ceiling: u32) -> Daemon {
    let daemon = Daemon::start(&Options { profiles, floor, ceiling, config: ROOMY, ..Options::default() });
    daemon.warm();
    daemon
}

/// A program that sleeps as long as its input says and repeats it, with these inputs and answers.
fn sleepers(tests: &[(&str, &str)]) -> Value {
    let test = |(input, answer): &(&str, &str)| json!({ "stdin": input, "expect": answer });
    let tests: Vec<Value> = tests.iter().map(test).collect();
    let work = patient(submission("bash", "read x; sleep ${x%% *}; echo $x"));
    with(with(work, "tests", json!(tests)), "parallel", json!(4))
}

fn verdicts(report: &Value) -> Vec<&str> {
    report["tests"].as_array().unwrap().iter().map(|test| test["verdict"].as_str().unwrap()).collect()
}

/// Ids of the sandboxes in use, the one that was taken first at the beginning.
fn leased(caller: &mut Caller) -> Vec<String> {
    let list = caller.ok("sandbox.list", json!({}));
    let mut rows: Vec<&Value> = list["sandboxes"].as_array().unwrap().iter().collect();
    rows.retain(|row| row["state"] == "leased");
    rows.sort_by_key(|row| std::cmp::Reverse(row["age_ms"].as_u64()));
    rows.into_iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
}

fn pool(caller: &mut Caller) -> Value {
    caller.ok("pool.list", json!({}))["pools"][0].clone()
}

#[test]
fn tests_run_on_several_sandboxes_and_their_results_keep_their_order() {
    let daemon = daemon("bash", 3, 4);
    let mut caller = daemon.caller();
    let work = sleepers(&[("3 a", "3 a"), ("2 b", "2 b"), ("0 c", "0 c"), ("0 d", "?"), ("1 e", "1 e")]);
    let id = caller.send("submission.run", &work);
    let mut admin = daemon.caller();
    eventually("three sandboxes run tests", || leased(&mut admin).len() == 3);
    let report = caller.answer(id)["result"].clone();
    assert_eq!(verdicts(&report), ["accepted", "accepted", "accepted", "wrong_answer", "accepted"], "{report:#}");
    let outputs: Vec<_> = report["tests"].as_array().unwrap().iter().map(|test| test["stdout"].clone()).collect();
    assert_eq!(outputs, ["3 a\n", "2 b\n", "0 c\n", "0 d\n", "1 e\n"], "{report:#}");
    assert!(report["message"].as_str().unwrap().starts_with("Test 4:"), "{report:#}");
    // all of them serve their caller again
    eventually("the sandboxes are kept", || pool(&mut admin)["reused"] == 3);
    assert_eq!(caller.ok("submission.run", submission("bash", "echo"))["sandbox"]["uses"], 2);
}

#[test]
fn one_sandbox_is_used_unless_the_caller_allows_more() {
    let daemon = daemon("bash", 2, 4);
    let mut caller = daemon.caller();
    let tests = [("1", "1"), ("1", "1"), ("1", "1")];
    let alone = [("parallel", Value::Null), ("parallel", json!(1)), ("collect", json!(["x"]))];
    for (served, (field, value)) in alone.into_iter().enumerate() {
        assert_eq!(caller.ok("submission.run", with(sleepers(&tests), field, value))["verdict"], "accepted");
        // each further sandbox would be kept, too
        let mut now = Value::Null;
        eventually("nothing is in use", || {
            now = pool(&mut caller);
            now["leased"] == 0
        });
        assert_eq!(now["reused"], served + 1, "{now:#}");
    }
    for parallel in [json!(0), json!(33)] {
        let error = caller.error("submission.run", with(sleepers(&tests), "parallel", parallel));
        assert_eq!((&error["data"]["code"], &error["data"]["field"]), (&json!("bad_request"), &json!("parallel")));
    }
}

/// The kinds and tests of a submission's events, with the output.
fn events(caller: &mut Caller, work: &Value) -> (Vec<(String, String, String)>, Value) {
    let id = caller.send("submission.run", &with(work.clone(), "stream", json!(true)));
    let mut events = Vec::new();
    loop {
        let line = caller.line();
        if line["id"] == id {
            return (events, line["result"].clone());
        }
        let text = |field: &str| line["params"][field].as_str().unwrap_or_default().to_owned();
        if matches!(text("kind").as_str(), "stdout" | "test") {
            events.push((text("kind"), text("test"), text("data")));
        }
    }
}

#[test]
fn nothing_is_seen_of_tests_after_the_first_failure() {
    let daemon = daemon("bash", 2, 4);
    // the tests after the first one end before it
    let work =
        with(sleepers(&[("2 a", "?"), ("0 b", "0 b"), ("0 c", "?"), ("60 d", "60 d")]), "stop", json!("first_failure"));
    let (events, report) = events(&mut daemon.caller(), &work);
    assert_eq!(verdicts(&report), ["wrong_answer", "skipped", "skipped", "skipped"], "{report:#}");
    assert_eq!(report["tests"][1]["outcome"], Value::Null, "{report:#}");
    let expected = [("stdout", "1", "2 a\n"), ("test", "1", "wrong_answer")];
    assert_eq!(events, expected.map(|(kind, test, data)| (kind.into(), test.into(), data.into())));
    // what was not needed was ended, and harmed no sandbox
    let mut admin = daemon.caller();
    eventually("the sandboxes are kept", || pool(&mut admin)["reused"] == 2);
}

#[test]
fn events_come_in_the_order_of_the_tests() {
    let daemon = daemon("bash", 3, 4);
    let (events, report) = events(&mut daemon.caller(), &sleepers(&[("2 a", "2 a"), ("1 b", "?"), ("0 c", "0 c")]));
    assert_eq!(report["verdict"], "wrong_answer", "{report:#}");
    let test = |test: &str, output: &str, verdict: &str| {
        [("stdout", output), ("test", verdict)].map(|(kind, data)| (kind.to_owned(), test.to_owned(), data.to_owned()))
    };
    let right = "accepted";
    let expected = [test("1", "2 a\n", right), test("2", "1 b\n", "wrong_answer"), test("3", "0 c\n", right)];
    assert_eq!(events, expected.concat());
}

const C_SLEEPER: &str = "#include <stdio.h>\n#include <unistd.h>\n\
                         int main(){int n;scanf(\"%d\",&n);sleep(n);printf(\"%d\\n\",n);return 0;}";

/// The same in C, on two sandboxes. The submission's own one is in use from the compile step on.
fn c_sleepers(tests: &[(&str, &str)]) -> Value {
    let Value::Object(files) = submission("c", C_SLEEPER) else { unreachable!() };
    let mut work = with(sleepers(tests), "parallel", json!(2));
    files.into_iter().for_each(|(key, value)| work[key] = value);
    work
}

#[test]
fn a_program_is_compiled_once_also_without_a_cache() {
    for cache in ["", "[cache]\nmax='0B'\n"] {
        let config = format!("{ROOMY}{cache}");
        let daemon = Daemon::start(&Options { profiles: "c", floor: 2, config: &config, ..Options::default() });
        daemon.warm();
        let mut caller = daemon.caller();
        let id = caller.send("submission.run", &c_sleepers(&[("2", "2"), ("2", "2"), ("0", "0"), ("1", "1")]));
        let mut admin = daemon.caller();
        eventually("two sandboxes run tests", || leased(&mut admin).len() == 2);
        let report = caller.answer(id)["result"].clone();
        assert_eq!(verdicts(&report), ["accepted"; 4], "{report:#}");
        assert_eq!(report["compile"]["cached"], false, "{report:#}");
    }
}

#[test]
fn sandboxes_share_a_checker() {
    let daemon = daemon("bash,python", 2, 4);
    let code = "import sys\nsys.exit(42 if sys.stdin.read().split() == open(sys.argv[2]).read().split() else 43)";
    let checker =
        json!({ "kind": "program", "language": "python", "files": [{ "path": "check.py", "content": code }] });
    let work = sleepers(&[("1 a", "1 a"), ("1 b", "1 b"), ("0 c", "?"), ("0 d", "0 d"), ("0 e", "0 e")]);
    let report = daemon.caller().ok("submission.run", with(work, "checker", checker));
    assert_eq!(verdicts(&report), ["accepted", "accepted", "wrong_answer", "accepted", "accepted"], "{report:#}");
}

#[test]
fn a_cancelled_submission_ends_on_all_its_sandboxes() {
    let daemon = daemon("bash", 2, 4);
    let mut caller = daemon.caller();
    let work = with(sleepers(&[("100 a", "?"), ("100 b", "?"), ("100 c", "?")]), "id", json!("long"));
    let id = caller.send("submission.run", &work);
    let mut admin = daemon.caller();
    eventually("two sandboxes run tests", || leased(&mut admin).len() >= 2);
    caller.ok("submission.cancel", json!({ "id": "long" }));
    let report = caller.answer(id)["result"].clone();
    assert_eq!(report["verdict"], "cancelled", "{report:#}");
    assert_eq!(verdicts(&report), ["cancelled"; 3], "{report:#}");
    eventually("no sandbox is in use", || leased(&mut admin).is_empty() && pool(&mut admin)["leased"] == 0);
}

#[test]
fn a_test_whose_further_sandbox_is_lost_is_run_again() {
    let daemon = daemon("c", 2, 2);
    let mut caller = daemon.caller();
    let id = caller.send("submission.run", &c_sleepers(&[("3", "3"), ("3", "3"), ("3", "3"), ("0", "0")]));
    let mut admin = daemon.caller();
    let mut used = Vec::new();
    eventually("two sandboxes run tests", || {
        used = leased(&mut admin);
        used.len() == 2
    });
    assert_eq!(engine(&format!("POST /containers/{}/kill", used[1])).0, 204);
    let report = caller.answer(id)["result"].clone();
    assert_eq!(verdicts(&report), ["accepted"; 4], "{report:#}");
    assert!(used[0].starts_with(report["sandbox"]["id"].as_str().unwrap()), "{used:?} {report:#}");
    assert!(daemon.log().contains("further sandbox lost"), "{}", daemon.log());
}

#[test]
fn a_submission_whose_own_sandbox_is_lost_is_run_again() {
    let daemon = daemon("c", 2, 4);
    let mut caller = daemon.caller();
    let id = caller.send("submission.run", &c_sleepers(&[("3", "3"), ("3", "3"), ("3", "3"), ("0", "?")]));
    let mut admin = daemon.caller();
    let mut used = Vec::new();
    eventually("two sandboxes run tests", || {
        used = leased(&mut admin);
        used.len() >= 2
    });
    assert_eq!(engine(&format!("POST /containers/{}/kill", used[0])).0, 204);
    let report = caller.answer(id)["result"].clone();
    assert_eq!(verdicts(&report), ["accepted", "accepted", "accepted", "wrong_answer"], "{report:#}");
}

#[test]
fn further_sandboxes_give_way_to_other_callers_between_tests() {
    let daemon = daemon("bash", 2, 2);
    let mut caller = daemon.caller();
    let tests: Vec<(&str, &str)> = vec![("2", "2"); 16];
    let long = caller.send("submission.run", &sleepers(&tests));
    let mut admin = daemon.caller();
    eventually("both sandboxes run tests", || leased(&mut admin).len() == 2);
    let short = caller.send("submission.run", &with(submission("bash", "echo"), "tenant", json!("other")));
    let first = caller.line();
    assert_eq!((&first["id"], &first["result"]["verdict"]), (&json!(short), &json!("accepted")), "{first:#}");
    assert_eq!(verdicts(&caller.answer(long)["result"]), ["accepted"; 16]);
}

#[test]
fn a_uid_has_no_more_sandboxes_than_it_may_have_running_submissions() {
    let config = format!("{ROOMY}[queue]\nmax_running_per_uid=2\n");
    let daemon = Daemon::start(&Options { profiles: "bash", floor: 4, config: &config, ..Options::default() });
    daemon.warm();
    let mut caller = daemon.caller();
    let id = caller.send("submission.run", &sleepers(&[("1", "1"); 6]));
    let mut admin = daemon.caller();
    let mut most = 0;
    eventually("the submission is answered", || {
        most = most.max(leased(&mut admin).len());
        admin.ok("daemon.status", json!({}))["counters"]["answered"] == 1
    });
    assert_eq!(verdicts(&caller.answer(id)["result"]), ["accepted"; 6]);
    assert_eq!(most, 2);
}
