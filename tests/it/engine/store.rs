//! What a daemon keeps in its store, read from the file after it ended, and what it does where the
//! file cannot be used.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use store::{HistoryFilter, HistoryRow, Options as StoreOptions, Store};

use super::faults::outages::{SmallDisk, empty, fill};
use crate::harness::{Daemon, Options, eventually, patient, root, submission, with};

fn bash() -> Daemon {
    Daemon::start(&Options { profiles: "bash", ..Options::default() })
}

fn state(daemon: &Daemon) -> PathBuf {
    daemon.folder.path().join("state")
}

/// The store of a daemon that has ended.
fn stored(state: &Path) -> Store {
    Store::open(state, StoreOptions::default()).unwrap()
}

/// All history, oldest first, each with its report.
fn history(store: &Store) -> Vec<(HistoryRow, Value)> {
    let page = store.list(&HistoryFilter::default(), None, 1000).unwrap();
    let report = |row: &HistoryRow| store.report(row.key).unwrap().unwrap().body;
    page.rows.into_iter().rev().map(|row| (row.clone(), serde_json::from_slice(&report(&row)).unwrap())).collect()
}

#[test]
fn every_answer_is_in_history_as_its_caller_got_it() {
    let mut daemon = bash();
    let mut caller = daemon.caller();
    let nameless = caller.run("bash", "echo hello");
    let named = with(with(submission("bash", "exit 3"), "id", json!("named")), "tenant", json!("t"));
    let named = caller.ok("submission.run", named);
    let large = submission("bash", "head -c 3000000 /dev/zero | tr '\\0' x");
    let large = with(large, "limits", json!({ "output_bytes": 4_000_000 }));
    let large = caller.ok("submission.run", large);
    let submitted = caller.ok("submission.submit", with(submission("bash", "echo later"), "id", json!("later")));
    let submitted = caller.ok("submission.wait", submitted);
    let other = daemon.caller_as(3007).run("bash", "echo other");
    let refused = caller.error("submission.run", submission("no such language", ""));
    assert_eq!(refused["data"]["code"], "unknown_profile");
    daemon.terminate();

    let store = stored(&state(&daemon));
    let rows = history(&store);
    let reports: Vec<&Value> = rows.iter().map(|(_, report)| report).collect();
    assert_eq!(reports, [&nameless, &named, &large, &submitted, &other]);
    let own = format!("uid:{}", nix::unistd::getuid());
    let listed: Vec<_> = rows.iter().map(|(row, _)| &row.entry).collect();
    assert_eq!((listed[1].id.as_str(), listed[1].owner.tenant.as_str()), ("named", "t"));
    assert_eq!((listed[1].verdict.as_str(), listed[1].language.as_str()), ("runtime_error", "bash"));
    assert_eq!((listed[0].owner.principal.as_str(), listed[4].owner.principal.as_str()), (own.as_str(), "uid:3007"));
    assert_eq!(Some(listed[0].total_ms), nameless["timing"]["total_ms"].as_f64());
    let run = &nameless["run"];
    assert_eq!(Some(listed[0].memory_bytes), run["memory_bytes"].as_u64());
    assert_eq!(Some(listed[0].cpu_ms), run["cpu_ms"].as_f64());
    assert!(rows[0].0.answered_ms >= listed[0].received_ms && listed[0].received_ms > 1_700_000_000_000);

    let blob = large["run"]["stdout"]["blob"].as_str().expect("its output is a blob");
    let files = store.report(rows[2].0.key).unwrap().unwrap().files;
    assert_eq!((files.len(), files[0].label.as_str(), files[0].bytes), (1, blob, 3_000_000));
    assert!(store.output(&files[0].name).unwrap().iter().all(|byte| *byte == b'x'));
    // nothing of what was handed in
    let database = std::fs::read(state(&daemon).join("assay.db")).unwrap();
    assert!(!database.windows(8).any(|bytes| bytes == b"exit 3\"}" || bytes == b"echo lat"), "a source is in the file");
}

