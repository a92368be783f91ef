//! docs/PROTOCOL.md against the types: its reference is made from them, and its prose names nothing
//! that does not exist.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use protocol::Method;
use protocol::schema;
use serde_json::Value;

use super::{Validation, must_be};
use crate::harness::root;

/// Everything from here on is made by this test.
const MARK: &str =
    "<!-- From here on: made from the types by `UPDATE_GOLDEN=1 cargo test --test it contract::document`. -->\n";

/// Tables of the reference: heading, definition.
const SHAPES: &[(&str, &str)] = &[
    ("A submission", "Submission"),
    ("A file", "FileSpec"),
    ("A blob, where text may stand", "BlobRef"),
    ("Limits", "LimitsRequest"),
    ("A test", "TestSpec"),
    ("A checker", "CheckerSpec"),
    ("An interactor", "InteractorSpec"),
    ("A suite", "SuiteSpec"),
    ("A report", "Report"),
    ("A run (`compile`, `run`, `suite.run`, and in every test that ran)", "RunReport"),
    ("`evidence`", "Evidence"),
    ("One of `tests`", "TestReport"),
    ("One of `transcript`", "SaidReport"),
    ("`suite`", "SuiteReport"),
    ("One of `suite.cases`", "CaseReport"),
    ("`score`", "Score"),
    ("`timing`", "Timing"),
    ("`sandbox`", "SandboxInfo"),
    ("One of `files`", "FileReport"),
    ("`server.hello`", "Hello"),
    ("Its `limits`", "HelloLimits"),
    ("`submission.event`", "EventBody"),
    ("`data` of `usage`", "UsageRow"),
    ("`image.progress`", "ImageProgress"),
    ("`error.data`", "ErrorData"),
];

/// Lists of words: heading, definition.
const WORDS: &[(&str, &str)] = &[
    ("Verdicts", "Verdict"),
    ("Outcomes", "Outcome"),
    ("Kinds of events", "EventKind"),
    ("Error codes", "Code"),
    ("States of a submission", "StateWord"),
    ("Checkers", "CheckerKind"),
    ("Protocols of programs that judge", "Protocol"),
    ("Presets", "Preset"),
    ("`stop`", "Stop"),
    ("`isolation`", "IsolationRequest"),
    ("Formats of a suite", "SuiteFormat"),
    ("`memory_source`", "MemorySource"),
    ("`start`", "StartKind"),
    ("`blame`", "Blame"),
    ("`status` of `daemon.health`", "HealthWord"),
];

fn target(schema: &Value) -> Option<&str> {
    schema["$ref"].as_str()?.strip_prefix("#/$defs/")
}

/// A field's type in a few words.
fn kind(schema: &Value, defs: &Value) -> String {
    if let Some(name) = target(schema) {
        let inner = &defs[name];
        return match inner["type"].as_str() {
            Some("object") => "object".to_owned(),
            _ if inner["oneOf"].is_array() || inner["enum"].is_array() => "word".to_owned(),
            _ => kind(inner, defs),
        };
    }
    if let Some(choices) = schema["anyOf"].as_array() {
        let mut kinds: Vec<String> = choices.iter().map(|choice| kind(choice, defs)).collect();
        kinds.dedup();
        return kinds.join(" or ");
    }
    let one = |name: &str| match name {
        "array" => format!("list of {}s", kind(&schema["items"], defs)),
        "object" if schema["additionalProperties"].is_object() => "object of strings".to_owned(),
        "boolean" => "true or false".to_owned(),
        other => other.to_owned(),
    };
    match &schema["type"] {
        Value::String(name) => one(name),
        Value::Array(names) => names.iter().filter_map(Value::as_str).map(one).collect::<Vec<_>>().join(" or "),
        _ => "any".to_owned(),
    }
}

fn sentence(schema: &Value) -> String {
    schema["description"]
        .as_str()
        .unwrap_or_default()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace('|', "\\|")
}

fn fields(schema: &Value) -> BTreeSet<String> {
    schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect()
}

fn required(schema: &Value, field: &str) -> bool {
    schema["required"].as_array().is_some_and(|names| names.iter().any(|name| name == field))
}

/// `{id, timeout_ms?}`, or the definition's name where it has a table of its own.
fn brief(schema: &Value, defs: &Value) -> String {
    let name = target(schema).unwrap_or_default();
    let resolved = if name.is_empty() { schema } else { &defs[name] };
    match name {
        "Report" => return "report".to_owned(),
        "RunParams" => return "submission, `stream?`".to_owned(),
        "SubmitParams" => return "submission".to_owned(),
        _ => {}
    }
    if let Some(choices) = resolved["anyOf"].as_array() {
        return choices.iter().map(|choice| brief(choice, defs)).collect::<Vec<_>>().join(" or ");
    }
    let names: Vec<String> = fields(resolved)
        .into_iter()
        .map(|field| if required(resolved, &field) { field } else { format!("{field}?") })
        .collect();
    format!("`{{{}}}`", names.join(", "))
}

