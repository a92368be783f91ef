//! One value: from how it is written, in a file or as the text of a variable, to what its setting wants. Pure.

use serde_json::{Value, json};

use super::schema::{FoundSetting, SettingSchema, ValueKind, nearest};
use super::units::Unit;

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueStyle {
    /// With a type: in a file.
    Typed,
    /// As text: a variable, a flag.
    Text,
}

/// What a setting wants of what was written.
///
/// # Errors
/// What is wrong with it and what to write, in words.
pub fn read(found: FoundSetting<'_>, leaf: &SettingSchema, given: &Value, style: ValueStyle) -> Result<Value, String> {
    if let Some(unit) = found.unit {
        return quantity(found, unit, leaf, given, style);
    }
    plain(&leaf.kind, given, style).map_err(|message| format!("{message}{}", such_as(leaf)))
}

/// `such as 4096`, where there is a default to show.
fn such_as(leaf: &SettingSchema) -> String {
    match (&leaf.kind, &leaf.default) {
        (ValueKind::Word(_) | ValueKind::Truth | ValueKind::List(_) | ValueKind::Map, _) | (_, Value::Null) => {
            String::new()
        }
        (_, default) => format!(", such as {default}"),
    }
}

/// How a value is called in errors: as short as people can still find it.
fn shown(given: &Value) -> String {
    let text = given.to_string();
    if text.chars().count() <= 60 { text } else { format!("{}...", text.chars().take(57).collect::<String>()) }
}

fn quantity(
    found: FoundSetting<'_>,
    unit: Unit,
    leaf: &SettingSchema,
    given: &Value,
    style: ValueStyle,
) -> Result<Value, String> {
    let example = leaf.default.as_u64().map_or(unit.example().to_owned(), |usual| format!("{:?}", unit.show(usual)));
    let plain = match (given, style) {
        (Value::String(text), ValueStyle::Text) if text.trim().bytes().all(|b| b.is_ascii_digit() || b == b'_') => {
            text.trim().replace('_', "").parse::<u64>().ok().map(|number| json!(number))
        }
        (given, _) => Some(given.clone()).filter(Value::is_number),
    };
    match (plain, given) {
        (Some(number), _) if found.is_short => Err(format!(
            "{number} has no unit; write one of {}, such as {example}, or {} = {number}",
            unit.names(),
            found.name
        )),
        (Some(number), _) => number
            .as_u64()
            .filter(|number| *number <= i64::MAX as u64)
            .map(|number| json!(number))
            .ok_or_else(|| format!("{number} is no whole number from 0 on; write one, or a text such as {example}")),
        (None, Value::String(text)) => {
            unit.parse(text).map(|number| json!(number)).map_err(|message| format!("{text:?} {message}"))
        }
        (None, other) => Err(format!("{} is no quantity; write a text such as {example}", shown(other))),
    }
}

