//! From nothing to Ready. Every step that fails removes what it may have made.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use super::link::{COMMANDS, Inbound, Link, Lost, hello};
use super::retire::{Slot, retire};
use super::{Heat, Sandbox};
use crate::policy::{Approved, MemoryOverheads, SHM_BYTES, SandboxPlan, TMPFS_INODES};
use docker::{Client, Error as EngineError, UpdateResources};
use protocol::{Isolation, Limits};
use wire;
use wire::frame::{InitHello, Prepare, Ready, Space, VERSION};

/// How long a started container may take until its init says Ready: the engine starts in 0.3 s, a loaded one in a few.
const READY_DEADLINE: Duration = Duration::from_secs(15);

/// CAP_KILL, CAP_SETGID and CAP_SETUID: bits 5, 6 and 7.
const SPLIT_CAPS: u64 = 0b1110_0000;

/// Everything that a creation needs.
#[derive(Debug)]
pub struct CreateOptions {
    /// The spec.
    pub approved: Approved,
    /// What the init must see.
    pub limits: Limits,
    /// How runs are kept apart.
    pub isolation: Isolation,
    /// Who else is in it. Where another runtime than the engine's own was asked for, its kernel may be its own and show no
    /// cgroup, as gVisor's.
    pub overheads: MemoryOverheads,
    /// The slot, and with it the container's name and the program's uid.
    pub slot: Slot,
    /// Runtimes that may wait in it; in cells only.
    pub prewarm: Vec<Prepare>,
}

/// Why there is no sandbox.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The Engine said no, or nothing.
    #[error("{step} the sandbox's container: {source}")]
    Engine {
        /// Which step.
        step: &'static str,
        /// The cause.
        #[source]
        source: EngineError,
    },
    /// The Engine created it, but dropped a limit (ENGINE finding 10).
    #[error("create the sandbox's container: the engine warned: {0}")]
    Warned(String),
    /// The init never said Ready.
    #[error("hear Ready from the sandbox's init: {0}")]
    Hello(#[from] Lost),
    /// Cells cannot be made on this host.
    #[error("make a cell: {step}: {reason}")]
    NoCell {
        /// The step of the init that failed.
        step: String,
        /// Why.
        reason: String,
    },
    /// The init sees other limits than were asked for.
    #[error("trust the sandbox: {0}")]
    Mismatch(String),
}

impl CreateError {
    /// Which wait it was, in a word for counting.
    pub fn wait(&self) -> &'static str {
        match self {
            CreateError::Engine { step, .. } => step,
            CreateError::Warned(_) => "create",
            CreateError::Hello(_) => "hello",
            CreateError::Mismatch(_) => "check",
            CreateError::NoCell { .. } => "cell",
        }
    }

    /// Whether it may be due to what cells ask of an engine beside the rest: then another kind of sandbox is worth a try.
    /// One that was silent was slow: on a machine that is busy for a moment nothing is said about cells.
    pub fn may_be_the_cells(&self) -> bool {
        match self {
            CreateError::Hello(Lost::Silent) => false,
            CreateError::NoCell { .. } | CreateError::Hello(_) | CreateError::Mismatch(_) => true,
            CreateError::Engine { source, .. } => !source.is_unreachable(),
            CreateError::Warned(_) => false,
        }
    }

    /// Whether the engine itself is not there, so that no profile is to blame.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, CreateError::Engine { source, .. } if source.is_unreachable())
    }
}

