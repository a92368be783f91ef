//! The places where settings are said, each read into a list of settings with where they stand. The later wins:
//!
//! ```text
//!   defaults < assayd.toml < assayd.toml.d/*.toml, in order of their names < ASSAY_* variables < flags
//! ```
//!
//! A list of values replaces a list; of sections that there may be many of (`[[hosts]]`), those of the same name are joined.
//! Every mistake of a source is found, not the first only.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{ConfigError, ConfigProblem, SettingOrigin};
use super::schema::{self, FoundSetting, SettingsNode, SettingsTable, ValueKind, nearest};
use super::value::{ValueStyle, read};
use super::{DEFAULT_PATH, EnvVars};

/// Variables that were there before every setting had one, and short ones for what is set often.
pub const SHORT: &[(&str, &str)] = &[
    ("ASSAY_SOCKET", "socket.path"),
    ("ASSAY_STATE_DIR", "instance.state_dir"),
    ("ASSAY_INSTANCE", "instance.name"),
    ("ASSAY_PROFILES", "profiles.only"),
    ("ASSAY_POOL_FLOOR", "profiles.floor"),
    ("ASSAY_POOL_CEILING", "profiles.ceiling"),
    ("ASSAY_UID_BASE", "uids.base"),
    ("ASSAY_LOG", "log.level"),
];

/// The variable that names the file.
pub const FILE_VARIABLE: &str = "ASSAY_CONFIG";

/// systemd's variables that a path may begin with, and the directive that sets each.
const FOLDERS: &[(&str, &str)] = &[
    ("CREDENTIALS_DIRECTORY", "LoadCredential="),
    ("CONFIGURATION_DIRECTORY", "ConfigurationDirectory="),
    ("STATE_DIRECTORY", "StateDirectory="),
    ("RUNTIME_DIRECTORY", "RuntimeDirectory="),
    ("CACHE_DIRECTORY", "CacheDirectory="),
    ("LOGS_DIRECTORY", "LogsDirectory="),
];

/// A setting's whole name, section by section. A host's settings are `hosts`, its name, the setting.
pub type SettingPath = Vec<String>;

/// What a source says.
#[derive(Debug, Default)]
pub struct SourceSettings {
    /// The settings.
    pub values: Vec<(SettingPath, Value, SettingOrigin)>,
    /// The sections of which there may be many, in their order: the list's key and the section's name in it.
    pub sections: Vec<(SettingPath, String, SettingOrigin)>,
    /// Lists of sections that are given whole: what was said of them before counts no more.
    pub whole: Vec<SettingPath>,
    /// What is wrong.
    pub problems: Vec<ConfigProblem>,
    /// What is strange.
    pub warnings: Vec<String>,
}

/// A value as it stands in a file, with its line.
enum Raw {
    Table(Vec<(String, usize, Raw)>),
    List(Vec<(usize, Raw)>),
    Value(Value),
}

/// Takes a TOML text apart.
fn raw(text: &str) -> Result<Raw, (usize, String)> {
    let line = |at: usize| 1 + text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count();
    match DeTable::parse(text) {
        Ok(table) => Ok(raw_table(table.into_inner(), &line)),
        Err(error) => Err((error.span().map_or(0, |span| line(span.start)), error.message().replace('\n', "; "))),
    }
}

fn raw_table(table: DeTable<'_>, line: &dyn Fn(usize) -> usize) -> Raw {
    let mut entries: Vec<_> = table.into_iter().collect();
    // in the order in which they stand
    entries.sort_by_key(|(name, _)| name.span().start);
    let entries = entries.into_iter();
    Raw::Table(
        entries
            .map(|(name, value)| {
                let at = line(name.span().start);
                (name.into_inner().into_owned(), at, raw_value(value, line))
            })
            .collect(),
    )
}

fn raw_value(value: Spanned<DeValue<'_>>, line: &dyn Fn(usize) -> usize) -> Raw {
    let span = value.span();
    match value.into_inner() {
        DeValue::Table(table) => raw_table(table, line),
        DeValue::Array(items) if items.iter().any(|item| matches!(item.get_ref(), DeValue::Table(_))) => {
            Raw::List(items.into_iter().map(|item| (line(item.span().start), raw_value(item, line))).collect())
        }
        other => {
            let value = toml::de::ValueDeserializer::from(Spanned::new(span, other));
            let value: Result<toml::Value, _> = serde::Deserialize::deserialize(value);
            Raw::Value(value.ok().map_or(Value::Null, |value| json(&value)))
        }
    }
}

