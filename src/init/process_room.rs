//! The sandbox's room for processes, of which a program gets exactly its limit.
//!
//! The kernel counts a denied fork only if the cgroup's limit denies it, not if RLIMIT_NPROC does.
//! So the cgroup's is the one that a program meets first:
//!
//! ```text
//!  |<------------------------- the container's limit ------------------------->|
//!  |<--------- reserve: our own ---------->|<------- the program's limit ------>|
//!  | init, cell inits, template | parked   |  its processes and threads         |
//! ```
//!
//! Parked threads fill what our own processes leave of the reserve. They are made while nothing
//! runs, and adjusted when a run starts. Our own processes are never denied by a program: what they
//! need during a run is theirs already.

use super::cgroup::Cgroup;
use super::sys::ParkedThreads;
use wire::frame::OWN_PIDS;

/// See the head of this file.
#[derive(Default)]
pub struct ProcessRoom {
    parked: ParkedThreads,
    /// The limit of the last run.
    limit: Option<u32>,
}

impl ProcessRoom {
    /// Leaves room for a program with this limit. `program` is how many of the sandbox's processes
    /// and threads are, or will be, the program's.
    pub fn fit(&mut self, cgroup: &Cgroup, limit: u32, program: u64) {
        self.limit = Some(limit);
        let (true, Some(tasks), Some(max)) = (cgroup.counted(limit).pids, cgroup.tasks(), cgroup.max_tasks()) else {
            self.parked.release(usize::MAX);
            return;
        };
        let reserve = max.saturating_sub(u64::from(limit));
        let own = tasks.saturating_sub(program);
        if own > reserve {
            self.parked.release(usize::try_from(own - reserve).unwrap_or(usize::MAX));
        }
        self.fill(own, reserve);
    }

    /// Parks threads before the next run is known: it probably has the limit of the last one.
    /// Releases none: what a cell has just forked may be counted, and not yet known as the
    /// program's.
    pub fn fill_for_next(&mut self, cgroup: &Cgroup, program: u64) {
        let usual = || cgroup.max_tasks()?.checked_sub(u64::from(OWN_PIDS))?.try_into().ok();
        let Some(limit) = self.limit.or_else(usual) else { return };
        if let (true, Some(tasks), Some(max)) = (cgroup.counted(limit).pids, cgroup.tasks(), cgroup.max_tasks()) {
            self.fill(tasks.saturating_sub(program), max.saturating_sub(u64::from(limit)));
        }
    }

    fn fill(&mut self, own: u64, reserve: u64) {
        for _ in own..reserve {
            if self.parked.park().is_err() {
                break;
            }
        }
    }

    /// So many of our own processes have gone during a run.
    pub fn refill(&mut self, cgroup: &Cgroup, gone: usize) {
        if gone == 0 {
            return;
        }
        let (Some(limit), Some(max)) = (self.limit, cgroup.max_tasks()) else { return };
        for _ in 0..gone {
            // a denial would be counted as the program's
            let is_free = cgroup.tasks().is_some_and(|tasks| tasks < max);
            if !is_free || !cgroup.counted(limit).pids || self.parked.park().is_err() {
                return;
            }
        }
    }
}
