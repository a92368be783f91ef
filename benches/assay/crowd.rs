//! Many at once: a burst on a small pool, ten thousand queued submissions, sixty-four idle
//! sandboxes.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::PRINT_ONE;
use crate::daemon::{Daemon, DaemonOptions};
use crate::sample::{Sample, ms_since};

/// Runs all of it. `raw` is the rate of containers without assay.
pub fn all(daemon: Daemon, raw: f64) {
    burst(&daemon, raw);
    drop(daemon);
    clean_up();
    ten_thousand();
    idle();
}

/// 200 submissions of four callers on a pool of eight: time until all are answered.
fn burst(daemon: &Daemon, raw: f64) {
    const SUBMISSIONS: usize = 200;
    daemon.caller().wait_until_full();
    let start = Instant::now();
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let mut caller = daemon.caller();
            std::thread::spawn(move || {
                let params = json!({ "language": "python", "files": [{ "path": "main.py", "content": PRINT_ONE }] });
                for _ in 0..SUBMISSIONS / 4 {
                    caller.send("submission.run", &params);
                }
                for _ in 0..SUBMISSIONS / 4 {
                    let reply = caller.read_line();
                    assert_eq!(reply["result"]["run"]["stdout"], "1\n", "{reply}");
                }
                start.elapsed()
            })
        })
        .collect();
    let ends: Vec<Duration> = callers.into_iter().map(|caller| caller.join().unwrap()).collect();
    let last = ends.iter().max().unwrap().as_secs_f64();
    let rate = SUBMISSIONS as f64 / last;
    println!("\nburst of {SUBMISSIONS} by 4 callers on a pool of 8");
    println!(
        "  all answered in {last:.1} s, {rate:.1}/s, {:.2} times raw create + start + remove ({raw:.1}/s)",
        rate / raw
    );
}

/// CPU seconds used by a process.
pub fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<f64> =
        stat.rsplit_once(')').unwrap().1.split_whitespace().map(|field| field.parse().unwrap_or(0.0)).collect();
    // proc(5): utime and stime, in ticks of 10 ms.
    (fields[11] + fields[12]) / 100.0
}

fn resident_mib(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1024.0
}

/// After a report: time until the used sandbox is removed, and the daemon's CPU time for it.
fn clean_up() {
    const RUNS: usize = 40;
    let daemon = Daemon::start(&DaemonOptions { floor: 0, ceiling: 1, ..DaemonOptions::default() });
    let pid = daemon.pid();
    let mut caller = daemon.caller();
    let params = json!({ "language": "python", "files": [{ "path": "main.py", "content": PRINT_ONE }] });
    let (mut removal_times, mut used, mut removed_later) = (Vec::new(), 0.0, 0);
    for _ in 0..RUNS {
        let report = caller.call("submission.run", params.clone());
        let (start, before) = (Instant::now(), cpu_seconds(pid));
        let path = format!("/containers/{}/json", report["sandbox"]["id"].as_str().unwrap());
        let mut polls = 0;
        while engine_status(&path) == 200 {
            polls += 1;
            std::thread::sleep(Duration::from_millis(1));
        }
        removal_times.push(ms_since(start));
        used += cpu_seconds(pid) - before;
        removed_later += usize::from(polls > 0);
    }
    let removal_times = Sample(removal_times);
    println!("\nclean-up after the report ({RUNS} runs, one at a time)");
    println!(
        "  {:.2} ms of the daemon's CPU time each; container removed after p50 {:.0} ms, p95 {:.0} ms; \
         {removed_later} of {RUNS} reports came before that",
        used / RUNS as f64 * 1e3,
        removal_times.p50(),
        removal_times.quantile(0.95),
    );
}

/// The status of a GET request to the engine at its default socket.
fn engine_status(path: &str) -> u16 {
    use std::io::{Read, Write};
    let mut stream = std::os::unix::net::UnixStream::connect("/var/run/docker.sock").unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: docker\r\n\r\n").unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).unwrap();
    std::str::from_utf8(&head[9..]).unwrap().parse().unwrap()
}

/// The daemon's CPU time to admit one submission while ten thousand are queued.
fn ten_thousand() {
    const SUBMISSIONS: usize = 10_000;
    let config = "[queue]\nmax=20000\nmax_per_uid=20000\n";
    let daemon = Daemon::start(&DaemonOptions { floor: 0, ceiling: 1, config, ..DaemonOptions::default() });
    let pid = daemon.pid();
    let mut caller = daemon.caller();
    // One long run holds the only sandbox, so that only the queue is measured.
    let long = json!({ "language": "python", "files": [{ "path": "main.py", "content": "import time; time.sleep(300)" }],
        "limits": { "wall_ms": 60000, "cpu_ms": 60000 } });
    caller.call("submission.submit", long);
    while caller.call("daemon.status", json!({}))["queue"]["running"] != 1 {
        std::thread::sleep(Duration::from_millis(50));
    }
    let params = json!({ "language": "python", "files": [{ "path": "main.py", "content": PRINT_ONE }] });
    let (before, start) = (cpu_seconds(pid), Instant::now());
    let mut first_and_last = Vec::new();
    for part in 0..10 {
        let part_before = cpu_seconds(pid);
        for _ in 0..SUBMISSIONS / 10 {
            caller.send("submission.submit", &params);
        }
        for _ in 0..SUBMISSIONS / 10 {
            let reply = caller.read_line();
            assert!(reply["result"]["id"].is_string(), "{reply}");
        }
        if part == 0 || part == 9 {
            first_and_last.push((cpu_seconds(pid) - part_before) / (SUBMISSIONS / 10) as f64 * 1e6);
        }
    }
    let each = (cpu_seconds(pid) - before) / SUBMISSIONS as f64 * 1e6;
    let waiting = caller.call("daemon.status", json!({}))["queue"]["waiting"].clone();
    println!("\n{SUBMISSIONS} submissions admitted and queued ({waiting} waiting)");
    println!(
        "  {each:.0} us of the daemon's CPU time each (first thousand {:.0}, last {:.0}), {:.0}/s, {:.0} MiB resident",
        first_and_last[0],
        first_and_last[1],
        SUBMISSIONS as f64 / start.elapsed().as_secs_f64(),
        resident_mib(pid)
    );
    daemon.kill();
}

/// The daemon's memory and CPU time with sixty-four idle sandboxes.
fn idle() {
    let daemon = Daemon::start(&DaemonOptions { floor: 64, ceiling: 64, ..DaemonOptions::default() });
    let pid = daemon.pid();
    daemon.caller().wait_until_full();
    std::thread::sleep(Duration::from_secs(3));
    let before = cpu_seconds(pid);
    std::thread::sleep(Duration::from_secs(20));
    let used = (cpu_seconds(pid) - before) / 20.0 * 100.0;
    println!("\n64 idle sandboxes");
    println!("  {:.1} MiB resident, {used:.2} % of one CPU (a ping to each every 5 s)", resident_mib(pid));
}
