//! What is known about the pre-started runtimes of a sandbox.

use std::sync::Arc;

use parking_lot::Mutex;

/// Shared between a sandbox's handle and its link task.
pub(super) type SharedPrewarmState = Arc<Mutex<PrewarmState>>;

/// The pre-started runtimes of a sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PrewarmState {
    /// Runtimes that were asked for.
    pub wanted: usize,
    /// Runtimes that reported to be ready.
    pub waiting: usize,
    /// Memory that the sandbox uses beyond what it used when it was new, in bytes.
    pub memory_bytes: u64,
    /// The slowest runtime's start, in milliseconds.
    pub took_ms: u64,
    /// Why a runtime could not be started.
    pub failed: Option<String>,
}

impl PrewarmState {
    /// Whether all requested runtimes are ready.
    pub fn is_hot(&self) -> bool {
        self.wanted > 0 && self.waiting >= self.wanted
    }
}
