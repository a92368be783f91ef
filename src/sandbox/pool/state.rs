//! A pool as it is at a moment, for who looks.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use protocol::Isolation;

/// The state of a pool, for `pool.list`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct PoolState {
    /// The profile.
    pub profile: String,
    /// The host.
    pub host: String,
    /// How the last one that was made keeps runs apart; none when none was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolation>,
    /// Ready ones.
    pub ready: usize,
    /// Of them, how many have their runtimes waiting.
    pub hot: usize,
    /// What runtimes that wait add to a sandbox, in bytes; absent without any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hot_bytes: Option<u64>,
    /// Why a runtime does not wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hot_failed: Option<String>,
    /// Being made.
    pub creating: usize,
    /// In use.
    pub leased: usize,
    /// Used ones that wait for their own caller.
    pub kept: usize,
    /// How often a used one was kept, since the start.
    pub reused: usize,
    /// Callers waiting.
    pub waiting: usize,
    /// The floor.
    pub floor: usize,
    /// How many are kept ready at the rate at which they are taken.
    pub level: usize,
    /// The ceiling.
    pub ceiling: usize,
    /// Made since the start.
    pub created: usize,
    /// Creations that failed since the start.
    pub failed: usize,
    /// The same by what was waited for.
    pub failures: BTreeMap<&'static str, usize>,
    /// The mean time of a creation, in milliseconds.
    pub create_ms: f64,
    /// Why none can be made at the moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
}
