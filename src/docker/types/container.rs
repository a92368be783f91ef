//! Types of the container endpoints.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::lax;

/// A resource limit of a container's first process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Ulimit {
    /// Without the prefix `RLIMIT_`, in lower case, such as `core`.
    pub name: String,
    pub soft: i64,
    pub hard: i64,
}

/// The log driver of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct LogConfig {
    /// The driver's name; `none` keeps no log.
    #[serde(rename = "Type")]
    pub kind: String,
    pub config: BTreeMap<String, String>,
}

/// The part of a container's configuration that depends on the host.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct HostConfig {
    /// `none` gives only a loopback interface.
    pub network_mode: String,
    pub readonly_rootfs: bool,
    pub cap_drop: Vec<String>,
    pub cap_add: Vec<String>,
    /// Options such as `no-new-privileges`.
    pub security_opt: Vec<String>,
    /// Limit in bytes; 0 means no limit.
    pub memory: i64,
    /// Limit of memory plus swap, in bytes.
    pub memory_swap: i64,
    /// CPU limit in units of 1e-9 CPU.
    pub nano_cpus: i64,
    /// Limit of processes and threads.
    pub pids_limit: i64,
    pub ulimits: Vec<Ulimit>,
    /// Mount options by path.
    pub tmpfs: BTreeMap<String, String>,
    /// Such as `private` or `none`.
    pub ipc_mode: String,
    /// The size of `/dev/shm` in bytes.
    pub shm_size: i64,
    /// Such as `private`; since API 1.41.
    pub cgroupns_mode: String,
    pub log_config: LogConfig,
    /// Whether docker-init is PID 1; the engine's default if `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<bool>,
    /// Whether the engine removes the container when it exits.
    pub auto_remove: bool,
    /// All capabilities, all devices, no confinement.
    pub privileged: bool,
    /// The engine's default list if `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub masked_paths: Option<Vec<String>>,
    /// The engine's default list if `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub readonly_paths: Option<Vec<String>>,
    /// The engine's default runtime if `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// Bind mounts, `SOURCE:TARGET[:OPTIONS]`.
    pub binds: Vec<String>,
    pub devices: Vec<serde_json::Value>,
    /// A namespace of its own if empty.
    pub pid_mode: String,
    /// A namespace of its own if empty.
    #[serde(rename = "UTSMode")]
    pub uts_mode: String,
    /// The engine's default if empty.
    pub userns_mode: String,
}

/// A container to create.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerSpec {
    pub image: String,
    pub cmd: Vec<String>,
    pub entrypoint: Vec<String>,
    /// Entries of the form `NAME=value`.
    pub env: Vec<String>,
    /// `uid:gid`, or names.
    pub user: String,
    pub working_dir: String,
    pub labels: BTreeMap<String, String>,
    /// Keep stdin open while no client is attached.
    pub open_stdin: bool,
    /// Close stdin when the first attached client disconnects.
    pub stdin_once: bool,
    pub attach_stdin: bool,
    pub attach_stdout: bool,
    pub attach_stderr: bool,
    pub tty: bool,
    /// Skip the network set-up entirely.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_disabled: Option<bool>,
    pub host_config: HostConfig,
}

/// A container that was created.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Created {
    #[serde(deserialize_with = "lax")]
    pub id: String,
    /// What the engine changed or ignored in the request.
    #[serde(deserialize_with = "lax")]
    pub warnings: Vec<String>,
    /// The reply was lost and the container was found by its name; the warnings are unknown.
    #[serde(skip)]
    pub recovered: bool,
}

/// A container as inspected (`GET /containers/{id}/json`).
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerInfo {
    #[serde(deserialize_with = "lax")]
    pub id: String,
    /// With a leading slash.
    #[serde(deserialize_with = "lax")]
    pub name: String,
    #[serde(deserialize_with = "lax")]
    pub image: String,
    #[serde(deserialize_with = "lax")]
    pub state: ContainerState,
    #[serde(deserialize_with = "lax")]
    pub config: ContainerConfig,
}

/// The configuration of an inspected container or image.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerConfig {
    pub labels: Option<BTreeMap<String, String>>,
}

/// The state of an inspected container.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerState {
    /// `created`, `running`, `exited`, ...
    #[serde(deserialize_with = "lax")]
    pub status: String,
    #[serde(deserialize_with = "lax")]
    pub running: bool,
    #[serde(deserialize_with = "lax")]
    pub exit_code: i64,
    /// Whether the kernel's OOM killer ever killed one of its processes.
    #[serde(rename = "OOMKilled", deserialize_with = "lax")]
    pub oom_killed: bool,
    /// Why the engine could not start it; empty if it could.
    #[serde(deserialize_with = "lax")]
    pub error: String,
    /// The PID of its first process on the host; 0 if it is not running.
    #[serde(deserialize_with = "lax")]
    pub pid: i64,
}

