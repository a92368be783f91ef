//! The commands of docs/FIRST-LESSON.md work, and print what the page shows.

use std::process::{Command, Stdio};

use crate::documents::{Step, steps};
use crate::harness::{Daemon, Options, root};

/// The words of an output, without figures, times and the padding of tables.
fn without_figures(output: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for word in output.split_whitespace() {
        let bare = word.trim_end_matches([')', ',']);
        let is_figure = bare.parse::<f64>().is_ok();
        match bare {
            "ms" | "s" if words.last().is_some_and(|last| last == "FIGURE") => {}
            // how a sandbox was found depends on how far the pool is
            "(hot" | "(warm" | "(cold" => words.push("(START".to_owned()),
            _ if is_figure => words.push("FIGURE".to_owned()),
            _ => words.push(word.to_owned()),
        }
    }
    words
}

#[test]
fn the_first_lesson_works_and_prints_what_the_page_shows() {
    let text = std::fs::read_to_string(root().join("docs/FIRST-LESSON.md")).unwrap();
    let daemon = Daemon::start(&Options { profiles: "python,python-pytest", ..Options::default() });
    let folder = tempfile::tempdir().unwrap();
    let bin = crate::programs::programs();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut last = None;
    let mut shown = 0;
    for step in steps(&text) {
        match step {
            Step::Write(name, content) => {
                let file = folder.path().join(name);
                std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                std::fs::write(file, content).unwrap();
            }
            Step::Run(commands) => {
                let mut command = Command::new("bash");
                command.args(["-o", "pipefail", "-c", commands]).current_dir(folder.path()).env("PATH", &path);
                command.env("ASSAY_SOCKET", daemon.folder.path().join("assay.sock")).env("NO_COLOR", "1");
                last = Some(command.stdin(Stdio::null()).output().unwrap());
            }
            Step::Prints(status, expected) => {
                let output = last.take().expect("commands before their output");
                let printed = String::from_utf8(output.stdout).unwrap();
                assert_eq!(without_figures(&printed), without_figures(expected), "{printed}");
                assert_eq!(output.status.code(), Some(status), "{printed}");
                shown += 1;
            }
            Step::Provoke(..) => panic!("docs/FIRST-LESSON.md has no symptoms"),
        }
    }
    assert_eq!(shown, 5);
}
