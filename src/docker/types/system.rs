//! The engine itself: its version, its machine, its events, its disk.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::lax;
use crate::version::ApiVersion;

/// The answer to a ping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ping {
    /// The newest version that the engine offers.
    pub offered: ApiVersion,
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
    /// The oldest API version that it speaks.
    #[serde(rename(deserialize = "MinAPIVersion"))]
    pub min_api_version: Option<String>,
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
    #[serde(deserialize_with = "lax")]
    pub security_options: Vec<String>,
    /// Registered runtimes.
    #[serde(deserialize_with = "lax")]
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
    #[serde(deserialize_with = "lax")]
    pub attributes: BTreeMap<String, String>,
}

/// `GET /system/df`: what takes the engine's disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// Bytes of all layers; those that images share count once.
    pub layers_bytes: i64,
    /// Images, and the bytes of each.
    pub images: Vec<(String, i64)>,
    /// Containers, and the bytes that each wrote.
    pub containers: Vec<(String, i64)>,
    /// Bytes of the build cache.
    pub build_cache_bytes: i64,
}

impl<'de> Deserialize<'de> for DiskUsage {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<DiskUsage, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "PascalCase", default)]
        struct Item {
            #[serde(alias = "ID", deserialize_with = "lax")]
            id: String,
            #[serde(deserialize_with = "lax")]
            size: i64,
            #[serde(deserialize_with = "lax")]
            size_rw: i64,
        }
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "PascalCase", default)]
        struct Raw {
            #[serde(deserialize_with = "lax")]
            layers_size: i64,
            #[serde(deserialize_with = "lax")]
            images: Vec<Item>,
            #[serde(deserialize_with = "lax")]
            containers: Vec<Item>,
            #[serde(deserialize_with = "lax")]
            build_cache: Vec<Item>,
        }
        let raw = Raw::deserialize(from)?;
        Ok(DiskUsage {
            layers_bytes: raw.layers_size,
            images: raw.images.into_iter().map(|item| (item.id, item.size)).collect(),
            containers: raw.containers.into_iter().map(|item| (item.id, item.size_rw)).collect(),
            build_cache_bytes: raw.build_cache.iter().map(|item| item.size).sum(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_reply_and_one_of_nulls_are_both_understood() {
        let _: Info = serde_json::from_str("{}").unwrap();
        let nulls = r#"{"ID":null,"NCPU":2,"Runtimes":null,"SecurityOptions":null,"Warnings":null}"#;
        let info: Info = serde_json::from_str(nulls).unwrap();
        assert_eq!((info.ncpu, info.runtimes.len(), info.security_options.len()), (Some(2), 0, 0));
        let usage: DiskUsage = serde_json::from_str(r#"{"Images":null,"BuildCache":[{"ID":"a","Size":3}]}"#).unwrap();
        assert_eq!(usage.build_cache_bytes, 3);
    }

    #[test]
    fn an_event_is_read_in_its_new_form_only() {
        let text = r#"{"status":"die","Type":"container","Action":"die","Actor":{"ID":"c1","Attributes":{"exitCode":"0"}},"timeNano":5}"#;
        let event: Event = serde_json::from_str(text).unwrap();
        assert_eq!((event.actor.id.as_str(), event.time_nano), ("c1", 5));
        assert_eq!(event.actor.attributes["exitCode"], "0");
    }
}
