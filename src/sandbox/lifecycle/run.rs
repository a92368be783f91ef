//! One run on a sandbox, as its consumer sees it.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::link::{Command, Lost};
use wire::frame::{Done, OUTPUT_WINDOW_BYTES, OutputStream, Put, Run};

/// What to run: files first, then the program, then its input.
#[derive(Debug, Clone)]
pub struct RunOrder {
    /// Files to write before.
    pub files: Vec<Put>,
    /// The program (its `run` number is set by the sandbox).
    pub program: Run,
    /// Standard input, ended when it has all been sent.
    pub stdin: Bytes,
    /// Whether more input follows by [`RunHandle::input`] and the end by [`RunHandle::end_input`].
    pub stdin_open: bool,
}

/// What happens in a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunEvent {
    /// Output came.
    Output {
        /// Which stream.
        stream: OutputStream,
        /// The bytes.
        data: Vec<u8>,
    },
    /// An output has ended, where the order asked to be told.
    OutputEnd(OutputStream),
    /// What is used so far, where the order asked to be told.
    Usage(Usage),
    /// The program has taken so much of an open input.
    InputTaken(u64),
    /// The run has ended: the last event.
    Done(Box<Done>),
    /// The sandbox was lost: the last event.
    Lost(Lost),
}

/// What a run has used so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Since the program's start.
    pub wall: Duration,
    /// CPU time of the tree.
    pub cpu: Duration,
    /// Memory in use, in bytes.
    pub memory_bytes: u64,
}

/// A run under way.
#[derive(Debug)]
pub struct RunHandle {
    run: u32,
    events: mpsc::UnboundedReceiver<RunEvent>,
    commands: mpsc::Sender<Command>,
    unacked: u32,
    /// Input given and not yet taken, in bytes.
    ahead: u64,
    over: bool,
}

impl RunHandle {
    pub(super) fn new(
        run: u32,
        events: mpsc::UnboundedReceiver<RunEvent>,
        commands: mpsc::Sender<Command>,
    ) -> RunHandle {
        RunHandle { run, events, commands, unacked: 0, ahead: 0, over: false }
    }

    /// The next event. The queue behind this call is bounded by the window, whatever the program prints; what lets the
    /// init send more is [`RunHandle::credit`]. Cancel-safe.
    pub async fn next(&mut self) -> RunEvent {
        let event = self.events.recv().await.unwrap_or(RunEvent::Lost(Lost::Closed));
        match &event {
            RunEvent::Output { data, .. } => self.unacked += data.len() as u32,
            RunEvent::InputTaken(bytes) => self.ahead = self.ahead.saturating_sub(*bytes),
            RunEvent::Done(_) | RunEvent::Lost(_) => self.over = true,
            RunEvent::OutputEnd(_) | RunEvent::Usage(_) => {}
        }
        event
    }

    /// The output that came has been dealt with: more may come.
    pub async fn credit(&mut self) {
        if self.owes_credit() {
            let bytes = std::mem::take(&mut self.unacked);
            let _ = self.commands.send(Command::Credit { run: self.run, bytes }).await;
        }
    }

    /// Whether so much output came that the init soon waits for credit.
    pub fn owes_credit(&self) -> bool {
        self.unacked >= OUTPUT_WINDOW_BYTES / 3
    }

    /// More of an open input. Whoever gives it bounds it, by [`RunHandle::input_ahead`].
    pub async fn input(&mut self, data: Bytes) {
        self.ahead += data.len() as u64;
        let _ = self.commands.send(Command::Input { run: self.run, data }).await;
    }

    /// Nothing more comes.
    pub async fn end_input(&self) {
        let _ = self.commands.send(Command::InputEnd { run: self.run }).await;
    }

    /// Bytes that were given and that the program has not taken yet.
    pub fn input_ahead(&self) -> u64 {
        self.ahead
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
