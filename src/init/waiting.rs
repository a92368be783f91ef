//! Cells that wait for their runs, and the processes of ours that outlive one.
//!
//! ```text
//!              make (fork: its PID 1 furnishes it)                    order (the Run, on its line)
//!  nothing --------------------------------------> Waiting ------------------------------------------> Started
//!                                                   | `ready` from its runtime, where it has one     |
//!                                                   |                                                |
//!                                       as new, and the same submission goes on  <------ End --------'
//!                                                   '- end: SIGKILL to its PID 1
//! ```
//!
//! One without a runtime serves any run. One with a runtime serves the first run that has the same command, environment and
//! filter. One that has been used serves the next run, unless a file comes first; it may have that run's order already (`ahead`).

use super::cell::Tenant;
use super::cgroup::Cgroup;
use super::leader::{self, Ends};
use super::report::{Failed, Report};
use super::setup::{self, Started, Used};
use super::sys::{self, Waited};
use super::template::{Nursery, Origin, Template};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use wire::codec;
use wire::frame::{Prepare, Relax, Run, ToInit};

use nix::libc;

/// The most that a runtime may say about why it does not wait.
const MAX_WORDS: usize = 1024;

/// A cell that waits.
pub struct Waiting {
    pid: i32,
    line: OwnedFd,
    report: Report,
    kind: Kind,
}

enum Kind {
    New {
        /// Our ends of its first program's pipes.
        ends: setup::Ends,
        /// What waits in it, as far as it was looked for.
        children: Vec<i32>,
        /// Where a runtime will say that it waits, which is let in before.
        ready: Option<OwnedFd>,
    },
    Used(Used),
}

