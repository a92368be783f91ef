//! The limits of one run as numbers: resource limits of the child, and when to check CPU time next.
//!
//! The CPU limit applies to the whole process tree, so the cgroup's clock decides; RLIMIT_CPU is
//! only a backstop. No system calls.

use super::cgroup::CgroupLimits;
use nix::libc;
use wire::frame::{Relax, RunLimits};

/// Interval between samples of memory use, and the shortest interval of usage reports.
pub const SAMPLE_NS: u64 = 50_000_000;

/// Shortest interval between two checks of CPU time.
const CPU_CHECK_NS: u64 = 2_000_000;

/// Bytes that a program may lock (RLIMIT_MEMLOCK).
const MEMLOCK_BYTES: u64 = 64 * 1024;

/// Bytes in POSIX message queues, if the profile allows them: the kernel's default.
const MSGQUEUE_BYTES: u64 = 819_200;

/// One resource limit: name of its set-up step, resource, soft limit, hard limit.
pub type Resource = (&'static str, u32, u64, u64);

/// The child's resource limits, in the order in which they are set. `helpers` is how many processes
/// of the program's uid are ours.
#[must_use]
pub fn resources(limits: &RunLimits, relax: Relax, helpers: u64) -> [Resource; 8] {
    let cpu = limits.cpu_ns.div_ceil(1_000_000_000).max(1);
    let (files, pids) = (u64::from(limits.open_files), u64::from(limits.pids) + helpers);
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
        ("rlimit nproc", libc::RLIMIT_NPROC, pids, pids),
    ]
}

/// How many CPUs the sandbox can keep busy, in 1e-9 CPUs: the smaller of affinity and quota, at
/// least a hundredth of a CPU.
#[must_use]
pub fn speed(cpus: u64, limits: &CgroupLimits) -> u64 {
    let all = cpus.saturating_mul(1_000_000_000);
    match limits.nano_cpus {
        0 => all,
        quota => quota.min(all),
    }
    .max(10_000_000)
}

/// Nanoseconds until the CPU limit can be reached at the earliest, but at least [`CPU_CHECK_NS`].
#[must_use]
pub fn next_cpu_check_ns(used: u64, limit: u64, speed: u64) -> u64 {
    let left = u128::from(limit.saturating_sub(used));
    let at = left * 1_000_000_000 / u128::from(speed.max(1));
    u64::try_from(at).unwrap_or(u64::MAX).max(CPU_CHECK_NS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_checked_when_its_limit_can_be_reached_and_not_before() {
        let two = 2_000_000_000;
        assert_eq!(next_cpu_check_ns(0, two, 1_000_000_000), two);
        assert_eq!(next_cpu_check_ns(0, two, 4_000_000_000), two / 4);
        assert_eq!(next_cpu_check_ns(two - 1, two, 1_000_000_000), CPU_CHECK_NS);
        assert_eq!(next_cpu_check_ns(two + 1, two, 1_000_000_000), CPU_CHECK_NS);
        assert_eq!(next_cpu_check_ns(0, u64::MAX, 1), u64::MAX);
    }

    #[test]
    fn speed_is_the_smaller_of_affinity_and_quota() {
        let with = |nano_cpus| CgroupLimits { memory: 0, swap: 0, pids: 0, nano_cpus };
        assert_eq!(speed(2, &with(1_500_000_000)), 1_500_000_000);
        assert_eq!(speed(2, &with(u64::MAX)), 2_000_000_000);
        assert_eq!(speed(2, &with(0)), 2_000_000_000);
        assert_eq!(speed(1, &with(4_000_000_000)), 1_000_000_000);
    }
}
