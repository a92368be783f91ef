//! The demonstration: judges submissions over the socket, checks every verdict, shows the timings,
//! and compares a warm run with `docker run` of the same hardening, and one and four callers with
//! bare execution.
//!
//! Run by `make demo`; by hand: `ASSAY_SOCKET=/run/assay/assay.sock cargo run --release --bin
//! demo`. Exit status: 0 if every verdict is as expected, 1 if not, 125 if the daemon cannot be
//! reached.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use cli::DEFAULT_SOCKET;
use cli::client::{ClientError, RpcClient};
use cli::out::{TextStyle, bytes_of, list, millis, millis_of, stdout_has_colors, text};
use cli::table::TextTable;
use serde_json::{Value, json};

/// Runs of each kind in the comparison.
const ROUNDS: usize = 10;

struct Case {
    name: &'static str,
    submission: Value,
    verdict: &'static str,
    /// Acceptable outcomes of the run that decides; empty if any is.
    outcomes: &'static [&'static str],
}

fn case(name: &'static str, verdict: &'static str, outcomes: &'static [&'static str], submission: Value) -> Case {
    Case { name, submission, verdict, outcomes }
}

fn program(language: &str, path: &str, content: &str) -> Value {
    json!({"language": language, "files": [{"path": path, "content": content}], "entry": path})
}

fn with(mut submission: Value, key: &str, value: Value) -> Value {
    submission[key] = value;
    submission
}

/// Three tests of a program that adds two numbers.
fn sums() -> Value {
    json!([
        {"name": "small", "stdin": "1 2\n", "expect": "3\n"},
        {"name": "negative", "stdin": "-5 3\n", "expect": "-2\n"},
        {"name": "large", "stdin": "99999999999 1\n", "expect": "100000000000\n", "secret": true},
    ])
}

const HOG: &str = "import sys\nblocks = []\nfor _ in range(64):\n    blocks.append(bytearray(b'x') * (8 << 20))\nprint(len(blocks))\n";
const FORK_BOMB: &str = "import os, time\nend = time.time() + 30\nwhile time.time() < end:\n    try:\n        os.fork()\n    except OSError:\n        pass\n";
const C_SUM: &str = "#include <stdio.h>\nint main(void) { long long a, b; if (scanf(\"%lld %lld\", &a, &b) != 2) return 1; printf(\"%lld\\n\", a + b); return 0; }\n";
const CPP_SUM: &str =
    "#include <iostream>\nint main() { long long a, b; std::cin >> a >> b; std::cout << a + b << \"\\n\"; }\n";
const JS_SUM: &str = "const [a, b] = require('fs').readFileSync(0, 'utf8').trim().split(/\\s+/).map(BigInt);\nconsole.log(String(a + b));\n";

