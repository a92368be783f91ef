//! The init's own stdout: frames queued, then written as the host takes them.
//!
//! Writing must never block the loop, and fd 1 must not be switched to non-blocking either: the open file description
//! is shared with whoever made the pipe. So the pipe is opened anew through /proc (an open file description of our own);
//! where that fails, poll and pieces of PIPE_BUF do: a pipe that polls writable has room for that much (pipe(7)).
//! The queue needs no bound of its own but a last one: output is bounded by the window, the rest answers the host.

use super::sys;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use wire::codec;
use wire::frame::{FromInit, OutputStream};

use nix::libc;

/// A host that lets this much pile up is not draining: the session is over.
const MAX_QUEUED: usize = 4 * 1024 * 1024;

const PIPE_BUF: usize = 4096;

/// The queue.
pub struct Out {
    own: Option<OwnedFd>,
    queue: Vec<u8>,
    written: usize,
}

impl Out {
    /// Opens fd 1 anew. To be made before the process is made undumpable.
    #[must_use]
    pub fn open() -> Self {
        let own = sys::open(c"/proc/self/fd/1", libc::O_WRONLY | libc::O_NONBLOCK).ok();
        Self { own, queue: Vec::with_capacity(256 * 1024), written: 0 }
    }

    /// Queues a frame.
    pub fn frame(&mut self, frame: &FromInit) {
        codec::encode_from_init(frame, &mut self.queue);
    }

    /// Queues output.
    pub fn output(&mut self, run: u32, stream: OutputStream, data: &[u8]) {
        codec::encode_output(run, stream, data, &mut self.queue);
    }

    /// The descriptor to poll for room, when something is queued.
    #[must_use]
    pub fn fd(&self) -> RawFd {
        if self.is_empty() {
            return -1;
        }
        self.own.as_ref().map_or(1, AsRawFd::as_raw_fd)
    }

    /// Whether nothing is queued.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.written == self.queue.len()
    }

    /// Whether the host stopped draining long ago.
    #[must_use]
    pub fn is_over_full(&self) -> bool {
        self.queue.len() - self.written > MAX_QUEUED
    }

    /// Writes what can be written without waiting. `polled`: poll just said there is room. `Err` when nobody reads.
    pub fn flush(&mut self, polled: bool) -> Result<(), sys::Errno> {
        while !self.is_empty() {
            let rest = self.queue.get(self.written..).unwrap_or_default();
            let written = match &self.own {
                Some(fd) => sys::write(fd.as_raw_fd(), rest),
                None if polled => sys::write(1, rest.get(..PIPE_BUF).unwrap_or(rest)),
                None => return Ok(()),
            };
            match written {
                Ok(n) => self.written += n,
                Err(libc::EAGAIN) => return Ok(()),
                Err(e) => return Err(e),
            }
            if self.own.is_none() {
                break;
            }
        }
        if self.is_empty() {
            self.queue.clear();
            self.written = 0;
        }
        Ok(())
    }
}
