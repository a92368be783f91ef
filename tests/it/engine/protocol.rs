//! The socket protocol: its contract, its bounds, its errors.

use std::io::{BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};

use crate::harness::{Caller, Daemon, Options, eventually, patient, submission, with};

fn code(error: &Value) -> &str {
    error["data"]["code"].as_str().unwrap()
}

#[test]
fn bad_input_gets_one_clear_error_and_the_connection_survives() {
    let daemon = Daemon::start(&Options { floor: 0, ..Options::default() });
    let mut caller = daemon.caller();
    assert_eq!(caller.hello["params"]["protocol"], 1);
    assert_eq!(caller.hello["params"]["limits"]["max_line_bytes"], 8 * 1024 * 1024);

    for (line, number) in [
        ("nonsense", -32700),
        ("[]", -32600),
        ("[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"daemon.status\"}]", -32600),
        ("{\"jsonrpc\":\"2.0\"}", -32600),
        ("{\"jsonrpc\":\"2.0\",\"id\":true,\"method\":\"x\"}", -32600),
        ("\u{0}", -32700),
    ] {
        caller.send_raw(format!("{line}\n").as_bytes());
        let answer = caller.line();
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&Value::Null, &json!(number)), "{line}: {answer}");
        assert_eq!(code(&answer["error"]), "bad_request");
    }

    let file = |path: &str| json!({ "language": "python", "files": [{ "path": path, "content": "" }] });
    let plain = || submission("python", "print(1)");
    let cases = [
        (json!({ "language": "cobol", "files": [] }), "unknown_profile", "language"),
        (json!({ "language": "python", "files": [] }), "bad_request", "files"),
        (json!({ "language": "python", "files": "x" }), "bad_request", "files"),
        (json!({ "langauge": "python" }), "bad_request", "langauge"),
        (file("/etc/passwd"), "bad_request", "files[0].path"),
        (file("../x"), "bad_request", "files[0].path"),
        (
            json!({ "language": "python", "files": [{"path":"a","content":""},{"path":"a","content":""}] }),
            "bad_request",
            "files[1].path",
        ),
        (
            json!({ "language": "python", "files": [{ "path": "a", "content": "", "mode": "0120777" }] }),
            "bad_request",
            "files[0].mode",
        ),
        (with(plain(), "limits", json!({ "cpu_msx": 1 })), "bad_request", "limits"),
        (with(plain(), "limits", json!({ "memory_bytes": 1u64 << 40 })), "denied", "limits.memory_bytes"),
        (with(plain(), "limits", json!({ "cpus": 64 })), "denied", "limits.cpus"),
        (with(plain(), "collect", json!(["../x"])), "bad_request", "collect[0]"),
        (with(plain(), "isolation", json!("split")), "unsupported", "isolation"),
        (with(plain(), "tenant", json!("x".repeat(129))), "bad_request", "tenant"),
        (with(plain(), "stream", json!("yes")), "bad_request", "stream"),
        (with(plain(), "stdin", json!({ "blob": "none" })), "not_found", "stdin"),
    ];
    for (params, word, field) in cases {
        let error = caller.error("submission.run", params.clone());
        assert_eq!(code(&error), word, "{params}: {error}");
        let named = error["data"]["field"].as_str().unwrap_or_default();
        assert!(named.starts_with(field), "{params}: {error}");
    }
    assert_eq!(code(&caller.error("no.such", json!({}))), "not_found");
    assert_eq!(code(&caller.error("submission.wait", json!({ "id": "none" }))), "not_found");
    assert_eq!(code(&caller.error("submission.input", json!({}))), "bad_request");
    assert_eq!(caller.run("python", "print(1)")["verdict"], "accepted");
}

#[test]
fn a_line_of_100_mb_is_refused_and_the_same_bytes_work_as_a_blob() {
    let daemon = Daemon::start(&Options { floor: 0, ..Options::default() });
    let mut caller = daemon.caller();
    let piece = vec![b'z'; 1 << 20];
    caller.send_raw(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"submission.run\",\"params\":{\"x\":\"");
    for _ in 0..100 {
        caller.send_raw(&piece);
    }
    caller.send_raw(b"\"}}\n");
    let answer = caller.line();
    assert_eq!(code(&answer["error"]), "too_large", "{answer}");
    assert!(answer["error"]["message"].as_str().unwrap().contains("blob.put"));

    let encoded = base64::engine::general_purpose::STANDARD.encode(vec![b'z'; 4 << 20]);
    let mut blob = Value::Null;
    for index in 0..25u64 {
        let mut params = json!({ "data_b64": encoded, "offset": index * (4 << 20), "eof": index == 24 });
        if index > 0 {
            params["blob"] = blob.clone();
        }
        blob = caller.ok("blob.put", params)["blob"].clone();
    }
    let code = "import sys\nn = 0\nwhile True:\n  b = sys.stdin.buffer.read(1 << 20)\n  if not b: break\n  n += len(b)\nprint(n)";
    let count = patient(submission("python", code));
    let report = caller.ok("submission.run", with(count, "stdin", json!({ "blob": blob })));
    assert_eq!(report["run"]["stdout"], format!("{}\n", 100 << 20), "{report:#}");
}