/// Files and folders that a process synced, according to the output of strace.
fn synced(trace: &Path) -> usize {
    let text = std::fs::read_to_string(trace).unwrap();
    text.lines().filter(|line| line.contains("sync(")).count()
}

#[test]
fn a_run_waits_for_no_fsync_and_a_submission_for_that_of_its_intake_and_its_report() {
    let daemon = bash();
    daemon.warm();
    let mut caller = daemon.caller();
    let trace = daemon.folder.path().join("trace");
    let pid = daemon.pid().to_string();
    let mut strace = Command::new("strace")
        .args(["-f", "-qq", "-e", "trace=fsync,fdatasync", "-p", &pid, "-o", trace.to_str().unwrap()])
        .spawn()
        .unwrap();
    let is_traced = |task: &std::fs::DirEntry| {
        let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
        status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
    };
    eventually("all threads are traced", || {
        std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().all(|task| is_traced(&task.unwrap()))
    });
    // upkeep at the start may sync
    let before = synced(&trace);
    for _ in 0..30 {
        assert_eq!(caller.run("bash", "echo hello")["verdict"], "accepted");
    }
    assert_eq!(synced(&trace), before, "runs synced");
    let id = caller.ok("submission.submit", submission("bash", "echo hello"));
    assert_eq!(caller.ok("submission.wait", id)["verdict"], "accepted");
    let of_submission = synced(&trace) - before;
    assert!(of_submission >= 2, "{of_submission} of a submission: its intake, and its report");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(strace.id() as i32), nix::sys::signal::SIGINT).unwrap();
    strace.wait().unwrap();
}

#[test]
fn a_reload_changes_what_is_kept() {
    let mut daemon = bash();
    let mut caller = daemon.caller();
    caller.run("bash", "echo hello");
    let path = daemon.folder.path().join("assayd.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{text}\n[store]\nkeep='1h'\nmax='1GiB'\n")).unwrap();
    let changed = caller.ok("daemon.reload", json!({}));
    assert_eq!(changed["applied"], json!(["store.keep_s", "store.max_bytes"]));
    daemon.terminate();
    assert_eq!(history(&stored(&state(&daemon))).len(), 1);
}

#[test]
fn what_was_acknowledged_goes_on_after_a_kill_and_keeps_its_id_and_report() {
    let mut daemon = Daemon::start(&Options { profiles: "bash", floor: 1, ceiling: 1, ..Options::default() });
    daemon.warm();
    let mut caller = daemon.caller_as(3008);
    let named = |id: &str, code: &str| with(with(submission("bash", code), "id", json!(id)), "tenant", json!("t"));
    let answered = named("answered", "echo $RANDOM");
    caller.ok("submission.submit", answered.clone());
    let report = caller.ok("submission.wait", json!({ "id": "answered" }));
    let running = patient(named("running", "sleep 1; echo done"));
    caller.ok("submission.submit", running.clone());
    let blob = caller.ok("blob.put", json!({ "data_b64": "aGVsbG8K", "offset": 0, "eof": true }));
    let queued = with(named("queued", "cat; id -u"), "stdin", blob);
    caller.ok("submission.submit", queued.clone());
    let run = caller.send("submission.run", &named("run", "echo of a run"));
    eventually("one runs", || {
        caller.ok("submission.get", json!({ "id": "running" }))["state"] == "running"
            && caller.ok("submission.get", json!({ "id": "run" }))["state"] == "queued"
    });
    daemon.kill9();
    daemon.start_again();

    let mut caller = daemon.caller_as(3008);
    let wait = |caller: &mut crate::harness::Caller, id: &str| caller.ok("submission.wait", json!({ "id": id }));
    assert_eq!(wait(&mut caller, "answered"), report);
    assert_eq!(caller.ok("submission.submit", answered.clone())["id"], "answered");
    assert_eq!(caller.error("submission.run", named("answered", "echo"))["data"]["code"], "conflict");
    assert_eq!(caller.error("submission.submit", named("queued", "echo"))["data"]["code"], "conflict");
    assert_eq!(wait(&mut caller, "running")["run"]["stdout"], "done\n");
    let of_blob = wait(&mut caller, "queued");
    assert!(of_blob["run"]["stdout"].as_str().unwrap().starts_with("hello\n"), "{of_blob}");
    assert_eq!(caller.error("submission.wait", json!({ "id": "run" }))["data"]["code"], "not_found");
    let _ = run;
    daemon.kill9();
    daemon.start_again();
    let mut caller = daemon.caller_as(3008);
    assert_eq!((wait(&mut caller, "answered"), wait(&mut caller, "queued")), (report, of_blob));
    assert_eq!(caller.ok("submission.run", answered)["id"], "answered");
    daemon.terminate();
    let rows = history(&stored(&state(&daemon)));
    let ids: Vec<&str> = rows.iter().map(|(row, _)| row.entry.id.as_str()).collect();
    assert_eq!(ids, ["answered", "running", "queued"]);
}

