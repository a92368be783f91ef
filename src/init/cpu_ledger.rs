//! The CPU ledger of one run: how much of the sandbox's CPU time the program used.
//!
//! The cgroup counts the CPU time of everything in the sandbox since its start. The program is
//! charged what is left of it after everything that belongs to the init:
//!
//! | CPU time of | charged to | where it enters |
//! |---|---|---|
//! | whatever ran before the run | not counted | [`RunBaseline`] |
//! | the init itself | init | `own_ns` of the baseline and of each reading |
//! | ready cells, prewarmed runtimes, the template | init | the same (`CellPool::cpu_ns`) |
//! | cells of earlier runs and discarded cells, while they exit | init | the same (`OwnCpu`) |
//! | this run's cell init | init | `cell_init_before_ns`, `post_cell_init`, the live clock |
//! | the process that becomes the program, until it is ready | init | `post_start` |
//! | set-up from there to exec | init | `post_start` |
//! | the program and all its descendants | program | the rest |
//!
//! User and system time come from rusage and are kept apart: the cgroup does not split them.
//! The ledger itself makes no system call.

use super::cgroup::{Cgroup, CgroupCounters};
use super::run_status::{CellEnd, ProgramStart};
use super::sys::ExitedChild;

/// The counters when a run begins, and the init's part of them.
#[derive(Debug, Clone, Copy)]
pub struct RunBaseline {
    pub counters: CgroupCounters,
    /// CPU time of the init and its helpers until then, in nanoseconds.
    pub own_ns: u64,
}

impl RunBaseline {
    /// Reads the counters now.
    #[must_use]
    pub fn read(cgroup: &Cgroup, own_ns: u64) -> Self {
        Self { counters: cgroup.counters(), own_ns }
    }
}

/// Clocks that are read while a run is in progress, in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub struct LiveClocks {
    /// CPU time of this run's cell init; 0 in `split`.
    pub cell_init_ns: u64,
    /// CPU time of the sandbox's cgroup.
    pub cgroup_ns: u64,
}

/// CPU time by which rusage and the cgroup may differ: a tick each for user and system.
const LOST_NS: u64 = 20_000_000;

/// What rusage reports of the program's processes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChildUsage {
    pub user_ns: u64,
    pub system_ns: u64,
    /// Largest resident set of one process, in bytes.
    pub max_rss: u64,
}

impl ChildUsage {
    fn cpu_ns(&self) -> u64 {
        self.user_ns + self.system_ns
    }

    fn add(&mut self, user_ns: u64, system_ns: u64, max_rss: u64) {
        self.user_ns += user_ns;
        self.system_ns += system_ns;
        self.max_rss = self.max_rss.max(max_rss);
    }
}

/// The part of the ledger that only a cell has.
#[derive(Debug, Clone, Copy)]
struct CellInitCpu {
    /// CPU time of the cell init at the baseline.
    before_ns: u64,
    /// CPU time at the baseline of the process that waited in the cell.
    waiting_before_ns: u64,
    /// CPU time of the cell init when it was killed.
    at_kill_ns: u64,
    /// CPU time of the cell init in all, without its children, once it was reaped.
    total_ns: Option<u64>,
    /// What the kernel counts for the cell init's children, once the cell init reported it.
    reported_children_ns: Option<u64>,
}

/// See the head of this file. All figures are nanoseconds.
pub struct CpuLedger {
    baseline: RunBaseline,
    requested_at: u64,
    cell: Option<CellInitCpu>,
    setup_ns: u64,
    usage: ChildUsage,
    /// Of the main process, when its cell was killed.
    at_kill: ChildUsage,
}

impl CpuLedger {
    /// For a run in `split`. `requested_at` is when its Run arrived, monotonic.
    #[must_use]
    pub fn split(baseline: RunBaseline, requested_at: u64) -> Self {
        let (usage, at_kill) = (ChildUsage::default(), ChildUsage::default());
        Self { baseline, requested_at, cell: None, setup_ns: 0, usage, at_kill }
    }

