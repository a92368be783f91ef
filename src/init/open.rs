//! What a session has once the host has said what the sandbox is for: files, counters, cells that wait, the run in progress and
//! the one behind it. The session moves bytes and asks; here is what is done.
//!
//! ```text
//!          start                      finish
//!  (idle) ------> active, [next] -------------> Done; next: start at once
//!                   ^ its order may have gone ahead (`ahead`)
//! ```

use super::ahead::{Behind, Given, Next, Woke};
use super::audit::{self, Baseline};
use super::cell::{self, Tenant};
use super::cgroup::{Before, Cgroup};
use super::collect::Collection;
use super::files::{Files, Owner};
use super::limits;
use super::output::Out;
use super::reap::{self, Reaped};
use super::report::Failed;
use super::run::{Active, Left};
use super::session::Over;
use super::setup;
use super::sys;
use super::waiting::{Ours, Shelf, Told};
use std::rc::Rc;
use wire::frame::{
    Collect, Collected, Done, Ended, Fired, FromInit, InitHello, IsolationMode, MAX_PREPARED, Prepare, Put, Relax, Run,
    VERSION,
};

use nix::libc;

/// A sandbox that knows what it is for.
pub struct Open {
    /// What the host said.
    pub hello: InitHello,
    files: Files,
    /// The sandbox's counters.
    pub cgroup: Rc<Cgroup>,
    /// CPUs that it can keep busy, in 1e-9.
    pub speed: u64,
    /// The run in progress.
    pub active: Option<Active>,
    /// The one behind it.
    pub next: Option<Next>,
    /// Cells that wait.
    pub shelf: Shelf,
    /// Processes beside the run.
    pub ours: Ours,
    /// When the loop was last woken.
    pub woke: Woke,
    /// Whether a cell is to be made ahead, as soon as it disturbs nobody.
    wants_cell: bool,
    baseline: Baseline,
    /// The last run's files that the host reads.
    pub collection: Collection,
    /// The first Put that failed and has not been made good: no run starts.
    put_failed: Option<(String, i32)>,
    /// A process outlived its kill: no run starts any more.
    stuck: bool,
}

/// How often a reset looks for processes, and the pause in between.
const MAX_LOOKS: usize = 20;
const LOOK_AGAIN_NS: u64 = 1_000_000;

impl Open {
    /// As the host wants it.
    pub fn new(hello: InitHello) -> Result<Self, Over> {
        if hello.version != VERSION {
            let theirs = hello.version;
            return Err(Over::Fault(format!("the host speaks version {theirs}, this init {VERSION}")));
        }
        if hello.uid == 0 || hello.gid == 0 || hello.uid == u32::MAX || hello.gid == u32::MAX {
            return Err(Over::Fault("a program may not run as root".to_owned()));
        }
        let owner = match hello.isolation {
            IsolationMode::Split => Owner::Other(hello.uid, hello.gid),
            // a cell has the uid that we have
            IsolationMode::Cell if hello.uid == sys::euid() => Owner::Cell,
            IsolationMode::Cell => {
                let (uid, own) = (hello.uid, sys::euid());
                return Err(Over::Fault(format!("cells of uid {uid} cannot be made by uid {own}")));
            }
        };
        let files = Files::open(owner).map_err(|e| Over::Fault(format!("open /box: errno {e}")))?;
        let cgroup = Rc::new(Cgroup::find());
        let speed = limits::speed(sys::cpus(), &cgroup.limits());
        let baseline = Baseline::look(&cgroup);
        let collection = Collection::default();
        Ok(Self {
            hello,
            files,
            shelf: Shelf::new(cgroup.clone()),
            cgroup,
            speed,
            active: None,
            next: None,
            ours: Ours::default(),
            woke: Woke::default(),
            wants_cell: true,
            baseline,
            collection,
            put_failed: None,
            stuck: false,
        })
    }

    /// Takes the children that have ended.
    pub fn reap(&mut self, now: u64) {
        let childless = loop {
            match reap::next() {
                Reaped::One(one) if self.ours.reaped(&one) => {}
                Reaped::One(one) if self.shelf.reaped(&one) => self.ours.spent(&one),
                Reaped::One(one) => {
                    if let Some(active) = &mut self.active {
                        active.child(one, now);
                    }
                    // else nobody's: an engine's exec session that lost its parent
                }
                Reaped::Later => break false,
                Reaped::Nobody => break true,
            }
        };
        if let Some(active) = &mut self.active {
            let (ours, shelf, woke) = (&self.ours, &mut self.shelf, self.woke);
            // the shelf's first: the init's own clock includes the reading
            active.settle(childless, now, &self.cgroup, |at| shelf.cpu_ns() + ours.cpu_ns(woke.own_ns(at)));
        }
    }

    /// Makes the next run's cell while nothing runs. Beside a program it would be ready earlier, but makes a short one take
    /// longer by more than that (measured: docs/SPEED.md).
    pub fn make_ready(&mut self) {
        if self.wants_cell && self.active.is_none() && self.is_cell() && !self.stuck {
            self.wants_cell = false;
            self.shelf.fill(self.tenant());
        }
    }

