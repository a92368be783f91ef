//! The settings: one struct per section, one field per setting. Name, type, default and
//! documentation of a setting are defined here only; the reference in docs/OPERATIONS.md,
//! variables, flags, units and errors follow from them ([`super::schema`]).
//!
//! A field whose name ends in a unit (`_ms`, `_s`, `_bytes`) is a quantity: see [`super::units`]
//! for its two spellings. A path is marked `x-path`: it is relative to the file that sets it.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use docker::registry::Trusted;
use docker::{App, EngineTarget, PullPolicy, SettingNames, Settings, SetupError};
use protocol::ReusePolicy;
use telemetry::log;

use super::image_folders::ImageFolders;
use super::{EnvVars, HttpSettings};

/// The effective configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Identity of this daemon.
    pub instance: InstanceSettings,
    /// The callers' socket.
    pub socket: SocketSettings,
    /// The Docker Engine, if there is only one.
    pub engine: EngineSettings,
    /// The Docker Engines, if there are several; each with the settings of `[engine]`.
    pub hosts: Vec<EngineSettings>,
    /// Images of the profiles.
    pub images: ImageSettings,
    /// Profiles of languages.
    pub profiles: ProfileSettings,
    /// The queue of submissions.
    pub queue: QueueSettings,
    /// The uids of programs.
    pub uids: UidSettings,
    /// The compile cache.
    pub cache: CacheSettings,
    /// What outlives the process: submissions, reports and history.
    pub store: StoreSettings,
    /// Requirements on every sandbox, and their reuse.
    pub isolation: IsolationSettings,
    /// The daemon's log.
    pub log: LogSettings,
    /// The HTTP listener for health checks and scrapers.
    pub http: HttpSettings,
}

impl Config {
    /// The engines: `[[hosts]]`, or the only one.
    pub fn engines(&self) -> &[EngineSettings] {
        if self.hosts.is_empty() { std::slice::from_ref(&self.engine) } else { &self.hosts }
    }

    /// The mode of the socket; `None` if it is not a valid octal number.
    pub fn socket_mode(&self) -> Option<u32> {
        u32::from_str_radix(&self.socket.mode, 8).ok().filter(|mode| *mode <= 0o777)
    }
}

/// Identity of this daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct InstanceSettings {
    /// A display name; the label of containers is this name with a random id from the state folder.
    pub name: String,
    /// The folder for data that outlives the process: the id, locks, build logs.
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
    /// The path of the socket.
    #[schemars(extend("x-path" = true))]
    pub path: PathBuf,
    /// The mode of the socket, in octal.
    pub mode: String,
    /// Callers that may submit: `"*"` for all that can open the socket, or uids.
    pub submit: Vec<CallerRule>,
    /// Callers that may administer, in addition to uid 0 and the daemon's own uid.
    pub admin: Vec<CallerRule>,
}

/// A caller in the roles' lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a uid, \"*\", \"user:NAME\" or \"group:NAME\"")]
pub enum CallerRule {
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
    /// The name of the host in reports and commands.
    pub name: String,
    /// `unix:///path` or `tcp://host:port`; if absent, the address from Docker's own variables and
    /// context.
    pub host: Option<String>,
    /// A Docker context, in place of an address.
    pub context: Option<String>,
    /// A folder with `ca.pem`, `cert.pem` and `key.pem`, for TLS.
    #[schemars(extend("x-path" = true))]
    pub tls_dir: Option<PathBuf>,
    /// The certificate authority, in place of the one in the folder.
    #[schemars(extend("x-path" = true))]
    pub tls_ca: Option<PathBuf>,
    /// The client's certificate, in place of the one in the folder.
    #[schemars(extend("x-path" = true))]
    pub tls_cert: Option<PathBuf>,
    /// The client's key, in place of the one in the folder.
    #[schemars(extend("x-path" = true))]
    pub tls_key: Option<PathBuf>,
    /// The name in the engine's certificate, if it is not the host of the address.
    pub tls_server_name: Option<String>,
    /// Whether TCP without TLS is allowed: anyone who can reach that port is root there.
    pub allow_plaintext: bool,
    /// The OCI runtime of sandboxes, such as `runsc`; the engine's default if absent. A profile may
    /// override it.
    pub runtime: Option<String>,
    /// The AppArmor profile of cells, if the engine's default forbids their mounts
    /// (config/apparmor/assay-cell).
    pub apparmor_profile: Option<String>,
    /// The maximum number of concurrent creations of sandboxes.
    pub max_creating: usize,
    /// CPUs assigned to runs for each CPU of the machine. With more than 1, concurrent runs slow
    /// each other down: their CPU time stays the same, their wall time grows.
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

/// How the Engine client names assay and its settings, in requests and in error texts.
pub static ENGINE_CLIENT_APP: App = App {
    name: "assay",
    user_agent: concat!("assay/", env!("CARGO_PKG_VERSION")),
    certificate_guide: Some("docs/DOCKER.md"),
    settings: SettingNames {
        host: "engine.host",
        context: "engine.context",
        tls_dir: "engine.tls_dir",
        tls_server_name: "engine.tls_server_name",
        allow_plaintext: "engine.allow_plaintext",
    },
};

impl EngineSettings {
    /// The address of the engine, and how to connect.
    ///
    /// # Errors
    /// The setting that is invalid, and a valid value.
    pub fn target(&self, environment: &EnvVars) -> Result<EngineTarget, SetupError> {
        let settings = Settings {
            host: self.host.clone(),
            context: self.context.clone(),
            tls_dir: self.tls_dir.clone(),
            tls_ca: self.tls_ca.clone(),
            tls_cert: self.tls_cert.clone(),
            tls_key: self.tls_key.clone(),
            tls_server_name: self.tls_server_name.clone(),
            allow_plaintext: self.allow_plaintext,
            app: &ENGINE_CLIENT_APP,
        };
        settings.target(&docker::Environment::from(environment.clone()))
    }
}

/// Images of the profiles.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ImageSettings {
    /// The folders with one folder per image: a path, or a list of paths. The first that has an
    /// image's folder counts.
    pub dir: ImageFolders,
    /// Whether missing images are built automatically.
    pub build_missing: bool,
    /// The init program; if absent, `assay-init` in the folder of the daemon's program.
    #[schemars(extend("x-path" = true))]
    pub init: Option<PathBuf>,
    /// When an image is pulled from its registry: `always`, `if-missing`, `never`.
    pub pull: PullPolicy,
    /// Repositories from which images may be pulled: `registry/path`, or `registry/path/*` for
    /// everything below it.
    #[schemars(with = "Vec<String>")]
    pub trusted: Trusted,
}

