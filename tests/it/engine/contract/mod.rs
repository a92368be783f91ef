//! The protocol's contract: the types, docs/protocol.schema.json and docs/PROTOCOL.md agree, and
//! real conversations ([`transcripts`]), the commands' JSON ([`outputs`]) and client programs
//! ([`examples`]) follow them.
//!
//! `UPDATE_GOLDEN=1` rewrites the files; read the diff before committing it.

mod document;
pub mod examples;
pub mod openapi;
mod outputs;
mod transcripts;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use protocol::schema;
use serde_json::{Value, json};

use crate::harness::root;

/// Values to validate, each with its schema.
#[derive(Default)]
pub struct Validation(Vec<Value>);

impl Validation {
    /// Adds a value. Its schema is complete in itself, or refers to the protocol's definitions.
    pub fn add(&mut self, what: &str, schema: &Value, value: &Value) {
        self.0.push(json!({ "what": what, "schema": schema, "value": value }));
    }

    /// The violations, one per line.
    pub fn complaints(&self) -> String {
        let script = root().join("tests/it/engine/contract/validate.py");
        let schema = root().join("docs/protocol.schema.json");
        // Debian's Python, which has the module (scripts/lib.sh installs it)
        let mut python = Command::new("/usr/bin/python3");
        python.arg(script).arg(schema).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = python.spawn().expect("python3-jsonschema is needed: scripts/lib.sh has it");
        let mut input = child.stdin.take().unwrap();
        let rows = self.0.clone();
        let writing = std::thread::spawn(move || {
            for row in rows {
                let _ = writeln!(input, "{row}");
            }
        });
        let done = child.wait_with_output().unwrap();
        writing.join().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8_lossy(&done.stdout).into_owned()
    }

    pub fn must_hold(&self) {
        let complaints = self.complaints();
        assert!(complaints.is_empty(), "{complaints}");
    }
}

/// Compares a file with what it must be, or writes it.
pub fn must_be(path: &Path, text: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        return;
    }
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    if kept != text {
        let line = kept.lines().zip(text.lines()).position(|(a, b)| a != b).unwrap_or(kept.lines().count());
        let show = |text: &str| text.lines().nth(line).unwrap_or("(its end)").to_owned();
        panic!(
            "{} differs from line {}:\n  is      {}\n  must be {}\nUPDATE_GOLDEN=1 writes it anew",
            path.display(),
            line + 1,
            show(&kept),
            show(text)
        );
    }
}

#[test]
fn the_schema_file_is_what_the_types_say() {
    must_be(&root().join("docs/protocol.schema.json"), &format!("{:#}\n", schema::document()));
}

#[test]
fn the_schema_accepts_what_is_right_and_nothing_else() {
    let line = schema::document();
    let call = |params: Value| json!({ "jsonrpc": "2.0", "id": 1, "method": "submission.run", "params": params });
    let plain = json!({ "language": "python", "files": [{ "path": "main.py", "content": "" }] });
    let with = |key: &str, value: Value| call(crate::harness::with(plain.clone(), key, value));
    let right = [call(plain.clone()), call(json!({ "submission": plain, "stream": true }))];
    let wrong = [
        call(json!({ "language": "python" })),
        with("limts", json!({})),
        with("limits", json!({ "cpu_msx": 1 })),
        with("stop", json!("now")),
        with("id", json!(7)),
        json!({ "jsonrpc": "2.0", "id": 1, "method": "submission.walk", "params": {} }),
        json!({ "jsonrpc": "2.0", "id": 1, "error": { "code": 1, "message": "no" } }),
        // a message of the daemon with a field that the types do not have
        json!({ "jsonrpc": "2.0", "method": "submission.event", "params": { "id": "a", "seq": 0, "kind": "accepted", "more": 1 } }),
    ];
    let mut validation = Validation::default();
    right.iter().for_each(|value| validation.add("right", &line, value));
    wrong.iter().enumerate().for_each(|(number, value)| validation.add(&format!("wrong {number}"), &line, value));
    let complaints = validation.complaints();
    assert!(!complaints.contains("right: "), "{complaints}");
    for (number, value) in wrong.iter().enumerate() {
        assert!(complaints.contains(&format!("wrong {number}: ")), "{value} is accepted");
    }
}
