//! The documents are tested.
//!
//! The commands of docs/DOCKER.md and docs/OPERATIONS.md run in order in namespaces made for them
//! (`machine.sh`), and each symptom of their tables is provoked and must show the quoted text. The
//! commands of docs/FIRST-LESSON.md run against a daemon and must print what the page shows. In
//! other documents a block of commands names the test that runs it, or says why none does.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use config::schema::{self, Kind};
use config::{self, Config};
use daemon::reload::changes;

use crate::engine::docker::{Authority, registry};
use crate::harness::{Daemon, Options, images, root};
use crate::offline::layout::sources;

/// One instruction of a document.
#[derive(Debug, PartialEq)]
enum Step<'a> {
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
const NOT_RUN: &str = "<!-- not run here: ";

/// Marks the block that follows as the output of the commands before it.
const PRINTS: &str = "<!-- prints";

/// Reads a document. These become steps: blocks of `sh`; blocks after a line that ends in a path in
/// backticks and a colon; `<!-- test: command -->`; blocks after [`PRINTS`]; and rows of a table
/// whose first cell is in backticks and whose last ends in a comment. A block after [`NOT_RUN`] is
/// skipped.
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
    Authority::new().expired_files(&machine.path().join("expired"), "engine.example");
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
fn every_command_of_the_docker_guide_works_and_every_symptom_has_its_words() {
    run(&root().join("docs/DOCKER.md"));
}

#[test]
fn every_command_of_the_operations_guide_works_and_every_symptom_has_its_words() {
    run(&root().join("docs/OPERATIONS.md"));
}

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

fn documents() -> Vec<(PathBuf, String)> {
    let files = std::fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let documents = files.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    documents.map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn every_block_of_commands_names_the_test_that_runs_it_or_why_none_does() {
    for (path, text) in documents() {
        if ["DOCKER.md", "OPERATIONS.md", "FIRST-LESSON.md"].iter().any(|name| path.ends_with(name)) {
            continue;
        }
        let mut before = "";
        let mut inside = false;
        for (number, line) in text.lines().enumerate() {
            if line.starts_with("```") {
                inside = !inside;
                if inside && ["sh", "console", "bash", "shell"].contains(&line.trim_start_matches('`')) {
                    let by = before.strip_prefix("<!-- run by: ").and_then(|rest| rest.strip_suffix(" -->"));
                    let runs = |test: &str| root().join(test).exists() || root().join(format!("{test}.rs")).exists();
                    let marked = before.starts_with(NOT_RUN) || by.is_some_and(runs);
                    assert!(marked, "{}:{}: which test runs this?", path.display(), number + 1);
                }
            }
            if !line.trim().is_empty() {
                before = line;
            }
        }
    }
}

#[test]
fn every_assay_command_in_the_text_of_the_operators_guides_parses() {
    use clap::Parser;
    let mut seen = 0;
    for (path, text) in documents() {
        if !(path.ends_with("DOCKER.md") || path.ends_with("OPERATIONS.md") || path.ends_with("INSTALL.md")) {
            continue;
        }
        for words in text.split('`').skip(1).step_by(2).filter(|words| words.starts_with("assay ")) {
            let line: Vec<&str> = words.split_whitespace().collect();
            let parsed = cli::Cli::try_parse_from(line);
            assert!(parsed.is_ok(), "{}: `{words}`: {}", path.display(), parsed.unwrap_err());
            seen += 1;
        }
    }
    assert!(seen > 15, "only {seen} commands were found");
}

/// The text before the parenthesis that closes a call.
fn arguments(rest: &str) -> &str {
    let (mut open, mut quoted, mut escaped) = (1, false, false);
    for (at, c) in rest.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            '(' if !quoted => open += 1,
            ')' if !quoted => open -= 1,
            _ => {}
        }
        if open == 0 {
            return &rest[..at];
        }
    }
    rest
}

/// The message of every `warn!` and `error!` of the sources.
fn messages_for_operators() -> Vec<String> {
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    let mut texts = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        for call in code.split("tracing::warn!(").skip(1).chain(code.split("tracing::error!(").skip(1)) {
            let call = arguments(call);
            let literals: Vec<&str> = call.split('"').skip(1).step_by(2).collect();
            // joins continued lines; takes the longest part without a placeholder
            let last =
                literals.last().unwrap_or(&"").replace("\\\n", "").split_whitespace().collect::<Vec<_>>().join(" ");
            let plain = last.split(['{', '}']).step_by(2).max_by_key(|part| part.len()).unwrap_or_default();
            texts.push(plain.trim_matches([' ', ',', '(', ')', ':']).to_owned());
        }
    }
    texts.retain(|text| text.contains(' '));
    texts
}

#[test]
fn every_warning_and_error_of_the_log_is_in_the_table_of_symptoms() {
    let guide = std::fs::read_to_string(root().join("docs/OPERATIONS.md")).unwrap();
    let rows: Vec<&str> = guide.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let texts = messages_for_operators();
    assert!(texts.len() > 15, "{texts:?}");
    for text in texts {
        assert!(rows.iter().any(|row| text.contains(row)), "docs/OPERATIONS.md has no symptom `{text}`");
    }
}

#[test]
fn the_documents_name_the_rust_version_that_cargo_asks_for() {
    let read = |name: &str| std::fs::read_to_string(root().join(name)).unwrap();
    let manifest = read("Cargo.toml");
    let version = manifest.lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap().trim_matches('"');
    assert!(read("README.md").contains(&format!("Rust ({version} or later)")), "README.md");
    assert!(read("docs/INSTALL.md").contains(&format!("Rust {version} is the least")), "docs/INSTALL.md");
}

