//! Conversion of one value: from its spelling in a file, or the text of a variable or flag, to the
//! type of its setting. Pure.

use serde_json::{Value, json};

use super::schema::{FoundSetting, SettingSchema, ValueKind, nearest};
use super::units::Unit;

/// Spelling of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueStyle {
    /// With a type, as in a file.
    Typed,
    /// As text, as in a variable or a flag.
    Text,
}

/// Converts `given` to the type of the setting.
///
/// # Errors
/// A message with the mistake and a valid value.
pub fn convert(
    found: FoundSetting<'_>,
    leaf: &SettingSchema,
    given: &Value,
    style: ValueStyle,
) -> Result<Value, String> {
    if let Some(unit) = found.unit {
        return quantity(found, unit, leaf, given, style);
    }
    plain(&leaf.kind, given, style).map_err(|message| format!("{message}{}", example_of(leaf)))
}

/// `, such as 4096`, if there is a default to show.
fn example_of(leaf: &SettingSchema) -> String {
    match (&leaf.kind, &leaf.default) {
        (ValueKind::Choice(_) | ValueKind::Bool | ValueKind::List(_) | ValueKind::Map, _) | (_, Value::Null) => {
            String::new()
        }
        (_, default) => format!(", such as {default}"),
    }
}

/// A value in error messages, shortened to 60 characters.
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
    let example =
        leaf.default.as_u64().map_or(unit.example().to_owned(), |default| format!("{:?}", unit.show(default)));
    let plain = match (given, style) {
        (Value::String(text), ValueStyle::Text) if text.trim().bytes().all(|b| b.is_ascii_digit() || b == b'_') => {
            text.trim().replace('_', "").parse::<u64>().ok().map(|number| json!(number))
        }
        (given, _) => Some(given.clone()).filter(Value::is_number),
    };
    match (plain, given) {
        (Some(number), _) if found.is_short => {
            let meant = number.as_u64().map_or_else(|| example.clone(), |number| unit.guess(number));
            Err(format!("{number} has no unit; use one of {}, such as {meant}", unit.names()))
        }
        (Some(number), _) => number
            .as_u64()
            .filter(|number| *number <= i64::MAX as u64)
            .map(|number| json!(number))
            .ok_or_else(|| format!("{number} is not a non-negative integer; use one, or a text such as {example}")),
        (None, Value::String(text)) => {
            unit.parse(text).map(|number| json!(number)).map_err(|message| format!("{text:?} {message}"))
        }
        (None, other) => Err(format!("{} is not a valid quantity; use a text such as {example}", shown(other))),
    }
}

