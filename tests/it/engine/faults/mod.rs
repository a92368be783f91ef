//! Each kind of fault is provoked, and must be logged at once at `warning` or above, with what an
//! operator needs to find its cause. A submission that would wait in vain is refused at once.

mod images;
pub mod outages;
mod remedies;

use std::ops::{Deref, DerefMut};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Caller, Daemon, InFlight, Options, engine, eventually, root, submission, with};

/// A daemon with profiles and images of its own, in a folder.
struct Site {
    folder: TempDir,
    config: String,
    floor: u32,
    engine: Option<&'static str>,
    env: Vec<(&'static str, &'static str)>,
    under: Vec<&'static str>,
}

/// Lines of a profile for bash, without its image.
const BASH: &str = "name = 'bash'\nentry = 'main.sh'\nrun = ['/bin/bash', '{entry}']\n[env]\nPATH = '/usr/bin:/bin'\n";

impl Site {
    /// The shipped images, and one profile for bash with these lines at its top.
    fn new(profile: &str) -> Site {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::create_dir(folder.path().join("profiles")).unwrap();
        std::fs::write(folder.path().join("profiles/bash.toml"), format!("{profile}\n{BASH}")).unwrap();
        let (config, env, under) = (String::new(), Vec::new(), Vec::new());
        Site { folder, config, floor: 0, engine: None, env, under }
    }

    /// A working profile.
    fn bash() -> Site {
        Site::new("image = 'bash'")
    }

    fn config(self, config: &str) -> Site {
        Site { config: config.to_owned(), ..self }
    }

    fn floor(self, floor: u32) -> Site {
        Site { floor, ..self }
    }

    /// A folder of images with the shipped base and one image `own` with these lines.
    fn own_image(self, lines: &str) -> Site {
        let images = self.folder.path().join("images");
        std::fs::create_dir_all(images.join("own")).unwrap();
        let copied = Command::new("cp").arg("-a").arg(root().join("images/base")).arg(&images).status().unwrap();
        assert!(copied.success());
        // an image that no earlier test can have left
        let text = format!("ARG BASE\nFROM $BASE\nLABEL test={}\n{lines}\n", uuid::Uuid::new_v4());
        std::fs::write(images.join("own/Dockerfile"), text).unwrap();
        self
    }

    fn start(self) -> Running {
        crate::harness::images();
        self.start_bare()
    }

    /// Without building images before, for a daemon that does not reach the engine.
    fn start_bare(self) -> Running {
        let images = self.folder.path().join("images");
        let images = images.to_str().unwrap();
        let mut env = self.env.clone();
        if Path::new(images).exists() {
            env.push(("ASSAY_IMAGES_DIR", images));
        }
        let daemon = Daemon::start_bare(&Options {
            profiles: "",
            floor: self.floor,
            ceiling: self.floor.max(1),
            config: &self.config,
            profiles_dir: Some(&self.folder.path().join("profiles")),
            trusted: "['docker.io/library/debian', 'docker.io/trusted/*']",
            engine: self.engine,
            env: &env,
            under: &self.under,
            ..Options::default()
        });
        Running { daemon, site: self.folder }
    }
}

/// A daemon, and the folder that it was configured with.
struct Running {
    daemon: Daemon,
    site: TempDir,
}

impl Deref for Running {
    type Target = Daemon;

    fn deref(&self) -> &Daemon {
        &self.daemon
    }
}

impl DerefMut for Running {
    fn deref_mut(&mut self) -> &mut Daemon {
        &mut self.daemon
    }
}

/// The lines of the log that an operator sees with `journalctl -p warning`.
fn attention(daemon: &Daemon) -> Vec<String> {
    let is_seen = |line: &&str| line.contains("  WARN ") || line.contains(" ERROR ");
    daemon.log().lines().filter(is_seen).map(str::to_owned).collect()
}