/// The same as JSON; a date becomes its text.
fn json(value: &toml::Value) -> Value {
    match value {
        toml::Value::Datetime(date) => Value::String(date.to_string()),
        other => serde_json::to_value(other).unwrap_or(Value::Null),
    }
}

/// How a source is read: where its values are, what paths are relative to, what paths may name.
struct SourceReader<'a> {
    whole: &'a SettingsTable,
    origin: Box<dyn Fn(usize) -> SettingOrigin + 'a>,
    base: Option<&'a Path>,
    environment: &'a EnvVars,
    style: ValueStyle,
    said: SourceSettings,
    /// What was said, and by which name.
    seen: BTreeMap<SettingPath, String>,
}

impl SourceReader<'_> {
    fn wrong(&mut self, line: usize, key: &[String], message: impl Into<String>) {
        let problem = ConfigProblem { origin: (self.origin)(line), key: key.join("."), message: message.into() };
        self.said.problems.push(problem);
    }

    fn table(&mut self, table: &SettingsTable, entries: Vec<(String, usize, Raw)>, prefix: &[String]) {
        for (name, line, raw) in entries {
            let Some(found) = table.find(&name) else {
                let advice = table.advice(&name, &prefix.join("."), self.whole);
                let key = [prefix, &[name]].concat();
                self.wrong(line, &key, format!("there is no such setting; {advice}"));
                continue;
            };
            self.entry(found, &name, line, raw, prefix);
        }
    }

    fn entry(&mut self, found: FoundSetting<'_>, written: &str, line: usize, raw: Raw, prefix: &[String]) {
        let key = [prefix, &[found.name.to_owned()]].concat();
        match (found.node, raw) {
            (SettingsNode::Table(table), Raw::Table(entries)) => self.table(table, entries, &key),
            (SettingsNode::Table(_), _) => {
                self.wrong(line, &key, format!("it is a section: write [{}], and its settings below", key.join(".")));
            }
            (SettingsNode::Sections(table), Raw::List(items)) => self.sections(table, items, &key),
            (SettingsNode::Sections(_), Raw::Value(Value::Array(items))) if items.is_empty() => {
                self.said.whole.push(key)
            }
            (SettingsNode::Sections(_), _) => {
                self.wrong(
                    line,
                    &key,
                    format!("there may be several: write [[{0}]], with two brackets", key.join(".")),
                );
            }
            (SettingsNode::Leaf(leaf), Raw::Table(entries)) if leaf.kind == ValueKind::Map => {
                let items = entries.into_iter().filter_map(|(name, _, raw)| match raw {
                    Raw::Value(value) => Some((name, value)),
                    _ => None,
                });
                self.leaf(found, written, line, &Value::Object(items.collect()), key);
            }
            (SettingsNode::Leaf(_), Raw::Table(_) | Raw::List(_)) => {
                self.wrong(line, &key, format!("it is a setting, not a section: write {written} = ..."));
            }
            (SettingsNode::Leaf(_), Raw::Value(value)) => self.leaf(found, written, line, &value, key),
        }
    }

    fn leaf(&mut self, found: FoundSetting<'_>, written: &str, line: usize, value: &Value, key: SettingPath) {
        let SettingsNode::Leaf(leaf) = found.node else { return };
        if let Some(other) = self.seen.insert(key.clone(), written.to_owned()) {
            let message = format!("it stands there twice, as {other} and as {written}; leave one of them");
            return self.wrong(line, &key, message);
        }
        let read = read(found, leaf, value, self.style).and_then(|value| match (&leaf.kind, &value) {
            (ValueKind::Path, Value::String(path)) => Ok(Value::String(self.path(path)?)),
            _ => Ok(value),
        });
        match read {
            Ok(value) => self.said.values.push((key, value, (self.origin)(line))),
            Err(message) => self.wrong(line, &key, message),
        }
    }

    fn sections(&mut self, table: &SettingsTable, items: Vec<(usize, Raw)>, key: &[String]) {
        let is_named = table.fields.contains_key("name");
        for (at, (line, raw)) in items.into_iter().enumerate() {
            let Raw::Table(entries) = raw else {
                self.wrong(line, key, format!("write every one as a section, [[{}]]", key.join(".")));
                continue;
            };
            let said = entries.iter().find_map(|(name, _, raw)| match raw {
                Raw::Value(Value::String(value)) if name == "name" && is_named => Some(value.clone()),
                _ => None,
            });
            let usual = || match &table.fields.get("name") {
                Some(SettingsNode::Leaf(leaf)) => leaf.default.as_str().map(str::to_owned),
                _ => None,
            };
            let name = said.or_else(usual).unwrap_or_else(|| at.to_string());
            let inner = [key, std::slice::from_ref(&name)].concat();
            if self.said.sections.iter().any(|(list, other, _)| list == key && *other == name) {
                let message = format!("{name:?} stands there twice; give each a name of its own");
                self.wrong(line, &[key, &["name".to_owned()]].concat(), message);
                continue;
            }
            self.said.sections.push((key.to_owned(), name, (self.origin)(line)));
            self.table(table, entries, &inner);
        }
    }

    /// A path with systemd's variable at its beginning in full, and relative to its file.
    fn path(&self, path: &str) -> Result<String, String> {
        let expanded = match path.strip_prefix("${").and_then(|rest| rest.split_once('}')) {
            None => path.to_owned(),
            Some((name, rest)) => {
                let Some((_, directive)) = FOLDERS.iter().find(|(known, _)| *known == name) else {
                    let known: Vec<String> = FOLDERS.iter().map(|(name, _)| format!("${{{name}}}")).collect();
                    return Err(format!("{path:?} begins with an unknown variable; there are {}", known.join(", ")));
                };
                // systemd separates several folders by colons
                let folder = self.environment.get(name).and_then(|value| value.split(':').next());
                let folder = folder.filter(|folder| !folder.is_empty());
                format!(
                    "{}{rest}",
                    folder.ok_or_else(|| {
                        format!("{name} is not set: the unit needs {directive}, or write the path in full")
                    })?
                )
            }
        };
        match self.base {
            Some(base) => Ok(base.join(expanded).to_string_lossy().into_owned()),
            None => Ok(expanded),
        }
    }
}

