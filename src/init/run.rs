//! One run, from fork to facts.
//!
//! A state machine without a loop of its own: the session tells it what happened (a child ended, a pipe is ready, time
//! passed, a frame came) and it kills, reads, writes and counts. It never judges: which armed limit fired and what was
//! counted is all it says.
//!
//! ```text
//!            main process ended, or a limit fired, or Kill
//!  Running -----------------------------------------------> Ending -----------> Over (facts can be taken)
//!    |  stdin, output, samples, timers                        |  kill(-1) until no child is left,
//!    +--------------------------------------------------------+  pipes read to their end (10 s without
//!                                                                credit: thrown away; 10 s with a child
//!                                                                that will not die: given up, not clean)
//! ```

use super::ahead::Next;
use super::cgroup::{Before, Cgroup, Counters};
use super::input::Input;
use super::leader;
use super::limits::{self, SAMPLE_NS};
use super::output::Out;
use super::outputs::{Outputs, Taken};
use super::report::{Between, Report};
use super::setup::{Started, Used};
use super::sys::{self, Waited};
use super::waiting::Waiting;
use std::os::fd::{OwnedFd, RawFd};
use wire::frame::{Done, Ended, Fired, FromInit, MemoryMethod, Run};

use nix::libc;

/// How long the end of a run waits: for credit without progress, and for a killed process to be gone.
const PATIENCE_NS: u64 = 10_000_000_000;

/// How often a kill is repeated while something is left.
const KILL_AGAIN_NS: u64 = 10_000_000;

/// Whether all of the program's processes are the init's own children, or in a cell under a PID 1 of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Split,
    Cell {
        /// CPU time of its PID 1 when the run was asked for, in nanoseconds.
        leader_before_ns: u64,
        /// The same when it was killed.
        leader_killed_ns: u64,
        /// Whether it was.
        was_killed: bool,
        /// All of it, when it has been waited for, without its children's.
        leader_total_ns: Option<u64>,
    },
}

/// What is there of a run's cell when it is over.
pub enum Left {
    /// Nothing.
    Nothing,
    /// Its PID 1, on its way out, and the CPU time that counts for its children.
    Leader {
        /// Its pid.
        pid: i32,
        /// In nanoseconds.
        children_ns: u64,
    },
    /// All of it, as new.
    Cell(Box<Waiting>),
}

/// A run in progress.
pub struct Active {
    /// What was asked for.
    pub spec: Run,
    pid: i32,
    before: Before,
    asked_at: u64,
    started_at: u64,
    speed: u64,
    report: Report,
    family: Family,
    /// Where the /box of its cell arrives, when it has one.
    line: Option<OwnedFd>,
    /// What that cell has from the run before.
    used: Option<Used>,
    /// Whether the PID 1 of its cell has the next run's order.
    next_is_given: bool,
    /// CPU time of ours when its cell was as new, in nanoseconds.
    ours_between_ns: Option<u64>,
    /// Held until the run is over: see [`Started::ready`].
    _ready: Option<OwnedFd>,
    /// Its input.
    pub input: Input,
    /// What it writes.
    pub outputs: Outputs,
    fired: Fired,
    ended: Option<Ended>,
    /// When the main process ended or the kill was sent.
    end_at: Option<u64>,
    killed_at: Option<u64>,
    /// Credit came, or bytes moved.
    progress_at: u64,
    nobody: bool,
    stuck: bool,
    user_ns: u64,
    system_ns: u64,
    max_rss: u64,
    survivors: u32,
    memory_sample: u64,
    next_sample: u64,
    next_cpu: u64,
    next_kill: u64,
    /// When the host wants to be told what is used.
    next_usage: u64,
}

