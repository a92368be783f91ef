//! Frames to the daemon: queued, then written to stdout as the daemon reads.
//!
//! Writing must never block the loop. But fd 1 must not be made non-blocking either: its open file
//! description is shared with the process that created the pipe. So the pipe is opened again
//! through /proc, which makes a new open file description. Where that fails, the init writes at
//! most PIPE_BUF bytes each time poll reports room, which never blocks (pipe(7)).
//!
//! Output is bounded by its window and everything else answers the daemon, so the queue only needs
//! a last-resort bound.

use super::sys;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use wire::codec;
use wire::frame::{FromInit, OutputStream};

use nix::libc;

/// With this much queued, the daemon has stopped reading and the session ends.
const MAX_QUEUED_BYTES: usize = 4 * 1024 * 1024;

/// The queue and the descriptor it is written to.
pub struct FrameQueue {
    /// Our own open file description of the pipe, non-blocking; `None` where it could not be
    /// opened.
    reopened: Option<OwnedFd>,
    queue: Vec<u8>,
    written: usize,
}

impl FrameQueue {
    /// Opens fd 1 again. To be called before the process is made undumpable.
    #[must_use]
    pub fn open() -> Self {
        let reopened = sys::open(c"/proc/self/fd/1", libc::O_WRONLY | libc::O_NONBLOCK).ok();
        Self { reopened, queue: Vec::with_capacity(256 * 1024), written: 0 }
    }

    /// Queues a frame.
    pub fn push(&mut self, frame: &FromInit) {
        codec::encode_from_init(frame, &mut self.queue);
    }

    /// Queues an Output frame without copying `data` first.
    pub fn push_output(&mut self, run: u32, stream: OutputStream, data: &[u8]) {
        codec::encode_output(run, stream, data, &mut self.queue);
    }

    /// The descriptor to poll for room while something is queued; otherwise -1.
    #[must_use]
    pub fn poll_fd(&self) -> RawFd {
        if self.is_empty() {
            return -1;
        }
        self.reopened.as_ref().map_or(1, AsRawFd::as_raw_fd)
    }

    fn is_empty(&self) -> bool {
        self.written == self.queue.len()
    }

    /// Whether the daemon stopped reading long ago.
    #[must_use]
    pub fn is_over_full(&self) -> bool {
        self.queue.len() - self.written > MAX_QUEUED_BYTES
    }

    /// Writes what can be written without waiting. `has_room`: poll just reported room. An error
    /// means that the daemon closed the pipe.
    pub fn flush(&mut self, has_room: bool) -> Result<(), sys::Errno> {
        while !self.is_empty() {
            let rest = self.queue.get(self.written..).unwrap_or_default();
            let written = match &self.reopened {
                Some(fd) => sys::write(fd.as_raw_fd(), rest),
                None if has_room => sys::write(1, rest.get(..libc::PIPE_BUF).unwrap_or(rest)),
                None => return Ok(()),
            };
            match written {
                Ok(n) => self.written += n,
                Err(libc::EAGAIN) => return Ok(()),
                Err(e) => return Err(e),
            }
            if self.reopened.is_none() {
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
