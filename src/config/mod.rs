//! Configuration: a raw file becomes an effective one, with every error naming file, key and remedy.
//!
//! Precedence, the later wins: built-in defaults, the file, `ASSAY_*` variables. The environment comes in as a value,
//! so that tests never touch the process's. Fixed bounds that are not for operators to change stand in [`bounds`].

pub mod bounds;
mod profiles;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::docker::registry::Trusted;
use crate::docker::{self, PullPolicy, Settings, SetupError, Target};

pub use profiles::load_profiles;

/// Where the daemon looks when it is told nothing.
pub const DEFAULT_PATH: &str = "/etc/assay/assayd.toml";

/// The effective configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Who this daemon is.
    pub instance: Instance,
    /// The callers' socket.
    pub socket: Socket,
    /// The Docker Engine, when there is one.
    pub engine: Engine,
    /// The Docker Engines, when there are several; each with the keys of `[engine]`.
    pub hosts: Vec<Engine>,
    /// Images.
    pub images: Images,
    /// Profiles.
    pub profiles: Profiles,
    /// The queue.
    pub queue: Queue,
    /// The uids of programs.
    pub uids: Uids,
    /// What was compiled before.
    pub cache: CacheSettings,
    /// What is demanded of every sandbox.
    pub isolation: Demands,
}

/// Who this daemon is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Instance {
    /// A name for people; the label on containers is the name and a random id kept in the state folder.
    pub name: String,
    /// What outlives the process: the id, locks, build logs.
    pub state_dir: PathBuf,
}

impl Default for Instance {
    fn default() -> Self {
        Instance { name: "assay".to_owned(), state_dir: PathBuf::from("/var/lib/assay") }
    }
}

/// The callers' socket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Socket {
    /// Its path.
    pub path: PathBuf,
    /// Its mode, octal.
    pub mode: String,
    /// Who may submit: `"*"` for whoever can open the socket, or uids.
    pub submit: Vec<Who>,
    /// Who may administer; uid 0 and the daemon's own uid always may.
    pub admin: Vec<Who>,
}

/// A caller in the roles' lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a uid, \"*\", \"user:NAME\" or \"group:NAME\"")]
pub enum Who {
    /// A user id.
    Uid(u32),
    /// `"*"`, `"user:NAME"` or `"group:NAME"`.
    Named(String),
}

impl Default for Socket {
    fn default() -> Self {
        Socket {
            path: PathBuf::from("/run/assay/assay.sock"),
            mode: "0660".to_owned(),
            submit: vec![Who::Named("*".to_owned())],
            admin: Vec::new(),
        }
    }
}

/// A Docker Engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Engine {
    /// Its name in reports and commands.
    pub name: String,
    /// `unix:///path` or `tcp://host:port`; when absent, what Docker's own environment and context say.
    pub host: Option<String>,
    /// A Docker context, instead of an address.
    pub context: Option<String>,
    /// A folder with `ca.pem`, `cert.pem` and `key.pem`, for TLS.
    pub tls_dir: Option<PathBuf>,
    /// The certificate authority; instead of the folder's.
    pub tls_ca: Option<PathBuf>,
    /// The client's certificate; instead of the folder's.
    pub tls_cert: Option<PathBuf>,
    /// Its key; instead of the folder's.
    pub tls_key: Option<PathBuf>,
    /// The name that the engine's certificate must bear, where it is not the address's.
    pub tls_server_name: Option<String>,
    /// Whether TCP without TLS may be spoken: whoever reaches that port is root there.
    pub allow_plaintext: bool,
    /// The OCI runtime of sandboxes, such as `runsc`; the engine's own when absent. A profile's own wins.
    pub runtime: Option<String>,
    /// The AppArmor profile of cells, where the engine's own forbids their mounts (config/apparmor/assay-cell).
    pub apparmor_profile: Option<String>,
    /// Creations at a time.
    pub max_creating: usize,
    /// How many CPUs' worth of runs are let in for each CPU that it has. More than 1 makes runs slower when they come
    /// together: their CPU time stays what it is, their wall time grows.
    pub cpu_overcommit: f64,
}

impl Default for Engine {
    fn default() -> Self {
        Engine {
            name: "local".to_owned(),
            host: None,
            context: None,
            tls_dir: None,
            tls_ca: None,
            tls_cert: None,
            tls_key: None,
            tls_server_name: None,
            allow_plaintext: false,
            runtime: None,
            apparmor_profile: None,
            max_creating: 2,
            cpu_overcommit: 2.0,
        }
    }
}