impl Active {
    /// The program of `spec`, which arrived at `asked_at`, has been started; `leader_before_ns` is the CPU time that the PID 1
    /// of its cell had taken before.
    pub fn new(
        spec: Run,
        asked_at: u64,
        before: Before,
        started: Started,
        leader_before_ns: Option<u64>,
        speed: u64,
    ) -> Self {
        let Started { pid, stdin, output, mut report, line, ready, used } = started;
        let now = sys::now();
        // one whose order was given ahead
        let started_at = report.hear().start.map_or(now, |start| start.at);
        let cell = |leader_before_ns| Family::Cell {
            leader_before_ns,
            leader_killed_ns: 0,
            was_killed: false,
            leader_total_ns: None,
        };
        Self {
            pid,
            before,
            asked_at,
            started_at,
            speed,
            report,
            family: leader_before_ns.map_or(Family::Split, cell),
            line,
            used,
            next_is_given: false,
            ours_between_ns: None,
            _ready: ready,
            input: Input::new(spec.run, stdin),
            outputs: Outputs::new(&spec, output),
            fired: Fired::None,
            ended: None,
            end_at: None,
            killed_at: None,
            progress_at: now,
            nobody: false,
            stuck: false,
            user_ns: 0,
            system_ns: 0,
            max_rss: 0,
            survivors: 0,
            memory_sample: 0,
            next_sample: now + SAMPLE_NS,
            next_cpu: now.saturating_add(limits::cpu_look_in(0, spec.limits.cpu_ns, speed)),
            next_kill: u64::MAX,
            next_usage: if spec.usage_interval_ns == 0 { u64::MAX } else { now },
            spec,
        }
    }

    /// When [`Self::tick`] is due at the latest.
    #[must_use]
    pub fn next_tick(&self) -> u64 {
        match self.killed_at {
            Some(_) if self.outputs.is_discarded() => self.next_kill,
            Some(_) => self.next_kill.min(self.progress_at.saturating_add(PATIENCE_NS)),
            None => self.next_sample.min(self.next_cpu).min(self.next_usage).min(self.wall_deadline()),
        }
    }

    fn wall_deadline(&self) -> u64 {
        self.started_at.saturating_add(self.spec.limits.wall_ns)
    }

    /// Time passed.
    pub fn tick(&mut self, now: u64, cgroup: &Cgroup, mut ours: impl FnMut() -> u64, out: &mut Out) {
        match self.killed_at {
            None => {
                // The deadline stands from the fork; the program's time counts from its exec, a moment later.
                if now >= self.wall_deadline() {
                    self.hear();
                }
                if now >= self.wall_deadline() && !self.has_told() {
                    return self.fire(Fired::Wall, now);
                }
                if now >= self.next_cpu && cgroup.has_cpu() {
                    self.hear();
                    let used = self.cpu_ns(cgroup, ours());
                    let limit = self.spec.limits.cpu_ns;
                    if used >= limit && !self.has_told() {
                        return self.fire(Fired::Cpu, now);
                    }
                    let wait = limits::cpu_look_in(used, limit, self.speed);
                    self.next_cpu = now.saturating_add(wait);
                } else if now >= self.next_cpu {
                    self.next_cpu = u64::MAX;
                }
                if now >= self.next_usage {
                    self.next_usage = now.saturating_add(self.spec.usage_interval_ns.max(SAMPLE_NS));
                    self.tell_usage(now, cgroup, ours(), out);
                }
                if now >= self.next_sample {
                    self.next_sample = now + SAMPLE_NS;
                    self.memory_sample = self.memory_sample.max(cgroup.memory());
                    self.look_for_oom(now, cgroup);
                }
            }
            Some(at) => {
                if now >= self.next_kill {
                    self.next_kill = now + KILL_AGAIN_NS;
                    if !self.nobody {
                        self.kill_all();
                    }
                    if self.nobody {
                        self.next_kill = u64::MAX;
                    } else if now.saturating_sub(at) > PATIENCE_NS {
                        // A process that SIGKILL cannot end (in the kernel): its pipes will not end either.
                        self.stuck = true;
                        self.outputs.discard();
                        self.outputs.close();
                    }
                }
                if now.saturating_sub(self.progress_at) >= PATIENCE_NS {
                    self.outputs.discard();
                }
            }
        }
    }

