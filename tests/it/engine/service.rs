//! The daemon under a fake service manager: the socket that is passed, the notifications that are
//! sent, and the start before any engine answers. `machine::systemd` has the real manager.

use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Daemon, Options, containers, engine_socket, eventually, images, root, submission, with};

/// Sets the flag when the test ends, also by a panic, so that the other threads end with it.
struct AtEnd<'a>(&'a AtomicBool);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_restart_under_load_refuses_and_loses_no_submission() {
    let config = "[queue]\ndrain_ms=300\n";
    let options = Options { profiles: "bash", floor: 2, ceiling: 2, is_passed: true, config, ..Options::default() };
    let mut daemon = Daemon::start(&options);
    daemon.warm();
    let (over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let path = &daemon.socket();
    let submitted = std::thread::scope(|scope| {
        let _over = AtEnd(&over);
        let (daemon_ref, over, answered) = (&mut daemon, &over, &answered);
        let callers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(move || {
                    while !over.load(Ordering::SeqCst) {
                        let mut caller = Daemon::caller_at(path);
                        let report = caller.run("bash", "echo hello");
                        // when a drain ends, submissions whose callers wait are cancelled
                        assert!(["accepted", "cancelled"].contains(&report["verdict"].as_str().unwrap()), "{report}");
                        answered.fetch_add(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        let submitter = scope.spawn(move || {
            let mut ids: Vec<String> = Vec::new();
            while !over.load(Ordering::SeqCst) {
                let mut caller = Daemon::caller_at(path);
                // at most six at a time, so that the machine keeps up; each is known all the
                // time, before and after a restart
                let (mut state, last) = (json!("done"), ids.iter().rev().nth(5));
                if let Some(last) = last {
                    state = caller.ok("submission.get", json!({ "id": last }))["state"].clone();
                }
                if state == "done" {
                    // a connection for each call: once the shutdown has begun, one that has made a
                    // call is closed after a second
                    let mut caller = Daemon::caller_at(path);
                    let id = format!("kept-{}", ids.len());
                    let work = with(submission("bash", "sleep 0.1; echo done"), "id", json!(id));
                    assert_eq!(caller.ok("submission.submit", work)["id"], id.as_str());
                    ids.push(id);
                }
                std::thread::sleep(Duration::from_millis(30));
            }
            ids
        });
        for _ in 0..3 {
            let before = answered.load(Ordering::SeqCst);
            eventually("callers are answered", || answered.load(Ordering::SeqCst) > before + 5);
            daemon_ref.terminate();
            assert!(daemon_ref.socket().exists(), "the daemon removed a socket that is not its own");
            // without a daemon for a while: callers connect, and wait
            std::thread::sleep(Duration::from_millis(200));
            daemon_ref.start_again();
        }
        over.store(true, Ordering::SeqCst);
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        submitter.join().unwrap()
    });
    let mut caller = daemon.caller();
    for id in submitted {
        let report = caller.ok("submission.wait", json!({ "id": id }));
        assert_eq!(
            (&report["verdict"], &report["run"]["stdout"]),
            (&json!("accepted"), &json!("done\n")),
            "{id}: {report}"
        );
    }
}

#[test]
fn a_connection_accepted_just_before_the_shutdown_may_still_make_its_first_call() {
    let daemon = Daemon::start(&Options { profiles: "bash", is_passed: true, ..Options::default() });
    daemon.warm();
    let (mut slow, mut observer) = (daemon.caller(), daemon.caller());
    let pid = nix::unistd::Pid::from_raw(daemon.child.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    // `slow` must not send anything yet: another connection, made before the signal, calls
    eventually("the hand-over begins", || observer.ok("daemon.status", json!({}))["phase"] == "handing_over");
    // longer than the daemon waits for connections that have made a call
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(slow.run("bash", "echo hello")["verdict"], "accepted");
}

#[test]
fn an_unfetched_report_with_large_output_survives_a_restart() {
    let mut daemon = Daemon::start(&Options { profiles: "bash", ..Options::default() });
    let mut caller = daemon.caller();
    let large = submission("bash", "head -c 3000000 /dev/zero | tr '\\0' x");
    let work = with(with(large, "id", json!("large")), "limits", json!({ "output_bytes": 4_000_000 }));
    caller.ok("submission.submit", work.clone());
    let report = caller.ok("submission.wait", json!({ "id": "large" }));
    let blob = report["run"]["stdout"]["blob"].as_str().expect("its output is a blob").to_owned();
    daemon.terminate();
    daemon.start_again();
    let mut caller = daemon.caller();
    assert_eq!(caller.ok("submission.get", json!({ "id": "large" }))["report"], report);
    let first = caller.ok("blob.get", json!({ "blob": blob, "max": 3 }));
    assert_eq!(first["data_b64"], "eHh4");
    // the same id and content is the same submission; the same id with other content is a conflict
    assert_eq!(caller.ok("submission.run", work.clone())["run"]["stdout"]["blob"], blob.as_str());
    let other = with(work, "stdin", json!("other"));
    assert_eq!(caller.error("submission.run", other)["data"]["code"], "conflict");
}

/// The manager's end of the notification socket.
struct Manager {
    notifications: std::sync::mpsc::Receiver<String>,
    folder: tempfile::TempDir,
}

impl Manager {
    fn new() -> Manager {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        // read all the time: a full socket buffer would block the daemon
        let (sender, notifications) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok(length) = socket.recv(&mut buffer) {
                let text = String::from_utf8(buffer[..length].to_vec()).unwrap();
                if sender.send(text).is_err() {
                    return;
                }
            }
        });
        Manager { notifications, folder }
    }

    fn path(&self) -> String {
        self.folder.path().join("notify").display().to_string()
    }

    fn notification(&self) -> String {
        self.notifications.recv_timeout(Duration::from_secs(90)).expect("a notification of the daemon")
    }

    /// The next notification other than WATCHDOG=1.
    fn next_but_watchdog(&self) -> String {
        std::iter::repeat_with(|| self.notification()).find(|text| text != "WATCHDOG=1\n").unwrap()
    }
}

#[test]
fn the_service_manager_gets_the_status_and_a_daemon_without_an_engine_stays_up() {
    let manager = Manager::new();
    let notify = manager.path();
    let env = [("NOTIFY_SOCKET", notify.as_str()), ("WATCHDOG_USEC", "600000")];
    let engine = "unix:///nowhere/docker.sock";
    let mut daemon = Daemon::start_bare(&Options { engine: Some(engine), env: &env, ..Options::default() });
    assert_eq!(manager.next_but_watchdog(), "READY=1\n");
    for _ in 0..3 {
        assert_eq!(manager.notification(), "WATCHDOG=1\n");
    }
    daemon.caller().ok("daemon.reload", json!({}));
    let reloading = manager.next_but_watchdog();
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert_eq!(manager.next_but_watchdog(), "READY=1\n");
    // an invalid configuration is not applied, and the daemon is ready again
    let path = daemon.folder.path().join("assayd.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{text}\n[nonsense]\n")).unwrap();
    daemon.caller().error("daemon.reload", json!({}));
    assert!(manager.next_but_watchdog().starts_with("RELOADING=1\n"));
    assert_eq!(manager.next_but_watchdog(), "READY=1\n");
    daemon.terminate();
    let stopping = manager.next_but_watchdog();
    assert!(stopping.starts_with("STOPPING=1\nEXTEND_TIMEOUT_USEC=50000000"), "{stopping}");
}

/// A relay to the engine that forwards nothing until `open` is set.
struct GatedRelay {
    open: Arc<AtomicBool>,
    /// Connections so far.
    connections: Arc<AtomicUsize>,
    engine: String,
    _folder: tempfile::TempDir,
}

impl GatedRelay {
    fn new() -> GatedRelay {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docker.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let (open, connections) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (is_open, count) = (open.clone(), connections.clone());
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                count.fetch_add(1, Ordering::SeqCst);
                let is_open = is_open.clone();
                std::thread::spawn(move || {
                    while !is_open.load(Ordering::SeqCst) {
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    let far = UnixStream::connect("/var/run/docker.sock").unwrap();
                    let (mut from, mut to) = (near.try_clone().unwrap(), far.try_clone().unwrap());
                    std::thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(std::net::Shutdown::Both);
                    });
                    let (mut from, mut to) = (far, near);
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Both);
                });
            }
        });
        GatedRelay { open, connections, engine: format!("unix://{}", path.display()), _folder: folder }
    }
}

