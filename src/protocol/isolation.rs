//! How runs are isolated from the init and from each other (docs/SECURITY.md).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a sandbox isolates its runs.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, strum::IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Isolation {
    /// The init is root with three capabilities, programs run as an unprivileged uid. Works on
    /// every host.
    #[default]
    Split,
    /// Every run has new user, pid, mount, ipc, network and cgroup namespaces; nothing in the
    /// container is root.
    Cell,
}

impl Isolation {
    /// The word in reports and container labels.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The isolation that a profile or a submission requires.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IsolationRequest {
    /// The strongest that the host offers: `cell` where possible, `split` otherwise.
    #[default]
    Auto,
    /// Runs in `split` sandboxes only.
    Split,
    /// Runs in `cell` sandboxes only.
    Cell,
}

impl IsolationRequest {
    /// Whether a sandbox with this isolation satisfies the request.
    pub fn allows(self, isolation: Isolation) -> bool {
        match self {
            IsolationRequest::Auto => true,
            IsolationRequest::Split => isolation == Isolation::Split,
            IsolationRequest::Cell => isolation == Isolation::Cell,
        }
    }
}

/// Whose used sandboxes serve again. A sandbox only ever serves the uid and tenant that used it
/// first, and only with isolation `cell`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum ReusePolicy {
    /// Those of all callers; one uid's callers without a tenant count as one tenant.
    #[default]
    Always,
    /// Those of callers that state a tenant.
    Tenant,
    /// None: each submission gets a new sandbox.
    Never,
}

impl ReusePolicy {
    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Whether a sandbox of a caller with this tenant may serve it again.
    pub fn allows(self, tenant: &str) -> bool {
        match self {
            ReusePolicy::Always => true,
            ReusePolicy::Tenant => !tenant.is_empty(),
            ReusePolicy::Never => false,
        }
    }
}

/// System calls that a profile's programs may make in addition to the default ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Relaxation {
    /// ptrace, process_vm_readv and process_vm_writev, any personality: for debuggers and leak
    /// sanitizers.
    Ptrace,
    /// System V shared memory, semaphores and queues.
    SysvIpc,
    /// POSIX message queues.
    PosixMq,
    /// The calls of io_uring.
    IoUring,
    /// Pseudoterminals. The machine has a few thousand of them, and their echo is work of the
    /// kernel that no program is charged.
    Pty,
    /// Descriptors that timers and signals make readable (timerfd, signalfd).
    Timerfd,
}
