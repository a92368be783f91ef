//! Many connections at a time, slow ones among them, and a daemon that is killed between
//! acknowledging and answering.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use super::smuggling::free_port;
use super::{HttpCaller, TOKEN, settings};
use crate::engine::http::{get, http_address};
use crate::harness::{Daemon, Options, eventually, root, submission};

const MIB: u64 = 1 << 20;

/// A figure of /proc/PID/status in bytes.
fn memory(daemon: &Daemon, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
fn a_thousand_connections_with_slow_ones_among_them_harm_no_other_caller() {
    let config = settings("") + "[queue]\nmax_per_uid=512\n";
    let daemon =
        Daemon::start(&Options { profiles: "bash", floor: 2, ceiling: 4, config: &config, ..Options::default() });
    daemon.warm();
    let address = http_address(&daemon);
    let before = memory(&daemon, "VmRSS:");
    let mut command = Command::new("/usr/bin/python3");
    command.arg(root().join("tests/it/engine/http_api/load.py")).args([address.rsplit(':').next().unwrap(), TOKEN]);
    let mut load = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(load.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().as_deref(), Some("open"));

    // others, while all of them are open: on the socket and on a connection of their own
    let is_over = AtomicBool::new(false);
    let (rounds, last) = std::thread::scope(|scope| {
        let others = scope.spawn(|| {
            let mut caller = daemon.caller_as(3010);
            let mut rounds = 0;
            while !is_over.load(Ordering::SeqCst) || rounds == 0 {
                assert_eq!(caller.run("bash", "echo other")["run"]["stdout"], "other\n");
                assert_eq!(get(&address, "/livez").status, 200);
                rounds += 1;
            }
            rounds
        });
        assert_eq!(lines.next().as_deref(), Some("judged"));
        is_over.store(true, Ordering::SeqCst);
        (others.join().unwrap(), lines.next().unwrap())
    });
    assert!(load.wait().unwrap().success());
    let counts: BTreeMap<String, u64> = serde_json::from_str(&last).unwrap();
    let peak = memory(&daemon, "VmHWM:");
    println!("{counts:?}; others: {rounds} rounds; {} MiB before, {} MiB at most", before / MIB, peak / MIB);
    assert_eq!(counts["judged"], 256, "{counts:?}");
    assert_eq!((counts["slow head ended"], counts["slow body ended"]), (244, 100), "{counts:?}");
    let answered = counts.get("idle: 200").unwrap_or(&0) + counts.get("idle: closed").unwrap_or(&0);
    assert_eq!(answered, 300, "{counts:?}");
    eventually("all connections are closed", || {
        get(&address, "/metrics").body.lines().any(|line| line.starts_with("assay_http_connections 1"))
    });
}

/// A submission whose output is its id, handed in until it is acknowledged.
fn hand_in(address: &str, id: &str, acknowledged: &Mutex<Vec<String>>) {
    let mut work = submission("bash", &format!("sleep 0.2; echo {id}"));
    work["limits"] = json!({ "cpu_ms": 60_000, "wall_ms": 120_000 });
    let body = work.to_string();
    eventually("it is acknowledged", || {
        let Ok(stream) = std::net::TcpStream::connect(address) else { return false };
        let mut caller = HttpCaller { stream: BufReader::new(stream) };
        let head = format!(
            "POST /api/v1/submissions?wait=false HTTP/1.1\r\n{}content-type: application/json\r\n\
             idempotency-key: {id}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            super::fields(),
            body.len()
        );
        if std::io::Write::write_all(caller.stream.get_mut(), head.as_bytes()).is_err() {
            return false;
        }
        // the daemon may be killed before its answer, or in the middle of it
        let mut answer = String::new();
        let _ = std::io::Read::read_to_string(&mut caller.stream, &mut answer);
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
        match serde_json::from_str::<Value>(body) {
            Ok(body) => {
                assert!(answer.starts_with("HTTP/1.1 202") && body["id"] == id, "{answer}");
                true
            }
            Err(_) => false,
        }
    });
    acknowledged.lock().unwrap().push(id.to_owned());
}

#[test]
fn submissions_that_were_acknowledged_are_answered_once_after_a_kill() {
    let address = format!("127.0.0.1:{}", free_port());
    let config = settings("").replace("127.0.0.1:0", &address) + "[queue]\nmax_per_uid=512\n";
    let mut daemon =
        Daemon::start(&Options { profiles: "bash", floor: 2, ceiling: 4, config: &config, ..Options::default() });
    daemon.warm();
    let acknowledged = Mutex::new(Vec::new());
    let ids: Vec<String> = (0..100).map(|number| format!("killed-{number}")).collect();
    std::thread::scope(|scope| {
        for part in ids.chunks(25) {
            scope.spawn(|| part.iter().for_each(|id| hand_in(&address, id, &acknowledged)));
        }
        eventually("half of them are acknowledged", || acknowledged.lock().unwrap().len() >= 50);
        daemon.kill9();
        daemon.start_again();
    });
    assert_eq!(acknowledged.lock().unwrap().len(), ids.len());
    let mut caller = HttpCaller::connect(&address);
    let mut reports = BTreeMap::new();
    for id in &ids {
        let answer = caller.get(&format!("/api/v1/submissions/{id}?wait_ms=60000"));
        let state: Value = answer.json();
        assert_eq!(
            (&state["state"], &state["report"]["run"]["stdout"]),
            (&json!("done"), &json!(format!("{id}\n"))),
            "{state}"
        );
        reports.insert(id.clone(), state["report"].clone());
    }
    // each once, and the same answer again
    let mut listed = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = caller.get(&format!("/api/v1/submissions?limit=30{cursor}")).json();
        listed.extend(page["submissions"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    listed.sort();
    let mut expected = ids.clone();
    expected.sort();
    assert_eq!(listed, expected);
    for id in &ids {
        assert_eq!(caller.get(&format!("/api/v1/submissions/{id}")).json()["report"], reports[id]);
    }
}
