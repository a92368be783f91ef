//! Rules of the house that a machine can check: see CONTRIBUTING.md.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::harness::{root, sources};

/// The widest a comment line may be, indentation included, in characters.
const COMMENT_WIDTH: usize = 100;

/// The longest a source file of src/ may be, in lines.
const MAX_LINES: usize = 600;

/// The longest README.md may be, in lines.
const README_LINES: usize = 120;

/// Words and phrases with a plainer substitute. Text in backticks is not looked at.
const BANNED: [(&str, &str); 9] = [
    ("whoever", "name the subject"),
    ("whomever", "name the subject"),
    ("nobody", "name the subject; `nobody` in backticks is the Unix user"),
    ("somebody", "name the subject"),
    ("anybody", "name the subject"),
    ("for people", "say for which reader"),
    ("is no", "\"is not a valid ...\""),
    ("are no", "\"are not valid ...\""),
    ("as whom", "name the subject"),
];

/// What may stand around "is no" and "are no".
const ALLOWED: [&str; 6] =
    ["there is no", "there are no", "is no longer", "are no longer", "is no more", "are no more"];

/// Names of documents that are not in the repository.
const FOREIGN: [&str; 5] = ["DESIGN section", "DESIGN.md", "FEATURES", "HOUSE", "REVIEW.md"];

struct File {
    /// Relative to the repository.
    name: String,
    text: String,
}

fn read(path: &Path) -> File {
    let name = path.strip_prefix(root()).unwrap().display().to_string();
    File { name, text: std::fs::read_to_string(path).unwrap() }
}

fn rust_files(folders: &[&str]) -> Vec<File> {
    let mut paths = Vec::new();
    for folder in folders {
        sources(&root().join(folder), &mut paths);
    }
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

/// Every Rust file that is written by hand.
fn all_rust() -> Vec<File> {
    let files = rust_files(&["src", "tests/it", "benches", "examples", "fuzz"]);
    files.into_iter().filter(|file| !file.name.contains("/target/")).collect()
}

/// Documents, scripts and settings.
fn all_text() -> Vec<File> {
    let mut paths: Vec<PathBuf> =
        ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "Makefile", "Cargo.toml", "deny.toml"]
            .map(|name| root().join(name))
            .into();
    let mut folders =
        vec!["docs", "scripts", "config", "images", "systemd", ".ci", ".cargo"].into_iter().map(|f| root().join(f));
    let mut open: Vec<PathBuf> = folders.by_ref().collect();
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => open.push(path),
                false => paths.push(path),
            }
        }
    }
    paths.retain(|path| std::fs::read(path).is_ok_and(|bytes| std::str::from_utf8(&bytes).is_ok()));
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

/// A line's comment, if the line is nothing else.
fn comment(line: &str) -> Option<&str> {
    let line = line.trim_start();
    ["//!", "///", "//"].iter().find_map(|mark| line.strip_prefix(mark))
}

/// Each line that breaks a rule, with its place.
fn findings(files: &[File], rule: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let mut all = Vec::new();
    for file in files {
        for (number, line) in file.text.lines().enumerate() {
            if let Some(what) = rule(line) {
                all.push(format!("{}:{}: {what}: {}", file.name, number + 1, line.trim()));
            }
        }
    }
    all
}

fn assert_none(found: &[String]) {
    assert!(found.is_empty(), "{} places:\n{}", found.len(), found.join("\n"));
}

/// Whether a phrase stands in the text as whole words.
fn has_phrase(text: &str, phrase: &str) -> bool {
    let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    text.match_indices(phrase)
        .any(|(at, _)| !is_word(text[..at].chars().next_back()) && !is_word(text[at + phrase.len()..].chars().next()))
}

/// The text without what stands in backticks.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("` `")
}

fn banned(line: &str) -> Option<String> {
    let mut text = without_code(line).to_lowercase();
    for phrase in ALLOWED {
        text = text.replace(phrase, "");
    }
    BANNED
        .iter()
        .find(|(phrase, _)| has_phrase(&text, phrase))
        .map(|(phrase, plainer)| format!("{phrase:?} ({plainer})"))
}

#[test]
fn comments_are_at_most_a_hundred_columns_wide() {
    let too_wide = |line: &str| {
        let is_wide = comment(line).is_some() && line.chars().count() > COMMENT_WIDTH;
        // a long link cannot be broken
        (is_wide && line.split_whitespace().all(|word| word.len() < COMMENT_WIDTH - 10)).then(|| "too wide".to_owned())
    };
    assert_none(&findings(&all_rust(), too_wide));
}

#[test]
fn the_language_is_plain() {
    let mut files = all_rust();
    files.extend(all_text());
    // this list, and programs that are quoted from other projects
    files.retain(|file| file.name != "tests/it/offline/tidy.rs");
    assert_none(&findings(&files, banned));
}

/// Idioms that a message must not have: it says what does not exist, or what is missing.
const BANNED_IN_MESSAGES: [&str; 2] = ["there is no", "there are no"];

