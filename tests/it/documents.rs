//! Reads a document as the steps that its commands, files and tables describe.

use std::path::PathBuf;

use crate::harness::root;

/// One instruction of a document.
#[derive(Debug, PartialEq)]
pub enum Step<'a> {
    /// Run the commands of a block.
    Run(&'a str),
    /// Write a file: path and content.
    Write(&'a str, &'a str),
    /// Run a command that must fail and print a text: command and text.
    Provoke(&'a str, &'a str),
    /// The commands before must have ended with this status and printed this text.
    Prints(i32, &'a str),
}

/// Marks the block that follows as not run; the reason comes after it.
pub const NOT_RUN: &str = "<!-- not run here: ";

/// Marks the block that follows as the output of the commands before it.
const PRINTS: &str = "<!-- prints";

/// Reads a document. These become steps: blocks of `sh`; blocks after a line that ends in a path in
/// backticks and a colon; `<!-- test: command -->`; blocks after [`PRINTS`]; and rows of a table
/// whose first cell is in backticks and whose last ends in a comment. A block after [`NOT_RUN`] is
/// skipped.
pub fn steps(text: &str) -> Vec<Step<'_>> {
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
                _ if before.starts_with(NOT_RUN) => {}
                _ if before.starts_with(PRINTS) => {
                    let status = before.rsplit_once("status ").map(|(_, end)| end.trim_end_matches(" -->"));
                    steps.push(Step::Prints(status.map_or(0, |status| status.parse().unwrap()), block));
                }
                ("sh", _) => steps.push(Step::Run(block)),
                (_, Some((_, path))) => steps.push(Step::Write(path, block)),
                _ => panic!("no use for a block of {kind:?} after {before:?}"),
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

/// The documents in docs/, with their text.
pub fn documents() -> Vec<(PathBuf, String)> {
    let files = std::fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let documents = files.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    documents.map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn a_document_is_read_as_steps() {
    let text = "Text.\n\n<!-- test: prepare -->\n```sh\none\ntwo\n```\n\n`/etc/x.toml`:\n\n```toml\na = 1\n```\n\n\
                | symptom | what |\n|---|---|\n| `broken` | Repair it. <!-- provoke it --> |\n\n<!-- not run here: no journal -->\n```sh\njournalctl\n```\n\n\
                <!-- prints, with exit status 3 -->\n```text\nthree\n```\n";
    let expected = [
        Step::Run("prepare"),
        Step::Run("one\ntwo\n"),
        Step::Write("/etc/x.toml", "a = 1\n"),
        Step::Provoke("provoke it", "broken"),
        Step::Prints(3, "three\n"),
    ];
    assert_eq!(steps(text), expected);
}
