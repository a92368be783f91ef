//! The audit after a reset: what runs left that could not be removed, and why the sandbox must not
//! be used again.
//!
//! Every check reads the kernel's own tables. The residue contains only our own text and numbers,
//! never a name that a program chose.

use super::cgroup::Cgroup;
use super::files::Files;
use super::sys::Errno;
use std::fs;
use wire::frame::MAX_RESIDUE;

/// Memory that may remain in use: the kernel charges in batches, and the init has buffers.
const SLACK_BYTES: u64 = 4 * 1024 * 1024;

/// The state of the sandbox before its first run.
pub struct AuditBaseline {
    memory: u64,
    held: u64,
    mounts: usize,
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
            held: cgroup.held(),
            mounts: lines("/proc/self/mountinfo"),
            init_limits: init_limits(),
        }
    }
}

fn lines(path: &str) -> usize {
    fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

/// The init's resource limits, priority and OOM score, which a process that reaches it could
/// change.
fn init_limits() -> String {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // proc(5): after the name in parentheses, priority and nice are the 16th and 17th field
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    let priority = fields.skip(15).take(2).collect::<Vec<_>>().join(" ");
    let score = fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
    format!("{limits}{priority} {score}")
}

/// Number of rows of a table in /proc/sysvipc, without its header.
fn rows(name: &str) -> usize {
    lines(&format!("/proc/sysvipc/{name}")).saturating_sub(1)
}

/// An audit of a sandbox that was reset.
pub struct Audit<'a> {
    pub files: &'a Files,
    /// Pids of the init's helper processes, which may be alive.
    pub helpers: &'a [i32],
    /// Memory of these helpers, in bytes.
    pub helper_bytes: u64,
    pub cgroup: &'a Cgroup,
    pub baseline: &'a AuditBaseline,
}

impl Audit<'_> {
    /// Everything that is left, at most [`MAX_RESIDUE`] entries. `emptied` is the result of
    /// removing all files.
    #[must_use]
    pub fn residue(&self, emptied: Result<(), Errno>) -> Vec<String> {
        let mut found = Vec::new();
        let mut check = |is_left: bool, message: String| {
            if is_left && found.len() < MAX_RESIDUE {
                found.push(message);
            }
        };
        if let Err(errno) = emptied {
            check(true, format!("files that cannot be removed (errno {errno})"));
        }
        check(!self.files.is_clean(self.helpers), "processes, or folders with a changed owner or mode".to_owned());
        check(self.files.count() > 0, format!("{} files", self.files.count()));
        for table in ["shm", "sem", "msg"] {
            check(rows(table) > 0, format!("{} System V {table} objects", rows(table)));
        }
        let queues = fs::read_dir("/dev/mqueue").map_or(0, Iterator::count);
        check(queues > 0, format!("{queues} message queues"));
        let (mounts, before) = (lines("/proc/self/mountinfo"), self.baseline.mounts);
        check(mounts != before, format!("{mounts} mounts, {before} before"));
        let held = self.cgroup.held().saturating_sub(self.baseline.held + self.helper_bytes);
        check(held > SLACK_BYTES, format!("{held} bytes of memory"));
        check(init_limits() != self.baseline.init_limits, "limits or priority of the init changed".to_owned());
        found
    }
}
