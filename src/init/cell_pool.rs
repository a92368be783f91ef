//! The cells of one sandbox that are ready for runs.
//!
//! A cell without a runtime serves any run. A cell with a prewarmed runtime serves the first run
//! with the same command, environment and filter. No cell serves a second run.

use super::cell::CellConfig;
use super::filter::Filter;
use super::memory_ledger::Inherited;
use super::own_cpu::OwnCpu;
use super::ready_cell::{MAX_MESSAGE_BYTES, ReadyCell};
use super::run_status::StepError;
use super::sys::{self, ExitedChild};
use super::template::{RuntimeOrigin, Template, TemplateClient};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use wire::frame::{Prepare, Relax, Run};

use nix::libc;

/// A prewarmed runtime that the daemon asked for, and the cell it waits in.
struct PreparedRuntime {
    prepare: Prepare,
    cell: Option<ReadyCell>,
    /// Where it will write `ready`; `None` once it has.
    ready: Option<OwnedFd>,
    requested_at: u64,
    /// Whether its failure was reported.
    failed: bool,
}

/// Whether a prewarmed runtime is ready or failed, for the daemon.
pub struct PrepareResult {
    /// [`Prepare::id`] of the runtime.
    pub id: u32,
    /// The failed step and its errno, or the runtime's own message and 0.
    pub failed: Option<(String, i32)>,
    /// Nanoseconds since it was requested.
    pub took_ns: u64,
}

/// What a run starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunSource {
    /// Its own executable.
    Nothing,
    /// The runtime that waits in its cell.
    WaitingRuntime,
    /// A fork of the template, made when the run begins.
    Template,
}

/// How many programs a template is forked for before its successor is started, beside which it
/// serves once more. They share its hash seed and its addresses. A new one costs a start of the
/// runtime.
const MAX_TEMPLATE_USES: u32 = 31;

/// Whether the runtime stands for this run's command, with the same memory limit: a JVM and node
/// size their heaps by it. A template does not, nor does the heap of a compiler matter.
fn can_serve(prepare: &Prepare, run: &Run) -> bool {
    let Prepare { env, relax, forks, limits, .. } = prepare;
    let heap_fits = *forks || !run.keep.is_empty() || run.limits.memory_bytes == limits.memory_bytes;
    heap_fits && prepare.stands_for_command(&run.argv) && run.env == *env && run.relax == *relax
}

/// All ready cells of one sandbox, and the template that programs are forked from.
#[derive(Default)]
pub struct CellPool {
    /// The cell without a runtime.
    plain: Option<ReadyCell>,
    /// The filter of the last run, and most likely of the next one.
    filter: Rc<Filter>,
    /// Ordered by id.
    prepared: Vec<PreparedRuntime>,
    template: Option<Template>,
    /// How many programs were forked from it.
    template_uses: u32,
    /// The next template, which loads while the old one serves once more.
    successor: Option<Template>,
}

impl CellPool {
    /// Makes a cell for the next run, unless there is one.
    pub fn fill(&mut self, config: CellConfig) {
        if self.plain.is_none() {
            // a failure now repeats when the run comes, and is reported then
            let client = self.template_client();
            let made = ReadyCell::make(config, &self.filter, None, client.as_ref());
            self.plain = made.ok().map(|(cell, _)| cell);
        }
    }

    /// The filter with this `relax`.
    fn filter(&self, relax: Relax) -> Rc<Filter> {
        if self.filter.relax == relax { self.filter.clone() } else { Rc::new(Filter::new(relax)) }
    }

    /// For a cell init: access to the template, if programs are forked from one.
    fn template_client(&self) -> Option<TemplateClient> {
        let prepare = self.prepared.iter().map(|runtime| &runtime.prepare).find(|prepare| prepare.forks)?;
        self.template.as_ref()?.client(prepare.relax)
    }

