//! Events of a running submission, and input that is sent during a run.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Caller, Daemon, Options, patient, submission, with};

fn daemon() -> Daemon {
    Daemon::start(&Options { profiles: "python,c", floor: 1, ..Options::default() })
}

/// The events of a call until its answer, and the answer.
fn events(caller: &mut Caller, call: u64) -> (Vec<Value>, Value) {
    let mut events = Vec::new();
    loop {
        let line = caller.line();
        if line["method"] == "submission.event" {
            events.push(line["params"].clone());
        } else if line["id"].as_u64() == Some(call) {
            return (events, line);
        }
    }
}

fn output(events: &[Value]) -> String {
    let of = |event: &&Value| event["kind"] == "stdout";
    events.iter().filter(of).map(|event| event["data"].as_str().unwrap()).collect()
}

#[test]
fn a_submitted_run_can_be_followed_from_the_start_and_from_any_event() {
    let daemon = daemon();
    let mut caller = daemon.caller();
    let code = "import time\nfor n in range(6):\n  print(n, flush=True)\n  time.sleep(0.15)";
    let id = caller.ok("submission.submit", submission("python", code))["id"].as_str().unwrap().to_owned();
    let call = caller.send("submission.wait", &json!({ "id": id, "stream": true }));
    let (all, answer) = events(&mut caller, call);
    assert_eq!(answer["result"]["verdict"], "accepted");
    assert_eq!((&all[0]["kind"], &all[1]["kind"]), (&json!("accepted"), &json!("state")));
    let seqs: Vec<u64> = all.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (0..all.len() as u64).collect::<Vec<_>>());
    assert_eq!(output(&all), "0\n1\n2\n3\n4\n5\n");
    // after the end, from the middle
    let call = caller.send("submission.wait", &json!({ "id": id, "stream": true, "from_seq": 3 }));
    let (rest, _) = events(&mut caller, call);
    assert_eq!(rest, all[3..]);
    let error = caller.error("submission.wait", json!({ "id": id, "from_seq": 3 }));
    assert_eq!(error["data"]["field"], "from_seq");
}

#[test]
fn events_arrive_during_the_run_and_include_usage() {
    let daemon = daemon();
    let mut caller = daemon.caller();
    // it uses memory and CPU time, and then waits for input
    let code = "x = bytearray(40 << 20)\nimport time\nwhile time.process_time() < 0.6: pass\nprint('busy', flush=True)\ninput()";
    let work = with(with(patient(submission("python", code)), "stdin_open", json!(true)), "id", json!("busy"));
    let call = caller.send("submission.run", &with(work, "stream", json!(true)));
    let mut usage: Vec<Value> = Vec::new();
    let mut is_busy = false;
    let last = loop {
        let line = caller.line();
        is_busy |= line["params"]["kind"] == "stdout";
        if line["params"]["kind"] != "usage" {
            assert_eq!(line["method"], "submission.event", "{line:#}");
            continue;
        }
        usage.push(line["params"]["data"].clone());
        // the first sample after the output may have been taken before it
        if is_busy && usage.last().unwrap()["cpu_ms"].as_f64().unwrap() > 400.0 && usage.len() > 1 {
            break usage.last().unwrap();
        }
    };
    assert!(
        last["memory_bytes"].as_u64().unwrap() > 40 << 20 && last["wall_ms"].as_f64().unwrap() > 400.0,
        "{usage:?}"
    );
    daemon.caller().ok("submission.input", json!({ "id": "busy", "data": "\n", "eof": true }));
    assert_eq!(events(&mut caller, call).1["result"]["verdict"], "accepted");
    // at most two samples a second
    assert!(usage.len() as f64 <= last["wall_ms"].as_f64().unwrap() / 400.0 + 2.0, "{usage:?}");
}

#[test]
fn a_late_reader_gets_the_number_of_dropped_bytes() {
    let daemon = daemon();
    let mut caller = daemon.caller();
    let work = with(submission("python", "print('x' * 900_000)\nprint('end')"), "id", json!("loud"));
    caller.ok("submission.submit", work);
    caller.ok("submission.wait", json!({ "id": "loud" }));
    let call = caller.send("submission.wait", &json!({ "id": "loud", "stream": true }));
    let (all, answer) = events(&mut caller, call);
    let dropped: u64 = all.iter().filter_map(|event| event["dropped_bytes"].as_u64()).sum();
    assert!(output(&all).ends_with("end\n"));
    assert_eq!(dropped + output(&all).len() as u64, 900_005, "{dropped}");
    assert_eq!(answer["result"]["run"]["stdout"].as_str().unwrap().len(), 900_005);
}

