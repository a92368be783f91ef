//! CPU time of the init and of its helper processes, which no program is charged for: the init's
//! part of the CPU ledger.
//!
//! Helpers are the cell init of an earlier run while it exits, cells that were discarded, and the
//! template.

use super::sys::{self, ExitedChild};

/// Helpers that are exiting, and the CPU time of those that have exited.
#[derive(Default)]
pub struct OwnCpu {
    exiting: Vec<ExitingCell>,
    exited_ns: u64,
}

struct ExitingCell {
    pid: i32,
    /// Children that are helpers too: what waited in a discarded cell.
    helpers: Vec<i32>,
    /// The part of its rusage that was charged to programs.
    charged_ns: u64,
    /// CPU time of it and of its children, once it has exited.
    ended_ns: Option<u64>,
}

impl OwnCpu {
    /// A cell exits: the CPU time of `pid` and of its children in `helpers` is the init's, except
    /// `charged_ns` of its rusage, which programs were charged for.
    pub fn add_exiting(&mut self, pid: i32, helpers: Vec<i32>, charged_ns: u64) {
        self.exiting.push(ExitingCell { pid, helpers, charged_ns, ended_ns: None });
    }

    /// The pids of all helpers that are exiting.
    pub fn pids(&self) -> Vec<i32> {
        self.exiting.iter().flat_map(|cell| cell.helpers.iter().chain([&cell.pid])).copied().collect()
    }

    /// Whether a cell is exiting that has not been reaped.
    #[must_use]
    pub fn is_any_exiting(&self) -> bool {
        !self.exiting.is_empty()
    }

    /// Whether all of them can be reaped.
    #[must_use]
    pub fn have_all_exited(&self) -> bool {
        self.exiting.iter().all(|cell| sys::has_exited(cell.pid))
    }

    /// Looks which of them have exited, without reaping them: a zombie keeps its place in the
    /// cgroup's count. Returns how many of their helpers are gone, which do not.
    pub fn note_exits(&mut self) -> usize {
        let mut gone = 0;
        for cell in self.exiting.iter_mut().filter(|cell| cell.ended_ns.is_none()) {
            cell.ended_ns = sys::cpu_of_zombie(cell.pid);
            gone += if cell.ended_ns.is_some() { cell.helpers.len() } else { 0 };
        }
        gone
    }

    /// Adds the CPU time of a reaped child, and returns whether it is an exiting cell.
    pub fn reaped(&mut self, child: &ExitedChild) -> bool {
        let Some(at) = self.exiting.iter().position(|cell| cell.pid == child.pid) else { return false };
        let cell = self.exiting.swap_remove(at);
        self.exited_ns += child.cpu_ns().saturating_sub(cell.charged_ns);
        true
    }

    /// Adds the CPU time of a reaped helper that lived longer than a run.
    pub fn add_exited(&mut self, child: &ExitedChild) {
        self.exited_ns += child.cpu_ns();
    }

    /// CPU time of all helpers and of this process, which has used `init_ns`; in nanoseconds.
    #[must_use]
    pub fn cpu_ns(&self, init_ns: u64) -> u64 {
        let of = |cell: &ExitingCell| {
            if let Some(ended_ns) = cell.ended_ns {
                return ended_ns.saturating_sub(cell.charged_ns);
            }
            let helpers: u64 = cell.helpers.iter().map(|pid| sys::cpu_of(*pid)).sum();
            sys::cpu_of(cell.pid) + helpers
        };
        init_ns + self.exited_ns + self.exiting.iter().map(of).sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exited_cell_is_counted_without_what_programs_were_charged_for() {
        let mut own = OwnCpu::default();
        // beyond the kernel's largest pid: their clocks read 0
        let (cell, helper) = (5_000_000, 5_000_001);
        own.add_exiting(cell, vec![helper], 30);
        assert_eq!(own.pids(), [helper, cell]);
        let mut child =
            ExitedChild { pid: helper, exited: Some(0), signal: None, user_ns: 70, system_ns: 10, max_rss: 0 };
        assert!(!own.reaped(&child));
        child.pid = cell;
        assert!(own.is_any_exiting());
        assert_eq!((own.reaped(&child), own.reaped(&child)), (true, false));
        assert!(!own.is_any_exiting());
        assert_eq!(own.cpu_ns(1_000), 1_050);
        own.add_exited(&child);
        assert_eq!(own.cpu_ns(1_000), 1_130);
    }
}
