//! One run, from its start to its facts.
//!
//! A state machine without a loop of its own: the session reports what happened (a child exited, a
//! pipe is ready, a timer is due, a frame arrived) and the run kills, reads, writes and counts. It
//! does not judge: it reports which armed limit fired and what was counted.
//!
//! ```text
//!            main process ended, or a limit fired, or Kill
//!  Running -----------------------------------------------> Ending --------> Over (facts final)
//!    stdin, output, samples, timers                           SIGKILL until no child is left;
//!                                                             output is read to its end
//!                                                             (10 s without credit: discarded;
//!                                                             10 s with a child that does not
//!                                                             die: stuck, not clean)
//! ```

use super::cell_init;
use super::cgroup::{Cgroup, CgroupCounters};
use super::cpu_ledger::{CpuLedger, LiveClocks, RunBaseline};
use super::frame_queue::FrameQueue;
use super::input::{BufferedInput, Input};
use super::limits::{self, SAMPLE_NS};
use super::outputs::{Outputs, ReadOutcome};
use super::queued_run::QueuedRun;
use super::ready_cell::ReadyCell;
use super::run_status::StatusPipe;
use super::setup::{StartedProgram, StdioEnds, UsedCell};
use super::sys::{self, ExitedChild};
use std::os::fd::{OwnedFd, RawFd};
use wire::frame::{Done, Ended, Fired, FromInit, MemoryMethod, Run};

use nix::libc;

/// How long an ending run waits for credit, and for killed processes to exit.
const PATIENCE_NS: u64 = 10_000_000_000;

/// Interval between kills while processes are left.
const KILL_AGAIN_NS: u64 = 10_000_000;

/// Where the program's processes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RunKind {
    /// Children of the init, in its own namespaces.
    Split,
    /// In a cell, below its cell init.
    Cell {
        /// Whether the init killed the cell.
        was_killed: bool,
    },
}

/// What is left of a run's cell after the run.
pub enum CellRemains {
    Nothing,
    /// Its cell init, which is exiting.
    Exiting {
        pid: i32,
        /// The part of its rusage that was charged to programs, in nanoseconds.
        charged_ns: u64,
    },
    /// The unchanged cell, ready for the next run.
    Unchanged(Box<ReadyCell>),
}

/// A run in progress.
pub struct RunState {
    /// What the daemon asked for.
    pub spec: Run,
    /// The main process, or the cell init.
    pid: i32,
    kind: RunKind,
    ledger: CpuLedger,
    started_at: u64,
    /// CPUs that the sandbox can keep busy, in 1e-9.
    speed: u64,
    status: StatusPipe,
    /// The control socket to the cell init, through which /box arrives.
    control: Option<OwnedFd>,
    /// Set if the cell served an earlier run.
    used: Option<UsedCell>,
    /// Whether the cell init was sent the queued run.
    next_was_sent: bool,
    /// Held until the run is over: see [`StartedProgram::ready`].
    _ready: Option<OwnedFd>,
    pub input: Input,
    pub outputs: Outputs,
    fired: Fired,
    ended: Option<Ended>,
    /// When the main process ended or the kill was sent.
    end_at: Option<u64>,
    killed_at: Option<u64>,
    /// When credit last arrived or output was last read.
    progress_at: u64,
    /// Whether no process of the program is left.
    all_reaped: bool,
    /// Whether a process survived its kill for too long.
    stuck: bool,
    survivors: u32,
    /// Largest sample of the cgroup's memory use, in bytes.
    memory_sample: u64,
    deadlines: Deadlines,
}

/// When [`RunState::tick`] is due, by reason; monotonic, in nanoseconds, u64::MAX for never.
struct Deadlines {
    sample: u64,
    cpu: u64,
    kill: u64,
    usage: u64,
}