#[test]
fn before_the_first_probe_health_is_answered_and_a_submission_waits() {
    crate::harness::images();
    let engine = GatedRelay::new();
    let options = Options { profiles: "bash", floor: 0, engine: Some(&engine.engine), ..Options::default() };
    let daemon = Daemon::start_bare(&options);
    let mut watcher = daemon.caller();
    eventually("the engine is probed", || engine.connections.load(Ordering::SeqCst) > 0);
    let health = watcher.ok("daemon.health", json!({}));
    let mut caller = daemon.caller();
    let id = caller.send("submission.run", &submission("bash", "echo hello"));
    caller.writer.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(caller.is_silent(), "a submission was answered before the first probe");
    caller.writer.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    engine.open.store(true, Ordering::SeqCst);
    assert_eq!(health["checks"][0]["message"], "not probed yet", "{health}");
    assert_eq!((&health["status"], &health["docker"]), (&json!("degraded"), &json!("disconnected")));
    let answer = caller.answer(id);
    assert_eq!(answer["result"]["verdict"], "accepted", "{answer}");
}

/// Time from the start of the process to the response to `daemon.health`.
fn start_to_serving(engine_answers: bool) -> Duration {
    let engine = GatedRelay::new();
    engine.open.store(engine_answers, Ordering::SeqCst);
    let start = Instant::now();
    let daemon = Daemon::start_bare(&Options { engine: Some(&engine.engine), ..Options::default() });
    let health = daemon.caller().ok("daemon.health", json!({}));
    assert!(health["status"].is_string());
    let took = start.elapsed();
    engine.open.store(true, Ordering::SeqCst);
    took
}

