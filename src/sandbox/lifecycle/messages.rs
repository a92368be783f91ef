//! What handles send to the link task, what a run's handle receives, and why a sandbox is lost.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use wire::frame::{Collect, Collected, Done, OutputStream, Prepare, Put, Ready, Run, SILENCE_LIMIT};

/// Why a sandbox can no longer be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// The link task had ended before the request.
    #[error("the sandbox's connection had ended")]
    Closed,
    /// The engine closed the stream: the init is dead, or the engine is.
    #[error("the attach stream ended")]
    Eof,
    #[error("the attach stream failed: {0}")]
    Io(String),
    /// The stream or a frame violates the protocol.
    #[error("the sandbox broke the protocol: {0}")]
    Protocol(String),
    /// The init reported an internal error.
    #[error("the init gave up: {0}")]
    Fault(String),
    /// The init ended because no later run could begin.
    #[error("earlier runs left sockets that are still in use")]
    SocketsLeft,
    /// The kernel killed a process for memory that the program did not use.
    #[error("a process was killed for memory although the program was within its limit")]
    OutOfMemory,
    /// No frame arrived within [`SILENCE_LIMIT`], or no Ready within its deadline.
    #[error("the init was silent for {} s", SILENCE_LIMIT.as_secs())]
    Silent,
}

/// Limit on queued commands. A run sends few: a credit per third of a window, and one kill.
pub(super) const MAX_COMMANDS: usize = 64;

/// A request of a handle to the link task.
#[derive(Debug)]
pub(super) enum LinkCommand {
    Run { run: u32, order: Box<RunOrder>, events: mpsc::UnboundedSender<RunEvent> },
    Credit { run: u32, bytes: u32 },
    Input { run: u32, data: Bytes },
    InputEnd { run: u32 },
    Kill { run: u32 },
    Ping { reply: oneshot::Sender<()> },
    Probe { reply: oneshot::Sender<Ready> },
    Prepare(Box<Prepare>),
    DropPrepared,
    Collect { wanted: Collect, reply: oneshot::Sender<Collected> },
    Reset { reply: oneshot::Sender<Vec<String>> },
    Read { file: u32, at: u64, reply: oneshot::Sender<Vec<u8>> },
}

/// What to run: files are written first, then the program is started, then it gets its input.
#[derive(Debug, Clone)]
pub struct RunOrder {
    pub files: Vec<Put>,
    /// The program. The sandbox sets its `run` number.
    pub program: Run,
    /// Standard input. Its end follows unless `stdin_open` is set.
    pub stdin: Bytes,
    /// Whether more input follows through [`RunHandle::input`](super::RunHandle::input), and its
    /// end through [`RunHandle::end_input`](super::RunHandle::end_input).
    pub stdin_open: bool,
}

/// An event of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunEvent {
    Output {
        stream: OutputStream,
        data: Vec<u8>,
    },
    /// End of file on an output; only if the order has `report_output_ends`.
    OutputEnd(OutputStream),
    /// Usage so far; only if the order has a `usage_interval_ns`.
    Usage(Usage),
    /// The program has taken this many bytes of an open input.
    InputTaken(u64),
    /// The run has ended. The last event.
    Done(Box<Done>),
    /// The sandbox was lost. The last event.
    Lost(Lost),
}

/// What a run has used so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Time since the program's start.
    pub wall: Duration,
    /// CPU time of the process tree.
    pub cpu: Duration,
    /// Memory in use, in bytes.
    pub memory_bytes: u64,
}