/// Waits for a line that needs attention, and that has all these texts.
fn expect(daemon: &Daemon, texts: &[&str]) {
    let found = || attention(daemon).iter().any(|line| texts.iter().all(|text| line.contains(text)));
    eventually(&format!("a warning or an error with {texts:?}"), found);
}

fn echo() -> Value {
    submission("bash", "echo hello")
}

/// The error of a submission that is refused, with its code.
fn refused(daemon: &Daemon, code: &str) -> String {
    let error = daemon.caller().error("submission.run", echo());
    assert_eq!(error["data"]["code"], code, "{error}");
    error["message"].as_str().unwrap().to_owned()
}

#[test]
fn nothing_of_a_healthy_daemon_needs_attention() {
    let daemon = Site::bash().floor(1).start();
    daemon.warm();
    for _ in 0..3 {
        assert_eq!(daemon.caller().ok("submission.run", echo())["verdict"], "accepted");
    }
    daemon.caller().ok("daemon.reload", json!({}));
    assert_eq!(attention(&daemon), Vec::<String>::new());
    expect_info(&daemon, &["the pools are warm", "pools=1"]);
}

fn expect_info(daemon: &Daemon, texts: &[&str]) {
    let found = || daemon.log().lines().any(|line| texts.iter().all(|text| line.contains(text)));
    eventually(&format!("a line with {texts:?}"), found);
}

#[test]
fn isolation_that_cannot_be_had_is_an_error_and_refused_at_once() {
    let site = Site::new("image = 'bash'\nisolation = 'split'");
    let daemon = site.floor(1).config("[isolation]\nrequire_nonroot = true").start();
    expect(&daemon, &[" ERROR ", "profile=bash", "require_nonroot", "remedy="]);
    assert!(refused(&daemon, "unsupported").contains("require_nonroot"));
}

#[test]
fn a_runtime_that_the_engine_does_not_have_is_an_error_and_refused() {
    let daemon = Site::new("image = 'bash'\nruntime = 'no-such-runtime'").floor(1).start();
    expect(&daemon, &[" ERROR ", "profile=bash", "no-such-runtime", "remedy=", "docker info"]);
    eventually("it is refused", || {
        daemon.caller().call("submission.run", echo())["error"]["data"]["code"] == "unsupported"
    });
}

#[test]
fn an_engine_that_does_not_answer_is_an_error_with_its_address() {
    let daemon = Site { engine: Some("unix:///nonexistent/docker.sock"), ..Site::bash() }.start();
    expect(&daemon, &[" ERROR ", "the engine does not answer", "/nonexistent/docker.sock", "remedy="]);
    refused(&daemon, "no_host");
    let config = "[engine]\nallow_plaintext = true";
    let site = Site::bash().config(config);
    let daemon = Site { engine: Some("tcp://127.0.0.1:1"), ..site }.start();
    expect(&daemon, &["WARN", "no TLS", "127.0.0.1:1"]);
    expect(&daemon, &[" ERROR ", "the engine does not answer", "127.0.0.1:1"]);
}

#[test]
fn too_few_uids_are_a_warning_with_the_setting() {
    let site = Site::bash().floor(2);
    let daemon = Site { env: vec![("ASSAY_UIDS_COUNT", "1")], ..site }.start();
    expect(&daemon, &["WARN", "profile=bash", "every uid is in use", "uids.count, now 1", "need 2"]);
}

#[test]
fn a_uid_with_descriptors_that_stay_in_flight_is_a_warning_and_serves_nobody() {
    let _held: Vec<InFlight> = (45_000..45_003).map(|uid| InFlight::start(uid, 200)).collect();
    let site = Site::bash().floor(1);
    let daemon = Site { env: vec![("ASSAY_UIDS_BASE", "45000"), ("ASSAY_UIDS_COUNT", "4")], ..site }.start();
    expect(&daemon, &["WARN", "uid=45002", "in flight", "remedy=", "uids.count"]);
    let report = daemon.caller().ok("submission.run", submission("bash", "id -u"));
    assert_eq!(report["run"]["stdout"], "45003\n", "{report:#}");
}