#[test]
fn a_submission_under_which_the_daemon_ends_three_times_is_not_run_again() {
    let mut daemon = bash();
    daemon.warm();
    let long = patient(with(submission("bash", "sleep 60"), "id", json!("long")));
    daemon.caller().ok("submission.submit", long);
    let open = with(with(submission("bash", "read line"), "stdin_open", json!(true)), "id", json!("open"));
    daemon.caller().ok("submission.submit", patient(open));
    for _ in 0..3 {
        let mut caller = daemon.caller();
        eventually("it runs", || caller.ok("submission.get", json!({ "id": "long" }))["state"] == "running");
        // its start is committed at once, and not waited for
        std::thread::sleep(std::time::Duration::from_millis(300));
        daemon.kill9();
        daemon.start_again();
    }
    let report = daemon.caller().ok("submission.wait", json!({ "id": "long" }));
    assert_eq!((&report["verdict"], &report["blame"]), (&json!("system_error"), &json!("assay")));
    assert!(report["message"].as_str().unwrap().contains("ended 3 times"), "{report}");
    let report = daemon.caller().ok("submission.wait", json!({ "id": "open" }));
    assert_eq!((&report["verdict"], &report["blame"]), (&json!("system_error"), &json!("assay")));
    assert!(report["message"].as_str().unwrap().contains("the input that it was fed"), "{report}");
}

#[test]
fn a_run_that_is_submitted_as_well_survives_as_what_was_submitted() {
    let mut daemon = bash();
    daemon.warm();
    let named = |id: &str| with(submission("bash", "sleep 0.5; echo $RANDOM"), "id", json!(id));
    let (mut runner, mut submitter) = (daemon.caller(), daemon.caller());
    let first = runner.ok("submission.run", named("answered"));
    assert_eq!(submitter.ok("submission.submit", named("answered"))["id"], "answered");
    let run = runner.send("submission.run", &named("joined"));
    eventually("it runs", || {
        submitter.call("submission.get", json!({ "id": "joined" }))["result"]["state"] == "running"
    });
    submitter.ok("submission.submit", named("joined"));
    let joined = runner.answer(run)["result"].clone();
    daemon.kill9();
    daemon.start_again();
    let mut caller = daemon.caller();
    assert_eq!(caller.ok("submission.wait", json!({ "id": "answered" })), first);
    assert_eq!(caller.ok("submission.wait", json!({ "id": "joined" })), joined);
    daemon.terminate();
    assert_eq!(history(&stored(&state(&daemon))).len(), 2, "each is in history once");
}

