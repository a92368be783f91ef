//! The state of a sandbox after Hello: files, counters, ready cells, the run in progress and the
//! queued one. The session moves bytes and frames; this file does what they ask for.
//!
//! ```text
//!           accept              start                      finish
//!  (idle) -------> queued ------------> active, [queued] -------> Done; the next queued run starts
//!                       at once, if nothing of earlier runs is left
//! ```

mod charges;
mod remains;

use self::charges::own_ns;

use super::audit::{Audit, AuditBaseline};
use super::base::Base;
use super::cell::{self, CellConfig, ProcMasks};
use super::cell_pool::{CellPool, PrepareResult, RunSource};
use super::cgroup::Cgroup;
use super::collect::{self, Collection};
use super::cpu_ledger::{CpuLedger, RunBaseline};
use super::files::{Files, Owner};
use super::frame_queue::FrameQueue;
use super::memory_ledger::{Inherited, MemoryLedger};
use super::own_cpu::OwnCpu;
use super::process_room::ProcessRoom;
use super::queued_run::QueuedRun;
use super::ready;
use super::run::{CellRemains, RunState};
use super::run_status::StepError;
use super::session_end::SessionEnd;
use super::setup;
use super::sys;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use wire::frame::{
    Collect, Collected, Done, Ended, Fired, FromInit, InitHello, IsolationMode, MAX_PREPARED, Prepare, Put, Ready, Run,
    VERSION,
};

use nix::libc;

/// How often a reset looks for what is about to vanish, and the pause in between.
const MAX_RESET_CHECKS: usize = 40;
const RESET_CHECK_NS: u64 = 1_000_000;

/// How long a run waits for what earlier ones left, and how often that is looked at.
const SETTLE_PATIENCE_NS: u64 = 8_000_000_000;
pub const SETTLE_CHECK_NS: u64 = 2_000_000;

/// The same while cells, or helpers that squeeze memory, are still exiting: on a busy machine they
/// hardly get CPU time.
const MAX_SETTLE_NS: u64 = 60_000_000_000;