#[test]
fn a_stream_begins_with_accepted_and_the_response_comes_last() {
    let daemon = Daemon::start(&Options { floor: 0, ..Options::default() });
    let mut caller = daemon.caller();
    let code =
        "import time, sys\nfor i in range(3):\n  print(i, flush=True); time.sleep(0.05)\nprint('e', file=sys.stderr)";
    let id = caller.send("submission.run", &with(submission("python", code), "stream", json!(true)));
    let mut kinds = Vec::new();
    let mut text = String::new();
    let report = loop {
        let line = caller.line();
        if line["id"] == id {
            break line["result"].clone();
        }
        assert_eq!((&line["method"], &line["params"]["seq"]), (&json!("submission.event"), &json!(kinds.len())));
        kinds.push(line["params"]["kind"].as_str().unwrap().to_owned());
        if line["params"]["kind"] == "stdout" {
            text.push_str(line["params"]["data"].as_str().unwrap());
        }
    };
    assert_eq!((kinds[0].as_str(), text.as_str()), ("accepted", "0\n1\n2\n"), "{kinds:?}");
    assert!(kinds.contains(&"stderr".to_owned()));
    assert_eq!(report["run"]["stdout"], text);
}

#[test]
fn cancel_ends_a_run_by_its_call_and_by_its_submission() {
    let daemon = Daemon::start(&Options { floor: 0, ..Options::default() });
    let mut caller = daemon.caller();
    let endless = submission("python", "import time\nwhile True: time.sleep(1)");
    let id = caller.send("submission.run", &with(endless.clone(), "limits", json!({ "wall_ms": 60_000 })));
    let mut other = daemon.caller();
    eventually("it runs", || other.ok("daemon.status", json!({}))["queue"]["running"] == 1);
    let cancel = caller.send("submission.cancel", &json!({ "request": id }));
    let (mut report, mut cancelled) = (Value::Null, Value::Null);
    for _ in 0..2 {
        let line = caller.line();
        if line["id"] == id {
            report = line["result"].clone();
        } else {
            assert_eq!(line["id"], cancel);
            cancelled = line["result"].clone();
        }
    }
    assert_eq!((&report["verdict"], &cancelled), (&json!("cancelled"), &json!({})), "{report:#}");

    let submitted = caller.ok("submission.submit", with(endless, "limits", json!({ "wall_ms": 60_000 })));
    for _ in 0..2 {
        caller.ok("submission.cancel", json!({ "id": submitted["id"] }));
    }
    assert_eq!(caller.ok("submission.wait", json!({ "id": submitted["id"] }))["verdict"], "cancelled");
}

#[test]
fn a_disconnect_cancels_the_callers_run_but_not_what_it_submitted() {
    let daemon = Daemon::start(&Options { floor: 0, ..Options::default() });
    let mut watcher = daemon.caller();
    let asks = with(patient(submission("python", "input(); print('done')")), "stdin_open", json!(true));
    let mut caller = daemon.caller();
    let submitted = caller.ok("submission.submit", asks)["id"].clone();
    let endless =
        with(submission("python", "import time\nwhile True: time.sleep(1)"), "limits", json!({ "wall_ms": 600_000 }));
    caller.send("submission.run", &endless);
    eventually("both run", || watcher.ok("daemon.status", json!({}))["queue"]["running"] == 2);
    drop(caller);
    eventually("the run is gone", || watcher.ok("daemon.status", json!({}))["queue"]["running"] == 1);
    watcher.ok("submission.input", json!({ "id": submitted, "data": "\n" }));
    let report = watcher.ok("submission.wait", json!({ "id": submitted }));
    assert_eq!((&report["verdict"], &report["run"]["stdout"]), (&json!("accepted"), &json!("done\n")), "{report:#}");
    eventually("nothing runs", || watcher.ok("daemon.status", json!({}))["queue"]["running"] == 0);
}

#[test]
fn a_caller_that_shut_down_its_writing_half_still_gets_its_answer() {
    let daemon = Daemon::start(&Options { floor: 0, ..Options::default() });
    let mut caller = daemon.caller();
    let id = caller.send("submission.run", &submission("python", "import time; time.sleep(0.5); print('still')"));
    caller.writer.shutdown(Shutdown::Write).unwrap();
    assert_eq!(caller.answer(id)["result"]["run"]["stdout"], "still\n");
}

