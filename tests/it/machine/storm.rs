//! Chaos on a real engine of its own (`make chaos`): three callers submit without a pause while the engine, its shims, the
//! inits and the daemon itself are killed, stopped, removed behind our back, the engine's disk is filled, and the network is
//! cut and stalled. The daemon has the engine twice: as a host on its Unix socket and as one behind TLS.
//!
//! What must hold: no verdict is ever wrong, no answer is lost while the daemon lives, and at the end the engine holds
//! nothing. `CHAOS_SECONDS` (default 20) and `CHAOS_SEED` (default 1) set its length and its order, `CHAOS_ONLY` (0 to 8) picks one
//! kind of storm.

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

/// Numbers that are the same for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// Submissions whose verdict is known.
fn work(dice: &mut Dice) -> (Value, &'static str) {
    let test = |code: &str, expect: &str| {
        with(submission("bash", code), "tests", json!([{ "name": "1", "stdin": "7\n", "expect": expect }]))
    };
    match dice.roll(5) {
        0 => (test("read n; echo $((n * n))", "49\n"), "accepted"),
        1 => (test("read n; echo $((n + 1))", "49\n"), "wrong_answer"),
        2 => (submission("bash", "exit 3"), "runtime_error"),
        3 => (with(submission("bash", "while :; do :; done"), "limits", json!({ "cpu_ms": 300 })), "time_limit"),
        _ => (submission("bash", "sleep 0.3; echo slept"), "accepted"),
    }
}

#[derive(Debug, Default)]
struct Tally {
    outcomes: BTreeMap<String, usize>,
    wrong: Vec<String>,
    lost: Vec<String>,
    cut_by_a_killed_daemon: usize,
}

/// What the callers and whoever makes the storm know of each other.
struct Scene {
    socket: PathBuf,
    over: AtomicBool,
    /// How often the daemon was killed.
    kills: AtomicU32,
    tally: Mutex<Tally>,
}

/// One call on a connection of its own: its answer, or how the connection broke.
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

fn caller(scene: &Scene, seed: u64) {
    let mut dice = Dice(seed);
    while !scene.over.load(Ordering::SeqCst) {
        let (request, expected) = work(&mut dice);
        // counted before the connection: a daemon that is killed from here on has taken the answer along
        let kills = scene.kills.load(Ordering::SeqCst);
        if UnixStream::connect(&scene.socket).is_err() {
            // between two daemons
            std::thread::sleep(Duration::from_millis(50));
            continue;
        }
        let answer = call(&scene.socket, "submission.run", &with(request, "deadline_ms", json!(60_000)));
        let mut tally = scene.tally.lock().unwrap();
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                // a daemon that is dying still accepts for some milliseconds, and greets nobody: nothing was handed in
                let handed_in = !error.starts_with("greeting") && !error.starts_with("connect");
                match handed_in && scene.kills.load(Ordering::SeqCst) == kills {
                    true => tally.lost.push(error),
                    false => tally.cut_by_a_killed_daemon += 1,
                }
                continue;
            }
        };
        let verdict = answer["result"]["verdict"].as_str();
        let word = verdict.or(answer["error"]["data"]["code"].as_str()).unwrap_or("?").to_owned();
        // our own fault may be said, but only as such, and with evidence
        let fair = match verdict {
            Some("system_error") => answer["result"]["blame"] != "caller" && answer["result"]["message"].is_string(),
            Some(verdict) => verdict == expected,
            None => ["no_host", "queue_full", "deadline_unreachable", "draining"].contains(&word.as_str()),
        };
        if !fair {
            tally.wrong.push(format!("expected {expected}: {answer}"));
        }
        *tally.outcomes.entry(word).or_default() += 1;
        drop(tally);
        if verdict.is_none() {
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// The engine, and what can be done to it.
struct Victim {
    engine: PrivateEngine,
    host: String,
    network: Relay,
}

impl Victim {
    fn docker(&self, arguments: &[&str]) -> Vec<String> {
        let mut command = Command::new("timeout");
        command.args(["5", "docker", "--host", &self.host]).args(arguments);
        let done = command.output().unwrap();
        String::from_utf8_lossy(&done.stdout).lines().map(str::to_owned).collect()
    }

    fn any(&self, dice: &mut Dice) -> Option<String> {
        let mut all = self.docker(&["ps", "--quiet", "--no-trunc"]);
        (!all.is_empty()).then(|| all.swap_remove(dice.roll(all.len() as u64) as usize))
    }

    fn shim_of(&self, id: &str) -> Option<Pid> {
        let done = Command::new("pgrep").args(["-f", &format!("containerd-shim.*-id {id}")]).output().ok()?;
        String::from_utf8_lossy(&done.stdout).lines().next()?.parse().ok().map(Pid::from_raw)
    }

    /// Fills the disk for a while.
    fn fill(&self, time: Duration) {
        let file = self.engine.data().join("filler");
        let _ = Command::new("dd").args(["if=/dev/zero", "bs=1M"]).arg(format!("of={}", file.display())).output();
        std::thread::sleep(time);
        let _ = std::fs::remove_file(file);
    }
}

fn storm(victim: &mut Victim, daemon: &mut Daemon, scene: &Scene, dice: &mut Dice) -> &'static str {
    let ms = Duration::from_millis;
    let kind = dice.roll(9);
    match number("CHAOS_ONLY", kind) {
        0 => {
            victim.engine.restart();
            "dockerd killed and started again"
        }
        1 => {
            let pid = Pid::from_raw(victim.engine.pid());
            kill(pid, Signal::SIGSTOP).unwrap();
            std::thread::sleep(ms(500 + dice.roll(2500)));
            kill(pid, Signal::SIGCONT).unwrap();
            "dockerd stopped for a while"
        }
        2 => {
            if let Some(shim) = victim.any(dice).and_then(|id| victim.shim_of(&id)) {
                let _ = kill(shim, Signal::SIGKILL);
            }
            "a shim killed"
        }
        3 => {
            let id = victim.any(dice).unwrap_or_default();
            let pid =
                victim.docker(&["inspect", "--format", "{{.State.Pid}}", &id]).pop().and_then(|pid| pid.parse().ok());
            if let Some(pid) = pid.filter(|pid| *pid > 1) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            "an init killed"
        }
        4 => {
            if let Some(id) = victim.any(dice) {
                victim.docker(&["rm", "--force", &id]);
            }
            "a sandbox removed behind our back"
        }
        5 => {
            scene.kills.fetch_add(1, Ordering::SeqCst);
            daemon.kill9();
            // who looked in between saw the first, and was cut all the same
            scene.kills.fetch_add(1, Ordering::SeqCst);
            daemon.start_again();
            "assayd killed and started again"
        }
        6 => {
            victim.network.cut();
            "every TLS connection cut"
        }
        7 => {
            victim.network.stall(ms(500 + dice.roll(2500)));
            "the network stalled for a while"
        }
        _ => {
            victim.fill(ms(500 + dice.roll(1500)));
            "the engine's disk full for a while"
        }
    }
}