#[test]
fn a_submission_that_waits_in_vain_is_a_warning_with_what_was_short() {
    let daemon = Site::bash().floor(1).config("[queue]\npatience = '300ms'").start();
    daemon.warm();
    let slow = with(submission("bash", "sleep 20"), "limits", json!({ "wall_ms": 30_000 }));
    let running = daemon.caller().ok("submission.submit", slow)["id"].clone();
    let is_running = || daemon.caller().ok("submission.get", json!({ "id": running }))["state"] == "running";
    eventually("it runs", is_running);
    let report = daemon.caller().ok("submission.run", echo());
    assert_eq!(report["verdict"], "system_error", "{report}");
    expect(&daemon, &["WARN", "verdict=\"system_error\"", "reason=", "are in use", "pool.ceiling"]);
}

#[test]
fn a_long_wait_is_logged_while_the_caller_still_waits() {
    let daemon = Site::bash().floor(1).config("[queue]\npatience = '4s'").start();
    daemon.warm();
    let open = with(submission("bash", "read line"), "stdin_open", json!(true));
    let mut caller = daemon.caller();
    let id = caller.ok("submission.submit", with(open, "limits", json!({ "wall_ms": 90_000 })))["id"].clone();
    eventually("it runs", || daemon.caller().ok("submission.get", json!({ "id": id }))["state"] == "running");
    let mut second = daemon.caller();
    let waiting = second.send("submission.run", &echo());
    expect(
        &daemon,
        &["WARN", "submissions wait for a sandbox", "profile=bash", "reason=", "are in use", "pool.ceiling"],
    );
    caller.ok("submission.input", json!({ "id": id, "data": "x\n", "eof": true }));
    let answer = second.answer(waiting);
    assert!(answer.get("result").is_some(), "{answer}");
}

#[test]
fn a_full_queue_is_a_warning_with_the_caller() {
    let daemon = Site::bash().floor(1).config("[queue]\nmax = 1").start();
    daemon.warm();
    let slow = with(submission("bash", "sleep 20"), "limits", json!({ "wall_ms": 30_000 }));
    daemon.caller().ok("submission.submit", slow);
    refused(&daemon, "queue_full");
    expect(&daemon, &["WARN", "submission refused", "code=\"queue_full\"", "uid=0"]);
}

#[test]
fn a_paused_daemon_finishes_what_it_has_and_refuses_the_rest() {
    let daemon = Site::bash().floor(1).start();
    daemon.warm();
    let slow = with(submission("bash", "read line; echo done"), "stdin_open", json!(true));
    let mut caller = daemon.caller();
    let id = caller.ok("submission.submit", with(slow, "limits", json!({ "wall_ms": 90_000 })))["id"].clone();
    eventually("it runs", || daemon.caller().ok("submission.get", json!({ "id": id }))["state"] == "running");
    let mut not_admin = daemon.caller_as(4321);
    assert_eq!(not_admin.error("daemon.pause", json!({}))["data"]["code"], "forbidden");
    assert_eq!(caller.ok("daemon.pause", json!({})), json!({ "paused": true, "queued": 0, "running": 1 }));
    assert!(refused(&daemon, "draining").contains("assay resume"));
    expect(&daemon, &["WARN", "paused by command"]);
    // `assay drain --wait` asks again and again
    caller.ok("daemon.pause", json!({}));
    assert_eq!(attention(&daemon).iter().filter(|line| line.contains("paused by command")).count(), 1);
    let health = caller.ok("daemon.health", json!({}));
    assert_eq!(health["status"], "degraded");
    assert!(health["checks"].as_array().unwrap().iter().any(|check| check["name"] == "admission"), "{health}");
    assert_eq!(caller.ok("daemon.status", json!({}))["phase"], "paused");
    caller.ok("submission.input", json!({ "id": id, "data": "x\n", "eof": true }));
    let report = caller.ok("submission.wait", json!({ "id": id }));
    assert_eq!(report["verdict"], "accepted", "{report}");
    assert_eq!(caller.ok("daemon.resume", json!({}))["paused"], false);
    assert_eq!(caller.ok("submission.run", echo())["verdict"], "accepted");
}