    /// A child ended that is not one of ours.
    pub fn child(&mut self, one: Waited, now: u64) {
        let is_main = one.pid == self.pid;
        let all = one.user_ns + one.system_ns;
        if is_main && let Some(end) = self.report.hear().end.clone() {
            self.leader_is_gone(all.saturating_sub(self.children_ns(end.children_ns())));
            self.nobody = true;
            return;
        }
        if is_main && let Family::Cell { leader_killed_ns, .. } = self.family {
            // killed before it could tell; what it took on its way out can no longer be told from its program's
            self.leader_is_gone(leader_killed_ns);
            self.nobody = true;
        }
        // what ran in the same cell before is in its PID 1's account
        let one = if is_main { one.without(self.children_ns(0)) } else { one };
        self.user_ns += one.user_ns;
        self.system_ns += one.system_ns;
        self.max_rss = self.max_rss.max(one.max_rss);
        if is_main {
            self.ended = Some(match (one.exited, one.signal) {
                (Some(status), _) => Ended::Exited(status),
                (None, signal) => Ended::Signaled(signal.unwrap_or(libc::SIGKILL as u8)),
            });
            self.end_at.get_or_insert(now);
        } else if self.killed_at.is_some() && one.signal == Some(libc::SIGKILL as u8) {
            self.survivors = self.survivors.saturating_add(1);
        }
    }

    /// Whether the PID 1 of its cell has said how it ended. To be asked after a look at the counters: what they show then
    /// may be the next run's.
    fn has_told(&mut self) -> bool {
        self.report.hear().end.is_some()
    }

    /// What was counted when its cell was as new.
    #[must_use]
    pub fn between(&self) -> Option<Between> {
        self.report.heard().end.as_ref()?.as_new
    }

    /// Gives the next run's order to the PID 1 of its cell, where that may serve it.
    pub fn pass_on(&mut self, next: &mut Next) {
        if self.killed_at.is_none() && leader::is_followed(&self.spec) && !self.has_told() {
            self.next_is_given = self.line.as_ref().is_some_and(|line| next.give(line));
        }
    }

    /// It takes its time to be over: nobody looks at a next one that runs already, so that shall not.
    pub fn do_without_next(&mut self) {
        if self.next_is_given && !self.was_killed() {
            self.kill_all();
            // what the next one took is counted when its cell is gone
            self.nobody = false;
        }
    }

    fn was_killed(&self) -> bool {
        matches!(self.family, Family::Cell { was_killed: true, .. })
    }

    /// What the kernel has counted for the children of the cell's PID 1, when this run's had so much.
    fn children_ns(&self, of_this_run: u64) -> u64 {
        of_this_run + self.used.as_ref().map_or(0, |used| used.children_ns)
    }

    fn leader_is_gone(&mut self, own_ns: u64) {
        if let Family::Cell { leader_total_ns, .. } = &mut self.family {
            *leader_total_ns = Some(own_ns);
        }
    }

    /// Every child that has ended so far was told; `childless` is whether there are no others. What does that mean?
    pub fn settle(&mut self, childless: bool, now: u64, cgroup: &Cgroup, mut ours_ns: impl FnMut(Option<u64>) -> u64) {
        match self.family {
            Family::Split => self.nobody = childless,
            // its PID 1 says it when all the others are gone, and needs a moment to go itself
            Family::Cell { .. } => {
                let end = self.report.hear().end.clone();
                if let Some(end) = end.filter(|_| self.ended.is_none()) {
                    self.user_ns += end.user_ns;
                    self.system_ns += end.system_ns;
                    self.max_rss = self.max_rss.max(end.max_rss);
                    self.survivors = end.survivors;
                    self.ended = Some(end.ended);
                    self.end_at.get_or_insert(end.at);
                    self.ours_between_ns = end.as_new.map(|between| ours_ns(Some(between.at)));
                    // else the next one may have begun, and is to be waited for
                    self.nobody = !(self.next_is_given && self.was_killed());
                }
            }
        }
        self.look_for_oom(now, cgroup);
        if self.ended.is_some() && self.killed_at.is_none() {
            if self.ended == Some(Ended::Signaled(libc::SIGXCPU as u8))
                && (!cgroup.has_cpu() || self.cpu_ns(cgroup, ours_ns(None)) >= self.spec.limits.cpu_ns)
            {
                self.fired = Fired::Cpu;
            }
            self.end(now);
        }
    }

    /// Takes in what the run's own processes said.
    fn hear(&mut self) {
        if let Some(start) = self.report.hear().start {
            self.started_at = start.at;
        }
    }

    /// For poll: where the PID 1 of its cell says how it went.
    #[must_use]
    pub fn report_fd(&self) -> RawFd {
        match self.family {
            Family::Cell { .. } if self.ended.is_none() => self.report.fd(),
            _ => -1,
        }
    }

