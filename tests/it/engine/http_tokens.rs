//! Tokens of the HTTP API as an operator handles them: they outlive the daemon, are on the disk as
//! hashes only, end at once, and every change of them is in the audit log.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Daemon, Options, eventually};

const CONFIGURED: &str = "[http]\napi = true\nlisten = '127.0.0.1:0'\n[[http.tokens]]\nname = 'file'\ntenant = 'T'\n\
                          sha256 = '0000000000000000000000000000000000000000000000000000000000000000'\n";

fn daemon(config: &str) -> Daemon {
    Daemon::start_bare(&Options { profiles: "bash", floor: 0, config, ..Options::default() })
}

fn assay(daemon: &Daemon, words: &[&str]) -> Output {
    let mut command = Command::new(crate::programs::program("assay"));
    command.env("ASSAY_SOCKET", daemon.socket()).args(words).stdin(Stdio::null());
    command.current_dir(daemon.folder.path()).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The names and states of all tokens.
fn states(daemon: &Daemon) -> Vec<(String, String)> {
    let list = daemon.caller().ok("token.list", json!({}));
    let text = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
    list["tokens"].as_array().unwrap().iter().map(|row| (text(row, "name"), text(row, "state"))).collect()
}

fn is(found: &[(String, String)], expected: &[(&str, &str)]) {
    let found: Vec<(&str, &str)> = found.iter().map(|(name, state)| (name.as_str(), state.as_str())).collect();
    assert_eq!(found, expected);
}

/// The status of a request with a token.
fn profiles(daemon: &Daemon, token: &str) -> u16 {
    let address = crate::engine::http::http_address(daemon);
    let mut stream = std::net::TcpStream::connect(&address).unwrap();
    let fields = format!("host: {address}\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n");
    stream.write_all(format!("GET /api/v1/profiles HTTP/1.1\r\n{fields}").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer[9..12].parse().unwrap()
}

/// Files below a folder that have these bytes.
fn files_with(folder: &Path, bytes: &[u8]) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, bytes));
        } else if std::fs::read(&path).is_ok_and(|all| all.windows(bytes.len()).any(|window| window == bytes)) {
            found.push(path);
        }
    }
    found
}

#[test]
fn tokens_outlive_the_daemon_and_their_ends_do_too() {
    let mut daemon = daemon("[http]\napi = true\nlisten = '127.0.0.1:0'\n");
    let added = assay(&daemon, &["token", "add", "ci", "--tenant", "team-a", "--expires", "90d"]);
    assert!(added.status.success(), "{}", said(&added));
    assert!(said(&added).starts_with("assay_"), "{}", said(&added));
    assert!(assay(&daemon, &["token", "add", "ops", "--tenant", "ops", "--role", "admin"]).status.success());
    let token = said(&added).lines().next().unwrap().to_owned();
    daemon.kill9();
    daemon.start_again();
    is(&states(&daemon), &[("ci", "active"), ("ops", "active")]);
    // it is accepted, and its use is kept by a daemon that ends as it should
    assert_eq!(profiles(&daemon, &token), 200);
    daemon.terminate();
    daemon.start_again();
    let used = daemon.caller().ok("token.list", json!({}))["tokens"][0]["used_ms"].clone();
    assert!(used.as_i64().is_some_and(|used_ms| used_ms > 1_700_000_000_000), "{used}");
    assert_eq!(profiles(&daemon, &token), 200);
    assert!(assay(&daemon, &["token", "revoke", "ci"]).status.success());
    assert_eq!(profiles(&daemon, &token), 401);
    daemon.kill9();
    daemon.start_again();
    is(&states(&daemon), &[("ci", "revoked"), ("ops", "active")]);
    // its name is not given away
    let again = assay(&daemon, &["token", "add", "ci", "--tenant", "team-a"]);
    assert!(!again.status.success() && said(&again).contains("--replace rotates"), "{}", said(&again));
    let other = assay(&daemon, &["token", "add", "ci", "--tenant", "team-b", "--replace"]);
    assert!(!other.status.success() && said(&other).contains("team-a"), "{}", said(&other));
    assert!(assay(&daemon, &["token", "add", "ci", "--replace"]).status.success());
    daemon.terminate();
    daemon.start_again();
    is(&states(&daemon), &[("ci", "active"), ("ops", "active")]);
    let list = said(&assay(&daemon, &["token", "list"]));
    assert!(list.contains("team-a") && list.contains("uid:0"), "{list}");
}

