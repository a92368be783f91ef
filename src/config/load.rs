//! Merges all sources setting by setting, deserializes the result into the structs, and checks it.
//!
//! ```text
//!   files, drop-ins, variables, flags --sources--> (key, value, origin)...
//!       --merge--> one tree --serde--> Config --check-->
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::check::check;
use super::model::Config;
use super::problem::{ConfigError, ConfigProblem, SettingOrigin};
use super::sources::{self, SettingPath, SourceSettings};
use super::units::Unit;
use super::unread::unread;
use super::{EnvVars, idle, schema, variables};

/// The sources of a configuration.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The file; [`super::DEFAULT_PATH`] if `None`.
    pub path: Option<PathBuf>,
    pub environment: EnvVars,
    /// Flags: each as given, its key, its value.
    pub flags: Vec<(String, String, String)>,
}

/// A loaded configuration.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    pub origins: Origins,
    /// The files that were read, in order.
    pub files: Vec<PathBuf>,
    pub warnings: Vec<String>,
}

/// Origins of the values that are not defaults, by key.
#[derive(Debug, Clone, Default)]
pub struct Origins {
    origins: BTreeMap<String, SettingOrigin>,
    /// The last part of the name as it was written.
    written: BTreeMap<String, String>,
}

impl Origins {
    /// Origin of a mistake: that of the setting, or, if it has its default, of another setting of
    /// its section that does not fit the default.
    fn of_mistake(&self, key: &str) -> SettingOrigin {
        match (self.of(key), key.rsplit_once('.')) {
            (SettingOrigin::Default, Some((section, _))) => self.of(section),
            (origin, _) => origin,
        }
    }

    /// Origin of a setting, or of the first value in a section.
    pub fn of(&self, key: &str) -> SettingOrigin {
        let below = format!("{key}.");
        let exact = self.origins.get(key);
        let first = || self.origins.range(below.clone()..).next().filter(|(name, _)| name.starts_with(&below));
        exact.or_else(|| first().map(|(_, origin)| origin)).cloned().unwrap_or(SettingOrigin::Default)
    }

    /// The place of a setting for the beginning of a message; empty if it has its default.
    pub fn place(&self, key: &str) -> String {
        match self.of(key) {
            SettingOrigin::Default => String::new(),
            origin => format!("{origin}: "),
        }
    }

    /// A setting's key as it was written: a quantity that is set nowhere has its name without the
    /// unit.
    pub(super) fn shown(&self, key: &str) -> String {
        let (above, last) = key.rsplit_once('.').map_or(("", key), |(above, last)| (above, last));
        let short = || Unit::of(last).map_or(last, |(_, short)| short);
        let last = self.written.get(key).map_or_else(short, String::as_str);
        if above.is_empty() { last.to_owned() } else { format!("{above}.{last}") }
    }
}

/// Several sources merged.
#[derive(Debug, Default)]
pub(super) struct MergedSources {
    values: BTreeMap<SettingPath, (Value, SettingOrigin)>,
    /// Lists of sections, with the names of the sections in order.
    lists: BTreeMap<SettingPath, Vec<(String, SettingOrigin)>>,
    written: BTreeMap<SettingPath, String>,
    problems: Vec<ConfigProblem>,
    warnings: Vec<String>,
}

impl MergedSources {
    /// Adds a source that overrides those before it.
    pub(super) fn add(&mut self, source: SourceSettings) {
        for list in source.whole {
            self.remove_below(&list);
            self.lists.insert(list, Vec::new());
        }
        for (list, name, origin) in source.sections {
            let names = self.lists.entry(list).or_default();
            if !names.iter().any(|(other, _)| *other == name) {
                names.push((name, origin));
            }
        }
        for (key, value, origin) in source.values {
            self.values.insert(key, (value, origin));
        }
        self.written.extend(source.written);
        self.problems.extend(source.problems);
        self.warnings.extend(source.warnings);
    }

    /// Takes out the problems that were found, so that what is valid can be looked at as well.
    pub(super) fn take_problems(&mut self) -> Vec<ConfigProblem> {
        std::mem::take(&mut self.problems)
    }

    /// Whether a setting has a value.
    pub(super) fn has(&self, key: &str) -> bool {
        self.values.contains_key(&vec![key.to_owned()])
    }

    /// Sets a value, for a setting that has none.
    pub(super) fn fill(&mut self, key: &str, value: Value) {
        self.values.insert(vec![key.to_owned()], (value, SettingOrigin::Default));
    }

    fn remove_below(&mut self, prefix: &[String]) {
        self.values.retain(|key, _| !key.starts_with(prefix));
        self.lists.retain(|key, _| !key.starts_with(prefix));
    }

    /// An address or a context from a variable or flag is the only engine and overrides all files.
    fn settle_engine(&mut self) {
        let key = |name: &str| vec!["engine".to_owned(), name.to_owned()];
        let of_process = |merged: &MergedSources, name| {
            merged.values.get(&key(name)).is_some_and(|(_, origin)| origin.is_of_the_process())
        };
        let (host, context) = (of_process(self, "host"), of_process(self, "context"));
        if host || context {
            self.remove_below(&["hosts".to_owned()]);
        }
        if host && !context {
            self.values.remove(&key("context"));
        } else if context && !host {
            self.values.remove(&key("host"));
        }
    }

