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

use super::cgroup::{Cgroup, Counters};
use super::limits::{self, SAMPLE_NS};
use super::output::Out;
use super::reap::{self, Reaped};
use super::report::{Failed, Report};
use super::setup::{self, Place, Started};
use super::sys;
use crate::wire::frame::{
    Done, Ended, Fired, FromInit, MAX_CHUNK_BYTES, MemorySource, OUTPUT_WINDOW_BYTES, Run, STDIN_WINDOW_BYTES, Stream,
};
use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use nix::libc;

/// How long the end of a run waits: for credit without progress, and for a killed process to be gone.
const PATIENCE_NS: u64 = 10_000_000_000;

/// How often a kill is repeated while something is left.
const KILL_AGAIN_NS: u64 = 10_000_000;

/// The counters before a run and the init's own share since.
#[derive(Debug, Clone, Copy)]
pub struct Before {
    counters: Counters,
    own_cpu: u64,
}

impl Before {
    /// Looks now.
    #[must_use]
    pub fn look(cgroup: &Cgroup) -> Self {
        // The own clock first: reading it brings the cgroup's up to date as well.
        let own_cpu = sys::own_cpu();
        Self { counters: cgroup.counters(), own_cpu }
    }

    /// CPU time of the sandbox since, without the init's own.
    fn cpu_ns(&self, cgroup: &Cgroup) -> u64 {
        let own = sys::own_cpu().saturating_sub(self.own_cpu);
        let all = cgroup.cpu_ns().saturating_sub(self.counters.cpu_ns);
        all.saturating_sub(own)
    }
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
    /// Where the /box of its cell arrives, when it has one.
    handover: Option<OwnedFd>,
    /// CPU time of the set-up, as far as it is known: ours, not the program's.
    setup_cpu: u64,
    /// CPU time that the PID 1 of its cell took beside the program and after it: ours too.
    leader_cpu: u64,
    stdin: Option<OwnedFd>,
    pending: VecDeque<u8>,
    stdin_ended: bool,
    output: [Option<OwnedFd>; 2],
    counted: [u64; 2],
    sent: u64,
    unacked: u64,
    fired: Fired,
    ended: Option<Ended>,
    /// When the main process ended or the kill was sent.
    end_at: Option<u64>,
    killed_at: Option<u64>,
    /// Credit came, or bytes moved.
    progress_at: u64,
    nobody: bool,
    stuck: bool,
    discard: bool,
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
    /// Starts the program of `spec`, which arrived at `asked_at`. `Err` gives the spec back with the step that failed.
    pub fn start(
        spec: Run,
        asked_at: u64,
        place: Place<'_>,
        cgroup: &Cgroup,
        speed: u64,
    ) -> Result<Self, Box<(Run, Failed)>> {
        let before = Before::look(cgroup);
        let started = setup::start(&spec, place);
        let Started { pid, stdin, output: [stdout, stderr], report, handover } = match started {
            Ok(started) => started,
            Err(failed) => return Err(Box::new((spec, failed))),
        };
        let now = sys::now();
        Ok(Self {
            pid,
            before,
            asked_at,
            started_at: now,
            speed,
            report,
            handover,
            setup_cpu: 0,
            leader_cpu: 0,
            stdin: Some(stdin),
            pending: VecDeque::new(),
            stdin_ended: false,
            output: [Some(stdout), Some(stderr)],
            counted: [0; 2],
            sent: 0,
            unacked: 0,
            fired: Fired::None,
            ended: None,
            end_at: None,
            killed_at: None,
            progress_at: now,
            nobody: false,
            stuck: false,
            discard: false,
            user_ns: 0,
            system_ns: 0,
            max_rss: 0,
            survivors: 0,
            memory_sample: 0,
            next_sample: now + SAMPLE_NS,
            next_cpu: now.saturating_add(limits::cpu_look_in(0, spec.limits.cpu_ns, speed)),
            next_kill: u64::MAX,
            next_usage: if spec.tell_usage_ns == 0 { u64::MAX } else { now },
            spec,
        })
    }

