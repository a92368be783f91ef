//! The sources of settings, each read into a list of settings with their origins. The later
//! overrides the earlier:
//!
//! ```text
//!   defaults < assayd.toml < assayd.toml.d/*.toml by name < ASSAY_* variables < flags
//! ```
//!
//! A list of values replaces the earlier list. In a list of sections (`[[hosts]]`), sections of the
//! same name are merged. All mistakes of a source are found, not only the first.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{ConfigError, ConfigProblem, SettingOrigin};
use super::schema::{self, FoundSetting, SettingsNode, SettingsTable, ValueKind, nearest};
use super::value::{ValueStyle, convert};
use super::{DEFAULT_PATH, EnvVars};

/// The variable with the path of the configuration file.
pub const FILE_VARIABLE: &str = "ASSAY_CONFIG";

/// Variables of systemd with which a path may begin, and the directive that sets each.
const FOLDERS: &[(&str, &str)] = &[
    ("CREDENTIALS_DIRECTORY", "LoadCredential="),
    ("CONFIGURATION_DIRECTORY", "ConfigurationDirectory="),
    ("STATE_DIRECTORY", "StateDirectory="),
    ("RUNTIME_DIRECTORY", "RuntimeDirectory="),
    ("CACHE_DIRECTORY", "CacheDirectory="),
    ("LOGS_DIRECTORY", "LogsDirectory="),
];

/// The variables among them.
pub(super) fn folder_variables() -> impl Iterator<Item = &'static str> {
    FOLDERS.iter().map(|(name, _)| *name)
}

/// The name of a setting, section by section. For a host: `hosts`, its name, the setting.
pub type SettingPath = Vec<String>;

/// The settings of one source.
#[derive(Debug, Default)]
pub struct SourceSettings {
    pub values: Vec<(SettingPath, Value, SettingOrigin)>,
    /// Sections in lists, in order: the key of the list and the name of the section.
    pub sections: Vec<(SettingPath, String, SettingOrigin)>,
    /// Lists of sections that replace the earlier list instead of being merged with it.
    pub whole: Vec<SettingPath>,
    /// The last part of each setting's name as it was written.
    pub written: BTreeMap<SettingPath, String>,
    pub problems: Vec<ConfigProblem>,
    pub warnings: Vec<String>,
}

/// A parsed TOML value with line numbers.
enum Raw {
    Table(Vec<(String, usize, Raw)>),
    List(Vec<(usize, Raw)>),
    Value(Value),
    /// The text of a key in quotes, which is meant as it is written.
    Quoted(String),
}

impl Raw {
    /// Without the difference that quotes around the key make.
    fn unquoted(self) -> Raw {
        match self {
            Raw::Quoted(text) => Raw::Value(Value::String(text)),
            other => other,
        }
    }

    /// What it is, for errors.
    fn describe(&self) -> String {
        match self {
            Raw::Table(_) => "a section".to_owned(),
            Raw::List(_) => "a list of sections".to_owned(),
            Raw::Value(value) => value.to_string(),
            Raw::Quoted(text) => format!("{text:?}"),
        }
    }
}

/// Parses a TOML text; an error has its line.
fn raw(text: &str) -> Result<Raw, (usize, String)> {
    let file = TomlText(text);
    match DeTable::parse(text) {
        Ok(table) => Ok(raw_table(table.into_inner(), &file)),
        Err(error) => {
            let message = error.message().replace('\n', "; ");
            let Some(span) = error.span() else { return Err((0, message)) };
            let line = file.line(span.start);
            let twice = (message == "duplicate key").then(|| file.duplicate(line)).flatten();
            Err((line, twice.unwrap_or(message)))
        }
    }
}

/// The text of a file, for the places in it.
struct TomlText<'a>(&'a str);

