//! What judging costs: many tests against bare execution, the compile cache, a precompiled header,
//! large input and output; and whether verdicts near a limit stay the same on a busy machine.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use crate::daemon::{Caller, Daemon, DaemonOptions};
use crate::sample::{Sample, ms_since};

pub fn all() {
    let daemon = Daemon::start(&DaemonOptions {
        profiles: "c,cpp,python,bash",
        floor: 2,
        ceiling: 4,
        config: "[cache]\nmax_bytes = 500000000\n",
        ..DaemonOptions::default()
    });
    let mut caller = daemon.caller();
    for profile in ["c", "cpp", "python", "bash"] {
        caller.image(profile);
    }
    std::thread::sleep(Duration::from_secs(3));
    many_tests(&mut caller);
    header(&mut caller);
    large(&mut caller);
    repeatability(&daemon);
}

/// Sorts numbers from its input.
const SORT: &str = r#"
#include <stdio.h>
#include <stdlib.h>
static int by(const void *a, const void *b) { return (*(int *)a > *(int *)b) - (*(int *)a < *(int *)b); }
int main(void) {
    int n;
    if (scanf("%d", &n) != 1) return 1;
    int *all = malloc(n * sizeof *all);
    for (int i = 0; i < n; i++) scanf("%d", all + i);
    qsort(all, n, sizeof *all, by);
    for (int i = 0; i < n; i++) printf("%d\n", all[i]);
    return 0;
}
"#;

/// An input of this many numbers for [`SORT`], and its output.
fn numbers(count: u32) -> (String, String) {
    let mut state = 1u32;
    let mut all: Vec<u32> = (0..count)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 1
        })
        .collect();
    let lines = |all: &[u32]| all.iter().map(|number| format!("{number}\n")).collect::<String>();
    let input = format!("{count}\n{}", lines(&all));
    all.sort_unstable();
    (input, lines(&all))
}

/// Fifty tests of a small C program from the compile cache, against fifty bare executions.
fn many_tests(caller: &mut Caller) {
    const TESTS: usize = 50;
    println!(
        "\n{:<58} {:>9} {:>9} {:>9}",
        format!("{TESTS} tests of a small C program, whole submission (ms)"),
        "p50",
        "p99",
        "ratio"
    );
    for count in [10, 3000] {
        let (input, sorted) = numbers(count);
        let tests = vec![json!({ "stdin": input, "expect": sorted, "checker": { "kind": "exact" } }); TESTS];
        // A text of its own, so that the first submission is compiled.
        let code = format!("{SORT}// {count} {}\n", std::process::id());
        let submission = json!({ "language": "c", "files": [{ "path": "main.c", "content": code }], "tests": tests });
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("main.c"), SORT).unwrap();
        let built =
            Command::new("gcc").args(["-O2", "-o", "main", "main.c"]).current_dir(folder.path()).status().unwrap();
        assert!(built.success());
        let bare = || {
            for _ in 0..TESTS {
                let mut child = Command::new(folder.path().join("main"))
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .spawn()
                    .unwrap();
                let mut stdin = child.stdin.take().unwrap();
                let input = input.clone();
                let writer =
                    std::thread::spawn(move || std::io::Write::write_all(&mut stdin, input.as_bytes()).unwrap());
                let output = child.wait_with_output().unwrap();
                writer.join().unwrap();
                assert!(output.stdout == sorted.as_bytes());
            }
        };
        let first = run(caller, &submission);
        assert_eq!(first["compile"]["cached"], false);
        let (mut judged, mut bare_times, mut reports) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..15 {
            std::thread::sleep(Duration::from_millis(400));
            let start = Instant::now();
            bare();
            bare_times.push(ms_since(start));
            let start = Instant::now();
            let report = run(caller, &submission);
            judged.push(ms_since(start));
            assert_eq!((&report["compile"]["cached"], &report["start"]), (&json!(true), &json!("warm")));
            reports.push(report);
        }
        let bare_times = Sample(bare_times);
        bare_times.print(&format!("bare exec, {count} numbers each"), None);
        Sample(judged).print("assay, compiled before", Some(&bare_times));
        let stage = |key: &str| Sample(reports.iter().map(|report| report["timing"][key].as_f64().unwrap()).collect());
        for key in ["queue_ms", "compile_ms", "setup_ms", "overhead_ms"] {
            stage(key).print(&format!("  {key}"), None);
        }
        let total = first["timing"]["total_ms"].as_f64().unwrap();
        println!(
            "  first submission, compiled: {total:.1} ms, compile {:.1} ms",
            first["timing"]["compile_ms"].as_f64().unwrap()
        );
    }
}

/// Runs a submission, which must be accepted.
fn run(caller: &mut Caller, submission: &Value) -> Value {
    let report = caller.call("submission.run", submission.clone());
    assert_eq!(report["verdict"], "accepted", "{}", report["message"]);
    report
}