    /// The /box of its cell, which outlives it as long as this is held.
    #[must_use]
    pub fn open_box(&self) -> Option<OwnedFd> {
        match &self.used {
            Some(used) => used.folder.try_clone().ok(),
            None => sys::receive_fds(self.line.as_ref()?, false).ok().map(|[folder]| folder),
        }
    }

    /// What was asked for, and what becomes of its cell; `folder` is its /box.
    #[must_use]
    pub fn leave(self, folder: Option<&OwnedFd>) -> (Run, Left) {
        let Family::Cell { was_killed, leader_total_ns: None, .. } = self.family else {
            return (self.spec, Left::Nothing);
        };
        let between = self.between();
        let end = self.report.heard().end.clone();
        let is_new = !was_killed && between.is_some();
        // of one that was killed before it could tell, all that was counted is its program's
        let of_this_run = end.map_or(self.user_ns + self.system_ns, |end| end.children_ns());
        let children_ns = self.children_ns(of_this_run);
        let left = match (self.line, folder.and_then(|folder| folder.try_clone().ok())) {
            (Some(line), Some(folder)) if is_new => {
                let leader_ns = between.map_or(0, |between| between.leader_ns);
                let used = Used { folder, children_ns, leader_ns };
                Left::Cell(Box::new(Waiting::again(self.pid, line, self.report, used)))
            }
            _ => Left::Leader { pid: self.pid, children_ns },
        };
        (self.spec, left)
    }

    /// CPU time of the program so far: all of the sandbox's, but for what was ours.
    fn cpu_ns(&mut self, cgroup: &Cgroup, ours_ns: u64) -> u64 {
        let start = self.report.hear().start;
        let between = self.between();
        let leader = match self.family {
            Family::Split => 0,
            Family::Cell { leader_before_ns, leader_total_ns, .. } => {
                let leader_ns = between.map(|between| between.leader_ns).or(leader_total_ns);
                leader_ns.unwrap_or_else(|| sys::cpu_of(self.pid)).saturating_sub(leader_before_ns)
            }
        };
        let setup = start.map_or(0, |start| {
            // a child that was still being made ready when the order came
            let late = start.ready_at.saturating_sub(self.asked_at).min(start.before_ns);
            let late = if matches!(self.family, Family::Split) { 0 } else { late };
            late + start.setup_ns
        });
        let ours = ours_ns.saturating_sub(self.before.ours_ns) + leader + setup;
        let all = between.map_or_else(|| cgroup.cpu_ns(), |between| between.counters.cpu_ns);
        all.saturating_sub(self.before.counters.cpu_ns).saturating_sub(ours)
    }

    fn tell_usage(&mut self, now: u64, cgroup: &Cgroup, ours_ns: u64, out: &mut Out) {
        self.hear();
        // what a runtime that waited had before, and what one that was ended has freed since, reads low: no less than the
        // largest process has
        let more = cgroup.memory().saturating_sub(self.before.counters.memory);
        let largest = match self.family {
            Family::Split => sys::resident(self.pid),
            Family::Cell { .. } => sys::children(self.pid).into_iter().map(sys::resident).max().unwrap_or_default(),
        };
        out.frame(&FromInit::Usage {
            run: self.spec.run,
            wall_ns: now.saturating_sub(self.started_at),
            cpu_ns: self.cpu_ns(cgroup, ours_ns),
            memory_bytes: more.max(largest),
        });
    }