fn cases() -> Vec<Case> {
    let python = |code: &str| program("python", "main.py", code);
    let tested = |submission: Value| with(submission, "tests", sums());
    let limits = |submission: Value, limits: Value| with(submission, "limits", limits);
    vec![
        case(
            "Python, right",
            "accepted",
            &["exited"],
            tested(python("a, b = map(int, input().split())\nprint(a + b)\n")),
        ),
        case(
            "Python, wrong",
            "wrong_answer",
            &["exited"],
            tested(python("a, b = map(int, input().split())\nprint(a - b)\n")),
        ),
        case("Python, exception", "runtime_error", &["exited"], python("print([][1])\n")),
        case(
            "endless loop",
            "time_limit",
            &["cpu_limit"],
            limits(python("while True:\n    pass\n"), json!({"cpu_ms": 1000, "wall_ms": 5000})),
        ),
        case(
            "endless sleep",
            "time_limit",
            &["wall_limit"],
            limits(python("import time\ntime.sleep(600)\n"), json!({"cpu_ms": 1000, "wall_ms": 1000})),
        ),
        case("memory hog", "memory_limit", &["memory_limit"], python(HOG)),
        case("output flood", "output_limit", &["output_limit"], python("while True:\n    print('x' * 65536)\n")),
        case(
            "fork bomb",
            "time_limit",
            &["cpu_limit", "wall_limit"],
            limits(python(FORK_BOMB), json!({"cpu_ms": 1000, "wall_ms": 3000})),
        ),
        case(
            "C, does not compile",
            "compile_error",
            &[],
            program("c", "main.c", "int main(void) { return undeclared; }\n"),
        ),
        case("C, right", "accepted", &["exited"], tested(program("c", "main.c", C_SUM))),
        case(
            "C, segfault",
            "runtime_error",
            &["signaled"],
            program("c", "main.c", "int main(void) { volatile int *p = 0; *p = 1; return 0; }\n"),
        ),
        case("C++, right", "accepted", &["exited"], tested(program("cpp", "main.cpp", CPP_SUM))),
        case("JavaScript, right", "accepted", &["exited"], tested(program("javascript", "main.js", JS_SUM))),
        case(
            "bash, right",
            "accepted",
            &["exited"],
            tested(program("bash", "main.sh", "read -r a b\necho $((a + b))\n")),
        ),
    ]
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let socket = match (args.next().as_deref(), args.next()) {
        (None, _) => std::env::var("ASSAY_SOCKET").unwrap_or_else(|_| DEFAULT_SOCKET.to_owned()),
        (Some("--socket"), Some(path)) => path,
        _ => {
            eprintln!("usage: demo [--socket PATH]");
            return ExitCode::from(2);
        }
    };
    match demo(&socket).await {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: failed to {error}");
            if let Some(remedy) = error.remedy() {
                eprintln!("  {remedy}");
            }
            ExitCode::from(125)
        }
    }
}

async fn demo(socket: &str) -> Result<usize, ClientError> {
    let mut client = RpcClient::connect(socket).await?;
    let mut table = TextTable::new(&[
        "submission",
        "",
        "verdict",
        "outcome",
        "cpu",
        "wall",
        "memory",
        "start",
        "queue",
        "lease",
        "copy in",
        "compile",
        "run",
        "total",
    ]);
    let mut wrong = Vec::new();
    for case in cases() {
        let report = match client.call("submission.run", case.submission).await {
            Ok(report) => report,
            Err(ClientError::Reply { code, message, .. }) => {
                wrong.push(format!("{}: refused ({code}): {message}", case.name));
                continue;
            }
            Err(error) => return Err(error),
        };
        let run = decisive(&report);
        let (verdict, outcome) = (text(&report, "verdict"), text(run, "outcome"));
        let is_expected =
            verdict == case.verdict && (case.outcomes.is_empty() || case.outcomes.contains(&outcome.as_str()));
        if !is_expected {
            wrong.push(format!(
                "{}: expected {} {:?}, got {verdict} ({outcome}): {}",
                case.name,
                case.verdict,
                case.outcomes,
                report["message"].as_str().unwrap_or_default()
            ));
        }
        let timing = &report["timing"];
        let mark =
            if is_expected { ("ok".into(), Some(TextStyle::Green)) } else { ("WRONG".into(), Some(TextStyle::Red)) };
        let plain = |cell: String| (cell, None);
        table.styled_row([
            plain(case.name.into()),
            mark,
            plain(verdict),
            plain(outcome),
            plain(millis_of(run, "cpu_ms")),
            plain(millis_of(run, "wall_ms")),
            plain(bytes_of(run, "memory_bytes")),
            plain(text(&report, "start")),
            plain(millis_of(timing, "queue_ms")),
            plain(millis_of(timing, "lease_ms")),
            plain(millis_of(timing, "copy_in_ms")),
            plain(millis_of(timing, "compile_ms")),
            plain(millis_of(timing, "run_ms")),
            plain(millis_of(timing, "total_ms")),
        ]);
    }
    println!("{}", table.render(stdout_has_colors()));
    println!(
        "cpu, wall and memory are those of the run that decided the verdict (the last one if all were accepted).\n"
    );
    for line in &wrong {
        println!("wrong: {line}");
    }
    compare(&mut client).await?;
    println!();
    beside_bare(&mut client, socket).await?;
    println!();
    match wrong.len() {
        0 => println!("every verdict is as expected"),
        n => println!("{n} verdicts are not as expected"),
    }
    Ok(wrong.len())
}

