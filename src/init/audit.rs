//! The audit after a reset: what runs left that could not be removed, and why the sandbox must not
//! be used again.
//!
//! Every check reads the kernel's own tables. The residue contains only our own text and numbers,
//! never a name that a program chose.

use super::cgroup::Cgroup;
use super::files::Files;
use super::sys::{self, Errno};
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use wire::frame::MAX_RESIDUE;

use nix::libc;

/// Memory that may remain in use, kernel memory included: what the kernel remembers of the image's
/// files, and page tables of helpers. Less than a container's reserve.
const SLACK_BYTES: u64 = 5 * 1024 * 1024;

/// The kernel charges in batches of 64 pages on each CPU.
const BATCH_BYTES: u64 = 256 * 1024;
const MAX_BATCHES: u64 = 16;

const MOUNT_TABLE: &str = "/proc/self/mountinfo";

/// The state of the sandbox before its first run.
pub struct AuditBaseline {
    memory: u64,
    unreclaimable: u64,
    mounts: usize,
    /// The open table of mounts, on which poll(2) reports whether they changed since the last poll.
    mount_table: Option<OwnedFd>,
    init_limits: String,
}

impl AuditBaseline {
    /// Memory in use then, in bytes.
    #[must_use]
    pub fn memory(&self) -> u64 {
        self.memory
    }

    /// Reads the current state.
    #[must_use]
    pub fn read(cgroup: &Cgroup) -> Self {
        Self {
            memory: cgroup.memory(),
            unreclaimable: cgroup.unreclaimable(),
            mounts: lines(MOUNT_TABLE),
            mount_table: sys::open(c"/proc/self/mountinfo", libc::O_RDONLY).ok(),
            init_limits: init_limits(),
        }
    }

    /// The number of mounts now, if it is another one than in the first state. The table is read
    /// only after a change, because the kernel takes long to write it.
    fn other_mounts(&self) -> Option<usize> {
        if let Some(table) = &self.mount_table {
            let mut fds = [sys::poll_fd(table.as_raw_fd(), libc::POLLPRI)];
            if sys::poll(&mut fds, 0).is_ok() && fds[0].revents & (libc::POLLPRI | libc::POLLERR) == 0 {
                return None;
            }
        }
        Some(lines(MOUNT_TABLE)).filter(|mounts| *mounts != self.mounts)
    }

    /// Takes the memory in use now for the first state: before the first run, when a runtime has
    /// loaded. `known_bytes` are held by helpers and files that are counted anew each time.
    pub fn read_memory_again(&mut self, cgroup: &Cgroup, known_bytes: u64) {
        self.unreclaimable = self.unreclaimable.max(cgroup.unreclaimable().saturating_sub(known_bytes));
    }

    /// Bytes in use beyond the first state and `known_bytes`, if they are more than may remain.
    #[must_use]
    pub fn memory_beyond(&self, cgroup: &Cgroup, known_bytes: u64) -> Option<u64> {
        let beyond = cgroup.unreclaimable().saturating_sub(self.unreclaimable + known_bytes);
        (beyond > SLACK_BYTES + BATCH_BYTES * sys::cpus().min(MAX_BATCHES)).then_some(beyond)
    }
}

fn lines(path: &str) -> usize {
    sys::read_text(path).lines().count()
}

/// The init's resource limits, priority and OOM score, which a process that reaches it could
/// change.
fn init_limits() -> String {
    let limits = sys::read_text("/proc/self/limits");
    let stat = sys::read_text("/proc/self/stat");
    // proc(5): after the name in parentheses, priority and nice are the 16th and 17th field
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    let priority = fields.skip(15).take(2).collect::<Vec<_>>().join(" ");
    let score = sys::read_text("/proc/self/oom_score_adj");
    format!("{limits}{priority} {score}")
}

/// Number of rows of a table in /proc/sysvipc, without its header.
fn rows(name: &str) -> usize {
    lines(&format!("/proc/sysvipc/{name}")).saturating_sub(1)
}

/// An audit of a sandbox that was reset.
pub struct Audit<'a> {
    pub files: &'a Files,
    /// The result of [`Files::is_clean`].
    pub is_clean: bool,
    /// What earlier runs left in the kernel.
    pub left: Option<String>,
    pub baseline: &'a AuditBaseline,
}

impl Audit<'_> {
    /// Everything that is left, at most [`MAX_RESIDUE`] entries. `emptied` is the result of
    /// removing all files.
    #[must_use]
    pub fn residue(self, emptied: Result<(), Errno>) -> Vec<String> {
        let mut found = Vec::new();
        let mut check = |is_left: bool, message: String| {
            if is_left && found.len() < MAX_RESIDUE {
                found.push(message);
            }
        };
        if let Err(errno) = emptied {
            check(true, format!("files that cannot be removed (errno {errno})"));
        }
        check(!self.is_clean, "processes, or folders with a changed owner or mode".to_owned());
        let files = self.files.count();
        check(files > 0, format!("{files} files"));
        for table in ["shm", "sem", "msg"] {
            let objects = rows(table);
            check(objects > 0, format!("{objects} System V {table} objects"));
        }
        let queues = fs::read_dir("/dev/mqueue").map_or(0, Iterator::count);
        check(queues > 0, format!("{queues} message queues"));
        if let Some(mounts) = self.baseline.other_mounts() {
            check(true, format!("{mounts} mounts, {} before", self.baseline.mounts));
        }
        if let Some(left) = self.left {
            check(true, left);
        }
        check(init_limits() != self.baseline.init_limits, "limits or priority of the init changed".to_owned());
        found
    }
}
