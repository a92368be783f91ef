//! What can be found again: history, statistics, receipts, usage over time; and what is left when a
//! tenant is forgotten. Through the commands that operators use.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use crate::harness::{Daemon, Options, eventually, skip, submission, with};

fn bash() -> Daemon {
    Daemon::start(&Options { profiles: "bash", ..Options::default() })
}

/// Runs `assay` with a daemon's socket.
fn assay(daemon: &Daemon, args: &[&str]) -> Output {
    let mut command = Command::new(crate::programs::program("assay"));
    command.env("ASSAY_SOCKET", daemon.socket()).env("NO_COLOR", "1").args(args).output().unwrap()
}

/// The output of a command that succeeds.
fn said(daemon: &Daemon, args: &[&str]) -> String {
    let output = assay(daemon, args);
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{args:?}: {stdout}{stderr}");
    stdout
}

/// The message of a command that fails with this status.
fn failed(daemon: &Daemon, status: i32, args: &[&str]) -> String {
    let output = assay(daemon, args);
    assert_eq!(output.status.code(), Some(status), "{args:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stderr)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn named(code: &str, id: &str, tenant: &str) -> Value {
    with(with(submission("bash", code), "id", json!(id)), "tenant", json!(tenant))
}

/// A submission that ends as a `system_error`: its checker fails.
fn unjudged(id: &str, tenant: &str) -> Value {
    let checker = json!({
        "kind": "program", "language": "bash", "files": [{ "path": "main.sh", "content": "exit 7" }],
    });
    with(named("echo 1", id, tenant), "tests", json!([{ "name": "1", "stdin": "", "expect": "1", "checker": checker }]))
}

fn ids(list: &Value) -> Vec<&str> {
    list["submissions"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap()).collect()
}

/// The bytes that a DSSE envelope signs, by its specification.
fn signed_bytes(envelope: &Value) -> Vec<u8> {
    let kind = envelope["payloadType"].as_str().unwrap();
    let payload = BASE64.decode(envelope["payload"].as_str().unwrap()).unwrap();
    let mut bytes = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
    bytes.extend(payload);
    bytes
}

#[test]
fn a_receipt_is_verified_by_us_and_by_openssl_and_every_change_is_found() {
    let mut daemon = bash();
    let mut caller = daemon.caller();
    let tests = json!([{ "name": "hidden", "stdin": "6 7", "expect": "42", "secret": true }]);
    let report = caller.ok("submission.run", with(named("echo 42", "homework-1", "T"), "tests", tests));
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let receipt = said(&daemon, &["receipt", "homework-1"]);
    let file = path("receipt.json");
    std::fs::write(&file, &receipt).unwrap();
    let shown = said(&daemon, &["receipt", "verify", &file]);
    assert!(shown.starts_with("valid, signed by ") && shown.contains("homework-1"), "{shown}");

    let envelope = json_of(&receipt);
    let statement = json_of(&said(&daemon, &["receipt", "verify", &file, "--json"]));
    assert_eq!(
        (&statement["_type"], &statement["predicateType"]),
        (&json!("https://in-toto.io/Statement/v1"), &json!("urn:assay:receipt:v1"),)
    );
    let predicate = &statement["predicate"];
    assert_eq!(predicate["image"], report["sandbox"]["image"]);
    assert_eq!((&predicate["verdict"], &predicate["tenant"]), (&json!("accepted"), &json!("T")));
    assert_eq!(predicate["runs"][0]["name"], "hidden");
    let payload = text(&BASE64.decode(envelope["payload"].as_str().unwrap()).unwrap());
    // SHA-256 of 42
    assert!(!payload.contains("73475cb40a568e8da8a045ced110137e159f890ac4da883b6b17dc651b3a8049"), "{payload}");

    // the report that it is about, as three commands print it
    let state = said(&daemon, &["get", "homework-1", "--json"]);
    let alone = json_of(&state)["report"].to_string();
    for (name, content) in [("state.json", &state), ("report.json", &alone)] {
        std::fs::write(path(name), content).unwrap();
        said(&daemon, &["receipt", "verify", &file, "--report", &path(name)]);
    }
    std::fs::write(path("other.json"), alone.replace("accepted", "wrong_answer")).unwrap();
    let message = failed(&daemon, 1, &["receipt", "verify", &file, "--report", &path("other.json")]);
    assert!(message.contains("is not the report that the receipt of \"homework-1\" is about"), "{message}");

    let key = caller.ok("daemon.status", json!({}))["receipt_key"].clone();
    assert_eq!(key["id"], envelope["signatures"][0]["keyid"]);
    let pem = path("key.pem");
    std::fs::write(&pem, key["pem"].as_str().unwrap()).unwrap();
    openssl_verifies(folder.path(), &envelope, true);

    // every change, without the daemon
    daemon.terminate();
    let stopped = |status, file: &str| failed(&daemon, status, &["receipt", "verify", file, "--key", &pem]);
    let output = assay(&daemon, &["receipt", "verify", &file, "--key", &pem]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let mut changed = envelope.clone();
    let forged = payload.replace("\"verdict\":\"accepted\"", "\"verdict\":\"wrong_answer\"");
    assert_ne!(forged, payload);
    changed["payload"] = json!(BASE64.encode(forged));
    openssl_verifies(folder.path(), &changed, false);
    std::fs::write(path("changed.json"), changed.to_string()).unwrap();
    assert!(stopped(1, &path("changed.json")).contains("its signature does not match"));
    std::fs::write(path("none.json"), "{}").unwrap();
    assert!(stopped(1, &path("none.json")).contains("it is not a signed envelope"));
    assert!(stopped(2, &path("missing.json")).contains("cannot read"));
    let as_key = failed(&daemon, 2, &["receipt", "verify", &file, "--key", &file]);
    assert!(as_key.contains("it is not an ed25519 public key in PEM form"), "{as_key}");

    // the key stays over a restart, and is private
    let state_folder = daemon.folder.path().join("state");
    let mode = std::fs::metadata(state_folder.join("receipt-key.pem")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    daemon.start_again();
    said(&daemon, &["receipt", "verify", &file]);
    assert_eq!(said(&daemon, &["receipt", "homework-1"]), receipt);
    let message = failed(&daemon, 1, &["receipt", "no-such-id"]);
    assert!(message.contains("you have no such submission"), "{message}");
    daemon.terminate();
    std::fs::remove_file(state_folder.join("receipt-key.pem")).unwrap();
    daemon.start_again();
    let message = failed(&daemon, 1, &["receipt", "verify", &file]);
    assert!(message.contains("it is signed with another key"), "{message}");
}

/// Asks OpenSSL, with `key.pem` of the folder.
fn openssl_verifies(folder: &Path, envelope: &Value, is_valid: bool) {
    let signature = BASE64.decode(envelope["signatures"][0]["sig"].as_str().unwrap()).unwrap();
    std::fs::write(folder.join("signature"), signature).unwrap();
    std::fs::write(folder.join("signed"), signed_bytes(envelope)).unwrap();
    let words = "pkeyutl -verify -pubin -inkey key.pem -rawin -in signed -sigfile signature";
    let Ok(output) = Command::new("openssl").current_dir(folder).args(words.split(' ')).output() else {
        return skip("no openssl");
    };
    assert_eq!(output.status.success(), is_valid, "{}{}", text(&output.stdout), text(&output.stderr));
}

#[test]
fn history_is_filtered_paged_and_seen_by_those_who_may() {
    let daemon = bash();
    let mut caller = daemon.caller();
    for number in 0..5 {
        caller.ok("submission.run", named("echo 1", &format!("a{number}"), "T"));
    }
    caller.ok("submission.run", named("exit 3", "failed", "T"));
    let unjudged = caller.ok("submission.run", unjudged("unjudged", "T"));
    assert_eq!(unjudged["verdict"], "system_error", "{unjudged:#}");
    caller.ok("submission.run", named("echo 1", "b", "U"));
    let mut other = daemon.caller_as(3007);
    other.ok("submission.run", named("echo 1", "mine", "T"));

    // what an operator asks
    let words = ["history", "--tenant", "T", "--verdict", "system_error", "--since", "today"];
    let shown = said(&daemon, &words);
    let rows: Vec<&str> = shown.lines().collect();
    assert_eq!(rows.len(), 2, "{shown}");
    assert!(rows[1].contains("unjudged") && rows[1].contains("blame: caller"), "{shown}");
    let why = unjudged["message"].as_str().unwrap().lines().next().unwrap();
    assert!(rows[1].contains(why), "{shown}: {why}");
    let until = ["history", "--until", "yesterday"];
    assert_eq!(said(&daemon, &until), "no submissions\n");
    let message = failed(&daemon, 2, &["history", "--since", "last year"]);
    assert!(message.contains("use today, yesterday, an age such as 90m"), "{message}");

    // pages, newest first
    let mut found = Vec::new();
    let mut params = json!({ "tenant": "T", "limit": 3 });
    loop {
        let page = caller.ok("submission.list", params.clone());
        found.extend(ids(&page).into_iter().map(str::to_owned));
        // what is new does not move the pages
        caller.ok("submission.run", named("echo 1", "later", "T"));
        match page["next_cursor"].as_str() {
            Some(cursor) => params["cursor"] = json!(cursor),
            None => break,
        }
    }
    assert_eq!(found, ["mine", "unjudged", "failed", "a4", "a3", "a2", "a1", "a0"]);
    let all = json_of(&said(&daemon, &["history", "--all", "--json"]));
    assert_eq!(ids(&all)[1..], ["mine", "b", "unjudged", "failed", "a4", "a3", "a2", "a1", "a0"]);
    let row = &all["submissions"][1];
    assert_eq!((&row["state"], &row["uid"], &row["principal"]), (&json!("done"), &json!(3007), &json!("uid:3007")));
    assert!(row["total_ms"].as_f64().unwrap() > 0.0 && row["answered_ms"].as_i64() >= row["received_ms"].as_i64());

    // another uid
    let theirs = other.ok("submission.list", json!({ "limit": 10 }));
    assert_eq!(ids(&theirs), ["mine"]);
    for (method, params) in
        [("submission.get", json!({ "id": "b", "history": true })), ("receipt.get", json!({ "id": "b" }))]
    {
        assert_eq!(other.error(method, params)["data"]["code"], "not_found");
    }
    let rows = other.ok("submission.stats", json!({}));
    assert_eq!(rows["rows"].as_array().unwrap().len(), 1, "{rows}");
    for method in ["store.backup", "store.check", "store.vacuum"] {
        assert_eq!(other.error(method, json!({}))["data"]["code"], "forbidden");
    }
    assert_eq!(other.error("store.forget", json!({ "tenant": "T" }))["data"]["code"], "forbidden");

    // refusals
    let refused = [
        (json!({ "limit": 0 }), "limit"),
        (json!({ "limit": 1001 }), "limit"),
        (json!({ "cursor": "x" }), "cursor"),
        (json!({ "state": "queued", "limit": 1 }), "state"),
        (json!({ "verdict": "good" }), "verdict"),
    ];
    for (params, field) in refused {
        let error = caller.error("submission.list", params);
        assert_eq!(
            (&error["data"]["code"], &error["data"]["field"]),
            (&json!("bad_request"), &json!(field)),
            "{error}"
        );
    }
    // without new parameters it answers as it did
    let known = caller.ok("submission.list", json!({ "tenant": "U" }));
    assert_eq!(
        known,
        json!({ "submissions": [
        { "id": "b", "state": "done", "tenant": "U", "uid": nix::unistd::getuid().as_raw() }
    ] })
    );

    let stats = json_of(&said(&daemon, &["history", "--stats", "--json", "--tenant", "T"]));
    let count = |verdict: &str| {
        let rows = stats["rows"].as_array().unwrap().iter();
        rows.filter(|row| row["verdict"] == verdict).map(|row| row["count"].as_u64().unwrap()).sum::<u64>()
    };
    // the runs with the id `later` are one submission
    assert_eq!((count("accepted"), count("runtime_error"), count("system_error")), (7, 1, 1), "{stats}");
    assert!(said(&daemon, &["history", "--stats"]).contains("system_error"), "{stats}");
}

#[test]
fn what_memory_no_longer_has_is_found_in_history() {
    let mut daemon = bash();
    let mut caller = daemon.caller();
    // memory forgets a run without an id when it is answered
    let large = submission("bash", "head -c 3000000 /dev/zero | tr '\\0' x; echo oops >&2; exit 3");
    let large = with(large, "limits", json!({ "output_bytes": 4_000_000 }));
    let report = caller.ok("submission.run", large);
    let id = report["id"].as_str().unwrap();
    let state = caller.ok("submission.get", json!({ "id": id }));
    assert_eq!(state, json!({ "id": id, "state": "done", "report": report }));
    let logs = caller.ok("submission.logs", json!({ "id": id }));
    assert_eq!(logs["logs"][0]["stderr"], "oops\n");
    daemon.terminate();
    daemon.start_again();
    let mut caller = daemon.caller();
    assert_eq!(caller.ok("submission.get", json!({ "id": id })), state);
    let blob = report["run"]["stdout"]["blob"].as_str().expect("its output is a blob");
    let piece = caller.ok("blob.get", json!({ "blob": blob, "offset": 2_999_990 }));
    assert_eq!((piece["data_b64"].as_str(), piece["eof"].as_bool()), (Some("eHh4eHh4eHh4eA=="), Some(true)));
    assert_eq!(daemon.caller_as(3007).error("blob.get", json!({ "blob": blob }))["data"]["code"], "not_found");
    let shown = said(&daemon, &["show", id]);
    for part in ["runtime_error", "stderr of run\noops", "3.0 MiB", "more with --full", "language  bash"] {
        assert!(shown.replace("2.9 MiB", "3.0 MiB").contains(part), "{part:?} is missing in:\n{shown}");
    }
}

#[test]
fn usage_over_time_is_kept_of_runs_that_last_and_costs_short_ones_nothing() {
    let daemon = bash();
    let mut caller = daemon.caller();
    let busy = "for i in 1 2 3 4 5 6; do x=$(head -c 3000000 /dev/zero | tr '\\0' x); sleep 0.15; done";
    caller.ok("submission.run", with(named(busy, "long", ""), "limits", json!({ "cpu_ms": 10_000 })));
    caller.ok("submission.run", named("true", "short", ""));
    let long = caller.ok("submission.get", json!({ "id": "long", "history": true }));
    let points = long["usage"][0]["points"].as_array().unwrap_or_else(|| panic!("{long:#}"));
    assert!(points.len() >= 3 && long["usage"][0]["name"] == "run", "{points:?}");
    let at = |point: &Value, field: usize| point[field].as_f64().unwrap();
    assert!(points.windows(2).all(|pair| at(&pair[0], 0) < at(&pair[1], 0) && at(&pair[0], 1) <= at(&pair[1], 1)));
    let end = long["report"]["run"]["wall_ms"].as_f64().unwrap();
    assert!(points.iter().all(|point| at(point, 0) >= 90.0 && at(point, 0) <= end), "{points:?}: {end}");
    assert!(points.iter().any(|point| at(point, 2) > 0.0));
    let short = caller.ok("submission.get", json!({ "id": "short", "history": true }));
    let lasted = short["report"]["run"]["wall_ms"].as_f64().unwrap();
    assert!(short.get("usage").is_none() || lasted > 100.0, "{short:#}");
    let shown = said(&daemon, &["show", "long"]);
    assert!(shown.contains("over time") && shown.contains("  memory  "), "{shown}");
}

/// The files below a folder, and in what it names.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { all.extend(files(&path)) } else { all.push(path) }
    }
    all
}

/// The files of the state folder that have one of these texts.
fn with_text(state: &Path, texts: &[&str]) -> Vec<String> {
    let has = |path: &PathBuf| {
        let bytes = std::fs::read(path).unwrap_or_default();
        texts.iter().any(|text| bytes.windows(text.len()).any(|part| part == text.as_bytes()))
    };
    files(state).into_iter().filter(has).map(|path| path.display().to_string()).collect()
}

#[test]
fn nothing_of_a_tenant_that_was_forgotten_is_in_any_file_and_files_are_private() {
    let daemon = bash();
    let state = daemon.folder.path().join("state");
    let mut caller = daemon.caller();
    let large = "yes outputOfZebra | head -c 3000000; echo $ZEBRA >&2; exit 1";
    let mut submitted = named(large, "idOfZebra", "tenantZebra");
    submitted["limits"] = json!({ "output_bytes": 4_000_000 });
    submitted["env"] = json!({ "ZEBRA": "valueOfZebra" });
    submitted["stdin"] = json!("inputOfZebra");
    caller.ok("submission.submit", submitted);
    caller.ok("submission.wait", json!({ "id": "idOfZebra" }));
    caller.ok("submission.run", unjudged("unjudgedOfZebra", "tenantZebra"));
    caller.ok("submission.run", named("echo 1", "of another", "U"));
    said(&daemon, &["store", "check"]);
    said(&daemon, &["receipt", "idOfZebra"]);
    let kept = with_text(&state, &["tenantZebra", "outputOfZebra"]);
    assert!(kept.len() >= 2, "database and output: {kept:?}");
    // what was handed in is not kept, and leaves the log of the database at once
    eventually("what was handed in is gone", || with_text(&state, &["inputOfZebra"]).is_empty());
    // a backup that was not taken away goes with it
    caller.ok("store.backup", json!({}));

    let message = failed(&daemon, 2, &["store", "forget", "tenantZebra"]);
    assert!(message.contains("--yes"), "{message}");
    // two ids, and their reports
    assert_eq!(said(&daemon, &["store", "forget", "tenantZebra", "--yes"]), "4 submissions and reports removed\n");
    let texts = ["Zebra"];
    assert_eq!(with_text(&state, &texts), Vec::<String>::new());
    for method in ["submission.get", "submission.logs", "receipt.get"] {
        assert_eq!(caller.error(method, json!({ "id": "idOfZebra" }))["data"]["code"], "not_found", "{method}");
    }
    assert_eq!(ids(&caller.ok("submission.list", json!({ "limit": 10 }))), ["of another"]);
    for path in files(&state).into_iter().filter(|path| path.to_string_lossy().contains("assay")) {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}", path.display());
    }
}

