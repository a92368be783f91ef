//! The effective configuration with the origin of each value: as a file that can be loaded again,
//! or as JSON. A reload compares its rows.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Value, json};

use super::load::{Loaded, Origins};
use super::model::Config;
use super::problem::SettingOrigin;
use super::schema::{self, SettingSchema, SettingsNode, SettingsTable, ValueKind};
use super::units::Unit;

/// One setting of the effective configuration.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SettingRow {
    /// Its key; for a host, `hosts.NAME.SETTING`.
    pub key: String,
    /// Its value; null if it is absent.
    pub value: Value,
    pub origin: SettingOrigin,
}

/// All settings of a configuration.
pub fn rows(config: &Config, origins: &Origins) -> Vec<SettingRow> {
    let value = serde_json::to_value(config).unwrap_or_default();
    let mut rows = Vec::new();
    below(schema::config(), &value, "", origins, &mut rows);
    rows
}

fn below(table: &SettingsTable, value: &Value, prefix: &str, origins: &Origins, rows: &mut Vec<SettingRow>) {
    for (name, node) in &table.fields {
        let key = format!("{prefix}{name}");
        match node {
            SettingsNode::Table(inner) => below(inner, &value[name], &format!("{key}."), origins, rows),
            SettingsNode::Sections(inner) => {
                for item in value[name].as_array().into_iter().flatten() {
                    let name_of_item = item["name"].as_str().unwrap_or_default();
                    below(inner, item, &format!("{key}.{name_of_item}."), origins, rows);
                }
            }
            SettingsNode::Leaf(_) => {
                rows.push(SettingRow { origin: origins.of(&key), value: value[name].clone(), key })
            }
        }
    }
}

/// A file with every setting, and its origin as a comment.
pub fn text(loaded: &Loaded) -> String {
    let config = &loaded.config;
    let value = serde_json::to_value(config).unwrap_or_default();
    let mut out = String::new();
    let files: Vec<String> = loaded.files.iter().map(|file| file.display().to_string()).collect();
    let files = if files.is_empty() { "no file".to_owned() } else { files.join(", ") };
    let _ = writeln!(out, "# read: {files}");
    for (name, node) in &schema::config().fields {
        match node {
            SettingsNode::Table(_) if name == "engine" && !config.hosts.is_empty() => {}
            SettingsNode::Table(table) => {
                let _ = writeln!(out, "\n[{name}]");
                section(table, &value[name], &format!("{name}."), &loaded.origins, &mut out);
                sections_below(table, &value[name], name, &loaded.origins, &mut out);
            }
            SettingsNode::Sections(table) => {
                for item in value[name].as_array().into_iter().flatten() {
                    let _ = writeln!(out, "\n[[{name}]]");
                    let name_of_item = item["name"].as_str().unwrap_or_default();
                    section(table, item, &format!("{name}.{name_of_item}."), &loaded.origins, &mut out);
                }
            }
            SettingsNode::Leaf(_) => {}
        }
    }
    out
}

/// The lists of sections in a section, which come after its settings.
fn sections_below(table: &SettingsTable, value: &Value, prefix: &str, origins: &Origins, out: &mut String) {
    for (name, node) in &table.fields {
        let SettingsNode::Sections(inner) = node else { continue };
        for item in value[name].as_array().into_iter().flatten() {
            let _ = writeln!(out, "\n[[{prefix}.{name}]]");
            let name_of_item = item["name"].as_str().unwrap_or_default();
            section(inner, item, &format!("{prefix}.{name}.{name_of_item}."), origins, out);
        }
    }
}

fn section(table: &SettingsTable, value: &Value, prefix: &str, origins: &Origins, out: &mut String) {
    for (name, node) in &table.fields {
        let SettingsNode::Leaf(leaf) = node else { continue };
        let line = match written(name, leaf, &value[name]) {
            Some(line) => line,
            None => format!("# {name} ="),
        };
        let _ = writeln!(out, "{line:<39} # {}", origins.of(&format!("{prefix}{name}")));
    }
}

/// A setting as a line of a file, a quantity as a text with a unit; `None` if it is absent.
pub fn written(name: &str, leaf: &SettingSchema, value: &Value) -> Option<String> {
    if value.is_null() {
        return None;
    }
    match (Unit::of(name), value.as_u64()) {
        (Some((unit, short)), Some(number)) if matches!(leaf.kind, ValueKind::Unsigned(_)) => {
            Some(format!("{short} = {:?}", unit.show(number)))
        }
        // lists, texts and numbers of JSON are valid TOML
        _ => Some(format!("{name} = {value}")),
    }
}

/// The settings, files and warnings as JSON.
pub fn json(loaded: &Loaded) -> Value {
    json!({
        "settings": rows(&loaded.config, &loaded.origins),
        "files": loaded.files,
        "warnings": loaded.warnings,
    })
}