/// A sandbox after Hello.
pub struct SandboxState {
    pub hello: InitHello,
    config: CellConfig,
    files: Files,
    pub cgroup: Cgroup,
    /// `None` in `split`.
    base: Option<Base>,
    /// What Hello was answered with.
    ready: Ready,
    /// How many CPUs the sandbox can keep busy, in 1e-9.
    pub speed: u64,
    /// The sandbox's memory limit in bytes; 0 unknown.
    memory_limit: u64,
    room: ProcessRoom,
    /// Bytes in use when the last cell of an earlier run had exited: by the init and waiting cells.
    quiet_bytes: Option<u64>,
    /// Bytes that the helpers used when the run in progress began, if one of them may be loading.
    helpers_before: Option<u64>,
    /// Whether `room` may have to change.
    wants_fit: bool,
    /// The run in progress.
    pub active: Option<RunState>,
    /// The runs after it.
    queued: VecDeque<QueuedRun>,
    /// Until when the first queued run waits for what earlier runs left; monotonic, in nanoseconds.
    settle_by: Option<u64>,
    /// How often memory was squeezed meanwhile.
    squeezes: u64,
    /// The sockets of cells that have ended with some in use.
    sockets: Vec<OwnedFd>,
    pub pool: CellPool,
    own_cpu: OwnCpu,
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
        let cgroup = Cgroup::find();
        let in_force = cgroup.limits();
        let mut ready = ready::probe(&hello, &cgroup);
        let config = CellConfig { uid: hello.uid, gid: hello.gid, space: hello.space, masks: ProcMasks::find() };
        let base = match enter_base(&hello, &config, &cgroup) {
            Ok(base) => base,
            Err(StepError { step, errno }) => {
                ready.no_cell = Some((step, errno));
                None
            }
        };
        let audit_baseline = AuditBaseline::read(&cgroup);
        Ok(Self {
            hello,
            config,
            files,
            pool: CellPool::default(),
            cgroup,
            base,
            ready,
            speed: in_force.speed(sys::cpus()),
            memory_limit: in_force.memory,
            room: ProcessRoom::default(),
            quiet_bytes: None,
            helpers_before: None,
            wants_fit: true,
            active: None,
            queued: VecDeque::new(),
            settle_by: None,
            squeezes: 0,
            sockets: Vec::new(),
            own_cpu: OwnCpu::default(),
            wants_cell: true,
            audit_baseline,
            collection: Collection::default(),
            put_failed: None,
            stuck: false,
        })
    }

    /// Acts on the timers of the run in progress that are due.
    pub fn tick(&mut self, now: u64, out: &mut FrameQueue) {
        self.update_loaded(|active| now >= active.next_tick());
        let Some(active) = self.active.as_mut().filter(|active| now >= active.next_tick()) else { return };
        let (own_cpu, pool) = (&self.own_cpu, &mut self.pool);
        active.tick(now, &self.cgroup, || own_ns(pool, own_cpu, sys::own_cpu), out);
        self.reap(now);
    }

    /// Makes the next run's cell while nothing runs. During a program it would be ready earlier,
    /// but would delay a short program by more than that saves (measured: docs/SPEED.md).
    pub fn make_cell(&mut self) {
        if self.wants_cell && self.active.is_none() && self.is_cell() && !self.stuck {
            self.wants_cell = false;
            self.pool.fill(self.config);
            self.wants_fit = true;
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
        if let Some(base) = &mut self.base {
            // a runtime may size itself by it
            base.show_memory_limit(prepare.limits.memory_bytes);
        }
        Ok(self.pool.add(prepare, self.config, now, &mut self.own_cpu))
    }

    /// Starts the requested runtimes again, after a reset.
    pub fn prewarm(&mut self, now: u64) -> Option<PrepareResult> {
        self.wants_cell = true;
        if !self.is_cell() || self.stuck {
            return None;
        }
        self.pool.prewarm(self.config, now, &mut self.own_cpu)
    }

    /// Receives the report of prewarmed runtime `i`, if there is one.
    pub fn recv_ready(&mut self, i: usize, now: u64) -> Option<PrepareResult> {
        let result = self.pool.recv_ready(i, now, &mut self.own_cpu)?;
        self.wants_fit = true;
        if self.active.is_none() && !self.files.has_served() {
            let known = self.known_bytes();
            self.audit_baseline.read_memory_again(&self.cgroup, known);
        }
        Some(result)
    }

    pub fn send_prepared(&self, result: PrepareResult, out: &mut FrameQueue) {
        let PrepareResult { id, failed, took_ns } = result;
        let memory_bytes = self.cgroup.memory().saturating_sub(self.audit_baseline.memory());
        out.push(&FromInit::Prepared { id, failed, took_ns, memory_bytes });
    }

    /// What the init sees of its sandbox.
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// The same, with the limits as they are now.
    pub fn probe(&mut self) -> &Ready {
        let limits = self.cgroup.limits();
        self.speed = limits.speed(sys::cpus());
        self.memory_limit = limits.memory;
        self.wants_fit = true;
        if let Some(base) = &self.base {
            base.show_limits(&self.cgroup);
        }
        self.ready = ready::with_limits(std::mem::take(&mut self.ready), &limits, &self.cgroup);
        &self.ready
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
        self.wants_cell = true;
        self.pool.discard_prepared(&mut self.own_cpu);
        let emptied = self.files.empty();
        let (mut left, mut is_clean) = (None, false);
        for _ in 0..MAX_RESET_CHECKS {
            // processes may be exiting, and the kernel frees some memory late
            self.reap(sys::now());
            left = self.left_of_earlier_runs();
            is_clean = self.files.is_clean(&self.helper_pids());
            if left.is_none() && is_clean {
                break;
            }
            let _ = sys::poll(&mut [], RESET_CHECK_NS);
        }
        let left = left.map(|left| left.to_string());
        let audit = Audit { files: &self.files, is_clean, left, baseline: &self.audit_baseline };
        audit.residue(emptied)
    }

    /// Memory that is not a program's: of helpers and of the daemon's files.
    fn known_bytes(&mut self) -> u64 {
        self.pool.helper_bytes() + self.files.stored_bytes()
    }

    /// The pids of all helper processes that survive a reset or are exiting.
    fn helper_pids(&self) -> Vec<i32> {
        let mut pids = self.pool.pids();
        pids.extend(self.own_cpu.pids());
        pids
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
        self.queued.iter_mut().find(|queued| queued.run.run == run)
    }

    /// Takes a run. It starts at once if nothing is in the way; otherwise `start_next` starts it.
    pub fn accept(&mut self, run: Run, now: u64, out: &mut FrameQueue) -> Result<(), SessionEnd> {
        if usize::from(self.active.is_some()) + self.queued.len() > 1 {
            return Err("a third Run arrived during a run".to_owned().into());
        }
        self.queued.push_back(QueuedRun::new(run));
        self.start_next(now, out)
    }

    /// Whether a run waits for what earlier ones left.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.active.is_none() && !self.queued.is_empty()
    }

    /// Starts the next run, unless it must wait.
    pub fn start_next(&mut self, now: u64, out: &mut FrameQueue) -> Result<(), SessionEnd> {
        while self.is_waiting() {
            // no run may notice what another one left
            self.files.set_left(None);
            if self.is_cell()
                && self.files.has_served()
                && !self.stuck
                && let Some(left) = self.left_of_earlier_runs()
            {
                self.squeeze(now);
                let settle_by = *self.settle_by.get_or_insert(now.saturating_add(SETTLE_PATIENCE_NS));
                let most = match self.own_cpu.is_any_exiting() {
                    true => settle_by.saturating_add(MAX_SETTLE_NS - SETTLE_PATIENCE_NS),
                    false => settle_by,
                };
                return if now < most { Ok(()) } else { Err(left.into()) };
            }
            (self.settle_by, self.squeezes) = (None, 0);
            let Some(QueuedRun { run, input }) = self.queued.pop_front() else { break };
            match self.start(run, now) {
                Ok(()) => {
                    if let Some(active) = &mut self.active {
                        active.replay(&input, now, out);
                    }
                }
                Err(done) => out.push(&FromInit::Done(done)),
            }
        }
        Ok(())
    }

    /// Writes a file.
    pub fn put(&mut self, put: &Put) -> Result<(), i32> {
        // during a run the program could replace the path in between
        let result = if self.active.is_some() || self.stuck {
            Err(libc::EBUSY)
        } else {
            self.collection = Collection::default();
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

    /// Starts a run, or returns the facts of its refusal.
    fn start(&mut self, run: Run, now: u64) -> Result<(), Box<Done>> {
        self.files.close();
        self.collection = Collection::default();
        if self.stuck {
            return Err(self.refuse(&run, StepError::new("stuck", libc::EBUSY), now));
        }
        if let Some((path, errno)) = &self.put_failed {
            let failed = StepError { step: format!("put {path}"), errno: *errno };
            // the file of this run alone; later runs go without it
            self.put_failed.take_if(|(path, _)| run.remove_after.contains(path));
            return Err(self.refuse(&run, failed, now));
        }
        if run.clean
            && let Err(errno) = self.files.clean()
        {
            return Err(self.refuse(&run, StepError::new("clean", errno), now));
        }
        self.files.mark_used();
        let launched = if self.is_cell() { self.launch_in_cell(run, now) } else { self.launch_split(run, now) };
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

    fn launch_split(&mut self, run: Run, now: u64) -> Result<RunState, Box<(Run, StepError)>> {
        self.room.fit(&self.cgroup, run.limits.pids, 0);
        let baseline = RunBaseline::read(&self.cgroup, self.own_cpu.cpu_ns(sys::own_cpu()));
        let memory = MemoryLedger::new(baseline.counters, Inherited::default(), self.memory_limit);
        let counted = self.cgroup.counted(run.limits.pids);
        match setup::start_split(&run, self.hello.uid, self.hello.gid, counted) {
            Ok(started) => Ok(RunState::new(run, started, CpuLedger::split(baseline, now), memory, self.speed)),
            Err(failed) => Err(Box::new((run, failed))),
        }
    }

    fn launch_in_cell(&mut self, mut run: Run, now: u64) -> Result<RunState, Box<(Run, StepError)>> {
        // a runtime that loads beside a compiler sizes itself by its own limit
        let is_beside = !run.keep.is_empty() && self.pool.is_loading();
        if let Some(base) = self.base.as_mut().filter(|_| !is_beside) {
            base.show_memory_limit(run.limits.memory_bytes);
        }
        let (mut cell, source) = match self.pool.take(&run, self.config, &mut self.own_cpu) {
            Ok(taken) => taken,
            Err(failed) => return Err(Box::new((run, failed))),
        };
        run.hot = source != RunSource::Nothing;
        self.wants_cell = run.more;
        // before `inherited`: this also reads the sizes that a template reports once it has loaded
        let may_load = self.pool.is_template_loading(now) || self.pool.is_loading();
        self.pause_templates(source, cell.is_still(), now);
        cell.wait_until_ready();
        let held = cell.waiting_holdings().unwrap_or_default();
        let inherited = self.inherited(source, held, cell.is_still());
        self.wait_for_exits(held.charged, now);
        self.helpers_before = may_load.then(|| self.pool.helper_bytes());
        self.room.fit(&self.cgroup, run.limits.pids, held.threads);
        let counted = self.cgroup.counted(run.limits.pids);
        let (cell_init_before_ns, waiting_before_ns) = (cell.cell_init_ns(), cell.waiting_ns());
        let own_ns = self.own_ns();
        let baseline = RunBaseline::read(&self.cgroup, own_ns);
        let memory = MemoryLedger::new(baseline.counters, inherited, self.memory_limit);
        let ledger = CpuLedger::cell(baseline, now, cell_init_before_ns, waiting_before_ns);
        match cell.start(&run, counted) {
            Ok(started) => Ok(RunState::new(run, started, ledger, memory, self.speed)),
            Err(failed) => Err(Box::new((run, failed))),
        }
    }

    /// The facts of a run that never had a process.
    fn refuse(&mut self, run: &Run, failed: StepError, requested_at: u64) -> Box<Done> {
        self.pool.resume_templates(requested_at);
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
    pub fn finish_if_over(&mut self, now: u64, out: &mut FrameQueue) -> Result<(), SessionEnd> {
        self.update_loaded(RunState::is_over);
        if let Some(active) = self.active.take_if(|active| active.is_over()) {
            self.pool.resume_templates(now);
            let done = self.finish(active);
            out.push(&FromInit::Done(Box::new(done)));
            self.reap(now);
        }
        self.start_next(now, out)
    }

    /// The last part of a run, when none of its processes is alive: counters, files, audit.
    fn finish(&mut self, mut active: RunState) -> Done {
        self.own_cpu.note_exits();
        let own_ns = self.own_ns();
        let mut done = active.facts(&self.cgroup, own_ns);
        let (spec, remains, cell) = active.into_remains();
        match remains {
            CellRemains::Nothing => {}
            CellRemains::Exiting { pid, charged_ns } => self.own_cpu.add_exiting(pid, Vec::new(), charged_ns),
        }
        let (folder, sockets) = cell.map(|cell| (cell.box_folder, cell.sockets)).unzip();
        self.sockets.extend(sockets.filter(|sockets| cell::sockets_in_use(sockets) > 0));
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
        done
    }
}

/// Enters the base, if cells are wanted, and tries whether one can be made.
fn enter_base(hello: &InitHello, config: &CellConfig, cgroup: &Cgroup) -> Result<Option<Base>, StepError> {
    match hello.isolation {
        IsolationMode::Split => Ok(None),
        IsolationMode::Cell => {
            let base = Base::enter(config, cgroup)?;
            cell::trial(config)?;
            Ok(Some(base))
        }
    }
}