impl RunState {
    /// The program of `spec` has been started. `speed` is how many CPUs it can keep busy, in 1e-9.
    pub fn new(spec: Run, started: StartedProgram, ledger: CpuLedger, speed: u64) -> Self {
        let StartedProgram { pid, stdio: StdioEnds { stdin, output }, status, control, ready, used } = started;
        let now = sys::now();
        let deadlines = Deadlines {
            sample: now + SAMPLE_NS,
            cpu: now.saturating_add(limits::next_cpu_check_ns(0, spec.limits.cpu_ns, speed)),
            kill: u64::MAX,
            usage: if spec.usage_interval_ns == 0 { u64::MAX } else { now },
        };
        let mut run = Self {
            pid,
            kind: if control.is_some() { RunKind::Cell { was_killed: false } } else { RunKind::Split },
            ledger,
            started_at: now,
            speed,
            status,
            control,
            used,
            next_was_sent: false,
            _ready: ready,
            input: Input::new(spec.run, stdin),
            outputs: Outputs::new(&spec, output),
            fired: Fired::None,
            ended: None,
            end_at: None,
            killed_at: None,
            progress_at: now,
            all_reaped: false,
            stuck: false,
            survivors: 0,
            memory_sample: 0,
            deadlines,
            spec,
        };
        // a run that was sent in advance may have started long ago
        run.recv();
        run
    }

    /// Reads what the run's processes reported and posts it to the ledger.
    fn recv(&mut self) {
        let status = self.status.recv();
        if let Some(start) = &status.start {
            self.started_at = start.at;
            self.ledger.post_start(start);
        }
        if let Some(end) = &status.end {
            self.ledger.post_cell_end(end);
        }
    }

    /// Whether the cell init reported the end. To be called after reading counters: once it has,
    /// they may include the next run.
    fn has_reported_end(&mut self) -> bool {
        self.recv();
        self.status.status().end.is_some()
    }

    /// When [`Self::tick`] is due at the latest.
    #[must_use]
    pub fn next_tick(&self) -> u64 {
        let Deadlines { sample, cpu, kill, usage } = self.deadlines;
        match self.killed_at {
            Some(_) if self.outputs.is_discarding() => kill,
            Some(_) => kill.min(self.progress_at.saturating_add(PATIENCE_NS)),
            None => sample.min(cpu).min(usage).min(self.wall_deadline()),
        }
    }

    fn wall_deadline(&self) -> u64 {
        self.started_at.saturating_add(self.spec.limits.wall_ns)
    }

    /// Acts on the timers that are due. `own_ns` reads the CPU time of the init and its helpers.
    pub fn tick(&mut self, now: u64, cgroup: &Cgroup, own_ns: impl FnMut() -> u64, out: &mut FrameQueue) {
        match self.killed_at {
            None => self.tick_running(now, cgroup, own_ns, out),
            Some(killed_at) => self.tick_ending(now, killed_at),
        }
    }

    fn tick_running(&mut self, now: u64, cgroup: &Cgroup, mut own_ns: impl FnMut() -> u64, out: &mut FrameQueue) {
        // The deadline was set at the fork, but the program's time counts from its exec a little
        // later, so ask again.
        if now >= self.wall_deadline() {
            self.recv();
        }
        if now >= self.wall_deadline() && !self.has_reported_end() {
            return self.fire(Fired::Wall, now);
        }
        if now >= self.deadlines.cpu && cgroup.has_cpu() {
            let used = self.program_ns(cgroup, own_ns());
            let limit = self.spec.limits.cpu_ns;
            if used >= limit && !self.has_reported_end() {
                return self.fire(Fired::Cpu, now);
            }
            self.deadlines.cpu = now.saturating_add(limits::next_cpu_check_ns(used, limit, self.speed));
        } else if now >= self.deadlines.cpu {
            self.deadlines.cpu = u64::MAX;
        }
        if now >= self.deadlines.usage {
            self.deadlines.usage = now.saturating_add(self.spec.usage_interval_ns.max(SAMPLE_NS));
            self.send_usage(now, cgroup, own_ns(), out);
        }
        if now >= self.deadlines.sample {
            self.deadlines.sample = now + SAMPLE_NS;
            self.memory_sample = self.memory_sample.max(cgroup.memory());
            self.check_oom(now, cgroup);
        }
    }

    fn tick_ending(&mut self, now: u64, killed_at: u64) {
        if now >= self.deadlines.kill {
            self.deadlines.kill = now + KILL_AGAIN_NS;
            if !self.all_reaped {
                self.kill_all();
            }
            if self.all_reaped {
                self.deadlines.kill = u64::MAX;
            } else if now.saturating_sub(killed_at) > PATIENCE_NS {
                // A process that SIGKILL cannot end (blocked in the kernel) keeps its pipes open.
                self.stuck = true;
                self.outputs.discard();
                self.outputs.close();
            }
        }
        if now.saturating_sub(self.progress_at) >= PATIENCE_NS {
            self.outputs.discard();
        }
    }