fn plain(kind: &ValueKind, given: &Value, style: ValueStyle) -> Result<Value, String> {
    let wrong = |expected: &str| Err(format!("{} is not {expected}; use one", shown(given)));
    match (kind, given) {
        (ValueKind::Bool, Value::Bool(_)) => Ok(given.clone()),
        (ValueKind::Bool, Value::String(text)) => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" if style == ValueStyle::Text => Ok(json!(true)),
            "false" | "0" | "no" | "off" if style == ValueStyle::Text => Ok(json!(false)),
            _ => Err(format!("{} is not a boolean; use true or false, without quotes", shown(given))),
        },
        (ValueKind::Bool, _) => Err(format!("{} is not a boolean; use true or false", shown(given))),
        (ValueKind::Unsigned(max), _) => match whole(given) {
            Some(number) if number <= *max => Ok(json!(number)),
            Some(number) => Err(format!("{number} is too large; use at most {max}")),
            None => wrong("a non-negative integer"),
        },
        (ValueKind::Signed, Value::Number(number)) if number.is_i64() => Ok(given.clone()),
        (ValueKind::Signed, Value::String(text)) => match text.trim().parse::<i64>() {
            Ok(number) => Ok(json!(number)),
            Err(_) => wrong("an integer"),
        },
        (ValueKind::Signed, _) => wrong("an integer"),
        (ValueKind::Number, Value::Number(_)) => Ok(given.clone()),
        (ValueKind::Number, Value::String(text)) => match text.trim().parse::<f64>().ok().filter(|x| x.is_finite()) {
            Some(number) => Ok(json!(number)),
            None => wrong("a number"),
        },
        (ValueKind::Number, _) => wrong("a number"),
        (ValueKind::Text | ValueKind::Path, Value::String(_)) => Ok(given.clone()),
        (ValueKind::Text | ValueKind::Path, _) => wrong("a text in quotes"),
        (ValueKind::Choice(choices), Value::String(text)) if choices.contains(text) => Ok(given.clone()),
        (ValueKind::Choice(choices), _) => {
            let quoted: Vec<String> = choices.iter().map(|choice| format!("{choice:?}")).collect();
            let near = given.as_str().and_then(|text| nearest(text, choices.iter().map(String::as_str)));
            let near = near.map(|choice| format!("; did you mean {choice:?}?")).unwrap_or_default();
            Err(format!("{} is not one of {}{near}", shown(given), quoted.join(", ")))
        }
        (ValueKind::Caller, Value::Number(_)) => plain(&ValueKind::Unsigned(u32::MAX.into()), given, style),
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
            Err(format!("{} is not a list; use brackets, such as [{}]", shown(given), shown(given)))
        }
        (ValueKind::Paths, Value::String(text)) if style == ValueStyle::Text && text.contains(',') => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Ok(items.map(|item| json!(item)).collect())
        }
        (ValueKind::Paths, Value::String(_)) => Ok(given.clone()),
        (ValueKind::Paths, Value::Array(items)) if !items.is_empty() && items.iter().all(Value::is_string) => {
            Ok(given.clone())
        }
        (ValueKind::Paths, _) => {
            Err(format!("{} is not a path in quotes or a list of such paths; use one", shown(given)))
        }
        (ValueKind::Map, Value::Object(items)) if items.values().all(Value::is_string) => Ok(given.clone()),
        (ValueKind::Map, _) => {
            Err(format!("{} is not a section of texts; use lines such as NAME = \"value\"", shown(given)))
        }
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
        convert(found, leaf, given, style)
    }

    #[test]
    fn the_text_of_a_variable_is_converted_to_the_type_of_its_setting() {
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
        assert_eq!(text("images", "dir", "/a"), json!("/a"));
        assert_eq!(text("images", "dir", "/a, /b"), json!(["/a", "/b"]));
        assert_eq!(text("socket", "mode", "0660"), json!("0660"));
    }

    #[test]
    fn an_invalid_value_is_an_error_with_a_valid_one() {
        for (section, name, given, expected) in [
            ("queue", "max", json!("many"), "not a non-negative integer; use one, such as 4096"),
            ("queue", "max", json!(-1), "not a non-negative integer"),
            ("queue", "max", json!(1.5), "not a non-negative integer"),
            ("uids", "base", json!(5_000_000_000_u64), "at most 4294967295"),
            ("queue", "patience", json!(120), "has no unit; use one of ms, s, min, h or d, such as \"120s\""),
            ("queue", "patience", json!(1500), "such as \"1500ms\""),
            ("cache", "max", json!(256), "such as \"256MiB\""),
            ("cache", "max", json!(536_870_912), "such as \"512MiB\""),
            ("queue", "patience_ms", json!(true), "text such as \"2min\""),
            ("queue", "patience_ms", json!(-5), "-5 is not a non-negative integer"),
            ("images", "pull", json!("allways"), "did you mean \"always\"?"),
            ("engine", "allow_plaintext", json!("yes"), "without quotes"),
            ("profiles", "only", json!("python"), "use brackets, such as [\"python\"]"),
            ("socket", "submit", json!(["root"]), "user:NAME"),
            ("socket", "path", json!(5), "a text in quotes"),
            ("images", "dir", json!(5), "a path in quotes or a list of such paths"),
            ("images", "dir", json!(["a", 5]), "a path in quotes or a list of such paths"),
            ("images", "dir", json!([]), "a path in quotes or a list of such paths"),
        ] {
            let error = of(section, name, &given, ValueStyle::Typed).unwrap_err();
            assert!(error.contains(expected), "{section}.{name} = {given}: {error}");
        }
    }
}
