//! One program, from Run to Done: its pipes, its clocks, its limits.
//!
//! ```text
//!  Running --main ended | limit | Kill--> Killing --nobody left--> Draining --pipes at their end--> Over
//!     '------------- a set-up step failed: nothing ever ran ------------------------------------------^
//! ```

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::unistd::Pid;

use super::cgroup::{Cgroup, Snapshot};
use super::files::Files;
use super::host::Host;
use super::reap::{self, Left};
use super::setup::{self, Failed};
use super::{End, Identity, sys};
use crate::wire::frame::{
    Done, Ended, Fired, FromInit, MAX_CHUNK_BYTES, MemorySource, OUTPUT_WINDOW_BYTES, Run, STDIN_WINDOW_BYTES, Stream,
};

/// How often counters are read while nothing else happens: what a memory kill may stay unnoticed.
const LOOK: Duration = Duration::from_millis(50);
/// The shortest wait for a CPU limit: less would cost the program more CPU than it has left.
const SHORTEST_LOOK: Duration = Duration::from_millis(2);
/// How often a kill is repeated while somebody is left.
const KILL_AGAIN: Duration = Duration::from_millis(5);
/// How long a host that gives no credit may keep a dead program's last output waiting.
const DRAIN: Duration = Duration::from_secs(10);
/// What the init may owe the engine before it stops taking output from the program.
const MAX_OWED: usize = OUTPUT_WINDOW_BYTES as usize + MAX_CHUNK_BYTES;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    Killing,
    Draining,
    Over,
}

/// A run under way.
pub(super) struct Active {
    order: Run,
    phase: Phase,
    main: Option<Pid>,
    ended: Option<Ended>,
    fired: Fired,
    begun: Instant,
    setup: Duration,
    wall: Duration,
    phase_since: Instant,
    next_cpu_look: Instant,
    before: Snapshot,
    sampled: u64,
    usage: sys::Usage,
    survivors: u32,
    pipes: [Option<OwnedFd>; 2],
    seen: [u64; 2],
    room: u64,
    window: u32,
    stdin: Option<OwnedFd>,
    input: VecDeque<u8>,
    input_ended: bool,
    owed_credit: u32,
    cpus: u32,
    buffer: Vec<u8>,
}

impl Active {
    /// Cleans, forks, executes.
    pub(super) fn start(
        order: Run,
        identity: Identity,
        cgroup: Option<&Cgroup>,
        files: &mut Files,
    ) -> Result<Active, End> {
        let received = Instant::now();
        let cleaned = match order.clean {
            true => files.clean(identity).map_err(|errno| Failed { step: "clean".to_owned(), errno: errno as i32 }),
            false => Ok(()),
        };
        let mut before = cgroup.map(Cgroup::snapshot).unwrap_or_default();
        let spawned = match (cleaned, files.take_failure()) {
            (Err(failed), _) | (Ok(()), Some(failed)) => Err(failed),
            (Ok(()), None) => setup::spawn(&order, identity),
        };
        files.soil();
        // the set-up's CPU time is ours, not the program's
        before.cpu_ns = cgroup.and_then(Cgroup::cpu_ns);
        let begun = Instant::now();
        let cpus = std::thread::available_parallelism().map_or(1, |count| count.get() as u32);
        let mut active = Active {
            phase: Phase::Running,
            main: None,
            ended: None,
            fired: Fired::None,
            begun,
            setup: begun.duration_since(received),
            wall: Duration::ZERO,
            phase_since: begun,
            next_cpu_look: begun,
            before,
            sampled: 0,
            usage: sys::Usage::default(),
            survivors: 0,
            pipes: [None, None],
            seen: [0, 0],
            room: order.limits.output_bytes,
            window: OUTPUT_WINDOW_BYTES,
            stdin: None,
            input: VecDeque::new(),
            input_ended: false,
            owed_credit: 0,
            cpus,
            buffer: vec![0; MAX_CHUNK_BYTES],
            order,
        };
        active.plan_cpu_look(cgroup);
        match spawned {
            Ok(spawned) => {
                active.main = Some(spawned.pid);
                active.pipes = [Some(spawned.stdout), Some(spawned.stderr)];
                active.stdin = Some(spawned.stdin);
            }
            Err(Failed { step, errno }) => {
                active.ended = Some(Ended::NotStarted { step, errno });
                active.enter(Phase::Killing);
                active.reap();
            }
        }
        Ok(active)
    }

