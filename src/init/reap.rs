//! The only place that waits for children.
//!
//! Everything in the namespace that loses its parent becomes a child of PID 1, so "no children" after a kill means that
//! nothing of the program is left.

use super::sys::{self, Waited};
use nix::libc;

/// What there is to wait for.
#[derive(Debug)]
pub enum Reaped {
    /// A child ended and is gone now.
    One(Waited),
    /// There are children, none has ended.
    Later,
    /// There are no children.
    Nobody,
}

/// Takes one ended child, without waiting.
#[must_use]
pub fn next() -> Reaped {
    loop {
        match sys::wait_any() {
            Ok(Some(waited)) => return Reaped::One(waited),
            Ok(None) => return Reaped::Later,
            Err(libc::EINTR) => {}
            Err(_) => return Reaped::Nobody,
        }
    }
}
