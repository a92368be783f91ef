//! The daemon, its engine or a sandbox is killed or stopped: nothing is left behind, every answer
//! is correct, and the daemon recovers. `machine/chaos.rs` does so at random.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Caller, Cleanup, Daemon, Options, containers, eventually, submission, watch_cleanup, with};

/// Time after a kill until nothing of the daemon is left on its engine, not counting late answers
/// of the engine (docs/ARCHITECTURE.md).
const CLEANUP_BOUND: Duration = Duration::from_secs(3);
/// Sandboxes that are left after this time fail the test in any round.
const PATIENCE: Duration = Duration::from_secs(90);
/// Number of rounds. One must be within the bound; other load on the machine may delay the rest.
const ROUNDS: usize = 3;

/// Kills daemons started by `start` and asserts that nothing is left of one within the bound, and
/// of the others eventually. The caller that `start` returns stays connected until the kill.
fn assert_cleaned_up_in_time(start: impl Fn() -> (Daemon, Caller)) {
    let mut figures = Vec::new();
    for _ in 0..ROUNDS {
        let (mut daemon, caller) = start();
        let label = daemon.label.clone();
        let count = containers(&label).len() as u32;
        daemon.kill9();
        let Cleanup { took, engine_call } = watch_cleanup(&label, Instant::now(), PATIENCE);
        drop(caller);
        // removing a sandbox takes the engine at least the time of one call
        let bound = CLEANUP_BOUND + engine_call * count;
        if took <= bound {
            return;
        }
        figures.push(format!("{took:?} for {count} sandboxes, bound {bound:?}"));
    }
    panic!("sandboxes were left for too long in every round: {figures:?}");
}

#[test]
fn a_daemon_killed_during_ten_runs_and_a_refill_leaves_nothing_within_three_seconds() {
    assert_cleaned_up_in_time(|| {
        let daemon = Daemon::start(&Options { floor: 4, ceiling: 14, ..Options::default() });
        daemon.warm();
        let mut caller = daemon.caller();
        let limits = json!({ "cpu_ms": 60000, "wall_ms": 60000 });
        let endless = with(submission("python", "while True: pass"), "limits", limits);
        for _ in 0..10 {
            caller.send("submission.run", &endless);
        }
        let mut observer = daemon.caller();
        eventually("some run while others are being created", || {
            let pool = observer.ok("pool.list", json!({}))["pools"][0].clone();
            pool["leased"].as_u64() >= Some(4) && pool["creating"].as_u64() >= Some(1)
        });
        assert!(!daemon.containers().is_empty());
        (daemon, caller)
    });
}

#[test]
fn a_daemon_killed_at_any_moment_of_a_creation_leaves_nothing_within_three_seconds() {
    for pause in [0, 30, 80, 150, 250] {
        assert_cleaned_up_in_time(|| {
            let daemon = Daemon::start(&Options { floor: 3, ..Options::default() });
            let mut caller = daemon.caller();
            eventually("a creation is under way", || {
                caller.ok("pool.list", json!({}))["pools"][0]["creating"].as_u64() >= Some(1)
            });
            std::thread::sleep(Duration::from_millis(pause));
            (daemon, caller)
        });
    }
}

