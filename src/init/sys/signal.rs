//! Signals: blocked for the init, received through a signalfd, unblocked for programs.
#![allow(unsafe_code)]

use super::errno::{Errno, check, own};
use super::files::read;
use super::process::is_pid1;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::libc;

/// SIGKILL to every process of the namespace except this one. Does nothing unless this is PID 1:
/// elsewhere it would hit the whole machine.
pub fn kill_everyone() {
    if is_pid1() {
        // SAFETY: plain numbers.
        unsafe { libc::kill(-1, libc::SIGKILL) };
    }
}

/// SIGKILL to a child. For the PID 1 of a cell the kernel then kills the whole cell.
pub fn kill(pid: i32) {
    if pid > 1 {
        // SAFETY: plain numbers; a child keeps its pid until it is waited for.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }
}

/// SIGSTOP to a child; whether it was sent.
#[must_use]
pub fn stop(pid: i32) -> bool {
    // SAFETY: plain numbers; a child keeps its pid until it is waited for.
    pid > 1 && unsafe { libc::kill(pid, libc::SIGSTOP) } == 0
}

/// SIGCONT to a child.
pub fn proceed(pid: i32) {
    if pid > 1 {
        // SAFETY: as above.
        unsafe { libc::kill(pid, libc::SIGCONT) };
    }
}

/// Blocks every signal and returns a descriptor for SIGCHLD and SIGTERM. Resets every disposition
/// to its default, because an ignored signal stays ignored after exec: SIGPIPE, which Rust's
/// runtime ignores, and what the engine was started with.
pub fn take_signals() -> Result<OwnedFd, Errno> {
    // The kernel's own struct, all zero: SIG_DFL, no flags, no mask.
    let default = [0u64; 4];
    // SAFETY: the struct outlives the calls and 8 is the size of the kernel's sigset_t; SIGKILL and
    // SIGSTOP fail harmlessly. A raw system call, because the C library refuses its own signals
    // (32 to 34).
    unsafe {
        for n in 1..=64 {
            libc::syscall(libc::SYS_rt_sigaction, n, default.as_ptr(), 0, 8);
        }
    }
    // SAFETY: sigset functions on a local set; the descriptor is owned from here on.
    unsafe {
        let mut all = std::mem::zeroed::<libc::sigset_t>();
        libc::sigfillset(&mut all);
        check(i64::from(libc::sigprocmask(libc::SIG_SETMASK, &all, std::ptr::null_mut())))?;
        let mut some = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&mut some);
        libc::sigaddset(&mut some, libc::SIGCHLD);
        libc::sigaddset(&mut some, libc::SIGTERM);
        own(i64::from(libc::signalfd(-1, &some, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)))
    }
}

/// The next signal of a signalfd: (number, pid of the sender; 0 means outside the namespace).
#[must_use]
pub fn next_signal(fd: &OwnedFd) -> Option<(u32, u32)> {
    let mut info = [0u8; std::mem::size_of::<libc::signalfd_siginfo>()];
    match read(fd.as_raw_fd(), &mut info) {
        Ok(n) if n == info.len() => {
            let word = |at: usize| info.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_ne_bytes);
            // signalfd(2): ssi_signo, ssi_errno, ssi_code, ssi_pid.
            Some((word(0), word(12)))
        }
        _ => None,
    }
}

/// Empties the signal mask, for a child before exec. Its dispositions are the defaults since
/// [`take_signals`].
pub fn unblock_signals() -> Result<(), Errno> {
    // SAFETY: sigset functions on a local set.
    unsafe {
        let mut none = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&mut none);
        check(i64::from(libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut()))).map(drop)
    }
}
