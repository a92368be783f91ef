//! HTTP as it is meant: `Expect`, chunked bodies, HEAD, OPTIONS, pipelining, streams of events that
//! continue, and a hang-up that ends a run.

use std::io::{BufRead, Write};

use serde_json::{Value, json};

use super::{HttpCaller, TOKEN, fields, raw, read_answer, read_chunk, serve};
use crate::harness::{Options, eventually, patient, submission, with};

const JSON: &str = "content-type: application/json\r\n";

fn bash() -> Options<'static> {
    Options { profiles: "bash", floor: 1, ..Options::default() }
}

#[test]
fn a_body_is_asked_for_only_when_it_is_wanted() {
    let (_daemon, address) = serve(&bash());
    let body = submission("bash", "echo 1").to_string();
    let head = |path: &str, fields: &str, length: usize| {
        format!("POST {path} HTTP/1.1\r\n{fields}{JSON}expect: 100-continue\r\ncontent-length: {length}\r\n\r\n")
    };
    let mut caller = HttpCaller::connect(&address);
    caller.stream.get_mut().write_all(head("/api/v1/submissions", &fields(), body.len()).as_bytes()).unwrap();
    assert_eq!(read_answer(&mut caller.stream, true).unwrap().status, 100);
    caller.stream.get_mut().write_all(body.as_bytes()).unwrap();
    let answer = read_answer(&mut caller.stream, true).unwrap();
    assert_eq!((answer.status, &answer.json()["verdict"]), (200, &json!("accepted")));
    // the connection is kept
    assert_eq!(caller.get("/api/v1/profiles").status, 200);

    let foreign = "host: localhost\r\n".to_owned();
    for (path, fields, length, status) in [
        ("/api/v1/submissions", foreign, body.len(), 401),
        ("/api/v1/submissions", fields(), 1 << 40, 413),
        ("/api/v1/nowhere", fields(), body.len(), 404),
        ("/api/v1/profiles", fields(), body.len(), 405),
    ] {
        let answers = raw(&address, head(path, &fields, length).as_bytes());
        assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [status], "{path}");
    }
}

#[test]
fn a_chunked_body_is_the_same_in_pieces_of_any_size() {
    let (_daemon, address) = serve(&bash());
    let body = submission("bash", "echo chunked").to_string();
    let head = format!("POST /api/v1/submissions HTTP/1.1\r\n{}{JSON}transfer-encoding: chunked\r\n\r\n", fields());
    for size in [1, 7, body.len()] {
        // such a request is the last one of its connection
        let mut caller = HttpCaller::connect(&address);
        let mut bytes = head.clone();
        for piece in body.as_bytes().chunks(size) {
            bytes += &format!("{:x};ext=\"1\"\r\n{}\r\n", piece.len(), std::str::from_utf8(piece).unwrap());
        }
        bytes += "0\r\nx-trailer: 1\r\n\r\n";
        // and in writes that end in the middle of everything
        for piece in bytes.as_bytes().chunks(11) {
            caller.stream.get_mut().write_all(piece).unwrap();
        }
        let answer = read_answer(&mut caller.stream, true).unwrap();
        assert_eq!((answer.status, &answer.json()["run"]["stdout"]), (200, &json!("chunked\n")), "{size}: {answer:?}");
        assert!(read_answer(&mut caller.stream, true).is_none(), "it is open");
    }
}

#[test]
fn head_is_get_without_its_body_and_options_says_what_a_path_takes() {
    let (_daemon, address) = serve(&bash());
    let mut caller = HttpCaller::connect(&address);
    let id = caller.judge(&with(submission("bash", "echo 1"), "id", json!("h")))["id"].clone();
    assert_eq!(id, "h");
    for path in [
        "/api/v1/submissions",
        "/api/v1/submissions/h",
        "/api/v1/submissions/h/receipt",
        "/api/v1/profiles",
        "/api/v1/openapi.json",
        "/api/v1/blobs/none",
        "/api/v1/nowhere",
        "/livez",
    ] {
        let get = caller.get(path);
        let head = caller.ask("HEAD", path, "", b"");
        let same = ["content-type", "content-security-policy", "cache-control", "x-content-type-options"];
        assert_eq!(head.status, get.status, "{path}");
        for name in same {
            assert_eq!(head.field(name), get.field(name), "{path}: {name}");
        }
        assert_eq!(head.body, "");
    }
    for (path, takes) in [
        ("/api/v1/submissions", vec!["GET", "HEAD", "POST"]),
        ("/api/v1/submissions/h", vec!["DELETE", "GET", "HEAD"]),
        ("/api/v1/blobs", vec!["PUT"]),
        ("/api/run-code", vec!["POST"]),
    ] {
        let answer =
            caller.ask("OPTIONS", path, "origin: http://evil.example\r\naccess-control-request-method: POST\r\n", b"");
        let mut allowed: Vec<&str> = answer.field("allow").unwrap_or_default().split(',').map(str::trim).collect();
        allowed.sort_unstable();
        assert_eq!((answer.status, &allowed), (204, &takes), "{path}: {answer:?}");
        assert!(!answer.head.to_ascii_lowercase().contains("access-control-allow"), "{answer:?}");
    }
}

#[test]
fn pipelined_submissions_are_answered_in_their_order() {
    let (_daemon, address) = serve(&bash());
    let mut caller = HttpCaller::connect(&address);
    for number in 0..10 {
        // the first ones take longest
        let code = format!("sleep 0.{}; echo {number}", 9 - number);
        caller.send("POST", "/api/v1/submissions", JSON, patient(submission("bash", &code)).to_string().as_bytes());
    }
    for number in 0..10 {
        let answer = read_answer(&mut caller.stream, true).unwrap();
        assert_eq!(answer.json()["run"]["stdout"], format!("{number}\n"), "{answer:?}");
    }
}