impl Default for ImageSettings {
    fn default() -> Self {
        ImageSettings {
            dir: ImageFolders::from(["/etc/assay/images", "/usr/share/assay/images"]),
            build_missing: true,
            init: None,
            pull: PullPolicy::IfMissing,
            trusted: Trusted::new(["docker.io/library/debian"]),
        }
    }
}

/// Profiles of languages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProfileSettings {
    /// The folder with one TOML file per profile.
    #[schemars(extend("x-path" = true))]
    pub dir: PathBuf,
    /// The profiles to use; all if empty.
    pub only: Vec<String>,
    /// A floor for all pools, in place of each profile's own.
    pub floor: Option<usize>,
    /// A ceiling for all pools, in place of each profile's own.
    pub ceiling: Option<usize>,
}

impl Default for ProfileSettings {
    fn default() -> Self {
        ProfileSettings { dir: PathBuf::from("/etc/assay/profiles"), only: Vec::new(), floor: None, ceiling: None }
    }
}

/// The queue of submissions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct QueueSettings {
    /// The maximum number of submissions that are admitted and not yet answered.
    pub max: usize,
    /// The same per uid.
    pub max_per_uid: usize,
    /// The maximum number of concurrent runs of one uid; 0 for no limit.
    pub max_running_per_uid: usize,
    /// Submissions of one uid per second, on average; 0 for no limit. Above it they are refused
    /// with the time until the next one.
    pub max_rate_per_uid: f64,
    /// How many of them may come at once after a pause.
    pub burst_per_uid: u32,
    /// How long a submission without a deadline waits for a sandbox, in milliseconds. One whose
    /// predicted wait is above three fifths of it is refused at once.
    pub patience_ms: u64,
    /// How long a drain waits for running submissions, in milliseconds.
    pub drain_ms: u64,
}

impl Default for QueueSettings {
    fn default() -> Self {
        QueueSettings {
            max: 4096,
            max_per_uid: 2048,
            max_running_per_uid: 0,
            max_rate_per_uid: 0.0,
            burst_per_uid: 20,
            patience_ms: 120_000,
            drain_ms: 30_000,
        }
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
    /// The first uid. Must be disjoint for daemons on one engine, and below 65536 so that remapped
    /// engines can map it.
    pub base: u32,
    /// The number of uids, which is the maximum number of sandboxes.
    pub count: u32,
}

impl Default for UidSettings {
    fn default() -> Self {
        UidSettings { base: 52_000, count: 1024 }
    }
}

/// The compile cache in the state folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CacheSettings {
    /// The maximum size in bytes; 0 disables the cache.
    pub max_bytes: u64,
}

impl Default for CacheSettings {
    fn default() -> Self {
        CacheSettings { max_bytes: 512 * 1024 * 1024 }
    }
}

/// What the store in the state folder keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StoreSettings {
    /// How long reports stay in history, in seconds.
    pub keep_s: u64,
    /// The maximum size of the database and of the outputs beside it, in bytes. Beyond it the
    /// oldest history is removed.
    pub max_bytes: u64,
    /// Whether submissions stay with their reports: code, input and expected output. Otherwise they
    /// are removed when they are answered.
    pub keep_sources: bool,
}

impl Default for StoreSettings {
    fn default() -> Self {
        StoreSettings { keep_s: 30 * 24 * 3600, max_bytes: 2 * 1024 * 1024 * 1024, keep_sources: false }
    }
}

impl StoreSettings {
    /// [`StoreSettings::keep_s`] as a duration.
    pub fn keep(&self) -> Duration {
        Duration::from_secs(self.keep_s)
    }
}

/// Requirements on every sandbox, and whether sandboxes serve again. A sandbox that does not meet
/// the requirements is not created; its pool reports the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct IsolationSettings {
    /// No process in a sandbox may be root, not even the init: requires cells.
    pub require_nonroot: bool,
    /// Root in a sandbox must not be root on the host: requires an engine with user namespaces, or
    /// cells.
    pub require_userns: bool,
    /// Whose used sandboxes serve the same uid and tenant again, each run in a new cell: `always`,
    /// `tenant` (only where callers state one) or `never`. `pool.reuse` of a profile says how
    /// often.
    pub reuse: ReusePolicy,
}

/// The daemon's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogSettings {
    /// The level: `error`, `warn`, `info`, `debug` or `trace`, also of single modules, such as
    /// `info, pool=debug`.
    pub level: String,
    /// The destination and format.
    pub target: log::LogTarget,
}

impl Default for LogSettings {
    fn default() -> Self {
        LogSettings { level: "info".to_owned(), target: log::LogTarget::Auto }
    }
}