#[test]
fn a_backup_is_taken_while_the_daemon_works_and_is_a_store_of_its_own() {
    let daemon = bash();
    let mut caller = daemon.caller();
    let large = submission("bash", "head -c 3000000 /dev/zero | tr '\\0' x");
    let large = with(with(large, "limits", json!({ "output_bytes": 4_000_000 })), "id", json!("large"));
    let report = caller.ok("submission.run", large);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("copy.db");
    let path = file.to_str().unwrap();
    caller.ok("submission.get", json!({ "id": "large", "history": true }));
    let shown = said(&daemon, &["store", "backup", path]);
    assert!(shown.contains("copy.db (") && shown.contains("MiB"), "{shown}");
    assert!(!daemon.folder.path().join("state/backup").exists());
    let message = failed(&daemon, 2, &["store", "backup", path]);
    assert!(message.contains("exists; name a new file"), "{message}");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(said(&daemon, &["store", "check"]), "the store is whole\n");
    assert!(said(&daemon, &["store", "vacuum"]).starts_with("the store has "));

    // put back as docs/OPERATIONS.md says
    let place = tempfile::tempdir().unwrap();
    std::fs::rename(&file, place.path().join("assay.db")).unwrap();
    std::fs::rename(folder.path().join("copy.db-outputs"), place.path().join("assay-outputs")).unwrap();
    let copy = store::Store::open(place.path(), store::Options::default()).unwrap();
    let row = copy.find(None, None, "large").unwrap().unwrap();
    let stored = copy.report(row.key).unwrap().unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&stored.body).unwrap(), report);
    assert_eq!(copy.output(&stored.files[0].name).unwrap().len(), 3_000_000);
    assert!(copy.check().unwrap().is_empty());
}
