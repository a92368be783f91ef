//! The settings, derived from the types: `schemars` provides names, kinds, defaults and
//! documentation of the structs' fields, so that a new field is a setting with its variable, flag,
//! errors and line in the reference.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::model::Config;
use super::units::Unit;
use protocol::Profile;

/// The settings of a section, or of the whole configuration.
#[derive(Debug, Clone)]
pub struct SettingsTable {
    pub fields: BTreeMap<String, SettingsNode>,
    /// The settings that have no default.
    pub required: Vec<String>,
    pub doc: String,
}

/// The meaning of a name in a section.
#[derive(Debug, Clone)]
pub enum SettingsNode {
    Table(SettingsTable),
    /// A list of sections of one kind.
    Sections(SettingsTable),
    Leaf(SettingSchema),
}

/// Kind, documentation and default of a setting.
#[derive(Debug, Clone)]
pub struct SettingSchema {
    pub kind: ValueKind,
    pub doc: String,
    /// Its default; null if it is absent by default.
    pub default: Value,
}

/// Valid values of a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueKind {
    Bool,
    /// An integer from 0 to this maximum.
    Unsigned(u64),
    /// An integer of either sign.
    Signed,
    /// A decimal number.
    Number,
    Text,
    /// A path, relative to the file that sets it.
    Path,
    /// One of these texts.
    Choice(Vec<String>),
    /// A uid, `*`, `user:NAME` or `group:NAME`.
    Caller,
    List(Box<ValueKind>),
    /// A path or a list of paths, each relative to the file that sets it.
    Paths,
    /// Texts by name.
    Map,
}

pub fn config() -> &'static SettingsTable {
    static TABLE: OnceLock<SettingsTable> = OnceLock::new();
    TABLE.get_or_init(table_of::<Config>)
}

pub fn profile() -> &'static SettingsTable {
    static TABLE: OnceLock<SettingsTable> = OnceLock::new();
    TABLE.get_or_init(table_of::<Profile>)
}

fn table_of<T: JsonSchema>() -> SettingsTable {
    let settings = SchemaSettings::default().with(|settings| settings.inline_subschemas = true);
    let schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    table(&schema)
}

fn table(schema: &Value) -> SettingsTable {
    let fields = schema["properties"].as_object().into_iter().flatten();
    let required = schema["required"].as_array().into_iter().flatten();
    SettingsTable {
        fields: fields.map(|(name, schema)| (name.clone(), node(schema))).collect(),
        required: required.filter_map(|name| name.as_str().map(str::to_owned)).collect(),
        doc: doc(schema),
    }
}

/// The documentation, its lines joined.
fn doc(schema: &Value) -> String {
    let text = schema["description"].as_str().unwrap_or_default();
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

/// The type without `null`, if it is `something | null`.
fn non_null(schema: &Value) -> &Value {
    let either = schema["anyOf"].as_array();
    let some = either.filter(|all| all.iter().any(|one| one["type"] == "null"));
    some.and_then(|all| all.iter().find(|one| one["type"] != "null")).unwrap_or(schema)
}

fn has_type(schema: &Value, name: &str) -> bool {
    match &schema["type"] {
        Value::String(one) => one == name,
        Value::Array(several) => several.iter().any(|one| one == name),
        _ => false,
    }
}

fn node(schema: &Value) -> SettingsNode {
    let inner = non_null(schema);
    if inner["properties"].is_object() {
        return SettingsNode::Table(SettingsTable { doc: doc(schema), ..table(inner) });
    }
    let items = non_null(&inner["items"]);
    if has_type(inner, "array") && items["properties"].is_object() {
        return SettingsNode::Sections(SettingsTable { doc: doc(schema), ..table(items) });
    }
    SettingsNode::Leaf(SettingSchema { kind: kind(inner), doc: doc(schema), default: schema["default"].clone() })
}

fn kind(schema: &Value) -> ValueKind {
    let schema = non_null(schema);
    let texts = |all: &Value, of: fn(&Value) -> &Value| -> Vec<String> {
        let all = all.as_array().into_iter().flatten();
        all.filter_map(|one| of(one).as_str().map(str::to_owned)).collect()
    };
    let choices = [texts(&schema["enum"], |one| one), texts(&schema["oneOf"], |one| &one["const"])].concat();
    if !choices.is_empty() {
        return ValueKind::Choice(choices);
    }
    if schema["anyOf"].is_array() {
        return ValueKind::Caller;
    }
    if has_type(schema, "array") && schema["x-path"] == true {
        return ValueKind::Paths;
    }
    if has_type(schema, "array") {
        return ValueKind::List(Box::new(kind(&schema["items"])));
    }
    if has_type(schema, "object") {
        return ValueKind::Map;
    }
    if has_type(schema, "boolean") {
        return ValueKind::Bool;
    }
    if has_type(schema, "number") {
        return ValueKind::Number;
    }
    if has_type(schema, "integer") {
        return match schema["format"].as_str() {
            Some("uint8") => ValueKind::Unsigned(u8::MAX.into()),
            Some("uint16") => ValueKind::Unsigned(u16::MAX.into()),
            Some("uint32") => ValueKind::Unsigned(u32::MAX.into()),
            // the largest integer of TOML
            Some("uint" | "uint64") => ValueKind::Unsigned(i64::MAX as u64),
            _ => ValueKind::Signed,
        };
    }
    if schema["x-path"] == true { ValueKind::Path } else { ValueKind::Text }
}

/// A setting or section found by its name.
#[derive(Debug, Clone, Copy)]
pub struct FoundSetting<'a> {
    /// Its full name, with the unit.
    pub name: &'a str,
    pub node: &'a SettingsNode,
    /// Its unit, if it is a quantity.
    pub unit: Option<Unit>,
    /// Whether it was found by the name without the unit, so that the value must have one.
    pub is_short: bool,
}