#[test]
fn a_message_says_plainly_what_is_missing() {
    let is_banned =
        |text: &str| BANNED_IN_MESSAGES.iter().find(|idiom| has_phrase(&text.to_lowercase(), idiom)).copied();
    let sources = rust_files(&["src"]);
    let mut found = findings(&sources, |line| {
        // code has these words in texts only
        let code = comment(line).is_none().then(|| line.split(" // ").next().unwrap_or_default());
        code.and_then(is_banned).map(|idiom| format!("{idiom:?}: say what does not exist"))
    });
    // the texts of messages in tables of symptoms
    let documents: Vec<File> = all_text().into_iter().filter(|file| file.name.ends_with(".md")).collect();
    found.extend(findings(&documents, |line| {
        let cells = line.strip_prefix('|').into_iter().flat_map(|row| row.split('`').skip(1).step_by(2));
        cells.filter_map(is_banned).next().map(|idiom| format!("{idiom:?} in a message"))
    }));
    assert_none(&found);
}

#[test]
fn no_comment_cites_a_document_that_is_not_here() {
    let mut files = all_rust();
    files.extend(all_text());
    files.retain(|file| file.name != "tests/it/offline/tidy.rs");
    assert_none(&findings(&files, |line| {
        FOREIGN.iter().find(|name| has_phrase(line, name)).map(|name| format!("cites {name}"))
    }));
}

/// Paths of the repository that a line names, such as `docs/ENGINE.md` or `src/init/run.rs`.
fn named_paths(line: &str) -> Vec<&str> {
    let is_path = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    line.split(|c| !is_path(c))
        .map(|word| word.trim_end_matches('.'))
        .filter(|word| {
            ["docs/", "src/", "tests/it/", "scripts/", "config/", "images/"].iter().any(|start| word.starts_with(start))
        })
        .filter(|word| [".md", ".rs", ".toml", ".json", ".sh", ".yml"].iter().any(|end| word.ends_with(end)))
        .collect()
}

#[test]
fn every_path_that_a_comment_or_a_document_names_exists() {
    let mut files = all_rust();
    files.extend(all_text().into_iter().filter(|file| file.name.ends_with(".md")));
    assert_none(&findings(&files, |line| {
        let is_text = comment(line).is_some() || line.contains("](");
        // mawk is the example of docs/LANGUAGES.md, and a test makes that file
        let mut paths = named_paths(line).into_iter().filter(|path| !path.contains("mawk"));
        let missing = paths.find(|path| !root().join(path).exists());
        missing.filter(|_| is_text).map(|path| format!("{path} does not exist"))
    }));
}

#[test]
fn every_link_of_a_document_leads_to_a_file() {
    for file in all_text().iter().filter(|file| file.name.ends_with(".md")) {
        let folder = root().join(&file.name).parent().unwrap().to_owned();
        for link in file.text.split("](").skip(1).filter_map(|rest| rest.split([')', '#', ' ']).next()) {
            if !link.is_empty() && !link.contains(':') {
                assert!(folder.join(link).exists(), "{}: the link to {link} leads nowhere", file.name);
            }
        }
    }
}

#[test]
fn a_doc_comment_has_three_words_or_is_not_there() {
    let mut found = Vec::new();
    for file in rust_files(&["src"]) {
        let lines: Vec<&str> = file.text.lines().map(str::trim).collect();
        for (number, line) in lines.iter().enumerate() {
            let is_doc = |line: &str| line.starts_with("///");
            let before = number.checked_sub(1).map_or("", |before| lines[before]);
            let after = lines.get(number + 1).copied().unwrap_or_default();
            let stands_alone = !is_doc(before) && !is_doc(after);
            // clap takes the help of an argument from its doc comment
            let is_help = file.name.starts_with("src/cli/") || file.name == "src/config/arguments.rs";
            if is_doc(line) && stands_alone && !is_help && line.split_whitespace().count() < 4 {
                found.push(format!("{}:{}: {line}", file.name, number + 1));
            }
        }
    }
    assert_none(&found);
}

/// The name that a line defines as a type of its module.
fn type_name(line: &str) -> Option<&str> {
    let mut rest = line;
    for visibility in ["pub ", "pub(crate) ", "pub(super) "] {
        rest = rest.strip_prefix(visibility).unwrap_or(rest);
    }
    let rest = ["struct ", "enum ", "trait ", "type ", "union "].iter().find_map(|kind| rest.strip_prefix(kind))?;
    rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()
}

#[test]
fn a_type_name_has_one_meaning() {
    let mut places: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in rust_files(&["src"]) {
        for name in file.text.lines().filter_map(type_name).filter(|name| *name != "Error") {
            places.entry(name.to_owned()).or_default().insert(file.name.clone());
        }
    }
    let twice = places.iter().filter(|(_, files)| files.len() > 1);
    let found: Vec<String> = twice.map(|(name, files)| format!("{name}: {files:?}")).collect();
    assert_none(&found);
}

#[test]
fn every_source_file_begins_with_what_it_is_for() {
    let files = all_rust();
    let without = files.iter().filter(|file| !file.text.starts_with("//!") && !file.text.starts_with("#![no_main]"));
    assert_none(&without.map(|file| file.name.clone()).collect::<Vec<_>>());
}

#[test]
fn no_source_file_is_longer_than_six_hundred_lines() {
    let files = rust_files(&["src"]);
    let long = files.iter().filter(|file| file.text.lines().count() > MAX_LINES);
    assert_none(&long.map(|file| format!("{}: {}", file.name, file.text.lines().count())).collect::<Vec<_>>());
}

#[test]
fn the_readme_is_short() {
    let lines = read(&root().join("README.md")).text.lines().count();
    assert!(lines <= README_LINES, "README.md has {lines} lines");
}
