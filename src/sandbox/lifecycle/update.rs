//! Changes the limits of a ready sandbox with one `containers/update`. This is the only Engine call
//! that a lease may cost.

use docker::{Client, Error as EngineError, UpdateResources};
use protocol::Limits;

use super::handle::Sandbox;
use super::messages::Lost;
use super::verify::verify;
use crate::policy::SandboxPlan;

/// Why a sandbox could not be given other limits. It can then only be retired. Only
/// [`UpdateError::Lost`] means that the sandbox died; in all other cases the host is healthy and a
/// new sandbox may be used instead.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// The engine refused or failed. Typical cause: the sandbox already uses more memory than the
    /// new limit, for example because of a prewarmed JVM.
    #[error("update the sandbox's container: {0}")]
    Engine(#[source] EngineError),
    /// The engine updated the container but dropped a limit.
    #[error("update the sandbox's container: the engine warned: {0}")]
    Warned(String),
    /// The init does not see the new limits.
    #[error("verify the sandbox after the update: {0}")]
    Mismatch(String),
    /// The sandbox died meanwhile.
    #[error("read the sandbox's limits after the update: {0}")]
    Lost(#[from] Lost),
}

impl UpdateError {
    /// The engine's error, if it caused the failure.
    pub fn engine_error(&self) -> Option<&EngineError> {
        match self {
            UpdateError::Engine(error) => Some(error),
            _ => None,
        }
    }

    /// Whether the engine did not answer, so that the host may be down.
    pub fn is_unreachable(&self) -> bool {
        self.engine_error().is_some_and(EngineError::is_unreachable)
    }
}

/// Gives a ready sandbox these limits, and verifies that its init sees them.
///
/// # Errors
/// See [`UpdateError`].
pub async fn update_limits(client: &Client, sandbox: &mut Sandbox, limits: &Limits) -> Result<(), UpdateError> {
    let overheads = sandbox.overheads();
    let memory = SandboxPlan::container_memory(limits, overheads) as i64;
    let resources = UpdateResources {
        memory: Some(memory),
        memory_swap: Some(memory),
        nano_cpus: Some(SandboxPlan::nano_cpus(limits) as i64),
        pids_limit: Some(i64::from(SandboxPlan::container_pids(limits, overheads))),
    };
    let warnings = client.update_container(sandbox.id().as_str(), &resources).await.map_err(UpdateError::Engine)?;
    if !warnings.is_empty() {
        return Err(UpdateError::Warned(warnings.join("; ")));
    }
    sandbox.probe().await?;
    verify(sandbox.ready(), limits, sandbox.isolation(), overheads).map_err(UpdateError::Mismatch)
}
