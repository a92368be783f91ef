//! The effective configuration, setting by setting with where each comes from: for people as a file that could be used
//! again, for programs as JSON. A reload compares rows too.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Value, json};

use super::load::{Loaded, Origins};
use super::model::Config;
use super::problem::SettingOrigin;
use super::schema::{self, SettingSchema, SettingsNode, SettingsTable, ValueKind};
use super::units::Unit;

/// One setting that is in effect.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SettingRow {
    /// Its key; of a host `hosts`, the host's name, and the setting.
    pub key: String,
    /// Its value; null when it is absent.
    pub value: Value,
    /// Where it comes from.
    pub origin: SettingOrigin,
}

/// Every setting of a configuration.
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
                    let called = item["name"].as_str().unwrap_or_default();
                    below(inner, item, &format!("{key}.{called}."), origins, rows);
                }
            }
            SettingsNode::Leaf(_) => {
                rows.push(SettingRow { origin: origins.of(&key), value: value[name].clone(), key })
            }
        }
    }
}

/// As a file: every setting, with its origin behind it.
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
            }
            SettingsNode::Sections(table) => {
                for item in value[name].as_array().into_iter().flatten() {
                    let _ = writeln!(out, "\n[[{name}]]");
                    let called = item["name"].as_str().unwrap_or_default();
                    section(table, item, &format!("{name}.{called}."), &loaded.origins, &mut out);
                }
            }
            SettingsNode::Leaf(_) => {}
        }
    }
    out
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

/// A setting as it would stand in a file, a quantity as a text with its unit; none when it is absent.
pub fn written(name: &str, leaf: &SettingSchema, value: &Value) -> Option<String> {
    if value.is_null() {
        return None;
    }
    match (Unit::of(name), value.as_u64()) {
        (Some((unit, short)), Some(number)) if matches!(leaf.kind, ValueKind::Whole(_)) => {
            Some(format!("{short} = {:?}", unit.show(number)))
        }
        // JSON's lists, texts and numbers are TOML's
        _ => Some(format!("{name} = {value}")),
    }
}

/// As JSON: the settings, the files, the warnings.
pub fn json(loaded: &Loaded) -> Value {
    json!({
        "settings": rows(&loaded.config, &loaded.origins),
        "files": loaded.files,
        "warnings": loaded.warnings,
    })
}