/// What a file says about the settings of `whole`.
///
/// # Errors
/// It cannot be read.
pub fn file(path: &Path, whole: &SettingsTable, environment: &EnvVars) -> Result<SourceSettings, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    let mut reader = SourceReader {
        whole,
        origin: Box::new(|line| SettingOrigin::File { file: path.to_owned(), line }),
        base: path.parent(),
        environment,
        style: ValueStyle::Typed,
        said: SourceSettings::default(),
        seen: BTreeMap::new(),
    };
    match raw(&text) {
        Ok(Raw::Table(entries)) => reader.table(whole, entries, &[]),
        Ok(_) => {}
        Err((line, message)) => reader.wrong(line, &[], format!("this is not TOML: {message}")),
    }
    Ok(reader.said)
}

/// The files: the one that is named, else the usual one if it is there; then those of its drop-in folder.
///
/// # Errors
/// The named one is not there, or the folder cannot be read.
pub fn files(named: Option<&Path>, environment: &EnvVars) -> Result<Vec<PathBuf>, ConfigError> {
    let named = named.or_else(|| environment.get(FILE_VARIABLE).filter(|path| !path.is_empty()).map(Path::new));
    let main = named.unwrap_or(Path::new(DEFAULT_PATH));
    let mut folder = main.as_os_str().to_owned();
    folder.push(".d");
    let mut files = Vec::new();
    if named.is_some() || main.exists() {
        files.push(main.to_owned());
    }
    match std::fs::read_dir(&folder) {
        Ok(entries) => {
            let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
            let mut drop_ins: Vec<PathBuf> =
                paths.filter(|path| path.extension().is_some_and(|extension| extension == "toml")).collect();
            drop_ins.sort();
            files.extend(drop_ins);
        }
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {}
        Err(source) => return Err(ConfigError::Read { path: folder.into(), source }),
    }
    Ok(files)
}

/// The variable of a setting.
pub fn variable(key: &str) -> String {
    format!("ASSAY_{}", key.replace('.', "_").to_uppercase())
}

/// Every variable, and the key that it sets; a quantity's also without the unit.
pub fn variables() -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for (name, node) in &schema::config().fields {
        match node {
            SettingsNode::Sections(_) | SettingsNode::Leaf(_) => drop(all.insert(variable(name), name.clone())),
            SettingsNode::Table(table) => {
                let whole = table.fields.keys().map(String::as_str);
                for field in whole.chain(table.names()) {
                    let key = format!("{name}.{field}");
                    all.insert(variable(&key), key);
                }
            }
        }
    }
    all.extend(SHORT.iter().map(|(name, key)| ((*name).to_owned(), (*key).to_owned())));
    all
}

