//! What callers can make the daemon hold: unfinished lines, calls under way and unread replies are
//! counted for their uid and bounded; everyone else is served.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};

use crate::harness::{Caller, Daemon, Options, eventually};

const MIB: u64 = 1 << 20;

/// The most that one uid's messages may take, and what the allocator and the sockets add.
const MOST: u64 = 256 * MIB + 96 * MIB;

fn daemon() -> Daemon {
    // as in assayd.service: the allocator keeps no large pieces
    let env = [("MALLOC_MMAP_THRESHOLD_", "1048576")];
    let daemon = Daemon::start_bare(&Options { profiles: "", floor: 0, env: &env, ..Options::default() });
    daemon.wait_for_engine();
    daemon
}

/// Resident memory of the daemon in bytes.
fn resident(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// A connection that has its hello.
fn connect(daemon: &Daemon) -> BufReader<UnixStream> {
    let stream = UnixStream::connect(daemon.socket()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    let mut reader = BufReader::new(stream);
    assert!(next(&mut reader).unwrap()["method"] == "server.hello");
    reader
}

/// The next line, or `None` at end of file.
fn next(reader: &mut BufReader<UnixStream>) -> Option<Value> {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    serde_json::from_str(&line).ok()
}

fn code(line: &Value) -> &str {
    line["error"]["data"]["code"].as_str().unwrap_or("none")
}

fn others_are_served(daemon: &Daemon) {
    daemon.caller_as(3010).ok("daemon.health", json!({}));
    let blob = json!({ "data_b64": "eHh4", "offset": 0, "eof": true });
    daemon.caller_as(3010).ok("blob.put", blob);
    // the same uid, too, as long as it sends little
    daemon.caller().ok("daemon.status", json!({}));
}

fn store(caller: &mut Caller, bytes: usize) -> Value {
    let data = base64::engine::general_purpose::STANDARD.encode(vec![b'z'; bytes]);
    caller.ok("blob.put", json!({ "data_b64": data, "offset": 0, "eof": true }))["blob"].clone()
}

#[test]
fn unfinished_lines_are_bounded_and_end_in_time() {
    let daemon = daemon();
    let before = resident(&daemon);
    let line = vec![b'x'; 8 * MIB as usize - 1];
    let mut all: Vec<_> = (0..60).map(|_| connect(&daemon)).collect();
    for reader in &mut all {
        reader.get_mut().write_all(&line).unwrap();
        let now = resident(&daemon);
        assert!(now < before + MOST, "{} MiB", (now - before) / MIB);
    }
    others_are_served(&daemon);
    let mut refused = all.split_off(33);
    let refused = refused.iter_mut().find_map(|reader| {
        let answer = next(reader).unwrap();
        (code(&answer) == "quota_exceeded").then_some((answer, reader))
    });
    let (answer, reader) = refused.expect("a line beyond the bound is refused");
    assert_eq!(answer["id"], Value::Null, "{answer}");
    assert!(answer["error"]["data"]["retry_after_ms"].as_u64().unwrap() > 0, "{answer}");
    // the refused line ends, and its connection goes on
    let call = b"\n{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"daemon.health\"}\n";
    reader.get_mut().write_all(call).unwrap();
    assert_eq!(next(reader).unwrap()["id"], 7);
    // the others are told, and closed
    let late = next(&mut all[0]).unwrap();
    assert_eq!(code(&late), "bad_request", "{late}");
    assert!(late["error"]["message"].as_str().unwrap().contains("did not end"), "{late}");
    assert!(next(&mut all[0]).is_none());
    eventually("the memory is free again", || resident(&daemon) < before + 48 * MIB);
}

#[test]
fn unread_replies_of_one_connection_are_made_as_they_are_read() {
    let daemon = daemon();
    let mut owner = daemon.caller();
    let blob = store(&mut owner, 3 * MIB as usize);
    let before = resident(&daemon);
    let mut reader = connect(&daemon);
    for id in 0..150 {
        let line = json!({ "jsonrpc": "2.0", "id": id, "method": "blob.get", "params": { "blob": blob, "offset": 0 } });
        writeln!(reader.get_mut(), "{line}").unwrap();
    }
    for _ in 0..5 {
        others_are_served(&daemon);
        let now = resident(&daemon);
        assert!(now < before + 64 * MIB, "{} MiB", (now - before) / MIB);
    }
    // nothing is lost
    let mut ids: Vec<u64> = (0..150)
        .map(|_| {
            let reply = next(&mut reader).unwrap();
            assert_eq!(reply["result"]["data_b64"].as_str().unwrap().len() as u64, 4 * MIB, "{}", code(&reply));
            reply["id"].as_u64().unwrap()
        })
        .collect();
    ids.sort_unstable();
    assert!(ids.into_iter().eq(0..150));
    eventually("the memory is free again", || resident(&daemon) < before + 48 * MIB);
}

#[test]
fn unread_replies_of_one_uid_are_bounded() {
    let daemon = daemon();
    let mut owner = daemon.caller();
    let blob = store(&mut owner, 4 * MIB as usize);
    let before = resident(&daemon);
    let mut all = Vec::new();
    let refused = (0..40).any(|_| {
        // an unread reply, and an unfinished line, which is less work for the daemon
        let mut reader = connect(&daemon);
        let params = json!({ "blob": blob, "offset": 0 });
        let line = json!({ "jsonrpc": "2.0", "id": 1, "method": "blob.get", "params": params });
        writeln!(reader.get_mut(), "{line}").unwrap();
        reader.get_mut().write_all(&vec![b'x'; 8 * MIB as usize - 1]).unwrap();
        all.push(reader);
        let now = resident(&daemon);
        assert!(now < before + MOST, "{} MiB", (now - before) / MIB);
        code(&owner.call("blob.get", params)) == "quota_exceeded"
    });
    assert!(refused, "no reply beyond the bound is refused");
    others_are_served(&daemon);
    drop(all);
    eventually("the memory is free again", || resident(&daemon) < before + 48 * MIB);
    assert!(owner.ok("blob.get", json!({ "blob": blob, "offset": 0 }))["eof"] == true);
}

#[test]
fn a_line_of_many_values_takes_no_more_than_one_of_text() {
    let daemon = daemon();
    let before = resident(&daemon);
    let values = "[],".repeat(8 * MIB as usize / 3 - 200);
    let line = format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"daemon.health\",\"params\":[{values}0]}}\n");
    let mut all: Vec<_> = (0..8).map(|_| connect(&daemon)).collect();
    for reader in &mut all {
        reader.get_mut().write_all(line.as_bytes()).unwrap();
        let now = resident(&daemon);
        assert!(now < before + 80 * MIB, "{} MiB", (now - before) / MIB);
    }
    for reader in &mut all {
        let answer = next(reader).unwrap();
        assert!(answer["error"]["message"].as_str().unwrap().contains("values"), "{answer}");
    }
}

#[test]
fn calls_under_way_are_counted_with_what_they_hold() {
    let daemon = daemon();
    let before = resident(&daemon);
    // a call that waits: its own answer cannot be written before the unread replies
    let mut owner = daemon.caller();
    let blob = store(&mut owner, 4 * MIB as usize);
    let mut reader = connect(&daemon);
    for id in 0..4 {
        let params = json!({ "blob": blob, "offset": 0 });
        writeln!(reader.get_mut(), "{}", json!({ "jsonrpc": "2.0", "id": id, "method": "blob.get", "params": params }))
            .unwrap();
    }
    let padding = "x".repeat(7 * MIB as usize);
    reader.get_mut().set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    for id in 10..80 {
        let params = json!({ "blob": padding, "offset": 0 });
        let line = json!({ "jsonrpc": "2.0", "id": id, "method": "blob.get", "params": params });
        // the daemon may stop reading
        if writeln!(reader.get_mut(), "{line}").is_err() {
            break;
        }
        let now = resident(&daemon);
        assert!(now < before + MOST, "{} MiB", (now - before) / MIB);
    }
    others_are_served(&daemon);
    drop(reader);
    eventually("the memory is free again", || resident(&daemon) < before + 48 * MIB);
}

#[test]
fn a_line_that_arrives_in_parts_is_whole_when_another_call_ends_in_between() {
    let daemon = daemon();
    let mut reader = connect(&daemon);
    let call = |id: u64| json!({ "jsonrpc": "2.0", "id": id, "method": "daemon.health" }).to_string();
    for id in (0..200).step_by(2) {
        let (first, second) = (call(id), call(id + 1));
        let (begin, end) = second.split_at(30);
        let stream = reader.get_mut();
        stream.write_all(format!("{first}\n{begin}").as_bytes()).unwrap();
        assert_eq!(next(&mut reader).unwrap()["id"], id);
        reader.get_mut().write_all(format!("{end}\n").as_bytes()).unwrap();
        assert_eq!(next(&mut reader).unwrap()["id"], id + 1);
    }
}