    /// When [`Self::tick`] is due at the latest.
    #[must_use]
    pub fn next_tick(&self) -> u64 {
        match self.killed_at {
            Some(_) if self.discard => self.next_kill,
            Some(_) => self.next_kill.min(self.progress_at.saturating_add(PATIENCE_NS)),
            None => self.next_sample.min(self.next_cpu).min(self.next_usage).min(self.wall_deadline()),
        }
    }

    fn wall_deadline(&self) -> u64 {
        self.started_at.saturating_add(self.spec.limits.wall_ns)
    }

    /// Time passed.
    pub fn tick(&mut self, now: u64, cgroup: &Cgroup, out: &mut Out) {
        match self.killed_at {
            None => {
                // The deadline stands from the fork; the program's time counts from its exec, a moment later.
                if now >= self.wall_deadline() {
                    self.hear();
                }
                if now >= self.wall_deadline() {
                    return self.fire(Fired::Wall, now);
                }
                if now >= self.next_cpu && cgroup.has_cpu() {
                    self.hear();
                    let used = self.cpu_ns(cgroup);
                    let limit = self.spec.limits.cpu_ns;
                    if used >= limit {
                        return self.fire(Fired::Cpu, now);
                    }
                    let wait = limits::cpu_look_in(used, limit, self.speed);
                    self.next_cpu = now.saturating_add(wait);
                } else if now >= self.next_cpu {
                    self.next_cpu = u64::MAX;
                }
                if now >= self.next_usage {
                    self.next_usage = now.saturating_add(self.spec.tell_usage_ns.max(SAMPLE_NS));
                    self.tell_usage(now, cgroup, out);
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
                        sys::kill_everyone();
                        self.children(now, cgroup);
                    }
                    if self.nobody {
                        self.next_kill = u64::MAX;
                    } else if now.saturating_sub(at) > PATIENCE_NS {
                        // A process that SIGKILL cannot end (in the kernel): its pipes will not end either.
                        self.stuck = true;
                        self.discard = true;
                        self.output = [None, None];
                    }
                }
                if now.saturating_sub(self.progress_at) >= PATIENCE_NS {
                    self.discard = true;
                }
            }
        }
    }

    /// SIGCHLD came.
    pub fn children(&mut self, now: u64, cgroup: &Cgroup) {
        loop {
            let one = match reap::next() {
                Reaped::One(one) => one,
                Reaped::Later => {
                    self.nobody = false;
                    break;
                }
                Reaped::Nobody => {
                    self.nobody = true;
                    break;
                }
            };
            let is_main = one.pid == self.pid;
            if is_main && let Some(end) = self.report.hear().end.clone() {
                // the PID 1 of its cell counted for the program, and not for itself
                let all = one.user_ns + one.system_ns;
                self.leader_cpu = all.saturating_sub(end.user_ns + end.system_ns).saturating_sub(end.before_ns);
                self.user_ns += end.user_ns;
                self.system_ns += end.system_ns;
                self.max_rss = self.max_rss.max(end.max_rss);
                self.survivors = end.survivors;
                self.ended = Some(end.ended);
                self.end_at.get_or_insert(end.at);
                continue;
            }
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
        self.look_for_oom(now, cgroup);
        if self.ended.is_some() && self.killed_at.is_none() {
            if self.ended == Some(Ended::Signaled(libc::SIGXCPU as u8))
                && (!cgroup.has_cpu() || self.cpu_ns(cgroup) >= self.spec.limits.cpu_ns)
            {
                self.fired = Fired::Cpu;
            }
            self.end(now);
        }
    }

    /// Takes in what the run's own processes said.
    fn hear(&mut self) {
        if let Some((at, cpu)) = self.report.hear().exec {
            self.started_at = at;
            self.setup_cpu = cpu;
        }
    }

    /// The /box of its cell, which outlives it as long as this is held.
    #[must_use]
    pub fn take_box(&mut self) -> Option<OwnedFd> {
        self.handover.take().and_then(|from| sys::receive_fd(&from).ok())
    }

    /// CPU time of the program so far.
    fn cpu_ns(&self, cgroup: &Cgroup) -> u64 {
        self.before.cpu_ns(cgroup).saturating_sub(self.setup_cpu + self.leader_cpu)
    }

    fn tell_usage(&mut self, now: u64, cgroup: &Cgroup, out: &mut Out) {
        self.hear();
        out.frame(&FromInit::Usage {
            run: self.spec.run,
            wall_ns: now.saturating_sub(self.started_at),
            cpu_ns: self.cpu_ns(cgroup),
            memory_bytes: cgroup.memory().saturating_sub(self.before.counters.memory),
        });
    }

    fn look_for_oom(&mut self, now: u64, cgroup: &Cgroup) {
        if self.fired == Fired::None && cgroup.oom_kills() > self.before.counters.oom_kills {
            self.fire(Fired::Memory, now);
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
        self.pending.clear();
        self.stdin = None;
        self.next_kill = now + KILL_AGAIN_NS;
        // Orphans are PID 1's children before their parent can be waited for: without children there is nobody to kill.
        if !self.nobody {
            sys::kill_everyone();
        }
    }

    /// A Kill frame came.
    pub fn kill(&mut self, now: u64) {
        if self.killed_at.is_none() {
            self.fire(Fired::Kill, now);
        }
    }

    /// Input came. `Err` when the host overran the window.
    pub fn feed(&mut self, data: &[u8], out: &mut Out) -> Result<(), ()> {
        if self.stdin.is_none() || self.killed_at.is_some() {
            self.credit_stdin(data.len(), out);
            return Ok(());
        }
        if self.pending.len() + data.len() > STDIN_WINDOW_BYTES as usize {
            return Err(());
        }
        self.pending.extend(data);
        self.write_stdin(out);
        Ok(())
    }

    /// The input's end came.
    pub fn feed_end(&mut self) {
        self.stdin_ended = true;
        if self.pending.is_empty() {
            self.stdin = None;
        }
    }

    /// The program's stdin may take bytes.
    pub fn write_stdin(&mut self, out: &mut Out) {
        let mut taken = 0;
        while let Some(fd) = &self.stdin {
            let piece = self.pending.as_slices().0;
            if piece.is_empty() {
                if self.stdin_ended {
                    self.stdin = None;
                }
                break;
            }
            match sys::write(fd.as_raw_fd(), piece) {
                Ok(n) => {
                    self.pending.drain(..n);
                    taken += n;
                }
                Err(libc::EAGAIN) => break,
                // Nobody reads any more: the rest is thrown away, and so is what still comes.
                Err(_) => {
                    taken += self.pending.len();
                    self.pending = VecDeque::new();
                    self.stdin = None;
                }
            }
        }
        self.credit_stdin(taken, out);
    }

    fn credit_stdin(&self, bytes: usize, out: &mut Out) {
        if bytes > 0 {
            out.frame(&FromInit::StdinCredit { run: self.spec.run, bytes: u32::try_from(bytes).unwrap_or(u32::MAX) });
        }
    }

    /// The host consumed output.
    pub fn credit(&mut self, bytes: u32, now: u64) {
        self.unacked = self.unacked.saturating_sub(u64::from(bytes));
        self.progress_at = now;
    }

    /// The program's stdin, when something waits for it.
    #[must_use]
    pub fn stdin_fd(&self) -> RawFd {
        match &self.stdin {
            Some(fd) if !self.pending.is_empty() => fd.as_raw_fd(),
            _ => -1,
        }
    }

    /// One of the program's outputs, when reading from it is allowed now.
    #[must_use]
    pub fn output_fd(&self, i: usize) -> RawFd {
        match self.output.get(i) {
            Some(Some(fd)) if self.room() > 0 => fd.as_raw_fd(),
            _ => -1,
        }
    }

    /// Output bytes that may still be sent at all.
    fn allowance(&self) -> u64 {
        self.spec.limits.output_bytes.saturating_sub(self.sent)
    }

    /// How many bytes one read may take: the window's rest while bytes are sent, a chunk when they are thrown away.
    fn room(&self) -> u64 {
        let chunk = MAX_CHUNK_BYTES as u64;
        if self.discard || self.allowance() == 0 {
            return chunk;
        }
        let window = u64::from(OUTPUT_WINDOW_BYTES).saturating_sub(self.unacked);
        chunk.min(window).min(self.allowance())
    }

    /// Reads one of the outputs, once. Gives whether there may be more at once.
    pub fn read_output(&mut self, i: usize, now: u64, buffer: &mut [u8], out: &mut Out) -> bool {
        let room = usize::try_from(self.room()).unwrap_or(0);
        let (Some(Some(fd)), Some(buffer)) = (self.output.get(i), buffer.get_mut(..room)) else {
            return false;
        };
        if room == 0 {
            return false;
        }
        let stream = if i == 0 { Stream::Stdout } else { Stream::Stderr };
        let n = match sys::read(fd.as_raw_fd(), buffer) {
            Err(libc::EAGAIN) => return false,
            Ok(0) | Err(_) => {
                if let Some(slot) = self.output.get_mut(i) {
                    *slot = None;
                }
                if self.spec.tell_ends {
                    out.frame(&FromInit::OutputEnd { run: self.spec.run, stream });
                }
                return false;
            }
            Ok(n) => n,
        };
        self.progress_at = now;
        if let Some(counted) = self.counted.get_mut(i) {
            *counted += n as u64;
        }
        if self.allowance() == 0 {
            // The first byte too many.
            if !self.spec.truncate_output && self.killed_at.is_none() {
                self.fire(Fired::Output, now);
            } else if !self.spec.truncate_output && self.fired == Fired::None {
                self.fired = Fired::Output;
            }
        } else if !self.discard {
            out.output(self.spec.run, stream, buffer.get(..n).unwrap_or_default());
            self.sent += n as u64;
            self.unacked += n as u64;
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
        self.killed_at.is_some() && (self.nobody || self.stuck) && self.output.iter().all(Option::is_none)
    }

    /// The facts. `keep_missing` and `clean` are for the session to fill in.
    #[must_use]
    pub fn facts(&mut self, cgroup: &Cgroup) -> Done {
        let after = Before::look(cgroup);
        self.hear();
        let (was, is) = (&self.before.counters, &after.counters);
        let failed = self.report.hear().failed.clone();
        let started = self.started_at;
        let ended = match (failed, &self.ended) {
            (Some(failed), _) => Ended::NotStarted { step: failed.step, errno: failed.errno },
            (None, Some(ended)) => ended.clone(),
            (None, None) => Ended::Signaled(libc::SIGKILL as u8),
        };
        let oom_kills = is.oom_kills.saturating_sub(was.oom_kills);
        let (memory_bytes, memory_source) = self.memory(was, is, cgroup);
        let own = after.own_cpu.saturating_sub(self.before.own_cpu);
        Done {
            run: self.spec.run,
            ended,
            fired: match self.fired {
                Fired::None if oom_kills > 0 => Fired::Memory,
                fired => fired,
            },
            wall_ns: self.end_at.unwrap_or(started).saturating_sub(started),
            cpu_ns: if cgroup.has_cpu() {
                is.cpu_ns.saturating_sub(was.cpu_ns).saturating_sub(own + self.setup_cpu + self.leader_cpu)
            } else {
                self.user_ns + self.system_ns
            },
            user_ns: self.user_ns,
            system_ns: self.system_ns,
            memory_bytes,
            memory_source,
            max_rss_bytes: self.max_rss,
            oom_kills,
            pids_denied: is.pids_denied.saturating_sub(was.pids_denied),
            survivors: self.survivors,
            stdout_bytes: self.counted[0],
            stderr_bytes: self.counted[1],
            keep_missing: Vec::new(),
            setup_ns: started.saturating_sub(self.asked_at),
            clean: !self.stuck,
        }
    }

    fn memory(&self, was: &Counters, is: &Counters, cgroup: &Cgroup) -> (u64, MemorySource) {
        if !cgroup.has_memory() {
            return (self.max_rss, MemorySource::MaxRss);
        }
        // Exact but for the kernel's charging in batches (64 pages per CPU).
        if is.memory_peak > was.memory_peak && was.memory_peak > 0 {
            let used = is.memory_peak.saturating_sub(was.memory);
            // A peak that pages freed before the run have hidden reads low: no less than the largest process had.
            return (used.max(self.max_rss), MemorySource::CgroupPeak);
        }
        let sampled = self.memory_sample.saturating_sub(was.memory);
        (sampled.max(self.max_rss), MemorySource::Sampled)
    }
}
