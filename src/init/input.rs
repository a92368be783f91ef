//! A program's input: what the host has sent and the program has not taken, within the window; and what came for a run that is
//! still waiting for the one before it.
//!
//! ```text
//!  Stdin --> pending --> the pipe (as far as there is room) --> credit back to the host
//!  the end came and nothing is pending, or nobody reads any more: closed; what still comes is thrown away and credited
//! ```

use super::output::Out;
use super::run::Active;
use super::sys;
use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use wire::frame::{FromInit, STDIN_WINDOW_BYTES};

use nix::libc;

/// More came than the window lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overrun;

/// The input of a program under way.
pub struct Input {
    run: u32,
    fd: Option<OwnedFd>,
    pending: VecDeque<u8>,
    is_ended: bool,
    /// Of what comes first, so much is in the pipe already.
    passed: usize,
}

impl Input {
    /// Of this run, into this pipe, which does not block.
    #[must_use]
    pub fn new(run: u32, fd: OwnedFd) -> Self {
        Self { run, fd: Some(fd), pending: VecDeque::new(), is_ended: false, passed: 0 }
    }

    /// So much of what comes first is in the pipe already.
    pub fn set_passed(&mut self, bytes: usize) {
        self.passed = bytes;
    }

    /// Input came.
    pub fn feed(&mut self, data: &[u8], out: &mut Out) -> Result<(), Overrun> {
        let (passed, data) = data.split_at(self.passed.min(data.len()));
        self.passed -= passed.len();
        self.credit(passed.len(), out);
        if self.fd.is_none() {
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

    /// The input's end came.
    pub fn end(&mut self) {
        self.is_ended = true;
        if self.pending.is_empty() {
            self.fd = None;
        }
    }

    /// The program is not to have any more.
    pub fn close(&mut self) {
        self.pending.clear();
        self.fd = None;
    }

    /// The pipe may take bytes.
    pub fn write(&mut self, out: &mut Out) {
        let mut taken = 0;
        while let Some(fd) = &self.fd {
            let piece = self.pending.as_slices().0;
            if piece.is_empty() {
                if self.is_ended {
                    self.fd = None;
                }
                break;
            }
            match sys::write(fd.as_raw_fd(), piece) {
                Ok(n) => {
                    self.pending.drain(..n);
                    taken += n;
                }
                Err(libc::EAGAIN) => break,
                // Nobody reads any more: the rest is thrown away, and so is what still comes.
                Err(_) => {
                    taken += self.pending.len();
                    self.pending = VecDeque::new();
                    self.fd = None;
                }
            }
        }
        self.credit(taken, out);
    }

    fn credit(&self, bytes: usize, out: &mut Out) {
        if bytes > 0 {
            out.frame(&FromInit::StdinCredit { run: self.run, bytes: u32::try_from(bytes).unwrap_or(u32::MAX) });
        }
    }

    /// For poll: the pipe, when something waits for it.
    #[must_use]
    pub fn poll_fd(&self) -> RawFd {
        match &self.fd {
            Some(fd) if !self.pending.is_empty() => fd.as_raw_fd(),
            _ => -1,
        }
    }
}

/// What came for a run before it began.
#[derive(Default)]
pub struct Early {
    data: Vec<u8>,
    is_ended: bool,
    is_killed: bool,
}

impl Early {
    /// Input came.
    pub fn feed(&mut self, data: &[u8]) -> Result<(), Overrun> {
        if self.data.len() + data.len() > STDIN_WINDOW_BYTES as usize {
            return Err(Overrun);
        }
        self.data.extend_from_slice(data);
        Ok(())
    }

    /// What came, from the start.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// The input's end came.
    pub fn end(&mut self) {
        self.is_ended = true;
    }

    /// A Kill came.
    pub fn kill(&mut self) {
        self.is_killed = true;
    }

    /// The run has begun.
    pub fn replay(self, active: Option<&mut Active>, now: u64, out: &mut Out) {
        let Some(active) = active else { return };
        // within the window, as it was when it came
        let _ = active.input.feed(&self.data, out);
        if self.is_ended {
            active.input.end();
        }
        if self.is_killed {
            active.kill(now);
        }
    }
}
