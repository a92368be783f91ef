//! What goes to the engine and what comes back: only the fields that are used. Every reply field may be absent,
//! since engines drop empty ones (API 1.52) and Podman never had some.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::version::ApiVersion;

/// Filters of a listing: key to values.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Filters(BTreeMap<String, Vec<String>>);

impl Filters {
    /// No filter.
    pub fn new() -> Filters {
        Filters::default()
    }

    /// One more value of a key.
    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> Filters {
        self.0.entry(key.to_owned()).or_default().push(value.to_owned());
        self
    }

    pub(super) fn json(&self) -> String {
        serde_json::to_string(&self.0).unwrap_or_default()
    }
}

/// The answer to a ping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ping {
    /// The version that is spoken from now on.
    pub api_version: ApiVersion,
    /// The `Server` header, such as `Docker/20.10.24 (linux)`.
    pub server: Option<String>,
    /// Whether it is Podman.
    pub podman: bool,
}

/// `GET /version`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all(deserialize = "PascalCase"), default)]
pub struct VersionInfo {
    /// The engine's version.
    pub version: Option<String>,
    /// The newest API version that it speaks.
    pub api_version: Option<String>,
    /// Operating system.
    pub os: Option<String>,
    /// Architecture.
    pub arch: Option<String>,
    /// Kernel.
    pub kernel_version: Option<String>,
}

/// `GET /info`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Info {
    /// The engine's id.
    #[serde(rename = "ID")]
    pub id: Option<String>,
    /// Host name.
    pub name: Option<String>,
    /// CPUs.
    #[serde(rename = "NCPU")]
    pub ncpu: Option<i64>,
    /// Memory in bytes.
    pub mem_total: Option<i64>,
    /// Storage driver.
    pub driver: Option<String>,
    /// Where layers and volumes live.
    pub docker_root_dir: Option<String>,
    /// `cgroupfs` or `systemd`.
    pub cgroup_driver: Option<String>,
    /// `1` or `2`.
    pub cgroup_version: Option<String>,
    /// Such as `name=seccomp,profile=default`.
    pub security_options: Vec<String>,
    /// Registered runtimes.
    pub runtimes: HashMap<String, serde_json::Value>,
    /// The default runtime.
    pub default_runtime: Option<String>,
    /// Running containers.
    pub containers_running: Option<i64>,
    /// Images.
    pub images: Option<i64>,
    /// The engine's version.
    pub server_version: Option<String>,
    /// Kernel.
    pub kernel_version: Option<String>,
    /// Distribution.
    pub operating_system: Option<String>,
    /// Whether memory limits work.
    pub memory_limit: Option<bool>,
    /// Whether process limits work.
    pub pids_limit: Option<bool>,
    /// Whether CPU quotas work.
    pub cpu_cfs_quota: Option<bool>,
    /// Whether containers outlive the engine.
    pub live_restore_enabled: Option<bool>,
    /// The engine's own warnings.
    pub warnings: Option<Vec<String>>,
}

/// An event of `GET /events`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Event {
    /// `container`, `image`, ...
    #[serde(rename = "Type")]
    pub kind: String,
    /// `oom`, `die`, `destroy`, ...
    #[serde(rename = "Action")]
    pub action: String,
    /// To whom.
    #[serde(rename = "Actor")]
    pub actor: Actor,
    /// When.
    #[serde(rename = "timeNano")]
    pub time_nano: i64,
}

/// To whom an event happened.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Actor {
    /// The container's or image's id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Labels and more.
    pub attributes: BTreeMap<String, String>,
}

/// A resource limit of a container's first process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Ulimit {
    /// Such as `core`.
    pub name: String,
    /// Soft.
    pub soft: i64,
    /// Hard.
    pub hard: i64,
}

/// A container's log driver.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct LogConfig {
    /// `none` keeps nothing.
    #[serde(rename = "Type")]
    pub kind: String,
    /// Driver options.
    pub config: BTreeMap<String, String>,
}

