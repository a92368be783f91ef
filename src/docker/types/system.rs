//! Types of the system endpoints: ping, version, info, events, disk usage.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::lax;
use crate::version::ApiVersion;

/// The reply to a ping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ping {
    /// The newest API version of the engine.
    pub offered: ApiVersion,
    /// The negotiated API version.
    pub api_version: ApiVersion,
    /// The `Server` header, such as `Docker/20.10.24 (linux)`.
    pub server: Option<String>,
    /// Whether the engine is Podman.
    pub podman: bool,
}

/// The engine's build (`GET /version`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all(deserialize = "PascalCase"), default)]
pub struct VersionInfo {
    pub version: Option<String>,
    pub api_version: Option<String>,
    #[serde(rename(deserialize = "MinAPIVersion"))]
    pub min_api_version: Option<String>,
    pub os: Option<String>,
    pub arch: Option<String>,
    pub kernel_version: Option<String>,
}

/// The engine's machine and configuration (`GET /info`).
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Info {
    #[serde(rename = "ID")]
    pub id: Option<String>,
    pub name: Option<String>,
    #[serde(rename = "NCPU")]
    pub ncpu: Option<i64>,
    /// Physical memory in bytes.
    pub mem_total: Option<i64>,
    /// The storage driver.
    pub driver: Option<String>,
    /// The folder of layers and volumes.
    pub docker_root_dir: Option<String>,
    /// `cgroupfs` or `systemd`.
    pub cgroup_driver: Option<String>,
    /// `1` or `2`.
    pub cgroup_version: Option<String>,
    /// Entries such as `name=seccomp,profile=default`.
    #[serde(deserialize_with = "lax")]
    pub security_options: Vec<String>,
    #[serde(deserialize_with = "lax")]
    pub runtimes: HashMap<String, serde_json::Value>,
    pub default_runtime: Option<String>,
    pub containers_running: Option<i64>,
    pub images: Option<i64>,
    pub server_version: Option<String>,
    pub kernel_version: Option<String>,
    /// The name of the distribution.
    pub operating_system: Option<String>,
    /// Whether memory limits are supported.
    pub memory_limit: Option<bool>,
    /// Whether process limits are supported.
    pub pids_limit: Option<bool>,
    /// Whether CPU quotas are supported.
    pub cpu_cfs_quota: Option<bool>,
    /// Whether containers keep running while the engine restarts.
    pub live_restore_enabled: Option<bool>,
    /// The engine's warnings about its configuration.
    pub warnings: Option<Vec<String>>,
}

/// An event (`GET /events`).
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct EngineEvent {
    /// Such as `container` or `image`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// Such as `oom`, `die` or `destroy`.
    #[serde(rename = "Action")]
    pub action: String,
    #[serde(rename = "Actor")]
    pub actor: Actor,
    /// Unix time in nanoseconds.
    #[serde(rename = "timeNano")]
    pub time_nano: i64,
}

/// The object of an event.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Actor {
    /// The id of the container or image.
    #[serde(rename = "ID")]
    pub id: String,
    /// Labels and other attributes.
    #[serde(deserialize_with = "lax")]
    pub attributes: BTreeMap<String, String>,
}

/// The engine's disk usage (`GET /system/df`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// Bytes of all layers; shared layers count once.
    pub layers_bytes: i64,
    /// Image ids with the bytes of each.
    pub images: Vec<(String, i64)>,
    /// Container ids with the bytes that each wrote.
    pub containers: Vec<(String, i64)>,
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
    fn a_reply_with_absent_or_null_fields_is_parsed() {
        let _: Info = serde_json::from_str("{}").unwrap();
        let nulls = r#"{"ID":null,"NCPU":2,"Runtimes":null,"SecurityOptions":null,"Warnings":null}"#;
        let info: Info = serde_json::from_str(nulls).unwrap();
        assert_eq!((info.ncpu, info.runtimes.len(), info.security_options.len()), (Some(2), 0, 0));
        let usage: DiskUsage = serde_json::from_str(r#"{"Images":null,"BuildCache":[{"ID":"a","Size":3}]}"#).unwrap();
        assert_eq!(usage.build_cache_bytes, 3);
    }

    #[test]
    fn an_event_is_parsed_from_its_current_fields() {
        let text = r#"{"status":"die","Type":"container","Action":"die","Actor":{"ID":"c1","Attributes":{"exitCode":"0"}},"timeNano":5}"#;
        let event: EngineEvent = serde_json::from_str(text).unwrap();
        assert_eq!((event.actor.id.as_str(), event.time_nano), ("c1", 5));
        assert_eq!(event.actor.attributes["exitCode"], "0");
    }
}