    /// Forgets the template if it is the reaped child; returns whether it is.
    pub fn reaped(&mut self, child: &ExitedChild) -> bool {
        let is_child = |template: &mut Template| template.pid == child.pid;
        self.template.take_if(is_child).or_else(|| self.successor.take_if(is_child)).is_some()
    }

    /// Memory of the template and of waiting runtimes, in bytes.
    pub fn helper_bytes(&mut self) -> u64 {
        let cells = self.prepared.iter_mut().filter_map(|runtime| runtime.cell.as_mut());
        let runtimes = cells.map(ReadyCell::own_bytes).sum::<u64>();
        runtimes + self.templates().map(|template| sys::own_bytes_of(template.pid)).sum::<u64>()
    }

    /// The template and its successor.
    fn templates(&self) -> impl Iterator<Item = &Template> {
        self.template.iter().chain(&self.successor)
    }

    /// Prewarms a runtime, now and after each reset.
    pub fn add(&mut self, prepare: Prepare, config: CellConfig, now: u64, own: &mut OwnCpu) -> Option<PrepareResult> {
        self.prepared.retain(|runtime| runtime.prepare.id != prepare.id);
        self.prepared.push(PreparedRuntime { prepare, cell: None, ready: None, requested_at: now, failed: false });
        self.prepared.sort_by_key(|runtime| runtime.prepare.id);
        self.prewarm(config, now, own)
    }

    /// Discards the cells with runtimes.
    pub fn discard_prepared(&mut self, own: &mut OwnCpu) {
        self.prepared.iter_mut().for_each(|runtime| runtime.discard(own));
    }

    /// Discards the cells with runtimes and forgets the runtimes.
    pub fn drop_prepared(&mut self, own: &mut OwnCpu) {
        self.discard_prepared(own);
        self.prepared.clear();
    }

    /// Discards the cell without a runtime.
    pub fn discard_plain(&mut self, own: &mut OwnCpu) {
        self.plain.take().into_iter().for_each(|cell| cell.discard(own));
    }

    /// The pids of the plain cell and of the templates, with their descendants.
    pub fn pids(&self) -> Vec<i32> {
        let cells = self.plain.iter().flat_map(|cell| [vec![cell.pid()], sys::children(cell.pid())]).flatten();
        // including the processes between the template and a program
        let templates = self.templates().flat_map(|template| {
            let children = sys::children(template.pid);
            let inner: Vec<i32> = children.iter().flat_map(|child| sys::children(*child)).collect();
            [vec![template.pid], children, inner].concat()
        });
        cells.chain(templates).collect()
    }

    /// CPU time of all ready cells and the templates, in nanoseconds.
    pub fn cpu_ns(&mut self) -> u64 {
        let template: u64 = self.templates().map(|template| sys::cpu_of(template.pid)).sum();
        let prepared = self.prepared.iter_mut().filter_map(|runtime| runtime.cell.as_mut());
        template + self.plain.iter_mut().chain(prepared).map(ReadyCell::cpu_ns).sum::<u64>()
    }

    /// Starts every requested runtime that does not wait in a cell, and the template.
    pub fn prewarm(&mut self, config: CellConfig, now: u64, own: &mut OwnCpu) -> Option<PrepareResult> {
        self.replace_template(own);
        // a template that is started now must load first; a cell can load its own runtime meanwhile
        let is_loaded = self.template.is_some();
        if !is_loaded && let Some(runtime) = self.prepared.iter().find(|runtime| runtime.prepare.forks) {
            match Template::start(&runtime.prepare) {
                Ok(template) => (self.template, self.template_uses) = (Some(template), 0),
                Err(failed) => return Some(runtime.start_failed(failed)),
            }
        }
        let client = self.template_client();
        let relax = self.prepared.first().map_or(Relax::NONE, |runtime| runtime.prepare.relax);
        let filter = self.filter(relax);
        for runtime in self.prepared.iter_mut().filter(|runtime| runtime.cell.is_none()) {
            (runtime.requested_at, runtime.failed) = (now, false);
            let forks = runtime.prepare.forks && is_loaded;
            let origin = if forks { RuntimeOrigin::Fork } else { RuntimeOrigin::Exec };
            self.template_uses += u32::from(forks);
            let wanted = Some((&runtime.prepare, origin));
            match ReadyCell::make(config, &filter, wanted, client.as_ref()) {
                Ok((cell, ready)) => (runtime.cell, runtime.ready) = (Some(cell), ready),
                Err(failed) => return Some(runtime.start_failed(failed)),
            }
        }
        None
    }

