//! What the commands print with `--json` is what `assay schema` says, on a real daemon; and errors
//! are one line on stderr.

use std::process::{Command, Output, Stdio};

use cli::{outputs, schema};
use serde_json::{Value, json};

use super::{Validation, must_be};
use crate::harness::{Daemon, Options, root};

fn assay(daemon: &Daemon, words: &[&str]) -> Output {
    let mut command = Command::new(crate::programs::program("assay"));
    command.env("ASSAY_SOCKET", daemon.socket()).args(words).arg("--json").stdin(Stdio::null());
    command.current_dir(daemon.folder.path()).output().unwrap()
}

fn schema_of(name: &str) -> Value {
    schema::named(name).unwrap_or_else(|| panic!("no schema is called {name}"))
}

#[test]
fn every_command_prints_the_json_that_its_schema_describes() {
    let daemon = Daemon::start(&Options { floor: 1, ..Options::default() });
    daemon.warm();
    let file = |name: &str, text: &str| std::fs::write(daemon.folder.path().join(name), text).unwrap();
    file("main.py", "print(input() if False else 1)");
    for folder in ["package/data/secret", "package/submissions/accepted"] {
        std::fs::create_dir_all(daemon.folder.path().join(folder)).unwrap();
    }
    file("package/problem.yaml", "name: Double\n");
    file("package/.timelimit", "2\n");
    file("package/data/secret/1.in", "21\n");
    file("package/data/secret/1.ans", "42\n");
    file("package/submissions/accepted/double.py", "print(int(input()) * 2)");
    file("test_main.py", "import main\ndef test_it(): assert True");
    let calls: &[(&str, &[&str])] = &[
        ("run", &["run", "main.py"]),
        ("test", &["test", "main.py", "test_main.py"]),
        ("judge", &["judge", "package"]),
        ("rejudge", &["rejudge", "main.py", "--times", "2"]),
        ("submit", &["submit", "main.py", "--id", "one"]),
        ("wait", &["wait", "one"]),
        ("get", &["get", "one"]),
        ("cancel", &["cancel", "one"]),
        ("history", &["history", "--tenant", ""]),
        ("show", &["show", "one"]),
        ("receipt", &["receipt", "one"]),
        ("receipt verify", &["receipt", "verify", "receipt.json"]),
        ("store backup", &["store", "backup", "copy.db"]),
        ("store check", &["store", "check"]),
        ("store vacuum", &["store", "vacuum"]),
        ("store forget", &["store", "forget", "T", "--yes"]),
        ("token add", &["token", "add", "ci", "--tenant", "T", "--expires", "90d"]),
        ("token list", &["token", "list"]),
        ("token revoke", &["token", "revoke", "ci"]),
        ("status", &["status"]),
        ("top", &["top", "--count", "2", "--interval", "0.1"]),
        ("health", &["health"]),
        ("doctor", &["doctor", "--no-pull"]),
        ("images list", &["images", "list"]),
        ("images build", &["images", "build", "python"]),
        ("images prune", &["images", "prune", "--dry-run"]),
        ("pools", &["pools"]),
        ("hosts", &["hosts"]),
        ("hosts drain", &["hosts", "drain", "local"]),
        ("hosts resume", &["hosts", "resume", "local"]),
        ("drain", &["drain", "--wait"]),
        ("resume", &["resume"]),
        ("profiles", &["profiles"]),
        ("sandboxes", &["sandboxes"]),
        ("reload", &["reload"]),
    ];
    let mut validation = Validation::default();
    for (name, words) in calls {
        let output = assay(&daemon, words);
        let described = outputs::of(name).unwrap_or_else(|| panic!("{name} is not in the table"));
        let text = String::from_utf8(output.stdout).unwrap();
        if *name == "receipt" {
            file("receipt.json", &text);
        }
        let documents: Vec<Value> =
            serde_json::Deserializer::from_str(&text).into_iter().collect::<Result<_, _>>().unwrap();
        let wanted = if *name == "top" { 2 } else { 1 };
        assert_eq!(documents.len(), wanted, "{name}: {text}{}", String::from_utf8_lossy(&output.stderr));
        if described.form == outputs::JsonForm::Lines {
            assert_eq!(text.lines().count(), wanted, "{name}: a document per line");
        }
        for document in &documents {
            validation.add(name, &schema_of(described.schema), document);
        }
    }
    // not tried here: a command that needs a registry, and those without a schema of their own
    let tried = |name: &str| calls.iter().any(|(tried, _)| *tried == name);
    let untried: Vec<&str> = outputs::ALL.iter().map(|json| json.command).filter(|name| !tried(name)).collect();
    assert_eq!(untried, ["images pull", "rpc", "schema", "completions", "man"]);
    for (words, code) in [
        (&["run", "main.py", "--language", "cobol"][..], "unknown_profile"),
        (&["wait", "unknown"], "not_found"),
        (&["frobnicate"], "usage"),
        (&["run", "missing.py"], "usage"),
        (&["get", "one", "--socket", "/nonexistent"], "unreachable"),
        (&["images", "build", "nothing"], "unknown_profile"),
        (&["receipt", "verify", "main.py"], "invalid"),
    ] {
        let output = assay(&daemon, words);
        assert!(output.stdout.is_empty(), "{words:?}: {}", String::from_utf8_lossy(&output.stdout));
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(text.lines().count(), 1, "{words:?}: {text}");
        let error: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(error["error"]["data"]["code"], code, "{words:?}: {text}");
        validation.add("an error", &schema_of("cli.error"), &error);
    }
    validation.must_hold();
}

#[test]
fn every_schema_that_a_command_names_exists_and_is_one() {
    let mut validation = Validation::default();
    for json in outputs::ALL.iter().filter(|json| !json.schema.is_empty() && json.schema != "METHOD.result") {
        // the validator also checks the schema itself
        validation.add(json.command, &schema_of(json.schema), &json!(null));
    }
    assert!(validation.complaints().lines().count() >= 10, "null is none of them");
}

#[test]
fn the_page_about_the_command_line_has_the_json_of_every_command() {
    let path = root().join("docs/CLI.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let head = "| command | stdout | schema |\n|---|---|---|\n";
    let (prose, _) = text.split_once(head).expect("the table's head");
    let mut table = String::new();
    for json in outputs::ALL {
        let (form, schema) = match json.form {
            outputs::JsonForm::Document if json.schema.is_empty() => ("a schema", String::new()),
            outputs::JsonForm::Document => ("one document", format!("`{}`", json.schema)),
            outputs::JsonForm::Lines => ("one document per line", format!("`{}`", json.schema)),
            outputs::JsonForm::Text => ("text, also with `--json`", String::new()),
        };
        table += &format!("| `{}` | {form} | {schema} |\n", json.command);
    }
    must_be(&path, &format!("{prose}{head}{table}"));
}
