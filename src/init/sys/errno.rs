//! Results of system calls as plain errno numbers.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use nix::libc;

/// An errno as a plain number.
pub type Errno = i32;

/// The errno of an `io::Error`; EIO where it has none.
#[must_use]
pub fn errno_of(error: &io::Error) -> Errno {
    error.raw_os_error().unwrap_or(libc::EIO)
}

/// The errno of the last system call of this thread.
pub(super) fn last_errno() -> Errno {
    errno_of(&io::Error::last_os_error())
}

/// A negative result is an error.
pub(super) fn check(r: i64) -> Result<i64, Errno> {
    if r < 0 { Err(last_errno()) } else { Ok(r) }
}

/// Takes ownership of a descriptor that a system call just returned.
pub(super) fn own(r: i64) -> Result<OwnedFd, Errno> {
    let fd = check(r)? as RawFd;
    // SAFETY: the kernel just returned this descriptor; nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
