//! Containers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::lax;

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
    #[serde(deserialize_with = "lax")]
    pub id: String,
    /// What the engine silently did otherwise.
    #[serde(deserialize_with = "lax")]
    pub warnings: Vec<String>,
    /// The reply was lost, and the container was found by its name: what the engine had to warn of is not known.
    #[serde(skip)]
    pub recovered: bool,
}

/// `GET /containers/{id}/json`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerInfo {
    /// Id.
    #[serde(deserialize_with = "lax")]
    pub id: String,
    /// Name, with a leading slash.
    #[serde(deserialize_with = "lax")]
    pub name: String,
    /// Image id.
    #[serde(deserialize_with = "lax")]
    pub image: String,
    /// State.
    #[serde(deserialize_with = "lax")]
    pub state: ContainerState,
    /// Configuration.
    #[serde(deserialize_with = "lax")]
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
    #[serde(deserialize_with = "lax")]
    pub status: String,
    /// Whether it runs.
    #[serde(deserialize_with = "lax")]
    pub running: bool,
    /// Exit status.
    #[serde(deserialize_with = "lax")]
    pub exit_code: i64,
    /// Whether any of its processes was ever killed for memory; see ENGINE finding 9.
    #[serde(rename = "OOMKilled", deserialize_with = "lax")]
    pub oom_killed: bool,
    /// The engine's words when it could not start.
    #[serde(deserialize_with = "lax")]
    pub error: String,
    /// Host pid of its first process.
    #[serde(deserialize_with = "lax")]
    pub pid: i64,
}

/// A row of `GET /containers/json`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerSummary {
    /// Id.
    #[serde(deserialize_with = "lax")]
    pub id: String,
    /// Names, each with a leading slash.
    #[serde(deserialize_with = "lax")]
    pub names: Vec<String>,
    /// Image.
    #[serde(deserialize_with = "lax")]
    pub image: String,
    /// `created`, `running`, ...
    #[serde(deserialize_with = "lax")]
    pub state: String,
    /// For people.
    #[serde(deserialize_with = "lax")]
    pub status: String,
    /// Labels.
    #[serde(deserialize_with = "lax")]
    pub labels: BTreeMap<String, String>,
    /// Unix time.
    #[serde(deserialize_with = "lax")]
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

/// What a wait waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitCondition {
    /// Not running. True at once for a container that was never started.
    NotRunning,
    /// The next exit, counted from when the engine answers the head.
    NextExit,
    /// Removed.
    Removed,
}

impl WaitCondition {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            WaitCondition::NotRunning => "not-running",
            WaitCondition::NextExit => "next-exit",
            WaitCondition::Removed => "removed",
        }
    }
}

/// How a removal went. All three mean that the container is going or gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// Removed by this call.
    Removed,
    /// There was no such container.
    AlreadyGone,
    /// Somebody else is removing it, such as `AutoRemove`: inspect until 404 rather than ask again.
    InProgress,
}

/// `GET /containers/{id}/top`: the processes in a container, as `ps` tells them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Top {
    /// Column names.
    #[serde(deserialize_with = "lax")]
    pub titles: Vec<String>,
    /// A row for each process.
    #[serde(deserialize_with = "lax")]
    pub processes: Vec<Vec<String>>,
}

/// `GET /containers/{id}/stats`: a sample of a container's counters. Zero where the engine has none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Stats {
    /// When, RFC 3339.
    #[serde(deserialize_with = "lax")]
    pub read: String,
    /// Processor time.
    #[serde(deserialize_with = "lax")]
    pub cpu_stats: CpuStats,
    /// Memory.
    #[serde(deserialize_with = "lax")]
    pub memory_stats: MemoryStats,
    /// Processes.
    #[serde(deserialize_with = "lax")]
    pub pids_stats: PidsStats,
}

/// Processor time of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct CpuStats {
    /// Used.
    #[serde(deserialize_with = "lax")]
    pub cpu_usage: CpuUsage,
    /// Processors of the machine.
    #[serde(deserialize_with = "lax")]
    pub online_cpus: u64,
}

/// Processor time used since the container's start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct CpuUsage {
    /// Nanoseconds in all.
    #[serde(deserialize_with = "lax")]
    pub total_usage: u64,
}

/// Memory of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct MemoryStats {
    /// Bytes in use, page cache included.
    #[serde(deserialize_with = "lax")]
    pub usage: u64,
    /// The most there was, in bytes; cgroup v1 only.
    #[serde(deserialize_with = "lax")]
    pub max_usage: u64,
    /// The limit, in bytes.
    #[serde(deserialize_with = "lax")]
    pub limit: u64,
}

/// Processes of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PidsStats {
    /// Now.
    #[serde(deserialize_with = "lax")]
    pub current: u64,
    /// The limit.
    #[serde(deserialize_with = "lax")]
    pub limit: u64,
}

/// What a prune removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Ids or names.
    pub removed: Vec<String>,
    /// Bytes given back.
    pub bytes: i64,
}

/// What stands at a path in a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PathStat {
    /// The last part of the path.
    #[serde(deserialize_with = "lax")]
    pub name: String,
    /// Bytes.
    #[serde(deserialize_with = "lax")]
    pub size: i64,
    /// Go's `os.FileMode`: the highest bit is set for a folder.
    #[serde(deserialize_with = "lax")]
    pub mode: u32,
    /// Where a symbolic link points to.
    #[serde(rename = "linkTarget", deserialize_with = "lax")]
    pub link_target: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_is_spelled_as_the_engine_wants_it() {
        let mut spec = ContainerSpec { image: "sha256:1".to_owned(), stdin_once: true, ..Default::default() };
        spec.host_config.uts_mode = "x".to_owned();
        spec.host_config.log_config.kind = "none".to_owned();
        spec.host_config.init = Some(false);
        let json = serde_json::to_value(&spec).unwrap();
        assert_eq!(json["StdinOnce"], true);
        let host = &json["HostConfig"];
        assert_eq!(
            (&host["UTSMode"], &host["LogConfig"]["Type"], &host["Init"]),
            (&"x".into(), &"none".into(), &false.into())
        );
        for name in ["NanoCpus", "ReadonlyRootfs", "CgroupnsMode", "ShmSize", "MemorySwap", "PidsLimit"] {
            assert!(host.get(name).is_some(), "{name}");
        }
        assert!(host.get("MaskedPaths").is_none() && json.get("NetworkDisabled").is_none());
    }

    #[test]
    fn a_reply_without_its_optional_fields_or_with_nulls_is_understood() {
        let created: Created = serde_json::from_str(r#"{"Id":"a","Warnings":null}"#).unwrap();
        assert_eq!((created.id.as_str(), created.warnings.len()), ("a", 0));
        let found: ContainerInfo =
            serde_json::from_str(r#"{"Name":"/a","State":{"OOMKilled":true,"Error":null}}"#).unwrap();
        assert!(found.name == "/a" && found.state.oom_killed);
        let row: ContainerSummary = serde_json::from_str(r#"{"Names":null,"Labels":null}"#).unwrap();
        assert!(row.names.is_empty());
        let stats: Stats = serde_json::from_str(r#"{"memory_stats":{"usage":5},"pids_stats":{}}"#).unwrap();
        assert_eq!(stats.memory_stats.usage, 5);
    }
}