    /// CPU time of this process and all of ours beside a run.
    fn ours_ns(&mut self) -> u64 {
        // the shelf's first: the init's own clock includes the reading
        let shelf = self.shelf.cpu_ns();
        shelf + self.ours.cpu_ns(sys::own_cpu())
    }

    fn is_cell(&self) -> bool {
        self.hello.isolation == IsolationMode::Cell
    }

    /// A runtime is to wait.
    pub fn prepare(&mut self, prepare: Prepare, now: u64) -> Result<Option<Told>, Over> {
        if !self.is_cell() || self.active.is_some() || prepare.id as usize >= MAX_PREPARED {
            return Err(Over::Fault("a Prepare came where there is no cell for it".to_owned()));
        }
        if prepare.forks {
            // it does not know the template
            self.shelf.drop_plain(&mut self.ours);
            self.wants_cell = true;
        }
        Ok(self.shelf.add(prepare, self.tenant(), now))
    }

    pub fn heat(&mut self, now: u64) -> Option<Told> {
        self.wants_cell = true;
        if self.is_cell() && !self.stuck { self.shelf.heat(self.tenant(), now) } else { None }
    }

    pub fn tell(&self, told: Told, out: &mut Out) {
        let Told { hot, failed, took_ns } = told;
        let memory_bytes = self.cgroup.memory().saturating_sub(self.baseline.memory());
        out.frame(&FromInit::Prepared { id: hot, failed, took_ns, memory_bytes });
    }

    fn tenant(&self) -> Tenant {
        Tenant { uid: self.hello.uid, gid: self.hello.gid, space: self.hello.space }
    }

    /// Why no cell can be made here, where cells are wanted.
    pub fn try_cell(&self) -> Option<(String, i32)> {
        match self.hello.isolation {
            IsolationMode::Split => None,
            IsolationMode::Cell => {
                let failed = cell::trial(&self.tenant()).err()?;
                Some((failed.step, failed.errno))
            }
        }
    }

    /// Takes everything away and looks what is left.
    pub fn reset(&mut self) -> Vec<String> {
        if self.active.is_some() || self.stuck {
            return vec!["a process that does not die".to_owned()];
        }
        self.collection = Collection::default();
        self.put_failed = None;
        self.shelf.cool(&mut self.ours);
        self.drop_used();
        let emptied = self.files.empty();
        let mut ours = self.our_pids();
        for _ in 0..MAX_LOOKS {
            if self.files.is_clean(&ours) {
                break;
            }
            // a fork of the template's may be on its way to its end
            let _ = sys::poll(&mut [], LOOK_AGAIN_NS);
            ours = self.our_pids();
        }
        audit::residue(&self.files, &ours, self.shelf.own_bytes(), &self.cgroup, &self.baseline, emptied)
    }

    /// The pids of all processes of ours that go on over a reset, or are on their way out.
    fn our_pids(&self) -> Vec<i32> {
        let mut ours = self.shelf.pids();
        ours.extend(self.ours.pids());
        ours
    }

    /// A cell that has been used has the files of before.
    fn drop_used(&mut self) {
        self.wants_cell |= self.shelf.drop_used(&mut self.ours);
    }

    /// What the last run left of what is wanted. Nothing, while something of it may be alive.
    pub fn collect(&mut self, wanted: &Collect) -> Collected {
        if self.active.is_some() || self.stuck {
            return Collected::default();
        }
        let (collection, collected) = Collection::of(&self.files, wanted);
        self.collection = collection;
        collected
    }

    /// The run in progress, if it is that one. Frames for another one crossed its Done on the way.
    pub fn run(&mut self, run: u32) -> Option<&mut Active> {
        self.active.as_mut().filter(|a| a.spec.run == run)
    }

    /// A run comes while another is under way: its order goes to the cell in use, where that may serve it.
    pub fn set_next(&mut self, run: Run) {
        let mut next = Next::new(run);
        if let Some(active) = &mut self.active
            && self.put_failed.is_none()
            && next.run.relax == Relax::NONE
            && self.shelf.starts_cold(&next.run)
        {
            active.pass_on(&mut next);
        }
        self.next = Some(next);
    }

    /// The run that is next, if it is that one.
    pub fn next(&mut self, run: u32) -> Option<&mut Next> {
        self.next.as_mut().filter(|next| next.run.run == run)
    }

    /// A file comes.
    pub fn put(&mut self, put: &Put) -> Result<(), i32> {
        // The program could race us for the name: files come between runs.
        let result = match self.active {
            Some(_) => Err(libc::EBUSY),
            None if self.stuck => Err(libc::EBUSY),
            None => {
                self.collection = Collection::default();
                self.drop_used();
                self.files.put(put)
            }
        };
        match result {
            Err(errno) => {
                self.put_failed.get_or_insert_with(|| (put.path.clone(), errno));
            }
            // Only the file that failed can make it good; a later piece of another one must not.
            Ok(()) if !put.append => {
                self.put_failed.take_if(|(path, _)| *path == put.path);
            }
            Ok(()) => {}
        }
        result
    }

