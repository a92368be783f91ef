//! Faults of disks and networks: each is logged at `warning` or above with a remedy, and callers
//! are refused or answered.

use std::path::Path;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::{Site, attention, echo, expect, expect_info, refused};
use crate::harness::{eventually, root, with};
use crate::private_engine::{PrivateEngine, load_images};
use crate::relay::Relay;

/// The address of a private engine, for as long as the tests run.
fn address(engine: &PrivateEngine) -> &'static str {
    format!("unix://{}", engine.socket().display()).leak()
}

/// Fills the file system of a folder to its last byte.
pub fn fill(folder: &Path) {
    let target = format!("of={}", folder.join("filler").display());
    let output = Command::new("dd").args(["if=/dev/zero", "bs=64K", &target]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("No space left"), "{output:?}");
}

pub fn empty(folder: &Path) {
    std::fs::remove_file(folder.join("filler")).unwrap();
}

/// A small file system in a folder of its own.
pub struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    pub fn new(bytes: u64) -> SmallDisk {
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={bytes}");
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("tmpfs"), folder.path(), Some("tmpfs"), flags, Some(size.as_str())).unwrap();
        SmallDisk(folder)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(self.path(), nix::mount::MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_full_disk_of_the_engine_is_reported_with_a_remedy() {
    crate::harness::images();
    let engine = PrivateEngine::start_on_small_disk(2 << 30, &[]);
    load_images(&engine, "base|bash");
    let site = Site::new("image = 'own'").own_image("RUN head -c 1000000 /dev/zero >/opt/file");
    let daemon = Site { engine: Some(address(&engine)), ..site }.start();
    daemon.wait_for_engine();
    fill(&engine.data());
    let report = daemon.caller().call("submission.run", echo());
    let said = report.to_string();
    assert!(said.contains("no space left on device"), "{said}");
    expect(&daemon, &[" ERROR ", "an image could not be built", "image=own", "no space left on device"]);
    expect(&daemon, &["the engine's disk is full", "docker system df"]);
    let health = daemon.caller().ok("daemon.health", json!({})).to_string();
    assert!(health.contains("the engine's disk is full"), "{health}");
    empty(&engine.data());
    eventually("it runs", || daemon.caller().call("submission.run", echo())["result"]["verdict"] == "accepted");
}

#[test]
fn a_damaged_image_comes_with_a_remedy_that_works() {
    crate::harness::images();
    let engine = PrivateEngine::start(&[]);
    load_images(&engine, "base|bash");
    let daemon = Site { engine: Some(address(&engine)), ..Site::bash() }.start();
    daemon.wait_for_engine();
    assert_eq!(daemon.caller().ok("submission.run", echo())["verdict"], "accepted");
    let docker = |words: &[&str]| {
        let host = address(&engine);
        let output = Command::new("docker").args(["--host", host]).args(words).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let layer = docker(&["images", "--quiet", "--filter", "label=assay.image"]);
    let upper = docker(&["image", "inspect", "--format", "{{.GraphDriver.Data.UpperDir}}", &layer]);
    std::fs::remove_dir_all(Path::new(&upper).parent().unwrap()).unwrap();
    let mut waiting = daemon.caller();
    waiting.send("submission.run", &with(echo(), "fresh", json!(true)));
    expect(&daemon, &["WARN", "a sandbox could not be made", "profile=bash", "remedy=", "docker rmi --force"]);
    // the remedy, word by word
    daemon.caller().ok("host.drain", json!({ "host": "local" }));
    eventually("no sandbox is left", || docker(&["ps", "--all", "--quiet"]).is_empty());
    docker(&["rmi", "--force", &layer]);
    daemon.caller().ok("host.resume", json!({ "host": "local" }));
    let again = with(echo(), "fresh", json!(true));
    assert_eq!(daemon.caller().ok("submission.run", again)["verdict"], "accepted");
}

#[test]
fn a_full_disk_of_the_state_folder_costs_no_verdict_and_is_logged() {
    let disk = SmallDisk::new(2 << 20);
    let state: &'static str = disk.path().join("state").to_str().unwrap().to_owned().leak();
    let site = Site::new("image = 'bash'\ncompile = ['/bin/cp', '{entry}', 'out']\nkeep = ['out']").floor(1);
    let daemon = Site { env: vec![("ASSAY_STATE_DIR", state)], ..site }.start();
    daemon.warm();
    fill(disk.path());
    assert_eq!(daemon.caller().ok("submission.run", echo())["verdict"], "accepted");
    expect(&daemon, &["WARN", "the compile cache cannot store an artifact", "No space left on device"]);
    // nothing new is acknowledged, and no run of what was refused goes on
    let named = with(echo(), "id", json!("refused"));
    let error = daemon.caller().error("submission.submit", named.clone());
    assert_eq!(error["data"]["code"], "store_full", "{error}");
    assert!(error["message"].as_str().unwrap().contains("the disk of the state folder is full"), "{error}");
    expect(&daemon, &["WARN", "submission refused", "store_full"]);
    let unknown = daemon.caller().error("submission.wait", json!({ "id": "refused" }));
    assert_eq!(unknown["data"]["code"], "not_found");
    // its id is free
    let other = with(with(echo(), "id", json!("refused")), "stdin", json!("other"));
    assert_eq!(daemon.caller().ok("submission.run", other)["verdict"], "accepted");
}

#[test]
fn a_state_folder_that_is_full_at_the_start_is_an_error_that_names_the_setting() {
    let disk = SmallDisk::new(64 << 10);
    fill(disk.path());
    let config = disk.path().join("state");
    let output = Command::new(crate::programs::program("assayd"))
        .args(["--config", "/dev/null", "--state-dir", config.to_str().unwrap(), "--engine", "/nonexistent.sock"])
        .args(["--set", &format!("profiles.dir={}", root().join("config/profiles").display())])
        .args(["--socket", "/tmp/assay-full-state.sock"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("No space left on device"), "{said}");
    assert!(said.contains("instance.state_dir"), "{said}");
}

#[test]
fn an_engine_that_hangs_or_is_cut_off_is_an_error_within_seconds_and_recovers() {
    let engine = PrivateEngine::start(&["--host=tcp://127.0.0.1:2375"]);
    let network = Relay::start(engine.pid_file(), 2375);
    let far: &'static str = format!("tcp://127.0.0.1:{}", network.port()).leak();
    let site = Site::bash().config("[engine]\nallow_plaintext = true");
    let daemon = Site { engine: Some(far), ..site }.start_bare();
    daemon.wait_for_engine();
    let since = |text: &str| daemon.log().matches(text).count();
    // the engine's process stops: it accepts connections, and does not answer
    let pid = Pid::from_raw(engine.pid());
    kill(pid, Signal::SIGSTOP).unwrap();
    expect(&daemon, &[" ERROR ", "the engine does not answer", "does not answer: look at its log"]);
    refused(&daemon, "no_host");
    kill(pid, Signal::SIGCONT).unwrap();
    eventually("it answers again", || since("the engine answers") >= 2);
    // the network does not carry anything any more
    let lines = attention(&daemon).len();
    let stalled = network.clone();
    let stall = std::thread::spawn(move || stalled.stall(std::time::Duration::from_secs(20)));
    eventually("the outage is logged", || {
        attention(&daemon)[lines..].iter().any(|line| line.contains("the engine does not answer"))
    });
    stall.join().unwrap();
    eventually("it answers again", || since("the engine answers") >= 3);
    expect_info(&daemon, &["the engine answers"]);
}

#[test]
fn certificates_of_another_authority_are_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let certs = |name: &str| {
        let to = folder.path().join(name);
        let done = Command::new(root().join("scripts/docker-certs")).arg(&to).arg("127.0.0.1").output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        to
    };
    let (right, wrong) = (certs("right"), certs("wrong"));
    let file = |option: &str, name: &str| format!("{option}={}", right.join("server").join(name).display());
    let (ca, cert, key) = (file("--tlscacert", "ca.pem"), file("--tlscert", "cert.pem"), file("--tlskey", "key.pem"));
    let engine = PrivateEngine::start(&["--host=tcp://127.0.0.1:2376", "--tlsverify", &ca, &cert, &key]);
    let network = Relay::start(engine.pid_file(), 2376);
    let far: &'static str = format!("tcp://127.0.0.1:{}", network.port()).leak();
    let config = format!("[engine]\ntls_dir = '{}'", wrong.join("client").display());
    let site = Site::bash().config(&config);
    let daemon = Site { engine: Some(far), ..site }.start_bare();
    expect(&daemon, &[" ERROR ", "the engine does not answer", "not signed by the authority", "remedy="]);
    refused(&daemon, "no_host");
}