/// The run that decided the verdict: the first test that was not accepted, else the last test, else
/// the run or the compile step.
fn decisive(report: &Value) -> &Value {
    let tests = list(report, "tests");
    let not_accepted = tests.iter().find(|test| test["verdict"] != "accepted");
    match not_accepted.or(tests.last()) {
        Some(test) => test,
        None if report["run"].is_object() => &report["run"],
        None => &report["compile"],
    }
}

/// Compares `print(1)` in a warm sandbox with `docker run`.
async fn compare(client: &mut RpcClient) -> Result<(), ClientError> {
    println!("print(1) in Python, {ROUNDS} times each");
    let mut warm = Vec::new();
    let mut kinds = std::collections::BTreeMap::<String, usize>::new();
    for _ in 0..ROUNDS {
        wait_until_ready(client).await;
        let started = Instant::now();
        let report = client.call("submission.run", program("python", "main.py", "print(1)\n")).await?;
        warm.push(started.elapsed().as_secs_f64() * 1000.0);
        *kinds.entry(text(&report, "start")).or_default() += 1;
    }
    let warm_median = median(&mut warm);
    let kinds: Vec<String> = kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    println!(
        "  assay       median {:>9}  min {:>9}  ({} starts)",
        millis(warm_median),
        millis(warm[0]),
        kinds.join(", ")
    );
    let image = match python_image(client).await {
        Some(image) => image,
        None => {
            println!("  docker run  skipped: image.list names no image for python");
            return Ok(());
        }
    };
    if Command::new("docker").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        println!("  docker run  skipped: the docker command is not installed");
        return Ok(());
    }
    let mut cold = Vec::new();
    for _ in 0..ROUNDS {
        let started = Instant::now();
        let output = docker_run(&image);
        cold.push(started.elapsed().as_secs_f64() * 1000.0);
        match output {
            Ok(output) if output.status.success() && output.stdout == b"1\n" => {}
            Ok(output) => {
                let stderr = String::from_utf8_lossy(&output.stderr);
                println!("  docker run  skipped: it failed: {}", stderr.lines().last().unwrap_or("no message"));
                return Ok(());
            }
            Err(error) => {
                println!("  docker run  skipped: {error}");
                return Ok(());
            }
        }
    }
    let cold_median = median(&mut cold);
    println!("  docker run  median {:>9}  min {:>9}", millis(cold_median), millis(cold[0]));
    println!("  ratio       {:.1}", cold_median / warm_median);
    Ok(())
}

/// Callers in the comparison of a crowd, and the time of each part of it.
const CROWD: usize = 4;
const CROWD_SECONDS: f64 = 3.0;

/// The rate and the median time of `print(1)` executed bare, in one container of the same image.
fn bare(image: &str, callers: usize, seconds: f64) -> Option<(f64, f64)> {
    let output = Command::new("docker")
        .args(["run", "--rm", "--network=none", "--user=52000:52000", "--tmpfs=/dev/shm"])
        .args(["--env=PATH=/usr/local/bin:/usr/bin:/bin", "--entrypoint=/usr/bin/python3", image, "-c"])
        .arg(include_str!("bare.py"))
        .args([callers.to_string(), seconds.to_string()])
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (rate, median) = text.trim().split_once(' ')?;
    Some((rate.parse().ok()?, median.parse().ok()?))
}

