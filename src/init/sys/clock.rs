//! Wall and CPU clocks, and poll(2).
#![allow(unsafe_code)]

use super::errno::{Errno, check};
use std::os::fd::RawFd;

use nix::libc;

/// Monotonic time in nanoseconds.
#[must_use]
pub fn now() -> u64 {
    clock(libc::CLOCK_MONOTONIC)
}

/// CPU time of this process in nanoseconds.
#[must_use]
pub fn own_cpu() -> u64 {
    clock(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// CPU time of another process in nanoseconds, without its children's; 0 when it does not exist.
#[must_use]
pub fn cpu_of(pid: i32) -> u64 {
    // clock_getcpuclockid(3): clock 2 of the process with this pid
    clock((!pid << 3) | 2)
}

fn clock(id: libc::clockid_t) -> u64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` outlives the call.
    unsafe { libc::clock_gettime(id, &mut t) };
    (t.tv_sec as u64) * 1_000_000_000 + t.tv_nsec as u64
}

/// An entry for [`poll`]: a descriptor, and the events that it waits for and got.
pub type PollFd = libc::pollfd;

/// An entry for [`poll`] that waits for these events; a negative descriptor is skipped.
#[must_use]
pub fn poll_fd(fd: RawFd, events: i16) -> PollFd {
    PollFd { fd, events, revents: 0 }
}

/// Waits for an event on one of `fds`, at most `timeout_ns`. EINTR counts as an event.
pub fn poll(fds: &mut [PollFd], timeout_ns: u64) -> Result<(), Errno> {
    let t = libc::timespec {
        tv_sec: (timeout_ns / 1_000_000_000) as libc::time_t,
        tv_nsec: (timeout_ns % 1_000_000_000) as libc::c_long,
    };
    // SAFETY: slice and timespec outlive the call; no signal mask.
    let r = unsafe { libc::ppoll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, &t, std::ptr::null()) };
    match check(i64::from(r)) {
        Ok(_) | Err(libc::EINTR) => Ok(()),
        Err(e) => Err(e),
    }
}
