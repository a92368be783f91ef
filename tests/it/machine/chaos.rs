//! Faults at random on a private engine (`make chaos`), while three callers submit. The engine, its
//! shims, the inits and the daemon are killed or stopped, sandboxes are removed, the engine's disk
//! is filled, and the network is cut and stalled. The daemon uses the engine twice: as a host on
//! its Unix socket and as one behind TLS.
//!
//! Asserted: no verdict is wrong, no answer is lost while the daemon runs, and at the end the
//! engine holds nothing. `CHAOS_SECONDS` (default 20) sets the length, `CHAOS_SEED` (default 1) the
//! order, `CHAOS_ONLY` (0 to 8) selects one fault.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::harness::{Daemon, Options, root, submission, with};
use crate::private_engine::PrivateEngine;
use crate::relay::Relay;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A pseudo-random generator: the same numbers for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// A random submission and its expected verdict.
fn work(random: &mut Random) -> (Value, &'static str) {
    let test = |code: &str, expect: &str| {
        with(submission("bash", code), "tests", json!([{ "name": "1", "stdin": "7\n", "expect": expect }]))
    };
    match random.below(5) {
        0 => (test("read n; echo $((n * n))", "49\n"), "accepted"),
        1 => (test("read n; echo $((n + 1))", "49\n"), "wrong_answer"),
        2 => (submission("bash", "exit 3"), "runtime_error"),
        3 => (with(submission("bash", "while :; do :; done"), "limits", json!({ "cpu_ms": 300 })), "time_limit"),
        _ => (submission("bash", "sleep 0.3; echo slept"), "accepted"),
    }
}

#[derive(Debug, Default)]
struct Results {
    outcomes: BTreeMap<String, usize>,
    wrong: Vec<String>,
    lost: Vec<String>,
    cut_by_kill: usize,
}

/// State shared by the callers and the fault injection.
struct Scenario {
    socket: PathBuf,
    stop: AtomicBool,
    /// Twice the number of times the daemon was killed.
    kills: AtomicU32,
    results: Mutex<Results>,
}

/// One call on its own connection: the answer, or how the connection failed.
fn call(socket: &Path, method: &str, params: &Value) -> Result<Value, String> {
    let io = |what: &'static str| move |error: std::io::Error| format!("{what}: {error}");
    let stream = UnixStream::connect(socket).map_err(io("connect"))?;
    stream.set_read_timeout(Some(Duration::from_secs(100))).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let mut lines = BufReader::new(stream).lines();
    lines.next().ok_or("greeting: none")?.map_err(io("greeting"))?;
    let line = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    writer.write_all(format!("{line}\n").as_bytes()).map_err(io("send"))?;
    for line in lines {
        let line: Value = serde_json::from_str(&line.map_err(io("answer"))?).map_err(|error| error.to_string())?;
        if line["id"] == 1 {
            return Ok(line);
        }
    }
    Err("the connection ended before the answer".to_owned())
}