/// What the variables say. An unknown one is a warning: variables of callers and of tests begin like ours.
pub fn environment(environment: &EnvVars) -> SourceSettings {
    let known = variables();
    let mut all = SourceSettings::default();
    let ours = environment.iter().filter(|(name, value)| name.starts_with("ASSAY_") && !value.is_empty());
    // where a setting has two, the one with its whole name wins
    let (short, long): (Vec<_>, Vec<_>) = ours.partition(|(name, _)| SHORT.iter().any(|(short, _)| short == name));
    for (name, value) in short.into_iter().chain(long) {
        match known.get(name) {
            Some(key) => {
                let said = text(key, value, &SettingOrigin::Variable { name: name.clone() }, environment);
                all.values.extend(said.values);
                all.sections.extend(said.sections);
                all.whole.extend(said.whole);
                all.problems.extend(said.problems);
            }
            None if name == FILE_VARIABLE => {}
            None => {
                let near = nearest(name, known.keys().map(String::as_str));
                let advice =
                    near.map_or("docs/OPERATIONS.md lists all".to_owned(), |near| format!("did you mean {near}?"));
                all.warnings.push(format!("{name} sets nothing; {advice}"));
            }
        }
    }
    all
}

/// What a flag says: a key, and its value as text.
pub fn flag(flag: &str, key: &str, value: &str, environment: &EnvVars) -> SourceSettings {
    text(key, value, &SettingOrigin::Flag { flag: flag.to_owned() }, environment)
}

/// One setting by its key, from a text.
fn text(key: &str, value: &str, origin: &SettingOrigin, environment: &EnvVars) -> SourceSettings {
    let whole = schema::config();
    let mut reader = SourceReader {
        whole,
        origin: Box::new(|_| origin.clone()),
        base: None,
        environment,
        style: ValueStyle::Text,
        said: SourceSettings::default(),
        seen: BTreeMap::new(),
    };
    let parts: Vec<String> = key.split('.').map(str::to_owned).collect();
    let (Some(last), mut table, mut prefix) = (parts.last(), whole, Vec::new()) else { return reader.said };
    let mut rest = parts.iter().take(parts.len() - 1);
    while let Some(part) = rest.next() {
        prefix.push(part.clone());
        match table.fields.get(part) {
            Some(SettingsNode::Table(inner)) => table = inner,
            // a host's name has dots, maybe
            Some(SettingsNode::Sections(inner)) => {
                let name = rest.by_ref().cloned().collect::<Vec<_>>().join(".");
                reader.said.sections.push((prefix.clone(), name.clone(), origin.clone()));
                prefix.push(name);
                table = inner;
            }
            _ => {
                let advice = table.advice(part, "", whole);
                reader.wrong(0, &parts, format!("there is no section {part:?}; {advice}"));
                return reader.said;
            }
        }
    }
    let Some(found) = table.find(last) else {
        let advice = table.advice(last, &prefix.join("."), whole);
        reader.wrong(0, &parts, format!("there is no such setting; {advice}"));
        return reader.said;
    };
    let listed = match found.node {
        SettingsNode::Leaf(leaf) => {
            matches!(leaf.kind, ValueKind::List(_) | ValueKind::Map) && value.trim_start().starts_with(['[', '{'])
        }
        SettingsNode::Table(_) | SettingsNode::Sections(_) => true,
    };
    let given = if listed {
        match raw(&format!("{last} = {value}")) {
            Ok(Raw::Table(mut entries)) if entries.len() == 1 => entries.remove(0).2,
            Ok(_) => return reader.said,
            Err((_, message)) => {
                let example = match found.node {
                    SettingsNode::Sections(_) => "[{ name = \"near\", host = \"tcp://near:2376\" }]",
                    _ => "[\"a\", \"b\"]",
                };
                reader.wrong(0, &parts, format!("{value:?} is not TOML ({message}); write such as {example}"));
                return reader.said;
            }
        }
    } else {
        Raw::Value(Value::String(value.to_owned()))
    };
    if matches!(found.node, SettingsNode::Sections(_)) {
        reader.said.whole.push(parts.clone());
        reader.style = ValueStyle::Typed;
    }
    reader.entry(found, last, 0, given, &prefix);
    reader.said
}