#[test]
fn an_apparmor_profile_on_an_engine_without_apparmor_is_a_warning() {
    if std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y')) {
        return crate::harness::skip("this machine has AppArmor");
    }
    let daemon = Site::bash().config("[engine]\napparmor_profile = 'assay-cell'").start();
    daemon.wait_for_engine();
    expect(&daemon, &["WARN", "engine.apparmor_profile has no effect", "assay-cell"]);
    assert_eq!(daemon.caller().ok("submission.run", echo())["verdict"], "accepted");
}

#[test]
fn a_drained_host_is_a_warning_and_refuses_with_the_command_that_ends_it() {
    let daemon = Site::bash().start();
    daemon.wait_for_engine();
    let mut caller = daemon.caller();
    caller.ok("host.drain", json!({ "host": "local" }));
    expect(&daemon, &["WARN", "host drained by command", "uid=0", "host=\"local\""]);
    caller.ok("host.drain", json!({ "host": "local" }));
    assert_eq!(attention(&daemon).iter().filter(|line| line.contains("drained by command:")).count(), 1);
    assert!(refused(&daemon, "no_host").contains("assay hosts resume local"));
    let health = caller.ok("daemon.health", json!({}));
    assert_eq!(health["checks"][0]["remedy"], "When the maintenance is over: assay hosts resume local", "{health}");
    caller.ok("host.resume", json!({ "host": "local" }));
    assert_eq!(caller.ok("submission.run", echo())["verdict"], "accepted");
}

#[test]
fn a_sandbox_that_is_killed_twice_is_a_warning_with_the_reason() {
    let daemon = Site::bash().floor(1).start();
    daemon.warm();
    let slow = with(submission("bash", "sleep 60"), "limits", json!({ "wall_ms": 90_000 }));
    let id = daemon.caller().ok("submission.submit", slow)["id"].clone();
    let mut killed = std::collections::BTreeSet::new();
    eventually("it is answered", || {
        let rows = daemon.caller().ok("sandbox.list", json!({}))["sandboxes"].clone();
        for row in rows.as_array().unwrap().iter().filter(|row| row["state"] == "leased") {
            if killed.insert(row["id"].as_str().unwrap().to_owned()) {
                engine(&format!("POST /containers/{}/kill", row["id"].as_str().unwrap()));
            }
        }
        daemon.caller().ok("submission.get", json!({ "id": id }))["state"] == "done"
    });
    expect(&daemon, &["WARN", "sandbox lost during a run", "init_exit_code=137"]);
    expect(&daemon, &["WARN", "verdict=\"system_error\"", "reason=", "attach stream ended"]);
}

#[test]
fn a_broken_checker_is_a_warning_that_names_the_test() {
    let daemon = Site::bash().floor(1).start();
    daemon.warm();
    let files = json!([{ "path": "main.sh", "content": "echo s3cr3t >&2; exit 77" }]);
    let checker = json!({ "kind": "program", "language": "bash", "files": files });
    let tests = json!([{ "name": "a", "stdin": "", "expect": "x", "checker": checker }]);
    let report = daemon.caller().ok("submission.run", with(echo(), "tests", tests));
    assert_eq!((&report["verdict"], &report["blame"]), (&json!("system_error"), &json!("caller")), "{report}");
    expect(&daemon, &["WARN", "verdict=\"system_error\"", "reason=\"its checker or interactor failed in test 1"]);
    assert!(!daemon.log().contains("s3cr3t"));
}

