//! The state of a sandbox after Hello: files, counters, ready cells, the run in progress and the
//! queued one. The session moves bytes and frames; this file does what they ask for.
//!
//! ```text
//!          start                         finish
//!  (idle) ------> active, [queued] -------------> Done; a queued run starts at once
//!                   ^ which may have been sent to its cell already (`queued_run`)
//! ```

use super::audit::{Audit, AuditBaseline};
use super::cell::{self, CellConfig};
use super::cell_pool::{CellPool, PrepareResult};
use super::cgroup::Cgroup;
use super::collect::{self, Collection};
use super::cpu_ledger::{CpuLedger, RunBaseline};
use super::files::{Files, Owner};
use super::frame_queue::FrameQueue;
use super::limits;
use super::own_cpu::{OwnCpu, WakeClock};
use super::queued_run::{QueuedRun, RunHandover, SentRun};
use super::reap::{self, Reaped};
use super::run::{CellRemains, RunState};
use super::run_status::StepError;
use super::setup;
use super::sys;
use std::rc::Rc;
use wire::frame::{
    Collect, Collected, Done, Ended, Fired, FromInit, InitHello, IsolationMode, MAX_PREPARED, Prepare, Put, Relax, Run,
    VERSION,
};

use nix::libc;

/// How often a reset looks for processes that are exiting, and the pause in between.
const MAX_RESET_CHECKS: usize = 20;
const RESET_CHECK_NS: u64 = 1_000_000;

/// A sandbox after Hello.
pub struct SandboxState {
    pub hello: InitHello,
    files: Files,
    pub cgroup: Rc<Cgroup>,
    /// How many CPUs the sandbox can keep busy, in 1e-9.
    pub speed: u64,
    /// The run in progress.
    pub active: Option<RunState>,
    /// The run after it.
    pub queued: Option<QueuedRun>,
    pub pool: CellPool,
    own_cpu: OwnCpu,
    pub wake_clock: WakeClock,
    /// Whether to make a cell in advance as soon as nothing runs.
    wants_cell: bool,
    audit_baseline: AuditBaseline,
    /// The last run's files that the daemon may read.
    pub collection: Collection,
    /// The first Put that failed and was not repeated successfully. No run starts while it is set.
    put_failed: Option<(String, i32)>,
    /// Whether a process survived its kill. No run starts any more.
    stuck: bool,
}

impl SandboxState {
    /// Opens the sandbox that the daemon describes, or returns why it cannot.
    pub fn new(hello: InitHello) -> Result<Self, String> {
        if hello.version != VERSION {
            let theirs = hello.version;
            return Err(format!("the daemon uses wire version {theirs}, this init version {VERSION}"));
        }
        if hello.uid == 0 || hello.gid == 0 || hello.uid == u32::MAX || hello.gid == u32::MAX {
            return Err("a program may not run as root".to_owned());
        }
        let owner = match hello.isolation {
            IsolationMode::Split => Owner::Other(hello.uid, hello.gid),
            IsolationMode::Cell if hello.uid == sys::euid() => Owner::Cell,
            IsolationMode::Cell => {
                let (uid, own) = (hello.uid, sys::euid());
                return Err(format!("cells of uid {uid} cannot be made by uid {own}"));
            }
        };
        let files = Files::open(owner).map_err(|e| format!("open /box: errno {e}"))?;
        let cgroup = Rc::new(Cgroup::find());
        let speed = limits::speed(sys::cpus(), &cgroup.limits());
        let audit_baseline = AuditBaseline::read(&cgroup);
        Ok(Self {
            hello,
            files,
            pool: CellPool::new(cgroup.clone()),
            cgroup,
            speed,
            active: None,
            queued: None,
            own_cpu: OwnCpu::default(),
            wake_clock: WakeClock::default(),
            wants_cell: true,
            audit_baseline,
            collection: Collection::default(),
            put_failed: None,
            stuck: false,
        })
    }

    /// Acts on the timers of the run in progress that are due.
    pub fn tick(&mut self, now: u64, out: &mut FrameQueue) {
        let Some(active) = self.active.as_mut().filter(|active| now >= active.next_tick()) else { return };
        let (own_cpu, pool) = (&self.own_cpu, &mut self.pool);
        active.tick(now, &self.cgroup, || own_ns(pool, own_cpu, sys::own_cpu), out);
        self.reap(now);
    }

