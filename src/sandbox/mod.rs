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
//! [`HEARTBEAT`](crate::wire::frame::HEARTBEAT), and routes frames to the one run that may be under way. A
//! [`Sandbox`] is a handle on that task; dropping it ends the sandbox. There is no way to put one back
//! (invariant 3): the pool hands out the handle itself.
//!
//! This module refuses to know verdicts, queues and profiles.

mod create;
mod link;
mod retire;
mod run;

pub(crate) use create::short;
pub use create::{CreateError, Recipe, create, ensure_limits};
pub use link::Lost;
pub use retire::{Slot, Slots, sweep};
pub use run::{RunEvent, RunHandle, RunOrder};

use std::time::Instant;

use tokio::sync::{mpsc, oneshot, watch};

use crate::wire::frame::Ready;
use link::Command;

/// A sandbox that said Ready.
#[derive(Debug)]
pub struct Sandbox {
    id: String,
    ready: Ready,
    born: Instant,
    commands: mpsc::Sender<Command>,
    ended: watch::Receiver<bool>,
    next_run: u32,
}

impl Sandbox {
    /// The container's id.
    pub fn id(&self) -> &str {
        &self.id
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
