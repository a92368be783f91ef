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

use super::cell::{CellFiles, sockets_in_use};
use super::cgroup::Cgroup;
use super::cpu_ledger::{ChildUsage, CpuLedger, LiveClocks};
use super::frame_queue::FrameQueue;
use super::input::{BufferedInput, Input};
use super::limits::{self, CPU_SLACK_NS, FIRST_SAMPLE_NS, SAMPLE_NS};
use super::memory_ledger::MemoryLedger;
use super::outputs::{Outputs, ReadOutcome};
use super::run_status::StatusPipe;
use super::setup::{StartedCell, StartedProgram, StdioEnds};
use super::sys::{self, ExitedChild, Resident, SocketCounts};
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
    Cell,
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
}

/// For how many times as long as it takes to count what is in the buffers of sockets it is not
/// counted again.
const QUEUES_PAUSE: u64 = 10;

/// A run in progress.
pub struct RunState {
    /// What the daemon asked for.
    pub spec: Run,
    /// The main process, or the cell init.
    pub pid: i32,
    kind: RunKind,
    /// The main process in a cell, unless another one replaces the process that waited there.
    main: Option<i32>,
    ledger: CpuLedger,
    started_at: u64,
    /// CPUs that the sandbox can keep busy, in 1e-9.
    speed: u64,
    status: StatusPipe,
    /// The control socket and the files of its cell; `None` in `split`.
    cell: Option<StartedCell>,
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
    pub memory: MemoryLedger,
    /// Memory of sockets that the cgroup is not charged for, and of what is in their buffers, when
    /// it was last counted, in bytes.
    socket_bytes: u64,
    queued_bytes: u64,
    deadlines: Deadlines,
}

/// When [`RunState::tick`] is due, by reason; monotonic, in nanoseconds, u64::MAX for never.
struct Deadlines {
    sample: u64,
    /// When sockets may be counted again.
    sockets: u64,
    /// When what is in their buffers may be.
    queues: u64,
    cpu: u64,
    kill: u64,
    usage: u64,
}