#[test]
fn the_disk_and_the_log_have_hashes_only_and_a_backup_too() {
    let daemon = daemon(CONFIGURED);
    let mut caller = daemon.caller();
    let token = caller.ok("token.add", json!({ "name": "ci", "tenant": "T" }))["token"].as_str().unwrap().to_owned();
    let code = caller.ok("session.code", json!({}))["code"].as_str().unwrap().to_owned();
    caller.ok("store.backup", json!({}));
    caller.ok("store.vacuum", json!({}));
    for secret in [token.trim_start_matches("assay_"), &code] {
        let found = files_with(daemon.folder.path(), secret.as_bytes());
        assert!(found.is_empty(), "{found:?}");
    }
    let digest = base16ct::lower::encode_string(&<sha2::Sha256 as sha2::Digest>::digest(token.as_bytes()));
    let hash = base16ct::lower::decode_vec(digest).unwrap();
    let found = files_with(&daemon.folder.path().join("state/backup"), &hash);
    assert_eq!(found, [daemon.folder.path().join("state/backup/assay.db")]);
    // revoked, the hash goes as well
    caller.ok("token.revoke", json!({ "name": "ci" }));
    caller.ok("store.vacuum", json!({}));
    let found = files_with(&daemon.folder.path().join("state"), &hash);
    assert!(found.iter().all(|path| path.starts_with(daemon.folder.path().join("state/backup"))), "{found:?}");
}

#[test]
fn every_thing_that_an_admin_does_is_a_line_of_the_audit_log() {
    let daemon = daemon(&format!("{CONFIGURED}[log]\nlevel = 'warn'\n"));
    daemon.wait_for_engine();
    let mut caller = daemon.caller();
    let secret = caller.ok("token.add", json!({ "name": "ci", "tenant": "T", "role": "admin" }))["token"].clone();
    caller.ok("token.list", json!({}));
    caller.error("token.add", json!({ "name": "ci", "tenant": "T" }));
    caller.ok("token.revoke", json!({ "name": "ci" }));
    caller.ok("session.code", json!({}));
    caller.ok("daemon.pause", json!({}));
    caller.ok("daemon.pause", json!({}));
    caller.ok("daemon.resume", json!({}));
    caller.ok("host.drain", json!({ "host": "local" }));
    caller.ok("host.resume", json!({ "host": "local" }));
    caller.ok("store.forget", json!({ "tenant": "gone" }));
    caller.ok("image.prune", json!({ "dry_run": true }));
    caller.ok("daemon.reload", json!({}));
    let mut other = daemon.caller_as(3021);
    for _ in 0..100 {
        other.error("token.revoke", json!({ "name": "ci" }));
    }
    let lines = || -> Vec<String> {
        let log = daemon.log();
        log.lines().filter(|line| line.contains("admin action")).map(str::to_owned).collect()
    };
    eventually("the last line is written", || lines().iter().any(|line| line.contains("uid:3021")));
    let lines = lines();
    for expected in [
        "audit=token.add principal=uid:0 from=socket subject=\"name=ci tenant=T role=admin\" result=ok",
        "audit=token.add principal=uid:0 from=socket subject=\"name=ci tenant=T\" result=conflict",
        "audit=token.revoke principal=uid:0 from=socket subject=\"name=ci\" result=ok",
        "audit=session.code principal=uid:0",
        "audit=daemon.pause principal=uid:0",
        "audit=daemon.resume principal=uid:0",
        "audit=host.drain principal=uid:0 from=socket subject=\"host=local\" result=ok",
        "audit=host.resume principal=uid:0",
        "audit=store.forget principal=uid:0 from=socket subject=\"tenant=gone\" result=ok",
        "audit=image.prune principal=uid:0 from=socket subject=\"dry_run=true\" result=ok",
        "audit=daemon.reload principal=uid:0",
    ] {
        let count = lines.iter().filter(|line| line.contains(expected)).count();
        assert_eq!(count, 1, "{expected}: {lines:#?}");
    }
    assert!(!lines.iter().any(|line| line.contains("token.list")), "{lines:#?}");
    let foreign = lines.iter().filter(|line| line.contains("uid:3021")).count();
    assert!((1..20).contains(&foreign), "a caller without the role fills the log: {foreign} lines");
    assert!(!daemon.log().contains(secret.as_str().unwrap()));
}

