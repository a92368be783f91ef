//! Rows of the list methods: pools, sandboxes, images, and the state of a host.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use crate::isolation::Isolation;

/// The row of a pool in `pool.list`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct PoolState {
    /// The profile's name.
    pub profile: String,
    /// The host's name.
    pub host: String,
    /// Isolation of the sandbox that was created last; absent before the first one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolation>,
    /// Sandboxes that are ready.
    pub ready: usize,
    /// Ready sandboxes whose prewarmed runtimes are ready.
    pub hot: usize,
    /// Memory that prewarmed runtimes add to a sandbox, in bytes; absent without any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hot_bytes: Option<u64>,
    /// Why a runtime could not be prewarmed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hot_failed: Option<String>,
    /// Sandboxes being created.
    pub creating: usize,
    /// Sandboxes in use.
    pub leased: usize,
    /// Used sandboxes kept for their own caller.
    pub kept: usize,
    /// How often a used sandbox was kept, since the pool was started.
    pub reused: usize,
    /// Submissions that wait for a sandbox of this pool.
    pub waiting: usize,
    /// The configured floor.
    pub floor: usize,
    /// Sandboxes to keep ready at the current rate of leases; at least the floor.
    pub level: usize,
    /// The configured ceiling.
    pub ceiling: usize,
    /// Sandboxes created since the pool was started.
    pub created: usize,
    /// Creations that failed since the pool was started.
    pub failed: usize,
    /// Failed creations by the step that failed.
    pub failures: BTreeMap<&'static str, usize>,
    /// Mean duration of a creation, in milliseconds.
    pub create_ms: f64,
    /// Why the last creation failed; absent once one has succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
}

/// The row of a sandbox in `sandbox.list`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct SandboxRow {
    /// The first 12 digits of the container's id.
    pub id: String,
    /// The host's name.
    pub host: String,
    /// The profile's name.
    pub profile: String,
    /// `ready` or `leased`.
    pub state: &'static str,
    /// Time in this state, in milliseconds.
    pub age_ms: u64,
    /// The uid whose submission runs in it, if it came over the socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Whose submission runs in it, if it came over HTTP: `token:NAME` or `anon:ID`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// The id of the submission that runs in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub submission: Option<String>,
}

/// The row of a profile's image on one host, in `image.list`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ImageRow {
    /// The profile that needs the image.
    pub profile: String,
    /// The image's name.
    pub image: String,
    /// The host's name.
    pub host: String,
    /// Whether the engine has the image, up to date.
    pub present: bool,
    /// The image's tag on the engine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// The image's id on the engine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The image's size in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<i64>,
    /// Why the image is not present.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Whether a host is given work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HostState {
    /// The engine was not probed yet.
    Unknown,
    /// The engine answers.
    Up,
    /// A call failed as if the engine were gone; it is being probed.
    Suspect,
    /// The engine does not answer.
    Down,
    /// The engine answers, and an administrator has drained the host.
    Draining,
}
