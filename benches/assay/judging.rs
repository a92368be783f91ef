//! What judging costs: many tests beside bare exec, compiled before or not, a header compiled in advance, large input and
//! output, and whether verdicts near a limit are the same again and again on a busy machine.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use super::{Caller, Daemon, Sample};

/// All of it.
pub fn all() {
    let profiles = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config/profiles");
    let daemon = Daemon::start_profiles(&profiles, "c,cpp,python,bash", 2, 4, "[cache]\nmax_bytes = 500000000\n");
    let mut caller = daemon.caller();
    for profile in ["c", "cpp", "python", "bash"] {
        caller.ok("image.build", json!({ "profile": profile }));
    }
    std::thread::sleep(Duration::from_secs(3));
    many_tests(&mut caller);
    header(&mut caller);
    large(&mut caller);
    repeatability(&daemon);
}

/// Sorts what it is given.
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

/// So many numbers to sort in each test, and what comes out.
fn numbers(count: u32) -> (String, String) {
    let mut state = 1u32;
    let mut all: Vec<u32> = (0..count)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 1
        })
        .collect();
    let lines = |all: &[u32]| all.iter().map(|number| format!("{number}\n")).collect::<String>();
    let given = format!("{count}\n{}", lines(&all));
    all.sort_unstable();
    (given, lines(&all))
}

/// Fifty tests of a small C program, compiled before, beside the same program executed bare fifty times.
fn many_tests(caller: &mut Caller) {
    const TESTS: usize = 50;
    println!(
        "\n{TESTS} tests of a small C program, whole submission (ms)                        p50       p99     ratio"
    );
    for count in [10, 3000] {
        let (given, sorted) = numbers(count);
        let tests = vec![json!({ "stdin": given, "expect": sorted, "checker": { "kind": "exact" } }); TESTS];
        // another text for each, so that the first is compiled
        let code = format!("{SORT}// {count} {}\n", std::process::id());
        let work = json!({ "language": "c", "files": [{ "path": "main.c", "content": code }], "tests": tests });
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
                let given = given.clone();
                let feeding =
                    std::thread::spawn(move || std::io::Write::write_all(&mut stdin, given.as_bytes()).unwrap());
                let output = child.wait_with_output().unwrap();
                feeding.join().unwrap();
                assert!(output.stdout == sorted.as_bytes());
            }
        };
        let fresh = run(caller, &work);
        assert_eq!(fresh["compile"]["cached"], false);
        let (mut ours, mut theirs, mut reports) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..15 {
            std::thread::sleep(Duration::from_millis(400));
            let begun = Instant::now();
            bare();
            theirs.push(begun.elapsed().as_secs_f64() * 1e3);
            let begun = Instant::now();
            let report = run(caller, &work);
            ours.push(begun.elapsed().as_secs_f64() * 1e3);
            assert_eq!((&report["compile"]["cached"], &report["start"]), (&json!(true), &json!("warm")));
            reports.push(report);
        }
        let theirs = Sample(theirs);
        theirs.row(&format!("bare exec, {count} numbers each"), None);
        let ours = Sample(ours);
        ours.row("assay, compiled before", Some(&theirs));
        let stage = |key: &str| Sample(reports.iter().map(|report| report["timing"][key].as_f64().unwrap()).collect());
        for key in ["queue_ms", "compile_ms", "setup_ms", "overhead_ms"] {
            stage(key).row(&format!("  of it {key}"), None);
        }
        let total = fresh["timing"]["total_ms"].as_f64().unwrap();
        println!(
            "  the first time, compiled: {total:.1} ms, of it compile {:.1} ms",
            fresh["timing"]["compile_ms"].as_f64().unwrap()
        );
    }
}

fn run(caller: &mut Caller, work: &Value) -> Value {
    let report = caller.ok("submission.run", work.clone());
    assert_eq!(report["verdict"], "accepted", "{}", report["message"]);
    report
}