#[test]
fn a_caller_that_shut_down_its_reading_half_is_disconnected() {
    let daemon = Daemon::start_bare(&Options { profiles: "", floor: 0, ..Options::default() });
    let mut caller = daemon.caller();
    caller.writer.shutdown(Shutdown::Read).unwrap();
    // the answer cannot be delivered; the connection ends, and nothing else: a task that panics is
    // seen by the harness
    let hung_up =
        || (0..200).any(|_| writeln!(caller.writer, r#"{{"jsonrpc":"2.0","id":1,"method":"daemon.health"}}"#).is_err());
    eventually("the connection ends", hung_up);
    daemon.caller().ok("daemon.health", json!({}));
}

#[test]
fn the_same_id_is_the_same_submission_and_other_content_is_a_conflict() {
    let daemon = Daemon::start(&Options { floor: 0, ..Options::default() });
    let mut caller = daemon.caller();
    let request = |code: &str, tenant: &str| {
        with(with(submission("python", code), "id", json!("homework-1")), "tenant", json!(tenant))
    };
    let code = "import uuid; print(uuid.uuid4())";
    let first = caller.ok("submission.run", request(code, "a"));
    let again = caller.ok("submission.run", request(code, "a"));
    assert_eq!(first, again);
    assert_ne!(first["run"]["stdout"], caller.ok("submission.run", request(code, "b"))["run"]["stdout"]);
    let error = caller.error("submission.run", request("print(2)", "a"));
    assert_eq!(error["data"]["code"], "conflict");
    let state = caller.ok("submission.get", json!({ "id": "homework-1" }));
    assert_eq!(state["state"], "done");
}

#[test]
fn a_full_queue_refuses_with_a_time_to_retry() {
    let config = "[queue]\nmax=3\nmax_per_uid=2\n";
    let daemon = Daemon::start(&Options { floor: 0, config, ..Options::default() });
    let mut caller = daemon.caller();
    let endless = submission("python", "import time\nwhile True: time.sleep(1)");
    for _ in 0..2 {
        caller.ok("submission.submit", endless.clone());
    }
    let error = caller.error("submission.submit", endless);
    assert_eq!(error["data"]["code"], "quota_exceeded", "{error}");
    assert!(error["data"]["retry_after_ms"].as_u64().unwrap() > 0);
}

#[test]
fn a_half_sent_line_and_a_caller_that_stops_reading_delay_no_other_caller() {
    let daemon = Daemon::start(&Options { floor: 0, ..Options::default() });
    let mut rude = daemon.caller();
    rude.send_raw(b"{\"jsonrpc\":\"2.0\",\"id\":1,");
    let mut deaf = daemon.caller();
    deaf.writer.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    // sends calls and never reads a response, until the socket buffer is full
    for index in 0..20_000u64 {
        let line = json!({ "jsonrpc": "2.0", "id": index, "method": "daemon.status" });
        if deaf.writer.write_all(format!("{line}\n").as_bytes()).is_err() {
            break;
        }
    }
    let mut caller = daemon.caller();
    assert_eq!(caller.run("python", "print(1)")["verdict"], "accepted");
}

#[test]
fn a_thousand_connections_are_served_also_where_few_files_may_be_open_at_first() {
    let wide = ["prlimit", "--nofile=200:4096"];
    let daemon = Daemon::start(&Options { floor: 1, under: &wide, ..Options::default() });
    let mut many: Vec<UnixStream> = (0..1000).map(|_| UnixStream::connect(daemon.socket()).unwrap()).collect();
    // every third stops in the middle of a line
    for (at, stream) in many.iter_mut().enumerate() {
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let line = json!({ "jsonrpc": "2.0", "id": at, "method": "daemon.health" }).to_string();
        let sent = if at % 3 == 0 { &line[..20] } else { &line };
        stream.write_all(sent.as_bytes()).unwrap();
        stream.write_all(if at % 3 == 0 { b"" } else { b"\n" }).unwrap();
    }
    for (at, stream) in many.iter().enumerate().filter(|(at, _)| at % 3 != 0) {
        let mut lines =
            BufReader::new(stream).lines().map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
        assert_eq!(lines.next().unwrap()["method"], "server.hello");
        assert_eq!(lines.next().unwrap()["id"], at);
    }
    // meanwhile other callers are served, and one uid cannot take all connections
    assert_eq!(daemon.caller_as(3010).run("python", "print(1)")["verdict"], "accepted");
    let mut more: Vec<UnixStream> = (0..100).map(|_| UnixStream::connect(daemon.socket()).unwrap()).collect();
    let refused = more.iter_mut().filter_map(|stream| {
        let line = BufReader::new(stream).lines().next()?.ok()?;
        line.contains("quota_exceeded").then_some(())
    });
    assert!(refused.count() >= 70);
    assert_eq!(daemon.caller_as(3010).run("python", "print(1)")["verdict"], "accepted");
}

#[test]
fn an_unread_stream_delays_no_other_caller_and_loses_nothing() {
    let daemon = Daemon::start(&Options { floor: 2, ..Options::default() });
    daemon.warm();
    let mut slow = daemon.caller();
    let lines = 40_000;
    let code = format!("for n in range({lines}): print(n, 'x' * 200)");
    let long = with(submission("python", &code), "limits", json!({ "output_bytes": 20_000_000 }));
    let id = slow.send("submission.run", &with(patient(long), "stream", json!(true)));
    let mut other = daemon.caller();
    for _ in 0..5 {
        assert_eq!(other.run("python", "print(1)")["verdict"], "accepted");
    }
    let mut text = String::new();
    let answer = loop {
        let line = slow.line();
        if line["id"] == id {
            break line;
        }
        if line["params"]["kind"] == "stdout" {
            text.push_str(line["params"]["data"].as_str().unwrap());
        }
    };
    assert_eq!(answer["result"]["verdict"], "accepted", "{}", answer["error"]);
    let numbers = text.lines().map(|line| line.split(' ').next().unwrap().parse::<usize>().unwrap());
    assert!(numbers.eq(0..lines), "{} bytes came", text.len());
}

#[test]
fn the_lists_and_the_status_show_a_warm_daemon() {
    let daemon = Daemon::start(&Options { floor: 1, ..Options::default() });
    daemon.warm();
    let mut caller = daemon.caller();
    let sandboxes = caller.ok("sandbox.list", json!({}));
    assert_eq!(sandboxes["sandboxes"][0]["state"], "ready", "{sandboxes}");
    assert_eq!(caller.ok("profile.list", json!({}))["profiles"][0]["name"], "python");
    let images = caller.ok("image.list", json!({}));
    assert_eq!(images["images"][0]["present"], true, "{images}");
    assert_eq!(caller.ok("daemon.health", json!({}))["status"], "healthy");
    assert_eq!(caller.ok("host.list", json!({}))["hosts"][0]["state"], "up");
    assert!(["hot", "warm"].contains(&caller.run("python", "print(1)")["start"].as_str().unwrap()));
    let stages = caller.ok("daemon.status", json!({}))["stages"].clone();
    assert_eq!(stages["total"]["count"], 1, "{stages}");
}

#[test]
fn a_closed_connection_cancels_no_submission_that_another_call_waits_for_or_that_was_submitted() {
    let daemon = Daemon::start(&Options { floor: 1, ..Options::default() });
    let mut observer = daemon.caller();
    let of = |id: &str| {
        let code = "import time\ntime.sleep(3)\nprint(1)";
        with(patient(submission("python", code)), "id", json!(id))
    };
    let mut state = |id: &str| observer.call("submission.get", json!({ "id": id }))["result"]["state"].clone();
    let mut run_and_close = |id: &str, other: &mut dyn FnMut()| {
        let mut one = daemon.caller();
        one.send("submission.run", &of(id));
        eventually("it runs", || state(id) == "running");
        other();
    };
    // a call that has its first event waits
    let wait = |caller: &mut Caller, method: &str, params: Value| {
        let call = caller.send(method, &with(params, "stream", json!(true)));
        assert_eq!(caller.line()["method"], "submission.event");
        call
    };
    let (mut second, mut third) = (daemon.caller(), daemon.caller());
    let (mut run, mut waited) = (0, 0);
    run_and_close("run twice", &mut || run = wait(&mut second, "submission.run", of("run twice")));
    let id = json!({ "id": "run and wait" });
    run_and_close("run and wait", &mut || waited = wait(&mut third, "submission.wait", id.clone()));
    assert_eq!(second.answer(run)["result"]["verdict"], "accepted");
    assert_eq!(third.answer(waited)["result"]["verdict"], "accepted");
    run_and_close("run and submitted", &mut || drop(third.ok("submission.submit", of("run and submitted"))));
    assert_eq!(third.ok("submission.wait", json!({ "id": "run and submitted" }))["verdict"], "accepted");
    // no call is left
    run_and_close("run once", &mut || {});
    eventually("it is cancelled", || state("run once") == "done");
    assert_eq!(third.ok("submission.wait", json!({ "id": "run once" }))["verdict"], "cancelled");
}