impl Engine {
    /// Which engine, and how it is reached.
    ///
    /// # Errors
    /// What is wrong, where it stands, and what to write instead.
    pub fn target(&self, environment: &Environment) -> Result<Target, SetupError> {
        let settings = Settings {
            host: self.host.clone(),
            context: self.context.clone(),
            tls_dir: self.tls_dir.clone(),
            tls_ca: self.tls_ca.clone(),
            tls_cert: self.tls_cert.clone(),
            tls_key: self.tls_key.clone(),
            tls_server_name: self.tls_server_name.clone(),
            allow_plaintext: self.allow_plaintext,
        };
        settings.target(&docker::Environment::from(environment.clone()))
    }
}

/// Images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Images {
    /// The folder with a folder per image.
    pub dir: PathBuf,
    /// Whether a missing image is built without being asked.
    pub build_missing: bool,
    /// The init program; beside the daemon's own binary when absent.
    pub init: Option<PathBuf>,
    /// When an image is asked of its registry: `always`, `if-missing`, `never`.
    pub pull: PullPolicy,
    /// Where images may come from: `registry/path`, or with `/*` at its end all below it.
    pub trusted: Trusted,
}

impl Default for Images {
    fn default() -> Self {
        Images {
            dir: PathBuf::from("/usr/share/assay/images"),
            build_missing: true,
            init: None,
            pull: PullPolicy::IfMissing,
            trusted: Trusted::new(["docker.io/library/debian"]),
        }
    }
}

/// Profiles.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Profiles {
    /// The folder with a TOML file per profile.
    pub dir: PathBuf,
    /// Only these; all when empty.
    pub only: Vec<String>,
    /// Instead of each profile's own floor.
    pub floor: Option<usize>,
    /// Instead of each profile's own ceiling.
    pub ceiling: Option<usize>,
}

impl Default for Profiles {
    fn default() -> Self {
        Profiles { dir: PathBuf::from("/etc/assay/profiles"), only: Vec::new(), floor: None, ceiling: None }
    }
}

/// The queue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Queue {
    /// Submissions admitted and not yet answered, at most.
    pub max: usize,
    /// The same for one uid.
    pub max_per_uid: usize,
    /// Runs at a time of one uid; 0 for as many as there is room for.
    pub max_running_per_uid: usize,
    /// How long a submission waits for a sandbox when it states no deadline, in milliseconds.
    pub patience_ms: u64,
    /// How long a drain waits for what runs, in milliseconds.
    pub drain_ms: u64,
}

impl Default for Queue {
    fn default() -> Self {
        Queue { max: 4096, max_per_uid: 2048, max_running_per_uid: 0, patience_ms: 120_000, drain_ms: 30_000 }
    }
}

impl Queue {
    /// [`Queue::patience_ms`] as a duration.
    pub fn patience(&self) -> Duration {
        Duration::from_millis(self.patience_ms)
    }

    /// [`Queue::drain_ms`] as a duration.
    pub fn drain(&self) -> Duration {
        Duration::from_millis(self.drain_ms)
    }
}

/// The uids of programs: `base` to `base + count - 1`, one per sandbox at a time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Uids {
    /// The first. Disjoint per daemon on one engine, below 65536 so that remapped engines can map it.
    pub base: u32,
    /// How many, and so how many sandboxes at most.
    pub count: u32,
}

impl Default for Uids {
    fn default() -> Self {
        Uids { base: 52_000, count: 1024 }
    }
}

/// What was compiled before, kept in the state folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CacheSettings {
    /// At most so many bytes; 0 for none.
    pub max_bytes: u64,
}

impl Default for CacheSettings {
    fn default() -> Self {
        CacheSettings { max_bytes: 512 * 1024 * 1024 }
    }
}

/// What is demanded of every sandbox; one that does not meet it is not made, and its pool says why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Demands {
    /// Nothing in a sandbox is root, the init included: cells only.
    pub require_nonroot: bool,
    /// Root inside is nobody outside: an engine with user namespaces, or cells.
    pub require_userns: bool,
}

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("understand {path}: {message}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Line, key, and what is wrong.
        message: String,
    },
    /// A value is out of range.
    #[error("use {key}: {message}")]
    Value {
        /// The key.
        key: String,
        /// What is wrong, and what to write instead.
        message: String,
    },
}

/// The environment as a value.
pub type Environment = BTreeMap<String, String>;

/// The process's environment; what is no text in it is none of ours.
pub fn environment() -> Environment {
    let text = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    std::env::vars_os().filter_map(text).collect()
}