#[test]
fn a_stopped_daemon_answers_every_caller_and_leaves_nothing() {
    let mut daemon = Daemon::start(&Options { floor: 2, ..Options::default() });
    daemon.warm();
    let mut caller = daemon.caller();
    let id = caller.send("submission.run", &submission("python", "import time; time.sleep(4); print('answered')"));
    let mut observer = daemon.caller();
    eventually("the submission runs", || observer.ok("daemon.status", json!({}))["queue"]["running"] == 1);
    let label = daemon.label.clone();
    let pid = nix::unistd::Pid::from_raw(daemon.child.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert_eq!(caller.answer(id)["result"]["run"]["stdout"], "answered\n");
    let status = daemon.child.wait().unwrap();
    assert!(status.success(), "{status}");
    assert_eq!(containers(&label), Vec::<String>::new());
    assert!(!daemon.socket().exists());
}

#[test]
fn a_stopped_daemon_waits_for_a_caller_that_reads_slowly() {
    let mut daemon = Daemon::start(&Options { profiles: "bash", floor: 1, ..Options::default() });
    daemon.warm();
    let mut caller = daemon.caller();
    // more than a socket buffers
    let id = caller.send("submission.run", &submission("bash", "head -c 900000 /dev/zero | tr '\\0' x"));
    let mut observer = daemon.caller();
    eventually("the submission is answered", || observer.ok("daemon.status", json!({}))["counters"]["answered"] == 1);
    let pid = nix::unistd::Pid::from_raw(daemon.child.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    std::thread::sleep(Duration::from_secs(2));
    let report = caller.answer(id)["result"].clone();
    assert_eq!(report["run"]["stdout"].as_str().map(str::len), Some(900_000), "{}", report["verdict"]);
    assert!(daemon.child.wait().unwrap().success());
}

#[test]
fn without_an_engine_the_daemon_stays_up_reports_it_and_recovers_when_the_engine_is_back() {
    crate::harness::images();
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("docker.sock");
    let engine = format!("unix://{}", socket.display());
    let daemon = Daemon::start_bare(&Options { floor: 1, engine: Some(&engine), ..Options::default() });
    let mut caller = daemon.caller();
    eventually("the engine was probed", || {
        let health = caller.ok("daemon.health", json!({}));
        health["checks"][0]["message"].as_str().is_some_and(|message| message.contains("socket does not exist"))
    });
    let health = caller.ok("daemon.health", json!({}));
    assert_eq!((&health["status"], &health["docker"]), (&json!("unhealthy"), &json!("disconnected")), "{health}");
    let error = caller.error("submission.run", submission("python", "print(1)"));
    assert_eq!(error["data"]["code"], "no_host");
    let message = error["message"].as_str().unwrap();
    for part in ["Please make sure Docker is running", &engine, "systemctl start docker"] {
        assert!(message.contains(part), "{part:?} is missing: {message}");
    }
    let file = folder.path().join("a.py");
    std::fs::write(&file, "print(1)").unwrap();
    let output = Command::new(crate::programs::program("assay"))
        .arg("--socket")
        .arg(daemon.socket())
        .arg("run")
        .arg(&file)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(125), "{output:?}");

    std::os::unix::fs::symlink("/var/run/docker.sock", &socket).unwrap();
    let back = Instant::now();
    eventually("the daemon is healthy", || caller.ok("daemon.health", json!({}))["docker"] == "connected");
    eprintln!("the engine's return was noticed after {} ms", back.elapsed().as_millis());
    assert_eq!(caller.run("python", "print(1)")["verdict"], "accepted");

    std::fs::remove_file(&socket).unwrap();
    eventually("the daemon notices the loss", || caller.ok("daemon.health", json!({}))["status"] == "unhealthy");
}

#[test]
fn a_second_daemon_with_the_same_state_folder_does_not_start() {
    let daemon = Daemon::start_bare(&Options { floor: 0, ..Options::default() });
    let output = Command::new(crate::programs::program("assayd"))
        .arg("--config")
        .arg(daemon.folder.path().join("assayd.toml"))
        .env("ASSAY_SOCKET", daemon.folder.path().join("other.sock"))
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("another daemon"), "{output:?}");
}

#[test]
fn a_sandbox_that_dies_in_the_pool_is_replaced() {
    let daemon = Daemon::start(&Options { floor: 1, ..Options::default() });
    daemon.warm();
    let victim = daemon.containers()[0].clone();
    crate::harness::engine(&format!("POST /containers/{victim}/kill"));
    let mut caller = daemon.caller();
    eventually("another one is ready", || {
        let ready = caller.ok("sandbox.list", json!({}));
        ready["sandboxes"].as_array().is_some_and(|rows| {
            rows.iter().any(|row| row["state"] == "ready" && !victim.starts_with(row["id"].as_str().unwrap_or("-")))
        })
    });
    assert_eq!(caller.run("python", "print(1)")["verdict"], "accepted");
}

#[test]
fn a_run_whose_sandbox_is_killed_is_retried_once() {
    let daemon = Daemon::start(&Options { floor: 1, ..Options::default() });
    daemon.warm();
    let mut caller = daemon.caller();
    let id = caller.send("submission.run", &submission("python", "import time; time.sleep(2); print('second try')"));
    let mut observer = daemon.caller();
    let mut victim = String::new();
    eventually("the submission runs", || {
        let rows = observer.ok("sandbox.list", json!({}));
        let row = rows["sandboxes"].as_array().unwrap().iter().find(|row| row["state"] == "leased").cloned();
        victim = row.map(|row| row["id"].as_str().unwrap().to_owned()).unwrap_or_default();
        !victim.is_empty()
    });
    crate::harness::engine(&format!("POST /containers/{victim}/kill"));
    let report = caller.answer(id)["result"].clone();
    assert_eq!(
        (&report["verdict"], &report["run"]["stdout"]),
        (&json!("accepted"), &json!("second try\n")),
        "{report:#}"
    );
}
