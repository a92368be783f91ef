//! Python's `print(1)` on warm sandboxes, against bare execution and `docker run`; a ping; refill.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::bare::{RootFs, bare_print_one, docker_run, has_docker_cli};
use crate::daemon::{Caller, Daemon};
use crate::engine;
use crate::sample::{Sample, measure, ms_since};

/// Runs all of it. `raw` is [`engine::raw_rate`].
pub fn all(daemon: &Daemon, image: &str, root: &RootFs, runs: usize, raw: f64) {
    let mut caller = daemon.caller();
    let ping = engine::ping(runs.max(1000));
    let rate = refill_rate(daemon);
    caller.wait_until_full();
    let bare_before = measure(runs, Duration::ZERO, || bare_print_one(&root.0));
    caller.wait_until_full();
    let mut reports = Vec::new();
    let interval = Duration::from_secs_f64(2.0 / rate);
    let paced = measure(runs, interval, || reports.push(caller.print_one()));
    let bare_after = measure(runs, Duration::ZERO, || bare_print_one(&root.0));
    caller.wait_until_full();
    let back_to_back = measure(runs, Duration::ZERO, || drop(caller.print_one()));
    let docker = has_docker_cli().then(|| measure(runs, Duration::ZERO, || docker_run(image)));

    println!("{:<58} {:>9} {:>9} {:>9}", "python print(1)", "p50", "p99", "ratio");
    let bare = bare_before.faster(bare_after);
    bare.print("bare exec in the same root file system", None);
    let warm = reports.iter().filter(|report| report["start"] == "warm").count();
    paced.print(&format!("assay, paced at {:.1}/s with refill ({warm}/{runs} warm)", rate / 2.0), Some(&bare));
    back_to_back.print("assay, back to back (faster than the refill)", Some(&bare));
    match &docker {
        Some(docker) => {
            docker.print("docker run, same hardening, back to back", Some(&bare));
            println!("\n  docker run / assay (paced), p50: {:.1} times", docker.p50() / paced.p50());
        }
        None => println!("  docker run: not measured, no docker CLI on this machine"),
    }
    println!("  assay (paced) / bare exec, p50:  {:.2} times", paced.p50() / bare.p50());

    println!("\n{:<58} {:>9} {:>9}", "ping of an idle sandbox", "p50", "p99");
    ping.print("round trip host -> engine -> init and back", None);
    print_stages(&reports);
    println!("\nrefill");
    refill_times(&mut caller, 10).print("from a lease to a ready replacement (ms)", None);
    println!("  through the pool {rate:.2}/s, raw create + start + remove {raw:.2}/s: {:.2} times", rate / raw);
}

fn print_stages(reports: &[Value]) {
    println!("\n{:<58} {:>9} {:>9}", "stages of the paced runs (ms)", "p50", "p99");
    for stage in ["queue_ms", "lease_ms", "copy_in_ms", "setup_ms", "overhead_ms", "run_ms", "total_ms"] {
        let values = reports.iter().map(|report| report["timing"][stage].as_f64().unwrap()).collect();
        Sample(values).print(stage, None);
    }
    let overhead =
        |report: &Value| report["timing"]["total_ms"].as_f64().unwrap() - report["run"]["wall_ms"].as_f64().unwrap();
    Sample(reports.iter().map(overhead).collect()).print("all but the program's own run", None);
}

/// Times from a lease until the pool is full again, one sandbox at a time.
fn refill_times(caller: &mut Caller, runs: usize) -> Sample {
    let times = (0..runs).map(|_| {
        caller.wait_until_full();
        let start = Instant::now();
        caller.print_one();
        caller.wait_until_full();
        ms_since(start)
    });
    Sample(times.collect())
}

/// Sandboxes per second through the pool while four callers take each as soon as it is ready.
fn refill_rate(daemon: &Daemon) -> f64 {
    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (mut caller, stop) = (daemon.caller(), stop.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    caller.print_one();
                }
            })
        })
        .collect();
    let mut caller = daemon.caller();
    let mut created = || caller.pool()["created"].as_u64().unwrap();
    std::thread::sleep(Duration::from_secs(3));
    let (start, before) = (Instant::now(), created());
    std::thread::sleep(Duration::from_secs(12));
    let rate = (created() - before) as f64 / start.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.join().unwrap();
    }
    rate
}