    /// Reaps the children that have exited.
    pub fn reap(&mut self, now: u64) {
        let childless = loop {
            match reap::next() {
                Reaped::Child(child) if self.own_cpu.reaped(&child) => {}
                Reaped::Child(child) if self.pool.reaped(&child) => self.own_cpu.add_exited(&child),
                Reaped::Child(child) => {
                    if let Some(active) = &mut self.active {
                        active.child_exited(child, now);
                    }
                    // otherwise an orphan of an engine's exec session
                }
                Reaped::NoneExited => break false,
                Reaped::NoChildren => break true,
            }
        };
        if let Some(active) = &mut self.active {
            let (own_cpu, pool, clock) = (&self.own_cpu, &mut self.pool, self.wake_clock);
            active.settle(childless, now, &self.cgroup, |at| own_ns(pool, own_cpu, || clock.init_ns(at)));
        }
    }

    /// Makes the next run's cell while nothing runs. During a program it would be ready earlier,
    /// but would delay a short program by more than that saves (measured: docs/SPEED.md).
    pub fn make_cell(&mut self) {
        if self.wants_cell && self.active.is_none() && self.is_cell() && !self.stuck {
            self.wants_cell = false;
            self.pool.fill(self.cell_config());
        }
    }

    /// CPU time of the init and all its helpers, in nanoseconds.
    fn own_ns(&mut self) -> u64 {
        own_ns(&mut self.pool, &self.own_cpu, sys::own_cpu)
    }

    fn is_cell(&self) -> bool {
        self.hello.isolation == IsolationMode::Cell
    }

    /// Prewarms a runtime.
    pub fn prepare(&mut self, prepare: Prepare, now: u64) -> Result<Option<PrepareResult>, String> {
        if !self.is_cell() || self.active.is_some() || prepare.id as usize >= MAX_PREPARED {
            return Err("a Prepare arrived in split, during a run, or with an id out of range".to_owned());
        }
        if prepare.forks {
            // the existing cell has no handle of the template
            self.pool.discard_plain(&mut self.own_cpu);
            self.wants_cell = true;
        }
        Ok(self.pool.add(prepare, self.cell_config(), now))
    }

    /// Starts the requested runtimes again, after a reset.
    pub fn prewarm(&mut self, now: u64) -> Option<PrepareResult> {
        self.wants_cell = true;
        if self.is_cell() && !self.stuck { self.pool.prewarm(self.cell_config(), now) } else { None }
    }

    /// Receives the report of prewarmed runtime `i`, if there is one.
    pub fn recv_ready(&mut self, i: usize, now: u64) -> Option<PrepareResult> {
        self.pool.recv_ready(i, now, &mut self.own_cpu)
    }

    pub fn send_prepared(&self, result: PrepareResult, out: &mut FrameQueue) {
        let PrepareResult { id, failed, took_ns } = result;
        let memory_bytes = self.cgroup.memory().saturating_sub(self.audit_baseline.memory());
        out.push(&FromInit::Prepared { id, failed, took_ns, memory_bytes });
    }

    fn cell_config(&self) -> CellConfig {
        CellConfig { uid: self.hello.uid, gid: self.hello.gid, space: self.hello.space }
    }

    /// The step and errno that keep cells from being made here, if cells are wanted.
    pub fn try_cell(&self) -> Option<(String, i32)> {
        match self.hello.isolation {
            IsolationMode::Split => None,
            IsolationMode::Cell => {
                let failed = cell::trial(&self.cell_config()).err()?;
                Some((failed.step, failed.errno))
            }
        }
    }

    /// Ends all prewarmed runtimes for good.
    pub fn drop_prepared(&mut self) {
        self.pool.drop_prepared(&mut self.own_cpu);
    }

    /// Removes everything that runs left and audits the sandbox. Returns what is still there.
    pub fn reset(&mut self) -> Vec<String> {
        if self.active.is_some() || self.stuck {
            return vec!["a process that does not die".to_owned()];
        }
        self.collection = Collection::default();
        self.put_failed = None;
        self.pool.discard_prepared(&mut self.own_cpu);
        self.discard_used();
        let emptied = self.files.empty();
        let mut helpers = self.helper_pids();
        for _ in 0..MAX_RESET_CHECKS {
            if self.files.is_clean(&helpers) {
                break;
            }
            // a process that the template forked may be exiting
            let _ = sys::poll(&mut [], RESET_CHECK_NS);
            helpers = self.helper_pids();
        }
        let audit = Audit {
            files: &self.files,
            helpers: &helpers,
            helper_bytes: self.pool.template_bytes(),
            cgroup: &self.cgroup,
            baseline: &self.audit_baseline,
        };
        audit.residue(emptied)
    }

