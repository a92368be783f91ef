//! The commands of docs/DOCKER.md and docs/OPERATIONS.md run in order, in namespaces made for them
//! (`machine.sh`), and each symptom of their tables is provoked and must show the quoted text.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::documents::{Step, steps};
use crate::engine::docker::registry;
use crate::engine::docker::support::Authority;
use crate::harness::{images, root};

fn script(steps: &[Step<'_>]) -> String {
    let mut script = String::from(". \"$repo/tests/it/machine/docs/machine.sh\"\n");
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
            Step::Prints(..) => panic!("only docs/FIRST-LESSON.md shows output"),
        }
        .unwrap();
    }
    script
}

fn quoted(words: &str) -> String {
    format!("'{}'", words.replace('\'', "'\\''"))
}

/// Runs a document in mount, network and PID namespaces of its own; its processes end with it.
fn run(document: &Path) {
    images();
    let text = std::fs::read_to_string(document).unwrap();
    let machine = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    authority.write(&machine.path().join("expired"), authority.server_pair(&["engine.example"], 2021));
    let script_path = machine.path().join("script.sh");
    std::fs::write(&script_path, script(&steps(&text))).unwrap();
    let mut command = Command::new("unshare");
    command.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "bash"]).arg(&script_path);
    command.env("machine", machine.path()).env("repo", root()).env("ASSAY_UID_BASE", "39000");
    command.env("bin", crate::programs::programs());
    command.env("registry_program", registry::program()).stdin(Stdio::null());
    let done = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{}\n--- stdout\n{out}\n--- stderr\n{err}", document.display());
}

#[test]
fn every_command_of_the_docker_guide_works_and_every_symptom_has_its_message() {
    run(&root().join("docs/DOCKER.md"));
}

#[test]
fn every_command_of_the_operations_guide_works_and_every_symptom_has_its_message() {
    run(&root().join("docs/OPERATIONS.md"));
}