impl RunState {
    /// The program of `spec` has been started. `speed` is how many CPUs it can keep busy, in 1e-9.
    pub fn new(spec: Run, started: StartedProgram, ledger: CpuLedger, memory: MemoryLedger, speed: u64) -> Self {
        let StartedProgram { pid, main, stdio: StdioEnds { stdin, output }, status, cell, ready } = started;
        let now = sys::now();
        let deadlines = Deadlines {
            sample: now + FIRST_SAMPLE_NS,
            sockets: now,
            queues: now,
            cpu: now.saturating_add(limits::next_cpu_check_ns(0, spec.limits.cpu_ns, speed)),
            kill: u64::MAX,
            // a run that is shorter pays nothing for it
            usage: match spec.usage_interval_ns {
                0 => u64::MAX,
                interval_ns => now.saturating_add(interval_ns),
            },
        };
        Self {
            pid,
            kind: if cell.is_some() { RunKind::Cell } else { RunKind::Split },
            main,
            ledger,
            started_at: now,
            speed,
            status,
            cell,
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
            memory,
            socket_bytes: 0,
            queued_bytes: 0,
            deadlines,
            spec,
        }
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
        let Deadlines { sample, cpu, kill, usage, .. } = self.deadlines;
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
            // The final figure, which decides, can be a little smaller: it knows the init's part
            // better. It must not be below the limit.
            let end = limit.saturating_add(CPU_SLACK_NS);
            if used >= end && !self.has_reported_end() {
                return self.fire(Fired::Cpu, now);
            }
            self.deadlines.cpu = now.saturating_add(limits::next_cpu_check_ns(used, end, self.speed));
        } else if now >= self.deadlines.cpu {
            self.deadlines.cpu = u64::MAX;
        }
        if now >= self.deadlines.usage {
            self.deadlines.usage = now.saturating_add(self.spec.usage_interval_ns.max(SAMPLE_NS));
            self.send_usage(now, cgroup, own_ns(), out);
        }
        if now >= self.deadlines.sample {
            self.sample_memory(now, cgroup);
        }
    }

    /// Samples the memory and ends the run if it used more than its limit.
    fn sample_memory(&mut self, now: u64, cgroup: &Cgroup) {
        let mut counters = cgroup.memory_counters();
        if now >= self.deadlines.sockets {
            self.deadlines.sockets = now + SAMPLE_NS;
            self.read_socket_bytes(now, !cgroup.counts_sockets() && counters.sockets == 0);
        }
        counters.sockets += self.socket_bytes + self.queued_bytes;
        if !cgroup.has_memory() || self.has_reported_end() {
            self.deadlines.sample = now + SAMPLE_NS;
            return;
        }
        let is_hidden = self.memory.is_hidden(&counters);
        self.memory.sample(&counters, if is_hidden { self.resident() } else { None });
        let (peak, limit) = (self.memory.peak(&counters, 0).0, self.spec.limits.memory_bytes);
        if peak > limit {
            return self.fire(Fired::Memory, now);
        }
        let age_ns = now.saturating_sub(self.started_at);
        self.deadlines.sample = now + limits::next_memory_check_ns(limit - peak, is_hidden, age_ns);
    }

    /// Counts the memory of sockets that the cgroup is not charged for. Most programs have no
    /// socket, which the cell's own count tells at once.
    fn read_socket_bytes(&mut self, now: u64, with_queues: bool) {
        let files = self.cell.as_mut().and_then(StartedCell::files);
        let counts = match files.is_some_and(|files| sockets_in_use(&files.sockets) == 0) {
            true => SocketCounts::default(),
            false => SocketCounts::of(self.pid),
        };
        self.socket_bytes = counts.uncharged_bytes();
        if !with_queues || !counts.have_queues() {
            self.queued_bytes = 0;
        } else if now >= self.deadlines.queues {
            self.queued_bytes = sys::queued_bytes(self.pid);
            // with very many sockets this takes a while
            let took = sys::now().saturating_sub(now);
            self.deadlines.queues = now + took + QUEUES_PAUSE * took;
        }
    }

    /// What the main process has in memory.
    fn resident(&self) -> Option<Resident> {
        self.main_process().map(sys::resident_of)
    }

    fn main_process(&self) -> Option<i32> {
        match self.kind {
            RunKind::Split => Some(self.pid),
            RunKind::Cell => self.main.or_else(|| sys::children(self.pid).first().copied()),
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

    /// Called after all exited children were reaped; `childless` is true if none remain. Decides
    /// whether the run has ended.
    pub fn settle(&mut self, childless: bool, now: u64, cgroup: &Cgroup) {
        match self.kind {
            RunKind::Split => self.all_reaped = childless,
            RunKind::Cell => self.settle_cell(),
        }
        if self.ended.is_some() && self.killed_at.is_none() {
            // while it runs, samples tell
            self.check_oom(now, cgroup);
            // without the cgroup's CPU time, RLIMIT_CPU is the limit
            if self.ended == Some(Ended::Signaled(libc::SIGXCPU as u8)) && !cgroup.has_cpu() {
                self.fired = Fired::Cpu;
            }
            self.end(now);
        }
    }

    /// The cell init reports the end when all other processes are gone, and exits a little later.
    fn settle_cell(&mut self) {
        self.recv();
        let Some(end) = self.status.status().end.clone().filter(|_| self.ended.is_none()) else { return };
        self.survivors = end.survivors;
        self.ended = Some(end.ended);
        self.end_at.get_or_insert(end.at);
        self.all_reaped = true;
    }

    /// The pipe for poll through which the cell init reports; otherwise -1.
    #[must_use]
    pub fn status_fd(&self) -> RawFd {
        match self.kind {
            RunKind::Cell if self.ended.is_none() => self.status.fd(),
            _ => -1,
        }
    }

    /// Ends the run's life. Returns what was asked for, what is left of its cell, and its files.
    #[must_use]
    pub fn into_remains(self) -> (Run, CellRemains, Option<CellFiles>) {
        let remains = match self.kind {
            RunKind::Cell if !self.ledger.is_cell_init_reaped() => {
                CellRemains::Exiting { pid: self.pid, charged_ns: self.ledger.children_ns() }
            }
            _ => CellRemains::Nothing,
        };
        (self.spec, remains, self.cell.and_then(StartedCell::into_files))
    }

    /// CPU time of the program so far, in nanoseconds.
    fn program_ns(&mut self, cgroup: &Cgroup, own_ns: u64) -> u64 {
        self.recv();
        let cell_init_ns = if self.kind == RunKind::Split { 0 } else { sys::cpu_of(self.pid) };
        self.ledger.program_ns(own_ns, LiveClocks { cell_init_ns, cgroup_ns: cgroup.cpu_ns() })
    }

    fn send_usage(&mut self, now: u64, cgroup: &Cgroup, own_ns: u64, out: &mut FrameQueue) {
        let cpu_ns = self.program_ns(cgroup, own_ns);
        let memory_bytes =
            if cgroup.has_memory() { self.memory.now(&cgroup.memory_counters()) } else { sys::memory_of(self.pid).0 };
        out.push(&FromInit::Usage {
            run: self.spec.run,
            wall_ns: now.saturating_sub(self.started_at),
            cpu_ns,
            memory_bytes,
        });
    }

    fn check_oom(&mut self, now: u64, cgroup: &Cgroup) {
        let before = self.ledger.baseline().counters.oom_kills;
        if self.fired == Fired::None && cgroup.oom_kills() > before {
            let counters = cgroup.memory_counters();
            self.memory.sample(&counters, None);
            // otherwise the machine's memory was short: no limit of the program
            if self.memory.peak(&counters, 0).0 > self.spec.limits.memory_bytes {
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
        match self.kind {
            RunKind::Split => sys::kill_everyone(),
            RunKind::Cell => {
                self.ledger.post_cell_init_killed(sys::cpu_of(self.pid));
                if let Some(main) = self.main_process() {
                    let ((user_ns, system_ns), max_rss) = (sys::ticks_of(main), sys::resident_of(main).most);
                    self.ledger.post_main_killed(ChildUsage { user_ns, system_ns, max_rss });
                }
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
        let outcome = self.outputs.read(i, now, buffer, out);
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

    /// The facts. The session fills in `keep_missing` and `clean`.
    #[must_use]
    pub fn facts(&mut self, cgroup: &Cgroup, own_ns: u64) -> Done {
        let cpu_ns = self.program_ns(cgroup, own_ns);
        let (was, is) = (self.ledger.baseline().counters, cgroup.counters());
        let status = self.status.status();
        let hot = status.start.is_some_and(|start| start.hot);
        let ended = match (status.failed.clone(), &self.ended) {
            (Some(failed), _) => Ended::NotStarted { step: failed.step, errno: failed.errno },
            (None, Some(ended)) => ended.clone(),
            (None, None) => Ended::Signaled(libc::SIGKILL as u8),
        };
        let oom_kills = is.oom_kills.saturating_sub(was.oom_kills);
        let usage = if cgroup.has_cpu() { self.ledger.usage_within(cpu_ns) } else { self.ledger.usage() };
        let (memory_bytes, memory_source) = match cgroup.has_memory() {
            true => self.memory.peak(&is, usage.max_rss),
            false => (usage.max_rss, MemoryMethod::MaxRss),
        };
        let [stdout_bytes, stderr_bytes] = self.outputs.counted();
        Done {
            run: self.spec.run,
            ended,
            fired: self.fired,
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
        }
    }
}
