//! What programs and their tests can make the daemon hold: outputs, what is made of them to judge
//! them, and the calls that wait for a report.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

use base64::Engine as _;
use serde_json::{Value, json};

use crate::harness::{Caller, Daemon, Options, eventually, patient, submission, with};

const MIB: u64 = 1 << 20;

fn daemon() -> Daemon {
    // as in assayd.service: the allocator keeps no large pieces
    let daemon = Daemon::start(&Options { env: &[("MALLOC_MMAP_THRESHOLD_", "1048576")], ..Options::default() });
    daemon.warm();
    daemon
}

/// A line of the daemon's status in bytes: `VmRSS` or `VmHWM`.
fn memory(daemon: &Daemon, key: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Runs a submission, and returns its report and the memory that it took at most, in MiB.
fn measured(daemon: &Daemon, caller: &mut Caller, submission: Value) -> (Value, u64) {
    // the peak is what it is now
    std::fs::write(format!("/proc/{}/clear_refs", daemon.pid()), "5").unwrap();
    let before = memory(daemon, "VmRSS");
    let report = caller.ok("submission.run", submission);
    (report, memory(daemon, "VmHWM").saturating_sub(before) / MIB)
}

fn put(caller: &mut Caller, bytes: &[u8]) -> Value {
    let mut blob = json!({});
    for (at, piece) in bytes.chunks(4 * MIB as usize).enumerate() {
        let offset = at * 4 * MIB as usize;
        let data = base64::engine::general_purpose::STANDARD.encode(piece);
        let eof = offset + piece.len() == bytes.len();
        let params = with(with(with(blob, "data_b64", json!(data)), "offset", json!(offset)), "eof", json!(eof));
        blob = caller.ok("blob.put", params);
    }
    blob
}

fn with_output(code: &str, mib: u64) -> Value {
    let mut submission = patient(submission("python", code));
    submission["limits"]["output_bytes"] = json!(mib * MIB + 1000);
    submission
}

#[test]
fn outputs_of_judged_tests_do_not_stay_in_memory() {
    let daemon = daemon();
    let mut caller = daemon.caller();
    let tests: Vec<Value> = (0..12).map(|name| json!({ "name": name.to_string() })).collect();
    let large = |count| {
        let program = with_output("import sys\nfor _ in range(24): sys.stdout.write('x' * (1 << 20))", 24);
        with(program, "tests", json!(tests[..count]))
    };
    // as long as there is room, they are blobs
    let (report, _) = measured(&daemon, &mut caller, large(2));
    for test in report["tests"].as_array().unwrap() {
        assert_eq!(test["stdout_truncated"], false);
        let got = caller.ok("blob.get", json!({ "blob": test["stdout"]["blob"], "offset": 24 * MIB - 10 }));
        assert_eq!((got["eof"].as_bool(), got["data_b64"].as_str()), (Some(true), Some("eHh4eHh4eHh4eA==")));
    }
    // no room is left: they are cut to what the report carries
    while caller.call("blob.put", json!({ "data_b64": "eA==", "offset": 0, "eof": true })).get("error").is_none() {}
    let (report, took) = measured(&daemon, &mut caller, large(12));
    let tests = report["tests"].as_array().unwrap();
    assert_eq!((report["verdict"].as_str(), tests.len()), (Some("accepted"), 12), "{}", report["message"]);
    assert!(tests.iter().all(|test| test["stdout_truncated"] == true));
    let kept: Vec<_> = tests.iter().map(|test| test["stdout"].as_str().unwrap().len() as u64 / MIB).collect();
    assert_eq!(kept[..4], [1, 1, 0, 0]);
    assert!(took < 160, "{took} MiB");
}

#[test]
fn a_block_of_a_test_takes_no_more_memory_than_its_text() {
    let daemon = daemon();
    let code = "import sys\nsys.stdout.write('TAP version 13\\nok 1 - a\\n  ---\\n' + '\\n' * (16 << 20))";
    let suite = json!({ "format": "node", "files": [], "command": ["python3", "main.py"] });
    let (report, took) = measured(&daemon, &mut daemon.caller(), with(with_output(code, 16), "suite", suite));
    assert_eq!(report["verdict"], "runtime_error", "{}", report["message"]);
    assert!(took < 160, "{took} MiB");
}

#[test]
fn unordered_lines_take_no_more_memory_than_their_text() {
    let daemon = daemon();
    let mut caller = daemon.caller();
    let blob = put(&mut caller, &b"a\n".repeat(16 << 20));
    let checker = json!({ "kind": "lines", "unordered": true });
    let tests = json!([{ "expect": blob, "checker": checker }]);
    let (report, took) = measured(&daemon, &mut caller, with(with_output("print('a')", 1), "tests", tests));
    assert_eq!(report["verdict"], "wrong_answer", "{}", report["message"]);
    assert!(took < 96, "{took} MiB");
}

#[test]
fn a_waiting_call_counts_with_what_it_holds() {
    let daemon = daemon();
    let mut caller = daemon.caller_as(3012);
    let endless =
        with(submission("python", "while True: pass"), "limits", json!({ "cpu_ms": 60_000, "wall_ms": 60_000 }));
    let id = caller.ok("submission.submit", endless)["id"].clone();
    let before = memory(&daemon, "VmRSS");
    let connect = || {
        let all = daemon.caller_as(3012);
        all.writer.try_clone().unwrap()
    };
    let mut all: Vec<UnixStream> = Vec::new();
    let refused = (0..50).any(|_| {
        let mut stream = connect();
        let call = |n: u64| {
            json!({ "jsonrpc": "2.0", "id": n, "method": "submission.wait", "params": { "id": id } }).to_string() + "\n"
        };
        let calls: String = (0..1000).map(call).collect();
        stream.write_all(calls.as_bytes()).unwrap();
        // its own answer says that all before it were read
        stream.write_all(b"{\"jsonrpc\":\"2.0\",\"id\":\"last\",\"method\":\"daemon.health\"}\n").unwrap();
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).unwrap();
        all.push(stream);
        line.contains("quota_exceeded")
    });
    let took = memory(&daemon, "VmRSS").saturating_sub(before) / MIB;
    assert!(refused, "{} waiting calls hold {took} MiB", all.len() * 1000);
    assert!(took < 256 + 64 + 64, "{took} MiB");
    drop(all);
    // a line that is refused has an answer without an id
    eventually("the calls are forgotten", || {
        caller.send("submission.cancel", &json!({ "id": id }));
        caller.line().get("result").is_some()
    });
}
