//! One run on a sandbox, as its consumer sees it.

use bytes::Bytes;
use tokio::sync::mpsc;

use super::link::{Command, Lost};
use crate::wire::frame::{Done, OUTPUT_WINDOW_BYTES, Put, Run, Stream};

/// What to run: files first, then the program, then its input.
#[derive(Debug, Clone)]
pub struct RunOrder {
    /// Files to write before.
    pub files: Vec<Put>,
    /// The program (its `run` number is set by the sandbox).
    pub program: Run,
    /// Standard input, ended when it has all been sent.
    pub stdin: Bytes,
}

/// What happens in a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunEvent {
    /// Output came.
    Output {
        /// Which stream.
        stream: Stream,
        /// The bytes.
        data: Vec<u8>,
    },
    /// The run has ended: the last event.
    Done(Box<Done>),
    /// The sandbox was lost: the last event.
    Lost(Lost),
}

/// A run under way.
#[derive(Debug)]
pub struct RunHandle {
    run: u32,
    events: mpsc::UnboundedReceiver<RunEvent>,
    commands: mpsc::Sender<Command>,
    unacked: u32,
    over: bool,
}

impl RunHandle {
    pub(super) fn new(
        run: u32,
        events: mpsc::UnboundedReceiver<RunEvent>,
        commands: mpsc::Sender<Command>,
    ) -> RunHandle {
        RunHandle { run, events, commands, unacked: 0, over: false }
    }

    /// The next event. Taking output is what lets the init send more: the queue behind this call is bounded by the
    /// window, whatever the program prints. Cancel-safe.
    pub async fn next(&mut self) -> RunEvent {
        let event = self.events.recv().await.unwrap_or(RunEvent::Lost(Lost::Closed));
        match &event {
            RunEvent::Output { data, .. } => {
                self.unacked += data.len() as u32;
                if self.unacked >= OUTPUT_WINDOW_BYTES / 3 {
                    let bytes = std::mem::take(&mut self.unacked);
                    let _ = self.commands.send(Command::Credit { run: self.run, bytes }).await;
                }
            }
            RunEvent::Done(_) | RunEvent::Lost(_) => self.over = true,
        }
        event
    }

    /// Ends the run at once; Done still comes.
    pub async fn kill(&self) {
        let _ = self.commands.send(Command::Kill { run: self.run }).await;
    }
}

impl Drop for RunHandle {
    fn drop(&mut self) {
        if !self.over {
            let _ = self.commands.try_send(Command::Kill { run: self.run });
        }
    }
}