fn caller(scenario: &Scenario, seed: u64) {
    let mut random = Random(seed);
    while !scenario.stop.load(Ordering::SeqCst) {
        let (request, expected) = work(&mut random);
        // read before connecting: a kill from here on may lose the answer
        let kills = scenario.kills.load(Ordering::SeqCst);
        if UnixStream::connect(&scenario.socket).is_err() {
            // no daemon is running
            std::thread::sleep(Duration::from_millis(50));
            continue;
        }
        let answer = call(&scenario.socket, "submission.run", &with(request, "deadline_ms", json!(60_000)));
        let mut results = scenario.results.lock().unwrap();
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                // a dying daemon still accepts for some milliseconds without a greeting: nothing
                // was submitted
                let was_submitted = !error.starts_with("greeting") && !error.starts_with("connect");
                match was_submitted && scenario.kills.load(Ordering::SeqCst) == kills {
                    true => results.lost.push(error),
                    false => results.cut_by_kill += 1,
                }
                continue;
            }
        };
        let verdict = answer["result"]["verdict"].as_str();
        let outcome = verdict.or(answer["error"]["data"]["code"].as_str()).unwrap_or("?").to_owned();
        // a system_error is fair if it does not blame the caller and has a message
        let is_fair = match verdict {
            Some("system_error") => answer["result"]["blame"] != "caller" && answer["result"]["message"].is_string(),
            Some(verdict) => verdict == expected,
            None => ["no_host", "queue_full", "deadline_unreachable", "draining"].contains(&outcome.as_str()),
        };
        if !is_fair {
            results.wrong.push(format!("expected {expected}: {answer}"));
        }
        *results.outcomes.entry(outcome).or_default() += 1;
        drop(results);
        if verdict.is_none() {
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// The engine and its network, with the faults that can be injected.
struct Target {
    engine: PrivateEngine,
    host: String,
    network: Relay,
}

impl Target {
    fn docker(&self, arguments: &[&str]) -> Vec<String> {
        let mut command = Command::new("timeout");
        command.args(["5", "docker", "--host", &self.host]).args(arguments);
        let done = command.output().unwrap();
        String::from_utf8_lossy(&done.stdout).lines().map(str::to_owned).collect()
    }

    fn any_container(&self, random: &mut Random) -> Option<String> {
        let mut all = self.docker(&["ps", "--quiet", "--no-trunc"]);
        (!all.is_empty()).then(|| all.swap_remove(random.below(all.len() as u64) as usize))
    }

    fn shim_of(&self, id: &str) -> Option<Pid> {
        let done = Command::new("pgrep").args(["-f", &format!("containerd-shim.*-id {id}")]).output().ok()?;
        String::from_utf8_lossy(&done.stdout).lines().next()?.parse().ok().map(Pid::from_raw)
    }

    /// Fills the engine's disk for `time`.
    fn fill(&self, time: Duration) {
        let file = self.engine.data().join("filler");
        let _ = Command::new("dd").args(["if=/dev/zero", "bs=1M"]).arg(format!("of={}", file.display())).output();
        std::thread::sleep(time);
        let _ = std::fs::remove_file(file);
    }
}

/// Injects a random fault; returns its description.
fn inject_fault(target: &mut Target, daemon: &mut Daemon, scenario: &Scenario, random: &mut Random) -> &'static str {
    let ms = Duration::from_millis;
    let kind = random.below(9);
    match number("CHAOS_ONLY", kind) {
        0 => {
            target.engine.restart();
            "dockerd killed and started again"
        }
        1 => {
            let pid = Pid::from_raw(target.engine.pid());
            kill(pid, Signal::SIGSTOP).unwrap();
            std::thread::sleep(ms(500 + random.below(2500)));
            kill(pid, Signal::SIGCONT).unwrap();
            "dockerd stopped for a while"
        }
        2 => {
            if let Some(shim) = target.any_container(random).and_then(|id| target.shim_of(&id)) {
                let _ = kill(shim, Signal::SIGKILL);
            }
            "a shim killed"
        }
        3 => {
            let id = target.any_container(random).unwrap_or_default();
            let pid =
                target.docker(&["inspect", "--format", "{{.State.Pid}}", &id]).pop().and_then(|pid| pid.parse().ok());
            if let Some(pid) = pid.filter(|pid| *pid > 1) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            "an init killed"
        }
        4 => {
            if let Some(id) = target.any_container(random) {
                target.docker(&["rm", "--force", &id]);
            }
            "a sandbox removed"
        }
        5 => {
            scenario.kills.fetch_add(1, Ordering::SeqCst);
            daemon.kill9();
            // counted again: a caller that read the counter between kill and restart was cut as
            // well
            scenario.kills.fetch_add(1, Ordering::SeqCst);
            daemon.start_again();
            "assayd killed and started again"
        }
        6 => {
            target.network.cut();
            "every TLS connection cut"
        }
        7 => {
            target.network.stall(ms(500 + random.below(2500)));
            "the network stalled for a while"
        }
        _ => {
            target.fill(ms(500 + random.below(1500)));
            "the engine's disk full for a while"
        }
    }
}