/// The host's part of a container's configuration.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct HostConfig {
    /// `none`: only lo.
    pub network_mode: String,
    /// Root file system read-only.
    pub readonly_rootfs: bool,
    /// Capabilities dropped.
    pub cap_drop: Vec<String>,
    /// Capabilities added.
    pub cap_add: Vec<String>,
    /// Such as `no-new-privileges`.
    pub security_opt: Vec<String>,
    /// Memory in bytes.
    pub memory: i64,
    /// Memory and swap in bytes.
    pub memory_swap: i64,
    /// CPU share in units of 1e-9 CPU.
    pub nano_cpus: i64,
    /// Processes.
    pub pids_limit: i64,
    /// Resource limits.
    pub ulimits: Vec<Ulimit>,
    /// tmpfs mounts: path to options.
    pub tmpfs: BTreeMap<String, String>,
    /// `private`.
    pub ipc_mode: String,
    /// Size of /dev/shm in bytes.
    pub shm_size: i64,
    /// `private`; 1.41.
    pub cgroupns_mode: String,
    /// Log driver.
    pub log_config: LogConfig,
    /// docker-init at pid 1; the daemon's default when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<bool>,
    /// Removed when it ends.
    pub auto_remove: bool,
    /// All capabilities and devices.
    pub privileged: bool,
    /// Masked paths; the engine's own when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub masked_paths: Option<Vec<String>>,
    /// Read-only paths; the engine's own when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub readonly_paths: Option<Vec<String>>,
    /// The runtime; the engine's default when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// Host folders.
    pub binds: Vec<String>,
    /// Host devices.
    pub devices: Vec<serde_json::Value>,
    /// Empty: its own.
    pub pid_mode: String,
    /// Empty: its own.
    #[serde(rename = "UTSMode")]
    pub uts_mode: String,
    /// Empty: the engine's default.
    pub userns_mode: String,
}

/// A container to create.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerSpec {
    /// Image name or id.
    pub image: String,
    /// Arguments.
    pub cmd: Vec<String>,
    /// Program.
    pub entrypoint: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// `uid:gid`.
    pub user: String,
    /// Working folder.
    pub working_dir: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Keep stdin.
    pub open_stdin: bool,
    /// Close stdin when the one attached client leaves.
    pub stdin_once: bool,
    /// Attach stdin.
    pub attach_stdin: bool,
    /// Attach stdout.
    pub attach_stdout: bool,
    /// Attach stderr.
    pub attach_stderr: bool,
    /// A terminal.
    pub tty: bool,
    /// No network set-up at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_disabled: Option<bool>,
    /// The host's part.
    pub host_config: HostConfig,
}

/// The answer to a create.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Created {
    /// The container's id.
    pub id: String,
    /// What the engine silently did otherwise.
    #[serde(deserialize_with = "null_is_empty")]
    pub warnings: Vec<String>,
}

fn null_is_empty<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::<Vec<T>>::deserialize(deserializer)?.unwrap_or_default())
}

/// `GET /containers/{id}/json`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerInfo {
    /// Id.
    pub id: String,
    /// Name, with a leading slash.
    pub name: String,
    /// Image id.
    pub image: String,
    /// State.
    pub state: ContainerState,
    /// Configuration.
    pub config: ContainerConfig,
}

/// A container's configuration, as inspected.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerConfig {
    /// Labels.
    pub labels: Option<BTreeMap<String, String>>,
}

/// A container's state.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerState {
    /// `created`, `running`, `exited`, ...
    pub status: String,
    /// Whether it runs.
    pub running: bool,
    /// Exit status.
    pub exit_code: i64,
    /// Whether any of its processes was ever killed for memory; see ENGINE finding 9.
    #[serde(rename = "OOMKilled")]
    pub oom_killed: bool,
    /// The engine's words when it could not start.
    pub error: String,
    /// Host pid of its first process.
    pub pid: i64,
}

/// A row of `GET /containers/json`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerSummary {
    /// Id.
    pub id: String,
    /// Names, each with a leading slash.
    pub names: Vec<String>,
    /// Image.
    pub image: String,
    /// `created`, `running`, ...
    pub state: String,
    /// For people.
    pub status: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Unix time.
    pub created: i64,
}