    /// A process of the program, or its cell init, was reaped.
    pub fn child_exited(&mut self, child: ExitedChild, now: u64) {
        let is_main = child.pid == self.pid;
        if is_main && self.kind != RunKind::Split {
            let has_reported_end = self.has_reported_end();
            self.ledger.post_cell_init(child);
            self.all_reaped = true;
            if has_reported_end {
                return;
            }
        } else {
            self.ledger.post_process(&child);
        }
        if is_main {
            self.ended = Some(match (child.exited, child.signal) {
                (Some(status), _) => Ended::Exited(status),
                (None, signal) => Ended::Signaled(signal.unwrap_or(libc::SIGKILL as u8)),
            });
            self.end_at.get_or_insert(now);
        } else if self.killed_at.is_some() && child.signal == Some(libc::SIGKILL as u8) {
            self.survivors = self.survivors.saturating_add(1);
        }
    }

    /// When the cell's program ended, if the cell is unchanged; monotonic, in nanoseconds.
    #[must_use]
    pub fn unchanged_at(&self) -> Option<u64> {
        self.ledger.snapshot().map(|snapshot| snapshot.at)
    }

    /// Sends the queued run to the cell init, if this cell can serve it.
    pub fn send_next(&mut self, next: &mut QueuedRun) {
        if self.killed_at.is_none() && cell_init::may_be_followed(&self.spec) && !self.has_reported_end() {
            self.next_was_sent = self.control.as_ref().is_some_and(|control| next.send(control));
        }
    }

    /// Cancels the queued run in this cell by killing the cell: its limits are not enforced until
    /// this run has ended, so it must not run while this one drains its output.
    pub fn cancel_next(&mut self) {
        if self.next_was_sent && !self.was_killed() {
            self.kill_all();
            // what the queued run used is counted when its cell is gone
            self.all_reaped = false;
        }
    }

    fn was_killed(&self) -> bool {
        matches!(self.kind, RunKind::Cell { was_killed: true })
    }

    /// Called after all exited children were reaped; `childless` is true if none remain. Decides
    /// whether the run has ended. `own_ns` reads the CPU time of the init and its helpers, now or
    /// at an instant.
    pub fn settle(&mut self, childless: bool, now: u64, cgroup: &Cgroup, mut own_ns: impl FnMut(Option<u64>) -> u64) {
        match self.kind {
            RunKind::Split => self.all_reaped = childless,
            RunKind::Cell { .. } => self.settle_cell(&mut own_ns),
        }
        self.check_oom(now, cgroup);
        if self.ended.is_some() && self.killed_at.is_none() {
            if self.ended == Some(Ended::Signaled(libc::SIGXCPU as u8))
                && (!cgroup.has_cpu() || self.program_ns(cgroup, own_ns(None)) >= self.spec.limits.cpu_ns)
            {
                self.fired = Fired::Cpu;
            }
            self.end(now);
        }
    }

    /// The cell init reports the end when all other processes are gone, and exits a little later.
    fn settle_cell(&mut self, own_ns: &mut impl FnMut(Option<u64>) -> u64) {
        self.recv();
        let Some(end) = self.status.status().end.clone().filter(|_| self.ended.is_none()) else { return };
        self.survivors = end.survivors;
        self.ended = Some(end.ended);
        self.end_at.get_or_insert(end.at);
        if let Some(snapshot) = end.unchanged {
            self.ledger.post_own_at_snapshot(own_ns(Some(snapshot.at)));
        }
        // if the queued run may have started and the cell was killed, its processes are waited for
        self.all_reaped = !(self.next_was_sent && self.was_killed());
    }

    /// The pipe for poll through which the cell init reports; otherwise -1.
    #[must_use]
    pub fn status_fd(&self) -> RawFd {
        match self.kind {
            RunKind::Cell { .. } if self.ended.is_none() => self.status.fd(),
            _ => -1,
        }
    }

    /// The /box of its cell. It outlives the cell as long as the descriptor is open.
    #[must_use]
    pub fn open_box(&self) -> Option<OwnedFd> {
        match &self.used {
            Some(used) => used.folder.try_clone().ok(),
            None => sys::recv_fds(self.control.as_ref()?, false).ok().map(|[folder]| folder),
        }
    }