#[test]
fn an_engine_that_hangs_does_not_delay_the_socket() {
    // the promise of 100 ms (docs/INSTALL.md) is for the whole start in a release build; here it
    // bounds what a hanging engine adds to the start. The fastest of up to 20 starts each, taken in
    // turns, leaves out the load of the machine: waiting for the engine would slow down all of them
    let promise = Duration::from_millis(100);
    let (mut answering, mut hanging) = (start_to_serving(true), start_to_serving(false));
    for _ in 1..20 {
        if hanging < answering + promise {
            break;
        }
        answering = answering.min(start_to_serving(true));
        hanging = hanging.min(start_to_serving(false));
    }
    eprintln!("start to serving: {answering:?} with an engine that answers, {hanging:?} with one that hangs");
    assert!(hanging < answering + promise, "{hanging:?} instead of {answering:?}");
}

#[test]
fn a_dead_daemons_reaper_that_waits_for_an_engine_does_not_delay_the_next_daemon() {
    let engine = GatedRelay::new();
    let mut daemon =
        Daemon::start_bare(&Options { engine: Some(&engine.engine), is_passed: true, ..Options::default() });
    daemon.kill9();
    // the reaper has the lock, and calls an engine that does not answer
    eventually("the reaper is at work", || daemon.log().contains("the daemon died"));
    daemon.start_again();
    assert_eq!(daemon.caller().ok("daemon.health", json!({}))["docker"], "disconnected");
    engine.open.store(true, Ordering::SeqCst);
}

#[test]
fn a_daemon_that_cannot_start_reports_the_reason_to_the_service_manager() {
    images();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(at("file"), "no socket").unwrap();
    let log = std::fs::File::create(at("log")).unwrap();
    // the last step of the start fails, when hosts and reaper have been started
    let engine = format!("unix://{}", engine_socket().display());
    let mut daemon = std::process::Command::new(crate::programs::program("assayd"))
        .args(["--config", "/dev/null", "--state-dir", &at("state"), "--socket", &at("file"), "--engine", &engine])
        .args(["--set", &format!("images.dir={}", root().join("images").display())])
        .args(["--set", &format!("profiles.dir={}", root().join("config/profiles").display())])
        .args(["--set", "profiles.only=bash", "--set", "uids.base=39500", "--set", "uids.count=64"])
        .env("NO_COLOR", "1")
        .stdin(std::process::Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    assert_eq!(daemon.wait().unwrap().code(), Some(1));
    let mut log = String::new();
    eventually("the reaper has looked", || {
        log = std::fs::read_to_string(at("log")).unwrap();
        log.contains("sweep finished: no sandboxes of the dead daemon remain")
    });
    assert!(log.contains("exists and is not a socket"), "{log}");
    assert!(log.contains("the daemon ended with an error: removing its sandboxes"), "{log}");
    assert!(!log.contains("the daemon died"), "{log}");
    let label = std::fs::read_to_string(at("state/instance-id")).unwrap();
    assert!(containers(&format!("assay-{label}")).is_empty());
}
