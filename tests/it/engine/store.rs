//! What a daemon keeps in its store, read from the file after it ended, and what it does where the
//! file cannot be used.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use store::{HistoryFilter, HistoryRow, Options as StoreOptions, Store};

use super::faults::outages::{SmallDisk, empty, fill};
use crate::harness::{Daemon, Options, eventually, root, submission, with};

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
    assert!(listed[0].memory_bytes > 0 && listed[0].cpu_ms > 0.0, "{:?}", listed[0]);
    assert!(rows[0].0.answered_ms >= listed[0].received_ms && listed[0].received_ms > 1_700_000_000_000);

    let blob = large["run"]["stdout"]["blob"].as_str().expect("its output is a blob");
    let files = store.report(rows[2].0.key).unwrap().unwrap().files;
    assert_eq!((files.len(), files[0].label.as_str(), files[0].bytes), (1, blob, 3_000_000));
    assert!(store.output(&files[0].name).unwrap().iter().all(|byte| *byte == b'x'));
    // nothing of what was handed in
    let database = std::fs::read(state(&daemon).join("assay.db")).unwrap();
    assert!(!database.windows(8).any(|bytes| bytes == b"exit 3\"}" || bytes == b"echo lat"), "a source is in the file");
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
    empty(disk.path());
    eventually("the store is open", || daemon.log().contains("the store is open"));
    assert_eq!(daemon.caller().run("bash", "echo hello")["verdict"], "accepted");
    daemon.terminate();
    assert_eq!(history(&stored(Path::new(state))).len(), 1);
}
