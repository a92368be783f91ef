//! As often as it can be, in sandboxes that are used again, beside bare exec; and who spends the machine's time on it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use super::{Daemon, Root, crowd, isolation};

const CALLERS: [usize; 3] = [1, 2, 4];

/// What so many callers got, and what each of their runs cost.
struct Spent {
    per_second: f64,
    /// CPU time of the whole machine for each, in milliseconds.
    all_ms: f64,
    /// Of it the program itself, from its order to its end, as the reports say.
    program_ms: f64,
    /// The daemon.
    daemon_ms: f64,
    /// The engine, with what it runs beside each container.
    engine_ms: f64,
}

impl Spent {
    fn value(&self) -> Value {
        let Self { per_second, all_ms, program_ms, daemon_ms, engine_ms } = self;
        json!({ "per_second": per_second, "cpu_ms_each": all_ms, "program_ms": program_ms, "daemon_ms": daemon_ms, "engine_ms": engine_ms })
    }
}

/// Twelve seconds, of which ten are counted.
fn timed(daemon: Option<u32>, program_us: &AtomicU64, rate: impl FnOnce() -> f64) -> Spent {
    let daemons = || daemon.map_or(0.0, |pid| crowd::cpu(pid) * 1e3);
    program_us.store(0, Ordering::Relaxed);
    let (busy, daemon_before, engines) = (busy_ms(), daemons(), engine_ms());
    let per_second = rate();
    let all = per_second * 12.0;
    let all_ms = (busy_ms() - busy) / all;
    let daemon_ms = (daemons() - daemon_before) / all;
    // one that ended in between is not counted
    let since = |(pid, ms): (u32, f64)| ms - engines.get(&pid).unwrap_or(&0.0);
    let engine_ms = engine_ms().into_iter().map(since).sum::<f64>() / all;
    Spent {
        per_second,
        all_ms,
        program_ms: program_us.load(Ordering::Relaxed) as f64 / 1e3 / all,
        daemon_ms,
        engine_ms,
    }
}

/// `print(1)` as often as it can be, by one, two and four callers: bare, and by assay with reuse, hot and warm. With what is spent
/// on each.
pub fn all() -> Vec<Value> {
    let mut image = String::new();
    let [hot, warm] = [8, 0].map(|hot| {
        let pool = format!("reuse = 1000000\nhot = {hot}");
        let folder = isolation::profiles(&[("python", "python", "isolation = 'cell'", &pool)]);
        let daemon = Daemon::start_profiles(folder.path(), "python", 4, 8, "[engine]\ncpu_overcommit=8\n");
        let mut caller = daemon.caller();
        caller.warm();
        caller.ok("image.list", json!({}))["images"][0]["tag"].as_str().unwrap().clone_into(&mut image);
        let files = json!([{ "path": "main.py", "content": "print(1)\n" }]);
        let work = json!({ "language": "python", "tenant": "bench", "files": files });
        CALLERS.map(|callers| {
            let program_us = Arc::new(AtomicU64::new(0));
            timed(Some(daemon.child.id()), &program_us, || {
                isolation::rate(callers, |_| {
                    let (mut caller, work, program_us) = (daemon.caller(), work.clone(), program_us.clone());
                    move || {
                        let report = caller.ok("submission.run", work.clone());
                        assert_eq!(report["run"]["stdout"], "1\n");
                        let us = report["run"]["cpu_ms"].as_f64().unwrap() * 1e3;
                        program_us.fetch_add(us as u64, Ordering::Relaxed);
                    }
                })
            })
        })
    });
    let root = Root::export(&image);
    println!(
        "\nprint(1) as often as it can be, in sandboxes that are used again; CPU time of the whole machine for each, in ms"
    );
    println!("  {:<28} {:>10} {:>8} {:>8}", "", "per second", "to bare", "CPU ms");
    let mut rows = Vec::new();
    for (callers, (hot, warm)) in CALLERS.into_iter().zip(hot.iter().zip(&warm)) {
        let bare = timed(None, &AtomicU64::new(0), || isolation::rate(callers, |_| || super::bare(&root.0)));
        println!("  {callers} callers, {:<17} {:>10.1} {:>8} {:>8.1}", "bare", bare.per_second, "", bare.all_ms);
        for (name, spent) in [("assay, hot", hot), ("assay, warm", warm)] {
            let Spent { per_second, all_ms, program_ms, daemon_ms, engine_ms } = spent;
            let rest = all_ms - program_ms - daemon_ms - engine_ms;
            println!(
                "             {name:<17} {per_second:>10.1} {:>7.2}x {all_ms:>8.1}  program {program_ms:.1}, cell, forks and callers \
                 {rest:.1}, engine {engine_ms:.1}, daemon {daemon_ms:.1}",
                per_second / bare.per_second
            );
        }
        rows.push(json!({ "callers": callers, "bare": bare.value(), "hot": hot.value(), "warm": warm.value() }));
    }
    println!("  (asked: hot, 4 callers, 2.0 times bare)");
    rows
}

/// CPU time of each of the engine's processes, in milliseconds.
fn engine_ms() -> BTreeMap<u32, f64> {
    let processes = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok()?.parse().ok());
    let is_engines = |pid: &u32| {
        std::fs::read_to_string(format!("/proc/{pid}/comm"))
            .is_ok_and(|name| name.starts_with("dockerd") || name.starts_with("containerd"))
    };
    processes.filter(is_engines).map(|pid| (pid, crowd::cpu(pid) * 1e3)).collect()
}

/// CPU time that this machine has spent, in milliseconds.
fn busy_ms() -> f64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap();
    let numbers = stat.lines().next().unwrap().split_whitespace().skip(1).map(|word| word.parse::<f64>().unwrap());
    // proc(5): idle and iowait are the fourth and fifth; a hundred to the second
    numbers.take(8).enumerate().filter(|(at, _)| *at != 3 && *at != 4).map(|(_, ticks)| ticks * 10.0).sum()
}