impl TomlText<'_> {
    /// The line of a position, from 1.
    fn line(&self, at: usize) -> usize {
        1 + self.0.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count()
    }

    fn is_quoted(&self, at: usize) -> bool {
        matches!(self.0.as_bytes().get(at), Some(b'"' | b'\''))
    }

    /// Describes the key or section on this line, which an earlier line has as well. A key is known
    /// by its section and its name.
    fn duplicate(&self, second: usize) -> Option<String> {
        let mut section = "";
        let mut seen: Vec<(usize, String)> = Vec::new();
        for (at, line) in self.0.lines().enumerate() {
            let line = line.trim();
            let name = match line.strip_prefix('[') {
                Some(rest) => {
                    section = rest.trim_start_matches('[').split(']').next().unwrap_or_default().trim();
                    section.to_owned()
                }
                None => {
                    let key = line.split('=').next().unwrap_or_default().trim();
                    if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") }
                }
            };
            if at + 1 == second {
                let first = seen.iter().find(|(_, other)| *other == name);
                return first.map(|(first, name)| {
                    let what = if line.starts_with('[') { format!("the section [{name}]") } else { name.clone() };
                    format!("{what} is there twice, first in line {first}; remove one, or make them one")
                });
            }
            seen.push((at + 1, name));
        }
        None
    }
}

fn raw_table(table: DeTable<'_>, file: &TomlText<'_>) -> Raw {
    let mut entries: Vec<_> = table.into_iter().collect();
    // in the order of the file
    entries.sort_by_key(|(name, _)| name.span().start);
    let entries = entries.into_iter();
    Raw::Table(
        entries
            .map(|(name, value)| {
                let (at, quoted) = (file.line(name.span().start), file.is_quoted(name.span().start));
                let value = match raw_value(value, file) {
                    Raw::Value(Value::String(text)) if quoted => Raw::Quoted(text),
                    other => other,
                };
                (name.into_inner().into_owned(), at, value)
            })
            .collect(),
    )
}

fn raw_value(value: Spanned<DeValue<'_>>, file: &TomlText<'_>) -> Raw {
    let span = value.span();
    match value.into_inner() {
        DeValue::Table(table) => raw_table(table, file),
        DeValue::Array(items) if items.iter().any(|item| matches!(item.get_ref(), DeValue::Table(_))) => {
            Raw::List(items.into_iter().map(|item| (file.line(item.span().start), raw_value(item, file))).collect())
        }
        other => {
            let value = toml::de::ValueDeserializer::from(Spanned::new(span, other));
            let value: Result<toml::Value, _> = serde::Deserialize::deserialize(value);
            Raw::Value(value.ok().map_or(Value::Null, |value| json(&value)))
        }
    }
}

/// Converts to JSON; a date, and a number that is not finite, become texts.
fn json(value: &toml::Value) -> Value {
    match value {
        toml::Value::Datetime(date) => Value::String(date.to_string()),
        // JSON has neither infinity nor NaN
        toml::Value::Float(number) if !number.is_finite() => Value::String(number.to_string()),
        other => serde_json::to_value(other).unwrap_or(Value::Null),
    }
}

/// Reads the values of one source.
struct SourceReader<'a> {
    whole: &'a SettingsTable,
    origin: Box<dyn Fn(usize) -> SettingOrigin + 'a>,
    base: Option<&'a Path>,
    environment: &'a EnvVars,
    style: ValueStyle,
    settings: SourceSettings,
    /// Settings read so far, and the name used for each.
    seen: BTreeMap<SettingPath, String>,
}

