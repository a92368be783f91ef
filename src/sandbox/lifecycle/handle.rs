//! The handle of a ready sandbox.

use std::time::{Duration, Instant};

use protocol::Isolation;
use tokio::sync::{mpsc, oneshot, watch};
use wire::frame::{Collect, Collected, Prepare, Ready, Refused};

use super::id::ContainerId;
use super::messages::{LinkCommand, Lost, RunOrder};
use super::prewarm::{PrewarmState, RuntimeChoice, SharedPrewarmState};
use super::run::RunHandle;
use crate::policy::MemoryOverheads;

/// The proof that a used sandbox is as clean as a new one. Only [`Sandbox::audit`] creates it.
#[derive(Debug)]
pub struct Audited(());

/// The result of an audit.
#[derive(Debug)]
pub enum AuditOutcome {
    Clean(Audited),
    /// What the last run left behind, one sentence each.
    Residue(Vec<String>),
}

/// Files that a run left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CollectedFiles {
    /// Path and content of each file.
    pub files: Vec<(String, Vec<u8>)>,
    /// Paths that matched and were not collected.
    pub refused: Vec<(String, Refused)>,
}

/// A sandbox whose init has reported Ready. Dropping it ends the sandbox.
#[derive(Debug)]
pub struct Sandbox {
    parts: SandboxParts,
    ready_since: Instant,
    next_run: u32,
    /// Ids of the runtimes that the init was asked for; `None` before the first request.
    prewarmed: Option<Vec<u32>>,
}

/// What a creation hands over to the handle.
#[derive(Debug)]
pub(super) struct SandboxParts {
    pub(super) id: ContainerId,
    pub(super) isolation: Isolation,
    pub(super) overheads: MemoryOverheads,
    pub(super) ready: Ready,
    /// The profile's runtimes.
    pub(super) runtimes: Vec<Prepare>,
    pub(super) commands: mpsc::Sender<LinkCommand>,
    pub(super) ended: watch::Receiver<bool>,
    pub(super) prewarm_state: SharedPrewarmState,
}

impl Sandbox {
    pub(super) fn new(parts: SandboxParts) -> Sandbox {
        Sandbox { parts, ready_since: Instant::now(), next_run: 1, prewarmed: None }
    }

    pub fn id(&self) -> &ContainerId {
        &self.parts.id
    }

    pub fn isolation(&self) -> Isolation {
        self.parts.isolation
    }

    pub fn overheads(&self) -> MemoryOverheads {
        self.parts.overheads
    }

    /// What the init saw of its sandbox, at its start or at the last [`Sandbox::probe`].
    pub fn ready(&self) -> &Ready {
        &self.parts.ready
    }

    /// Whether the init sees what its programs use, so that it can keep each to its memory limit.
    pub fn sees_memory(&self) -> bool {
        self.parts.ready.cgroup_version > 0 && self.parts.ready.memory_bytes > 0
    }

    /// Time since the init reported Ready.
    pub fn age(&self) -> Duration {
        self.ready_since.elapsed()
    }

    /// Whether the connection has ended.
    pub fn is_lost(&self) -> bool {
        *self.parts.ended.borrow()
    }

    /// Becomes true when the connection ends. Does not keep the sandbox alive.
    pub fn watch_end(&self) -> watch::Receiver<bool> {
        self.parts.ended.clone()
    }

    /// Prewarms the profile's runtimes, once. Does not wait: a run that comes before they
    /// are ready starts without them.
    pub fn prewarm(&mut self) {
        if self.prewarmed.is_none() {
            self.prewarm_for(&RuntimeChoice::All);
        }
    }

    /// Prewarms those of these runtimes that were not asked for before; the init starts them again
    /// after each audit. Does not wait.
    pub fn prewarm_for(&mut self, choice: &RuntimeChoice) {
        let asked_for = self.prewarmed.get_or_insert_default();
        let missing = |runtime: &&Prepare| choice.wants(runtime) && !asked_for.contains(&runtime.id);
        let missing: Vec<Prepare> = self.parts.runtimes.iter().filter(missing).cloned().collect();
        asked_for.extend(missing.iter().map(|runtime| runtime.id));
        self.parts.prewarm_state.lock().wanted = asked_for.len();
        for prepare in missing {
            let _ = self.parts.commands.try_send(LinkCommand::Prepare(Box::new(prepare)));
        }
    }