/// The events of a stream, as `id: event`, up to the last one or this many.
fn follow(caller: &mut HttpCaller, id: &str, more: &str, most: usize) -> Vec<(String, String, Value)> {
    caller.send("GET", &format!("/api/v1/submissions/{id}/events"), more, b"");
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        caller.stream.read_line(&mut head).unwrap();
    }
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/event-stream"), "{head}");
    let (mut events, mut text) = (Vec::new(), String::new());
    while let Some(chunk) = read_chunk(&mut caller.stream) {
        text += std::str::from_utf8(&chunk).unwrap();
        while let Some((block, rest)) = text.split_once("\n\n") {
            let of = |name: &str| {
                block.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
            };
            if let Some(data) = of("data:") {
                let data = serde_json::from_str(&data).unwrap();
                events.push((of("id:").unwrap_or_default(), of("event:").unwrap_or_default(), data));
            }
            text = rest.to_owned();
        }
        if events.len() >= most {
            break;
        }
    }
    events
}

#[test]
fn a_stream_of_events_goes_on_where_it_was_cut() {
    let (daemon, address) = serve(&bash());
    let mut caller = HttpCaller::connect(&address);
    let code = "echo one; read x; echo two; read x; echo three";
    let work = with(with(patient(submission("bash", code)), "stdin_open", json!(true)), "id", json!("s"));
    assert_eq!(caller.post("/api/v1/submissions?wait=false", &work).status, 202);
    // a reader that leaves in the middle
    let mut early = HttpCaller::connect(&address);
    let begin = follow(&mut early, "s", "", 3);
    drop(early);
    assert_eq!(begin[0].1, "accepted");
    let last = begin.last().unwrap().0.clone();
    let input = caller.post("/api/v1/submissions/s/input", &json!({ "data": "x\nx\n", "eof": true }));
    assert_eq!(input.status, 204);
    let rest = follow(&mut HttpCaller::connect(&address), "s", &format!("last-event-id: {last}\r\n"), usize::MAX);
    assert_eq!(rest.last().unwrap().1, "done");
    // together they are the stream of a reader that was not cut, and that of the socket
    let whole = follow(&mut HttpCaller::connect(&address), "s", "", usize::MAX);
    assert_eq!([begin, rest].concat(), whole);
    let numbers: Vec<String> = whole.iter().map(|event| event.0.clone()).collect();
    let expected: Vec<String> = (0..whole.len() - 1).map(|number| number.to_string()).chain([String::new()]).collect();
    assert_eq!(numbers, expected);
    let kinds = whole.iter().filter(|event| event.1 == "stdout").map(|event| event.2["data"].as_str().unwrap());
    assert_eq!(kinds.collect::<String>(), "one\ntwo\nthree\n");
    assert!(daemon.log().contains("serving"), "{}", daemon.log());
}

#[test]
fn a_hang_up_ends_the_run_that_it_waited_for_and_no_other() {
    let (daemon, address) = serve(&bash());
    let mut admin = daemon.caller();
    let endless = with(submission("bash", "sleep 1000"), "limits", json!({ "wall_ms": 600_000 }));
    let mut caller = HttpCaller::connect(&address);
    caller.send("POST", "/api/v1/submissions", JSON, endless.to_string().as_bytes());
    let mut running = || admin.ok("daemon.status", json!({}))["queue"]["running"].as_u64().unwrap();
    eventually("it runs", || running() == 1);
    drop(caller);
    eventually("it was cancelled", || running() == 0);

    // one that is stored stays when its caller leaves
    let mut caller = HttpCaller::connect(&address);
    let stored = with(endless, "id", json!("stays"));
    assert_eq!(caller.post("/api/v1/submissions?wait=false", &stored).status, 202);
    eventually("it runs", || running() == 1);
    caller.send("GET", "/api/v1/submissions/stays?wait_ms=60000", "", b"");
    drop(caller);
    let mut caller = HttpCaller::connect(&address);
    assert_eq!(caller.get("/api/v1/submissions/stays").json()["state"], "running");
    assert_eq!(caller.ask("DELETE", "/api/v1/submissions/stays", "", b"").status, 204);
    let report = caller.get("/api/v1/submissions/stays?wait_ms=60000").json();
    assert_eq!(report["report"]["verdict"], "cancelled", "{report}");
}

#[test]
fn what_a_program_wrote_leaves_as_bytes_that_no_browser_shows() {
    let (_daemon, address) = serve(&bash());
    let mut caller = HttpCaller::connect(&address);
    let page = b"<script>alert(1)</script>";
    let put = caller.ask("PUT", "/api/v1/blobs", "content-type: application/octet-stream\r\n", page);
    assert_eq!(put.status, 201, "{put:?}");
    let path = put.field("location").unwrap().to_owned();
    assert_eq!(path, format!("/api/v1/blobs/{}", put.json()["blob"].as_str().unwrap()));
    let got = caller.ask("GET", &path, "accept: text/html\r\n", b"");
    assert_eq!((got.status, got.body.as_bytes()), (200, page.as_slice()));
    assert_eq!(got.field("content-type"), Some("application/octet-stream"));
    assert_eq!(got.field("content-security-policy"), Some("sandbox; default-src 'none'"));
    assert_eq!(got.field("x-content-type-options"), Some("nosniff"));
    assert!(got.field("content-disposition").is_some_and(|value| value.starts_with("attachment")));
    // of another token it is not there
    let foreign = format!(
        "GET {path} HTTP/1.1\r\nconnection: close\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\r\n",
        TOKEN.replace('1', "2")
    );
    assert_eq!(raw(&address, foreign.as_bytes())[0].status, 401);
}
