//! Throughput of `print(1)` in reused sandboxes against bare execution, and which processes use the
//! CPU time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use crate::bare::{RootFs, bare_print_one};
use crate::daemon::{Daemon, ProfileCopy, write_profiles};
use crate::{crowd, isolation};

const CALLERS: [usize; 3] = [1, 2, 4];

/// Throughput, and CPU time per run in milliseconds.
struct RunCosts {
    per_second: f64,
    /// Of the whole machine.
    total_ms: f64,
    /// Of the program, as the reports have it.
    program_ms: f64,
    daemon_ms: f64,
    /// Of the engine and its helper processes.
    engine_ms: f64,
}

impl RunCosts {
    fn json(&self) -> Value {
        json!({
            "per_second": self.per_second,
            "cpu_ms_each": self.total_ms,
            "program_ms": self.program_ms,
            "daemon_ms": self.daemon_ms,
            "engine_ms": self.engine_ms,
        })
    }
}

/// Measures [`isolation::rate`], which takes 12 s and counts the last 10.
fn measure_costs(daemon: Option<u32>, program_us: &AtomicU64, rate: impl FnOnce() -> f64) -> RunCosts {
    let daemon_cpu_ms = || daemon.map_or(0.0, |pid| crowd::cpu_seconds(pid) * 1e3);
    program_us.store(0, Ordering::Relaxed);
    let (machine_before, daemon_before, engine_before) = (machine_cpu_ms(), daemon_cpu_ms(), engine_cpu_ms());
    let per_second = rate();
    let runs = per_second * 12.0;
    let total_ms = (machine_cpu_ms() - machine_before) / runs;
    let daemon_ms = (daemon_cpu_ms() - daemon_before) / runs;
    // Processes that ended meanwhile are not counted.
    let since = |(pid, ms): (u32, f64)| ms - engine_before.get(&pid).unwrap_or(&0.0);
    let engine_ms = engine_cpu_ms().into_iter().map(since).sum::<f64>() / runs;
    let program_ms = program_us.load(Ordering::Relaxed) as f64 / 1e3 / runs;
    RunCosts { per_second, total_ms, program_ms, daemon_ms, engine_ms }
}

/// The costs of each number of callers with this many hot sandboxes, and the image's tag.
fn judged(hot: usize) -> ([RunCosts; 3], String) {
    let pool = format!("reuse = 1000000\nhot = {hot}");
    let copy = ProfileCopy { name: "python", of: "python", top: "isolation = 'cell'", pool: &pool };
    let folder = write_profiles(&[copy]);
    let daemon = Daemon::start_with_profiles(folder.path(), "python", 4, 8, "[engine]\ncpu_overcommit=8\n");
    let mut caller = daemon.caller();
    caller.wait_until_full();
    let image = caller.image("python");
    let files = json!([{ "path": "main.py", "content": "print(1)\n" }]);
    let submission = json!({ "language": "python", "tenant": "bench", "files": files });
    let costs = CALLERS.map(|callers| {
        let program_us = Arc::new(AtomicU64::new(0));
        measure_costs(Some(daemon.pid()), &program_us, || {
            isolation::rate(callers, || {
                let (mut caller, submission, program_us) = (daemon.caller(), submission.clone(), program_us.clone());
                move || {
                    let report = caller.call("submission.run", submission.clone());
                    assert_eq!(report["run"]["stdout"], "1\n");
                    let us = report["run"]["cpu_ms"].as_f64().unwrap() * 1e3;
                    program_us.fetch_add(us as u64, Ordering::Relaxed);
                }
            })
        })
    });
    (costs, image)
}

/// One, two and four callers: bare, hot and warm.
pub fn all() -> Vec<Value> {
    let (hot, image) = judged(8);
    let (warm, _) = judged(0);
    let root = RootFs::export(&image);
    println!("\nthroughput of print(1) in reused sandboxes; CPU time of the whole machine per run");
    println!("  {:<28} {:>10} {:>8} {:>8}", "", "per second", "to bare", "CPU ms");
    let mut rows = Vec::new();
    for (callers, (hot, warm)) in CALLERS.into_iter().zip(hot.iter().zip(&warm)) {
        let no_program = AtomicU64::new(0);
        let bare = measure_costs(None, &no_program, || isolation::rate(callers, || || bare_print_one(&root.0)));
        println!("  {callers} callers, {:<17} {:>10.1} {:>8} {:>8.1}", "bare", bare.per_second, "", bare.total_ms);
        for (name, costs) in [("assay, hot", hot), ("assay, warm", warm)] {
            let RunCosts { per_second, total_ms, program_ms, daemon_ms, engine_ms } = costs;
            let rest = total_ms - program_ms - daemon_ms - engine_ms;
            println!(
                "             {name:<17} {per_second:>10.1} {:>7.2}x {total_ms:>8.1}  program {program_ms:.1}, cell, forks and \
                 callers {rest:.1}, engine {engine_ms:.1}, daemon {daemon_ms:.1}",
                per_second / bare.per_second
            );
        }
        rows.push(json!({ "callers": callers, "bare": bare.json(), "hot": hot.json(), "warm": warm.json() }));
    }
    println!("  (target: hot, 4 callers, 2.0 times bare)");
    rows
}

/// CPU time of each of the engine's processes, in milliseconds.
fn engine_cpu_ms() -> BTreeMap<u32, f64> {
    let processes = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok()?.parse().ok());
    let is_engine = |pid: &u32| {
        std::fs::read_to_string(format!("/proc/{pid}/comm"))
            .is_ok_and(|name| name.starts_with("dockerd") || name.starts_with("containerd"))
    };
    processes.filter(is_engine).map(|pid| (pid, crowd::cpu_seconds(pid) * 1e3)).collect()
}

/// CPU time of the whole machine, in milliseconds.
pub fn machine_cpu_ms() -> f64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap();
    let numbers = stat.lines().next().unwrap().split_whitespace().skip(1).map(|word| word.parse::<f64>().unwrap());
    // proc(5): idle and iowait are the fourth and fifth; in ticks of 10 ms.
    numbers.take(8).enumerate().filter(|(at, _)| *at != 3 && *at != 4).map(|(_, ticks)| ticks * 10.0).sum()
}