#[test]
fn a_program_that_the_image_lacks_is_a_warning_and_no_fault_of_the_submission() {
    let own = "name = 'bash'\nimage = 'bash'\nentry = 'main.sh'\n";
    for lines in ["run = ['/usr/bin/bsah', '{entry}']", "compile = ['/usr/bin/bsah']\nrun = ['/bin/bash', '{entry}']"] {
        let site = Site::bash().floor(1);
        std::fs::write(site.folder.path().join("profiles/bash.toml"), format!("{own}{lines}\n")).unwrap();
        let daemon = site.start();
        daemon.warm();
        let report = daemon.caller().ok("submission.run", echo());
        assert_eq!((&report["verdict"], &report["blame"]), (&json!("system_error"), &json!("assay")), "{report}");
        expect(&daemon, &["WARN", "verdict=\"system_error\"", "reason=", "/usr/bin/bsah cannot be started", "Remedy"]);
        let tests = json!([{ "name": "a", "stdin": "", "expect": "hello\n" }]);
        let report = daemon.caller().ok("submission.run", with(echo(), "tests", tests));
        assert_eq!((&report["verdict"], &report["blame"]), (&json!("system_error"), &json!("assay")), "{report}");
        // a command that the submission brings is the submission's fault
        let report = daemon.caller().ok("submission.run", with(echo(), "command", json!(["/usr/bin/nope"])));
        assert_eq!(report["verdict"], "runtime_error", "{report}");
    }
}

#[test]
fn a_file_that_a_compile_step_does_not_make_is_a_warning_and_a_compile_error() {
    let lines = "image = 'bash'\ncompile = ['/bin/cp', '{entry}', 'main']\n";
    let daemon = Site::new(&format!("{lines}keep = ['mian']")).floor(1).start();
    daemon.warm();
    expect(&daemon, &["WARN", "keep: \"mian\" is in no command of the profile", "did you mean"]);
    let report = daemon.caller().ok("submission.run", echo());
    assert_eq!(report["verdict"], "compile_error", "{report}");
    assert!(report["message"].as_str().unwrap().contains("did not make mian"), "{report}");
    let tests = json!([{ "name": "a", "stdin": "", "expect": "hello\n" }]);
    let report = daemon.caller().ok("submission.run", with(echo(), "tests", tests));
    assert_eq!((&report["verdict"], &report["tests"][0]["verdict"]), (&json!("compile_error"), &json!("skipped")));
    expect(&daemon, &["WARN", "did not make a file that its profile keeps", "profile=", "bash", "file=", "mian"]);
    // a pattern may match nothing
    let daemon = Site::new(&format!("{lines}keep = ['main', '*.so']")).floor(1).start();
    daemon.warm();
    assert_eq!(daemon.caller().ok("submission.run", echo())["verdict"], "accepted");
    assert_eq!(attention(&daemon), Vec::<String>::new());
}

#[test]
fn a_runtime_that_cannot_wait_is_a_warning_with_the_reason() {
    let site = Site::bash().floor(1);
    let profile = site.folder.path().join("profiles/bash.toml");
    let text = std::fs::read_to_string(&profile).unwrap();
    std::fs::write(&profile, format!("{text}[[prewarm]]\nstart = ['/usr/bin/nope']\n")).unwrap();
    let daemon = site.start();
    daemon.warm();
    expect(&daemon, &["WARN", "runtime cannot wait", "profile=bash", "reason=", "execve"]);
    assert_eq!(daemon.caller().ok("submission.run", echo())["verdict"], "accepted");
    let lines = attention(&daemon);
    assert_eq!(lines.iter().filter(|line| line.contains("runtime cannot wait")).count(), 1, "{lines:?}");
}

#[test]
fn mistakes_of_variables_and_reloads_are_logged() {
    let daemon = Site { env: vec![("ASSAY_QEUE_MAX", "5")], ..Site::bash() }.start();
    expect(&daemon, &["WARN", "ASSAY_QEUE_MAX sets nothing", "ASSAY_QUEUE_MAX"]);
    let path = daemon.folder.path().join("assayd.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{text}\n[queue]\nmaxx = 3\n")).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(daemon.pid() as i32), nix::sys::signal::SIGHUP).unwrap();
    expect(&daemon, &[" ERROR ", "the old one stays in effect", "queue.maxx", "did you mean queue.max?"]);
}