#[test]
fn every_alert_has_its_runbook() {
    let rules = std::fs::read_to_string(root().join("config/prometheus/assay.rules.yml")).unwrap();
    let guide = std::fs::read_to_string(root().join("docs/OPERATIONS.md")).unwrap();
    let anchor = |heading: &str| heading.to_lowercase().replace(' ', "-");
    let anchors: Vec<String> = guide.lines().filter_map(|line| line.strip_prefix("### ")).map(anchor).collect();
    let named: Vec<&str> = rules
        .lines()
        .filter_map(|line| line.split_once("OPERATIONS.md#"))
        .map(|(_, end)| end.trim_end_matches('"'))
        .collect();
    assert!(!named.is_empty());
    for name in named {
        assert!(anchors.iter().any(|anchor| anchor == name), "docs/OPERATIONS.md has no runbook {name}");
    }
}

/// The rows of a table of settings, as Markdown.
fn reference(table: &schema::Table, is_daemons: bool) -> String {
    let mut out = String::new();
    let head = if is_daemons {
        "| setting | takes | default | variable | a change | |\n|---|---|---|---|---|---|\n"
    } else {
        "| setting | takes | default | |\n|---|---|---|---|\n"
    };
    out.push_str(head);
    let usual = Config::default();
    let variables = config::sources::variables();
    for (key, leaf) in table.settings() {
        let (section, name) = key.rsplit_once('.').map_or(("", key.as_str()), |(section, name)| (section, name));
        let written = config::written(name, leaf, &leaf.default);
        let found = table_at(table, section).find(name).unwrap();
        let short = found.unit.and_then(|_| name.rsplit_once('_')).map_or(name, |(short, _)| short);
        let full = if section.is_empty() { short.to_owned() } else { format!("{section}.{short}") };
        let takes = match (&leaf.kind, found.unit) {
            (_, Some(unit)) => format!("a quantity, {}; or {name} = a number", unit.names()),
            (Kind::Truth, _) => "true, false".to_owned(),
            (Kind::Whole(_) | Kind::Signed, _) => "a whole number".to_owned(),
            (Kind::Number, _) => "a number".to_owned(),
            (Kind::Text, _) => "text".to_owned(),
            (Kind::Path, _) => "a path".to_owned(),
            (Kind::Word(words), _) => words.iter().map(|word| format!("`{word:?}`")).collect::<Vec<_>>().join(", "),
            (Kind::Caller | Kind::List(_), _) => "a list".to_owned(),
            (Kind::Map, _) => "names with a text each".to_owned(),
        };
        let default = written.map_or("none".to_owned(), |line| format!("`{}`", line.split_once(" = ").unwrap().1));
        let doc = leaf.doc.replace('|', "\\|");
        if !is_daemons {
            writeln!(out, "| `{full}` | {takes} | {default} | {doc} |").unwrap();
            continue;
        }
        let all = variables.iter().filter(|(_, of)| **of == key || **of == full).map(|(name, _)| name.as_str());
        // the short variable, and the one that every setting has
        let mut all: Vec<&str> =
            all.filter(|name| found.unit.is_none() || !name.ends_with(&name_of(name, found.name))).collect();
        all.sort_by_key(|name| name.len());
        let all = all.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let mut changed = serde_json::to_value(&usual).unwrap();
        *changed.pointer_mut(&format!("/{}", key.replace('.', "/"))).unwrap() = other(leaf);
        let (applied, _) = changes(&usual, &serde_json::from_value(changed).unwrap());
        let change = if applied.is_empty() { "restart" } else { "reload" };
        writeln!(out, "| `{full}` | {takes} | {default} | {all} | {change} | {doc} |").unwrap();
    }
    out
}

/// A value that differs from the default.
fn other(leaf: &schema::Leaf) -> serde_json::Value {
    use serde_json::json;
    match &leaf.kind {
        Kind::Truth => json!(leaf.default != json!(true)),
        Kind::Whole(_) | Kind::Signed | Kind::Number | Kind::Caller => json!(7),
        Kind::Text | Kind::Path => json!("/other"),
        Kind::Word(words) => json!(words.iter().find(|word| leaf.default != json!(word)).unwrap()),
        Kind::List(of) if **of == Kind::Caller => json!([7]),
        Kind::List(_) => json!(["other"]),
        Kind::Map => json!({ "other": "7" }),
    }
}

/// The suffix of the variable that has the unit in its name.
fn name_of(variable: &str, full: &str) -> String {
    let ending = full.rsplit('_').next().unwrap().to_uppercase();
    if variable.ends_with(&ending) { format!("_{ending}") } else { "\0".to_owned() }
}

fn table_at<'a>(table: &'a schema::Table, section: &str) -> &'a schema::Table {
    section.split('.').filter(|part| !part.is_empty()).fold(table, |table, part| match &table.fields[part] {
        schema::Node::Table(inner) => inner,
        _ => panic!("{part} is not a section"),
    })
}

#[test]
fn the_reference_of_settings_is_generated_from_the_code() {
    let path = root().join("docs/OPERATIONS.md");
    let guide = std::fs::read_to_string(&path).unwrap();
    let mut now = guide.clone();
    for (mark, table, is_daemons) in
        [("settings", schema::config(), true), ("profile settings", schema::profile(), false)]
    {
        let (begin, end) = (format!("<!-- {mark} -->\n"), format!("<!-- end of {mark} -->"));
        let from = now.find(&begin).unwrap() + begin.len();
        let to = now.find(&end).unwrap();
        now.replace_range(from..to, &reference(table, is_daemons));
    }
    if std::env::var_os("ASSAY_WRITE_REFERENCE").is_some() {
        std::fs::write(&path, &now).unwrap();
    } else {
        assert!(now == guide, "docs/OPERATIONS.md is behind the code: make reference");
    }
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