    pub(super) fn number(&self) -> u32 {
        self.order.run
    }

    pub(super) fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.phase_since = Instant::now();
    }

    /// When something has to be looked at although nobody speaks.
    pub(super) fn next_look(&self) -> Duration {
        let now = Instant::now();
        match self.phase {
            Phase::Running => {
                let wall = self.wall_limit().saturating_sub(now - self.begun);
                wall.min(self.next_cpu_look.saturating_duration_since(now)).min(LOOK)
            }
            Phase::Killing => KILL_AGAIN,
            Phase::Draining => DRAIN.saturating_sub(now - self.phase_since),
            Phase::Over => Duration::ZERO,
        }
    }

    fn wall_limit(&self) -> Duration {
        Duration::from_nanos(self.order.limits.wall_ns)
    }

    /// The pipes that may be read: while the window, and what the engine has yet to take, allow it.
    pub(super) fn readable(&self, owed: usize) -> [Option<BorrowedFd<'_>>; 2] {
        let open = (self.window > 0 || self.room == 0) && owed < MAX_OWED;
        [0, 1].map(|index| self.pipes[index].as_ref().filter(|_| open).map(AsFd::as_fd))
    }

    /// The program's stdin, when there is something for it.
    pub(super) fn writable(&self) -> Option<BorrowedFd<'_>> {
        self.stdin.as_ref().filter(|_| !self.input.is_empty()).map(AsFd::as_fd)
    }

    pub(super) fn feed(&mut self, data: &[u8]) {
        // a host that sends more than its window loses what is too much; the window is what bounds this memory
        let room = STDIN_WINDOW_BYTES as usize - self.input.len().min(STDIN_WINDOW_BYTES as usize);
        self.input.extend(&data[..data.len().min(room)]);
        if self.stdin.is_none() {
            self.discard_input();
        } else {
            self.write_input();
        }
    }

    pub(super) fn feed_end(&mut self) {
        self.input_ended = true;
        self.write_input();
    }

    pub(super) fn credit(&mut self, bytes: u32) {
        self.window = self.window.saturating_add(bytes).min(OUTPUT_WINDOW_BYTES);
    }

    pub(super) fn kill(&mut self) {
        self.fire(Fired::Kill);
    }

    fn fire(&mut self, fired: Fired) {
        if self.phase == Phase::Running {
            self.fired = fired;
            self.end_program();
        }
    }

    fn end_program(&mut self) {
        self.wall = self.begun.elapsed();
        self.enter(Phase::Killing);
        reap::kill_all();
    }

    /// One turn: children, output, input, clocks.
    pub(super) fn look(
        &mut self,
        host: &mut Host,
        cgroup: Option<&Cgroup>,
        output: [bool; 2],
        input: bool,
        child: bool,
    ) -> Result<(), End> {
        if input {
            self.write_input();
        }
        for index in [0, 1] {
            if output[index] {
                self.read_output(index, host)?;
            }
        }
        if child || self.phase == Phase::Killing {
            self.reap();
        }
        if self.phase == Phase::Running {
            self.check_limits(cgroup, child);
        }
        if self.phase == Phase::Killing {
            reap::kill_all();
            self.reap();
        }
        if self.phase == Phase::Draining {
            self.drain(host)?;
        }
        if self.owed_credit > 0 {
            let bytes = std::mem::take(&mut self.owed_credit);
            host.send(&FromInit::StdinCredit { run: self.order.run, bytes });
        }
        Ok(())
    }

    fn reap(&mut self) {
        let (main, usage) = (self.main, &mut self.usage);
        let (mut main_ended, mut others) = (None, 0);
        let killing = self.phase == Phase::Killing;
        let left = reap::reap(|child| {
            usage.user_ns += child.usage.user_ns;
            usage.system_ns += child.usage.system_ns;
            usage.max_rss_bytes = usage.max_rss_bytes.max(child.usage.max_rss_bytes);
            if Some(child.pid) == main {
                main_ended = Some(child.status);
            } else {
                others += 1;
            }
        });
        if killing {
            // those that end now outlived the main process, or would have
            self.survivors += others;
        }
        if let Some(status) = main_ended
            && self.ended.is_none()
        {
            self.ended = Some(match sys::ending(status) {
                Ok(status) => Ended::Exited(status),
                Err(signal) => Ended::Signaled(signal),
            });
            if self.phase == Phase::Running {
                self.end_program();
                return self.reap();
            }
        }
        if self.phase == Phase::Killing && left == Left::Nobody {
            self.stdin = None;
            self.discard_input();
            self.enter(Phase::Draining);
        }
    }

    fn check_limits(&mut self, cgroup: Option<&Cgroup>, child: bool) {
        let now = Instant::now();
        if let Some(cgroup) = cgroup {
            if child || now >= self.next_cpu_look || now - self.begun >= LOOK {
                if cgroup.oom_kills() > self.before.oom_kills {
                    return self.fire(Fired::Memory);
                }
                self.sampled = self.sampled.max(cgroup.memory_used().saturating_sub(self.before.memory_used));
            }
            if now >= self.next_cpu_look {
                if self.cpu_used(cgroup).is_some_and(|used| used >= self.order.limits.cpu_ns) {
                    return self.fire(Fired::Cpu);
                }
                self.plan_cpu_look(Some(cgroup));
            }
        }
        if now - self.begun >= self.wall_limit() {
            self.fire(Fired::Wall);
        }
    }

    fn cpu_used(&self, cgroup: &Cgroup) -> Option<u64> {
        Some(cgroup.cpu_ns()?.saturating_sub(self.before.cpu_ns?))
    }

    /// The earliest moment at which the CPU time can be used up: all CPUs busy from now on.
    fn plan_cpu_look(&mut self, cgroup: Option<&Cgroup>) {
        let used = cgroup.and_then(|cgroup| self.cpu_used(cgroup)).unwrap_or(0);
        let left = self.order.limits.cpu_ns.saturating_sub(used) / u64::from(self.cpus.max(1));
        self.next_cpu_look = Instant::now() + Duration::from_nanos(left).max(SHORTEST_LOOK);
    }

    /// Reads one pipe once, within the window and the output limit.
    fn read_output(&mut self, index: usize, host: &mut Host) -> Result<(), End> {
        let Some(pipe) = &self.pipes[index] else { return Ok(()) };
        let stream = [Stream::Stdout, Stream::Stderr][index];
        // beyond the limit one more byte is read, to know that there was one
        let most = match self.room {
            0 => MAX_CHUNK_BYTES,
            room => (MAX_CHUNK_BYTES as u64).min(u64::from(self.window)).min(room) as usize,
        };
        if most == 0 {
            return Ok(());
        }
        match nix::unistd::read(pipe, &mut self.buffer[..most]) {
            Ok(0) => self.pipes[index] = None,
            Ok(n) => {
                self.seen[index] += n as u64;
                if self.room == 0 {
                    if !self.order.truncate_output {
                        self.fire(Fired::Output);
                    }
                    return Ok(());
                }
                self.room -= n as u64;
                self.window -= n as u32;
                let data = self.buffer[..n].to_vec();
                host.send(&FromInit::Output { run: self.order.run, stream, data });
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(_) => self.pipes[index] = None,
        }
        Ok(())
    }

    /// Everybody is dead: what stands in the pipes is the end of the output.
    fn drain(&mut self, host: &mut Host) -> Result<(), End> {
        for index in [0, 1] {
            while self.pipes[index].is_some() && (self.window > 0 || self.room == 0) {
                let before = self.seen[index];
                if self.fired == Fired::Output {
                    self.pipes[index] = None;
                    break;
                }
                self.read_output(index, host)?;
                if self.room == 0 && !self.order.truncate_output && self.seen[0] + self.seen[1] > self.limit() {
                    // the limit was passed, but the program's end was seen first
                    self.fired = if self.fired == Fired::None { Fired::Output } else { self.fired };
                }
                if self.pipes[index].is_some() && self.seen[index] == before {
                    // no writer is left, so an empty pipe is at its end
                    self.pipes[index] = None;
                }
            }
        }
        if self.pipes.iter().all(Option::is_none) || self.phase_since.elapsed() >= DRAIN {
            self.enter(Phase::Over);
        }
        Ok(())
    }

    fn limit(&self) -> u64 {
        self.order.limits.output_bytes
    }

    fn write_input(&mut self) {
        while let Some(stdin) = self.stdin.as_ref().filter(|_| !self.input.is_empty()) {
            match nix::unistd::write(stdin, self.input.as_slices().0) {
                Ok(n) => {
                    self.input.drain(..n);
                    self.owed_credit += n as u32;
                }
                Err(Errno::EAGAIN) => return,
                Err(Errno::EINTR) => {}
                Err(_) => {
                    // nobody reads any more: the rest is thrown away, so that the host need not keep it
                    self.stdin = None;
                    self.discard_input();
                    return;
                }
            }
        }
        if self.input_ended && self.input.is_empty() {
            self.stdin = None;
        }
    }

    fn discard_input(&mut self) {
        self.owed_credit += self.input.len() as u32;
        self.input.clear();
    }

    /// The facts.
    pub(super) fn finish(mut self, cgroup: Option<&Cgroup>, files: &mut Files) -> Done {
        let after = cgroup.map(Cgroup::snapshot).unwrap_or_default();
        let ended = self.ended.take().unwrap_or(Ended::Signaled(nix::libc::SIGKILL as u8));
        let keep_missing =
            if ended == Ended::Exited(0) { files.keep(&self.order.keep) } else { self.order.keep.clone() };
        files.remove(&self.order.remove_after);
        let by_usage = self.usage.user_ns + self.usage.system_ns;
        let cpu_ns = match (self.before.cpu_ns, after.cpu_ns) {
            (Some(before), Some(after)) => after.saturating_sub(before),
            _ => by_usage,
        };
        let (memory_bytes, memory_source) = self.memory(&after);
        Done {
            run: self.order.run,
            ended,
            fired: self.fired,
            wall_ns: self.wall.as_nanos() as u64,
            cpu_ns,
            user_ns: self.usage.user_ns,
            system_ns: self.usage.system_ns,
            memory_bytes,
            memory_source,
            max_rss_bytes: self.usage.max_rss_bytes,
            oom_kills: after.oom_kills.saturating_sub(self.before.oom_kills),
            pids_denied: after.pids_denied.saturating_sub(self.before.pids_denied),
            survivors: self.survivors,
            stdout_bytes: self.seen[0],
            stderr_bytes: self.seen[1],
            keep_missing,
            setup_ns: self.setup.as_nanos() as u64,
            clean: true,
        }
    }

    fn memory(&self, after: &Snapshot) -> (u64, MemorySource) {
        let rss = self.usage.max_rss_bytes;
        match (self.before.memory_peak, after.memory_peak) {
            (Some(before), Some(peak)) if peak > before => {
                (peak.saturating_sub(self.before.memory_used).max(rss), MemorySource::CgroupPeak)
            }
            _ if self.sampled > rss => (self.sampled, MemorySource::Sampled),
            _ => (rss, MemorySource::MaxRss),
        }
    }
}
