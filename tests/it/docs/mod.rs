//! Documentation that is run: every command of docs/DOCKER.md, in order, on a machine made for it ([machine.sh]), and every
//! symptom of its last table, which must show the words that the table gives.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::docker::{Authority, registry};
use crate::harness::{images, root};

/// What a document asks for.
#[derive(Debug, PartialEq)]
enum Step<'a> {
    /// Commands, copied from a block.
    Run(&'a str),
    /// A file and its text.
    Write(&'a str, &'a str),
    /// A command that must end in these words.
    Provoke(&'a str, &'a str),
}

/// Blocks of `sh`; blocks behind a line that is a path in backticks and a colon; `<!-- test: command -->`; and the rows of a table whose first
/// cell is in backticks and whose last ends in a comment.
fn steps(text: &str) -> Vec<Step<'_>> {
    let mut steps = Vec::new();
    let mut before = "";
    let mut at = 0;
    while at < text.len() {
        let line = text[at..].lines().next().unwrap_or_default();
        at += line.len() + 1;
        if let Some(kind) = line.strip_prefix("```") {
            let length = text[at..].find("\n```").expect("a block without an end") + 1;
            let block = &text[at..at + length];
            at += length + "```\n".len();
            let path =
                before.rsplit_once('`').filter(|(_, end)| *end == ":").and_then(|(head, _)| head.rsplit_once('`'));
            match (kind, path) {
                ("sh", _) => steps.push(Step::Run(block)),
                (_, Some((_, path))) => steps.push(Step::Write(path, block)),
                _ => panic!("a block of {kind:?} that nothing is done with, after {before:?}"),
            }
        } else if let Some(command) = line.strip_prefix("<!-- test: ") {
            steps.push(Step::Run(command.strip_suffix(" -->").expect("a comment on one line")));
        } else if let Some((words, rest)) = line.strip_prefix("| `").and_then(|row| row.split_once("` |"))
            && let Some((_, command)) = rest.split_once("<!-- ")
        {
            steps.push(Step::Provoke(command.strip_suffix(" --> |").expect("a comment at the row's end"), words));
        }
        if !line.trim().is_empty() {
            before = line;
        }
    }
    steps
}

fn script(steps: &[Step<'_>]) -> String {
    let mut script = String::from(". \"$repo/tests/it/docs/machine.sh\"\n");
    for (number, step) in steps.iter().enumerate() {
        match step {
            Step::Run(commands) => write!(script, "step={number}\nset -x\n{commands}\n{{ set +x; }} 2>/dev/null\n"),
            Step::Write(path, text) => {
                write!(script, "mkdir -p \"$(dirname {path})\"\ncat >{path} <<'END-OF-BLOCK'\n{text}END-OF-BLOCK\n")
            }
            Step::Provoke(command, words) => write!(
                script,
                "echo {0}\nif out=$({command} 2>&1 </dev/null); then echo \"$out\"; echo 'PROVOKED NOTHING'; exit 1; fi\n\
                 case $out in *{1}*) ;; *) echo \"$out\"; echo WITHOUT THE WORDS: {1}; exit 1 ;; esac\n",
                quoted(&format!("+ {command}")),
                quoted(words)
            ),
        }
        .unwrap();
    }
    script
}

fn quoted(words: &str) -> String {
    format!("'{}'", words.replace('\'', "'\\''"))
}

/// Runs a document on a machine of its own. Its processes end with it.
fn run(document: &Path) {
    images();
    let text = std::fs::read_to_string(document).unwrap();
    let machine = tempfile::tempdir().unwrap();
    Authority::new().expired_files(&machine.path().join("expired"), "engine.example");
    let script_path = machine.path().join("script.sh");
    std::fs::write(&script_path, script(&steps(&text))).unwrap();
    let mut command = Command::new("unshare");
    command.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "bash"]).arg(&script_path);
    command.env("machine", machine.path()).env("repo", root()).env("ASSAY_UID_BASE", "39000");
    command.env("bin", Path::new(env!("CARGO_BIN_EXE_assay")).parent().unwrap());
    command.env("registry_program", registry::program()).stdin(Stdio::null());
    let done = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{}\n--- stdout\n{out}\n--- stderr\n{err}", document.display());
}

#[test]
fn every_command_of_the_docker_guide_works_and_every_symptom_has_its_words() {
    run(&root().join("docs/DOCKER.md"));
}

#[test]
fn a_document_is_taken_apart_into_what_it_asks_for() {
    let text = "Text.\n\n<!-- test: prepare -->\n```sh\none\ntwo\n```\n\n`/etc/x.toml`:\n\n```toml\na = 1\n```\n\n\
                | symptom | what |\n|---|---|\n| `broken` | Mend it. <!-- provoke it --> |\n";
    let expected = [
        Step::Run("prepare"),
        Step::Run("one\ntwo\n"),
        Step::Write("/etc/x.toml", "a = 1\n"),
        Step::Provoke("provoke it", "broken"),
    ];
    assert_eq!(steps(text), expected);
}