/// A container in a list (`GET /containers/json`).
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerSummary {
    #[serde(deserialize_with = "lax")]
    pub id: String,
    /// Each with a leading slash.
    #[serde(deserialize_with = "lax")]
    pub names: Vec<String>,
    #[serde(deserialize_with = "lax")]
    pub image: String,
    #[serde(rename = "ImageID", deserialize_with = "lax")]
    pub image_id: String,
    /// `created`, `running`, ...
    #[serde(deserialize_with = "lax")]
    pub state: String,
    #[serde(deserialize_with = "lax")]
    pub status: String,
    #[serde(deserialize_with = "lax")]
    pub labels: BTreeMap<String, String>,
    /// Unix time in seconds.
    #[serde(deserialize_with = "lax")]
    pub created: i64,
}

/// New limits of a container; `None` leaves a limit unchanged.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct UpdateResources {
    /// Limit in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<i64>,
    /// Limit of memory plus swap, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_swap: Option<i64>,
    /// CPU limit in units of 1e-9 CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nano_cpus: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids_limit: Option<i64>,
}

/// The condition that ends a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitCondition {
    /// The container is not running. Holds at once for a container that was never started.
    NotRunning,
    /// The next exit after the engine answered the head.
    NextExit,
    /// The container was removed.
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

/// The result of a removal. With each of them the container is removed or being removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// This call removed it.
    Removed,
    /// The container did not exist.
    AlreadyGone,
    /// Another removal is running, such as by `AutoRemove`: inspect until 404 instead of repeating
    /// this.
    InProgress,
}

/// The processes of a container, as `ps` lists them (`GET /containers/{id}/top`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Top {
    #[serde(deserialize_with = "lax")]
    pub titles: Vec<String>,
    /// One row per process, with a column per title.
    #[serde(deserialize_with = "lax")]
    pub processes: Vec<Vec<String>>,
}

/// A sample of a container's counters (`GET /containers/{id}/stats`). A counter that the engine
/// does not report is 0.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Stats {
    /// The time of the sample, in RFC 3339.
    #[serde(deserialize_with = "lax")]
    pub read: String,
    #[serde(deserialize_with = "lax")]
    pub cpu_stats: CpuStats,
    #[serde(deserialize_with = "lax")]
    pub memory_stats: MemoryStats,
    #[serde(deserialize_with = "lax")]
    pub pids_stats: PidsStats,
}

/// CPU counters of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct CpuStats {
    #[serde(deserialize_with = "lax")]
    pub cpu_usage: CpuUsage,
    /// CPUs of the machine.
    #[serde(deserialize_with = "lax")]
    pub online_cpus: u64,
}

/// CPU time used since the container's start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct CpuUsage {
    /// In nanoseconds of CPU time.
    #[serde(deserialize_with = "lax")]
    pub total_usage: u64,
}

/// Memory counters of a container, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct MemoryStats {
    /// Current usage, including page cache.
    #[serde(deserialize_with = "lax")]
    pub usage: u64,
    /// Peak usage; cgroup v1 only.
    #[serde(deserialize_with = "lax")]
    pub max_usage: u64,
    #[serde(deserialize_with = "lax")]
    pub limit: u64,
}

/// Process counters of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PidsStats {
    #[serde(deserialize_with = "lax")]
    pub current: u64,
    #[serde(deserialize_with = "lax")]
    pub limit: u64,
}

/// The result of a prune.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Ids or names of the removed objects.
    pub removed: Vec<String>,
    /// Disk space reclaimed, in bytes.
    pub bytes: i64,
}

/// Metadata of a path in a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PathStat {
    /// The last component of the path.
    #[serde(deserialize_with = "lax")]
    pub name: String,
    /// The size in bytes.
    #[serde(deserialize_with = "lax")]
    pub size: i64,
    /// Go's `os.FileMode`; the highest bit marks a folder.
    #[serde(deserialize_with = "lax")]
    pub mode: u32,
    /// The target of a symbolic link; empty for other files.
    #[serde(rename = "linkTarget", deserialize_with = "lax")]
    pub link_target: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_serializes_to_the_engines_field_names() {
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
    fn a_reply_with_absent_or_null_fields_is_parsed() {
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
