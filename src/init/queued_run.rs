//! A run that arrived while another one is running.
//!
//! ```text
//!  Run during a run --> QueuedRun: its input and its Kill are buffered
//!                        |  the current cell may serve it with an exec: it gets pipes and is sent
//!                        |  to the cell init; from now on its input goes into the pipe too
//!                        v
//!                       SentRun: the cell init starts it as soon as it has reported an unchanged
//!                                cell, without waiting for the init
//!  the current run is over:
//!     its cell was kept                   -> the queued run becomes the current run, counted from
//!                                            the snapshot in between
//!     its cell is gone, or nothing sent   -> started like any other run; whatever it did in the
//!                                            old cell is lost with that cell
//! ```
//!
//! The init learns a little later that the sent run has started. Until then its limits are not
//! enforced, so the current run must not delay the init: if its output cannot be passed on at once,
//! its cell is killed, and the queued run starts in another cell.

use super::cpu_ledger::RunBaseline;
use super::input::{BufferedInput, Overrun};
use super::setup::{self, StdioEnds};
use super::sys;
use std::os::fd::{AsRawFd, OwnedFd};
use wire::codec;
use wire::frame::Run;

/// Longest Run frame that is sent in advance. It must fit into a socket's buffer, because the cell
/// init does not read it yet.
const MAX_SENT_BYTES: usize = 32 * 1024;

/// The run that is next.
pub struct QueuedRun {
    pub run: Run,
    /// What arrived for it.
    pub input: BufferedInput,
    /// Set once it was sent to the cell init.
    pub sent: Option<SentRun>,
}

/// A run that was sent to a cell init in advance.
pub struct SentRun {
    /// Our ends of its pipes.
    pub stdio: StdioEnds,
    /// When it was sent; monotonic, in nanoseconds.
    pub at: u64,
    /// How many bytes of its input are in the pipe.
    pub written: usize,
}

/// What a run inherits from the run right before it.
pub struct RunHandover {
    /// The counters between the two runs.
    pub baseline: RunBaseline,
    /// Set if the run was sent to the cell init already.
    pub sent: Option<SentRun>,
}

impl QueuedRun {
    #[must_use]
    pub fn new(run: Run) -> Self {
        Self { run, input: BufferedInput::default(), sent: None }
    }

    /// Sends it to a cell init. Returns whether that succeeded.
    pub fn send(&mut self, control: &OwnedFd) -> bool {
        let mut frame = Vec::new();
        codec::encode_run(&Run { hot: false, ..self.run.clone() }, &mut frame);
        if frame.len() > MAX_SENT_BYTES {
            return false;
        }
        let Ok((stdio, [stdin, stdout, stderr])) = setup::stdio() else { return false };
        let at = sys::now();
        let sent = sys::send_fds(control, 0, [&stdin, &stdout, &stderr]);
        if sent.and_then(|()| sys::write_all(control.as_raw_fd(), &frame)).is_err() {
            return false;
        }
        self.sent = Some(SentRun { stdio, at, written: 0 });
        true
    }

    /// Takes input from the daemon. It is buffered in any case, because a run that has to be
    /// started again needs it again.
    pub fn feed(&mut self, data: &[u8]) -> Result<(), Overrun> {
        self.input.feed(data)?;
        if let Some(sent) = &mut self.sent {
            let rest = self.input.data().get(sent.written..).unwrap_or_default();
            // what does not fit, or cannot be written, is written later
            sent.written += sys::write(sent.stdio.stdin.as_raw_fd(), rest).unwrap_or(0);
        }
        Ok(())
    }
}