/// A C++ program that includes everything, with the header compiled in advance and without.
fn header(caller: &mut Caller) {
    let code = "#include <bits/stdc++.h>\nint main() { std::map<int, std::string> m{{1, \"one\"}}; std::cout << m[1] << std::endl; }";
    let mut compile = |more: &str| {
        let times = (0..7).map(|turn| {
            // another text each time, so that nothing was compiled before
            let code = format!("{more}// {turn} {}\n{code}", std::process::id());
            let files = json!([{ "path": "main.cpp", "content": code }]);
            let report = run(caller, &json!({ "language": "cpp", "files": files }));
            assert_eq!(report["compile"]["cached"], false);
            report["compile"]["wall_ms"].as_f64().unwrap()
        });
        Sample(times.collect())
    };
    // a macro before the first include makes the compiler leave the prepared header alone
    let without = compile("#define NOT_AS_PREPARED 1\n#pragma GCC optimize(\"O2\")\n");
    let with = compile("");
    println!("\ncompiling a C++ program with bits/stdc++.h (ms)                            p50       p99     ratio");
    without.row("the header itself", None);
    with.row("the header compiled in advance", Some(&without));
}

/// 50 MB in, and 50 MB out, through the whole line: socket, daemon, engine, sandbox.
fn large(caller: &mut Caller) {
    const BYTES: usize = 50_000_000;
    let data = vec![b'x'; BYTES];
    let mut blob = Value::Null;
    let begun = Instant::now();
    for (at, piece) in data.chunks(3 << 20).enumerate() {
        let offset = at * (3 << 20);
        let eof = offset + piece.len() == BYTES;
        let mut params = json!({ "data_b64": BASE64.encode(piece), "offset": offset, "eof": eof });
        if !blob.is_null() {
            params["blob"] = blob.clone();
        }
        blob = caller.ok("blob.put", params)["blob"].clone();
    }
    let put = begun.elapsed();
    let mb = |time: f64| BYTES as f64 / 1e6 / time;
    println!("\n50 MB through the whole line (MB/s)");
    println!("  blob.put in pieces, as base64                             {:>9.0}", mb(put.as_secs_f64()));
    let limits = json!({ "output_bytes": 64_000_000, "cpu_ms": 20_000, "wall_ms": 20_000, "memory_bytes": 512 << 20 });
    let mut one = |name: &str, code: &str, stdin: Value| {
        let files = json!([{ "path": "main.sh", "content": code }]);
        let work = json!({ "language": "bash", "files": files, "limits": limits, "stdin": stdin });
        let best =
            (0..3).map(|_| run(caller, &work)["run"]["wall_ms"].as_f64().unwrap() / 1e3).fold(f64::MAX, f64::min);
        println!("  {name:<56} {:>9.0}", mb(best));
    };
    one("input, to a program that reads it", "cat > /dev/null", json!({ "blob": blob }));
    one("output, of a program that writes it", &format!("head -c {BYTES} /dev/zero"), json!(""));
    one("both at once", "cat", json!({ "blob": blob }));
}

/// A program at half of its CPU limit is accepted and one at twice of it is not, every time, with every core busy.
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
    println!("\n{TIMES} rejudgings with every core busy (CPU limit 200 ms)");
    for (share, ms, expected) in [("0.5", 100, "accepted"), ("2.0", 400, "time_limit")] {
        let files = json!([{ "path": "main.py", "content": burn(ms) }]);
        let work = json!({ "language": "python", "files": files, "limits": { "cpu_ms": 200, "wall_ms": 60_000 } });
        let next = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let lanes: Vec<_> = (0..2)
            .map(|_| {
                let (mut caller, work, next) = (daemon.caller(), work.clone(), next.clone());
                std::thread::spawn(move || {
                    let mut cpu = Vec::new();
                    let mut equal = 0;
                    while next.fetch_add(1, Ordering::Relaxed) < TIMES {
                        let report = caller.ok("submission.run", work.clone());
                        equal += usize::from(report["verdict"] == expected);
                        cpu.push(report["run"]["cpu_ms"].as_f64().unwrap());
                    }
                    (equal, cpu)
                })
            })
            .collect();
        let (mut equal, mut cpu) = (0, Vec::new());
        for lane in lanes {
            let (same, times) = lane.join().unwrap();
            equal += same;
            cpu.extend(times);
        }
        let cpu = Sample(cpu);
        let (low, high) = (cpu.at(0.0), cpu.at(1.0));
        println!("  {share} times the limit: {equal} of {TIMES} {expected}; CPU time {low:.0} to {high:.0} ms");
    }
    stop.store(true, Ordering::Relaxed);
    busy.into_iter().for_each(|thread| thread.join().unwrap());
}