    fn look_for_oom(&mut self, now: u64, cgroup: &Cgroup) {
        let before = self.before.counters.oom_kills;
        if self.fired == Fired::None && cgroup.oom_kills() > before {
            let is_of_the_next = self.has_told() && self.between().is_some_and(|it| it.counters.oom_kills == before);
            if !is_of_the_next {
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

    /// Everything of the program dies, once and (in `tick`) again until it has.
    fn end(&mut self, now: u64) {
        if self.killed_at.is_some() {
            return;
        }
        self.killed_at = Some(now);
        self.end_at.get_or_insert(now);
        self.progress_at = now;
        self.input.close();
        self.next_kill = now + KILL_AGAIN_NS;
        // Orphans are PID 1's children before their parent can be waited for: without children there is nobody to kill.
        if !self.nobody {
            self.kill_all();
        }
    }

    fn kill_all(&mut self) {
        match &mut self.family {
            Family::Split => sys::kill_everyone(),
            Family::Cell { leader_killed_ns, was_killed, .. } => {
                *was_killed = true;
                *leader_killed_ns = sys::cpu_of(self.pid).max(*leader_killed_ns);
                sys::kill(self.pid);
            }
        }
    }

    /// A Kill frame came.
    pub fn kill(&mut self, now: u64) {
        if self.killed_at.is_none() {
            self.fire(Fired::Kill, now);
        }
    }

    /// The host consumed output.
    pub fn credit(&mut self, bytes: u32, now: u64) {
        self.outputs.credit(bytes);
        self.progress_at = now;
    }

    /// Reads one of the outputs, once. Gives whether there may be more at once.
    pub fn read_output(&mut self, i: usize, now: u64, buffer: &mut [u8], out: &mut Out) -> bool {
        let taken = self.outputs.read(i, buffer, out);
        if taken == Taken::Nothing {
            return false;
        }
        self.progress_at = now;
        if taken == Taken::TooMuch && !self.spec.truncate_output && self.fired == Fired::None {
            self.fired = Fired::Output;
            self.end(now);
        }
        true
    }

    /// Whether the program is to be read to its end without waiting for poll.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.killed_at.is_some()
    }

    /// Whether everything of the program is gone and everything it said has been taken.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.killed_at.is_some() && (self.nobody || self.stuck) && self.outputs.are_over()
    }

    /// The facts, and what was looked at for them. `keep_missing` and `clean` are for the session to fill in.
    #[must_use]
    pub fn facts(&mut self, cgroup: &Cgroup, ours_ns: u64) -> (Done, Before) {
        let ours_ns = self.ours_between_ns.unwrap_or(ours_ns);
        let cpu_ns = self.cpu_ns(cgroup, ours_ns);
        let after = self.between().map_or_else(|| cgroup.counters(), |between| between.counters);
        self.hear();
        let (was, is) = (&self.before.counters, &after);
        let failed = self.report.heard().failed.clone();
        let hot = self.report.heard().start.is_some_and(|start| start.hot);
        let started = self.started_at;
        let ended = match (failed, &self.ended) {
            (Some(failed), _) => Ended::NotStarted { step: failed.step, errno: failed.errno },
            (None, Some(ended)) => ended.clone(),
            (None, None) => Ended::Signaled(libc::SIGKILL as u8),
        };
        let oom_kills = is.oom_kills.saturating_sub(was.oom_kills);
        let (memory_bytes, memory_source) = self.memory(was, is, cgroup);
        let [stdout_bytes, stderr_bytes] = self.outputs.counted();
        let done = Done {
            run: self.spec.run,
            ended,
            fired: match self.fired {
                Fired::None if oom_kills > 0 => Fired::Memory,
                fired => fired,
            },
            wall_ns: self.end_at.unwrap_or(started).saturating_sub(started),
            cpu_ns: if cgroup.has_cpu() { cpu_ns } else { self.user_ns + self.system_ns },
            user_ns: self.user_ns,
            system_ns: self.system_ns,
            memory_bytes,
            memory_source,
            max_rss_bytes: self.max_rss,
            oom_kills,
            pids_denied: is.pids_denied.saturating_sub(was.pids_denied),
            survivors: self.survivors,
            stdout_bytes,
            stderr_bytes,
            keep_missing: Vec::new(),
            setup_ns: started.saturating_sub(self.asked_at),
            hot,
            clean: !self.stuck,
        };
        (done, Before { counters: after, ours_ns })
    }

    fn memory(&self, was: &Counters, is: &Counters, cgroup: &Cgroup) -> (u64, MemoryMethod) {
        if !cgroup.has_memory() {
            return (self.max_rss, MemoryMethod::MaxRss);
        }
        // Exact but for the kernel's charging in batches (64 pages per CPU).
        if is.memory_peak > was.memory_peak && was.memory_peak > 0 {
            let used = is.memory_peak.saturating_sub(was.memory);
            // A peak that pages freed before the run have hidden reads low: no less than the largest process had.
            return (used.max(self.max_rss), MemoryMethod::CgroupPeak);
        }
        let sampled = self.memory_sample.saturating_sub(was.memory);
        (sampled.max(self.max_rss), MemoryMethod::Sampled)
    }
}