#[test]
fn tokens_of_the_configuration_work_without_a_store_and_follow_a_reload() {
    let mut daemon = daemon(CONFIGURED);
    is(&states(&daemon), &[("file", "active")]);
    daemon.terminate();
    let database = daemon.folder.path().join("state/assay.db");
    std::fs::remove_file(&database).unwrap();
    std::fs::create_dir(&database).unwrap();
    daemon.start_again();
    let mut caller = daemon.caller();
    let error = caller.error("token.add", json!({ "name": "ci", "tenant": "T" }));
    assert_eq!(error["data"]["code"], "unsupported", "{error}");
    assert!(error["message"].as_str().unwrap().contains("http.tokens"), "{error}");
    is(&states(&daemon), &[("file", "active")]);
    let error = caller.error("token.add", json!({ "name": "file", "tenant": "T" }));
    assert_eq!(error["data"]["code"], "conflict", "{error}");
    // once the disk lets the store be opened, it has tokens
    std::fs::remove_dir(&database).unwrap();
    eventually("the store is open", || {
        caller.call("token.add", json!({ "name": "ci", "tenant": "T" }))["result"].is_object()
    });
    is(&states(&daemon), &[("ci", "active"), ("file", "active")]);
    let path = daemon.folder.path().join("assayd.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("name = 'file'", "name = 'other'").replace("0000'", "0001'")).unwrap();
    let reloaded = caller.ok("daemon.reload", json!({}));
    let applied = reloaded["applied"].as_array().unwrap();
    assert!(applied.contains(&json!("http.tokens.other.name")), "{reloaded}");
    is(&states(&daemon), &[("ci", "active"), ("other", "active")]);
}

#[test]
fn a_login_code_has_the_address_of_the_listener_and_needs_the_api() {
    let daemon = daemon(CONFIGURED);
    let address = crate::engine::http::http_address(&daemon);
    let made = daemon.caller().ok("session.code", json!({}));
    let code = made["code"].as_str().unwrap();
    assert_eq!(made["url"], format!("http://{address}/#login={code}"));
    assert_eq!(made["valid_ms"], 60_000);
    assert_eq!(daemon.caller_as(3022).error("session.code", json!({}))["data"]["code"], "forbidden");
    drop(daemon);
    let daemon = self::daemon("[http]\nlisten = '127.0.0.1:0'\n");
    let error = daemon.caller().error("session.code", json!({}));
    assert_eq!(error["data"]["code"], "unsupported", "{error}");
    assert!(error["message"].as_str().unwrap().contains("http.api = true"), "{error}");
}

/// Begins `POST /api/v1/submissions` with a token; sends only so much of the body.
fn begin_post(daemon: &Daemon, token: &str, body: &str, sent: usize) -> std::net::TcpStream {
    let address = crate::engine::http::http_address(daemon);
    let mut stream = std::net::TcpStream::connect(&address).unwrap();
    let fields = format!(
        "host: {address}\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\nconnection: \
         close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("POST /api/v1/submissions HTTP/1.1\r\n{fields}{}", &body[..sent]).as_bytes()).unwrap();
    stream
}

fn status_of(mut stream: std::net::TcpStream) -> u16 {
    // an answer that never comes is a failure, not a hang
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer[9..12].parse().unwrap()
}

#[test]
fn a_token_that_is_revoked_in_the_middle_of_a_request_gets_nothing_for_it() {
    let daemon = daemon("[http]\napi = true\nlisten = '127.0.0.1:0'\n");
    let add = |name: &str| {
        let added = daemon.caller().ok("token.add", json!({ "name": name, "tenant": "T" }));
        added["token"].as_str().unwrap().to_owned()
    };
    let endless = json!({ "language": "bash", "files": [{ "path": "main.sh", "content": "while :; do sleep 1; done" }],
        "limits": { "wall_ms": 600_000, "cpu_ms": 600_000 } })
    .to_string();
    let (running, reading) = (add("running"), add("reading"));
    let waits = begin_post(&daemon, &running, &endless, endless.len());
    let is_running = |count: u64| daemon.caller().ok("daemon.status", json!({}))["queue"]["running"] == count;
    eventually("it runs", || is_running(1));
    let mut half = begin_post(&daemon, &reading, &endless, 20);
    for name in ["running", "reading"] {
        daemon.caller().ok("token.revoke", json!({ "name": name }));
    }
    assert_eq!(status_of(waits), 401);
    // nothing waits for the run any more
    eventually("it is cancelled", || is_running(0));
    half.write_all(&endless.as_bytes()[20..]).unwrap();
    assert_eq!(status_of(half), 401);
    assert!(is_running(0));
}
