//! What in a sandbox is not its program's: room for processes that others use, memory of runtimes
//! that load, memory of cells that are exiting.

use super::SandboxState;
use crate::cell_pool::{CellPool, RunSource};
use crate::memory_ledger::Inherited;
use crate::own_cpu::OwnCpu;
use crate::run::RunState;
use crate::sys::{self, Holdings};

/// Memory in use above which a run waits until cells that are exiting have freed theirs: less does
/// not change its figures.
const FREED_BYTES: u64 = 1024 * 1024;

/// How often a run looks whether they have exited, and the pause in between.
const MAX_EXIT_CHECKS: usize = 2_000;
const EXIT_CHECK_NS: u64 = 250_000;

impl SandboxState {
    /// Fills the room for processes that the next run does not need while nothing runs or loads.
    pub fn fit_room(&mut self) {
        if self.wants_fit && self.active.is_none() && self.queued.is_empty() && !self.pool.is_loading() {
            self.wants_fit = false;
            let waiting = self.pool.count_waiting();
            self.room.fill_for_next(&self.cgroup, waiting);
            if !self.files.has_served() {
                // the stacks of the parked threads belong to the first state
                let known = self.known_bytes();
                self.audit_baseline.read_memory_again(&self.cgroup, known);
            }
        }
    }

    /// A run that no template serves has the sandbox for itself: a template that is loading would
    /// take its CPU share, and hide its peak of memory.
    pub(super) fn pause_templates(&mut self, source: RunSource, is_still: bool, now: u64) {
        let is_forked = source == RunSource::Template || source == RunSource::WaitingRuntime && is_still;
        if !is_forked {
            self.pool.pause_templates(now);
        }
    }

    /// Keeps what runtimes have loaded since the run began out of its memory, when that is looked
    /// at.
    pub(super) fn update_loaded(&mut self, is_looked_at: impl FnOnce(&RunState) -> bool) {
        if let Some(before) = self.helpers_before
            && let Some(active) = self.active.as_mut().filter(|active| is_looked_at(active))
        {
            active.memory.set_loaded(self.pool.helper_bytes().saturating_sub(before));
        }
    }

    /// What a run has before it begins, in a cell in which a process waits that holds `held`.
    pub(super) fn inherited(&self, source: RunSource, held: Holdings, is_still: bool) -> Inherited {
        match source {
            RunSource::Nothing => Inherited::default(),
            RunSource::WaitingRuntime => {
                let forking_bytes = if is_still { self.pool.forking_bytes() } else { 0 };
                let bytes = held.charged.saturating_sub(forking_bytes);
                Inherited { bytes, copied_bytes: 0, file_bytes: Some(held.files) }
            }
            RunSource::Template => {
                // the blank child that waits in the cell ends
                let shared = self.pool.template_holdings();
                Inherited { bytes: shared.bytes + held.charged, ..shared }
            }
        }
    }

    /// Waits until cells that are exiting have freed their memory, if they may have much: it is not
    /// the next run's, and the next run needs it. `waiting_bytes` are those of the runtime that
    /// serves it. Bounded, because a process can be stuck.
    pub(super) fn wait_for_exits(&mut self, waiting_bytes: u64, now: u64) {
        if !self.own_cpu.is_any_exiting() {
            return;
        }
        let known = self.known_bytes() + waiting_bytes;
        let used = |sandbox: &Self| sandbox.cgroup.memory_counters().used().saturating_sub(known);
        if self.quiet_bytes.is_some_and(|quiet| used(self) < quiet + FREED_BYTES) {
            return;
        }
        for _ in 0..MAX_EXIT_CHECKS {
            if self.own_cpu.have_all_exited() {
                self.reap(now);
                self.quiet_bytes = Some(used(self));
                return;
            }
            let _ = sys::poll(&mut [], EXIT_CHECK_NS);
        }
    }
}

/// CPU time of the init and its helpers. The pool's clocks are read first, because reading them
/// costs CPU time that `init_ns` then includes.
pub(super) fn own_ns(pool: &mut CellPool, own_cpu: &OwnCpu, init_ns: impl FnOnce() -> u64) -> u64 {
    let pool_ns = pool.cpu_ns();
    pool_ns + own_cpu.cpu_ns(init_ns())
}