#[test]
fn under_faults_no_verdict_is_wrong_no_answer_is_lost_and_nothing_is_left() {
    let (seconds, seed) = (number("CHAOS_SECONDS", 20), number("CHAOS_SEED", 1));
    crate::harness::images();
    let certs = tempfile::tempdir().unwrap();
    let done = Command::new(root().join("scripts/docker-certs")).arg(certs.path()).arg("127.0.0.1").output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let server = |file: &str| certs.path().join("server").join(file).display().to_string();
    let files = [("--tlscacert", "ca.pem"), ("--tlscert", "cert.pem"), ("--tlskey", "key.pem")]
        .map(|(option, file)| format!("{option}={}", server(file)));
    let engine = PrivateEngine::start_on_small_disk(
        2 << 30,
        &["--host=tcp://127.0.0.1:2376", "--tlsverify", &files[0], &files[1], &files[2]],
    );
    let host = format!("unix://{}", engine.socket().display());
    let network = Relay::start(engine.pid_file(), 2376);
    let hosts = format!(
        "[[hosts]]\nname='near'\nhost='{host}'\n[[hosts]]\nname='far'\nhost='tcp://127.0.0.1:{}'\ntls_dir='{}'\n",
        network.port(),
        certs.path().join("client").display()
    );
    crate::private_engine::load_images(&engine, "base|bash");
    let mut target = Target { engine, host, network };
    let mut daemon =
        Daemon::start(&Options { profiles: "bash", floor: 2, ceiling: 4, config: &hosts, ..Options::default() });
    daemon.warm();
    let scenario = Arc::new(Scenario {
        socket: daemon.socket(),
        stop: AtomicBool::new(false),
        kills: AtomicU32::new(0),
        results: Mutex::default(),
    });
    let callers: Vec<_> = (1..=3)
        .map(|n| {
            let scenario = scenario.clone();
            std::thread::spawn(move || caller(&scenario, seed * 1000 + n))
        })
        .collect();

    let begun = Instant::now();
    let mut random = Random(seed);
    let mut faults: BTreeMap<&str, usize> = BTreeMap::new();
    while begun.elapsed() < Duration::from_secs(seconds) {
        std::thread::sleep(Duration::from_millis(300 + random.below(2000)));
        *faults.entry(inject_fault(&mut target, &mut daemon, &scenario, &mut random)).or_default() += 1;
    }
    let quiet_since = Instant::now();
    let healthy = submission("bash", "echo recovered");
    let recovered = loop {
        let answer = call(&scenario.socket, "submission.run", &with(healthy.clone(), "deadline_ms", json!(30_000)));
        if answer.is_ok_and(|answer| answer["result"]["verdict"] == "accepted") {
            break quiet_since.elapsed();
        }
        assert!(quiet_since.elapsed() < Duration::from_secs(90), "the daemon does not recover\n{}", daemon.log());
        std::thread::sleep(Duration::from_millis(100));
    };
    scenario.stop.store(true, Ordering::SeqCst);
    for caller in callers {
        caller.join().unwrap();
    }
    let status = call(&scenario.socket, "daemon.status", &json!({})).unwrap();
    daemon.terminate();
    let left = target.docker(&["ps", "--all", "--quiet"]);
    let results = scenario.results.lock().unwrap();
    eprintln!("chaos: {seconds} s, seed {seed}");
    for (what, count) in &faults {
        eprintln!("  {count:4}  {what}");
    }
    eprintln!("answers: {:?}", results.outcomes);
    eprintln!("counters of the last daemon: {}", status["result"]["counters"]);
    eprintln!(
        "wrong verdicts {}, lost answers {}, cut off by a killed daemon {}, containers left {}, recovered after {} ms",
        results.wrong.len(),
        results.lost.len(),
        results.cut_by_kill,
        left.len(),
        recovered.as_millis()
    );
    assert_eq!(results.wrong, Vec::<String>::new(), "{}", daemon.log());
    assert_eq!((&results.lost, &left), (&Vec::new(), &Vec::new()), "{}", daemon.log());
    assert!(results.outcomes.get("accepted").is_some_and(|count| *count > 5), "{:?}", results.outcomes);
}