/// Compile time of a C++ program with bits/stdc++.h, with the precompiled header and without.
fn header(caller: &mut Caller) {
    let code = "#include <bits/stdc++.h>\nint main() { std::map<int, std::string> m{{1, \"one\"}}; std::cout << m[1] << std::endl; }";
    let mut compile = |prefix: &str| {
        let times = (0..7).map(|n| {
            // A new text each time, so that the compile cache is not used.
            let code = format!("{prefix}// {n} {}\n{code}", std::process::id());
            let files = json!([{ "path": "main.cpp", "content": code }]);
            let report = run(caller, &json!({ "language": "cpp", "files": files }));
            assert_eq!(report["compile"]["cached"], false);
            report["compile"]["wall_ms"].as_f64().unwrap()
        });
        Sample(times.collect())
    };
    // A macro before the first include keeps the compiler from using the precompiled header.
    let without = compile("#define NO_PRECOMPILED_HEADER 1\n#pragma GCC optimize(\"O2\")\n");
    let with = compile("");
    println!("\n{:<58} {:>9} {:>9} {:>9}", "compiling a C++ program with bits/stdc++.h (ms)", "p50", "p99", "ratio");
    without.print("header not precompiled", None);
    with.print("header precompiled", Some(&without));
}

/// 50 MB in and 50 MB out, through socket, daemon, engine and sandbox.
fn large(caller: &mut Caller) {
    const BYTES: usize = 50_000_000;
    const CHUNK: usize = 3 << 20;
    let data = vec![b'x'; BYTES];
    let mut blob = Value::Null;
    let start = Instant::now();
    for (n, chunk) in data.chunks(CHUNK).enumerate() {
        let offset = n * CHUNK;
        let eof = offset + chunk.len() == BYTES;
        let mut params = json!({ "data_b64": BASE64.encode(chunk), "offset": offset, "eof": eof });
        if !blob.is_null() {
            params["blob"] = blob.clone();
        }
        blob = caller.call("blob.put", params)["blob"].clone();
    }
    let put = start.elapsed();
    let mb_per_s = |seconds: f64| BYTES as f64 / 1e6 / seconds;
    println!("\n50 MB from end to end (MB/s)");
    println!("  {:<56} {:>9.0}", "blob.put in chunks, as base64", mb_per_s(put.as_secs_f64()));
    let limits = json!({ "output_bytes": 64_000_000, "cpu_ms": 20_000, "wall_ms": 20_000, "memory_bytes": 512 << 20 });
    let mut case = |name: &str, code: &str, stdin: Value| {
        let files = json!([{ "path": "main.sh", "content": code }]);
        let submission = json!({ "language": "bash", "files": files, "limits": limits, "stdin": stdin });
        let best =
            (0..3).map(|_| run(caller, &submission)["run"]["wall_ms"].as_f64().unwrap() / 1e3).fold(f64::MAX, f64::min);
        println!("  {name:<56} {:>9.0}", mb_per_s(best));
    };
    case("input to a program that reads it", "cat > /dev/null", json!({ "blob": blob }));
    case("output of a program that writes it", &format!("head -c {BYTES} /dev/zero"), json!(""));
    case("both at once", "cat", json!({ "blob": blob }));
}

/// With all cores busy, a program at half its CPU limit is always accepted and one at twice its
/// limit never.
fn repeatability(daemon: &Daemon) {
    const TIMES: usize = 100;
    let stop = Arc::new(AtomicBool::new(false));
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let busy: Vec<_> = (0..cores)
        .map(|_| {
            let stop = stop.clone();
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        })
        .collect();
    let burn = |ms: u32| format!("import time\nwhile time.process_time() < {}: pass", f64::from(ms) / 1e3);
    println!("\n{TIMES} runs with all cores busy (CPU limit 200 ms)");
    for (share, ms, expected) in [("0.5", 100, "accepted"), ("2.0", 400, "time_limit")] {
        let files = json!([{ "path": "main.py", "content": burn(ms) }]);
        let submission =
            json!({ "language": "python", "files": files, "limits": { "cpu_ms": 200, "wall_ms": 60_000 } });
        let next = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let lanes: Vec<_> = (0..2)
            .map(|_| {
                let (mut caller, submission, next) = (daemon.caller(), submission.clone(), next.clone());
                std::thread::spawn(move || {
                    let mut cpu = Vec::new();
                    let mut matching = 0;
                    while next.fetch_add(1, Ordering::Relaxed) < TIMES {
                        let report = caller.call("submission.run", submission.clone());
                        matching += usize::from(report["verdict"] == expected);
                        cpu.push(report["run"]["cpu_ms"].as_f64().unwrap());
                    }
                    (matching, cpu)
                })
            })
            .collect();
        let (mut matching, mut cpu) = (0, Vec::new());
        for lane in lanes {
            let (lane_matching, times) = lane.join().unwrap();
            matching += lane_matching;
            cpu.extend(times);
        }
        let cpu = Sample(cpu);
        let (low, high) = (cpu.quantile(0.0), cpu.quantile(1.0));
        println!("  {share} times the limit: {matching} of {TIMES} {expected}; CPU time {low:.0} to {high:.0} ms");
    }
    stop.store(true, Ordering::Relaxed);
    busy.into_iter().for_each(|thread| thread.join().unwrap());
}
