//! The limits of one run as numbers: resource limits of the child, and when to check CPU time next.
//!
//! The limits apply to the whole process tree, so the cgroup's counters decide. RLIMIT_CPU, which
//! counts ticks of one process, and RLIMIT_NPROC, whose denials are not counted, are set above them
//! as a second line; they are the limits only where the counters are not visible. No system calls.

use nix::libc;
use wire::frame::{Relax, RunLimits};

/// Longest interval between samples of memory use, and the shortest interval of usage reports.
pub const SAMPLE_NS: u64 = 50_000_000;

/// The same while the cgroup's peak tells nothing of the run.
const HIDDEN_SAMPLE_NS: u64 = 10_000_000;

/// Shortest interval between samples, and the time of the first one after the start.
pub const FIRST_SAMPLE_NS: u64 = 1_000_000;

/// Most bytes that a program is expected to allocate in a nanosecond.
const BYTES_PER_NS: u64 = 4;

/// The same while only samples tell: more than two CPUs write, so that the limit is never passed
/// by much between two of them.
const HIDDEN_BYTES_PER_NS: u64 = 16;

/// CPU time beyond the limit at which a program is ended: more than the final figure and the one
/// that is read while it runs differ.
pub const CPU_SLACK_NS: u64 = 1_000_000;

/// Processes by which RLIMIT_NPROC is above the limit where the cgroup counts denials.
const PIDS_MARGIN: u64 = 16;

/// Fewest processes that the cgroup can limit: a program that is forked from a template needs them
/// while it starts.
pub const LEAST_COUNTED_PIDS: u32 = 4;

/// Shortest interval between two checks of CPU time.
const CPU_CHECK_NS: u64 = 2_000_000;

/// Bytes that a program may lock (RLIMIT_MEMLOCK).
const MEMLOCK_BYTES: u64 = 64 * 1024;

/// Bytes in POSIX message queues, if the profile allows them: the kernel's default.
const MSGQUEUE_BYTES: u64 = 819_200;

/// Signals that a user may have queued, POSIX timers included. The default is half of the machine's
/// threads.
const QUEUED_SIGNALS: u64 = 1024;

/// One resource limit: name of its set-up step, resource, soft limit, hard limit.
pub type Resource = (&'static str, u32, u64, u64);

/// Which limits the cgroup's counters decide.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    pub cpu: bool,
    pub pids: bool,
}

impl Counted {
    #[must_use]
    pub fn to_byte(self) -> u8 {
        u8::from(self.cpu) | u8::from(self.pids) << 1
    }

    #[must_use]
    pub fn from_byte(byte: u8) -> Self {
        Self { cpu: byte & 1 != 0, pids: byte & 2 != 0 }
    }
}

/// The child's resource limits, in the order in which they are set. `helpers` is how many processes
/// of the program's uid are ours.
#[must_use]
pub fn resources(limits: &RunLimits, relax: Relax, helpers: u64, counted: Counted) -> [Resource; 9] {
    let seconds = limits.cpu_ns.div_ceil(1_000_000_000).max(1);
    let cpu = if counted.cpu { seconds.saturating_mul(2).saturating_add(2) } else { seconds };
    let margin = if counted.pids { PIDS_MARGIN } else { 0 };
    let (files, pids) = (u64::from(limits.open_files), u64::from(limits.pids) + helpers + margin);
    let queues = if relax.has(Relax::POSIX_MQ) { MSGQUEUE_BYTES } else { 0 };
    let all = u64::MAX;
    [
        ("rlimit cpu", libc::RLIMIT_CPU, cpu, cpu.saturating_add(1)),
        ("rlimit fsize", libc::RLIMIT_FSIZE, limits.file_bytes, limits.file_bytes),
        ("rlimit core", libc::RLIMIT_CORE, 0, 0),
        ("rlimit memlock", libc::RLIMIT_MEMLOCK, MEMLOCK_BYTES, MEMLOCK_BYTES),
        ("rlimit stack", libc::RLIMIT_STACK, all, all),
        ("rlimit nofile", libc::RLIMIT_NOFILE, files, files),
        // a queue would outlive the process that created it
        ("rlimit msgqueue", libc::RLIMIT_MSGQUEUE, queues, queues),
        ("rlimit sigpending", libc::RLIMIT_SIGPENDING, QUEUED_SIGNALS, QUEUED_SIGNALS),
        ("rlimit nproc", libc::RLIMIT_NPROC, pids, pids),
    ]
}

/// Nanoseconds until the CPU limit can be reached at the earliest, but at least [`CPU_CHECK_NS`].
#[must_use]
pub fn next_cpu_check_ns(used: u64, limit: u64, speed: u64) -> u64 {
    let left = u128::from(limit.saturating_sub(used));
    let at = left * 1_000_000_000 / u128::from(speed.max(1));
    u64::try_from(at).unwrap_or(u64::MAX).max(CPU_CHECK_NS)
}

/// Nanoseconds until the next sample of memory use. `left` is how many bytes the program may still
/// use, `is_hidden` whether the cgroup's peak tells nothing of it, `age_ns` how long it runs.
#[must_use]
pub fn next_memory_check_ns(left: u64, is_hidden: bool, age_ns: u64) -> u64 {
    let (longest, rate) = match is_hidden {
        true => (HIDDEN_SAMPLE_NS.min(age_ns.max(FIRST_SAMPLE_NS)), HIDDEN_BYTES_PER_NS),
        false => (SAMPLE_NS, BYTES_PER_NS),
    };
    (left / rate).clamp(FIRST_SAMPLE_NS, longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_sampled_more_often_near_the_limit_and_while_the_peak_is_hidden() {
        let (gib, ms) = (1 << 30, 1_000_000);
        assert_eq!(next_memory_check_ns(gib, false, 0), SAMPLE_NS);
        assert_eq!(next_memory_check_ns(0, false, gib), FIRST_SAMPLE_NS);
        assert_eq!(next_memory_check_ns(gib, true, 0), FIRST_SAMPLE_NS);
        assert_eq!(next_memory_check_ns(gib, true, 3 * ms), 3 * ms);
        assert_eq!(next_memory_check_ns(gib, true, 300 * ms), HIDDEN_SAMPLE_NS);
        assert_eq!(next_memory_check_ns(64 << 20, true, gib), 4_194_304);
    }

    #[test]
    fn cpu_time_is_checked_when_its_limit_can_be_reached_and_not_before() {
        let two = 2_000_000_000;
        assert_eq!(next_cpu_check_ns(0, two, 1_000_000_000), two);
        assert_eq!(next_cpu_check_ns(0, two, 4_000_000_000), two / 4);
        assert_eq!(next_cpu_check_ns(two - 1, two, 1_000_000_000), CPU_CHECK_NS);
        assert_eq!(next_cpu_check_ns(two + 1, two, 1_000_000_000), CPU_CHECK_NS);
        assert_eq!(next_cpu_check_ns(0, u64::MAX, 1), u64::MAX);
    }
}
