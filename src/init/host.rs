//! The host's side of the init: frames in from fd 0, frames out to fd 1, never blocking.

use std::collections::VecDeque;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::End;
use crate::wire::codec::{decode_to_init, encode_from_init};
use crate::wire::frame::{FromInit, ToInit};
use crate::wire::stream::FrameReader;

pub(super) struct Host {
    frames: FrameReader,
    out: VecDeque<u8>,
    scratch: Vec<u8>,
    buffer: Vec<u8>,
}

impl Host {
    pub(super) fn new() -> Result<Host, End> {
        // the write end is ours alone: no program ever shares it
        fcntl(std::io::stdout(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(Host { frames: FrameReader::new(), out: VecDeque::new(), scratch: Vec::new(), buffer: vec![0; 64 * 1024] })
    }

    /// Reads once; end-of-file is the sandbox's end.
    pub(super) fn fill(&mut self) -> Result<(), End> {
        match nix::unistd::read(std::io::stdin(), &mut self.buffer) {
            Ok(0) => Err(End::Left),
            Ok(n) => {
                self.frames.push(&self.buffer[..n]);
                Ok(())
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(()),
            Err(_) => Err(End::Left),
        }
    }

    /// The next whole frame.
    pub(super) fn next(&mut self) -> Result<Option<ToInit>, End> {
        match self.frames.next() {
            Ok(None) => Ok(None),
            Ok(Some(body)) => decode_to_init(body).map(Some).map_err(|error| End::Broken(error.to_string())),
            Err(error) => Err(End::Broken(error.to_string())),
        }
    }

    pub(super) fn send(&mut self, frame: &FromInit) {
        self.scratch.clear();
        encode_from_init(frame, &mut self.scratch);
        self.out.extend(&self.scratch);
    }

    pub(super) fn has_output(&self) -> bool {
        !self.out.is_empty()
    }

    /// Bytes that the engine has not taken yet.
    pub(super) fn pending(&self) -> usize {
        self.out.len()
    }

    /// Writes what the pipe takes.
    pub(super) fn flush(&mut self) -> Result<(), End> {
        while !self.out.is_empty() {
            match nix::unistd::write(std::io::stdout(), self.out.as_slices().0) {
                Ok(n) => drop(self.out.drain(..n)),
                Err(Errno::EAGAIN) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(_) => return Err(End::Left),
            }
        }
        Ok(())
    }
}