#[test]
fn input_can_be_sent_in_answer_to_output() {
    let daemon = daemon();
    let mut caller = daemon.caller();
    let code = "print('name?', flush=True)\nname = input()\nprint('hello', name, flush=True)\nimport sys\nprint(len(sys.stdin.read()))";
    let work = with(with(submission("python", code), "stdin_open", json!(true)), "stdin", json!(""));
    let work = patient(work);
    let call = caller.send("submission.run", &with(work, "stream", json!(true)));
    let mut id = Value::Null;
    let mut until = |caller: &mut Caller, text: &str| loop {
        let line = caller.line();
        id = line["params"]["id"].clone();
        if line["params"]["data"].as_str().is_some_and(|data| data.contains(text)) {
            return id.clone();
        }
    };
    let id = until(&mut caller, "name?");
    let mut other = daemon.caller();
    other.ok("submission.input", json!({ "id": id, "data": "Ada\n" }));
    until(&mut caller, "hello Ada");
    // far more than any flow-control window
    let many = "y".repeat(700_000);
    for _ in 0..3 {
        other.ok("submission.input", json!({ "id": id, "data": many }));
    }
    other.ok("submission.input", json!({ "id": id, "data_b64": "eg==", "eof": true }));
    let (rest, answer) = events(&mut caller, call);
    assert_eq!((output(&rest).as_str(), &answer["result"]["verdict"]), ("2100001\n", &json!("accepted")));
    let error = other.error("submission.input", json!({ "id": id, "data": "more" }));
    assert_eq!(error["data"]["field"], "id");
}

#[test]
fn input_is_accepted_from_the_owner_of_a_submission_with_open_stdin_only() {
    let daemon = daemon();
    let mut caller = daemon.caller();
    let closed = with(submission("python", "input()"), "id", json!("closed"));
    caller.ok("submission.submit", closed);
    let error = caller.error("submission.input", json!({ "id": "closed", "data": "x" }));
    assert_eq!(error["data"]["code"], "bad_request", "{error}");
    let open = with(with(submission("python", "print(input())"), "id", json!("open")), "stdin_open", json!(true));
    caller.ok("submission.submit", open);
    let error = daemon.caller_as(4321).error("submission.input", json!({ "id": "open", "data": "x" }));
    assert_eq!(error["data"]["code"], "not_found", "{error}");
    for wrong in [json!({ "id": "open", "data": "x", "data_b64": "eA==" }), json!({ "id": "open", "data_b64": "?" })] {
        assert_eq!(caller.error("submission.input", wrong)["data"]["code"], "bad_request");
    }
    caller.ok("submission.input", json!({ "id": "open", "data": "mine\n", "eof": true }));
    assert_eq!(caller.ok("submission.wait", json!({ "id": "open" }))["run"]["stdout"], "mine\n");
}

#[test]
fn input_that_no_program_has_taken_counts_for_its_uid() {
    let daemon = daemon();
    let mut caller = daemon.caller();
    let data = "z".repeat(7_900_000);
    // the bound is 256 MiB: 33 of them
    let most = 40;
    let mut refused = None;
    for index in 0..=most {
        let id = format!("open-{index}");
        let code = "import time; time.sleep(60)";
        let work = with(with(patient(submission("python", code)), "stdin_open", json!(true)), "id", json!(id));
        caller.ok("submission.submit", work);
        // a line that is refused is not read, and so its answer has no id
        caller.send("submission.input", &json!({ "id": id, "data": data }));
        let reply = caller.line();
        if let Some(error) = reply.get("error") {
            refused = Some((index, error["data"]["code"].clone()));
            break;
        }
    }
    let (count, code) = refused.expect("all input was taken");
    assert!(code == "quota_exceeded" && count > most / 2, "{count} {code}");
    // it no longer counts when its submissions are over
    for index in 0..=count {
        caller.ok("submission.cancel", json!({ "id": format!("open-{index}") }));
        caller.ok("submission.wait", json!({ "id": format!("open-{index}") }));
    }
    let open = with(with(submission("python", "print(len(input()))"), "id", json!("last")), "stdin_open", json!(true));
    caller.ok("submission.submit", open);
    caller.ok("submission.input", json!({ "id": "last", "data": data, "eof": true }));
    assert_eq!(caller.ok("submission.wait", json!({ "id": "last" }))["run"]["stdout"], "7900000\n");
}

#[test]
fn a_program_that_does_not_read_its_input_holds_up_no_other_submission() {
    let daemon = daemon();
    let mut caller = daemon.caller();
    let work = with(submission("python", "import time; time.sleep(2)"), "id", json!("unread"));
    caller.ok("submission.submit", with(work, "stdin_open", json!(true)));
    let many = "x".repeat(1_000_000);
    let started = Instant::now();
    let calls: Vec<u64> =
        (0..4).map(|_| caller.send("submission.input", &json!({ "id": "unread", "data": many }))).collect();
    // another submission runs meanwhile
    assert_eq!(daemon.caller().run("c", "int main() { return 0; }")["verdict"], "accepted");
    assert_eq!(caller.ok("submission.wait", json!({ "id": "unread" }))["verdict"], "accepted");
    for call in calls {
        caller.answer(call);
    }
    assert!(started.elapsed() < Duration::from_secs(60));
}