/// The children of a process, as the init sees them.
fn children_of(pid: i32) -> Vec<i32> {
    let listed = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    listed.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

impl Waiting {
    /// Makes one, with a runtime or without.
    pub fn make(
        tenant: Tenant,
        relax: Relax,
        hot: Option<(&Prepare, Origin)>,
        nursery: Option<&Nursery>,
        cgroup: &Cgroup,
    ) -> Result<(Self, Option<OwnedFd>), Failed> {
        let failed = |step: &'static str| move |errno| Failed::new(step, errno);
        let (ends, stdio) = setup::stdio()?;
        let (report, told) = setup::report()?;
        let (line, theirs) = sys::line().map_err(failed("pipe"))?;
        let ready = match hot {
            Some(_) => Some(sys::pipe().map_err(failed("pipe"))?),
            None => None,
        };
        match sys::fork_cell().map_err(failed("cell namespaces"))? {
            Some(pid) => {
                let heard = ready.map(|(heard, _)| heard);
                if let Some(heard) = &heard {
                    sys::set_nonblocking(heard).map_err(failed("pipe"))?;
                }
                let kind = Kind::New { ends, children: Vec::new(), ready: None };
                Ok((Self { pid, line, report, kind }, heard))
            }
            None => {
                let ready = ready.map(|(_, said)| said);
                // our ends of pipes, this program's and those of other cells, would keep them open beside it
                let [a, b, c] = &stdio;
                let nurserys = nursery.map(Nursery::line);
                let kept = [Some(a), Some(b), Some(c), Some(&told), Some(&theirs), ready.as_ref(), nurserys];
                sys::close_from_3_but(kept.into_iter().flatten().chain(cgroup.descriptors()));
                let ends = Ends { stdio, report: told, line: theirs };
                let hot = hot.zip(ready).map(|((prepare, origin), ready)| (prepare, origin, ready));
                leader::lead(ends, &tenant, relax, hot, nursery, cgroup)
            }
        }
    }

    /// One that has been used and is as new.
    #[must_use]
    pub fn again(pid: i32, line: OwnedFd, report: Report, used: Used) -> Self {
        Self { pid, line, report: report.anew(), kind: Kind::Used(used) }
    }

    /// Whether another run was in it.
    #[must_use]
    pub fn is_used(&self) -> bool {
        matches!(self.kind, Kind::Used(_))
    }

    /// CPU time of its PID 1: since the run before, where what was counted then is what counts, otherwise so far; in
    /// nanoseconds.
    #[must_use]
    pub fn leader_ns(&self, since_the_run_before: bool) -> u64 {
        match &self.kind {
            Kind::Used(used) if since_the_run_before => used.leader_ns,
            _ => sys::cpu_of(self.pid),
        }
    }

    /// The same of all that is in it.
    fn cpu_ns(&mut self) -> u64 {
        let waits = match &mut self.kind {
            Kind::Used(_) => &[][..],
            Kind::New { children, .. } => {
                if children.is_empty() {
                    *children = children_of(self.pid);
                }
                children
            }
        };
        waits.iter().chain([&self.pid]).map(|pid| sys::cpu_of(*pid)).sum()
    }

    /// Lets it run; `ahead` when it has its order.
    pub fn order(self, run: &Run, ahead: Option<setup::Ends>) -> Result<Started, Failed> {
        let Self { pid, line, report, kind } = self;
        let (ends, ready, used, sent) = match kind {
            Kind::Used(used) if let Some(setup::Ends { stdin, output }) = ahead => {
                return Ok(Started { pid, stdin, output, report, line: Some(line), ready: None, used: Some(used) });
            }
            Kind::New { ends, ready, .. } => {
                // what a runtime said while it was loading is not the program's
                let mut words = [0; MAX_WORDS];
                for pipe in &ends.output {
                    while matches!(sys::read(pipe.as_raw_fd(), &mut words), Ok(1..)) {}
                }
                (ends, ready, None, Ok(()))
            }
            Kind::Used(used) => {
                let (ends, [stdin, stdout, stderr]) = setup::stdio()?;
                let sent = sys::send_fds(&line, 0, [&stdin, &stdout, &stderr]);
                (ends, None, Some(used), sent)
            }
        };
        let mut frame = Vec::new();
        codec::encode_to_init(&ToInit::Run(run.clone()), &mut frame);
        // it reads nothing else, and ends when it cannot
        if let Err(errno) = sent.and_then(|()| sys::write_all(line.as_raw_fd(), &frame)) {
            sys::kill(pid);
            return Err(Failed::new("cell order", errno));
        }
        let setup::Ends { stdin, output } = ends;
        Ok(Started { pid, stdin, output, report, line: Some(line), ready, used })
    }
}

/// A cell whose runtime waits, or is about to.
struct Hot {
    prepare: Prepare,
    cell: Option<Waiting>,
    /// Where the runtime says that it waits, until it has.
    ready: Option<OwnedFd>,
    asked_at: u64,
    /// Whether it was said that none will.
    failed: bool,
}

/// What came of a runtime: for the host.
pub struct Told {
    /// Which.
    pub hot: u32,
    /// What failed.
    pub failed: Option<(String, i32)>,
    /// Since it was asked for, in nanoseconds.
    pub took_ns: u64,
}

/// Whether a runtime is the beginning of this run.
fn may_serve(prepare: &Prepare, run: &Run) -> bool {
    let Prepare { stands_for, exact, env, relax, .. } = prepare;
    let may_follow = !exact || run.argv.len() == stands_for.len();
    may_follow && run.argv.starts_with(stands_for) && run.env == *env && run.relax == *relax
}

/// Everything that waits in one sandbox.
pub struct Shelf {
    /// What is counted between two runs.
    cgroup: Rc<Cgroup>,
    plain: Option<Waiting>,
    /// The last run's, and most likely the next one's.
    relax: Relax,
    /// In the order of their numbers.
    hot: Vec<Hot>,
    /// From which the programs are forked that one of them serves.
    template: Option<Template>,
}

impl Shelf {
    /// An empty one.
    #[must_use]
    pub fn new(cgroup: Rc<Cgroup>) -> Self {
        Self { cgroup, plain: None, relax: Relax::NONE, hot: Vec::new(), template: None }
    }

    /// A cell for the next run, unless there is one.
    pub fn fill(&mut self, tenant: Tenant) {
        if self.plain.is_none() {
            // what fails now fails again when it is wanted, and is told then
            let nursery = self.nursery();
            let made = Waiting::make(tenant, self.relax, None, nursery.as_ref(), &self.cgroup);
            self.plain = made.ok().map(|(cell, _)| cell);
        }
    }

    /// For the leader of a cell: where programs are forked.
    fn nursery(&self) -> Option<Nursery> {
        let prepare = self.hot.iter().map(|hot| &hot.prepare).find(|prepare| prepare.forks)?;
        self.template.as_ref()?.nursery(prepare.relax)
    }

    /// Takes notice of an end, if it was the template's.
    pub fn reaped(&mut self, one: &Waited) -> bool {
        self.template.take_if(|template| template.pid == one.pid).is_some()
    }

    /// Memory of what goes on over a reset, in bytes.
    #[must_use]
    pub fn own_bytes(&self) -> u64 {
        self.template.as_ref().map_or(0, Template::own_bytes)
    }

    /// A runtime is wanted, now and after each reset.
    pub fn add(&mut self, prepare: Prepare, tenant: Tenant, now: u64) -> Option<Told> {
        self.hot.retain(|hot| hot.prepare.id != prepare.id);
        self.hot.push(Hot { prepare, cell: None, ready: None, asked_at: now, failed: false });
        self.hot.sort_by_key(|hot| hot.prepare.id);
        self.heat(tenant, now)
    }

    /// Ends those whose runtimes wait.
    pub fn cool(&mut self, ours: &mut Ours) {
        for hot in &mut self.hot {
            hot.ready = None;
            hot.cell.take().into_iter().for_each(|cell| ours.end(cell));
        }
    }

    /// One that has been used and may serve the next run.
    pub fn keep(&mut self, cell: Waiting, ours: &mut Ours) {
        self.plain.replace(cell).into_iter().for_each(|other| ours.end(other));
    }

    /// The one without a runtime is to be made anew.
    pub fn drop_plain(&mut self, ours: &mut Ours) {
        self.plain.take().into_iter().for_each(|cell| ours.end(cell));
    }

    /// Whether there is one that has been used.
    #[must_use]
    pub fn has_used(&self) -> bool {
        self.plain.as_ref().is_some_and(Waiting::is_used)
    }

    /// A file comes or goes: a cell that has been used does without. Whether there was one.
    pub fn drop_used(&mut self, ours: &mut Ours) -> bool {
        let used = self.plain.take_if(|cell| cell.is_used());
        used.map(|cell| ours.end(cell)).is_some()
    }

    /// The pids of all that wait without a runtime.
    pub fn pids(&self) -> Vec<i32> {
        let cells = self.plain.iter().flat_map(|cell| [vec![cell.pid], children_of(cell.pid)]).flatten();
        // with those between it and a program
        let templates = self.template.iter().flat_map(|template| {
            let children = children_of(template.pid);
            let inner: Vec<i32> = children.iter().flat_map(|child| children_of(*child)).collect();
            [vec![template.pid], children, inner].concat()
        });
        cells.chain(templates).collect()
    }

    /// CPU time of all that wait, in nanoseconds.
    pub fn cpu_ns(&mut self) -> u64 {
        let template: u64 = self.template.iter().map(|template| sys::cpu_of(template.pid)).sum();
        let cells = self.plain.iter_mut().chain(self.hot.iter_mut().filter_map(|hot| hot.cell.as_mut()));
        template + cells.map(Waiting::cpu_ns).sum::<u64>()
    }

    /// Starts what is wanted and not there.
    pub fn heat(&mut self, tenant: Tenant, now: u64) -> Option<Told> {
        // beside one that is only loading there is time for another
        let is_loaded = self.template.is_some();
        if !is_loaded && let Some(hot) = self.hot.iter().find(|hot| hot.prepare.forks) {
            match Template::start(&hot.prepare) {
                Ok(template) => self.template = Some(template),
                Err(Failed { step, errno }) => {
                    return Some(Told { hot: hot.prepare.id, failed: Some((step, errno)), took_ns: 0 });
                }
            }
        }
        let nursery = self.nursery();
        for hot in self.hot.iter_mut().filter(|hot| hot.cell.is_none()) {
            (hot.asked_at, hot.failed) = (now, false);
            let origin = if hot.prepare.forks && is_loaded { Origin::Fork } else { Origin::Own };
            let wanted = Some((&hot.prepare, origin));
            match Waiting::make(tenant, hot.prepare.relax, wanted, nursery.as_ref(), &self.cgroup) {
                Ok((cell, ready)) => (hot.cell, hot.ready) = (Some(cell), ready),
                Err(Failed { step, errno }) => {
                    return Some(Told { hot: hot.prepare.id, failed: Some((step, errno)), took_ns: 0 });
                }
            }
        }
        None
    }

    /// For poll: where a runtime may say that it waits.
    pub fn ready_fd(&self, i: usize) -> RawFd {
        self.hot.get(i).and_then(|hot| hot.ready.as_ref()).map_or(-1, AsRawFd::as_raw_fd)
    }

    /// It said something.
    pub fn hear(&mut self, i: usize, now: u64, ours: &mut Ours) -> Option<Told> {
        let hot = self.hot.get_mut(i)?;
        let ready = hot.ready.take()?;
        let mut words = [0; MAX_WORDS];
        let said = match sys::read(ready.as_raw_fd(), &mut words) {
            Err(libc::EAGAIN) => {
                hot.ready = Some(ready);
                return None;
            }
            Ok(n) => words.get(..n).unwrap_or_default(),
            Err(_) => &[],
        };
        let failed = match said {
            b"ready" | b"ready\n" => None,
            [] => Some("it ended before it was ready".to_owned()),
            words => Some(String::from_utf8_lossy(words).trim_end().to_owned()),
        };
        hot.failed = failed.is_some();
        if hot.failed
            && let Some(cell) = hot.cell.take()
        {
            ours.end(cell);
        }
        let failed = failed.map(|words| (words, 0));
        Some(Told { hot: hot.prepare.id, failed, took_ns: now.saturating_sub(hot.asked_at) })
    }

    /// Which of the runtimes that wait serves this run.
    fn serving(&self, run: &Run) -> Option<usize> {
        let fits = |hot: &Hot| {
            // one that is still starting, as a cold one would have to, is as good as it gets
            let is_cold_start = hot.prepare.load.is_empty() && hot.prepare.argv == hot.prepare.stands_for;
            let waits = hot.cell.is_some() && (hot.ready.is_none() || is_cold_start);
            waits && may_serve(&hot.prepare, run)
        };
        if run.hot { self.hot.iter().position(fits) } else { None }
    }

    /// Whether the template serves it.
    fn is_forked(&self, run: &Run) -> bool {
        let by_template =
            |hot: &Hot| hot.prepare.forks && hot.ready.is_none() && !hot.failed && may_serve(&hot.prepare, run);
        run.hot && self.template.is_some() && self.hot.iter().any(by_template)
    }

    /// Whether this run starts by an exec of its own.
    #[must_use]
    pub fn starts_cold(&self, run: &Run) -> bool {
        !self.is_forked(run) && self.serving(run).is_none()
    }

    /// A cell for this run, and whether its runtime serves. What the run must not find beside it is ended.
    /// `given` when one that has been used has this run's order.
    pub fn take(&mut self, run: &Run, tenant: Tenant, given: bool, ours: &mut Ours) -> Result<(Waiting, bool), Failed> {
        let (forks, serving) = if given { (false, None) } else { (self.is_forked(run), self.serving(run)) };
        self.relax = run.relax;
        // memory is for the program alone; what comes after a compile step may wait
        let stays = |i: usize| match serving {
            Some(serving) => i > serving,
            None => !run.keep.is_empty(),
        };
        let cell = serving.and_then(|i| {
            let hot = self.hot.get_mut(i)?;
            let is_ready = hot.ready.take();
            hot.cell.take().map(|mut cell| {
                if let Kind::New { ready, .. } = &mut cell.kind {
                    *ready = is_ready;
                }
                cell
            })
        });
        for (_, hot) in self.hot.iter_mut().enumerate().filter(|(i, _)| !stays(*i)) {
            hot.ready = None;
            hot.cell.take().into_iter().for_each(|cell| ours.end(cell));
        }
        if let Some(cell) = cell {
            return Ok((cell, true));
        }
        if run.relax != Relax::NONE {
            self.drop_used(ours);
        }
        match self.plain.take() {
            Some(cell) => Ok((cell, forks)),
            None => {
                let nursery = self.nursery();
                let made = Waiting::make(tenant, run.relax, None, nursery.as_ref(), &self.cgroup);
                made.map(|(cell, _)| (cell, forks))
            }
        }
    }
}

/// Processes of ours beside a run: their CPU time is not the program's. The PID 1 of the run before, which is still on its way
/// out, and runtimes that are not wanted.
#[derive(Default)]
pub struct Ours {
    leaving: Vec<Leaving>,
    spent_ns: u64,
}

struct Leaving {
    pid: i32,
    /// Those of its children that are ours too, by their pids.
    children: Vec<i32>,
    /// What its children had of its time, when they were not.
    not_ours_ns: u64,
}

impl Ours {
    /// A run's PID 1 has said its last word; its program's CPU time counts for it when it is waited for.
    pub fn retire(&mut self, pid: i32, children_ns: u64) {
        self.leaving.push(Leaving { pid, children: Vec::new(), not_ours_ns: children_ns });
    }

    /// Ends a cell that waits.
    fn end(&mut self, cell: Waiting) {
        let (children, not_ours_ns) = match cell.kind {
            Kind::New { .. } => (children_of(cell.pid), 0),
            Kind::Used(used) => (Vec::new(), used.children_ns),
        };
        self.leaving.push(Leaving { pid: cell.pid, children, not_ours_ns });
        sys::kill(cell.pid);
    }

    /// The pids of all of them.
    pub fn pids(&self) -> Vec<i32> {
        self.leaving.iter().flat_map(|leaving| leaving.children.iter().chain([&leaving.pid])).copied().collect()
    }

    /// Takes notice of an end, if it was one of these.
    pub fn reaped(&mut self, one: &Waited) -> bool {
        let Some(at) = self.leaving.iter().position(|leaving| leaving.pid == one.pid) else { return false };
        let leaving = self.leaving.swap_remove(at);
        self.spent_ns += (one.user_ns + one.system_ns).saturating_sub(leaving.not_ours_ns);
        true
    }

    /// One that lived beside the runs has ended.
    pub fn spent(&mut self, one: &Waited) {
        self.spent_ns += one.user_ns + one.system_ns;
    }

    /// CPU time of all of them, and of this process, which has taken `own_ns`; in nanoseconds.
    #[must_use]
    pub fn cpu_ns(&self, own_ns: u64) -> u64 {
        let of = |leaving: &Leaving| {
            let children: u64 = leaving.children.iter().map(|pid| sys::cpu_of(*pid)).sum();
            sys::cpu_of(leaving.pid) + children
        };
        own_ns + self.spent_ns + self.leaving.iter().map(of).sum::<u64>()
    }
}
