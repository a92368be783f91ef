//! A program's output: its two pipes, read within the daemon's window and the run's limit.
//!
//! ```text
//!            read
//!  a pipe ---------> below the limit: sent to the daemon, whose credit makes room again
//!                    beyond the limit: counted and discarded; the run may end for it
//!                    end of file: closed, and reported if the daemon asked for that
//! ```

use super::frame_queue::FrameQueue;
use super::pace::Pace;
use super::sys;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use wire::frame::{FromInit, MAX_CHUNK_BYTES, OUTPUT_WINDOW_BYTES, OutputStream, Run};

use nix::libc;

/// The outputs of a running program. Index 0 is stdout, 1 is stderr.
pub struct Outputs {
    run: u32,
    pipes: [Option<OwnedFd>; 2],
    /// Bytes read from each pipe.
    counted: [u64; 2],
    /// Bytes sent to the daemon.
    sent: u64,
    /// Bytes sent and not credited yet.
    unacked: u64,
    limit: u64,
    /// Whether the daemon is told of ends: then another program waits for the output.
    reports_ends: bool,
    is_discarding: bool,
    pace: Pace,
}

/// Result of one read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadOutcome {
    /// No data, no room in the window, or end of file.
    Nothing,
    Data,
    /// Bytes beyond the run's limit.
    OverLimit,
}

impl Outputs {
    /// The pipes are stdout's and stderr's, non-blocking.
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
            is_discarding: false,
            pace: Pace::default(),
        }
    }

    /// The daemon consumed this many bytes.
    pub fn credit(&mut self, bytes: u32) {
        self.unacked = self.unacked.saturating_sub(u64::from(bytes));
    }

    /// From now on, output is counted and discarded.
    pub fn discard(&mut self) {
        self.is_discarding = true;
    }

    #[must_use]
    pub fn is_discarding(&self) -> bool {
        self.is_discarding
    }

    /// Closes both pipes.
    pub fn close(&mut self) {
        self.pipes = [None, None];
    }

    /// Whether both pipes have ended.
    #[must_use]
    pub fn have_ended(&self) -> bool {
        self.pipes.iter().all(Option::is_none)
    }

    /// Bytes read so far from stdout and stderr.
    #[must_use]
    pub fn counted(&self) -> [u64; 2] {
        self.counted
    }

    /// Until when nothing is to be read, if it is to wait.
    #[must_use]
    pub fn paused_until(&self, now: u64) -> Option<u64> {
        self.pace.paused_until(now)
    }

    /// A pipe for poll, if it may be read now; otherwise -1.
    #[must_use]
    pub fn poll_fd(&self, i: usize, now: u64) -> RawFd {
        match self.pipes.get(i) {
            Some(Some(fd)) if self.room() > 0 && self.paused_until(now).is_none() => fd.as_raw_fd(),
            _ => -1,
        }
    }

    /// Bytes that may still be sent for this run.
    fn allowance(&self) -> u64 {
        self.limit.saturating_sub(self.sent)
    }

    /// How many bytes one read may take: what is left of the window while bytes are sent, a chunk
    /// when they are discarded.
    fn room(&self) -> u64 {
        let chunk = MAX_CHUNK_BYTES as u64;
        if self.is_discarding || self.allowance() == 0 {
            return chunk;
        }
        let window = u64::from(OUTPUT_WINDOW_BYTES).saturating_sub(self.unacked);
        chunk.min(window).min(self.allowance())
    }

    /// Reads one of the pipes, once.
    pub fn read(&mut self, i: usize, now: u64, buffer: &mut [u8], out: &mut FrameQueue) -> ReadOutcome {
        let room = usize::try_from(self.room()).unwrap_or(0);
        let (Some(Some(fd)), Some(buffer)) = (self.pipes.get(i), buffer.get_mut(..room)) else {
            return ReadOutcome::Nothing;
        };
        if room == 0 {
            return ReadOutcome::Nothing;
        }
        let stream = if i == 0 { OutputStream::Stdout } else { OutputStream::Stderr };
        let n = match sys::read(fd.as_raw_fd(), buffer) {
            Err(libc::EAGAIN) => return ReadOutcome::Nothing,
            Ok(0) | Err(_) => {
                if let Some(pipe) = self.pipes.get_mut(i) {
                    *pipe = None;
                }
                if self.reports_ends {
                    out.push(&FromInit::OutputEnd { run: self.run, stream });
                }
                return ReadOutcome::Nothing;
            }
            Ok(n) => n,
        };
        if let Some(counted) = self.counted.get_mut(i) {
            *counted += n as u64;
        }
        if !self.reports_ends {
            self.pace.note(n, now);
        }
        if self.allowance() == 0 {
            return ReadOutcome::OverLimit;
        }
        if !self.is_discarding {
            out.push_output(self.run, stream, buffer.get(..n).unwrap_or_default());
            self.sent += n as u64;
            self.unacked += n as u64;
        }
        ReadOutcome::Data
    }
}