impl SourceReader<'_> {
    fn wrong(&mut self, line: usize, key: &[String], message: impl Into<String>) {
        let problem = ConfigProblem { origin: (self.origin)(line), key: key.join("."), message: message.into() };
        self.settings.problems.push(problem);
    }

    fn table(&mut self, table: &SettingsTable, entries: Vec<(String, usize, Raw)>, prefix: &[String]) {
        for (name, line, raw) in entries {
            let Some(found) = table.find(&name) else {
                let advice = table.advice(&name, &prefix.join("."), self.whole);
                let key = [prefix, &[name]].concat();
                self.wrong(line, &key, format!("unknown setting; {advice}"));
                continue;
            };
            self.entry(found, &name, line, raw, prefix);
        }
    }

    fn entry(&mut self, found: FoundSetting<'_>, written: &str, line: usize, raw: Raw, prefix: &[String]) {
        let key = [prefix, &[found.name.to_owned()]].concat();
        let is_map = matches!(found.node, SettingsNode::Leaf(leaf) if leaf.kind == ValueKind::Map);
        match (found.node, if is_map { raw } else { raw.unquoted() }) {
            (SettingsNode::Table(table), Raw::Table(entries)) => self.table(table, entries, &key),
            (SettingsNode::Table(_), _) => {
                self.wrong(line, &key, format!("it is a section: use [{}], and its settings below", key.join(".")));
            }
            (SettingsNode::Sections(table), Raw::List(items)) => self.sections(table, items, &key),
            (SettingsNode::Sections(_), Raw::Value(Value::Array(items))) if items.is_empty() => {
                self.settings.whole.push(key)
            }
            (SettingsNode::Sections(_), _) => {
                self.wrong(
                    line,
                    &key,
                    format!("it is a list of sections: use [[{0}]], with two brackets", key.join(".")),
                );
            }
            (SettingsNode::Leaf(_), Raw::Table(entries)) if is_map => {
                let texts = self.texts(entries, &key);
                self.leaf(found, written, line, &Value::Object(texts), key);
            }
            (SettingsNode::Leaf(_), Raw::List(_)) if is_map => {
                self.wrong(line, &key, format!("it is one section: use [{}], with one bracket", key.join(".")));
            }
            (SettingsNode::Leaf(_), Raw::Table(_) | Raw::List(_)) => {
                self.wrong(line, &key, format!("it is a setting, not a section: use {written} = ..."));
            }
            (SettingsNode::Leaf(_), Raw::Value(value)) => self.leaf(found, written, line, &value, key),
            (SettingsNode::Leaf(_), Raw::Quoted(text)) => {
                self.leaf(found, written, line, &Value::String(text), key);
            }
        }
    }

    /// The texts in a section of texts, such as `[env]`. A setting that stands there by mistake is
    /// a problem: in TOML everything below a section's head belongs to that section.
    fn texts(&mut self, entries: Vec<(String, usize, Raw)>, key: &[String]) -> Map<String, Value> {
        let mut texts = Map::new();
        for (name, line, raw) in entries {
            let at = [key, std::slice::from_ref(&name)].concat();
            match (self.home_of(&name, key), raw) {
                (_, Raw::Quoted(text)) | (None, Raw::Value(Value::String(text))) => {
                    texts.insert(name, Value::String(text));
                }
                (Some(home), _) => {
                    let section = key.join(".");
                    let advice = format!("it is read as a text of [{section}]; if it is one, put its name in quotes");
                    self.wrong(line, &at, format!("{home}; here {advice}"));
                }
                (None, raw) => {
                    let near = nearest(&name, self.whole.names()).and_then(|near| self.home_of(near, key));
                    let near = near.map(|home| format!("; if you mean a setting: {home}")).unwrap_or_default();
                    let message = format!("{} is not a text; use {name} = \"...\"{near}", raw.describe());
                    self.wrong(line, &at, message);
                }
            }
        }
        texts
    }

    /// The place of a setting that was found in a section of texts; `None` if no setting has that
    /// name.
    fn home_of(&self, name: &str, key: &[String]) -> Option<String> {
        match self.whole.find(name).map(|found| found.node) {
            Some(SettingsNode::Table(_)) => {
                return Some(format!(
                    "{name} is a section: move it above the first [section] of the file, or use [{name}]"
                ));
            }
            Some(SettingsNode::Sections(_)) => return Some(format!("{name} is a list of sections: use [[{name}]]")),
            Some(SettingsNode::Leaf(_)) if *name != key.join(".") => {
                return Some(format!("{name} is a setting of the file: move it above the first [section]"));
            }
            _ => {}
        }
        let sections = self.whole.fields.iter().filter(|(_, node)| match node {
            SettingsNode::Table(table) => table.find(name).is_some(),
            _ => false,
        });
        // `limits`, not `compile_limits`
        let section = sections.map(|(section, _)| section).min_by_key(|section| section.len())?;
        Some(format!("{name} is a setting of [{section}]: move it there"))
    }

    fn leaf(&mut self, found: FoundSetting<'_>, written: &str, line: usize, value: &Value, key: SettingPath) {
        let SettingsNode::Leaf(leaf) = found.node else { return };
        let mut shown = key.clone();
        if let Some(last) = shown.last_mut() {
            written.clone_into(last);
        }
        if let Some(other) = self.seen.insert(key.clone(), written.to_owned()) {
            let message = format!("it is set twice, as {other} and as {written}; remove one of them");
            return self.wrong(line, &shown, message);
        }
        self.settings.written.insert(key.clone(), written.to_owned());
        let converted = convert(found, leaf, value, self.style).and_then(|value| match (&leaf.kind, &value) {
            (ValueKind::Path | ValueKind::Paths, Value::String(path)) => self.path(path).map(Value::String),
            (ValueKind::Paths, Value::Array(paths)) => {
                paths.iter().filter_map(Value::as_str).map(|path| self.path(path).map(Value::String)).collect()
            }
            _ => Ok(value),
        });
        match converted {
            Ok(value) => self.settings.values.push((key, value, (self.origin)(line))),
            Err(message) => self.wrong(line, &shown, message),
        }
    }

    fn sections(&mut self, table: &SettingsTable, items: Vec<(usize, Raw)>, key: &[String]) {
        let is_named = table.fields.contains_key("name");
        for (at, (line, raw)) in items.into_iter().enumerate() {
            let Raw::Table(entries) = raw else {
                self.wrong(line, key, format!("use a section for each, [[{}]]", key.join(".")));
                continue;
            };
            let given = entries.iter().find_map(|(name, _, raw)| match raw {
                Raw::Value(Value::String(value)) | Raw::Quoted(value) if name == "name" && is_named => {
                    Some(value.clone())
                }
                _ => None,
            });
            let default = || match &table.fields.get("name") {
                Some(SettingsNode::Leaf(leaf)) => leaf.default.as_str().map(str::to_owned),
                _ => None,
            };
            let name = given.or_else(default).unwrap_or_else(|| at.to_string());
            let inner = [key, std::slice::from_ref(&name)].concat();
            if self.settings.sections.iter().any(|(list, other, _)| list == key && *other == name) {
                let message = format!("{name:?} is used twice; give each a name of its own");
                self.wrong(line, &[key, &["name".to_owned()]].concat(), message);
                continue;
            }
            self.settings.sections.push((key.to_owned(), name, (self.origin)(line)));
            self.table(table, entries, &inner);
        }
    }

    /// Expands a variable of systemd at the beginning of a path, and makes it relative to its file.
    fn path(&self, path: &str) -> Result<String, String> {
        if path.is_empty() {
            return Err("it is empty; use a path, or remove the setting".to_owned());
        }
        let expanded = match path.strip_prefix("${").and_then(|rest| rest.split_once('}')) {
            None => path.to_owned(),
            Some((name, rest)) => {
                let Some((_, directive)) = FOLDERS.iter().find(|(known, _)| *known == name) else {
                    let known: Vec<String> = FOLDERS.iter().map(|(name, _)| format!("${{{name}}}")).collect();
                    return Err(format!(
                        "{path:?} begins with an unknown variable; the variables are {}",
                        known.join(", ")
                    ));
                };
                // systemd separates several folders by colons
                let folder = self.environment.get(name).and_then(|value| value.split(':').next());
                let folder = folder.filter(|folder| !folder.is_empty());
                format!(
                    "{}{rest}",
                    folder.ok_or_else(|| {
                        format!("{name} is not set: add {directive} to the unit, or use an absolute path")
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

/// Reads the settings in a file; `whole` are the known ones.
///
/// # Errors
/// The file cannot be read.
pub fn file(path: &Path, whole: &SettingsTable, environment: &EnvVars) -> Result<SourceSettings, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    let mut reader = SourceReader {
        whole,
        origin: Box::new(|line| SettingOrigin::File { file: path.to_owned(), line }),
        base: path.parent(),
        environment,
        style: ValueStyle::Typed,
        settings: SourceSettings::default(),
        seen: BTreeMap::new(),
    };
    match raw(&text) {
        Ok(Raw::Table(entries)) => reader.table(whole, entries, &[]),
        Ok(_) => {}
        Err((line, message)) => reader.wrong(line, &[], format!("this is not TOML: {message}")),
    }
    Ok(reader.settings)
}

/// The files to read: `named`, else the default one if it exists; then those of its drop-in folder.
///
/// # Errors
/// The drop-in folder cannot be read.
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
            let mut drop_ins: Vec<PathBuf> = paths.filter(|path| is_read(path)).collect();
            drop_ins.sort();
            files.extend(drop_ins);
        }
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {}
        Err(source) => return Err(ConfigError::Read { path: folder.into(), source }),
    }
    Ok(files)
}

/// Whether a file in a folder of settings is read: one that ends in `.toml` and is not hidden.
/// Editors keep hidden files beside the one that is being edited. A link to nothing is read, and is
/// an error; reading a pipe could take for ever.
pub(super) fn is_read(path: &Path) -> bool {
    let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    let is_other = path.metadata().is_ok_and(|meta| !meta.is_file());
    !is_hidden && !is_other && path.extension().is_some_and(|extension| extension == "toml")
}

/// Reads a flag: a key, and its value as text.
pub fn flag(flag: &str, key: &str, value: &str, environment: &EnvVars) -> SourceSettings {
    text(key, value, &SettingOrigin::Flag { flag: flag.to_owned() }, environment)
}

/// Reads one setting by its key, from a text.
pub(super) fn text(key: &str, value: &str, origin: &SettingOrigin, environment: &EnvVars) -> SourceSettings {
    let whole = schema::config();
    let mut reader = SourceReader {
        whole,
        origin: Box::new(|_| origin.clone()),
        base: None,
        environment,
        style: ValueStyle::Text,
        settings: SourceSettings::default(),
        seen: BTreeMap::new(),
    };
    let parts: Vec<String> = key.split('.').map(str::to_owned).collect();
    let (Some(last), mut table, mut prefix) = (parts.last(), whole, Vec::new()) else { return reader.settings };
    let mut rest = parts.iter().take(parts.len() - 1);
    while let Some(part) = rest.next() {
        prefix.push(part.clone());
        match table.fields.get(part) {
            Some(SettingsNode::Table(inner)) => table = inner,
            // the name of a host may contain dots
            Some(SettingsNode::Sections(inner)) => {
                let name = rest.by_ref().cloned().collect::<Vec<_>>().join(".");
                reader.settings.sections.push((prefix.clone(), name.clone(), origin.clone()));
                prefix.push(name);
                table = inner;
            }
            _ => {
                let advice = table.advice(part, "", whole);
                reader.wrong(0, &parts, format!("unknown section {part:?}; {advice}"));
                return reader.settings;
            }
        }
    }
    let Some(found) = table.find(last) else {
        let advice = table.advice(last, &prefix.join("."), whole);
        reader.wrong(0, &parts, format!("unknown setting; {advice}"));
        return reader.settings;
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
            Ok(_) => {
                reader.wrong(0, &parts, format!("{value:?} is more than one value; use one, without line breaks"));
                return reader.settings;
            }
            Err((_, message)) => {
                let example = match found.node {
                    SettingsNode::Sections(_) => "[{ name = \"near\", host = \"tcp://near:2376\" }]",
                    _ => "[\"a\", \"b\"]",
                };
                reader.wrong(0, &parts, format!("{value:?} is not TOML ({message}); use a value such as {example}"));
                return reader.settings;
            }
        }
    } else {
        Raw::Value(Value::String(value.to_owned()))
    };
    if matches!(found.node, SettingsNode::Sections(_)) {
        reader.settings.whole.push(parts.clone());
        reader.style = ValueStyle::Typed;
    }
    reader.entry(found, last, 0, given, &prefix);
    reader.settings
}