    /// The pids of all helper processes that survive a reset or are exiting.
    fn helper_pids(&self) -> Vec<i32> {
        let mut pids = self.pool.pids();
        pids.extend(self.own_cpu.pids());
        pids
    }

    /// Discards a used cell, which has the files as they were before.
    fn discard_used(&mut self) {
        self.wants_cell |= self.pool.discard_used(&mut self.own_cpu);
    }

    /// Lists files that the last run left. None while something of it may be alive.
    pub fn collect(&mut self, wanted: &Collect) -> Collected {
        if self.active.is_some() || self.stuck {
            return Collected::default();
        }
        let (collection, collected) = Collection::find(&self.files, wanted);
        self.collection = collection;
        collected
    }

    /// The run in progress, if it has this number. A frame for another run crossed that run's Done.
    pub fn run(&mut self, run: u32) -> Option<&mut RunState> {
        self.active.as_mut().filter(|active| active.spec.run == run)
    }

    /// The queued run, if it has this number.
    pub fn queued(&mut self, run: u32) -> Option<&mut QueuedRun> {
        self.queued.as_mut().filter(|queued| queued.run.run == run)
    }

    /// Queues a run behind the one in progress. If the current cell may serve it, it is sent there.
    pub fn queue(&mut self, run: Run) {
        let mut queued = QueuedRun::new(run);
        if let Some(active) = &mut self.active
            && self.put_failed.is_none()
            && queued.run.relax == Relax::NONE
            && self.pool.starts_cold(&queued.run)
        {
            active.send_next(&mut queued);
        }
        self.queued = Some(queued);
    }

    /// Writes a file.
    pub fn put(&mut self, put: &Put) -> Result<(), i32> {
        // during a run the program could replace the path in between
        let result = if self.active.is_some() || self.stuck {
            Err(libc::EBUSY)
        } else {
            self.collection = Collection::default();
            self.discard_used();
            self.files.put(put)
        };
        match result {
            Err(errno) => {
                self.put_failed.get_or_insert_with(|| (put.path.clone(), errno));
            }
            // Only a new Put of the file that failed clears the failure, not a later piece of
            // another.
            Ok(()) if !put.append => {
                self.put_failed.take_if(|(path, _)| *path == put.path);
            }
            Ok(()) => {}
        }
        result
    }

    /// Starts a run, or returns the facts of its refusal. `handover` comes from a run that has just
    /// ended.
    pub fn start(&mut self, run: Run, now: u64, handover: Option<RunHandover>) -> Result<(), Box<Done>> {
        self.files.close();
        self.collection = Collection::default();
        if self.stuck {
            return Err(self.refuse(&run, StepError::new("stuck", libc::EBUSY), now));
        }
        if let Some((path, errno)) = &self.put_failed {
            let failed = StepError { step: format!("put {path}"), errno: *errno };
            return Err(self.refuse(&run, failed, now));
        }
        if run.clean
            && let Err(errno) = self.files.clean()
        {
            return Err(self.refuse(&run, StepError::new("clean", errno), now));
        }
        self.files.mark_used();
        let launched = if self.is_cell() {
            self.launch_in_cell(run, now, handover)
        } else {
            self.launch_split(run, now, handover)
        };
        match launched {
            Ok(active) => {
                self.active = Some(active);
                Ok(())
            }
            Err(refused) => {
                let (run, failed) = *refused;
                Err(self.refuse(&run, failed, now))
            }
        }
    }

    fn launch_split(
        &mut self,
        run: Run,
        now: u64,
        handover: Option<RunHandover>,
    ) -> Result<RunState, Box<(Run, StepError)>> {
        let baseline = handover.map(|handover| handover.baseline);
        let baseline = baseline.unwrap_or_else(|| RunBaseline::read(&self.cgroup, self.own_cpu.cpu_ns(sys::own_cpu())));
        match setup::start_split(&run, self.hello.uid, self.hello.gid) {
            Ok(started) => Ok(RunState::new(run, started, CpuLedger::split(baseline, now), self.speed)),
            Err(failed) => Err(Box::new((run, failed))),
        }
    }