impl SettingsTable {
    /// Finds a name; a quantity also by the name without its unit.
    pub fn find(&self, name: &str) -> Option<FoundSetting<'_>> {
        let unit = |name: &str, node: &SettingsNode| match node {
            SettingsNode::Leaf(leaf) if matches!(leaf.kind, ValueKind::Unsigned(_)) => {
                Unit::of(name).map(|(unit, _)| unit)
            }
            _ => None,
        };
        if let Some((name, node)) = self.fields.get_key_value(name) {
            return Some(FoundSetting { name, node, unit: unit(name, node), is_short: false });
        }
        self.fields.iter().find_map(|(full, node)| {
            let unit = unit(full, node)?;
            let (_, short) = Unit::of(full)?;
            (short == name).then_some(FoundSetting { name: full, node, unit: Some(unit), is_short: true })
        })
    }

    /// The names in it, those of quantities without their unit.
    pub fn names(&self) -> Vec<&str> {
        let all = self.fields.iter();
        all.map(|(name, node)| {
            let quantity = matches!(node, SettingsNode::Leaf(SettingSchema { kind: ValueKind::Unsigned(_), .. }));
            Unit::of(name).filter(|_| quantity).map_or(name.as_str(), |(_, short)| short)
        })
        .collect()
    }

    /// All settings below with their full keys, without those in lists of sections.
    pub fn settings(&self) -> Vec<(String, &SettingSchema)> {
        let mut all = Vec::new();
        for (name, node) in &self.fields {
            match node {
                SettingsNode::Table(table) => {
                    all.extend(table.settings().into_iter().map(|(key, leaf)| (format!("{name}.{key}"), leaf)));
                }
                SettingsNode::Leaf(leaf) => all.push((name.clone(), leaf)),
                SettingsNode::Sections(_) => {}
            }
        }
        all
    }

    /// Advice for an unknown name: where a setting or section of that name belongs, in this file or
    /// in the other kind of file, or the nearest known name here.
    pub fn advice(&self, name: &str, prefix: &str, whole: &SettingsTable) -> String {
        let full = |name: &str| if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") };
        if let Some(node) = whole.fields.get(name).filter(|_| !prefix.is_empty()) {
            return match node {
                SettingsNode::Leaf(leaf) if leaf.kind != ValueKind::Map => {
                    format!("{name} is a setting of the file: move it above the first [section]")
                }
                SettingsNode::Sections(_) => format!("{name} is a list of sections of its own: use [[{name}]]"),
                SettingsNode::Table(_) | SettingsNode::Leaf(_) => {
                    format!("{name} is a section of its own: use [{name}]")
                }
            };
        }
        if let Some(key) = whole.key_of(name) {
            return format!("did you mean {key}?");
        }
        if let Some(near) = nearest(name, self.names()) {
            return format!("did you mean {}?", full(near));
        }
        if let Some(place) = place_in_other_file(name, whole) {
            return place;
        }
        let names = self.names().join(", ");
        if prefix.is_empty() {
            format!("the settings are {names}")
        } else {
            format!("the settings of {prefix} are {names}")
        }
    }

    /// The shortest key whose last part is this name, with or without the unit.
    fn key_of(&self, name: &str) -> Option<String> {
        let short = |key: &str| Unit::of(key).map_or(key.to_owned(), |(_, short)| short.to_owned());
        let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
        let named = self.settings().into_iter().map(|(key, _)| key);
        let named = named.filter(|key| last(key) == name || short(&last(key)) == name);
        named.map(|key| short(&key)).min_by_key(String::len)
    }
}

