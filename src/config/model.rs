//! The settings: a struct per section, a field per setting. What stands here is all there is to say about one: its name,
//! its type, its default, and in its comment what the reference in docs/OPERATIONS.md says. Variables, flags, units and
//! errors follow from it ([`super::schema`]).
//!
//! A field whose name ends in a unit (`_ms`, `_s`, `_bytes`) is a quantity: see [`super::units`] for its two spellings. A
//! path is marked `x-path`: it is relative to the file that says it.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use docker::registry::Trusted;
use docker::{self, PullPolicy, Settings, SetupError, Target};
use telemetry::log;

use super::{EnvVars, HttpSettings};

/// The effective configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Who this daemon is.
    pub instance: InstanceSettings,
    /// The callers' socket.
    pub socket: SocketSettings,
    /// The Docker Engine, when there is one.
    pub engine: EngineSettings,
    /// The Docker Engines, when there are several; each with the keys of `[engine]`.
    pub hosts: Vec<EngineSettings>,
    /// Images.
    pub images: ImageSettings,
    /// Profiles.
    pub profiles: ProfileSettings,
    /// The queue.
    pub queue: QueueSettings,
    /// The uids of programs.
    pub uids: UidSettings,
    /// What was compiled before.
    pub cache: CacheSettings,
    /// What is demanded of every sandbox.
    pub isolation: IsolationSettings,
    /// The log.
    pub log: LogSettings,
    /// The door for health checks and scrapers.
    pub http: HttpSettings,
}

impl Config {
    /// The engines, one or several.
    pub fn engines(&self) -> &[EngineSettings] {
        if self.hosts.is_empty() { std::slice::from_ref(&self.engine) } else { &self.hosts }
    }

    /// The socket's mode as a number.
    pub fn socket_mode(&self) -> Option<u32> {
        u32::from_str_radix(&self.socket.mode, 8).ok().filter(|mode| *mode <= 0o777)
    }
}

/// Who this daemon is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct InstanceSettings {
    /// A name for people; the label on containers is the name and a random id kept in the state folder.
    pub name: String,
    /// What outlives the process: the id, locks, build logs.
    #[schemars(extend("x-path" = true))]
    pub state_dir: PathBuf,
}

impl Default for InstanceSettings {
    fn default() -> Self {
        InstanceSettings { name: "assay".to_owned(), state_dir: PathBuf::from("/var/lib/assay") }
    }
}

/// Default path of the callers' socket.
pub const DEFAULT_SOCKET: &str = "/run/assay/assay.sock";

/// The callers' socket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SocketSettings {
    /// Its path.
    #[schemars(extend("x-path" = true))]
    pub path: PathBuf,
    /// Its mode, octal.
    pub mode: String,
    /// Who may submit: `"*"` for whoever can open the socket, or uids.
    pub submit: Vec<CallerRule>,
    /// Who may administer; uid 0 and the daemon's own uid always may.
    pub admin: Vec<CallerRule>,
}

/// A caller in the roles' lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a uid, \"*\", \"user:NAME\" or \"group:NAME\"")]
pub enum CallerRule {
    /// A user id.
    Uid(u32),
    /// `"*"`, `"user:NAME"` or `"group:NAME"`.
    Named(String),
}

impl Default for SocketSettings {
    fn default() -> Self {
        SocketSettings {
            path: PathBuf::from(DEFAULT_SOCKET),
            mode: format!("{:04o}", super::DEFAULT_SOCKET_MODE),
            submit: vec![CallerRule::Named("*".to_owned())],
            admin: Vec::new(),
        }
    }
}

/// A Docker Engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EngineSettings {
    /// Its name in reports and commands.
    pub name: String,
    /// `unix:///path` or `tcp://host:port`; when absent, what Docker's own environment and context say.
    pub host: Option<String>,
    /// A Docker context, instead of an address.
    pub context: Option<String>,
    /// A folder with `ca.pem`, `cert.pem` and `key.pem`, for TLS.
    #[schemars(extend("x-path" = true))]
    pub tls_dir: Option<PathBuf>,
    /// The certificate authority; instead of the folder's.
    #[schemars(extend("x-path" = true))]
    pub tls_ca: Option<PathBuf>,
    /// The client's certificate; instead of the folder's.
    #[schemars(extend("x-path" = true))]
    pub tls_cert: Option<PathBuf>,
    /// Its key; instead of the folder's.
    #[schemars(extend("x-path" = true))]
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