#[test]
fn what_a_daemon_of_0_1_kept_is_moved_into_the_store() {
    let mut daemon = bash();
    daemon.terminate();
    let state = state(&daemon);
    let now_ms = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis();
    let left = root().join("tests/it/engine/left_by_0.1");
    let file = |name: &str| {
        std::fs::read_to_string(left.join(name)).unwrap().replace("\"at_ms\":1,", &format!("\"at_ms\":{now_ms},"))
    };
    std::fs::create_dir(state.join("kept")).unwrap();
    std::fs::write(state.join("kept/1.json"), file("submission.json")).unwrap();
    std::fs::write(state.join("answers"), file("report.json") + "\n").unwrap();
    for kills in 0..2 {
        daemon.start_again();
        let mut caller = daemon.caller();
        assert!(!state.join("kept").exists() && !state.join("answers").exists(), "they are moved");
        let report = caller.ok("submission.wait", json!({ "id": "waiting" }));
        assert_eq!((&report["verdict"], &report["run"]["stdout"]), (&json!("accepted"), &json!("from 0.1")));
        let report = caller.ok("submission.wait", json!({ "id": "answered" }));
        assert_eq!(report["run"]["wall_ms"], 11.73, "it is the report of 0.1");
        let blob = caller.ok("blob.get", json!({ "blob": report["run"]["stdout"]["blob"], "max": 100 }));
        assert_eq!(blob["data_b64"], "bGFyZ2Ugb3V0cHV0");
        let other = with(submission("bash", "echo"), "id", json!("waiting"));
        assert_eq!(caller.error("submission.submit", other)["data"]["code"], "conflict");
        match kills {
            0 => daemon.kill9(),
            _ => daemon.terminate(),
        }
    }
    assert_eq!(history(&stored(&state)).len(), 2);
}

/// What a daemon says that does not start.
fn refused_start(state: &Path) -> String {
    let output = Command::new(crate::programs::program("assayd"))
        .args(["--config", "/dev/null", "--state-dir", state.to_str().unwrap(), "--engine", "/nonexistent.sock"])
        .args(["--set", &format!("profiles.dir={}", root().join("config/profiles").display())])
        .args(["--socket", state.join("refused.sock").to_str().unwrap()])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{said}");
    said
}

#[test]
fn a_file_of_a_later_version_or_of_another_program_ends_the_start_and_is_not_changed() {
    let folder = tempfile::tempdir().unwrap();
    drop(stored(folder.path()));
    assert!(!folder.path().join("assay.db-wal").exists(), "a part of the file is in its log");
    let file = folder.path().join("assay.db");
    let change = |at, bytes: &[u8]| {
        std::fs::File::options().write(true).open(&file).unwrap().write_all_at(bytes, at).unwrap();
        std::fs::read(&file).unwrap()
    };
    // sqlite.org/fileformat.html: user_version is at 60, application_id at 68
    let before = change(60, &999_u32.to_be_bytes());
    let said = refused_start(folder.path());
    assert!(said.contains("a later version of assay wrote it (schema 999;"), "{said}");
    assert!(said.contains("use that version") && said.contains("instance.state_dir"), "{said}");
    assert!(std::fs::read(&file).unwrap() == before);
    let before = change(68, &7_u32.to_be_bytes());
    let said = refused_start(folder.path());
    assert!(said.contains("it is a database of another program"), "{said}");
    assert!(std::fs::read(&file).unwrap() == before);
}

#[test]
fn a_store_that_is_full_at_the_start_harms_no_run_and_opens_when_there_is_room() {
    let disk = SmallDisk::new(80 << 20);
    let state: &'static str = disk.path().join("state").to_str().unwrap().to_owned().leak();
    let options = Options { profiles: "bash", env: &[("ASSAY_STATE_DIR", state)], ..Options::default() };
    let mut daemon = Daemon::start(&options);
    daemon.terminate();
    for name in ["assay.db", "assay.db-lock"] {
        std::fs::remove_file(Path::new(state).join(name)).unwrap();
    }
    fill(disk.path());
    daemon.start_again();
    assert_eq!(daemon.caller().run("bash", "echo hello")["verdict"], "accepted");
    assert!(daemon.log().contains("the store cannot be opened"), "{}", daemon.log());
    let error = daemon.caller().error("submission.submit", submission("bash", "echo hello"));
    assert_eq!(error["data"]["code"], "store_full", "{error}");
    empty(disk.path());
    eventually("the store is open", || daemon.log().contains("the store is open"));
    assert_eq!(daemon.caller().run("bash", "echo hello")["verdict"], "accepted");
    let id = daemon.caller().ok("submission.submit", submission("bash", "echo hello"));
    assert_eq!(daemon.caller().ok("submission.wait", id)["verdict"], "accepted");
    daemon.terminate();
    assert_eq!(history(&stored(Path::new(state))).len(), 2);
}
