//! What a process may do: ids, capabilities, limits, filters.
#![allow(unsafe_code)]

use super::{Errno, check, exit, kill_everyone};
use nix::libc;

fn prctl(option: i32, value: u64) -> Result<(), Errno> {
    // SAFETY: the options used here take numbers only.
    check(i64::from(unsafe { libc::prctl(option, value, 0u64, 0u64, 0u64) })).map(drop)
}

/// Nobody may look into this process.
pub fn not_dumpable() -> Result<(), Errno> {
    prctl(libc::PR_SET_DUMPABLE, 0)
}

/// /proc/self belongs to us again: before the maps of a cell are written.
pub fn dumpable() -> Result<(), Errno> {
    prctl(libc::PR_SET_DUMPABLE, 1)
}

/// A filter for every system call from here on, also after exec.
pub fn install_filter(program: &[libc::sock_filter]) -> Result<(), Errno> {
    let len = u16::try_from(program.len()).map_err(|_| libc::E2BIG)?;
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel copies the program, which outlives the call, and does not write to it.
    check(i64::from(unsafe {
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, std::ptr::from_ref(&program))
    }))
    .map(drop)
}

/// No capability: effective, permitted, inheritable, ambient, bounding.
pub fn drop_capabilities() -> Result<(), Errno> {
    // capability(7): ambient ones go with the inheritable.
    let mut number = 0;
    // The kernel says EINVAL behind the last one that it knows.
    while prctl(libc::PR_CAPBSET_DROP, number).is_ok() {
        number += 1;
    }
    // capset(2): version 3, this thread; effective, permitted, inheritable, twice.
    let header = [0x2008_0522u32, 0];
    let none = [0u32; 6];
    // SAFETY: both outlive the call and have the sizes of version 3.
    check(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) }).map(drop)
}

/// Whether exec gives no more rights.
pub fn has_no_new_privileges() -> bool {
    // SAFETY: numbers only.
    unsafe { libc::prctl(libc::PR_GET_NO_NEW_PRIVS, 0u64, 0u64, 0u64, 0u64) == 1 }
}

/// exec never gives more rights from here on.
pub fn no_new_privileges() -> Result<(), Errno> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1)
}

/// SIGKILL when the parent dies.
pub fn die_with_parent() -> Result<(), Errno> {
    prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64)
}

/// Locks what is mapped now. Never the future: beyond RLIMIT_MEMLOCK later allocations would fail.
pub fn lock_memory() {
    // SAFETY: plain numbers; best effort.
    unsafe { libc::mlockall(libc::MCL_CURRENT) };
}

/// umask(2).
pub fn umask(mask: u32) {
    // SAFETY: plain numbers.
    unsafe { libc::umask(mask as libc::mode_t) };
}

/// No supplementary groups.
pub fn drop_groups() -> Result<(), Errno> {
    // SAFETY: an empty list.
    check(unsafe { libc::syscall(libc::SYS_setgroups, 0usize, std::ptr::null::<u32>()) }).map(drop)
}

/// Real, effective and saved group.
pub fn set_gid(gid: u32) -> Result<(), Errno> {
    // SAFETY: plain numbers.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) }).map(drop)
}

/// Real, effective and saved user.
pub fn set_uid(uid: u32) -> Result<(), Errno> {
    // SAFETY: plain numbers.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(drop)
}

/// Does `work` with the program's effective ids. Only called when none of its processes is alive.
///
/// Cheaper than a helper process, and a fork bomb's remains cannot deny it. The real and saved ids stay 0, so neither
/// ptrace nor kill nor prlimit from that uid would be allowed; setfsuid would be narrower, but gVisor has none.
/// An init that cannot come back ends at once.
pub fn as_user<T>(uid: u32, gid: u32, work: impl FnOnce() -> T) -> Result<T, Errno> {
    const KEEP: u32 = u32::MAX;
    // SAFETY: plain numbers.
    let set = |uid: u32, gid: u32, group_first: bool| unsafe {
        let g = || check(libc::syscall(libc::SYS_setresgid, KEEP, gid, KEEP));
        let u = || check(libc::syscall(libc::SYS_setresuid, KEEP, uid, KEEP));
        if group_first { g().and_then(|_| u()) } else { u().and_then(|_| g()) }
    };
    let entered = set(uid, gid, true);
    let result = entered.map(|_| work());
    if set(0, 0, false).is_err() {
        kill_everyone();
        exit(70);
    }
    // A change of ids resets the flag to fs.suid_dumpable.
    let _ = not_dumpable();
    result
}

/// Sets one resource limit, clamped to the hard limit that is there. Clamping is fine, so it fails for no good reason only.
pub fn limit(resource: u32, soft: u64, hard: u64) -> Result<(), Errno> {
    limit_of(0, resource, soft, hard)
}

/// The same for a child; 0 is this process.
pub fn limit_of(pid: i32, resource: u32, soft: u64, hard: u64) -> Result<(), Errno> {
    let mut have = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    let resource = resource as libc::__rlimit_resource_t;
    // SAFETY: the structures outlive the calls.
    check(i64::from(unsafe { libc::prlimit(pid, resource, std::ptr::null(), &mut have) }))?;
    let hard = hard.min(have.rlim_max);
    let want = libc::rlimit { rlim_cur: soft.min(hard), rlim_max: hard };
    // SAFETY: as above.
    check(i64::from(unsafe { libc::prlimit(pid, resource, &want, std::ptr::null_mut()) })).map(drop)
}

/// How this process is scheduled, as another of the same uid could have changed it: priority, policy, CPUs, turns at disks.
#[must_use]
pub fn schedule() -> [u64; 20] {
    let mut all = [0; 20];
    let [priority, policy, disks, _, cpus @ ..] = &mut all;
    // SAFETY: numbers, and a buffer as long as said.
    unsafe {
        *priority = libc::syscall(libc::SYS_getpriority, libc::PRIO_PROCESS, 0) as u64;
        *policy = libc::syscall(libc::SYS_sched_getscheduler, 0) as u64;
        // 1 is IOPRIO_WHO_PROCESS
        *disks = libc::syscall(libc::SYS_ioprio_get, 1, 0) as u64;
        libc::syscall(libc::SYS_sched_getaffinity, 0, std::mem::size_of_val(cpus), cpus.as_mut_ptr());
    }
    all
}