impl Default for EngineSettings {
    fn default() -> Self {
        EngineSettings {
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

impl EngineSettings {
    /// Which engine, and how it is reached.
    ///
    /// # Errors
    /// What is wrong, where it stands, and what to write instead.
    pub fn target(&self, environment: &EnvVars) -> Result<Target, SetupError> {
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ImageSettings {
    /// The folder with a folder per image.
    #[schemars(extend("x-path" = true))]
    pub dir: PathBuf,
    /// Whether a missing image is built without being asked.
    pub build_missing: bool,
    /// The init program; beside the daemon's own binary when absent.
    #[schemars(extend("x-path" = true))]
    pub init: Option<PathBuf>,
    /// When an image is asked of its registry: `always`, `if-missing`, `never`.
    pub pull: PullPolicy,
    /// Where images may come from: `registry/path`, or with `/*` at its end all below it.
    #[schemars(with = "Vec<String>")]
    pub trusted: Trusted,
}

impl Default for ImageSettings {
    fn default() -> Self {
        ImageSettings {
            dir: PathBuf::from("/usr/share/assay/images"),
            build_missing: true,
            init: None,
            pull: PullPolicy::IfMissing,
            trusted: Trusted::new(["docker.io/library/debian"]),
        }
    }
}

/// Profiles.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProfileSettings {
    /// The folder with a TOML file per profile.
    #[schemars(extend("x-path" = true))]
    pub dir: PathBuf,
    /// Only these; all when empty.
    pub only: Vec<String>,
    /// Instead of each profile's own floor.
    pub floor: Option<usize>,
    /// Instead of each profile's own ceiling.
    pub ceiling: Option<usize>,
}

impl Default for ProfileSettings {
    fn default() -> Self {
        ProfileSettings { dir: PathBuf::from("/etc/assay/profiles"), only: Vec::new(), floor: None, ceiling: None }
    }
}

/// The queue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct QueueSettings {
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

impl Default for QueueSettings {
    fn default() -> Self {
        QueueSettings { max: 4096, max_per_uid: 2048, max_running_per_uid: 0, patience_ms: 120_000, drain_ms: 30_000 }
    }
}

impl QueueSettings {
    /// [`QueueSettings::patience_ms`] as a duration.
    pub fn patience(&self) -> Duration {
        Duration::from_millis(self.patience_ms)
    }

    /// [`QueueSettings::drain_ms`] as a duration.
    pub fn drain(&self) -> Duration {
        Duration::from_millis(self.drain_ms)
    }
}

/// The uids of programs: `base` to `base + count - 1`, one per sandbox at a time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UidSettings {
    /// The first. Disjoint per daemon on one engine, below 65536 so that remapped engines can map it.
    pub base: u32,
    /// How many, and so how many sandboxes at most.
    pub count: u32,
}

impl Default for UidSettings {
    fn default() -> Self {
        UidSettings { base: 52_000, count: 1024 }
    }
}

/// What was compiled before, kept in the state folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct IsolationSettings {
    /// Nothing in a sandbox is root, the init included: cells only.
    pub require_nonroot: bool,
    /// Root inside is nobody outside: an engine with user namespaces, or cells.
    pub require_userns: bool,
}

/// The log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogSettings {
    /// What is said: `error`, `warn`, `info`, `debug` or `trace`, and the same for single modules, such as `info, pool=debug`.
    pub level: String,
    /// Where to, and how.
    pub target: log::LogTarget,
}

impl Default for LogSettings {
    fn default() -> Self {
        LogSettings { level: "info".to_owned(), target: log::LogTarget::Auto }
    }
}