#[test]
fn damage_in_the_state_folder_is_logged() {
    let mut daemon = Site::bash().start();
    daemon.terminate();
    let state = daemon.folder.path().join("state");
    std::fs::create_dir_all(state.join("kept")).unwrap();
    std::fs::write(state.join("kept/a.json"), "{").unwrap();
    std::fs::create_dir_all(state.join("answers")).unwrap();
    daemon.start_again();
    expect(&daemon, &[" ERROR ", "cannot read a saved submission", "a.unreadable"]);
}

#[test]
fn a_damaged_id_of_the_instance_is_logged_and_replaced() {
    let mut daemon = Site { engine: Some("unix:///nonexistent/docker.sock"), ..Site::bash() }.start_bare();
    daemon.terminate();
    let id = daemon.folder.path().join("state/instance-id");
    for damaged in [b"".as_slice(), b"\xff\x00", b"a b/c"] {
        std::fs::write(&id, damaged).unwrap();
        let lines = attention(&daemon).len();
        daemon.start_again();
        let is_said = |line: &String| line.contains(" WARN ") && line.contains("the instance's id is damaged");
        eventually("the damage is logged", || attention(&daemon)[lines..].iter().any(is_said));
        daemon.terminate();
        assert_eq!(std::fs::read_to_string(&id).unwrap().len(), 12);
    }
    // one that cannot be read is not replaced
    std::fs::remove_file(&id).unwrap();
    std::fs::create_dir(&id).unwrap();
    let path = daemon.folder.path().join("assayd.toml");
    let output = Command::new(crate::programs::program("assayd")).arg("--config").arg(path).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("failed to read the instance's id"), "{said}");
}

#[test]
fn a_build_log_that_cannot_be_kept_is_logged() {
    let site = Site::new("image = 'own'").own_image("RUN true");
    let mut daemon = site.start();
    daemon.terminate();
    std::fs::write(daemon.folder.path().join("state/build-logs"), "").unwrap();
    daemon.start_again();
    daemon.wait_for_engine();
    assert_eq!(daemon.caller().ok("submission.run", echo())["verdict"], "accepted");
    expect(&daemon, &["WARN", "the build's log cannot be kept"]);
}

#[test]
fn an_init_of_another_release_ends_the_start() {
    let site = Site::bash();
    let init = site.folder.path().join("assay-init");
    // an older one: a program with our name in it, and not our version
    std::fs::write(&init, b"\x7fELF assay-init: runs only as PID 1 of a sandbox").unwrap();
    for (flag, status) in [("--check-start", 78), ("--check-config", 1)] {
        let mut command = Command::new(crate::programs::program("assayd"));
        command.env("ASSAY_PROFILES_DIR", site.folder.path().join("profiles")).env("ASSAY_IMAGES_INIT", &init);
        let output = command.arg(flag).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{said}");
        assert!(said.contains("ASSAY_IMAGES_INIT: images.init: it is assay-init of another release"), "{said}");
    }
}

#[test]
fn a_low_limit_of_open_files_is_logged() {
    let daemon = Site { under: vec!["prlimit", "--nofile=1024:1024"], ..Site::bash() }.start();
    expect(&daemon, &["WARN", "LimitNOFILE"]);
}

#[test]
fn connections_without_a_descriptor_left_are_a_warning_a_second() {
    let daemon = Site { under: vec!["prlimit", "--nofile=64:64"], ..Site::bash() }.start();
    daemon.wait_for_engine();
    let connect = || std::os::unix::net::UnixStream::connect(daemon.socket());
    let held: Vec<_> = std::iter::from_fn(|| connect().ok()).take(100).collect();
    let is_counted = |line: &String| line.contains("failed to accept a connection") && !line.contains("suppressed=0");
    eventually("a line counts those that were left out", || attention(&daemon).iter().any(is_counted));
    drop(held);
    eventually("it serves again", || daemon.caller().call("submission.run", echo())["result"]["verdict"] == "accepted");
}

