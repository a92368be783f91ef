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
    loop {
        match sys::wait_any() {
            Ok(Some(child)) => return Reaped::Child(child),
            Ok(None) => return Reaped::NoneExited,
            Err(libc::EINTR) => {}
            Err(_) => return Reaped::NoChildren,
        }
    }
}