    /// Starts a successor of a template that was used often enough, and the next time puts it in
    /// its place.
    fn replace_template(&mut self, own: &mut OwnCpu) {
        if let Some(successor) = self.successor.take() {
            // the cell without a runtime has a handle of the old one
            self.discard_plain(own);
            if let Some(old) = self.template.replace(successor) {
                own.add_exiting(old.pid, sys::children(old.pid), 0);
                sys::kill(old.pid);
            }
            self.template_uses = 0;
        } else if self.template.is_some() && self.template_uses >= MAX_TEMPLATE_USES {
            let forks = self.prepared.iter().find(|runtime| runtime.prepare.forks);
            // on failure the old one goes on, and the next reset tries again
            self.successor = forks.and_then(|runtime| Template::start(&runtime.prepare).ok());
        }
    }

    /// Whether a template may be loading.
    pub fn is_template_loading(&mut self, now: u64) -> bool {
        let mut templates = self.template.iter_mut().chain(&mut self.successor);
        templates.any(|template| template.is_loading(now))
    }

    /// Stops templates that are loading.
    pub fn pause_templates(&mut self, now: u64) {
        self.template.iter_mut().chain(&mut self.successor).for_each(|template| template.pause(now));
    }

    /// Lets templates continue to load.
    pub fn resume_templates(&mut self, now: u64) {
        self.template.iter_mut().chain(&mut self.successor).for_each(|template| template.resume(now));
    }

    /// Whether a runtime is not ready yet.
    #[must_use]
    pub fn is_loading(&self) -> bool {
        self.prepared.iter().any(|runtime| runtime.ready.is_some())
    }

    /// The pipe for poll on which runtime `i` reports; otherwise -1.
    pub fn ready_fd(&self, i: usize) -> RawFd {
        self.prepared.get(i).and_then(|runtime| runtime.ready.as_ref()).map_or(-1, AsRawFd::as_raw_fd)
    }

    /// Receives the report of runtime `i`, if there is one.
    pub fn recv_ready(&mut self, i: usize, now: u64, own: &mut OwnCpu) -> Option<PrepareResult> {
        self.prepared.get_mut(i)?.recv_ready(now, own)
    }

    /// Index of the prewarmed runtime that serves this run.
    fn serving(&self, run: &Run) -> Option<usize> {
        if run.hot { self.prepared.iter().position(|runtime| runtime.waits_for(run)) } else { None }
    }

    /// Processes and threads that will be a program's, if the next run is an ordinary one.
    pub fn count_waiting(&mut self) -> u64 {
        let prepared = self.prepared.iter_mut().find_map(|runtime| runtime.cell.as_mut());
        prepared.or(self.plain.as_mut()).map_or(0, ReadyCell::count_waiting)
    }

    /// What a fork of the template shares with it.
    #[must_use]
    pub fn template_holdings(&self) -> Inherited {
        let Some(template) = &self.template else { return Inherited::default() };
        let (resident, shared) = sys::memory_of(template.pid);
        let bytes = resident.saturating_sub(shared).saturating_sub(template.forking_bytes());
        Inherited { bytes, copied_bytes: template.copied_bytes(), file_bytes: Some(shared) }
    }

    /// Bytes of a fork's memory that only serve the forking.
    #[must_use]
    pub fn forking_bytes(&self) -> u64 {
        self.template.as_ref().map_or(0, Template::forking_bytes)
    }

