//! The documents agree with the code: commands parse, messages and settings are listed, and blocks
//! of commands name the test that runs them or say why none does.

use std::fmt::Write as _;

use config::schema::{self, ValueKind};
use config::{self, Config};
use daemon::reload::changes;

use crate::documents::{NOT_RUN, documents};
use crate::harness::root;
use crate::harness::sources;

#[test]
fn every_block_of_commands_names_the_test_that_runs_it_or_why_none_does() {
    for (path, text) in documents() {
        if ["DOCKER.md", "OPERATIONS.md", "FIRST-LESSON.md", "HTTP.md"].iter().any(|name| path.ends_with(name)) {
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
fn every_fault_that_was_tried_has_its_test_and_its_symptom() {
    let guide = std::fs::read_to_string(root().join("docs/OPERATIONS.md")).unwrap();
    let symptoms: Vec<&str> = guide.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let mut files = Vec::new();
    ["src", "tests"].iter().for_each(|folder| sources(&root().join(folder), &mut files));
    let code: String = files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    let table = guide.split("<!-- faults -->").nth(1).unwrap().split("<!-- end of faults -->").next().unwrap();
    let rows: Vec<Vec<&str>> =
        table.trim().lines().skip(2).map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect();
    let kinds: Vec<&str> = rows.iter().map(|row| row[0]).filter(|kind| !kind.is_empty()).collect();
    assert!(rows.len() >= 20, "{} faults", rows.len());
    assert_eq!(kinds, ["configuration", "image", "engine", "disk", "network", "package", "load"]);
    for row in &rows {
        let [says, test] = [row[2], row[4]].map(|cell| cell.trim_matches('`'));
        assert!(symptoms.contains(&says), "{}: `{says}` is not a symptom of docs/OPERATIONS.md", row[1]);
        assert!(code.contains(&format!("fn {test}(")), "{}: there is no test {test}", row[1]);
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
fn reference(table: &schema::SettingsTable, is_daemons: bool) -> String {
    let mut out = String::new();
    let head = if is_daemons {
        "| setting | takes | default | variable | a change | |\n|---|---|---|---|---|---|\n"
    } else {
        "| setting | takes | default | |\n|---|---|---|---|\n"
    };
    out.push_str(head);
    let usual = Config::default();
    let variables = config::variables::variables();
    for (key, leaf) in table.settings() {
        let (section, name) = key.rsplit_once('.').map_or(("", key.as_str()), |(section, name)| (section, name));
        let written = config::written(name, leaf, &leaf.default);
        let found = table_at(table, section).find(name).unwrap();
        let short = found.unit.and_then(|_| name.rsplit_once('_')).map_or(name, |(short, _)| short);
        let full = if section.is_empty() { short.to_owned() } else { format!("{section}.{short}") };
        let takes = match (&leaf.kind, found.unit) {
            (_, Some(unit)) => format!("a quantity, {}; or {name} = a number", unit.names()),
            (ValueKind::Bool, _) => "true, false".to_owned(),
            (ValueKind::Unsigned(_) | ValueKind::Signed, _) => "a whole number".to_owned(),
            (ValueKind::Number, _) => "a number".to_owned(),
            (ValueKind::Text, _) => "text".to_owned(),
            (ValueKind::Path, _) => "a path".to_owned(),
            (ValueKind::Paths, _) => "a path or a list of paths".to_owned(),
            (ValueKind::Choice(words), _) => {
                words.iter().map(|word| format!("`{word:?}`")).collect::<Vec<_>>().join(", ")
            }
            (ValueKind::Caller | ValueKind::List(_), _) => "a list".to_owned(),
            (ValueKind::Map, _) => "names with a text each".to_owned(),
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
fn other(leaf: &schema::SettingSchema) -> serde_json::Value {
    use serde_json::json;
    match &leaf.kind {
        ValueKind::Bool => json!(leaf.default != json!(true)),
        ValueKind::Unsigned(_) | ValueKind::Signed | ValueKind::Number | ValueKind::Caller => json!(7),
        ValueKind::Text | ValueKind::Path | ValueKind::Paths => json!("/other"),
        ValueKind::Choice(words) => json!(words.iter().find(|word| leaf.default != json!(word)).unwrap()),
        ValueKind::List(of) if matches!(**of, ValueKind::Caller | ValueKind::Unsigned(_)) => json!([7]),
        ValueKind::List(_) => json!(["other"]),
        ValueKind::Map => json!({ "other": "7" }),
    }
}

/// The suffix of the variable that has the unit in its name.
fn name_of(variable: &str, full: &str) -> String {
    let ending = full.rsplit('_').next().unwrap().to_uppercase();
    if variable.ends_with(&ending) { format!("_{ending}") } else { "\0".to_owned() }
}

fn table_at<'a>(table: &'a schema::SettingsTable, section: &str) -> &'a schema::SettingsTable {
    section.split('.').filter(|part| !part.is_empty()).fold(table, |table, part| match &table.fields[part] {
        schema::SettingsNode::Table(inner) => inner,
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
