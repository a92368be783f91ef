//! What runs leave in a sandbox: children that have exited, and what the kernel holds for a while.

use super::{SETTLE_PATIENCE_NS, SandboxState};
use crate::cell;
use crate::reap::{self, Reaped};
use crate::session_end::SessionEnd;
use crate::sys;
use std::fmt;

/// When memory is squeezed for the first time, and how often at most. The time doubles.
const SQUEEZE_AFTER_NS: u64 = 60_000_000;
const MAX_SQUEEZES: u64 = 3;

/// What earlier runs left in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    Sockets,
    Bytes(u64),
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sockets => f.write_str("sockets that are still in use"),
            Self::Bytes(bytes) => write!(f, "{bytes} bytes of memory"),
        }
    }
}

impl From<Left> for SessionEnd {
    fn from(left: Left) -> Self {
        match left {
            Left::Sockets => Self::SocketsLeft,
            Left::Bytes(_) => Self::Fault(format!("earlier runs left {left}")),
        }
    }
}

impl SandboxState {
    /// Reaps the children that have exited. During a run in a cell those that are not the run's
    /// stay zombies: they keep their places in the room for processes, of which the program would
    /// get one more for each.
    pub fn reap(&mut self, now: u64) {
        let is_cell = self.is_cell();
        if let Some(active) = self.active.as_mut().filter(|_| is_cell) {
            if let Reaped::Child(child) = reap::one(active.pid) {
                active.child_exited(child, now);
            }
            self.room.refill(&self.cgroup, self.own_cpu.note_exits());
            return active.settle(false, now, &self.cgroup);
        }
        let childless = loop {
            match reap::next() {
                Reaped::Child(child) if self.pool.reaped(&child) => self.own_cpu.add_exited(&child),
                Reaped::Child(child) => {
                    if self.own_cpu.reaped(&child) {
                        self.wants_fit = true;
                    } else if let Some(active) = &mut self.active {
                        active.child_exited(child, now);
                    }
                    // otherwise an orphan of an engine's exec session
                }
                Reaped::NoneExited => break false,
                Reaped::NoChildren => break true,
            }
        };
        if let Some(active) = &mut self.active {
            active.settle(childless, now, &self.cgroup);
        }
    }

    /// What earlier runs left in the kernel that a run could notice: sockets, which then are in
    /// other sockets, and memory.
    pub(super) fn left_of_earlier_runs(&mut self) -> Option<Left> {
        self.sockets.retain(|sockets| cell::sockets_in_use(sockets) > 0);
        if !self.sockets.is_empty() {
            return Some(Left::Sockets);
        }
        let known = self.known_bytes();
        self.audit_baseline.memory_beyond(&self.cgroup, known).map(Left::Bytes)
    }

    /// Makes the kernel drop what it only remembers (names and inodes of files) and would otherwise
    /// drop on the next program's clock: a helper takes all memory that is left for a moment. At
    /// most [`MAX_SQUEEZES`] times, each after a longer pause in which the kernel may free it by
    /// itself.
    pub(super) fn squeeze(&mut self, now: u64) {
        let since = |settle_by: u64| now.saturating_sub(settle_by.saturating_sub(SETTLE_PATIENCE_NS));
        let waited = self.settle_by.map_or(0, since);
        let due = self.sockets.is_empty() && self.squeezes < MAX_SQUEEZES && waited > SQUEEZE_AFTER_NS << self.squeezes;
        if !due || !self.own_cpu.pids().is_empty() {
            return;
        }
        self.squeezes += 1;
        let limit = self.cgroup.limits().memory;
        match sys::fork() {
            Ok(Some(pid)) => self.own_cpu.add_exiting(pid, Vec::new(), 0),
            Ok(None) => {
                // the OOM killer must take this process
                let score =
                    sys::dumpable().and_then(|()| cell::write_file(c"/proc/self/oom_score_adj", cell::OOM_SCORE));
                let mut taken = if score.is_ok() { self.known_bytes() } else { limit };
                while taken < limit && self.audit_baseline.memory_beyond(&self.cgroup, taken).is_some() {
                    taken += sys::take_memory();
                }
                sys::exit(0)
            }
            Err(_) => {}
        }
    }
}