    fn launch_in_cell(
        &mut self,
        mut run: Run,
        now: u64,
        handover: Option<RunHandover>,
    ) -> Result<RunState, Box<(Run, StepError)>> {
        let (baseline, sent) = handover.map_or((None, None), |RunHandover { baseline, sent }| (Some(baseline), sent));
        // If the cell that it was sent to is gone, it starts like any other run.
        let sent = sent.filter(|_| self.pool.has_used());
        let config = self.cell_config();
        let (cell, hot) = match self.pool.take(&run, config, sent.is_some(), &mut self.own_cpu) {
            Ok(taken) => taken,
            Err(failed) => return Err(Box::new((run, failed))),
        };
        run.hot = hot;
        self.wants_cell = run.more;
        // for a new cell, the baseline must be read after the cell was made
        let baseline = baseline.filter(|_| cell.is_used());
        let cell_init_before_ns = cell.cell_init_ns(baseline.is_some());
        let baseline = match baseline {
            Some(baseline) => baseline,
            None => {
                let own_ns = self.own_ns();
                RunBaseline::read(&self.cgroup, own_ns)
            }
        };
        let requested_at = sent.as_ref().map_or(now, |sent| sent.at.min(now));
        let written = sent.as_ref().map_or(0, |sent| sent.written);
        let ledger = CpuLedger::cell(baseline, requested_at, cell_init_before_ns, cell.earlier_children_ns());
        match cell.start(&run, sent.map(|sent| sent.stdio)) {
            Ok(started) => {
                let mut active = RunState::new(run, started, ledger, self.speed);
                active.input.set_already_written(written);
                Ok(active)
            }
            Err(failed) => Err(Box::new((run, failed))),
        }
    }

    /// The facts of a run that never had a process.
    fn refuse(&mut self, run: &Run, failed: StepError, requested_at: u64) -> Box<Done> {
        // a cell that was sent this run must not start it
        self.discard_used();
        if !self.stuck {
            for path in &run.remove_after {
                self.files.remove(path);
            }
        }
        let mut step = failed.step;
        step.truncate(step.floor_char_boundary(1024));
        let clean = !self.stuck && (self.is_cell() || self.files.is_clean(&[]));
        let setup_ns = sys::now().saturating_sub(requested_at);
        Box::new(Done::not_started(run.run, step, failed.errno, setup_ns, clean))
    }

    /// Finishes the run in progress if it is over: reports it and starts the queued run.
    pub fn finish_if_over(&mut self, now: u64, out: &mut FrameQueue) {
        let Some(active) = self.active.take_if(|active| active.is_over()) else { return };
        let (done, next) = self.finish(active);
        out.push(&FromInit::Done(Box::new(done)));
        let Some((QueuedRun { run, input, .. }, handover)) = next else { return };
        match self.start(run, now, Some(handover)) {
            Ok(()) => {
                if let Some(active) = &mut self.active {
                    active.replay(&input, now, out);
                }
            }
            Err(done) => out.push(&FromInit::Done(done)),
        }
    }

    /// The last part of a run, when none of its processes is alive: counters, files, audit.
    fn finish(&mut self, mut active: RunState) -> (Done, Option<(QueuedRun, RunHandover)>) {
        let own_ns = self.own_ns();
        let (mut done, baseline) = active.facts(&self.cgroup, own_ns);
        let next = self.queued.take().map(|mut queued| {
            let ended_at = active.unchanged_at().unwrap_or(0);
            let sent = queued.sent.take().map(|sent| SentRun { at: sent.at.max(ended_at), ..sent });
            (queued, RunHandover { baseline, sent })
        });
        let folder = active.open_box();
        let (spec, remains) = active.into_remains(folder.as_ref());
        match remains {
            CellRemains::Nothing => {}
            CellRemains::Exiting { pid, charged_ns } => self.own_cpu.add_exiting(pid, Vec::new(), charged_ns),
            CellRemains::Unchanged(cell) => self.pool.keep(*cell, &mut self.own_cpu),
        }
        self.files.set_left(folder);
        if done.ended == Ended::Exited(0) && done.fired == Fired::None && !spec.keep.is_empty() {
            done.keep_missing = if done.clean {
                let paths = collect::expand(&self.files, &spec.keep);
                self.files.keep(&paths)
            } else {
                spec.keep.clone()
            };
        }
        if done.clean {
            for path in &spec.remove_after {
                self.files.remove(path);
            }
            // the contents of a cell are gone with it
            done.clean = self.is_cell() || self.files.is_clean(&[]);
        } else {
            // A process is still alive: no file of the program may be touched, and nothing may run.
            self.stuck = true;
        }
        (done, next)
    }
}

/// CPU time of the init and its helpers. The pool's clocks are read first, because reading them
/// costs CPU time that `init_ns` then includes.
fn own_ns(pool: &mut CellPool, own_cpu: &OwnCpu, init_ns: impl FnOnce() -> u64) -> u64 {
    let pool_ns = pool.cpu_ns();
    pool_ns + own_cpu.cpu_ns(init_ns())
}
