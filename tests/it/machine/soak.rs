//! Long tests (`make soak`): ten thousand submissions to one daemon, and a hundred daemons killed
//! at random instants. `SOAK_SUBMISSIONS` and `SOAK_KILLS` set the numbers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::harness::{Daemon, Options, eventually, submission, watch_cleanup};

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Resident memory in KiB, and the number of open descriptors.
fn resources(pid: u32) -> (u64, usize) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib = line.split_whitespace().next().unwrap().parse().unwrap();
    (kib, std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count())
}

fn percentiles(times: &[Duration]) -> (f64, f64) {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let at = |part: f64| sorted[((sorted.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
    (at(0.5), at(0.99))
}

#[test]
#[ignore = "make soak: ten thousand submissions take ten minutes"]
fn ten_thousand_submissions_do_not_grow_the_daemon() {
    let all = number("SOAK_SUBMISSIONS", 10_000);
    let part = (all / 10).max(10);
    let daemon = Daemon::start(&Options { profiles: "bash", floor: 4, ceiling: 8, ..Options::default() });
    daemon.warm();
    let (next, times) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::with_capacity(all))));
    let begun = Instant::now();
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (mut caller, next, times) = (daemon.caller(), next.clone(), times.clone());
            std::thread::spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= all {
                        return;
                    }
                    let begun = Instant::now();
                    let report = caller.run("bash", &format!("echo {number}"));
                    assert_eq!(report["run"]["stdout"], format!("{number}\n"), "{report}");
                    times.lock().unwrap().push(begun.elapsed());
                }
            })
        })
        .collect();
    let pid = daemon.child.id();
    let count = || times.lock().unwrap().len();
    let mut early = None;
    while !callers.iter().all(|caller| caller.is_finished()) {
        if early.is_none() && count() >= part {
            early = Some(resources(pid));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    for caller in callers {
        caller.join().unwrap();
    }
    let took = begun.elapsed();
    eventually("there are no more sandboxes than the ceiling", || daemon.containers().len() <= 8);
    let (early, late) = (early.unwrap(), resources(pid));
    let times = times.lock().unwrap();
    let (first, last) = (percentiles(&times[..part]), percentiles(&times[all - part..]));
    eprintln!("soak: {all} submissions in {:.0} s, {:.1}/s", took.as_secs_f64(), all as f64 / took.as_secs_f64());
    eprintln!(
        "  first {part}: p50 {:.1} ms, p99 {:.1} ms; {} KiB resident, {} descriptors",
        first.0, first.1, early.0, early.1
    );
    eprintln!(
        "  last  {part}: p50 {:.1} ms, p99 {:.1} ms; {} KiB resident, {} descriptors",
        last.0, last.1, late.0, late.1
    );
    // these submissions have no ids, so no reports are kept; descriptors belong to sandboxes in the
    // pool
    assert!(late.0 < early.0 + 8 * 1024, "the daemon grew from {} to {} KiB", early.0, late.0);
    assert!(late.1 < early.1 + 32, "descriptors grew from {} to {}", early.1, late.1);
}

#[test]
#[ignore = "make soak: a hundred daemons are started and killed, which takes eight minutes"]
fn a_hundred_kills_at_random_instants_leave_nothing() {
    let all = number("SOAK_KILLS", 100);
    let mut slowest = Duration::ZERO;
    for number in 0..all {
        let mut daemon = Daemon::start(&Options { profiles: "bash", floor: 3, ceiling: 6, ..Options::default() });
        let label = daemon.label.clone();
        let mut caller = daemon.caller();
        for _ in 0..3 {
            caller.send("submission.run", &submission("bash", "sleep 0.2"));
        }
        // the instants cover the first creation, runs and refill
        std::thread::sleep(Duration::from_millis((number as u64 * 7919) % 1500));
        daemon.kill9();
        slowest = slowest.max(watch_cleanup(&label, Instant::now(), Duration::from_secs(60)).took);
    }
    eprintln!("kills: {all} at random instants; nothing left after {} ms at most", slowest.as_millis());
}