#[test]
fn the_pools_are_warm_without_those_that_cannot_be_filled() {
    let site = Site::bash().floor(1);
    let other = BASH.replace("'bash'", "'other'");
    std::fs::write(site.folder.path().join("profiles/other.toml"), format!("image = 'bsah'\n{other}")).unwrap();
    let daemon = site.start();
    expect(&daemon, &[" ERROR ", "profile=other", "are refused"]);
    expect_info(&daemon, &["the pools are warm", "pools=1", "broken=1"]);
}

#[test]
fn a_killed_daemon_is_logged_by_its_reaper() {
    let mut daemon = Site::bash().floor(1).start();
    daemon.warm();
    daemon.kill9();
    expect(&daemon, &["WARN", "the daemon died"]);
}

#[test]
fn something_else_at_the_engines_address_is_logged_once_with_a_remedy() {
    use std::io::Write;
    let folder = tempfile::tempdir().unwrap();
    let path: &'static str = format!("unix://{}/other.sock", folder.path().display()).leak();
    let listener = std::os::unix::net::UnixListener::bind(path.trim_start_matches("unix://")).unwrap();
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut stream = stream;
            // every second connection gets an answer that is not HTTP, the others are closed
            if counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst).is_multiple_of(2) {
                let _ = stream.write_all(b"SSH-2.0-OpenSSH\r\n");
            }
        }
    });
    let daemon = Site { engine: Some(path), ..Site::bash() }.start_bare();
    expect(&daemon, &[" ERROR ", "the engine does not answer", "remedy=", "Docker Engine"]);
    eventually("it was asked eight times", || asked.load(std::sync::atomic::Ordering::SeqCst) >= 8);
    let lines = attention(&daemon);
    let distinct: std::collections::BTreeSet<&str> =
        lines.iter().filter_map(|line| line.split(" ERROR ").nth(1)).collect();
    assert_eq!(distinct.len(), lines.len(), "{lines:#?}");
    assert!(lines.iter().all(|line| !line.contains("none known")), "{lines:#?}");
}

/// The checks of `assay doctor`, and its exit status.
fn doctor(daemon: &Daemon) -> (Value, Option<i32>) {
    let words = ["--json", "doctor", "--no-pull", "--config", "/dev/null"];
    let mut command = Command::new(crate::programs::program("assay"));
    let output = command.env("ASSAY_SOCKET", daemon.socket()).args(words).output().unwrap();
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    (document["checks"].clone(), output.status.code())
}

/// One check of the doctor's.
fn check<'a>(checks: &'a Value, name: &str) -> &'a Value {
    checks.as_array().unwrap().iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("{name}: {checks}"))
}

#[test]
fn the_doctor_takes_the_profiles_from_the_running_daemon_and_fails_when_it_is_dead() {
    let mut daemon = Site::bash().start();
    daemon.wait_for_engine();
    let (checks, _) = doctor(&daemon);
    let images = check(&checks, "images");
    assert_eq!(images["message"], "all profiles of the running daemon have their image: bash", "{checks}");
    assert_eq!(check(&checks, "daemon")["status"], "ok", "{checks}");
    let socket = check(&checks, "engine-socket")["message"].as_str().unwrap();
    assert!(socket.contains("CIS 3.15: the engine's socket belongs to root"), "{socket}");
    daemon.kill9();
    let (checks, status) = doctor(&daemon);
    assert_eq!((check(&checks, "daemon")["status"].as_str(), status), (Some("fail"), Some(1)), "{checks}");
    assert!(check(&checks, "daemon")["remedy"].as_str().unwrap().contains("systemctl start"), "{checks}");
}
