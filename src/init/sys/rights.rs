//! What a process may do: user and group ids, capabilities, resource limits, system call filters.
#![allow(unsafe_code)]

use super::errno::{Errno, check};
use super::process::exit;
use super::signal::kill_everyone;
use nix::libc;

fn prctl(option: i32, value: u64) -> Result<(), Errno> {
    // SAFETY: the options used here take numbers only.
    check(i64::from(unsafe { libc::prctl(option, value, 0u64, 0u64, 0u64) })).map(drop)
}

/// Keeps other processes from ptracing this one and from opening its /proc files.
pub fn not_dumpable() -> Result<(), Errno> {
    prctl(libc::PR_SET_DUMPABLE, 0)
}

/// Makes /proc/self accessible to this process again, for example to write a cell's uid map.
pub fn dumpable() -> Result<(), Errno> {
    prctl(libc::PR_SET_DUMPABLE, 1)
}

/// Installs a system call filter on this process; exec keeps it.
pub fn install_filter(program: &[libc::sock_filter]) -> Result<(), Errno> {
    let len = u16::try_from(program.len()).map_err(|_| libc::E2BIG)?;
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel copies the program, which outlives the call, and does not write to it.
    check(i64::from(unsafe {
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, std::ptr::from_ref(&program))
    }))
    .map(drop)
}

/// Empties the bounding set, which children inherit: exec adds no capability from here on. Keeps
/// those that this process has.
pub fn bound_capabilities() -> Result<(), Errno> {
    let mut number = 0;
    // The kernel returns EINVAL for the first number beyond those it knows.
    while prctl(libc::PR_CAPBSET_DROP, number).is_ok() {
        number += 1;
    }
    if number > 0 { Ok(()) } else { Err(libc::EPERM) }
}

/// Drops every capability: effective, permitted, inheritable, and with that the ambient ones
/// (capability(7)).
pub fn drop_capabilities() -> Result<(), Errno> {
    // capset(2): version 3, this thread; effective, permitted, inheritable, two words each.
    let header = [0x2008_0522u32, 0];
    let none = [0u32; 6];
    // SAFETY: both outlive the call and have the sizes of version 3.
    check(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) }).map(drop)
}

/// Whether the no_new_privs flag is set.
pub fn has_no_new_privileges() -> bool {
    // SAFETY: numbers only.
    unsafe { libc::prctl(libc::PR_GET_NO_NEW_PRIVS, 0u64, 0u64, 0u64, 0u64) == 1 }
}

/// Sets no_new_privs: exec never adds rights from here on.
pub fn no_new_privileges() -> Result<(), Errno> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1)
}

/// Has the kernel send SIGKILL to this process when its parent dies.
pub fn die_with_parent() -> Result<(), Errno> {
    prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64)
}

/// Locks the memory that is mapped now, best effort. Not MCL_FUTURE: beyond RLIMIT_MEMLOCK later
/// allocations would fail.
pub fn lock_memory() {
    // SAFETY: plain numbers; best effort.
    unsafe { libc::mlockall(libc::MCL_CURRENT) };
}

/// umask(2) of this process.
pub fn umask(mask: u32) {
    // SAFETY: plain numbers.
    unsafe { libc::umask(mask as libc::mode_t) };
}

/// Drops all supplementary groups.
pub fn drop_groups() -> Result<(), Errno> {
    // SAFETY: an empty list.
    check(unsafe { libc::syscall(libc::SYS_setgroups, 0usize, std::ptr::null::<u32>()) }).map(drop)
}

/// Sets real, effective and saved group.
pub fn set_gid(gid: u32) -> Result<(), Errno> {
    // SAFETY: plain numbers.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) }).map(drop)
}

/// Sets real, effective and saved user.
pub fn set_uid(uid: u32) -> Result<(), Errno> {
    // SAFETY: plain numbers.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(drop)
}

/// Does `work` with the program's effective ids. Only called when none of its processes is alive.
///
/// Cheaper than a helper process, and processes left by a fork bomb cannot prevent it. The real and
/// saved ids stay 0, so neither ptrace nor kill nor prlimit from that uid would be allowed.
/// setfsuid would be narrower, but gVisor does not have it. An init that cannot switch back exits
/// at once.
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

/// Sets a resource limit of this process, clamped to the existing hard limit.
pub fn limit(resource: u32, soft: u64, hard: u64) -> Result<(), Errno> {
    limit_of(0, resource, soft, hard)
}

/// Does `work` with this soft limit of open files. More may be open already.
pub fn with_open_files<T>(soft: u64, work: impl FnOnce() -> T) -> Result<T, Errno> {
    let mut have = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure outlives the call.
    check(i64::from(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut have) }))?;
    limit(libc::RLIMIT_NOFILE, soft, have.rlim_max)?;
    let result = work();
    limit(libc::RLIMIT_NOFILE, have.rlim_cur, have.rlim_max)?;
    Ok(result)
}

/// Sets a resource limit of a child, clamped to the existing hard limit; pid 0 is this process.
pub fn limit_of(pid: i32, resource: u32, soft: u64, hard: u64) -> Result<(), Errno> {
    let resource = resource as libc::__rlimit_resource_t;
    let set = |hard: u64| {
        let want = libc::rlimit { rlim_cur: soft.min(hard), rlim_max: hard };
        // SAFETY: the structure outlives the call.
        check(i64::from(unsafe { libc::prlimit(pid, resource, &want, std::ptr::null_mut()) })).map(drop)
    };
    // most limits are below the existing ones
    match set(hard) {
        Err(libc::EPERM) => {}
        done => return done,
    }
    let mut have = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure outlives the call.
    check(i64::from(unsafe { libc::prlimit(pid, resource, std::ptr::null(), &mut have) }))?;
    set(hard.min(have.rlim_max))
}
