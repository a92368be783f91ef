//! Many at once: a burst onto a small pool, ten thousand in line, sixty-four idle sandboxes.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{CODE, Daemon};

/// All of it, one after the other.
pub fn all(daemon: Daemon, raw: f64) {
    burst(&daemon, raw);
    drop(daemon);
    clean_up();
    ten_thousand();
    idle();
}

/// 200 submissions of four callers at once onto a pool of eight: all are answered, and how fast beside the raw churn.
fn burst(daemon: &Daemon, raw: f64) {
    const ALL: usize = 200;
    let mut watcher = daemon.caller();
    watcher.warm();
    let begun = Instant::now();
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let mut caller = daemon.caller();
            std::thread::spawn(move || {
                let params = json!({ "language": "python", "files": [{ "path": "main.py", "content": CODE }] });
                let ids: Vec<u64> = (0..ALL / 4).map(|_| caller.send("submission.run", &params)).collect();
                let mut ends = Vec::new();
                for _ in &ids {
                    let answer = caller.line();
                    assert_eq!(answer["result"]["run"]["stdout"], "1\n", "{answer}");
                    ends.push(begun.elapsed());
                }
                ends.into_iter().max().unwrap()
            })
        })
        .collect();
    let ends: Vec<Duration> = callers.into_iter().map(|caller| caller.join().unwrap()).collect();
    let last = ends.iter().max().unwrap().as_secs_f64();
    let rate = ALL as f64 / last;
    println!("\nburst of {ALL} by 4 callers onto a pool of 8");
    println!(
        "  all answered in {last:.1} s, {rate:.1}/s, {:.2} times raw create + start + remove ({raw:.1}/s)",
        rate / raw
    );
}

/// CPU seconds that a process has used.
pub fn cpu(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<f64> =
        stat.rsplit_once(')').unwrap().1.split_whitespace().map(|field| field.parse().unwrap_or(0.0)).collect();
    // utime and stime, in ticks of 10 ms
    (fields[11] + fields[12]) / 100.0
}

fn resident_mib(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1024.0
}

/// What comes after an answer: how long the used sandbox is still there, and what its end costs the daemon.
fn clean_up() {
    const ALL: usize = 40;
    let daemon = Daemon::start_with(0, 1, "");
    let pid = daemon.child.id();
    let mut caller = daemon.caller();
    let params = json!({ "language": "python", "files": [{ "path": "main.py", "content": CODE }] });
    let (mut gone, mut used, mut after_the_answer) = (Vec::new(), 0.0, 0);
    for _ in 0..ALL {
        let report = caller.ok("submission.run", params.clone());
        let (begun, before) = (Instant::now(), cpu(pid));
        let path = format!("/containers/{}/json", report["sandbox"]["id"].as_str().unwrap());
        let mut looks = 0;
        while engine(&path) == 200 {
            looks += 1;
            std::thread::sleep(Duration::from_millis(1));
        }
        gone.push(begun.elapsed().as_secs_f64() * 1e3);
        used += cpu(pid) - before;
        after_the_answer += usize::from(looks > 0);
    }
    gone.sort_by(f64::total_cmp);
    println!("\nclean-up after the answer ({ALL} runs, one at a time)");
    println!(
        "  {:.2} ms of the daemon's CPU each; gone from the engine after p50 {:.0} ms, p95 {:.0} ms; \
         {after_the_answer} of {ALL} answers came before that",
        used / ALL as f64 * 1e3,
        gone[ALL / 2],
        gone[ALL * 95 / 100],
    );
}

/// The status of a GET to the usual engine.
fn engine(path: &str) -> u16 {
    use std::io::{Read, Write};
    let mut stream = std::os::unix::net::UnixStream::connect("/var/run/docker.sock").unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: docker\r\n\r\n").unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).unwrap();
    std::str::from_utf8(&head[9..]).unwrap().parse().unwrap()
}

/// What letting one in costs the daemon when ten thousand are in line.
fn ten_thousand() {
    const ALL: usize = 10_000;
    let daemon = Daemon::start_with(0, 1, "[queue]\nmax=20000\nmax_per_uid=20000\n");
    let pid = daemon.child.id();
    let mut caller = daemon.caller();
    // one long run holds the only sandbox, so that nothing but the line is measured
    let long = json!({ "language": "python", "files": [{ "path": "main.py", "content": "import time; time.sleep(300)" }],
        "limits": { "wall_ms": 60000, "cpu_ms": 60000 } });
    caller.ok("submission.submit", long);
    while caller.ok("daemon.status", json!({}))["queue"]["running"] != 1 {
        std::thread::sleep(Duration::from_millis(50));
    }
    let params = json!({ "language": "python", "files": [{ "path": "main.py", "content": CODE }] });
    let (before, begun) = (cpu(pid), Instant::now());
    let mut per = Vec::new();
    for part in 0..10 {
        let at = cpu(pid);
        for _ in 0..ALL / 10 {
            caller.send("submission.submit", &params);
        }
        for _ in 0..ALL / 10 {
            let answer = caller.line();
            assert!(answer["result"]["id"].is_string(), "{answer}");
        }
        if part == 0 || part == 9 {
            per.push((cpu(pid) - at) / (ALL / 10) as f64 * 1e6);
        }
    }
    let each = (cpu(pid) - before) / ALL as f64 * 1e6;
    let waiting = caller.ok("daemon.status", json!({}))["queue"]["waiting"].clone();
    println!("\n{ALL} submissions let in and in line ({waiting} wait)");
    println!(
        "  {each:.0} us of the daemon's CPU each (first thousand {:.0}, last {:.0}), {:.0}/s, {:.0} MiB resident",
        per[0],
        per[1],
        ALL as f64 / begun.elapsed().as_secs_f64(),
        resident_mib(pid)
    );
    daemon.kill();
}

/// What sixty-four ready sandboxes cost the daemon.
fn idle() {
    let daemon = Daemon::start_with(64, 64, "");
    let pid = daemon.child.id();
    let mut caller = daemon.caller();
    caller.warm();
    std::thread::sleep(Duration::from_secs(3));
    let before = cpu(pid);
    std::thread::sleep(Duration::from_secs(20));
    let used = (cpu(pid) - before) / 20.0 * 100.0;
    println!("\n64 ready sandboxes, nothing to do");
    println!("  {:.1} MiB resident, {used:.2} % of one CPU (a ping to each every 5 s)", resident_mib(pid));
}
