//! What isolation costs: a cell beside a split sandbox, the program's filter, and throughput with reuse beside bare exec.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use super::{CODE, Daemon, Root, Sample, bare};

/// All of it.
pub fn all(root: &Root) {
    per_run();
    filter();
    reuse(root);
}

/// A folder of profiles: file name, top lines, lines of `[pool]`, of the shipped one by that name.
pub fn profiles(all: &[(&str, &str, &str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, of, top, pool) in all {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("config/profiles/{of}.toml"));
        let text = std::fs::read_to_string(shipped).unwrap();
        let (head, rest) = text.split_at(text.find("\n[").unwrap());
        let head = head.replacen(&format!("name = \"{of}\""), &format!("name = \"{name}\""), 1);
        let text = format!("{head}\n{top}\n{}", rest.replace("[pool]\n", &format!("[pool]\n{pool}\n")));
        std::fs::write(folder.path().join(format!("{name}.toml")), text).unwrap();
    }
    folder
}

/// Set-up, teardown and cleaning of one run: sixty runs of the shell's `:` in one sandbox, turn by turn.
fn per_run() {
    const RUNS: usize = 60;
    let folder = profiles(&[("split", "bash", "isolation = 'split'", ""), ("cell", "bash", "isolation = 'cell'", "")]);
    let daemon = Daemon::start_profiles(folder.path(), "split,cell", 2, 4, "");
    let mut caller = daemon.caller();
    let mut around = [Vec::new(), Vec::new()];
    let mut set_up = [Vec::new(), Vec::new()];
    for _ in 0..6 {
        for (at, language) in ["split", "cell"].into_iter().enumerate() {
            let tests = vec![json!({}); RUNS];
            let files = json!([{ "path": "main.sh", "content": ":" }]);
            let work = json!({ "language": language, "files": files, "tests": tests });
            let report = caller.ok("submission.run", work);
            assert_eq!((&report["verdict"], &report["sandbox"]["isolation"]), (&json!("accepted"), &json!(language)));
            let timing = &report["timing"];
            let each = |name: &str| timing[name].as_f64().unwrap() / RUNS as f64;
            around[at].push(each("setup_ms") + each("overhead_ms"));
            set_up[at].push(each("setup_ms"));
            std::thread::sleep(Duration::from_millis(700));
        }
    }
    println!("\none run among {RUNS} in a sandbox, all but the program's own time (ms)                p50       max");
    let [split, cell] = around.map(Sample);
    let [split_up, cell_up] = set_up.map(Sample);
    split.row("split: cleaning, fork, exec, wait, audit", None);
    cell.row("cell: namespaces, mounts, fork, exec, wait, teardown", None);
    println!(
        "  a cell adds {:.2} ms; set-up alone {:.2} and {:.2} ms",
        cell.p50() - split.p50(),
        split_up.p50(),
        cell_up.p50()
    );
}

/// Two loops: calls that do nothing, and bytes copied one by one.
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

/// Programs that do little but system calls, under our filter and the engine's, and under the engine's alone.
fn filter() {
    let folder = profiles(&[("c", "c", "isolation = 'split'\nlimits = { cpu_ms = 20000 }", "")]);
    let daemon = Daemon::start_profiles(folder.path(), "c", 1, 2, "");
    let mut caller = daemon.caller();
    let files = json!([{ "path": "main.c", "content": CALLS }]);
    let numbers = |text: &str| -> Vec<f64> { text.split_whitespace().map(|word| word.parse().unwrap()).collect() };
    let (mut ours, mut engines) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let report = caller.ok("submission.run", json!({ "language": "c", "files": files }));
        ours.push(numbers(report["run"]["stdout"].as_str().unwrap()));
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
        engines.push(numbers(&String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()));
    }
    println!(
        "\nsystem calls in a loop (ns), best of nine rounds, under our filter and the engine's / the engine's alone"
    );
    for (at, name) in
        ["one that does nothing", "a byte read from /dev/zero, written to /dev/null"].into_iter().enumerate()
    {
        let of = |all: &[Vec<f64>]| Sample(all.iter().map(|row| row[at]).collect());
        let (ours, engines) = (of(&ours), of(&engines));
        ours.row(name, Some(&engines));
    }
}

/// `print(1)` as often as it can be: by four callers of one tenant with reuse and cells, and exec'ed bare by as many at once.
fn reuse(root: &Root) {
    const CALLERS: usize = 4;
    let folder = profiles(&[("python", "python", "isolation = 'cell'", "reuse = 1000000")]);
    let daemon = Daemon::start_profiles(folder.path(), "python", CALLERS, CALLERS * 2, "[engine]\ncpu_overcommit=8\n");
    daemon.caller().warm();
    let files = json!([{ "path": "main.py", "content": CODE }]);
    let work = json!({ "language": "python", "tenant": "bench", "files": files });
    let judged = rate(CALLERS, |_| {
        let (mut caller, work) = (daemon.caller(), work.clone());
        move || {
            let report = caller.ok("submission.run", work.clone());
            assert_eq!(report["run"]["stdout"], "1\n", "{report}");
        }
    });
    let counters = daemon.caller().ok("daemon.status", json!({}))["counters"].clone();
    drop(daemon);
    let bare_rate = rate(CALLERS, |_| || bare(&root.0));
    println!("\npython print(1), {CALLERS} callers at once, for 10 s each");
    println!("  reuse in cells {judged:.1}/s, bare exec {bare_rate:.1}/s: {:.2} times", judged / bare_rate);
    println!("  sandboxes kept {}, retired for residue {}", counters["kept"], counters["residue"]);
}

/// How often a second, by so many threads.
pub fn rate<F: FnMut() + Send>(threads: usize, make: impl Fn(usize) -> F) -> f64 {
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    std::thread::scope(|scope| {
        for n in 0..threads {
            let (stop, count, mut one) = (stop.clone(), count.clone(), make(n));
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    one();
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        std::thread::sleep(Duration::from_secs(2));
        let (begun, before) = (Instant::now(), count.load(Ordering::Relaxed));
        std::thread::sleep(Duration::from_secs(10));
        let rate = (count.load(Ordering::Relaxed) - before) as f64 / begun.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        rate
    })
}
