//! Creates a sandbox: create, attach, start, Hello, Ready, verify. A step that fails removes the
//! container.

use std::sync::Arc;
use std::time::Duration;

use docker::{Client, Error as EngineError, HijackWriter};
use protocol::{Isolation, Limits};
use tokio::sync::{mpsc, watch};
use wire::frame::{InitHello, IsolationMode, Prepare, Space, VERSION};

use super::handle::{Sandbox, SandboxParts};
use super::id::ContainerId;
use super::inbound::{Inbound, exchange_hello};
use super::link::Link;
use super::messages::{Lost, MAX_COMMANDS};
use super::prewarm::SharedPrewarmState;
use super::retire::retire;
use super::slots::Slot;
use super::verify::verify;
use crate::policy::{Approved, MemoryOverheads, SHM_BYTES, SandboxPlan, TMPFS_INODES};

/// Time from a started container to its init's Ready. The engine starts a container in 0.3 s, a
/// loaded one in a few seconds.
const READY_DEADLINE: Duration = Duration::from_secs(15);

/// What [`create`] needs.
#[derive(Debug)]
pub struct CreateOptions {
    pub approved: Approved,
    /// The limits that the init must see.
    pub limits: Limits,
    pub isolation: Isolation,
    /// What else runs in the container. A runtime other than the engine's default may have a kernel
    /// of its own and show no cgroup, as gVisor does.
    pub overheads: MemoryOverheads,
    /// Determines the container's name and the program's uid.
    pub slot: Slot,
    /// Runtimes that may be prewarmed; in cells only.
    pub prewarm: Vec<Prepare>,
}

/// Why a sandbox could not be created.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// An Engine call failed.
    #[error("{step} the sandbox's container: {source}")]
    Engine {
        /// `create`, `attach to` or `start`.
        step: &'static str,
        #[source]
        source: EngineError,
    },
    /// The Engine created the container but dropped a limit.
    #[error("create the sandbox's container: the engine warned: {0}")]
    Warned(String),
    /// The init did not report Ready.
    #[error("wait for Ready from the sandbox's init: {0}")]
    Hello(#[from] Lost),
    /// Cells are not possible on this host.
    #[error("make a cell: {step}: {reason}")]
    NoCell {
        /// The step of the init that failed.
        step: String,
        reason: String,
    },
    /// Descriptors of the uid are in flight that no process can receive. Its slot is not used
    /// again.
    #[error("uid {0} has descriptors in flight that the kernel does not free")]
    SpentUid(u32),
    /// The init sees other limits than were asked for.
    #[error("verify the sandbox: {0}")]
    Mismatch(String),
    /// The kernel gave no random bytes for the session's nonce.
    #[error("choose the session's nonce: {0}")]
    Nonce(#[source] getrandom::Error),
}

impl CreateError {
    /// The step that failed, as a short name.
    pub fn step(&self) -> &'static str {
        match self {
            CreateError::Engine { step, .. } => step,
            CreateError::Warned(_) => "create",
            CreateError::Hello(_) => "hello",
            CreateError::Mismatch(_) => "check",
            CreateError::NoCell { .. } => "cell",
            CreateError::SpentUid(_) => "uid",
            CreateError::Nonce(_) => "nonce",
        }
    }

    /// The Engine's error, if an Engine call failed.
    pub fn engine_error(&self) -> Option<&EngineError> {
        match self {
            CreateError::Engine { source, .. } => Some(source),
            _ => None,
        }
    }

    /// Whether another attempt may succeed without a change by the operator.
    pub fn is_retryable(&self) -> bool {
        match self {
            CreateError::Engine { source, .. } => source.retryable(),
            // what is started is not an init of this release
            CreateError::Hello(Lost::Protocol(_)) => false,
            CreateError::Hello(_) | CreateError::Nonce(_) | CreateError::SpentUid(_) => true,
            CreateError::Warned(_) | CreateError::NoCell { .. } | CreateError::Mismatch(_) => false,
        }
    }

    /// Whether the cause may be what cells require beyond `split`, so that a `split` sandbox is
    /// worth an attempt. A silent init is not such a case: it was slow because the machine is busy.
    /// Nor is a call that the engine did not answer, or a full disk: what may pass does not decide
    /// how sandboxes are isolated from then on.
    pub fn may_be_due_to_cells(&self) -> bool {
        match self {
            CreateError::Hello(Lost::Silent) => false,
            CreateError::NoCell { .. } | CreateError::Hello(_) | CreateError::Mismatch(_) => true,
            CreateError::Engine { source, .. } => source.status().is_some() && !source.is_disk_full(),
            CreateError::Warned(_) | CreateError::Nonce(_) | CreateError::SpentUid(_) => false,
        }
    }

    /// Whether the engine is unreachable, so that the profile is not to blame.
    pub fn is_unreachable(&self) -> bool {
        self.engine_error().is_some_and(EngineError::is_unreachable)
    }
}

