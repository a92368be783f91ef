//! The run that is next: what has come for it, and its order in the hands of the PID 1 of the cell in use.
//!
//! ```text
//!  Run during a run --> Next: its input and its Kill are kept; once it is Given, its input goes into the pipe as well
//!                        |  that cell may serve it, by an exec: pipes are made, the order is given
//!                        v
//!                       Given: that PID 1 starts it as soon as it has said that the cell is as new, without asking anybody
//!  the run before is over:  its cell is there   -> it is the run in progress, and counts from what was counted then
//!                           its cell is gone,
//!                           or nothing was given -> it is started like any other; what one did whose cell was ended is thrown away
//! ```
//!
//! The init notices a moment later that the next program runs. Until then nobody looks at its limits, so the run before may not
//! keep the init busy: when what it wrote cannot be passed on at once, its cell is ended, and the next run starts in another.

use super::cgroup::Before;
use super::input::{Early, Overrun};
use super::setup::{self, Ends};
use super::sys;
use std::os::fd::{AsRawFd, OwnedFd};
use wire::codec;
use wire::frame::{Run, ToInit};

/// The longest order that is given ahead: it must fit into a socket's buffer, because nobody reads it yet.
const MAX_ORDER: usize = 32 * 1024;

/// The run that is next.
pub struct Next {
    /// What was asked for.
    pub run: Run,
    /// What came for it.
    pub input: Early,
    /// Whether its order was given.
    pub given: Option<Given>,
}

/// An order that was given ahead.
pub struct Given {
    /// Our ends of its program's pipes.
    pub ends: Ends,
    /// When, monotonic, in nanoseconds.
    pub at: u64,
    /// Of its input, so many bytes are in the pipe.
    pub passed: usize,
}

/// What a run finds that starts right behind another.
pub struct Behind {
    /// What was counted in between.
    pub before: Before,
    /// Whether its order was given.
    pub given: Option<Given>,
}

impl Next {
    /// One that waits.
    #[must_use]
    pub fn new(run: Run) -> Self {
        Self { run, input: Early::default(), given: None }
    }

    /// Gives its order to the PID 1 of a cell. Whether that could be done; where not, that PID 1 ends.
    pub fn give(&mut self, line: &OwnedFd) -> bool {
        let mut frame = Vec::new();
        codec::encode_to_init(&ToInit::Run(Run { hot: false, ..self.run.clone() }), &mut frame);
        if frame.len() > MAX_ORDER {
            return false;
        }
        let Ok((ends, [stdin, stdout, stderr])) = setup::stdio() else { return false };
        let at = sys::now();
        let sent = sys::send_fds(line, 0, [&stdin, &stdout, &stderr]);
        if sent.and_then(|()| sys::write_all(line.as_raw_fd(), &frame)).is_err() {
            return false;
        }
        self.given = Some(Given { ends, at, passed: 0 });
        true
    }

    /// Input came for it. It is kept in any case: who is started again reads it again.
    pub fn feed(&mut self, data: &[u8]) -> Result<(), Overrun> {
        self.input.feed(data)?;
        if let Some(given) = &mut self.given {
            let rest = self.input.data().get(given.passed..).unwrap_or_default();
            // what finds no room, or nobody, is for later
            given.passed += sys::write(given.ends.stdin.as_raw_fd(), rest).unwrap_or(0);
        }
        Ok(())
    }
}

/// When the init was last woken, and its CPU time then: what it had at an instant that it slept through.
#[derive(Debug, Clone, Copy, Default)]
pub struct Woke {
    at: u64,
    own_ns: u64,
}

impl Woke {
    /// Just now, which is `at`.
    #[must_use]
    pub fn now(at: u64) -> Self {
        Self { at, own_ns: sys::own_cpu() }
    }

    /// The init's CPU time at an instant since it slept, or now; in nanoseconds.
    #[must_use]
    pub fn own_ns(self, at: Option<u64>) -> u64 {
        let now = sys::own_cpu();
        at.map_or(now, |at| now.min(self.own_ns.saturating_add(at.saturating_sub(self.at))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_init_slept_through_cost_it_nothing_and_what_it_was_awake_for_no_more_than_the_time() {
        let own_ns = sys::own_cpu();
        let woke = Woke { at: 1_000, own_ns };
        assert_eq!(woke.own_ns(Some(400)), own_ns);
        assert_eq!(woke.own_ns(Some(1_000)), own_ns);
        assert!((own_ns..=own_ns + 1).contains(&woke.own_ns(Some(1_001))));
        assert!(woke.own_ns(Some(u64::MAX)) <= sys::own_cpu());
        assert!(woke.own_ns(None) >= own_ns);
    }
}
