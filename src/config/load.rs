//! All sources, one configuration. What they say is joined setting by setting, with where each value comes from, and then read
//! into the structs at once; what is wrong after that is found by `check`.
//!
//! ```text
//!   files, drop-ins, variables, flags --sources--> (key, value, origin)... --Joined--> one tree --serde--> Config --check-->
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::check::check;
use super::model::Config;
use super::problem::{ConfigError, ConfigProblem, SettingOrigin};
use super::sources::{self, SettingPath, SourceSettings};
use super::{EnvVars, schema};

/// Where the configuration is to be found.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The file; the usual one when none is named.
    pub path: Option<PathBuf>,
    /// The variables.
    pub environment: EnvVars,
    /// Flags: each as it was given, its key, its value.
    pub flags: Vec<(String, String, String)>,
}

/// What came of them.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Where each value comes from that is not the default.
    pub origins: Origins,
    /// The files that were read, in their order.
    pub files: Vec<PathBuf>,
    /// What is strange, but no mistake.
    pub warnings: Vec<String>,
}

/// Where each value comes from.
#[derive(Debug, Clone, Default)]
pub struct Origins(BTreeMap<String, SettingOrigin>);

impl Origins {
    /// Of a mistake in a setting: where somebody set it, else where they set another of its section, to which the default does
    /// not fit.
    fn of_mistake(&self, key: &str) -> SettingOrigin {
        match (self.of(key), key.rsplit_once('.')) {
            (SettingOrigin::Default, Some((section, _))) => self.of(section),
            (origin, _) => origin,
        }
    }

    /// Of a setting, or of the first that somebody set below a section.
    pub fn of(&self, key: &str) -> SettingOrigin {
        let below = format!("{key}.");
        let exact = self.0.get(key);
        let first = || self.0.range(below.clone()..).next().filter(|(name, _)| name.starts_with(&below));
        exact.or_else(|| first().map(|(_, origin)| origin)).cloned().unwrap_or(SettingOrigin::Default)
    }
}

/// What sources say together.
#[derive(Debug, Default)]
pub(super) struct Joined {
    values: BTreeMap<SettingPath, (Value, SettingOrigin)>,
    /// Lists of sections, and the sections' names in order.
    lists: BTreeMap<SettingPath, Vec<(String, SettingOrigin)>>,
    problems: Vec<ConfigProblem>,
    warnings: Vec<String>,
}

impl Joined {
    /// The next source: what it says wins.
    pub(super) fn add(&mut self, said: SourceSettings) {
        for list in said.whole {
            self.forget(&list);
            self.lists.insert(list, Vec::new());
        }
        for (list, name, origin) in said.sections {
            let names = self.lists.entry(list).or_default();
            if !names.iter().any(|(other, _)| *other == name) {
                names.push((name, origin));
            }
        }
        for (key, value, origin) in said.values {
            self.values.insert(key, (value, origin));
        }
        self.problems.extend(said.problems);
        self.warnings.extend(said.warnings);
    }

    fn forget(&mut self, prefix: &[String]) {
        self.values.retain(|key, _| !key.starts_with(prefix));
        self.lists.retain(|key, _| !key.starts_with(prefix));
    }

    /// An address or a context that is said for this process is the one engine, whatever the files say.
    fn settle_engine(&mut self) {
        let key = |name: &str| vec!["engine".to_owned(), name.to_owned()];
        let of_process =
            |joined: &Joined, name| joined.values.get(&key(name)).is_some_and(|(_, origin)| origin.is_of_the_process());
        let (host, context) = (of_process(self, "host"), of_process(self, "context"));
        if host || context {
            self.forget(&["hosts".to_owned()]);
        }
        if host && !context {
            self.values.remove(&key("context"));
        } else if context && !host {
            self.values.remove(&key("host"));
        }
    }

    /// One tree of all.
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

    /// The typed value, when nothing is wrong; `name` is what the whole is called.
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
        let origins = Origins(origins);
        let typed = serde_path_to_error::deserialize(tree).map_err(|error| {
            let path = error.path().to_string();
            let above = if path == "." { String::new() } else { format!("{path}.") };
            let message = error.inner().to_string();
            // what must be said and is not
            let missing = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
            let (key, message) = match missing {
                Some(field) => (format!("{above}{field}"), "it is missing, and has no default; write it".to_owned()),
                None => (above.trim_end_matches('.').to_owned(), message),
            };
            let origin = match origins.of(&key) {
                SettingOrigin::Default => whole.clone(),
                origin => origin,
            };
            ConfigError::one(origin, &key, message)
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
        let Value::Object(inner) = next else { unreachable!("it was made one") };
        at = inner;
    }
    at
}

impl Sources {
    /// Reads all of them, joins, and checks.
    ///
    /// # Errors
    /// A file that cannot be read, or every mistake that was found.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        let files = sources::files(self.path.as_deref(), &self.environment)?;
        let mut joined = Joined::default();
        for file in &files {
            joined.add(sources::file(file, schema::config(), &self.environment)?);
        }
        joined.add(sources::environment(&self.environment));
        for (flag, key, value) in &self.flags {
            joined.add(sources::flag(flag, key, value, &self.environment));
        }
        joined.settle_engine();
        let whole =
            files.first().map_or(SettingOrigin::Default, |file| SettingOrigin::File { file: file.clone(), line: 0 });
        let (config, origins, warnings): (Config, Origins, Vec<String>) = joined.into(&whole)?;
        let mistakes = check(&config);
        if !mistakes.is_empty() {
            let problem =
                |(key, message): (String, String)| ConfigProblem { origin: origins.of_mistake(&key), key, message };
            return Err(ConfigError::Wrong(mistakes.into_iter().map(problem).collect()));
        }
        Ok(Loaded { config, origins, files, warnings })
    }
}

impl Config {
    /// The configuration of a file (the usual one when none is named) with its drop-ins and of variables.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn load(path: Option<&Path>, environment: &EnvVars) -> Result<Config, ConfigError> {
        let sources = Sources { path: path.map(Path::to_owned), environment: environment.clone(), flags: Vec::new() };
        sources.load().map(|loaded| loaded.config)
    }
}
