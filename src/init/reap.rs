//! The only place where the init waits for children.
//!
//! A process that loses its parent becomes a child of PID 1, so "no children" after a kill means
//! that no process of the program is left.

use super::sys::{self, ExitedChild};
use nix::libc;

/// The state of the init's children.
#[derive(Debug)]
pub enum Reaped {
    /// This child had exited and is reaped now.
    Child(ExitedChild),
    /// There are children, but none has exited.
    NoneExited,
    NoChildren,
}

/// Reaps one exited child, without waiting.
#[must_use]
pub fn next() -> Reaped {
    reap(sys::wait_any)
}

/// Reaps this child if it has exited.
#[must_use]
pub fn one(pid: i32) -> Reaped {
    reap(|| sys::wait_for(pid))
}

fn reap(wait: impl Fn() -> Result<Option<ExitedChild>, sys::Errno>) -> Reaped {
    loop {
        match wait() {
            Ok(Some(child)) => return Reaped::Child(child),
            Ok(None) => return Reaped::NoneExited,
            Err(libc::EINTR) => {}
            Err(_) => return Reaped::NoChildren,
        }
    }
}