/// The rate of one submission after the other by several callers.
async fn crowd(socket: &str, callers: usize, seconds: f64) -> Result<f64, ClientError> {
    let until = Instant::now() + std::time::Duration::from_secs_f64(seconds);
    let mut tasks = Vec::new();
    for _ in 0..callers {
        let mut client = RpcClient::connect(socket).await?;
        tasks.push(tokio::spawn(async move {
            let mut count = 0_u32;
            while Instant::now() < until {
                let report = client.call("submission.run", program("python", "main.py", "print(1)\n")).await?;
                count += u32::from(report["run"]["stdout"] == "1\n");
            }
            Ok::<u32, ClientError>(count)
        }));
    }
    let mut all = 0;
    for task in tasks {
        all += task.await.unwrap_or(Ok(0))?;
    }
    Ok(f64::from(all) / seconds)
}

/// One submission, and four callers back to back, beside the same program executed bare.
async fn beside_bare(client: &mut RpcClient, socket: &str) -> Result<(), ClientError> {
    let Some(image) = python_image(client).await else { return Ok(()) };
    // the first is the machine's to warm up
    let (_, Some((_, bare_ms))) = (bare(&image, 1, 1.0), bare(&image, 1, 2.0)) else {
        println!("beside bare execution: skipped, the docker command cannot run the image");
        return Ok(());
    };
    let mut alone = Vec::new();
    for _ in 0..2 * ROUNDS {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        let started = Instant::now();
        client.call("submission.run", program("python", "main.py", "print(1)\n")).await?;
        alone.push(started.elapsed().as_secs_f64() * 1000.0);
    }
    let alone_ms = median(&mut alone);
    let _ = crowd(socket, CROWD, 1.0).await?;
    let served = crowd(socket, CROWD, CROWD_SECONDS).await?;
    let Some((bare_rate, _)) = bare(&image, CROWD, CROWD_SECONDS) else { return Ok(()) };
    println!("print(1) in Python, beside the same executed bare in one container, without limits or isolation");
    let (alone, bare_alone) = (millis(alone_ms), millis(bare_ms));
    println!("  one submission  assay {alone:>9}    bare {bare_alone:>9}    {:.2} of bare", alone_ms / bare_ms);
    println!(
        "  {CROWD} callers       assay {served:>7.0}/s    bare {bare_rate:>7.0}/s    {:.2} times bare",
        served / bare_rate
    );
    Ok(())
}

/// Waits, for at most 5 s, until a Python sandbox is ready and none is being created, so that a
/// warm run on an idle machine is measured.
async fn wait_until_ready(client: &mut RpcClient) {
    for _ in 0..100 {
        let Ok(pools) = client.call("pool.list", json!({})).await else { return };
        let mut python = list(&pools, "pools").iter().filter(|pool| pool["profile"] == "python").peekable();
        if python.peek().is_none() {
            return;
        }
        let is_idle = list(&pools, "pools").iter().all(|pool| pool["creating"].as_u64().unwrap_or(0) == 0);
        if is_idle && python.any(|pool| pool["ready"].as_u64().unwrap_or(0) > 0) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

async fn python_image(client: &mut RpcClient) -> Option<String> {
    let images = client.call("image.list", json!({})).await.ok()?;
    let image = list(&images, "images").iter().find(|image| image["profile"] == "python")?.clone();
    ["tag", "id"].iter().find_map(|key| image[*key].as_str().map(str::to_owned))
}

fn docker_run(image: &str) -> std::io::Result<std::process::Output> {
    Command::new("docker")
        .args(["run", "--rm", "--network=none", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"])
        .args([
            "--memory=256m",
            "--memory-swap=256m",
            "--cpus=1",
            "--pids-limit=64",
            "--ipc=private",
            "--log-driver=none",
        ])
        .args(["--user=52000:52000", "--tmpfs=/tmp:rw,size=64m", "--tmpfs=/box:rw,exec,size=64m", "--workdir=/box"])
        .args(["--env=PATH=/usr/local/bin:/usr/bin:/bin", "--entrypoint=python3", image, "-c", "print(1)"])
        .stdin(Stdio::null())
        .output()
}

/// Sorts the times and returns the median.
fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(0.0)
}
