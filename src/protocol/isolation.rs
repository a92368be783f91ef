//! How a run is kept apart from our own init and from other runs (DESIGN section 4).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a sandbox does it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// The init is root with three capabilities, programs are an unprivileged uid. Works everywhere.
    #[default]
    Split,
    /// Every run in fresh user, pid, mount and ipc namespaces; nothing in the container is root.
    Cell,
}

impl Isolation {
    /// The word of reports and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Isolation::Split => "split",
            Isolation::Cell => "cell",
        }
    }
}

/// What is asked for: by a profile, or by a caller who insists.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IsolationRequest {
    /// The best that the host offers: cells where they can be made.
    #[default]
    Auto,
    /// Two users in a sandbox.
    Split,
    /// Fresh namespaces for each run.
    Cell,
}

impl IsolationRequest {
    /// Whether a sandbox of this kind will do.
    pub fn allows(self, isolation: Isolation) -> bool {
        match self {
            IsolationRequest::Auto => true,
            IsolationRequest::Split => isolation == Isolation::Split,
            IsolationRequest::Cell => isolation == Isolation::Cell,
        }
    }
}

/// System calls that an operator allows a profile's programs beside the usual ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Relaxation {
    /// ptrace and its kin, any personality: for debuggers and leak sanitizers.
    Ptrace,
    /// System V shared memory, semaphores and queues.
    SysvIpc,
    /// POSIX message queues.
    PosixMq,
    /// io_uring.
    IoUring,
}
