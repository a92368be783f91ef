//! The limits of one run, as numbers: resource limits for the child, and when to look again.
//!
//! Pure but for the CPU count. CPU time is a promise about the whole tree, so the cgroup's clock decides and RLIMIT_CPU
//! is only the net below it.

use super::cgroup::Limits;
use nix::libc;
use wire::frame::{Relax, RunLimits};

/// How often memory is looked at while a program runs, at least.
pub const SAMPLE_NS: u64 = 50_000_000;

/// How often CPU time is looked at, at most.
pub const CPU_LOOK_NS: u64 = 2_000_000;

/// Bytes that the program may lock.
const MEMLOCK_BYTES: u64 = 64 * 1024;

/// Bytes in POSIX message queues, where a profile may have them: Linux's default.
const MSGQUEUE_BYTES: u64 = 819_200;

/// One resource limit: name of the step, resource, soft, hard.
pub type Resource = (&'static str, u32, u64, u64);

/// The child's resource limits, in the order they are set; `others` are processes of the program's uid that are ours.
#[must_use]
pub fn resources(limits: &RunLimits, relax: Relax, others: u64) -> [Resource; 8] {
    let cpu = limits.cpu_ns.div_ceil(1_000_000_000).max(1);
    let (files, pids) = (u64::from(limits.open_files), u64::from(limits.pids) + others);
    let queues = if relax.has(Relax::POSIX_MQ) { MSGQUEUE_BYTES } else { 0 };
    let all = u64::MAX;
    [
        ("rlimit cpu", libc::RLIMIT_CPU, cpu, cpu.saturating_add(1)),
        ("rlimit fsize", libc::RLIMIT_FSIZE, limits.file_bytes, limits.file_bytes),
        ("rlimit core", libc::RLIMIT_CORE, 0, 0),
        ("rlimit memlock", libc::RLIMIT_MEMLOCK, MEMLOCK_BYTES, MEMLOCK_BYTES),
        ("rlimit stack", libc::RLIMIT_STACK, all, all),
        ("rlimit nofile", libc::RLIMIT_NOFILE, files, files),
        // a queue outlives its maker
        ("rlimit msgqueue", libc::RLIMIT_MSGQUEUE, queues, queues),
        ("rlimit nproc", libc::RLIMIT_NPROC, pids, pids),
    ]
}

/// How many CPUs the sandbox can keep busy: the affinity's, or the quota's where that is less. In 1e-9 CPUs, so that a
/// quota of one and a half is not taken for two. At least a hundredth.
#[must_use]
pub fn speed(cpus: u64, limits: &Limits) -> u64 {
    let all = cpus.saturating_mul(1_000_000_000);
    match limits.nano_cpus {
        0 => all,
        quota => quota.min(all),
    }
    .max(10_000_000)
}

/// In how many nanoseconds the CPU limit can be reached at the earliest.
#[must_use]
pub fn cpu_look_in(used: u64, limit: u64, speed: u64) -> u64 {
    let left = u128::from(limit.saturating_sub(used));
    let at = left * 1_000_000_000 / u128::from(speed.max(1));
    u64::try_from(at).unwrap_or(u64::MAX).max(CPU_LOOK_NS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_clock_is_looked_at_when_it_could_be_over_and_not_before() {
        let two = 2_000_000_000;
        assert_eq!(cpu_look_in(0, two, 1_000_000_000), two);
        assert_eq!(cpu_look_in(0, two, 4_000_000_000), two / 4);
        assert_eq!(cpu_look_in(two - 1, two, 1_000_000_000), CPU_LOOK_NS);
        assert_eq!(cpu_look_in(two + 1, two, 1_000_000_000), CPU_LOOK_NS);
        assert_eq!(cpu_look_in(0, u64::MAX, 1), u64::MAX);
    }

    #[test]
    fn the_speed_is_the_smaller_of_affinity_and_quota() {
        let with = |nano_cpus| Limits { memory: 0, swap: 0, pids: 0, nano_cpus };
        assert_eq!(speed(2, &with(1_500_000_000)), 1_500_000_000);
        assert_eq!(speed(2, &with(u64::MAX)), 2_000_000_000);
        assert_eq!(speed(2, &with(0)), 2_000_000_000);
        assert_eq!(speed(1, &with(4_000_000_000)), 1_000_000_000);
    }
}