    /// Whether the run is served by a fork of the template.
    fn is_forked(&self, run: &Run) -> bool {
        let by_template = |runtime: &PreparedRuntime| {
            let has_template = runtime.prepare.forks && runtime.ready.is_none() && !runtime.failed;
            has_template && can_serve(&runtime.prepare, run)
        };
        run.hot && self.template.is_some() && self.prepared.iter().any(by_template)
    }

    /// Takes a cell for this run, and says what it starts from. Discards runtimes that must not
    /// wait during the run.
    pub fn take(
        &mut self,
        run: &Run,
        config: CellConfig,
        own: &mut OwnCpu,
    ) -> Result<(ReadyCell, RunSource), StepError> {
        let (forks, serving) = (self.is_forked(run), self.serving(run));
        // one that was made in advance was counted then
        self.template_uses += u32::from(forks && serving.is_none());
        self.filter = self.filter(run.relax);
        let cell = serving.and_then(|i| self.prepared.get_mut(i)?.take_cell());
        // Memory is for the program alone. But runtimes stay during a compile step (`keep`),
        // because the next run may use them, and so do those with higher ids than the one in use.
        let stays = |i: usize| match serving {
            Some(serving) => i > serving,
            None => !run.keep.is_empty(),
        };
        for (_, runtime) in self.prepared.iter_mut().enumerate().filter(|(i, _)| !stays(*i)) {
            runtime.discard(own);
        }
        if let Some(cell) = cell {
            return Ok((cell, RunSource::WaitingRuntime));
        }
        let source = if forks { RunSource::Template } else { RunSource::Nothing };
        match self.plain.take() {
            Some(cell) => Ok((cell, source)),
            None => {
                let client = self.template_client();
                let made = ReadyCell::make(config, &self.filter, None, client.as_ref());
                made.map(|(cell, _)| (cell, source))
            }
        }
    }
}

impl PreparedRuntime {
    fn start_failed(&self, failed: StepError) -> PrepareResult {
        PrepareResult { id: self.prepare.id, failed: Some((failed.step, failed.errno)), took_ns: 0 }
    }

    fn discard(&mut self, own: &mut OwnCpu) {
        self.ready = None;
        self.cell.take().into_iter().for_each(|cell| cell.discard(own));
    }

    /// Whether it waits, and can serve this run.
    fn waits_for(&self, run: &Run) -> bool {
        // a runtime that loads nothing is never later than a cold start, even while it is starting
        let is_cold_start = self.prepare.load.is_empty() && self.prepare.argv == self.prepare.stands_for;
        let waits = self.cell.is_some() && (self.ready.is_none() || is_cold_start);
        waits && can_serve(&self.prepare, run)
    }

    /// Takes its cell for a run.
    fn take_cell(&mut self) -> Option<ReadyCell> {
        let ready = self.ready.take();
        self.cell.take().map(|mut cell| {
            cell.set_ready_pipe(ready);
            cell
        })
    }

    fn recv_ready(&mut self, now: u64, own: &mut OwnCpu) -> Option<PrepareResult> {
        let ready = self.ready.take()?;
        let mut buffer = [0; MAX_MESSAGE_BYTES];
        let message = match sys::read(ready.as_raw_fd(), &mut buffer) {
            Err(libc::EAGAIN) => {
                self.ready = Some(ready);
                return None;
            }
            Ok(n) => buffer.get(..n).unwrap_or_default(),
            Err(_) => &[],
        };
        let failed = match message {
            b"ready" | b"ready\n" => None,
            [] => Some("it ended before it was ready".to_owned()),
            message => Some(String::from_utf8_lossy(message).trim_end().to_owned()),
        };
        self.failed = failed.is_some();
        if self.failed {
            self.discard(own);
        }
        let failed = failed.map(|message| (message, 0));
        Some(PrepareResult { id: self.prepare.id, failed, took_ns: now.saturating_sub(self.requested_at) })
    }
}