    /// All values as one tree.
    fn tree(&self) -> Value {
        let mut root = Map::new();
        for (list, names) in &self.lists {
            let object = below(&mut root, list);
            for (name, _) in names {
                object.entry(name).or_insert_with(|| Value::Object(Map::new()));
            }
        }
        for (key, (value, _)) in &self.values {
            if let Some((last, above)) = key.split_last() {
                below(&mut root, above).insert(last.clone(), value.clone());
            }
        }
        let mut root = Value::Object(root);
        for (list, names) in &self.lists {
            let pointer = list.iter().map(|part| format!("/{part}")).collect::<String>();
            let Some(slot) = root.pointer_mut(&pointer) else { continue };
            let items = names.iter().filter_map(|(name, _)| slot.get_mut(name).map(Value::take)).collect();
            *slot = Value::Array(items);
        }
        root
    }

    /// Deserializes the merged values; `whole` is the origin of mistakes without a line of their
    /// own.
    pub(super) fn into<T: DeserializeOwned>(
        self,
        whole: &SettingOrigin,
    ) -> Result<(T, Origins, Vec<String>), ConfigError> {
        if !self.problems.is_empty() {
            return Err(ConfigError::Wrong(self.problems));
        }
        let tree = self.tree();
        let mut origins: BTreeMap<String, SettingOrigin> =
            self.values.iter().map(|(key, (_, origin))| (key.join("."), origin.clone())).collect();
        for (list, names) in &self.lists {
            for (name, origin) in names {
                origins.entry(format!("{}.{name}.name", list.join("."))).or_insert(origin.clone());
            }
        }
        let written = self.written.iter().map(|(key, name)| (key.join("."), name.clone())).collect();
        let origins = Origins { origins, written };
        let typed = serde_path_to_error::deserialize(tree).map_err(|error| {
            let path = error.path().to_string();
            let above = if path == "." { String::new() } else { format!("{path}.") };
            let message = error.inner().to_string();
            // a required setting is not set
            let missing = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
            let (key, message) = match missing {
                Some(field) => (format!("{above}{field}"), "it is required, and has no default; set it".to_owned()),
                None => (above.trim_end_matches('.').to_owned(), message),
            };
            let origin = match origins.of(&key) {
                SettingOrigin::Default => whole.clone(),
                origin => origin,
            };
            ConfigError::one(origin, &origins.shown(&key), message)
        })?;
        Ok((typed, origins, self.warnings))
    }
}

fn below<'a>(root: &'a mut Map<String, Value>, path: &[String]) -> &'a mut Map<String, Value> {
    let mut at = root;
    for part in path {
        let next = at.entry(part).or_insert_with(|| Value::Object(Map::new()));
        if !next.is_object() {
            *next = Value::Object(Map::new());
        }
        let Value::Object(inner) = next else { unreachable!("was made an object above") };
        at = inner;
    }
    at
}

impl Sources {
    /// Reads, merges and checks all sources.
    ///
    /// # Errors
    /// A file cannot be read, or all mistakes that were found.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        let files = sources::files(self.path.as_deref(), &self.environment)?;
        let mut merged = MergedSources::default();
        for file in &files {
            merged.add(sources::file(file, schema::config(), &self.environment)?);
        }
        merged.add(variables::environment(&self.environment));
        for (flag, key, value) in &self.flags {
            merged.add(sources::flag(flag, key, value, &self.environment));
        }
        merged.settle_engine();
        let whole =
            files.first().map_or(SettingOrigin::Default, |file| SettingOrigin::File { file: file.clone(), line: 0 });
        let (config, origins, mut warnings): (Config, Origins, Vec<String>) = merged.into(&whole)?;
        warnings.extend(unread(self.path.as_deref(), &self.environment, &config.profiles.dir));
        warnings.extend(idle::settings(&config, |key| origins.of(key)));
        let mistakes = check(&config);
        if !mistakes.is_empty() {
            let problem = |(key, message): (String, String)| ConfigProblem {
                origin: origins.of_mistake(&key),
                key: origins.shown(&key),
                message,
            };
            return Err(ConfigError::Wrong(mistakes.into_iter().map(problem).collect()));
        }
        Ok(Loaded { config, origins, files, warnings })
    }
}

impl Config {
    /// Loads a file ([`super::DEFAULT_PATH`] if `None`) with its drop-ins, and the variables; no
    /// flags.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn load(path: Option<&Path>, environment: &EnvVars) -> Result<Config, ConfigError> {
        let sources = Sources { path: path.map(Path::to_owned), environment: environment.clone(), flags: Vec::new() };
        sources.load().map(|loaded| loaded.config)
    }

    /// The same for another program than the daemon: folders that the service manager gives to the
    /// daemon alone, such as its credentials, need not be there.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn load_elsewhere(path: Option<&Path>, environment: &EnvVars) -> Result<Config, ConfigError> {
        let mut environment = environment.clone();
        for name in sources::folder_variables() {
            environment.entry(name.to_owned()).or_insert_with(|| "/nonexistent".to_owned());
        }
        Config::load(path, &environment)
    }
}