impl Config {
    /// Reads a file (which may be absent only when it is the default one), applies the environment, and checks.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn load(path: Option<&Path>, environment: &Environment) -> Result<Config, ConfigError> {
        let (path, required) = match path {
            Some(path) => (path.to_owned(), true),
            None => (PathBuf::from(DEFAULT_PATH), false),
        };
        let mut config = match std::fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text)
                .map_err(|error| ConfigError::Parse { path: path.clone(), message: error.to_string() })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !required => Config::default(),
            Err(source) => return Err(ConfigError::Read { path, source }),
        };
        // paths in a file are relative to the file, so that a clone works from anywhere
        if let Some(parent) = path.parent() {
            let Config { images, profiles, engine, hosts, .. } = &mut config;
            let files = std::iter::once(engine).chain(hosts).flat_map(|engine| {
                [&mut engine.tls_dir, &mut engine.tls_ca, &mut engine.tls_cert, &mut engine.tls_key]
            });
            for path in [&mut images.dir, &mut profiles.dir].into_iter().chain(files.flatten()) {
                if path.is_relative() {
                    *path = parent.join(&*path);
                }
            }
        }
        config.apply(environment)?;
        config.check()?;
        Ok(config)
    }

    fn apply(&mut self, environment: &Environment) -> Result<(), ConfigError> {
        let text = |key: &str| environment.get(key).filter(|value| !value.is_empty()).cloned();
        let number = |key: &str| -> Result<Option<u64>, ConfigError> {
            text(key)
                .map(|value| {
                    value.parse().map_err(|_| ConfigError::Value {
                        key: key.to_owned(),
                        message: format!("{value:?} is not a whole number"),
                    })
                })
                .transpose()
        };
        if let Some(path) = text("ASSAY_SOCKET") {
            self.socket.path = path.into();
        }
        if let Some(path) = text("ASSAY_STATE_DIR") {
            self.instance.state_dir = path.into();
        }
        if let Some(name) = text("ASSAY_INSTANCE") {
            self.instance.name = name;
        }
        if let Some(path) = text("ASSAY_IMAGES_DIR") {
            self.images.dir = path.into();
        }
        if let Some(path) = text("ASSAY_PROFILES_DIR") {
            self.profiles.dir = path.into();
        }
        if let Some(names) = text("ASSAY_PROFILES") {
            self.profiles.only = names.split(',').map(|name| name.trim().to_owned()).collect();
        }
        if let Some(floor) = number("ASSAY_POOL_FLOOR")? {
            self.profiles.floor = Some(floor as usize);
        }
        if let Some(ceiling) = number("ASSAY_POOL_CEILING")? {
            self.profiles.ceiling = Some(ceiling as usize);
        }
        if let Some(base) = number("ASSAY_UID_BASE")? {
            self.uids.base = u32::try_from(base).unwrap_or(u32::MAX);
        }
        if let Some(host) = text("ASSAY_ENGINE_HOST") {
            // one engine, whatever the file says
            self.hosts.clear();
            self.engine.host = Some(host);
            self.engine.context = None;
        }
        Ok(())
    }

    fn check(&self) -> Result<(), ConfigError> {
        let wrong =
            |key: &str, message: &str| Err(ConfigError::Value { key: key.to_owned(), message: message.to_owned() });
        let name = &self.instance.name;
        if name.is_empty() || name.len() > 32 || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return wrong("instance.name", "use 1 to 32 letters, digits and hyphens");
        }
        if self.uids.base < 1000 || self.uids.base.saturating_add(self.uids.count) > 65_534 {
            return wrong("uids", "base must be 1000 or more and base + count at most 65534");
        }
        if self.uids.count == 0 {
            return wrong("uids.count", "at least 1");
        }
        if self.queue.max == 0 || self.queue.max_per_uid == 0 {
            return wrong("queue", "max and max_per_uid must be at least 1");
        }
        if let Some(pattern) = self.images.trusted.nonsense() {
            let message = format!("{pattern:?} can match nothing; write registry/path, or registry/* for all below it");
            return wrong("images.trusted", &message);
        }
        if !self.hosts.is_empty() && self.engine != Engine::default() {
            return wrong("hosts", "give one engine in [engine], or each in [[hosts]], not both");
        }
        let engines = self.engines();
        for (at, engine) in engines.iter().enumerate() {
            let name = &engine.name;
            if name.is_empty()
                || name.len() > 32
                || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
            {
                return wrong("hosts.name", &format!("{name:?}: use 1 to 32 letters, digits, hyphens and dots"));
            }
            if engines.iter().take(at).any(|other| other.name == *name) {
                return wrong("hosts.name", &format!("{name:?} stands there twice; give each host a name of its own"));
            }
            if !(0.1..=64.0).contains(&engine.cpu_overcommit) {
                return wrong("engine.cpu_overcommit", "use a number from 0.1 to 64");
            }
            if !(1..=64).contains(&engine.max_creating) {
                return wrong("engine.max_creating", "use a number from 1 to 64");
            }
        }
        if self.socket_mode().is_none() {
            return wrong("socket.mode", "use an octal mode such as \"0660\"");
        }
        Ok(())
    }

    /// The engines, one or several.
    pub fn engines(&self) -> &[Engine] {
        if self.hosts.is_empty() { std::slice::from_ref(&self.engine) } else { &self.hosts }
    }

    /// The socket's mode as a number.
    pub fn socket_mode(&self) -> Option<u32> {
        u32::from_str_radix(&self.socket.mode, 8).ok().filter(|mode| *mode <= 0o777)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("assayd.toml");
        std::fs::write(&path, text).unwrap();
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Config::load(Some(&path), &environment)
    }

    #[test]
    fn an_empty_file_is_a_whole_configuration() {
        let config = load("", &[]).unwrap();
        assert_eq!(config.socket.path, PathBuf::from("/run/assay/assay.sock"));
    }

    #[test]
    fn a_variable_wins_over_the_file() {
        let config = load("[socket]\npath = '/a'", &[("ASSAY_SOCKET", "/b")]).unwrap();
        assert_eq!(config.socket.path, PathBuf::from("/b"));
    }

    #[test]
    fn a_typo_is_an_error_that_names_the_key_and_the_line() {
        let error = load("[queue]\nmaxx = 3", &[]).unwrap_err().to_string();
        assert!(error.contains("maxx") && error.contains("line 2"), "{error}");
    }

    #[test]
    fn a_value_out_of_range_names_its_key() {
        let error = load("[uids]\nbase = 0", &[]).unwrap_err().to_string();
        assert!(error.contains("uids"), "{error}");
        let error = load("", &[("ASSAY_POOL_FLOOR", "many")]).unwrap_err().to_string();
        assert!(error.contains("ASSAY_POOL_FLOOR"), "{error}");
    }

    #[test]
    fn paths_are_relative_to_the_file_that_names_them_and_a_variables_to_where_we_are() {
        let config = load("[images]\ndir = 'images'\n[engine]\ntls_ca = 'ca.pem'", &[]).unwrap();
        assert!(config.images.dir.is_absolute() && config.engine.tls_ca.unwrap().is_absolute());
        let config = load("", &[("ASSAY_IMAGES_DIR", "images")]).unwrap();
        assert_eq!(config.images.dir, PathBuf::from("images"));
    }

    #[test]
    fn several_hosts_have_names_of_their_own_and_stand_for_the_one_engine() {
        let two = "[[hosts]]\nname = 'a'\n[[hosts]]\nname = 'b'\nhost = 'tcp://b:2376'\ntls_dir = 'certs'";
        let config = load(two, &[]).unwrap();
        assert_eq!(config.engines().iter().map(|engine| engine.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert!(config.hosts[1].tls_dir.as_ref().unwrap().is_absolute());
        let one = load(two, &[("ASSAY_ENGINE_HOST", "unix:///x.sock")]).unwrap();
        assert_eq!(one.engines().len(), 1);
        for (text, word) in [
            ("[[hosts]]\nname = 'a'\n[[hosts]]\nname = 'a'", "twice"),
            ("[engine]\nhost = 'unix:///a'\n[[hosts]]\nname = 'a'", "not both"),
            ("[engine]\ncpu_overcommit = 0", "cpu_overcommit"),
            ("[[hosts]]\nname = 'a b'", "hosts.name"),
        ] {
            let error = load(text, &[]).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn the_shipped_configuration_and_every_shipped_profile_load() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let config = Config::load(Some(&root.join("config/assayd.toml")), &Environment::new()).unwrap();
        // what it shows as the default is the default
        let mut default = Config::default();
        default.images.dir.clone_from(&config.images.dir);
        default.profiles.dir.clone_from(&config.profiles.dir);
        assert_eq!(config, default);
        let profiles = load_profiles(&config).unwrap();
        for name in ["python", "c", "cpp", "javascript", "bash"] {
            assert!(profiles.iter().any(|profile| profile.name == name), "{name}");
        }
    }
}
