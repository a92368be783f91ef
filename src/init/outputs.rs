//! What a program writes: its two pipes, read within the host's window and the run's limit.
//!
//! ```text
//!            read
//!  a pipe ---------> below the limit: sent to the host; its credit makes room again
//!                    the first byte too many, and what comes after it: thrown away, and said
//!                    its end: closed, and told where the host wants that
//! ```

use super::output::Out;
use super::sys;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use wire::frame::{FromInit, MAX_CHUNK_BYTES, OUTPUT_WINDOW_BYTES, OutputStream, Run};

use nix::libc;

/// The outputs of a program under way.
pub struct Outputs {
    run: u32,
    pipes: [Option<OwnedFd>; 2],
    counted: [u64; 2],
    sent: u64,
    unacked: u64,
    limit: u64,
    reports_ends: bool,
    is_discarded: bool,
}

/// What one read was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// Nothing is there, or nothing may be taken, or that was the end.
    Nothing,
    /// Bytes.
    Some,
    /// Bytes beyond the limit.
    TooMuch,
}

impl Outputs {
    /// Of this run, out of these pipes, stdout first, which do not block.
    #[must_use]
    pub fn new(run: &Run, [stdout, stderr]: [OwnedFd; 2]) -> Self {
        Self {
            run: run.run,
            pipes: [Some(stdout), Some(stderr)],
            counted: [0; 2],
            sent: 0,
            unacked: 0,
            limit: run.limits.output_bytes,
            reports_ends: run.report_output_ends,
            is_discarded: false,
        }
    }

    /// The host consumed so many bytes.
    pub fn credit(&mut self, bytes: u32) {
        self.unacked = self.unacked.saturating_sub(u64::from(bytes));
    }

    /// From now on what comes is counted and thrown away.
    pub fn discard(&mut self) {
        self.is_discarded = true;
    }

    /// Whether it is.
    #[must_use]
    pub fn is_discarded(&self) -> bool {
        self.is_discarded
    }

    /// Nothing more is wanted.
    pub fn close(&mut self) {
        self.pipes = [None, None];
    }

    /// Whether both have ended.
    #[must_use]
    pub fn are_over(&self) -> bool {
        self.pipes.iter().all(Option::is_none)
    }

    /// Bytes that came so far, of stdout and stderr.
    #[must_use]
    pub fn counted(&self) -> [u64; 2] {
        self.counted
    }

    /// For poll: one of them, when reading from it is allowed now.
    #[must_use]
    pub fn poll_fd(&self, i: usize) -> RawFd {
        match self.pipes.get(i) {
            Some(Some(fd)) if self.room() > 0 => fd.as_raw_fd(),
            _ => -1,
        }
    }

    /// Bytes that may still be sent at all.
    fn allowance(&self) -> u64 {
        self.limit.saturating_sub(self.sent)
    }

    /// How many bytes one read may take: the window's rest while bytes are sent, a chunk when they are thrown away.
    fn room(&self) -> u64 {
        let chunk = MAX_CHUNK_BYTES as u64;
        if self.is_discarded || self.allowance() == 0 {
            return chunk;
        }
        let window = u64::from(OUTPUT_WINDOW_BYTES).saturating_sub(self.unacked);
        chunk.min(window).min(self.allowance())
    }

    /// Reads one of them, once.
    pub fn read(&mut self, i: usize, buffer: &mut [u8], out: &mut Out) -> Taken {
        let room = usize::try_from(self.room()).unwrap_or(0);
        let (Some(Some(fd)), Some(buffer)) = (self.pipes.get(i), buffer.get_mut(..room)) else {
            return Taken::Nothing;
        };
        if room == 0 {
            return Taken::Nothing;
        }
        let stream = if i == 0 { OutputStream::Stdout } else { OutputStream::Stderr };
        let n = match sys::read(fd.as_raw_fd(), buffer) {
            Err(libc::EAGAIN) => return Taken::Nothing,
            Ok(0) | Err(_) => {
                if let Some(pipe) = self.pipes.get_mut(i) {
                    *pipe = None;
                }
                if self.reports_ends {
                    out.frame(&FromInit::OutputEnd { run: self.run, stream });
                }
                return Taken::Nothing;
            }
            Ok(n) => n,
        };
        if let Some(counted) = self.counted.get_mut(i) {
            *counted += n as u64;
        }
        if self.allowance() == 0 {
            return Taken::TooMuch;
        }
        if !self.is_discarded {
            out.output(self.run, stream, buffer.get(..n).unwrap_or_default());
            self.sent += n as u64;
            self.unacked += n as u64;
        }
        Taken::Some
    }
}
