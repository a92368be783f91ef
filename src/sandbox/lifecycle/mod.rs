//! One sandbox, from nothing to gone.
//!
//! ```text
//!  Planned --create--> Created --attach--> Attached --start--> Started --Ready frame--> Ready
//!                                                                                         |
//!     Gone <--engine confirms-- Removing <--connection closed-- Spent <--dropped-- Leased, Running
//!
//!  any failure: Broken, then Removing
//! ```
//!
//! One task, the *link*, owns a sandbox's connection from Ready to its end: it always drains, pings every
//! [`HEARTBEAT`](wire::frame::HEARTBEAT), and routes frames to the one run that may be under way. A
//! [`Sandbox`] is a handle on that task; dropping it ends the sandbox. There is no way to put one back
//! (invariant 3): the pool hands out the handle itself.
//!
//! This module refuses to know verdicts, queues and profiles.

pub mod convert;
mod create;
mod link;
mod retire;
mod run;

pub use create::short;
pub use create::{CreateError, CreateOptions, create, ensure_limits};
pub use link::Lost;
pub use retire::{Slot, Slots, sweep};
pub use run::{RunEvent, RunHandle, RunOrder, Usage};

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::{mpsc, oneshot, watch};

use crate::policy::MemoryOverheads;
use link::Command;
use protocol::Isolation;
use wire::frame::{Collect, Collected, Prepare, Ready, Refused};

/// The proof that a used sandbox is as it was when it was new. Only [`Sandbox::audit`] gives one.
#[derive(Debug)]
pub struct Audited(());

/// Files that a run left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CollectedFiles {
    /// Path and bytes.
    pub files: Vec<(String, Vec<u8>)>,
    /// What matched and was not given.
    pub refused: Vec<(String, Refused)>,
}

/// A sandbox that said Ready.
#[derive(Debug)]
pub struct Sandbox {
    id: String,
    isolation: Isolation,
    overheads: MemoryOverheads,
    ready: Ready,
    born: Instant,
    commands: mpsc::Sender<Command>,
    ended: watch::Receiver<bool>,
    next_run: u32,
    prewarm: Vec<Prepare>,
    is_heated: bool,
    heat: Arc<Heat>,
}

/// The runtimes that wait in a sandbox.
#[derive(Debug, Default)]
pub struct Heat {
    state: Mutex<HeatState>,
}

/// What is known of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeatState {
    /// How many are to wait.
    pub wanted: usize,
    /// How many have said that they do.
    pub waiting: usize,
    /// What the sandbox holds beyond what it held when it was new, in bytes.
    pub memory_bytes: u64,
    /// How long they took, in milliseconds.
    pub took_ms: u64,
    /// Why one does not.
    pub failed: Option<String>,
}

impl HeatState {
    /// Whether all wait that are to.
    pub fn is_hot(&self) -> bool {
        self.wanted > 0 && self.waiting >= self.wanted
    }
}

impl Heat {
    /// What is known now.
    pub fn state(&self) -> HeatState {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, HeatState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sandbox {
    /// The container's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How it keeps runs apart.
    pub fn isolation(&self) -> Isolation {
        self.isolation
    }

    /// What the init saw of its sandbox.
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// Time since it became Ready.
    pub fn age(&self) -> std::time::Duration {
        self.born.elapsed()
    }

    /// Whether its connection has ended.
    pub fn is_lost(&self) -> bool {
        *self.ended.borrow()
    }

    /// A watch on its end that doesn't keep it alive.
    pub fn watch_end(&self) -> watch::Receiver<bool> {
        self.ended.clone()
    }

    /// Has its profile's runtimes wait in it from now on. Nobody needs to wait for them: a run that comes before they are
    /// ready does without.
    pub fn heat(&mut self) {
        if !std::mem::replace(&mut self.is_heated, true) {
            self.heat.lock().wanted = self.prewarm.len();
            for prepare in std::mem::take(&mut self.prewarm) {
                let _ = self.commands.try_send(Command::Prepare(Box::new(prepare)));
            }
        }
    }

    /// What is known of its profile's runtimes.
    pub fn heat_state(&self) -> HeatState {
        self.heat.state()
    }

    /// Starts a run. The frames are on their way when this returns; events come from the handle.
    ///
    /// Dropping the handle while the program runs kills the program; the sandbox is then only good for retirement.
    pub fn run(&mut self, order: RunOrder) -> RunHandle {
        let run = self.next_run;
        self.next_run += 1;
        let (events, receiver) = mpsc::unbounded_channel();
        // a full or closed queue means that the link is gone: the events sender is dropped and the handle says Lost
        let _ = self.commands.try_send(Command::Run { run, order: Box::new(order), events });
        RunHandle::new(run, receiver, self.commands.clone())
    }

    /// A round trip to the init: no program, no engine call.
    ///
    /// # Errors
    /// The sandbox is lost.
    pub async fn ping(&self) -> Result<(), Lost> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Ping { reply }).await.map_err(|_| Lost::Closed)?;
        answer.await.map_err(|_| Lost::Closed)
    }

    /// Takes everything away that was put and left, and looks what remains; for use by the same caller again.
    ///
    /// # Errors
    /// The sandbox is lost.
    pub async fn audit(&mut self) -> Result<Result<Audited, Vec<String>>, Lost> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Reset { reply }).await.map_err(|_| Lost::Closed)?;
        let residue = answer.await.map_err(|_| Lost::Closed)?;
        Ok(if residue.is_empty() { Ok(Audited(())) } else { Err(residue) })
    }

    /// Brings back what the last run left of what is wanted: path and bytes each, and what is refused. Between runs.
    ///
    /// # Errors
    /// The sandbox is lost.
    pub async fn collect(&mut self, wanted: Collect) -> Result<CollectedFiles, Lost> {
        let (reply, answer) = oneshot::channel();
        let most = wanted.max_bytes;
        self.commands.send(Command::Collect { wanted, reply }).await.map_err(|_| Lost::Closed)?;
        let Collected { files, refused } = answer.await.map_err(|_| Lost::Closed)?;
        let mut brought = CollectedFiles { files: Vec::new(), refused };
        let mut left = most;
        for (file, (path, size)) in files.into_iter().enumerate() {
            left = left.checked_sub(size).ok_or_else(|| Lost::Protocol("more bytes than are wanted".to_owned()))?;
            let mut bytes: Vec<u8> = Vec::new();
            while (bytes.len() as u64) < size {
                let (reply, answer) = oneshot::channel();
                let at = bytes.len() as u64;
                let piece = Command::Read { file: file as u32, at, reply };
                self.commands.send(piece).await.map_err(|_| Lost::Closed)?;
                let piece = answer.await.map_err(|_| Lost::Closed)?;
                if piece.is_empty() {
                    break;
                }
                bytes.extend_from_slice(&piece);
            }
            bytes.truncate(usize::try_from(size).unwrap_or(usize::MAX));
            brought.files.push((path, bytes));
        }
        Ok(brought)
    }

    /// Asks the init for the limits that it sees now.
    ///
    /// # Errors
    /// The sandbox is lost.
    pub async fn probe(&mut self) -> Result<(), Lost> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Probe { reply }).await.map_err(|_| Lost::Closed)?;
        self.ready = answer.await.map_err(|_| Lost::Closed)?;
        Ok(())
    }
}