/// New limits for a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct UpdateResources {
    /// Memory in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<i64>,
    /// Memory and swap in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_swap: Option<i64>,
    /// CPU share in units of 1e-9 CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nano_cpus: Option<i64>,
    /// Processes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids_limit: Option<i64>,
}

/// The answer to an update.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Updated {
    #[serde(deserialize_with = "null_is_empty")]
    pub(super) warnings: Vec<String>,
}

/// The answer to a wait.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Waited {
    pub(super) status_code: i64,
}

/// `GET /images/{name}/json`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageInfo {
    /// Id.
    pub id: String,
    /// Tags.
    #[serde(deserialize_with = "null_is_empty")]
    pub repo_tags: Vec<String>,
    /// Bytes.
    pub size: i64,
    /// When it was made.
    pub created: String,
    /// Architecture.
    pub architecture: String,
    /// Configuration.
    pub config: Option<ContainerConfig>,
}

/// A row of `GET /images/json`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageSummary {
    /// Id.
    pub id: String,
    /// Tags.
    #[serde(deserialize_with = "null_is_empty")]
    pub repo_tags: Vec<String>,
    /// Bytes.
    pub size: i64,
    /// Unix time.
    pub created: i64,
    /// Labels.
    pub labels: Option<BTreeMap<String, String>>,
}

/// A line of a pull's, import's or build's progress.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// Which layer.
    pub id: Option<String>,
    /// What happens to it.
    pub status: Option<String>,
    /// A build's output.
    pub stream: Option<String>,
    /// How much of it.
    #[serde(rename = "progressDetail")]
    pub detail: Option<ProgressDetail>,
    /// A result, such as the id of what was built.
    pub aux: Option<serde_json::Value>,
    #[serde(rename = "errorDetail")]
    error_detail: Option<ErrorDetail>,
    error: Option<String>,
}

/// How much is done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ProgressDetail {
    /// Bytes done.
    pub current: Option<u64>,
    /// Bytes in all.
    pub total: Option<u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
struct ErrorDetail {
    message: String,
}

impl Progress {
    /// The error that this line reports, if it does.
    pub(super) fn failure(&self) -> Option<String> {
        self.error_detail.as_ref().map(|detail| detail.message.clone()).or_else(|| self.error.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_is_spelled_as_the_engine_wants_it() {
        let mut spec = ContainerSpec { image: "sha256:1".to_owned(), stdin_once: true, ..Default::default() };
        spec.host_config.uts_mode = "x".to_owned();
        spec.host_config.log_config.kind = "none".to_owned();
        let json = serde_json::to_value(&spec).unwrap();
        assert_eq!(json["StdinOnce"], true);
        assert_eq!(json["HostConfig"]["UTSMode"], "x");
        assert_eq!(json["HostConfig"]["LogConfig"]["Type"], "none");
        assert_eq!(json["HostConfig"].get("MaskedPaths"), None);
    }

    #[test]
    fn a_reply_without_its_optional_fields_is_understood() {
        let created: Created = serde_json::from_str(r#"{"Id":"a","Warnings":null}"#).unwrap();
        assert_eq!((created.id.as_str(), created.warnings.len()), ("a", 0));
        let image: ImageInfo = serde_json::from_str(r#"{"Id":"a","RepoTags":null}"#).unwrap();
        assert_eq!(image.repo_tags.len(), 0);
        let _: Info = serde_json::from_str("{}").unwrap();
    }

    #[test]
    fn an_error_in_a_progress_line_is_found_in_either_spelling() {
        let new: Progress = serde_json::from_str(r#"{"errorDetail":{"message":"m"}}"#).unwrap();
        let old: Progress = serde_json::from_str(r#"{"error":"m"}"#).unwrap();
        assert_eq!((new.failure().as_deref(), old.failure().as_deref()), (Some("m"), Some("m")));
    }
}
