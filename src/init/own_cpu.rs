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
}

impl OwnCpu {
    /// A cell exits: the CPU time of `pid` and of its children in `helpers` is the init's, except
    /// `charged_ns` of its rusage, which programs were charged for.
    pub fn add_exiting(&mut self, pid: i32, helpers: Vec<i32>, charged_ns: u64) {
        self.exiting.push(ExitingCell { pid, helpers, charged_ns });
    }

    /// The pids of all helpers that are exiting.
    pub fn pids(&self) -> Vec<i32> {
        self.exiting.iter().flat_map(|cell| cell.helpers.iter().chain([&cell.pid])).copied().collect()
    }

    /// Books a reaped child if it is an exiting cell; returns whether it is.
    pub fn reaped(&mut self, child: &ExitedChild) -> bool {
        let Some(at) = self.exiting.iter().position(|cell| cell.pid == child.pid) else { return false };
        let cell = self.exiting.swap_remove(at);
        self.exited_ns += child.cpu_ns().saturating_sub(cell.charged_ns);
        true
    }

    /// Books a reaped helper that lived longer than a run.
    pub fn add_exited(&mut self, child: &ExitedChild) {
        self.exited_ns += child.cpu_ns();
    }

    /// CPU time of all helpers and of this process, which has used `init_ns`; in nanoseconds.
    #[must_use]
    pub fn cpu_ns(&self, init_ns: u64) -> u64 {
        let of = |cell: &ExitingCell| {
            let helpers: u64 = cell.helpers.iter().map(|pid| sys::cpu_of(*pid)).sum();
            sys::cpu_of(cell.pid) + helpers
        };
        init_ns + self.exited_ns + self.exiting.iter().map(of).sum::<u64>()
    }
}

/// The init's CPU time when poll(2) last returned. From it follows the CPU time at an earlier
/// instant during the sleep.
#[derive(Debug, Clone, Copy, Default)]
pub struct WakeClock {
    /// Monotonic, in nanoseconds.
    woke_at: u64,
    init_ns: u64,
}

impl WakeClock {
    /// Reads the CPU clock; `woke_at` is the monotonic time now.
    #[must_use]
    pub fn read(woke_at: u64) -> Self {
        Self { woke_at, init_ns: sys::own_cpu() }
    }

    /// The init's CPU time at an instant since it last slept, or now; in nanoseconds.
    #[must_use]
    pub fn init_ns(self, at: Option<u64>) -> u64 {
        let now = sys::own_cpu();
        at.map_or(now, |at| now.min(self.init_ns.saturating_add(at.saturating_sub(self.woke_at))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleep_costs_no_cpu_time_and_waking_no_more_than_the_elapsed_time() {
        let init_ns = sys::own_cpu();
        let clock = WakeClock { woke_at: 1_000, init_ns };
        assert_eq!(clock.init_ns(Some(400)), init_ns);
        assert_eq!(clock.init_ns(Some(1_000)), init_ns);
        assert!((init_ns..=init_ns + 1).contains(&clock.init_ns(Some(1_001))));
        assert!(clock.init_ns(Some(u64::MAX)) <= sys::own_cpu());
        assert!(clock.init_ns(None) >= init_ns);
    }

    #[test]
    fn an_exited_cell_is_booked_without_what_programs_were_charged_for() {
        let mut own = OwnCpu::default();
        // beyond the kernel's largest pid: their clocks read 0
        let (cell, helper) = (5_000_000, 5_000_001);
        own.add_exiting(cell, vec![helper], 30);
        assert_eq!(own.pids(), [helper, cell]);
        let mut child =
            ExitedChild { pid: helper, exited: Some(0), signal: None, user_ns: 70, system_ns: 10, max_rss: 0 };
        assert!(!own.reaped(&child));
        child.pid = cell;
        assert!(own.reaped(&child) && !own.reaped(&child));
        assert_eq!(own.cpu_ns(1_000), 1_050);
        own.add_exited(&child);
        assert_eq!(own.cpu_ns(1_000), 1_130);
    }
}
