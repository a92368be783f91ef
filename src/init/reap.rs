//! The one place that waits for children.

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::sys::{self, Usage};

/// A child that has ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended {
    pub(super) pid: Pid,
    pub(super) status: i32,
    pub(super) usage: Usage,
}

/// Who is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// Children that have not ended.
    Some,
    /// Nobody: not even a zombie.
    Nobody,
}

/// Reaps every child that has ended. As PID 1 the init inherits every orphan, so when nobody is left, nothing of the
/// program is.
pub(super) fn reap(mut each: impl FnMut(Ended)) -> Left {
    loop {
        match sys::wait_any() {
            Ok(Some((pid, status, usage))) => each(Ended { pid, status, usage }),
            Ok(None) => return Left::Some,
            Err(Errno::EINTR) => {}
            Err(_) => return Left::Nobody,
        }
    }
}

/// Kills everything but the init itself. The kernel's return value proves nothing (ENGINE finding 4): [`reap`] does.
pub(super) fn kill_all() {
    let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
}

/// Waits for one helper of the init's own, which is the only child at that time.
pub(super) fn wait_for_helper(helper: Pid) -> bool {
    loop {
        match nix::sys::wait::waitpid(helper, None) {
            Ok(status) => return matches!(status, nix::sys::wait::WaitStatus::Exited(_, 0)),
            Err(Errno::EINTR) => {}
            Err(_) => return false,
        }
    }
}
