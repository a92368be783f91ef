//! The `ASSAY_*` variables: every setting has one.

use std::collections::BTreeMap;

use super::EnvVars;
use super::problem::{ConfigProblem, SettingOrigin};
use super::schema::{self, SettingsNode, nearest};
use super::sources::{FILE_VARIABLE, SourceSettings, text};

/// Short names of variables, some older than the rule that gives every setting one.
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

/// The prefix of every variable.
const PREFIX: &str = "ASSAY_";

/// Name of the variable of a setting.
pub fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "_").to_uppercase())
}

/// All variables with the keys that they set; quantities also without the unit.
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

/// Reads the variables. An unknown one is only a warning: variables of clients and tests have the
/// same prefix.
pub fn environment(environment: &EnvVars) -> SourceSettings {
    let known = variables();
    let mut all = SourceSettings::default();
    let is_set = |(_, value): &(&String, &String)| !value.is_empty();
    let (ours, others): (Vec<_>, Vec<_>) =
        environment.iter().filter(is_set).partition(|(name, _)| name.starts_with(PREFIX));
    // if both names of a setting are set, the long one wins
    let (short, long): (Vec<_>, Vec<_>) =
        ours.into_iter().partition(|(name, _)| SHORT.iter().any(|(short, _)| short == name));
    for (name, value) in short.into_iter().chain(long) {
        let origin = SettingOrigin::Variable { name: name.clone() };
        match known.get(name) {
            Some(key) if value.contains(char::REPLACEMENT_CHARACTER) => {
                let message = "its value is not UTF-8".to_owned();
                all.problems.push(ConfigProblem { origin, key: key.clone(), message });
            }
            Some(key) => {
                let one = text(key, value, &origin, environment);
                all.values.extend(one.values);
                all.sections.extend(one.sections);
                all.whole.extend(one.whole);
                all.written.extend(one.written);
                all.problems.extend(one.problems);
            }
            None if name == FILE_VARIABLE || CLIENT_VARIABLES.contains(&name.as_str()) => {}
            None => all.warnings.push(sets_nothing(name, nearest(name, known.keys().map(String::as_str)))),
        }
    }
    for (name, _) in others {
        all.warnings.extend(meant(name, &known).map(|near| sets_nothing(name, near)));
    }
    all
}

/// Variables of HTTP clients, as docs/HTTP.md and the examples name them.
const CLIENT_VARIABLES: [&str; 2] = ["ASSAY_URL", "ASSAY_TOKEN"];

fn sets_nothing(name: &str, near: Option<&str>) -> String {
    let advice = match near {
        Some(near) if near == name.to_uppercase() => {
            format!("did you mean {near}? names of variables are in capitals")
        }
        Some(near) => format!("did you mean {near}?"),
        None => "docs/OPERATIONS.md lists all".to_owned(),
    };
    format!("{name} sets nothing; {advice}")
}

/// Whether a variable without our prefix looks as if it were to be one of ours, and the nearest of
/// them: in lower case, with another prefix, with other characters between the words.
fn meant<'a>(name: &str, known: &'a BTreeMap<String, String>) -> Option<Option<&'a str>> {
    let known = || known.keys().map(String::as_str).chain([FILE_VARIABLE]);
    let bare = |name: &str| name.to_uppercase().replace(['_', '-', '.'], "");
    if let Some(same) = known().find(|other| bare(other) == bare(name)) {
        return Some(Some(same));
    }
    let upper = name.to_uppercase().replace(['-', '.'], "_");
    let (prefix, rest) = upper.split_once('_')?;
    let ours = format!("{PREFIX}{rest}");
    match strsim::damerau_levenshtein(prefix, PREFIX.trim_end_matches('_')) {
        0 => Some(nearest(&ours, known())),
        1 => nearest(&ours, known()).filter(|near| *near == ours || prefix == "ASSAYD").map(Some),
        _ => None,
    }
}
