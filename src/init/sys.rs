//! The init's only unsafe code: what `nix` has no safe form for.
#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::{ForkResult, Pid};

/// What the kernel counted for a child and its own waited-for children.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Usage {
    pub(super) user_ns: u64,
    pub(super) system_ns: u64,
    pub(super) max_rss_bytes: u64,
}

/// Forks. The init has one thread, so the child may do whatever the parent may.
pub(super) fn fork() -> Result<ForkResult, Errno> {
    // SAFETY: the process is single-threaded (the init never makes a thread), so no lock can be held by a thread
    // that does not exist in the child.
    unsafe { nix::unistd::fork() }
}

/// `wait4(-1, WNOHANG)`: a child that ended, its raw status and its usage. `None`: children, but none ended.
pub(super) fn wait_any() -> Result<Option<(Pid, i32, Usage)>, Errno> {
    let mut status: libc::c_int = 0;
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both pointers are to live, writable locals of the types that wait4 wants.
    let pid = Errno::result(unsafe { libc::wait4(-1, &mut status, libc::WNOHANG, usage.as_mut_ptr()) })?;
    if pid == 0 {
        return Ok(None);
    }
    // SAFETY: zeroed bytes are a valid rusage, and wait4 has filled it in.
    let usage = unsafe { usage.assume_init() };
    let nanos = |time: libc::timeval| time.tv_sec as u64 * 1_000_000_000 + time.tv_usec as u64 * 1000;
    let usage = Usage {
        user_ns: nanos(usage.ru_utime),
        system_ns: nanos(usage.ru_stime),
        max_rss_bytes: usage.ru_maxrss as u64 * 1024,
    };
    Ok(Some((Pid::from_raw(pid), status, usage)))
}

/// How a process ended, from its raw status: the exit status, or the signal.
pub(super) fn ending(status: i32) -> Result<u8, u8> {
    if libc::WIFSIGNALED(status) { Err(libc::WTERMSIG(status) as u8) } else { Ok(libc::WEXITSTATUS(status) as u8) }
}

/// Marks every descriptor from 3 on close-on-exec. Old kernels without the call have nothing open anyway: everything
/// here is opened close-on-exec.
pub(super) fn close_on_exec_from_3() {
    // SAFETY: the call takes three integers and only sets flags.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
}

/// Ends a forked child without running anything of the parent's.
pub(super) fn exit_now(status: i32) -> ! {
    // SAFETY: _exit takes an integer and does not return.
    unsafe { libc::_exit(status) }
}

/// Keeps the init's pages in memory, so that a program's thrashing does not slow it down. Best effort: needs a limit
/// that most engines don't grant.
pub(super) fn lock_memory() {
    // SAFETY: the call takes flags only.
    unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT) };
}

/// Gives a signal its default disposition.
pub(super) fn default_action(signal: Signal) -> Result<(), Errno> {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: the default disposition runs no code of ours.
    unsafe { sigaction(signal, &default) }.map(drop)
}