    /// Ends the run's life. Returns what was asked for and what is left of its cell, whose /box is
    /// `folder`.
    #[must_use]
    pub fn into_remains(self, folder: Option<&OwnedFd>) -> (Run, CellRemains) {
        let RunKind::Cell { was_killed } = self.kind else {
            return (self.spec, CellRemains::Nothing);
        };
        if self.ledger.is_cell_init_reaped() {
            return (self.spec, CellRemains::Nothing);
        }
        let children_ns = self.ledger.children_ns();
        let snapshot = self.ledger.snapshot().filter(|_| !was_killed);
        let remains = match (snapshot, self.control, folder.and_then(|folder| folder.try_clone().ok())) {
            (Some(snapshot), Some(control), Some(folder)) => {
                let used = UsedCell { folder, children_ns, cell_init_ns: snapshot.cell_init_ns };
                CellRemains::Unchanged(Box::new(ReadyCell::reused(self.pid, control, self.status, used)))
            }
            _ => CellRemains::Exiting { pid: self.pid, charged_ns: children_ns },
        };
        (self.spec, remains)
    }

    /// CPU time of the program so far, in nanoseconds.
    fn program_ns(&mut self, cgroup: &Cgroup, own_ns: u64) -> u64 {
        self.recv();
        self.ledger.program_ns(own_ns, || LiveClocks {
            cell_init_ns: if self.kind == RunKind::Split { 0 } else { sys::cpu_of(self.pid) },
            cgroup_ns: cgroup.cpu_ns(),
        })
    }

    fn send_usage(&mut self, now: u64, cgroup: &Cgroup, own_ns: u64, out: &mut FrameQueue) {
        let cpu_ns = self.program_ns(cgroup, own_ns);
        // The difference reads low when a prewarmed runtime had its memory before, or a discarded
        // one has freed some since. It is at least what the largest process has.
        let more = cgroup.memory().saturating_sub(self.ledger.baseline().counters.memory);
        let resident = |pid| sys::memory_of(pid).0;
        let largest = match self.kind {
            RunKind::Split => resident(self.pid),
            RunKind::Cell { .. } => sys::children(self.pid).into_iter().map(resident).max().unwrap_or_default(),
        };
        out.push(&FromInit::Usage {
            run: self.spec.run,
            wall_ns: now.saturating_sub(self.started_at),
            cpu_ns,
            memory_bytes: more.max(largest),
        });
    }

    fn check_oom(&mut self, now: u64, cgroup: &Cgroup) {
        let before = self.ledger.baseline().counters.oom_kills;
        if self.fired == Fired::None && cgroup.oom_kills() > before {
            let is_the_next_runs = self.has_reported_end()
                && self.ledger.snapshot().is_some_and(|snapshot| snapshot.counters.oom_kills == before);
            if !is_the_next_runs {
                self.fire(Fired::Memory, now);
            }
        }
    }

    fn fire(&mut self, why: Fired, now: u64) {
        if self.fired == Fired::None {
            self.fired = why;
        }
        self.end(now);
    }

    /// Kills all processes of the program, now and (in `tick`) again until they are gone.
    fn end(&mut self, now: u64) {
        if self.killed_at.is_some() {
            return;
        }
        self.killed_at = Some(now);
        self.end_at.get_or_insert(now);
        self.progress_at = now;
        self.input.close();
        self.deadlines.kill = now + KILL_AGAIN_NS;
        // An orphan becomes PID 1's child before its parent can be reaped, so without children
        // there is nothing to kill.
        if !self.all_reaped {
            self.kill_all();
        }
    }

    fn kill_all(&mut self) {
        match &mut self.kind {
            RunKind::Split => sys::kill_everyone(),
            RunKind::Cell { was_killed } => {
                *was_killed = true;
                self.ledger.post_cell_init_killed(sys::cpu_of(self.pid));
                sys::kill(self.pid);
            }
        }
    }

    /// A Kill frame arrived.
    pub fn kill(&mut self, now: u64) {
        if self.killed_at.is_none() {
            self.fire(Fired::Kill, now);
        }
    }