/// Makes a sandbox: create, attach, start, Hello, Ready, check.
///
/// Dropping the future leaves no container for longer than the removal takes: a guard removes by name.
///
/// # Errors
/// See [`CreateError`].
pub async fn create(client: &Client, recipe: CreateOptions) -> Result<Sandbox, CreateError> {
    let CreateOptions { approved, limits, isolation, overheads, slot, mut prewarm } = recipe;
    let name = slot.name().to_owned();
    let engine = |step| move |source| CreateError::Engine { step, source };
    let (uid, gid) = (slot.uid(), slot.uid());
    let mut guard = Guard { client: client.clone(), name: Some(name.clone()), slot: Some(slot) };

    let created = client.create_container(&name, approved.spec()).await.map_err(engine("create"))?;
    if created.recovered {
        return Err(CreateError::Warned("its reply was lost, and what the engine had to warn of with it".to_owned()));
    }
    if !created.warnings.is_empty() {
        return Err(CreateError::Warned(created.warnings.join("; ")));
    }
    let hijacked = client.attach(&created.id).await.map_err(engine("attach to"))?;
    let (reader, mut writer) = hijacked.into_split();
    client.start_container(&created.id).await.map_err(engine("start"))?;
    let mut inbound = Inbound::new(reader);
    let nonce = *uuid::Uuid::new_v4().as_bytes();
    let space = Space {
        box_bytes: SandboxPlan::box_bytes(&limits),
        tmp_bytes: SandboxPlan::tmp_bytes(&limits),
        shm_bytes: SHM_BYTES,
        inodes: TMPFS_INODES,
    };
    let wire_isolation = match isolation {
        Isolation::Split => wire::frame::IsolationMode::Split,
        Isolation::Cell => wire::frame::IsolationMode::Cell,
    };
    let greeting = InitHello { version: VERSION, nonce, uid, gid, isolation: wire_isolation, space };
    let ready = hello(&mut inbound, &mut writer, greeting, READY_DEADLINE).await?;
    if let Some((step, errno)) = &ready.no_cell {
        let reason = nix::errno::Errno::from_raw(*errno).desc().to_owned();
        return Err(CreateError::NoCell { step: step.clone(), reason });
    }
    verify(&ready, &limits, isolation, overheads).map_err(CreateError::Mismatch)?;

    let (commands, receiver) = mpsc::channel(COMMANDS);
    let (ended_tx, ended) = watch::channel(false);
    if isolation == Isolation::Split {
        prewarm.clear();
    }
    let heat = Arc::new(Heat::default());
    let link = Link::new(inbound, writer, heat.clone());
    let slot = guard.disarm();
    let client = client.clone();
    let id = created.id.clone();
    tokio::spawn(async move {
        if let Some(lost) = link.serve(receiver).await {
            tracing::debug!(sandbox = %short(&id), %lost, "a sandbox ended by itself");
        }
        let _ = ended_tx.send(true);
        retire(&client, &id, slot).await;
    });
    Ok(Sandbox {
        id: created.id,
        isolation,
        overheads,
        ready,
        born: Instant::now(),
        commands,
        ended,
        next_run: 1,
        prewarm,
        is_heated: false,
        heat,
    })
}

/// Gives a ready sandbox other limits: the one engine call that a lease may cost (DESIGN section 4).
///
/// # Errors
/// See [`CreateError`]; the sandbox is then only good for retirement.
pub async fn ensure_limits(client: &Client, sandbox: &mut Sandbox, limits: &Limits) -> Result<(), CreateError> {
    let memory = SandboxPlan::container_memory(limits, sandbox.overheads) as i64;
    let resources = UpdateResources {
        memory: Some(memory),
        memory_swap: Some(memory),
        nano_cpus: Some(SandboxPlan::nano_cpus(limits) as i64),
        pids_limit: Some(i64::from(SandboxPlan::container_pids(limits, sandbox.overheads))),
    };
    let warnings = client
        .update_container(sandbox.id(), &resources)
        .await
        .map_err(|source| CreateError::Engine { step: "update", source })?;
    if !warnings.is_empty() {
        return Err(CreateError::Warned(warnings.join("; ")));
    }
    sandbox.probe().await?;
    verify(sandbox.ready(), limits, sandbox.isolation(), sandbox.overheads).map_err(CreateError::Mismatch)
}