    /// Ends the runtimes if there are some that are not wanted, so that the next audit does not
    /// start them again. To be followed by an audit and [`Sandbox::prewarm_for`].
    pub fn drop_unwanted(&mut self, choice: &RuntimeChoice) {
        let Some(asked_for) = &mut self.prewarmed else { return };
        let is_wanted = |runtime: &Prepare| choice.wants(runtime) || !asked_for.contains(&runtime.id);
        if !self.parts.runtimes.iter().all(is_wanted) {
            asked_for.clear();
            *self.parts.prewarm_state.lock() = PrewarmState::default();
            let _ = self.parts.commands.try_send(LinkCommand::DropPrepared);
        }
    }

    /// Ends the prewarmed runtimes for good, to free their memory. Returns before they have ended.
    ///
    /// # Errors
    /// The sandbox is lost.
    pub async fn drop_prewarmed(&mut self) -> Result<(), Lost> {
        self.prewarmed = Some(Vec::new());
        self.parts.runtimes.clear();
        *self.parts.prewarm_state.lock() = PrewarmState::default();
        self.parts.commands.send(LinkCommand::DropPrepared).await.map_err(|_| Lost::Closed)
    }

    /// What is known about the prewarmed runtimes.
    pub fn prewarm_state(&self) -> PrewarmState {
        self.parts.prewarm_state.lock().clone()
    }

    /// Starts a run. The frames are queued when this returns; events come from the handle.
    ///
    /// Dropping the handle before the run has ended kills the program; the sandbox can then only be
    /// retired.
    pub fn run(&mut self, order: RunOrder) -> RunHandle {
        let run = self.next_run;
        self.next_run += 1;
        let (events, receiver) = mpsc::unbounded_channel();
        // A full or closed queue means that the link has ended: the sender of events is dropped,
        // and the handle reports Lost.
        let _ = self.parts.commands.try_send(LinkCommand::Run { run, order: Box::new(order), events });
        RunHandle::new(run, receiver, self.parts.commands.clone())
    }

    /// Sends a command with a reply channel and waits for the reply.
    async fn request<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> LinkCommand) -> Result<T, Lost> {
        let (reply, answer) = oneshot::channel();
        self.parts.commands.send(command(reply)).await.map_err(|_| Lost::Closed)?;
        answer.await.map_err(|_| Lost::Closed)
    }

    /// A round trip to the init, without a program and without an Engine call.
    ///
    /// # Errors
    /// The sandbox is lost.
    pub async fn ping(&self) -> Result<(), Lost> {
        self.request(|reply| LinkCommand::Ping { reply }).await
    }

    /// Removes everything that was written or left, and checks what remains, before the same caller
    /// uses the sandbox again.
    ///
    /// # Errors
    /// The sandbox is lost.
    pub async fn audit(&mut self) -> Result<AuditOutcome, Lost> {
        let residue = self.request(|reply| LinkCommand::Reset { reply }).await?;
        Ok(if residue.is_empty() { AuditOutcome::Clean(Audited(())) } else { AuditOutcome::Residue(residue) })
    }

    /// Reads files that the last run left. Between runs only.
    ///
    /// # Errors
    /// The sandbox is lost.
    pub async fn collect(&mut self, wanted: Collect) -> Result<CollectedFiles, Lost> {
        let mut bytes_left = wanted.max_bytes;
        let Collected { files, refused } = self.request(|reply| LinkCommand::Collect { wanted, reply }).await?;
        let mut collected = CollectedFiles { files: Vec::new(), refused };
        for (index, (path, size)) in files.into_iter().enumerate() {
            bytes_left = bytes_left
                .checked_sub(size)
                .ok_or_else(|| Lost::Protocol("the collected files exceed max_bytes".to_owned()))?;
            let content = self.read_collected(index as u32, size).await?;
            collected.files.push((path, content));
        }
        Ok(collected)
    }

    /// Reads at most `size` bytes of a collected file.
    async fn read_collected(&self, file: u32, size: u64) -> Result<Vec<u8>, Lost> {
        let mut content: Vec<u8> = Vec::new();
        while (content.len() as u64) < size {
            let at = content.len() as u64;
            let piece = self.request(|reply| LinkCommand::Read { file, at, reply }).await?;
            if piece.is_empty() {
                break;
            }
            content.extend_from_slice(&piece);
        }
        content.truncate(usize::try_from(size).unwrap_or(usize::MAX));
        Ok(content)
    }

    /// Asks the init for the limits that it sees now; the result is in [`Sandbox::ready`].
    ///
    /// # Errors
    /// The sandbox is lost.
    pub async fn probe(&mut self) -> Result<(), Lost> {
        self.parts.ready = self.request(|reply| LinkCommand::Probe { reply }).await?;
        Ok(())
    }
}
