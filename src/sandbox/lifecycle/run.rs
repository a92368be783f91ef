//! The handle of a run: its events, its input, and its end.

use bytes::Bytes;
use tokio::sync::mpsc;
use wire::frame::OUTPUT_WINDOW_BYTES;

use super::messages::{LinkCommand, Lost, RunEvent};

/// A run in progress. Dropping the handle before the run has ended kills the program.
#[derive(Debug)]
pub struct RunHandle {
    run: u32,
    events: mpsc::UnboundedReceiver<RunEvent>,
    commands: mpsc::Sender<LinkCommand>,
    /// Output received and not yet credited, in bytes.
    unacked: u32,
    /// Input given and not yet taken, in bytes.
    pending_input: u64,
    has_ended: bool,
}

impl RunHandle {
    pub(super) fn new(
        run: u32,
        events: mpsc::UnboundedReceiver<RunEvent>,
        commands: mpsc::Sender<LinkCommand>,
    ) -> RunHandle {
        RunHandle { run, events, commands, unacked: 0, pending_input: 0, has_ended: false }
    }

    /// The next event. The queue of events is bounded by the output window; [`RunHandle::credit`]
    /// lets the init send more. Cancel-safe.
    pub async fn next(&mut self) -> RunEvent {
        let event = self.events.recv().await.unwrap_or(RunEvent::Lost(Lost::Closed));
        match &event {
            RunEvent::Output { data, .. } => self.unacked += data.len() as u32,
            RunEvent::InputTaken(bytes) => self.pending_input = self.pending_input.saturating_sub(*bytes),
            RunEvent::Done(_) | RunEvent::Lost(_) => self.has_ended = true,
            RunEvent::OutputEnd(_) | RunEvent::Usage(_) => {}
        }
        event
    }

    /// Acknowledges the output received so far, if [`RunHandle::owes_credit`].
    pub async fn credit(&mut self) {
        if self.owes_credit() {
            let bytes = std::mem::take(&mut self.unacked);
            let _ = self.commands.send(LinkCommand::Credit { run: self.run, bytes }).await;
        }
    }

    /// Whether so much output is unacknowledged that the init may soon have to stop sending.
    pub fn owes_credit(&self) -> bool {
        self.unacked >= OUTPUT_WINDOW_BYTES / 3
    }

    /// Adds input to an open one. The caller bounds it with [`RunHandle::pending_input`].
    pub async fn input(&mut self, data: Bytes) {
        self.pending_input += data.len() as u64;
        let _ = self.commands.send(LinkCommand::Input { run: self.run, data }).await;
    }

    /// Ends an open input.
    pub async fn end_input(&self) {
        let _ = self.commands.send(LinkCommand::InputEnd { run: self.run }).await;
    }

    /// Bytes of input that were given and that the program has not taken yet.
    pub fn pending_input(&self) -> u64 {
        self.pending_input
    }

    /// Kills the program. The Done event still follows.
    pub async fn kill(&self) {
        let _ = self.commands.send(LinkCommand::Kill { run: self.run }).await;
    }
}

impl Drop for RunHandle {
    fn drop(&mut self) {
        if !self.has_ended {
            let _ = self.commands.try_send(LinkCommand::Kill { run: self.run });
        }
    }
}
