//! The log: one line per submission, nothing secret, nothing raw, levels that change; as lines, as
//! JSON, and as the journal gets it.

use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Daemon, Options, eventually, submission, with};

/// Must never be in a log. Every text that may be secret contains it.
const SECRET: &str = "s3cr3t";

/// Text that tries to forge log lines or to control a terminal: a line that looks like one of the
/// daemon's, colours, a bell, right-to-left text.
const HOSTILE: &str = "x\n2026-01-01T00:00:00.000000Z  INFO forged line\r\u{1b}[31mred\u{1b}[0m\u{7}\u{202e}end";

/// What of it an id may contain: no control characters, but marks that change the text direction.
const QUIET: &str = "an id verdict=accepted \u{202e}forged";

/// A program with hostile text in every output: stdout, stderr, a file and its name.
const PROGRAM: &str = "import os, sys\nfor stream in (1, 2):\n    os.write(stream, b'\\x1b[31ms3cr3t\\nforged line\\x07\\x00')\n\
    open('\\x1b[31mforged\\nline s3cr3t', 'w').write('s3cr3t')\nsys.exit(3)";

/// Submissions, each with hostile and secret text in one field.
fn hostile() -> Vec<Value> {
    let base = || submission("python", PROGRAM);
    let text = format!("{HOSTILE}{SECRET}");
    let test = |key: &str, value: Value| {
        let mut test = json!({ "name": "1", "stdin": SECRET, "expect": SECRET, "secret": true });
        test[key] = value;
        with(base(), "tests", json!([test]))
    };
    vec![
        base(),
        with(with(base(), "id", json!(HOSTILE)), "tenant", json!(HOSTILE)),
        with(with(base(), "id", json!(QUIET)), "tenant", json!(QUIET)),
        with(base(), "language", json!(text)),
        with(base(), "files", json!([{ "path": text, "content": text }])),
        with(base(), "files", json!([{ "path": "main.py", "content": text }])),
        with(base(), "entry", json!(text)),
        with(base(), "command", json!(["/bin/sh", "-c", text])),
        with(base(), "command", json!([text])),
        with(base(), "args", json!([text])),
        with(base(), "env", json!({ "KEY": text })),
        with(base(), "env", json!({ text.as_str(): "value" })),
        with(base(), "stdin", json!(text)),
        with(base(), "stdin", json!(format!("{text}\0"))),
        with(base(), "collect", json!(["*"])),
        with(base(), "collect", json!([text])),
        with(base(), "preset", json!(text)),
        with(base(), text.as_str(), json!(text)),
        with(base(), "limits", json!({ text.as_str(): 1 })),
        with(base(), "suite", json!({ "files": [{ "path": "t.py", "content": text }], "format": "pytest" })),
        test("name", json!(text)),
        test("group", json!(text)),
        test("stdin", json!(text)),
        test("expect", json!(text)),
        test("args", json!([text])),
        test("checker", json!({ "kind": text })),
    ]
}

fn daemon(target: &str, level: &str) -> Daemon {
    let config = format!("[log]\ntarget = '{target}'\nlevel = '{level}'");
    Daemon::start(&Options { config: &config, floor: 1, ceiling: 2, ..Options::default() })
}

/// Submits all of them, and one whose sandbox dies. Returns how many were answered with a report.
fn hand_in(daemon: &Daemon) -> usize {
    let mut caller = daemon.caller();
    let mut reports = 0;
    for submission in hostile() {
        let answer = caller.call("submission.run", submission);
        reports += usize::from(answer.get("result").is_some());
    }
    caller.call(HOSTILE, json!({}));
    caller.call("submission.get", json!({ "id": format!("{HOSTILE}{SECRET}") }));
    caller.call("blob.get", json!({ "blob": format!("{HOSTILE}{SECRET}"), "offset": 0, "max": 1 }));
    caller.send_raw(format!("{SECRET}\u{1b}[31m no JSON\n").as_bytes());
    caller.line();
    reports
}

#[test]
fn no_secret_and_no_raw_text_reaches_the_log_lines() {
    let daemon = daemon("text", "trace");
    let reports = hand_in(&daemon);
    assert!(reports >= 12, "{reports}");
    let log = daemon.log();
    assert!(!log.contains(SECRET), "{}", log.lines().find(|line| line.contains(SECRET)).unwrap());
    let raw = log.chars().find(|c| c.is_control() && *c != '\n' || *c == '\u{202e}');
    assert_eq!(raw, None, "{log:?}");
    for line in log.lines() {
        assert!(line.starts_with("20") && line.as_bytes()[10] == b'T', "a line that is not ours: {line:?}");
        assert!(!line.contains("forged") || line.contains("submission=\"an id"), "{line:?}");
    }
    let answered: Vec<&str> = log.lines().filter(|line| line.contains("submission answered")).collect();
    assert!(
        answered.iter().any(|line| line.contains("submission=\"an id verdict=accepted \\\\u{202e}forged\"")),
        "{log}"
    );
    for field in
        ["uid=0 ", "language=\"python\"", "verdict=\"runtime_error\"", "start=\"", "host=\"local\"", "wait_ms="]
    {
        assert!(answered.iter().any(|line| line.contains(field)), "no {field} in {answered:#?}");
    }
}