fn words(schema: &Value) -> Vec<(String, String)> {
    let mut words = Vec::new();
    for choice in schema["oneOf"].as_array().into_iter().flatten() {
        if let Some(word) = choice["const"].as_str() {
            words.push((word.to_owned(), sentence(choice)));
        }
    }
    words.extend(
        schema["enum"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(|word| (word.to_owned(), String::new())),
    );
    words
}

fn reference() -> String {
    let document = schema::document();
    let defs = &document["$defs"];
    let mut text = format!(
        "{MARK}\n## Reference\n\n### Methods\n\n| method | params | result | role | |\n|---|---|---|---|---|\n"
    );
    for method in Method::ALL {
        let row = &document["methods"][method.name()];
        let notification = method.notification();
        let first = notification.map(|first| format!("; `{}` first", first.name())).unwrap_or_default();
        writeln!(
            text,
            "| `{}` | {} | {} | {} | {}{first} |",
            method.name(),
            brief(&row["params"], defs),
            brief(&row["result"], defs),
            method.role().as_str().unwrap_or("any"),
            method.summary()
        )
        .unwrap();
    }
    for (heading, name) in SHAPES {
        let shape = &defs[*name];
        assert!(shape.is_object(), "there is no definition {name}");
        writeln!(text, "\n### {heading}\n\n| field | type | |\n|---|---|---|").unwrap();
        for (field, schema) in shape["properties"].as_object().into_iter().flatten() {
            let kind = match kind(schema, defs) {
                kind if required(shape, field) => kind,
                // absent and null are the same
                kind => format!("{}, optional", kind.trim_end_matches(" or null")),
            };
            writeln!(text, "| `{field}` | {kind} | {} |", sentence(schema)).unwrap();
        }
    }
    for (heading, name) in WORDS {
        writeln!(text, "\n### {heading}\n\n| word | |\n|---|---|").unwrap();
        let all = words(&defs[*name]);
        assert!(!all.is_empty(), "{name} has no words");
        for (word, meaning) in all {
            writeln!(text, "| `{word}` | {meaning} |").unwrap();
        }
    }
    text
}

fn page() -> (String, String) {
    let text = std::fs::read_to_string(root().join("docs/PROTOCOL.md")).unwrap();
    match text.split_once(MARK) {
        Some((prose, made)) => (prose.to_owned(), format!("{MARK}{made}")),
        None => (text, String::new()),
    }
}

#[test]
fn the_reference_is_what_the_types_say() {
    let (prose, _) = page();
    must_be(&root().join("docs/PROTOCOL.md"), &(prose + &reference()));
}

#[test]
fn every_field_of_submission_and_report_has_its_row() {
    let document = schema::document();
    let (_, made) = page();
    let mut open = vec!["Submission".to_owned(), "Report".to_owned(), "EventBody".to_owned(), "Hello".to_owned()];
    let mut seen = BTreeSet::new();
    while let Some(name) = open.pop() {
        if !seen.insert(name.clone()) {
            continue;
        }
        let text = document["$defs"][&name].to_string();
        open.extend(text.split("#/$defs/").skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned));
        for field in fields(&document["$defs"][&name]) {
            assert!(made.contains(&format!("\n| `{field}` |")), "{name}.{field} has no row");
        }
        for (word, _) in words(&document["$defs"][&name]) {
            assert!(made.contains(&format!("`{word}`")), "{name}: {word} stands nowhere");
        }
    }
}

/// Every name in the schema: fields, enumeration values, methods, and what descriptions quote.
fn vocabulary(value: &Value, words: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                words.insert(key.clone());
                vocabulary(inner, words);
            }
        }
        Value::Array(list) => list.iter().for_each(|inner| vocabulary(inner, words)),
        Value::String(text) => {
            words.insert(text.clone());
            words.extend(text.split('`').skip(1).step_by(2).map(str::to_owned));
        }
        _ => {}
    }
}

#[test]
fn the_prose_names_nothing_that_does_not_exist() {
    let (prose, _) = page();
    let mut known = BTreeSet::new();
    vocabulary(&schema::document(), &mut known);
    let families = ["submission", "blob", "daemon", "pool", "host", "profile", "sandbox", "image", "server", "rpc"];
    let is_name = |word: &str| word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    let outside_code: String = prose.split("```").step_by(2).collect();
    let mut wrong = Vec::new();
    for quoted in outside_code.split('`').skip(1).step_by(2) {
        for word in quoted.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.')) {
            let exists = match word.split_once('.') {
                // a method or notification, or a field of a report's sandbox
                Some(("sandbox", rest)) => known.contains(word) || known.contains(rest),
                Some((family, rest)) if families.contains(&family) && is_name(rest) => known.contains(word),
                None if word.contains('_') && is_name(word) => known.contains(word),
                _ => true,
            };
            if !exists {
                wrong.push(word.to_owned());
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
    assert!(!known.contains("submission.walk") && known.contains("submission.run") && known.contains("wall_ms"));
}

#[test]
fn the_lines_of_the_page_are_lines_of_the_protocol() {
    let (prose, _) = page();
    let mut validation = Validation::default();
    let mut count = 0;
    for block in prose.split("```json\n").skip(1) {
        for line in block.split("```").next().unwrap().lines() {
            let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            validation.add(line, &schema::document(), &value);
            count += 1;
        }
    }
    assert!(count >= 2);
    validation.must_hold();
}
