//! Requests that are wrong, each with its answer: a status, a code, and the field at fault. None
//! costs the connection of another caller, and the daemon judges afterwards.

use serde_json::Value;

use super::{HttpCaller, TOKEN, fields, raw, serve};
use crate::harness::{Options, submission};

/// What is wrong; method and path; header fields; body; status, code, field.
type Row = (&'static str, &'static str, &'static str, &'static str, (u16, &'static str, &'static str));

const JSON: &str = "content-type: application/json\r\n";

/// Requests with a valid head and a valid token.
#[rustfmt::skip]
const REQUESTS: &[Row] = &[
    // paths and methods
    ("unknown path", "GET /api/v1/nowhere", "", "", (404, "not_found", "")),
    ("unknown version", "GET /api/v2/profiles", "", "", (404, "not_found", "")),
    ("slash at the end", "GET /api/v1/profiles/", "", "", (404, "not_found", "")),
    ("two slashes", "GET //api/v1/profiles", "", "", (404, "not_found", "")),
    ("other letters", "GET /API/v1/profiles", "", "", (404, "not_found", "")),
    ("a path with dots", "GET /api/v1/x/../profiles", "", "", (404, "not_found", "")),
    ("an encoded slash", "GET /api/v1%2fprofiles", "", "", (404, "not_found", "")),
    ("a method that the path does not take", "DELETE /api/v1/submissions", "", "", (405, "bad_request", "")),
    ("a method that no path takes", "PATCH /api/v1/submissions", JSON, "{}", (405, "bad_request", "")),
    ("TRACE", "TRACE /api/v1/profiles", "", "", (405, "bad_request", "")),
    ("a method that does not exist", "BREW /api/v1/profiles", "", "", (405, "bad_request", "")),
    ("POST of a blob", "POST /api/v1/blobs", "content-type: application/octet-stream\r\n", "x", (405, "bad_request", "")),
    // media types and JSON
    ("no media type", "POST /api/v1/submissions", "", "{}", (415, "bad_request", "")),
    ("another media type", "POST /api/v1/submissions", "content-type: text/plain\r\n", "{}", (415, "bad_request", "")),
    ("a form", "POST /api/v1/submissions", "content-type: application/x-www-form-urlencoded\r\n", "language=python", (415, "bad_request", "")),
    ("a blob in JSON", "PUT /api/v1/blobs", JSON, "{}", (415, "bad_request", "")),
    ("no body", "POST /api/v1/submissions", JSON, "", (400, "bad_request", "")),
    ("not JSON", "POST /api/v1/submissions", JSON, "language=python", (400, "bad_request", "")),
    ("JSON that is cut", "POST /api/v1/submissions", JSON, r#"{"language":"bash","#, (400, "bad_request", "")),
    ("JSON and more", "POST /api/v1/submissions", JSON, r#"{"language":"bash","files":[]} {}"#, (400, "bad_request", "")),
    ("a list", "POST /api/v1/submissions", JSON, "[]", (400, "bad_request", "")),
    ("null", "POST /api/v1/submissions", JSON, "null", (400, "bad_request", "")),
    ("a number", "POST /api/v1/submissions", JSON, "7", (400, "bad_request", "")),
    ("JSON with a comment", "POST /api/v1/submissions", JSON, "{} // none", (400, "bad_request", "")),
    ("a key twice", "POST /api/v1/submissions", JSON, r#"{"language":"bash","language":"python","files":[{"path":"a","content":""}]}"#, (400, "bad_request", "")),
    ("half a surrogate", "POST /api/v1/submissions", JSON, r#"{"language":"\ud800","files":[]}"#, (400, "bad_request", "")),
    // submissions
    ("nothing", "POST /api/v1/submissions", JSON, "{}", (422, "unknown_profile", "language")),
    ("no files", "POST /api/v1/submissions", JSON, r#"{"language":"bash","files":[]}"#, (400, "bad_request", "files")),
    ("no language", "POST /api/v1/submissions", JSON, r#"{"files":[{"path":"a","content":""}]}"#, (422, "unknown_profile", "language")),
    ("an unknown field", "POST /api/v1/submissions", JSON, r#"{"language":"bash","files":[{"path":"a","content":""}],"limts":{}}"#, (400, "bad_request", "limts")),
    ("an unknown limit", "POST /api/v1/submissions", JSON, r#"{"language":"bash","files":[{"path":"a","content":""}],"limits":{"cpu":1}}"#, (400, "bad_request", "limits.cpu")),
    ("a text for a number", "POST /api/v1/submissions", JSON, r#"{"language":"bash","files":[{"path":"a","content":""}],"limits":{"cpu_ms":"1"}}"#, (400, "bad_request", "limits.cpu_ms")),
    ("a negative limit", "POST /api/v1/submissions", JSON, r#"{"language":"bash","files":[{"path":"a","content":""}],"limits":{"cpu_ms":-1}}"#, (400, "bad_request", "limits.cpu_ms")),
    ("a word that is not one", "POST /api/v1/submissions", JSON, r#"{"language":"bash","files":[{"path":"a","content":""}],"stop":"now"}"#, (400, "bad_request", "stop")),
    ("an id that is a number", "POST /api/v1/submissions", JSON, r#"{"language":"bash","files":[{"path":"a","content":""}],"id":7}"#, (400, "bad_request", "id")),
    ("an absolute path", "POST /api/v1/submissions", JSON, r#"{"language":"bash","files":[{"path":"/etc/x","content":""}]}"#, (400, "bad_request", "files[0].path")),
    ("a path above", "POST /api/v1/submissions", JSON, r#"{"language":"bash","files":[{"path":"../x","content":""}]}"#, (400, "bad_request", "files[0].path")),
    ("NUL in a path", "POST /api/v1/submissions", JSON, r#"{"language":"bash","files":[{"path":"a\u0000b","content":""}]}"#, (400, "bad_request", "files[0].path")),
    ("not base64", "POST /api/v1/submissions", JSON, r#"{"language":"bash","files":[{"path":"a","content_b64":"!"}]}"#, (400, "bad_request", "files[0].content_b64")),
    ("an unknown language", "POST /api/v1/submissions", JSON, r#"{"language":"klingon","files":[{"path":"a","content":""}]}"#, (422, "unknown_profile", "language")),
    ("an unknown blob", "POST /api/v1/submissions", JSON, r#"{"language":"bash","files":[{"path":"a","content":{"blob":"x"}}]}"#, (404, "not_found", "files[0].content")),
    ("more memory than any caller may have", "POST /api/v1/submissions", JSON, r#"{"language":"bash","files":[{"path":"a","content":""}],"limits":{"memory_bytes":1099511627776}}"#, (403, "denied", "limits.memory_bytes")),
    ("the tenant of another token", "POST /api/v1/submissions", JSON, r#"{"language":"bash","tenant":"other","files":[{"path":"a","content":""}]}"#, (403, "forbidden", "tenant")),
    ("wait is a word", "POST /api/v1/submissions?wait=maybe", JSON, r#"{"language":"bash","files":[{"path":"a","content":""}]}"#, (400, "bad_request", "wait")),
    ("wait twice", "POST /api/v1/submissions?wait=true&wait=false", JSON, r#"{"language":"bash","files":[{"path":"a","content":""}]}"#, (400, "bad_request", "wait")),
    ("an unknown parameter", "POST /api/v1/submissions?stream=true", JSON, r#"{"language":"bash","files":[{"path":"a","content":""}]}"#, (400, "bad_request", "stream")),
    ("two ids", "POST /api/v1/submissions", "content-type: application/json\r\nidempotency-key: a\r\n", r#"{"id":"b","language":"bash","files":[{"path":"a","content":""}]}"#, (400, "bad_request", "id")),
    ("two keys", "POST /api/v1/submissions", "content-type: application/json\r\nidempotency-key: a\r\nidempotency-key: b\r\n", r#"{"language":"bash","files":[{"path":"a","content":""}]}"#, (400, "bad_request", "id")),
    ("an empty key", "POST /api/v1/submissions", "content-type: application/json\r\nidempotency-key: \r\n", r#"{"language":"bash","files":[{"path":"a","content":""}]}"#, (400, "bad_request", "id")),
    // lists
    ("a limit of 0", "GET /api/v1/submissions?limit=0", "", "", (400, "bad_request", "limit")),
    ("a limit above 1000", "GET /api/v1/submissions?limit=1001", "", "", (400, "bad_request", "limit")),
    ("a limit that is a word", "GET /api/v1/submissions?limit=many", "", "", (400, "bad_request", "limit")),
    ("a limit twice", "GET /api/v1/submissions?limit=1&limit=2", "", "", (400, "bad_request", "limit")),
    ("a cursor that is not one", "GET /api/v1/submissions?cursor=x", "", "", (400, "bad_request", "cursor")),
    ("a verdict that is not one", "GET /api/v1/submissions?verdict=good", "", "", (400, "bad_request", "verdict")),
    ("a time that is a word", "GET /api/v1/submissions?since_ms=today", "", "", (400, "bad_request", "since_ms")),
    ("an unknown filter", "GET /api/v1/submissions?user=me", "", "", (400, "bad_request", "user")),
    // one submission
    ("an unknown submission", "GET /api/v1/submissions/none", "", "", (404, "not_found", "id")),
    ("an id with an encoded slash", "GET /api/v1/submissions/a%2fb", "", "", (404, "not_found", "id")),
    ("an id that is not UTF-8", "GET /api/v1/submissions/%ff", "", "", (400, "bad_request", "")),
    ("a wait that is negative", "GET /api/v1/submissions/none?wait_ms=-1", "", "", (400, "bad_request", "wait_ms")),
    ("a wait that is a fraction", "GET /api/v1/submissions/none?wait_ms=1.5", "", "", (400, "bad_request", "wait_ms")),
    ("cancelling an unknown one", "DELETE /api/v1/submissions/none", "", "", (404, "not_found", "id")),
    ("events of an unknown one", "GET /api/v1/submissions/none/events", "", "", (404, "not_found", "id")),
    ("an event's number that is a word", "GET /api/v1/submissions/none/events", "last-event-id: first\r\n", "", (400, "bad_request", "Last-Event-ID")),
    ("an event's number beyond 64 bits", "GET /api/v1/submissions/none/events", "last-event-id: 18446744073709551616\r\n", "", (400, "bad_request", "Last-Event-ID")),
    ("input for an unknown one", "POST /api/v1/submissions/none/input", JSON, r#"{"data":"x"}"#, (404, "not_found", "id")),
    ("input twice", "POST /api/v1/submissions/none/input", JSON, r#"{"data":"x","data_b64":"eA=="}"#, (400, "bad_request", "data")),
    ("input that is not base64", "POST /api/v1/submissions/none/input", JSON, r#"{"data_b64":"!"}"#, (400, "bad_request", "data_b64")),
    ("input with an unknown field", "POST /api/v1/submissions/none/input", JSON, r#"{"date":"x"}"#, (400, "bad_request", "date")),
    ("the receipt of an unknown one", "GET /api/v1/submissions/none/receipt", "", "", (404, "not_found", "id")),
    ("an unknown blob", "GET /api/v1/blobs/none", "", "", (404, "not_found", "blob")),
    // run-code
    ("no code", "POST /api/run-code", JSON, "{}", (400, "bad_request", "code")),
    ("a field of another spelling", "POST /api/run-code", JSON, r#"{"code":"","timeout_ms":1}"#, (400, "bad_request", "timeout_ms")),
    ("a timeout of 0", "POST /api/run-code", JSON, r#"{"code":"","timeoutMs":0}"#, (403, "denied", "timeoutMs")),
    ("a timeout above the ceiling", "POST /api/run-code", JSON, r#"{"code":"","timeoutMs":99999999}"#, (403, "denied", "timeoutMs")),
    ("memory above the ceiling", "POST /api/run-code", JSON, r#"{"code":"","memoryLimitMb":9999999}"#, (403, "denied", "memoryLimitMb")),
    ("memory beyond 64 bits", "POST /api/run-code", JSON, r#"{"code":"","memoryLimitMb":18446744073709551615}"#, (400, "bad_request", "memoryLimitMb")),
    ("a lesson", "POST /api/run-code", JSON, r#"{"code":"","lesson":"redis"}"#, (422, "unsupported", "lesson")),
    ("an unknown language of run-code", "POST /api/run-code", JSON, r#"{"code":"","language":"klingon"}"#, (422, "unknown_profile", "language")),
    // sessions
    ("a code that was never made", "POST /api/v1/session", "content-type: application/json\r\nx-no-token: 1\r\n", r#"{"code":"none"}"#, (401, "unauthenticated", "")),
    ("a session with an unknown field", "POST /api/v1/session", JSON, r#"{"token":"x"}"#, (400, "bad_request", "token")),
];

/// Requests whose head says who calls in a way that is wrong.
#[rustfmt::skip]
const CALLERS: &[(&str, &str, u16)] = &[
    ("no token", "GET /api/v1/profiles HTTP/1.1\r\nhost: localhost\r\n\r\n", 401),
    ("an empty field", "GET /api/v1/profiles HTTP/1.1\r\nhost: localhost\r\nauthorization: \r\n\r\n", 401),
    ("no scheme", "GET /api/v1/profiles HTTP/1.1\r\nhost: localhost\r\nauthorization: {TOKEN}\r\n\r\n", 401),
    ("Basic", "GET /api/v1/profiles HTTP/1.1\r\nhost: localhost\r\nauthorization: Basic Y2k6Y2k=\r\n\r\n", 401),
    ("another token", "GET /api/v1/profiles HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer assay_3333333333333333333333333333333333333333333333333333333333333333\r\n\r\n", 401),
    ("half a token", "GET /api/v1/profiles HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer assay_1111\r\n\r\n", 401),
    ("a token and more", "GET /api/v1/profiles HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}1\r\n\r\n", 401),
    ("bytes that are not text", "GET /api/v1/profiles HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer \u{e9}\r\n\r\n", 401),
    ("two tokens", "GET /api/v1/profiles HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\nauthorization: Bearer {TOKEN}\r\n\r\n", 400),
    ("a token in the URL", "GET /api/v1/profiles?token={TOKEN} HTTP/1.1\r\nhost: localhost\r\n\r\n", 400),
    ("a token in the URL and in the field", "GET /api/v1/profiles?x={TOKEN} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\n\r\n", 400),
    ("no host", "GET /api/v1/profiles HTTP/1.1\r\nauthorization: Bearer {TOKEN}\r\n\r\n", 400),
    ("another host", "GET /api/v1/profiles HTTP/1.1\r\nhost: evil.example\r\nauthorization: Bearer {TOKEN}\r\n\r\n", 403),
    ("another host in the path", "GET http://evil.example/api/v1/profiles HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\n\r\n", 400),
    ("a session that does not exist", "GET /api/v1/profiles HTTP/1.1\r\nhost: localhost\r\ncookie: assay_session=s1111111111111111111111111111111111111111111111111111111111111111\r\nsec-fetch-site: same-origin\r\n\r\n", 401),
];

#[test]
fn every_malformed_request_has_its_answer() {
    let (daemon, address) = serve(&Options { profiles: "bash,python", floor: 0, ..Options::default() });
    let mut wrong = Vec::new();
    for (what, line, more, body, (status, code, field)) in REQUESTS {
        let (verb, path) = line.split_once(' ').unwrap();
        let fields = match more.contains("x-no-token") {
            true => "host: localhost\r\n".to_owned(),
            false => fields(),
        };
        let length = match (verb, body.len()) {
            ("GET" | "DELETE" | "TRACE" | "BREW", 0) => String::new(),
            (_, length) => format!("content-length: {length}\r\n"),
        };
        let request = format!("{verb} {path} HTTP/1.1\r\nconnection: close\r\n{fields}{more}{length}\r\n{body}");
        let mut answers = raw(&address, request.as_bytes());
        if answers.len() != 1 {
            wrong.push(format!("{what}: {} answers", answers.len()));
            continue;
        }
        let answer = answers.remove(0);
        let problem: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        let told = (
            answer.status,
            problem["code"].as_str().unwrap_or_default(),
            problem["field"].as_str().unwrap_or_default(),
        );
        let is_problem = answer.field("content-type") == Some("application/problem+json")
            && problem["status"] == answer.status
            && problem["detail"].as_str().is_some_and(|detail| !detail.is_empty())
            && (answer.status != 405 || answer.field("allow").is_some());
        if told != (*status, *code, *field) || !is_problem {
            wrong.push(format!("{what}: {told:?} instead of {:?}: {}", (status, code, field), answer.body.trim()));
        }
    }
    for (what, request, status) in CALLERS {
        let answers = raw(
            &address,
            request.replace("{TOKEN}", TOKEN).replacen("\r\n", "\r\nconnection: close\r\n", 1).as_bytes(),
        );
        let told: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        if told != [*status] {
            wrong.push(format!("{what}: {told:?} instead of {status}"));
        }
        let is_asked = answers.iter().any(|answer| answer.field("www-authenticate").is_some());
        if is_asked != (*status == 401) {
            wrong.push(format!("{what}: WWW-Authenticate: {answers:?}"));
        }
        if answers.iter().any(|answer| answer.body.contains(TOKEN)) {
            wrong.push(format!("{what}: the answer repeats the token"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), REQUESTS.len() + CALLERS.len(), wrong.join("\n"));
    assert!(REQUESTS.len() + CALLERS.len() >= 80);
    assert!(!daemon.log().contains(TOKEN), "a token is in the log");
    assert_eq!(HttpCaller::connect(&address).judge(&submission("bash", "echo 1"))["verdict"], "accepted");
}

#[test]
fn a_body_that_is_too_large_or_too_deep_is_refused() {
    let (_daemon, address) = serve(&Options { profiles: "bash", floor: 0, ..Options::default() });
    let json = "content-type: application/json\r\n";
    let mut caller = HttpCaller::connect(&address);
    let deep = [b"[".repeat(100_000), b"]".repeat(100_000)].concat();
    let answer = caller.ask("POST", "/api/v1/submissions", json, &deep);
    assert_eq!(answer.status, 400, "{answer:?}");

    // refused by its length, before a byte of it came
    let most = config::bounds::MAX_LINE_BYTES;
    for (path, kind, length) in [
        ("/api/v1/submissions", "application/json", most + 1),
        ("/api/run-code", "application/json", most + 1),
        ("/api/v1/blobs", "application/octet-stream", 1 << 40),
    ] {
        let verb = if path.ends_with("blobs") { "PUT" } else { "POST" };
        let head =
            format!("{verb} {path} HTTP/1.1\r\n{}content-type: {kind}\r\ncontent-length: {length}\r\n\r\n", fields());
        let answers = raw(&address, head.as_bytes());
        assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [413], "{path}");
        assert_eq!(answers[0].json()["code"], "too_large");
    }

    // a chunked body says nothing of its length: it is refused when it is too long
    let mut bytes =
        format!("POST /api/v1/submissions HTTP/1.1\r\n{}{json}transfer-encoding: chunked\r\n\r\n", fields())
            .into_bytes();
    let chunk = [b"100000\r\n".as_slice(), &vec![b' '; 1 << 20], b"\r\n"].concat();
    bytes.extend(chunk.repeat(most / (1 << 20) + 2));
    bytes.extend(b"0\r\n\r\n");
    let mut caller = HttpCaller::connect(&address);
    let _ = std::io::Write::write_all(caller.stream.get_mut(), &bytes);
    // the answer may be lost with the reset of a connection whose client still sends
    if let Some(answer) = super::read_answer(&mut caller.stream, true) {
        assert_eq!(answer.status, 413, "{answer:?}");
    }
    assert_eq!(HttpCaller::connect(&address).judge(&submission("bash", "echo 1"))["verdict"], "accepted");
}