/// The limits that the init sees, against those that were asked for. The engine may round memory to pages and CPU to
/// a thousandth of a period.
fn verify(ready: &Ready, limits: &Limits, isolation: Isolation, overheads: MemoryOverheads) -> Result<(), String> {
    // a runtime with a kernel of its own shows no cgroup: it lies around all of it, and the engine gave no warning
    let seen = !overheads.runtime || ready.cgroup_version != 0;
    let caps = if isolation == Isolation::Cell { 0 } else { SPLIT_CAPS };
    let memory = SandboxPlan::container_memory(limits, overheads);
    let nano_cpus = SandboxPlan::nano_cpus(limits);
    let pids = u64::from(SandboxPlan::container_pids(limits, overheads));
    let page = 4096;
    let checks = [
        (ready.version == VERSION, format!("the init speaks version {}, we speak {VERSION}", ready.version)),
        (!seen || ready.cgroup_version != 0, "no cgroup is visible in it".to_owned()),
        (
            !seen || ready.memory_bytes.abs_diff(memory) < page,
            format!("its memory limit is {}, asked for {memory}", ready.memory_bytes),
        ),
        (!seen || ready.swap_bytes < page, format!("it may swap {} bytes", ready.swap_bytes)),
        (!seen || ready.pids == pids, format!("its process limit is {}, asked for {pids}", ready.pids)),
        (
            !seen || ready.nano_cpus.abs_diff(nano_cpus) <= nano_cpus / 50,
            format!("its CPU share is {}e-9, asked for {nano_cpus}e-9", ready.nano_cpus),
        ),
        ((ready.cap_bnd | ready.cap_eff) & !caps == 0, format!("its capabilities are {:#x}", ready.cap_bnd)),
        ((ready.uid == 0) == (isolation == Isolation::Split), format!("its init is uid {}", ready.uid)),
        (ready.no_new_privs, "no_new_privs is off".to_owned()),
        (!seen || ready.seccomp == 2, "no seccomp filter is on".to_owned()),
        (ready.only_loopback, "it has a network".to_owned()),
        (ready.readonly_root, "its root is writable".to_owned()),
        (ready.box_tmpfs, "/box is not a tmpfs that may execute".to_owned()),
    ];
    match checks.into_iter().find(|(holds, _)| !holds) {
        None => Ok(()),
        Some((_, reason)) => Err(reason),
    }
}

/// The first twelve digits, as every Docker tool shows them.
pub fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// Removes what a creation left when it fails or is dropped.
struct Guard {
    client: Client,
    name: Option<String>,
    slot: Option<Slot>,
}

impl Guard {
    fn disarm(&mut self) -> Option<Slot> {
        self.name = None;
        self.slot.take()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let (Some(name), slot) = (self.name.take(), self.slot.take()) else { return };
        let client = self.client.clone();
        // outside a runtime (at its very end) the sweep and the reaper do it
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { retire(&client, &name, slot).await });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::Preset;

    fn ready() -> Ready {
        let limits = Preset::Judge.limits();
        Ready {
            version: VERSION,
            cgroup_version: 1,
            memory_bytes: SandboxPlan::container_memory(&limits, MemoryOverheads::default()),
            pids: u64::from(SandboxPlan::container_pids(&limits, MemoryOverheads::default())),
            nano_cpus: 1_000_000_000,
            cap_bnd: SPLIT_CAPS,
            cap_eff: SPLIT_CAPS,
            no_new_privs: true,
            seccomp: 2,
            only_loopback: true,
            readonly_root: true,
            box_tmpfs: true,
            ..Ready::default()
        }
    }

    #[test]
    fn a_sandbox_that_is_what_we_asked_for_is_trusted() {
        let limits = Preset::Judge.limits();
        verify(&ready(), &limits, Isolation::Split, MemoryOverheads::default()).unwrap();
        let cell = Ready { uid: 52_000, cap_bnd: 0, cap_eff: 0, ..ready() };
        verify(&cell, &limits, Isolation::Cell, MemoryOverheads::default()).unwrap();
        assert!(
            verify(&ready(), &limits, Isolation::Cell, MemoryOverheads::default()).is_err()
                && verify(&cell, &limits, Isolation::Split, MemoryOverheads::default()).is_err()
        );
    }

    #[test]
    fn a_sandbox_that_is_not_what_we_asked_for_is_broken() {
        let breaks: [fn(&mut Ready); 10] = [
            |ready| ready.memory_bytes = u64::MAX,
            |ready| ready.swap_bytes = u64::MAX,
            |ready| ready.pids = u64::MAX,
            |ready| ready.nano_cpus = u64::MAX,
            |ready| ready.cap_bnd |= 1 << 21,
            |ready| ready.no_new_privs = false,
            |ready| ready.seccomp = 0,
            |ready| ready.only_loopback = false,
            |ready| ready.readonly_root = false,
            |ready| ready.cgroup_version = 0,
        ];
        for break_it in breaks {
            let mut ready = ready();
            break_it(&mut ready);
            assert!(verify(&ready, &Preset::Judge.limits(), Isolation::Split, MemoryOverheads::default()).is_err());
        }
    }
}