    /// Starts a run, `behind` another where that has just ended.
    pub fn start(&mut self, run: Run, now: u64, behind: Option<Behind>) -> Result<(), Box<Done>> {
        self.files.close();
        self.collection = Collection::default();
        if self.stuck {
            return Err(self.refuse(&run, Failed::new("stuck", libc::EBUSY), now));
        }
        if let Some((path, errno)) = &self.put_failed {
            let failed = Failed { step: format!("put {path}"), errno: *errno };
            return Err(self.refuse(&run, failed, now));
        }
        if run.clean
            && let Err(errno) = self.files.clean()
        {
            return Err(self.refuse(&run, Failed::new("clean", errno), now));
        }
        self.files.mark_used();
        match self.launch(run, now, behind) {
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

    /// The program on its way; or the step that failed.
    fn launch(&mut self, mut run: Run, now: u64, behind: Option<Behind>) -> Result<Active, Box<(Run, Failed)>> {
        let (tenant, speed) = (self.tenant(), self.speed);
        let (before, given) = behind.map_or((None, None), |Behind { before, given }| (Some(before), given));
        if !self.is_cell() {
            let before = before.unwrap_or_else(|| Before::look(&self.cgroup, self.ours.cpu_ns(sys::own_cpu())));
            return match setup::start_split(&run, tenant.uid, tenant.gid) {
                Ok(started) => Ok(Active::new(run, now, before, started, None, speed)),
                Err(failed) => Err(Box::new((run, failed))),
            };
        }
        // that cell may be gone: then it starts like any other
        let given = given.filter(|_| self.shelf.has_used());
        let (cell, hot) = match self.shelf.take(&run, tenant, given.is_some(), &mut self.ours) {
            Ok(taken) => taken,
            Err(failed) => return Err(Box::new((run, failed))),
        };
        run.hot = hot;
        self.wants_cell = run.more;
        // what making a cell took has come since
        let before = before.filter(|_| cell.is_used());
        let leader_before_ns = cell.leader_ns(before.is_some());
        let before = match before {
            Some(before) => before,
            None => {
                let ours_ns = self.ours_ns();
                Before::look(&self.cgroup, ours_ns)
            }
        };
        let asked_at = given.as_ref().map_or(now, |given| given.at.min(now));
        let passed = given.as_ref().map_or(0, |given| given.passed);
        match cell.order(&run, given.map(|given| given.ends)) {
            Ok(started) => {
                let mut active = Active::new(run, asked_at, before, started, Some(leader_before_ns), speed);
                active.input.set_passed(passed);
                Ok(active)
            }
            Err(failed) => Err(Box::new((run, failed))),
        }
    }

    /// The facts of a run that never had a process.
    fn refuse(&mut self, run: &Run, failed: Failed, asked_at: u64) -> Box<Done> {
        // one that has its order must not go on with it
        self.drop_used();
        if !self.stuck {
            for path in &run.remove_after {
                self.files.remove(path);
            }
        }
        let mut step = failed.step;
        step.truncate(step.floor_char_boundary(1024));
        let clean = !self.stuck && (self.is_cell() || self.files.is_clean(&[]));
        let setup_ns = sys::now().saturating_sub(asked_at);
        Box::new(Done::not_started(run.run, step, failed.errno, setup_ns, clean))
    }

    /// The last part of a run, when nothing of it is alive: counters, files, audit.
    pub fn finish(&mut self, mut active: Active) -> (Done, Option<(Next, Behind)>) {
        let ours_ns = self.ours_ns();
        let (mut done, before) = active.facts(&self.cgroup, ours_ns);
        let next = self.next.take().map(|mut next| {
            let ended_at = active.between().map_or(0, |between| between.at);
            let given = next.given.take().map(|given| Given { at: given.at.max(ended_at), ..given });
            (next, Behind { before, given })
        });
        let folder = active.open_box();
        let (spec, left) = active.leave(folder.as_ref());
        match left {
            Left::Nothing => {}
            Left::Leader { pid, children_ns } => self.ours.retire(pid, children_ns),
            Left::Cell(cell) => self.shelf.keep(*cell, &mut self.ours),
        }
        self.files.set_left(folder);
        if done.ended == Ended::Exited(0) && done.fired == Fired::None && !spec.keep.is_empty() {
            done.keep_missing = if done.clean { self.files.keep(&spec.keep) } else { spec.keep.clone() };
        }
        if done.clean {
            for path in &spec.remove_after {
                self.files.remove(path);
            }
            // what was in the cell has gone with it
            done.clean = self.is_cell() || self.files.is_clean(&[]);
        } else {
            // Something alive is left: no file of the program may be touched any more, and nothing else may run.
            self.stuck = true;
        }
        (done, next)
    }
}