#[test]
fn whatever_is_killed_no_verdict_is_wrong_no_answer_is_lost_and_nothing_is_left() {
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
    let mut victim = Victim { engine, host, network };
    let mut daemon =
        Daemon::start(&Options { profiles: "bash", floor: 2, ceiling: 4, config: &hosts, ..Options::default() });
    daemon.warm();
    let scene = Arc::new(Scene {
        socket: daemon.socket(),
        over: AtomicBool::new(false),
        kills: AtomicU32::new(0),
        tally: Mutex::default(),
    });
    let callers: Vec<_> = (1..=3)
        .map(|n| {
            let scene = scene.clone();
            std::thread::spawn(move || caller(&scene, seed * 1000 + n))
        })
        .collect();

    let begun = Instant::now();
    let mut dice = Dice(seed);
    let mut storms: BTreeMap<&str, usize> = BTreeMap::new();
    while begun.elapsed() < Duration::from_secs(seconds) {
        std::thread::sleep(Duration::from_millis(300 + dice.roll(2000)));
        *storms.entry(storm(&mut victim, &mut daemon, &scene, &mut dice)).or_default() += 1;
    }
    let calm = Instant::now();
    let healthy = submission("bash", "echo calm");
    let recovered = loop {
        let answer = call(&scene.socket, "submission.run", &with(healthy.clone(), "deadline_ms", json!(30_000)));
        if answer.is_ok_and(|answer| answer["result"]["verdict"] == "accepted") {
            break calm.elapsed();
        }
        assert!(calm.elapsed() < Duration::from_secs(90), "it does not recover\n{}", daemon.log());
        std::thread::sleep(Duration::from_millis(100));
    };
    scene.over.store(true, Ordering::SeqCst);
    for caller in callers {
        caller.join().unwrap();
    }
    let status = call(&scene.socket, "daemon.status", &json!({})).unwrap();
    daemon.terminate();
    let left = victim.docker(&["ps", "--all", "--quiet"]);
    let tally = scene.tally.lock().unwrap();
    eprintln!("chaos: {seconds} s, seed {seed}");
    for (what, count) in &storms {
        eprintln!("  {count:4}  {what}");
    }
    eprintln!("answers by word: {:?}", tally.outcomes);
    eprintln!("counters of the last daemon: {}", status["result"]["counters"]);
    eprintln!(
        "wrong verdicts {}, lost answers {}, cut off by a killed daemon {}, containers left {}, recovered after {} ms",
        tally.wrong.len(),
        tally.lost.len(),
        tally.cut_by_a_killed_daemon,
        left.len(),
        recovered.as_millis()
    );
    assert_eq!(tally.wrong, Vec::<String>::new(), "{}", daemon.log());
    assert_eq!((&tally.lost, &left), (&Vec::new(), &Vec::new()), "{}", daemon.log());
    assert!(tally.outcomes.get("accepted").is_some_and(|count| *count > 5), "{:?}", tally.outcomes);
}
