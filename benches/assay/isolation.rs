//! What isolation costs: a cell against a split sandbox, the seccomp filter, and throughput with
//! reuse against bare execution.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::PRINT_ONE;
use crate::bare::{RootFs, bare_print_one};
use crate::daemon::{Daemon, ProfileCopy, write_profiles};
use crate::sample::Sample;

pub fn all(root: &RootFs) {
    per_run();
    filter();
    reuse(root);
}

/// Time of a run except the program's own: sixty runs of the shell's `:` in one sandbox,
/// alternating between split and cell.
fn per_run() {
    const RUNS: usize = 60;
    let folder = write_profiles(&[
        ProfileCopy { name: "split", of: "bash", top: "isolation = 'split'", pool: "" },
        ProfileCopy { name: "cell", of: "bash", top: "isolation = 'cell'", pool: "" },
    ]);
    let daemon = Daemon::start_with_profiles(folder.path(), "split,cell", 2, 4, "");
    let mut caller = daemon.caller();
    let mut overhead = [Vec::new(), Vec::new()];
    let mut setup = [Vec::new(), Vec::new()];
    for _ in 0..6 {
        for (at, language) in ["split", "cell"].into_iter().enumerate() {
            let tests = vec![json!({}); RUNS];
            let files = json!([{ "path": "main.sh", "content": ":" }]);
            let submission = json!({ "language": language, "files": files, "tests": tests });
            let report = caller.call("submission.run", submission);
            assert_eq!((&report["verdict"], &report["sandbox"]["isolation"]), (&json!("accepted"), &json!(language)));
            let timing = &report["timing"];
            let each = |name: &str| timing[name].as_f64().unwrap() / RUNS as f64;
            overhead[at].push(each("setup_ms") + each("overhead_ms"));
            setup[at].push(each("setup_ms"));
            std::thread::sleep(Duration::from_millis(700));
        }
    }
    println!("\n{:<58} {:>9} {:>9}", format!("time per run of {RUNS} without the program (ms)"), "p50", "p99");
    let [split, cell] = overhead.map(Sample);
    let [split_setup, cell_setup] = setup.map(Sample);
    split.print("split: cleaning, fork, exec, wait, audit", None);
    cell.print("cell: namespaces, mounts, fork, exec, wait, teardown", None);
    println!(
        "  a cell adds {:.2} ms; setup alone: split {:.2}, cell {:.2} ms",
        cell.p50() - split.p50(),
        split_setup.p50(),
        cell_setup.p50()
    );
}

/// Two loops: system calls that do nothing, and bytes that are copied one by one.
const CALLS: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec + t.tv_nsec / 1e9; }
int main(void) {
    int zero = open("/dev/zero", O_RDONLY), null = open("/dev/null", O_WRONLY);
    double best[2] = {1e9, 1e9};
    char byte;
    for (int round = 0; round < 18; round++) {
        double begun = now();
        for (int i = 0; i < 200000; i++) {
            if (round % 2) { if (read(zero, &byte, 1) != 1 || write(null, &byte, 1) != 1) return 1; }
            else syscall(SYS_getppid);
        }
        double took = now() - begun;
        if (took < best[round % 2]) best[round % 2] = took;
    }
    printf("%.1f %.1f\n", best[0] / 200000 * 1e9, best[1] / 200000 * 1e9);
}
"#;

/// Time per system call under our seccomp filter and the engine's, and under the engine's alone.
fn filter() {
    let top = "isolation = 'split'\nlimits = { cpu_ms = 20000 }";
    let folder = write_profiles(&[ProfileCopy { name: "c", of: "c", top, pool: "" }]);
    let daemon = Daemon::start_with_profiles(folder.path(), "c", 1, 2, "");
    let mut caller = daemon.caller();
    let files = json!([{ "path": "main.c", "content": CALLS }]);
    let numbers = |text: &str| -> Vec<f64> { text.split_whitespace().map(|word| word.parse().unwrap()).collect() };
    let (mut both, mut engine) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let report = caller.call("submission.run", json!({ "language": "c", "files": files }));
        both.push(numbers(report["run"]["stdout"].as_str().unwrap()));
        let image = report["sandbox"]["image"].as_str().unwrap().to_owned();
        let script = "cat > main.c && gcc -O2 -o main main.c && ./main";
        let mut child = Command::new("docker")
            .args(["run", "--rm", "-i", "--network", "none", "--cap-drop", "ALL"])
            .args(["--security-opt", "no-new-privileges", "--user", "52000:52000", "--cpus", "1"])
            .args(["--tmpfs", "/work:exec,uid=52000", "-w", "/work", &image, "sh", "-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), CALLS.as_bytes()).unwrap();
        engine.push(numbers(&String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()));
    }
    println!(
        "\nsystem calls in a loop (ns), best of nine rounds, with our filter and the engine's / the engine's alone"
    );
    for (at, name) in
        ["a call that does nothing", "a byte read from /dev/zero and written to /dev/null"].into_iter().enumerate()
    {
        let column = |all: &[Vec<f64>]| Sample(all.iter().map(|row| row[at]).collect());
        let (both, engine) = (column(&both), column(&engine));
        both.print(name, Some(&engine));
    }
}

/// Throughput of `print(1)`: four callers of one tenant with reused cells, against four bare loops.
fn reuse(root: &RootFs) {
    const CALLERS: usize = 4;
    let (top, pool) = ("isolation = 'cell'", "reuse = 1000000");
    let folder = write_profiles(&[ProfileCopy { name: "python", of: "python", top, pool }]);
    let config = "[engine]\ncpu_overcommit=8\n";
    let daemon = Daemon::start_with_profiles(folder.path(), "python", CALLERS, CALLERS * 2, config);
    daemon.caller().wait_until_full();
    let files = json!([{ "path": "main.py", "content": PRINT_ONE }]);
    let submission = json!({ "language": "python", "tenant": "bench", "files": files });
    let judged = rate(CALLERS, || {
        let (mut caller, submission) = (daemon.caller(), submission.clone());
        move || {
            let report = caller.call("submission.run", submission.clone());
            assert_eq!(report["run"]["stdout"], "1\n", "{report}");
        }
    });
    let counters = daemon.caller().call("daemon.status", json!({}))["counters"].clone();
    drop(daemon);
    let bare = rate(CALLERS, || || bare_print_one(&root.0));
    println!("\npython print(1), {CALLERS} callers at once, 10 s each");
    println!("  reuse in cells {judged:.1}/s, bare exec {bare:.1}/s: {:.2} times", judged / bare);
    println!("  sandboxes kept {}, retired for residue {}", counters["kept"], counters["residue"]);
}

/// Runs per second of an operation in this many threads, over 10 s after 2 s of warm-up.
pub fn rate<F: FnMut() + Send>(threads: usize, make_operation: impl Fn() -> F) -> f64 {
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let (stop, count, mut operation) = (stop.clone(), count.clone(), make_operation());
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    operation();
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        std::thread::sleep(Duration::from_secs(2));
        let (start, before) = (Instant::now(), count.load(Ordering::Relaxed));
        std::thread::sleep(Duration::from_secs(10));
        let rate = (count.load(Ordering::Relaxed) - before) as f64 / start.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        rate
    })
}