    /// For a run in a cell. `cell_init_before_ns` and `waiting_before_ns` are the CPU time that its
    /// cell init and the process that waits in it had used at the baseline.
    #[must_use]
    pub fn cell(baseline: RunBaseline, requested_at: u64, cell_init_before_ns: u64, waiting_before_ns: u64) -> Self {
        let cell = CellInitCpu {
            before_ns: cell_init_before_ns,
            waiting_before_ns,
            at_kill_ns: 0,
            total_ns: None,
            reported_children_ns: None,
        };
        Self { cell: Some(cell), ..Self::split(baseline, requested_at) }
    }

    /// The counters and the init's CPU time when the run began.
    #[must_use]
    pub fn baseline(&self) -> &RunBaseline {
        &self.baseline
    }

    /// When the Run arrived; monotonic, in nanoseconds.
    #[must_use]
    pub fn requested_at(&self) -> u64 {
        self.requested_at
    }

    /// What rusage reported so far.
    #[must_use]
    pub fn usage(&self) -> ChildUsage {
        self.usage
    }

    /// The same for a program that used `cpu_ns` in all. Of processes that the kernel reaps by
    /// itself rusage tells nothing: of those of a cell that was killed, and of those that no parent
    /// waits for. Their time is split like the time that is known.
    #[must_use]
    pub fn usage_within(&self, cpu_ns: u64) -> ChildUsage {
        let max_rss = self.usage.max_rss.max(self.at_kill.max_rss);
        if self.usage.cpu_ns() + LOST_NS > cpu_ns {
            return ChildUsage { max_rss, ..self.usage };
        }
        // what was read at the kill includes what a runtime used before the run
        let known = if self.at_kill.cpu_ns() > 0 { self.at_kill } else { self.usage };
        let user = u128::from(cpu_ns) * u128::from(known.user_ns.max(1)) / u128::from(known.cpu_ns().max(1));
        let user_ns = u64::try_from(user).unwrap_or(cpu_ns).min(cpu_ns);
        ChildUsage { user_ns, system_ns: cpu_ns - user_ns, max_rss }
    }

    /// The cell is about to be killed, and the kernel tells this of its main process.
    pub fn post_main_killed(&mut self, main: ChildUsage) {
        // again, when it may be gone
        if main.cpu_ns() >= self.at_kill.cpu_ns() {
            self.at_kill = main;
        }
    }

    /// The program started. Set-up is the init's. So is what a process that was still starting when
    /// the run was requested used after the baseline, until it was ready.
    pub fn post_start(&mut self, start: &ProgramStart) {
        let starting_ns = match self.cell {
            Some(cell) => {
                let since_request = start.ready_at.saturating_sub(self.requested_at);
                since_request.min(start.before_ns.saturating_sub(cell.waiting_before_ns))
            }
            None => 0,
        };
        self.setup_ns = starting_ns + start.setup_ns;
    }

    /// The cell init reported the end of its program. Posting it again changes nothing.
    pub fn post_cell_end(&mut self, end: &CellEnd) {
        let Some(cell) = &mut self.cell else { return };
        if cell.reported_children_ns.is_none() {
            cell.reported_children_ns = Some(end.children_ns());
            self.usage.add(end.user_ns, end.system_ns, end.max_rss);
        }
    }

    /// A process of the program was reaped by the init itself.
    pub fn post_process(&mut self, child: &ExitedChild) {
        self.usage.add(child.user_ns, child.system_ns, child.max_rss);
    }

    /// The cell init is about to be killed and has used this much CPU time.
    pub fn post_cell_init_killed(&mut self, cell_init_ns: u64) {
        if let Some(cell) = &mut self.cell {
            cell.at_kill_ns = cell.at_kill_ns.max(cell_init_ns);
        }
    }