    /// Processes what arrived for this run before it started.
    pub fn replay(&mut self, buffered: &BufferedInput, now: u64, out: &mut FrameQueue) {
        // it was within the window when it arrived
        let _ = self.input.feed(buffered.data(), out);
        if buffered.is_ended() {
            self.input.end();
        }
        if buffered.is_killed() {
            self.kill(now);
        }
    }

    /// The daemon consumed output.
    pub fn credit(&mut self, bytes: u32, now: u64) {
        self.outputs.credit(bytes);
        self.progress_at = now;
    }

    /// Reads one of the outputs, once. Returns whether there may be more at once.
    pub fn read_output(&mut self, i: usize, now: u64, buffer: &mut [u8], out: &mut FrameQueue) -> bool {
        let outcome = self.outputs.read(i, buffer, out);
        if outcome == ReadOutcome::Nothing {
            return false;
        }
        self.progress_at = now;
        if outcome == ReadOutcome::OverLimit && !self.spec.truncate_output && self.fired == Fired::None {
            self.fired = Fired::Output;
            self.end(now);
        }
        true
    }

    /// Whether output is read to its end without waiting for poll.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.killed_at.is_some()
    }

    /// Whether all processes are gone and all output has been read.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.killed_at.is_some() && (self.all_reaped || self.stuck) && self.outputs.have_ended()
    }

    /// The facts, and the baseline of a run that follows at once. The session fills in
    /// `keep_missing` and `clean`.
    #[must_use]
    pub fn facts(&mut self, cgroup: &Cgroup, own_ns: u64) -> (Done, RunBaseline) {
        let cpu_ns = self.program_ns(cgroup, own_ns);
        let counters = self.ledger.snapshot().map_or_else(|| cgroup.counters(), |snapshot| snapshot.counters);
        let next = self.ledger.next_baseline(counters, own_ns);
        let (was, is) = (self.ledger.baseline().counters, &next.counters);
        let status = self.status.status();
        let hot = status.start.is_some_and(|start| start.hot);
        let ended = match (status.failed.clone(), &self.ended) {
            (Some(failed), _) => Ended::NotStarted { step: failed.step, errno: failed.errno },
            (None, Some(ended)) => ended.clone(),
            (None, None) => Ended::Signaled(libc::SIGKILL as u8),
        };
        let oom_kills = is.oom_kills.saturating_sub(was.oom_kills);
        let usage = self.ledger.usage();
        let (memory_bytes, memory_source) = self.memory(&was, is, cgroup);
        let [stdout_bytes, stderr_bytes] = self.outputs.counted();
        let done = Done {
            run: self.spec.run,
            ended,
            fired: match self.fired {
                Fired::None if oom_kills > 0 => Fired::Memory,
                fired => fired,
            },
            wall_ns: self.end_at.unwrap_or(self.started_at).saturating_sub(self.started_at),
            cpu_ns: if cgroup.has_cpu() { cpu_ns } else { usage.user_ns + usage.system_ns },
            user_ns: usage.user_ns,
            system_ns: usage.system_ns,
            memory_bytes,
            memory_source,
            max_rss_bytes: usage.max_rss,
            oom_kills,
            pids_denied: is.pids_denied.saturating_sub(was.pids_denied),
            survivors: self.survivors,
            stdout_bytes,
            stderr_bytes,
            keep_missing: Vec::new(),
            setup_ns: self.started_at.saturating_sub(self.ledger.requested_at()),
            hot,
            clean: !self.stuck,
        };
        (done, next)
    }

    fn memory(&self, was: &CgroupCounters, is: &CgroupCounters, cgroup: &Cgroup) -> (u64, MemoryMethod) {
        let max_rss = self.ledger.usage().max_rss;
        if !cgroup.has_memory() {
            return (max_rss, MemoryMethod::MaxRss);
        }
        // Exact except that the kernel charges in batches of 64 pages per CPU.
        if is.memory_peak > was.memory_peak && was.memory_peak > 0 {
            let used = is.memory_peak.saturating_sub(was.memory);
            // Reads low if pages that were freed before the run hid the peak. It is at least what
            // the largest process had.
            return (used.max(max_rss), MemoryMethod::CgroupPeak);
        }
        let sampled = self.memory_sample.saturating_sub(was.memory);
        (sampled.max(max_rss), MemoryMethod::Sampled)
    }
}
