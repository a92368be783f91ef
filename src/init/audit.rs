//! What is left after a run, when everything has been taken away: the reason not to use a sandbox again.
//!
//! Every look is at the kernel's own tables. Words and numbers of ours only: no name that a program chose.

use super::cgroup::Cgroup;
use super::files::Files;
use super::sys::Errno;
use std::fs;
use wire::frame::MAX_RESIDUE;

/// Memory that a run may leave held without being suspicious: the kernel's batches and the init's own buffers.
const SLACK_BYTES: u64 = 4 * 1024 * 1024;

/// The sandbox when nothing had run in it.
pub struct Baseline {
    memory: u64,
    held: u64,
    mounts: usize,
    own: String,
}

impl Baseline {
    /// Memory in use then, in bytes.
    #[must_use]
    pub fn memory(&self) -> u64 {
        self.memory
    }

    /// Looks now.
    #[must_use]
    pub fn look(cgroup: &Cgroup) -> Self {
        Self { memory: cgroup.memory(), held: cgroup.held(), mounts: lines("/proc/self/mountinfo"), own: own_limits() }
    }
}

fn lines(path: &str) -> usize {
    fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

/// The init's own limits and priority, as somebody who reaches it could change them.
fn own_limits() -> String {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // proc(5): behind the name in brackets, priority and nice are the 16th and 17th word
    let words = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    let priority = words.skip(15).take(2).collect::<Vec<_>>().join(" ");
    let score = fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
    format!("{limits}{priority} {score}")
}

/// Rows of a table in /proc/sysvipc, which has a head.
fn rows(name: &str) -> usize {
    lines(&format!("/proc/sysvipc/{name}")).saturating_sub(1)
}

/// What is left; `ours` are processes of our own, with so many bytes, `emptied` is how taking everything away went.
#[must_use]
pub fn residue(
    files: &Files,
    ours: &[i32],
    ours_bytes: u64,
    cgroup: &Cgroup,
    baseline: &Baseline,
    emptied: Result<(), Errno>,
) -> Vec<String> {
    let mut found = Vec::new();
    let mut look = |is: bool, words: String| {
        if is && found.len() < MAX_RESIDUE {
            found.push(words);
        }
    };
    if let Err(errno) = emptied {
        look(true, format!("files that cannot be removed (errno {errno})"));
    }
    look(!files.is_clean(ours), "processes, or folders that are not as they were".to_owned());
    look(files.count() > 0, format!("{} files", files.count()));
    for table in ["shm", "sem", "msg"] {
        look(rows(table) > 0, format!("{} System V {table} objects", rows(table)));
    }
    let queues = fs::read_dir("/dev/mqueue").map_or(0, Iterator::count);
    look(queues > 0, format!("{queues} message queues"));
    let mounts = lines("/proc/self/mountinfo");
    look(mounts != baseline.mounts, format!("{mounts} mounts, {} before", baseline.mounts));
    let held = cgroup.held().saturating_sub(baseline.held + ours_bytes);
    look(held > SLACK_BYTES, format!("{held} bytes of memory"));
    look(own_limits() != baseline.own, "limits or priority of the init".to_owned());
    found
}