    /// The cell init was reaped; its rusage includes that of its children.
    ///
    /// If it was killed before it could report the end, its CPU time after the kill cannot be
    /// separated from its children's and is charged to the program.
    pub fn post_cell_init(&mut self, child: ExitedChild) {
        let Some(cell) = &mut self.cell else { return };
        if let Some(children_ns) = cell.reported_children_ns {
            cell.total_ns = Some(child.cpu_ns().saturating_sub(children_ns));
        } else {
            cell.total_ns = Some(cell.at_kill_ns);
            self.usage.add(child.user_ns, child.system_ns, child.max_rss);
        }
    }

    /// Whether the cell init was reaped.
    #[must_use]
    pub fn is_cell_init_reaped(&self) -> bool {
        self.cell.is_some_and(|cell| cell.total_ns.is_some())
    }

    /// What the kernel counts for the cell init's children after this run. Without a report, all of
    /// rusage is the program's.
    #[must_use]
    pub fn children_ns(&self) -> u64 {
        let of_this_run = self.usage.user_ns + self.usage.system_ns;
        self.cell.map_or(0, |cell| cell.reported_children_ns.unwrap_or(of_this_run))
    }

    /// CPU time of the program so far. `own_ns` is that of the init and its helpers, read before
    /// `clocks`.
    #[must_use]
    pub fn program_ns(&self, own_ns: u64, clocks: LiveClocks) -> u64 {
        let cell_init_ns =
            self.cell.map_or(0, |cell| cell.total_ns.unwrap_or(clocks.cell_init_ns).saturating_sub(cell.before_ns));
        let own_ns = own_ns.saturating_sub(self.baseline.own_ns);
        let all_ns = clocks.cgroup_ns.saturating_sub(self.baseline.counters.cpu_ns);
        all_ns.saturating_sub(own_ns + cell_init_ns + self.setup_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::frame::Ended;

    fn baseline(cpu_ns: u64, own_ns: u64) -> RunBaseline {
        RunBaseline { counters: CgroupCounters { cpu_ns, ..Default::default() }, own_ns }
    }

    fn live(cgroup_ns: u64, cell_init_ns: u64) -> LiveClocks {
        LiveClocks { cell_init_ns, cgroup_ns }
    }

    fn start(ready_at: u64, before_ns: u64, setup_ns: u64) -> ProgramStart {
        ProgramStart { at: 0, ready_at, before_ns, setup_ns, hot: false }
    }

    fn end(user_ns: u64, system_ns: u64, before_ns: u64) -> CellEnd {
        CellEnd { ended: Ended::Exited(0), survivors: 0, at: 0, user_ns, system_ns, max_rss: 7, before_ns }
    }

    fn exited(user_ns: u64, system_ns: u64) -> ExitedChild {
        ExitedChild { pid: 2, exited: Some(0), signal: None, user_ns, system_ns, max_rss: 9 }
    }

    #[test]
    fn in_split_the_program_is_charged_all_but_the_inits_part_and_set_up() {
        let mut ledger = CpuLedger::split(baseline(1_000, 100), 0);
        assert_eq!(ledger.program_ns(130, live(1_200, 0)), 170);
        ledger.post_start(&start(0, 0, 20));
        assert_eq!(ledger.program_ns(130, live(1_200, 0)), 150);
        ledger.post_process(&exited(50, 60));
        ledger.post_process(&exited(5, 6));
        assert_eq!(ledger.usage(), ChildUsage { user_ns: 55, system_ns: 66, max_rss: 9 });
    }

    #[test]
    fn a_clock_that_lags_never_makes_a_negative_figure() {
        let ledger = CpuLedger::split(baseline(1_000, 100), 0);
        assert_eq!(ledger.program_ns(90, live(900, 0)), 0);
        assert_eq!(ledger.program_ns(500, live(1_100, 0)), 0);
    }

    #[test]
    fn a_cell_init_is_charged_to_the_init_from_the_start_of_the_run() {
        let ledger = CpuLedger::cell(baseline(1_000, 100), 0, 40, 0);
        assert_eq!(ledger.program_ns(100, live(1_200, 70)), 170);
    }

    #[test]
    fn a_process_that_was_still_starting_is_charged_to_the_init_from_the_baseline_on() {
        let with = |start| {
            let mut ledger = CpuLedger::cell(baseline(0, 0), 500, 0, 50);
            ledger.post_start(&start);
            ledger.program_ns(0, live(1_000, 0))
        };
        assert_eq!(with(start(400, 300, 10)), 990, "it was ready before the request");
        assert_eq!(with(start(600, 300, 10)), 890, "ready 100 ns after it");
        assert_eq!(with(start(900, 300, 10)), 740, "not more than it used after the baseline");
        assert_eq!(with(start(900, 50, 10)), 990, "ready before the baseline, which was read late");
    }

    #[test]
    fn time_that_rusage_lost_is_split_like_the_time_that_is_known() {
        const MS: u64 = 1_000_000;
        let usage = |user, system, max_rss| ChildUsage { user_ns: user * MS, system_ns: system * MS, max_rss };
        let mut ledger = CpuLedger::cell(baseline(0, 0), 0, 0, 0);
        ledger.usage = usage(300, 100, 7);
        assert_eq!(ledger.usage_within(410 * MS), usage(300, 100, 7));
        assert_eq!(ledger.usage_within(1000 * MS), usage(750, 250, 7));
        ledger.usage = usage(1, 0, 2);
        ledger.post_main_killed(usage(900, 100, 50));
        assert_eq!(ledger.usage_within(1000 * MS), usage(900, 100, 50));
        assert_eq!(ledger.usage_within(1100 * MS), usage(990, 110, 50));
        assert_eq!(ledger.usage_within(100 * MS), usage(90, 10, 50), "a runtime that was loaded before");
        let nothing = CpuLedger::cell(baseline(0, 0), 0, 0, 0).usage_within(500 * MS);
        assert_eq!(nothing, usage(500, 0, 0));
    }

    #[test]
    fn the_end_of_a_cells_program_is_posted_once() {
        let mut ledger = CpuLedger::cell(baseline(0, 0), 0, 0, 0);
        let end = end(150, 50, 30);
        ledger.post_cell_end(&end);
        ledger.post_cell_end(&end);
        assert_eq!(ledger.usage(), ChildUsage { user_ns: 150, system_ns: 50, max_rss: 7 });
        assert_eq!(ledger.children_ns(), 230);
    }

    #[test]
    fn a_reaped_cell_init_is_charged_its_whole_life_without_its_children() {
        let mut ledger = CpuLedger::cell(baseline(0, 0), 0, 40, 0);
        ledger.post_cell_end(&end(150, 50, 30));
        assert!(!ledger.is_cell_init_reaped());
        ledger.post_cell_init(exited(0, 290));
        assert!(ledger.is_cell_init_reaped());
        // 290 - 230 = 60 in its life, 40 of them before the run
        assert_eq!(ledger.program_ns(0, live(500, 0)), 480);
        assert_eq!(ledger.usage(), ChildUsage { user_ns: 150, system_ns: 50, max_rss: 7 });
    }

    #[test]
    fn a_cell_init_that_was_killed_before_its_report_is_charged_up_to_the_kill() {
        let mut ledger = CpuLedger::cell(baseline(0, 0), 0, 40, 0);
        ledger.post_cell_init_killed(70);
        ledger.post_cell_init_killed(60);
        ledger.post_cell_init(exited(200, 0));
        assert_eq!(ledger.program_ns(0, live(500, 0)), 470);
        assert_eq!(ledger.usage(), ChildUsage { user_ns: 200, system_ns: 0, max_rss: 9 });
        assert_eq!(ledger.children_ns(), 200);
    }
}