/// Creates a sandbox.
///
/// If the future is dropped, a guard removes the container by name.
///
/// # Errors
/// See [`CreateError`].
pub async fn create(client: &Client, options: CreateOptions) -> Result<Sandbox, CreateError> {
    let CreateOptions { approved, limits, isolation, overheads, slot, mut prewarm } = options;
    let name = slot.name().to_owned();
    let uid = slot.uid();
    let mut guard = CreateGuard { client: client.clone(), name: Some(name.clone()), slot: Some(slot) };

    let (id, mut inbound, mut writer) = start_container(client, &name, &approved).await?;
    let hello = hello(uid, isolation, &limits)?;
    let ready = exchange_hello(&mut inbound, &mut writer, hello, READY_DEADLINE).await?;
    if let Some((step, errno)) = &ready.no_cell {
        let reason = nix::errno::Errno::from_raw(*errno).desc().to_owned();
        return Err(CreateError::NoCell { step: step.clone(), reason });
    }
    verify(&ready, &limits, isolation, overheads).map_err(CreateError::Mismatch)?;
    if ready.uid_is_spent {
        guard.slot.as_mut().into_iter().for_each(Slot::spend);
        return Err(CreateError::SpentUid(uid));
    }

    if isolation == Isolation::Split {
        prewarm.clear();
    }
    let (commands, receiver) = mpsc::channel(MAX_COMMANDS);
    let (ended_sender, ended) = watch::channel(false);
    let prewarm_state = SharedPrewarmState::default();
    let link = Link::new(inbound, writer, Arc::clone(&prewarm_state));
    let (client, container, slot) = (client.clone(), id.clone(), guard.disarm());
    tokio::spawn(async move {
        if let Some(lost) = link.serve(receiver).await {
            tracing::debug!(sandbox = %container, %lost, "a sandbox ended by itself");
        }
        let _ = ended_sender.send(true);
        retire(&client, container.as_str(), container.short(), slot).await;
    });
    Ok(Sandbox::new(SandboxParts {
        id,
        isolation,
        overheads,
        ready,
        runtimes: prewarm,
        commands,
        ended,
        prewarm_state,
    }))
}

/// Creates the container, attaches to it, and starts it.
async fn start_container(
    client: &Client,
    name: &str,
    approved: &Approved,
) -> Result<(ContainerId, Inbound, HijackWriter), CreateError> {
    let failed = |step| move |source| CreateError::Engine { step, source };
    let created = client.create_container(name, approved.spec()).await.map_err(failed("create"))?;
    if created.recovered {
        return Err(CreateError::Warned("its reply was lost, and the engine's warnings with it".to_owned()));
    }
    if !created.warnings.is_empty() {
        return Err(CreateError::Warned(created.warnings.join("; ")));
    }
    let hijacked = client.attach(&created.id).await.map_err(failed("attach to"))?;
    let (reader, writer) = hijacked.into_split();
    client.start_container(&created.id).await.map_err(failed("start"))?;
    Ok((ContainerId::new(created.id), Inbound::new(reader), writer))
}

fn hello(uid: u32, isolation: Isolation, limits: &Limits) -> Result<InitHello, CreateError> {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).map_err(CreateError::Nonce)?;
    let space = Space {
        box_bytes: SandboxPlan::box_bytes(limits),
        tmp_bytes: SandboxPlan::tmp_bytes(limits),
        shm_bytes: SHM_BYTES,
        inodes: TMPFS_INODES,
    };
    let isolation = match isolation {
        Isolation::Split => IsolationMode::Split,
        Isolation::Cell => IsolationMode::Cell,
    };
    Ok(InitHello { version: VERSION, nonce, uid, gid: uid, isolation, space })
}

/// Removes the container of a creation that failed or was dropped.
struct CreateGuard {
    client: Client,
    name: Option<String>,
    slot: Option<Slot>,
}

impl CreateGuard {
    fn disarm(&mut self) -> Option<Slot> {
        self.name = None;
        self.slot.take()
    }
}

impl Drop for CreateGuard {
    fn drop(&mut self) {
        let (Some(name), slot) = (self.name.take(), self.slot.take()) else { return };
        let client = self.client.clone();
        // without a runtime, at its very end, the sweep and the reaper remove it
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { retire(&client, &name, &name, slot).await });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_may_pass_never_decides_that_a_host_has_no_cells() {
        static START: docker::Op = docker::Op::get("start a container");
        let engine = |source| CreateError::Engine { step: "start", source };
        let status =
            |message: &str| engine(EngineError::Status { call: &START, status: 500, message: message.to_owned() });
        let late = EngineError::Timeout { call: &START, phase: docker::Phase::Head, after: Duration::from_secs(30) };
        let broken = EngineError::Broken { call: &START, phase: docker::Phase::Body, source: "closed".into() };
        for passing in [engine(late), engine(broken), status("write: no space left on device"), Lost::Silent.into()] {
            assert!(!passing.may_be_due_to_cells(), "{passing}");
        }
        let no_cell = CreateError::NoCell { step: "unshare".to_owned(), reason: "no".to_owned() };
        for lasting in [status("OCI runtime create failed: seccomp"), no_cell] {
            assert!(lasting.may_be_due_to_cells(), "{lasting}");
        }
    }
}