/// Where a name belongs that is known in the other kind of file only: a profile's in the daemon's
/// file, or the other way round.
fn place_in_other_file(name: &str, whole: &SettingsTable) -> Option<String> {
    let is_profiles = std::ptr::eq(whole, profile());
    let other = if is_profiles { config() } else { profile() };
    let key = match other.fields.get(name) {
        Some(SettingsNode::Table(_)) => format!("[{name}]"),
        Some(SettingsNode::Sections(_)) => format!("[[{name}]]"),
        Some(SettingsNode::Leaf(_)) => name.to_owned(),
        None => other.key_of(name)?,
    };
    Some(match is_profiles {
        true => format!("{key} is a setting of the daemon: write it into assayd.toml or a drop-in"),
        false => format!("{key} is a setting of a profile: write it into a file of the folder profiles.dir"),
    })
}

/// The known name with the smallest edit distance, if that is at most a third of the length;
/// ignores case and hyphens.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |name: &str| name.to_lowercase().replace('-', "_");
    let given = plain(name);
    let distance = |known: &str| strsim::damerau_levenshtein(&given, &plain(known));
    let close = known.into_iter().map(|known| (distance(known), known)).min_by_key(|(distance, _)| *distance);
    close.filter(|(distance, known)| *distance <= known.len().max(given.len()).div_ceil(3)).map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_are_the_fields_of_the_structs() {
        let all = config().settings();
        let kind = |name: &str| all.iter().find(|(key, _)| key == name).map(|(_, leaf)| leaf.kind.clone());
        assert_eq!(kind("queue.max"), Some(ValueKind::Unsigned(i64::MAX as u64)));
        assert_eq!(kind("uids.base"), Some(ValueKind::Unsigned(u32::MAX.into())));
        assert_eq!(kind("engine.host"), Some(ValueKind::Text));
        assert_eq!(kind("images.dir"), Some(ValueKind::Paths));
        assert_eq!(kind("engine.tls_key"), Some(ValueKind::Path));
        assert_eq!(kind("socket.submit"), Some(ValueKind::List(Box::new(ValueKind::Caller))));
        assert_eq!(
            kind("images.pull"),
            Some(ValueKind::Choice(["always", "if-missing", "never"].map(str::to_owned).into()))
        );
        assert_eq!(kind("isolation.require_nonroot"), Some(ValueKind::Bool));
        assert_eq!(kind("engine.cpu_overcommit"), Some(ValueKind::Number));
        assert_eq!(kind("profiles.floor"), Some(ValueKind::Unsigned(i64::MAX as u64)));
        assert!(all.iter().all(|(key, leaf)| !leaf.doc.is_empty() && !key.starts_with("hosts")));
        assert!(matches!(config().fields["hosts"], SettingsNode::Sections(_)));
        let profile = profile();
        assert!(matches!(&profile.fields["env"], SettingsNode::Leaf(leaf) if leaf.kind == ValueKind::Map));
        assert!(matches!(&profile.fields["limits"], SettingsNode::Table(_)));
        assert!(matches!(&profile.fields["prewarm"], SettingsNode::Sections(_)));
        assert!(
            matches!(&profile.fields["preset"], SettingsNode::Leaf(leaf) if matches!(&leaf.kind, ValueKind::Choice(choices) if choices.len() == 3))
        );
    }

    #[test]
    fn a_quantity_is_found_by_both_its_names() {
        let SettingsNode::Table(queue) = &config().fields["queue"] else { panic!("no section") };
        let (long, short) = (queue.find("patience_ms").unwrap(), queue.find("patience").unwrap());
        assert_eq!((long.name, long.unit, long.is_short), ("patience_ms", Some(Unit::Milliseconds), false));
        assert_eq!((short.name, short.unit, short.is_short), ("patience_ms", Some(Unit::Milliseconds), true));
        assert!(queue.find("max_per").is_none());
    }

    #[test]
    fn an_unknown_name_gets_the_nearest_known_one_as_advice() {
        assert_eq!(nearest("maxx", ["min", "max", "mode"]), Some("max"));
        assert_eq!(nearest("cpu-overcommit", ["cpu_overcommit"]), Some("cpu_overcommit"));
        assert_eq!(nearest("colour", ["max", "mode"]), None);
        let SettingsNode::Table(socket) = &config().fields["socket"] else { panic!("no section") };
        assert_eq!(socket.advice("pahts", "socket", config()), "did you mean socket.path?");
        assert_eq!(socket.advice("patience", "socket", config()), "did you mean queue.patience?");
        assert_eq!(socket.advice("zzz", "socket", config()), "the settings of socket are admin, mode, path, submit");
    }
}