fn plain(kind: &ValueKind, given: &Value, style: ValueStyle) -> Result<Value, String> {
    let wrong = |wanted: &str| Err(format!("{} is not {wanted}; write one", shown(given)));
    match (kind, given) {
        (ValueKind::Truth, Value::Bool(_)) => Ok(given.clone()),
        (ValueKind::Truth, Value::String(text)) => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" if style == ValueStyle::Text => Ok(json!(true)),
            "false" | "0" | "no" | "off" if style == ValueStyle::Text => Ok(json!(false)),
            _ => Err(format!("{} is neither true nor false; write one of them, without quotes", shown(given))),
        },
        (ValueKind::Truth, _) => Err(format!("{} is neither true nor false; write one of them", shown(given))),
        (ValueKind::Whole(most), _) => match whole(given) {
            Some(number) if number <= *most => Ok(json!(number)),
            Some(number) => Err(format!("{number} is too large; write at most {most}")),
            None => wrong("a whole number from 0 on"),
        },
        (ValueKind::Signed, Value::Number(number)) if number.is_i64() => Ok(given.clone()),
        (ValueKind::Signed, Value::String(text)) => match text.trim().parse::<i64>() {
            Ok(number) => Ok(json!(number)),
            Err(_) => wrong("a whole number"),
        },
        (ValueKind::Signed, _) => wrong("a whole number"),
        (ValueKind::Number, Value::Number(_)) => Ok(given.clone()),
        (ValueKind::Number, Value::String(text)) => match text.trim().parse::<f64>().ok().filter(|x| x.is_finite()) {
            Some(number) => Ok(json!(number)),
            None => wrong("a number"),
        },
        (ValueKind::Number, _) => wrong("a number"),
        (ValueKind::Text | ValueKind::Path, Value::String(_)) => Ok(given.clone()),
        (ValueKind::Text | ValueKind::Path, _) => wrong("a text in quotes"),
        (ValueKind::Word(words), Value::String(text)) if words.contains(text) => Ok(given.clone()),
        (ValueKind::Word(words), _) => {
            let quoted: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
            let near = given.as_str().and_then(|text| nearest(text, words.iter().map(String::as_str)));
            let near = near.map(|word| format!("; did you mean {word:?}?")).unwrap_or_default();
            Err(format!("{} is none of {}{near}", shown(given), quoted.join(", ")))
        }
        (ValueKind::Caller, Value::Number(_)) => plain(&ValueKind::Whole(u32::MAX.into()), given, style),
        (ValueKind::Caller, Value::String(text)) => match text.trim().parse::<u32>() {
            Ok(uid) => Ok(json!(uid)),
            Err(_) if text == "*" || text.starts_with("user:") || text.starts_with("group:") => Ok(given.clone()),
            Err(_) => wrong("a uid, \"*\", \"user:NAME\" or \"group:NAME\""),
        },
        (ValueKind::Caller, _) => wrong("a uid, \"*\", \"user:NAME\" or \"group:NAME\""),
        (ValueKind::List(of), Value::Array(items)) => {
            items.iter().map(|item| plain(of, item, style)).collect::<Result<_, _>>().map(Value::Array)
        }
        (ValueKind::List(of), Value::String(text)) if style == ValueStyle::Text => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            items.map(|item| plain(of, &json!(item), style)).collect::<Result<_, _>>().map(Value::Array)
        }
        (ValueKind::List(_), _) => {
            Err(format!("{} is no list; write it in brackets, such as [{}]", shown(given), shown(given)))
        }
        (ValueKind::Map, Value::Object(items)) if items.values().all(Value::is_string) => Ok(given.clone()),
        (ValueKind::Map, _) => Err(format!("{} is not a section of texts, such as NAME = \"value\"", shown(given))),
    }
}

fn whole(given: &Value) -> Option<u64> {
    match given {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.trim().replace('_', "").parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{self, SettingsNode};

    fn of(section: &str, name: &str, given: &Value, style: ValueStyle) -> Result<Value, String> {
        let SettingsNode::Table(table) = &schema::config().fields[section] else { panic!("no section {section}") };
        let found = table.find(name).unwrap();
        let SettingsNode::Leaf(leaf) = found.node else { panic!("no setting {name}") };
        read(found, leaf, given, style)
    }

    #[test]
    fn a_variables_text_becomes_what_its_setting_wants() {
        let text = |section, name, text: &str| of(section, name, &json!(text), ValueStyle::Text).unwrap();
        assert_eq!(text("queue", "max", "100"), json!(100));
        assert_eq!(text("queue", "patience_ms", "5000"), json!(5000));
        assert_eq!(text("queue", "patience_ms", "5s"), json!(5000));
        assert_eq!(text("queue", "patience", "5s"), json!(5000));
        assert_eq!(text("cache", "max_bytes", "1GiB"), json!(1 << 30));
        assert_eq!(text("engine", "cpu_overcommit", "1.5"), json!(1.5));
        assert_eq!(text("engine", "allow_plaintext", "yes"), json!(true));
        assert_eq!(text("profiles", "only", "python, c"), json!(["python", "c"]));
        assert_eq!(text("socket", "admin", "1000,group:staff"), json!([1000, "group:staff"]));
        assert_eq!(text("images", "pull", "never"), json!("never"));
        assert_eq!(text("socket", "mode", "0660"), json!("0660"));
    }

    #[test]
    fn what_does_not_fit_is_said_with_what_would() {
        for (section, name, given, words) in [
            ("queue", "max", json!("many"), "whole number from 0 on; write one, such as 4096"),
            ("queue", "max", json!(-1), "whole number from 0 on"),
            ("queue", "max", json!(1.5), "whole number from 0 on"),
            ("uids", "base", json!(5_000_000_000_u64), "at most 4294967295"),
            ("queue", "patience", json!(120), "\"2min\", or patience_ms = 120"),
            ("queue", "patience_ms", json!(true), "text such as \"2min\""),
            ("queue", "patience_ms", json!(-5), "-5 is no whole number"),
            ("images", "pull", json!("allways"), "did you mean \"always\"?"),
            ("engine", "allow_plaintext", json!("yes"), "without quotes"),
            ("profiles", "only", json!("python"), "write it in brackets, such as [\"python\"]"),
            ("socket", "submit", json!(["root"]), "user:NAME"),
            ("socket", "path", json!(5), "a text in quotes"),
        ] {
            let error = of(section, name, &given, ValueStyle::Typed).unwrap_err();
            assert!(error.contains(words), "{section}.{name} = {given}: {error}");
        }
    }
}