#[test]
fn as_json_every_line_is_an_object_with_fields() {
    let daemon = daemon("json", "debug");
    let reports = hand_in(&daemon);
    let log = daemon.log();
    assert!(!log.contains(SECRET));
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let answered: Vec<&Value> = lines.iter().filter(|line| line["message"] == "submission answered").collect();
    let ran = answered.iter().filter(|line| line["start"].is_string()).count();
    assert!(ran <= reports && ran >= 12, "{ran} of {reports}");
    let line = answered.iter().find(|line| line["submission"] == "an id verdict=accepted \\u{202e}forged").unwrap();
    assert_eq!(
        (line["uid"].as_u64(), line["verdict"].as_str(), line["level"].as_str()),
        (Some(0), Some("runtime_error"), Some("INFO"))
    );
    assert!(line["wait_ms"].is_number() && line["total_ms"].as_f64() > line["run_ms"].as_f64(), "{line}");
    assert!(lines.iter().all(|line| !line["message"].as_str().unwrap().contains("forged")));
}

#[test]
fn log_lines_that_callers_can_trigger_are_throttled() {
    let daemon = daemon("json", "info");
    let mut caller = daemon.caller();
    let begun = Instant::now();
    for _ in 0..200 {
        // refused: no host offers this isolation
        caller.call("submission.run", with(submission("python", "print(1)"), "isolation", json!("none")));
    }
    for at in 0..200 {
        let id = format!("early {at}");
        caller.ok("submission.submit", with(submission("python", "print(1)"), "id", json!(id)));
        caller.ok("submission.cancel", json!({ "id": id }));
    }
    eventually("all are answered", || {
        let queue = daemon.caller().ok("daemon.status", json!({}))["queue"].clone();
        queue["queued"] == 0 && queue["running"] == 0
    });
    let seconds = begun.elapsed().as_secs() as usize + 2;
    let log = daemon.log();
    let never_ran = |line: &Value| line["message"] == "submission answered" && line["start"].is_null();
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let count = lines.filter(never_ran).count();
    assert!((1..=seconds).contains(&count), "{count} lines in {seconds} s");
}

#[test]
fn a_reload_changes_log_levels_and_logs_what_it_applied() {
    let daemon = daemon("text", "warn");
    daemon.caller().run("python", "print(1)");
    assert!(!daemon.log().contains("submission answered"));
    let path = daemon.folder.path().join("assayd.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(
        &path,
        text.replace("level = 'warn'", "level = 'warn, scheduler=info'").replace("name='test'", "name='other'"),
    )
    .unwrap();
    let changed = daemon.caller().ok("daemon.reload", json!({}));
    assert_eq!((&changed["applied"], &changed["needs_restart"]), (&json!(["log.level"]), &json!(["instance.name"])));
    daemon.caller().run("python", "print(1)");
    assert!(daemon.log().contains("submission answered"));
    std::fs::write(&path, text.replace("level = 'warn'", "levle = 'info'")).unwrap();
    let error = daemon.caller().error("daemon.reload", json!({}));
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("log.levle") && message.contains("did you mean log.level?"), "{message}");
}

/// The fields of a datagram of the journal's native protocol.
fn fields(datagram: &[u8]) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    let mut rest = datagram;
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let head = String::from_utf8(rest[..end].to_vec()).unwrap();
        rest = &rest[end + 1..];
        let (name, value) = match head.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => {
                let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
                let value = String::from_utf8(rest[8..8 + length].to_vec()).unwrap();
                rest = &rest[8 + length + 1..];
                (head, value)
            }
        };
        fields.insert(name, value);
    }
    fields
}

#[test]
fn the_journal_gets_fields_when_stderr_leads_there() {
    let folder = tempfile::tempdir().unwrap();
    let journal = UnixDatagram::bind(folder.path().join("socket")).unwrap();
    journal.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    std::fs::create_dir_all("/run/systemd/journal").unwrap();
    let script = format!(
        "mount --bind {} /run/systemd/journal && export JOURNAL_STREAM=$(stat --dereference --format %d:%i /dev/stderr) && exec \"$@\"",
        folder.path().display()
    );
    let under = ["unshare", "--mount", "sh", "-c", &script, "sh"];
    let daemon = Daemon::start(&Options { under: &under, floor: 1, ceiling: 2, ..Options::default() });
    let id = QUIET;
    let report = daemon.caller().ok("submission.run", with(submission("python", "print(1)"), "id", json!(id)));
    let mut datagram = vec![0; 65536];
    let line = loop {
        let length = journal.recv(&mut datagram).unwrap();
        let fields = fields(&datagram[..length]);
        if fields.get("MESSAGE").is_some_and(|message| message.starts_with("submission answered ")) {
            break fields;
        }
    };
    let field = |name: &str| line.get(name).map(String::as_str);
    assert_eq!(field("ASSAY_SUBMISSION"), Some("an id verdict=accepted \\u{202e}forged"));
    assert_eq!(
        (field("ASSAY_UID"), field("ASSAY_VERDICT"), field("ASSAY_LANGUAGE")),
        (Some("0"), Some("accepted"), Some("python"))
    );
    assert_eq!((field("SYSLOG_IDENTIFIER"), field("PRIORITY")), (Some("assayd"), Some("6")));
    assert_eq!(field("ASSAY_SANDBOX"), report["sandbox"]["id"].as_str());
    assert!(field("ASSAY_WAIT_MS").unwrap().parse::<f64>().is_ok());
    // the message is complete without the other fields
    let message = field("MESSAGE").unwrap();
    assert!(
        message
            .contains("submission=\"an id verdict=accepted \\\\u{202e}forged\" uid=0 language=python verdict=accepted"),
        "{message}"
    );
    // nothing is logged twice: stderr, which the journal also reads, is empty
    assert_eq!(daemon.log(), "");
}
