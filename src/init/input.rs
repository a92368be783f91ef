//! A program's input: bytes from the daemon that the program has not read yet, within the window.
//!
//! ```text
//!  Stdin --> pending --> the pipe, as far as it has room --> credit back to the daemon
//!  End of input and nothing pending, or the program closed its end: the pipe is closed; what still
//!  arrives is discarded and credited.
//! ```

use super::frame_queue::FrameQueue;
use super::sys;
use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use wire::frame::{FromInit, STDIN_WINDOW_BYTES};

use nix::libc;

/// The daemon sent more than the window allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overrun;

/// The input of a running program.
pub struct Input {
    run: u32,
    /// `None` when closed.
    pipe: Option<OwnedFd>,
    pending: VecDeque<u8>,
    is_ended: bool,
    /// Bytes taken and not yet credited.
    uncredited: usize,
}

/// Credit is sent for this many bytes at once, so that a conversation in short lines costs no
/// frames of credit. Less than what the daemon sends ahead of the credit.
const CREDIT_BYTES: usize = STDIN_WINDOW_BYTES as usize / 4;

impl Input {
    /// `pipe` must be non-blocking.
    #[must_use]
    pub fn new(run: u32, pipe: OwnedFd) -> Self {
        Self { run, pipe: Some(pipe), pending: VecDeque::new(), is_ended: false, uncredited: 0 }
    }

    /// Takes input from the daemon.
    pub fn feed(&mut self, data: &[u8], out: &mut FrameQueue) -> Result<(), Overrun> {
        if self.pipe.is_none() {
            self.credit(data.len(), out);
            return Ok(());
        }
        if self.pending.len() + data.len() > STDIN_WINDOW_BYTES as usize {
            return Err(Overrun);
        }
        self.pending.extend(data);
        self.write(out);
        Ok(())
    }

    /// The daemon sent the end of the input.
    pub fn end(&mut self) {
        self.is_ended = true;
        if self.pending.is_empty() {
            self.pipe = None;
        }
    }

    /// Closes the pipe and drops what is pending.
    pub fn close(&mut self) {
        self.pending.clear();
        self.pipe = None;
    }

    /// Writes what the pipe has room for.
    pub fn write(&mut self, out: &mut FrameQueue) {
        let mut taken = 0;
        while let Some(pipe) = &self.pipe {
            let piece = self.pending.as_slices().0;
            if piece.is_empty() {
                if self.is_ended {
                    self.pipe = None;
                }
                break;
            }
            match sys::write(pipe.as_raw_fd(), piece) {
                Ok(n) => {
                    self.pending.drain(..n);
                    taken += n;
                }
                Err(libc::EAGAIN) => break,
                // The program closed its end: discard the rest and what still arrives.
                Err(_) => {
                    taken += self.pending.len();
                    self.pending = VecDeque::new();
                    self.pipe = None;
                }
            }
        }
        self.credit(taken, out);
    }

    fn credit(&mut self, bytes: usize, out: &mut FrameQueue) {
        self.uncredited += bytes;
        if self.uncredited >= CREDIT_BYTES {
            let bytes = u32::try_from(std::mem::take(&mut self.uncredited)).unwrap_or(u32::MAX);
            out.push(&FromInit::StdinCredit { run: self.run, bytes });
        }
    }

    /// The pipe for poll, while bytes are pending; otherwise -1.
    #[must_use]
    pub fn poll_fd(&self) -> RawFd {
        match &self.pipe {
            Some(pipe) if !self.pending.is_empty() => pipe.as_raw_fd(),
            _ => -1,
        }
    }
}

/// What arrived for a run before it started.
#[derive(Default)]
pub struct BufferedInput {
    data: Vec<u8>,
    is_ended: bool,
    is_killed: bool,
}

impl BufferedInput {
    /// Takes input from the daemon.
    pub fn feed(&mut self, data: &[u8]) -> Result<(), Overrun> {
        if self.data.len() + data.len() > STDIN_WINDOW_BYTES as usize {
            return Err(Overrun);
        }
        self.data.extend_from_slice(data);
        Ok(())
    }

    /// All input so far.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// The daemon sent the end of the input.
    pub fn end(&mut self) {
        self.is_ended = true;
    }

    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// The daemon sent a Kill.
    pub fn kill(&mut self) {
        self.is_killed = true;
    }

    #[must_use]
    pub fn is_killed(&self) -> bool {
        self.is_killed
    }
}
