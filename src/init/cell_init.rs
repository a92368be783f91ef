//! The cell init, PID 1 of a cell: mounts the cell's folders, waits for a run, starts the program
//! and counts what it leaves.
//!
//! ```text
//!  mount -> send descriptors -> fork what waits (a blank child, or a runtime)
//!        -> say that it waits -> receive a Run (control socket closed: exit)
//!             the waiting process fits ---------------------------------.
//!             it does not fit, or has exited: kill it, then fork        |
//!             another blank child or ask the template ------------------+
//!                                                                       v
//!        -> bind files -> drop capabilities -> [limits onto the runtime] -> pass the Run on
//!  wait; kill and count what is left; report the end; exit
//! ```
//!
//! A cell serves one run: whatever a program did to its cell ends with it.
//!
//! What waits is confined like a program from its first instruction on: no capability, the filter.
//! A blank child is our own code: it reads its Run, sets its limits, and executes the program. A
//! runtime has read nothing but what the image and the profile gave it. It writes `ready` to
//! [`READY_FD`]. From [`ORDER_FD`] it reads what to load, as one line, and later, each terminated
//! by NUL, until end of file: `entry` and the entry, if it serves more than one; `go`, or a fork
//! `live` if its output is read as it comes; and its arguments.

use super::cell::{self, CellConfig};
use super::fds::{ORDER_FD, READY_FD};
use super::filter::Filter;
use super::limits::{self, Counted, Resource};
use super::run_status::{self, CellEnd, ProgramStart, StepError, StepResult};
use super::setup::{self, ExecPlan, RlimitPhase, StartReport};
use super::sys::{self, ExitedChild};
use super::template::{ForkedProcess, RuntimeOrigin, TemplateClient};
use std::os::fd::{AsRawFd, OwnedFd};
use wire::codec;
use wire::frame::{Ended, MAX_FRAME_BYTES, Prepare, Relax, Run, SentWords, ToInit};

use nix::libc;

/// The descriptors of a cell init.
pub struct CellIo {
    /// The first program's stdin, stdout and stderr.
    pub stdio: [OwnedFd; 3],
    /// Where it and its children report.
    pub status: OwnedFd,
    /// The control socket to the init: descriptors of the cell go out, a Run comes in.
    pub control: OwnedFd,
}

/// A prewarmed runtime that is to wait in the cell.
pub struct RuntimeToStart<'a> {
    pub prepare: &'a Prepare,
    pub origin: RuntimeOrigin,
    /// Where it writes `ready`.
    pub ready: OwnedFd,
}

/// A cell init.
pub struct CellInit<'a> {
    pub io: CellIo,
    /// Set if programs are forked from a template.
    pub template: Option<&'a TemplateClient>,
    /// The filter of the process that waits.
    pub filter: &'a Filter,
}

/// A child of the cell init that waits for its run.
struct WaitingProcess {
    pid: i32,
    /// Where the run is passed on.
    order: OwnedFd,
    kind: WaitingKind,
}

enum WaitingKind {
    /// Our own code, with the filter of this `relax`.
    Blank(Relax),
    /// A runtime. `execs` reaches end of file when the runtime has been executed.
    Runtime { words: SentWords, execs: OwnedFd },
    /// A process forked from the template, ready since `ready_at`, after `before_ns` of CPU time.
    Forked { words: SentWords, ready_at: u64, before_ns: u64 },
}

/// The main process of a run.
struct MainProcess {
    pid: i32,
    /// CPU time that it used before it became the program, in nanoseconds.
    before_ns: u64,
}

/// What the init sends to a cell init: which limits the cgroup decides, as one byte, and the Run
/// frame. Decoded and as received.
struct ReceivedRun {
    run: Run,
    counted: Counted,
    bytes: Vec<u8>,
}

impl CellInit<'_> {
    /// Runs the cell init to its exit.
    pub fn run(self, config: &CellConfig, runtime: Option<RuntimeToStart<'_>>) -> ! {
        let store = match self.mount(config) {
            Ok(store) => store,
            Err((step, errno)) => self.fail(&StepError::new(step, errno)),
        };
        // before the fork, so that what waits need not do it
        if let Err(errno) = sys::bound_capabilities() {
            self.fail(&StepError::new("capabilities", errno));
        }
        let waiting = match self.start_waiting(runtime) {
            Ok(waiting) => waiting,
            Err(failed) => self.fail(&failed),
        };
        run_status::send_waiting(&self.io.status);
        let Some(received) = recv_run(&self.io.control) else { sys::exit(0) };
        let main = match self.start_main(&received, waiting, &store) {
            Ok(main) => main,
            Err(failed) => self.fail(&failed),
        };
        self.close_all_but_status();
        let end = wait_for(&main);
        run_status::send_end(&self.io.status, &end);
        sys::exit(0)
    }

    /// Mounts the cell's folders and sends the init what it needs of the cell. Returns the folder
    /// of stored files.
    fn mount(&self, config: &CellConfig) -> StepResult<OwnedFd> {
        let cell = cell::mount(config)?;
        sys::send_fds(&self.io.control, 0, [&cell.box_folder, &cell.sockets]).map_err(|e| ("cell handover", e))?;
        Ok(cell.store)
    }

    /// Starts what waits for a run. With a template and no runtime, nothing: its process is forked
    /// when the run arrives.
    fn start_waiting(&self, runtime: Option<RuntimeToStart<'_>>) -> Result<Option<WaitingProcess>, StepError> {
        match (runtime, self.template) {
            (Some(RuntimeToStart { origin: RuntimeOrigin::Fork, ready, .. }), Some(template)) => {
                self.fork_in_advance(template, &ready).map(Some)
            }
            (Some(RuntimeToStart { prepare, ready, .. }), _) => self.start_runtime(prepare, &ready).map(Some),
            (None, Some(_)) => Ok(None),
            (None, None) => self.start_blank(self.filter).map(Some),
        }
    }

    /// Reports a failed step and exits.
    fn fail(&self, failed: &StepError) -> ! {
        run_status::send_failed(&self.io.status, failed);
        sys::exit(127)
    }

    /// Closes the program's descriptors and the init's. Numbers 0 to 2 stay in use, so that no
    /// later descriptor gets them.
    fn close_all_but_status(&self) {
        for number in 0..3 {
            let _ = sys::dup_onto(&self.io.status, number);
        }
        sys::close_from_3_except([&self.io.status]);
    }

    /// Forks a child that is confined like a program, and executes the program when it reads its
    /// run.
    fn start_blank(&self, filter: &Filter) -> Result<WaitingProcess, StepError> {
        let (order_reader, order) = sys::pipe().map_err(StepError::of("pipe"))?;
        match sys::fork().map_err(StepError::of("fork"))? {
            Some(pid) => Ok(WaitingProcess { pid, order, kind: WaitingKind::Blank(filter.relax) }),
            None => {
                // otherwise its own copy would keep the pipe from reaching end of file
                drop(order);
                match self.run_blank(filter, &order_reader) {
                    Some(failed) => self.fail(&failed),
                    None => sys::exit(0),
                }
            }
        }
    }

    /// Runs a blank child until exec. Returns what failed, or `None` if no run arrived.
    fn run_blank(&self, filter: &Filter, order: &OwnedFd) -> Option<StepError> {
        if let Err((step, errno)) = confine(filter).and_then(|()| setup::cell_steps(&self.io.stdio)) {
            return Some(StepError::new(step, errno));
        }
        let ready_at = sys::now();
        let ReceivedRun { run, counted, .. } = recv_run(order)?;
        let before_ns = sys::own_cpu();
        Some(match plan_of(&run, counted) {
            Ok(plan) => {
                let steps = |plan: &ExecPlan| setup::final_steps(plan, RlimitPhase::Run);
                let report = StartReport { to: &self.io.status, ready_at, before_ns };
                setup::exec_program(&plan, Some(report), steps)
            }
            Err(failed) => failed,
        })
    }

    /// Starts a runtime like a program, with two more descriptors.
    fn start_runtime(&self, prepare: &Prepare, ready: &OwnedFd) -> Result<WaitingProcess, StepError> {
        let Prepare { argv, env, load, limits, relax, .. } = prepare;
        let plan = ExecPlan::new(argv, env, limits, *relax, 1, Counted::default())?;
        let (order_reader, order) = sys::pipe().map_err(StepError::of("pipe"))?;
        let (execs, exec_writer) = sys::pipe().map_err(StepError::of("pipe"))?;
        let steps = |plan: &ExecPlan| -> StepResult<()> {
            let at = |result: Result<(), i32>| result.map_err(|errno| ("order", errno));
            at(sys::dup_onto(&order_reader, ORDER_FD))?;
            at(sys::dup_onto(ready, READY_FD))?;
            match *relax == self.filter.relax {
                true => confine(self.filter)?,
                false => confine(&Filter::new(*relax))?,
            }
            setup::cell_steps(&self.io.stdio)?;
            setup::final_steps(plan, RlimitPhase::Loading)?;
            at(sys::keep_open(ORDER_FD))?;
            at(sys::keep_open(READY_FD))
        };
        let pid = match sys::fork().map_err(StepError::of("fork"))? {
            Some(pid) => pid,
            None => {
                // any message other than "ready" is reported as the failure
                let failed = setup::exec_program(&plan, None, steps);
                let _ = sys::write_all(READY_FD, format!("{} (errno {})", failed.step, failed.errno).as_bytes());
                sys::exit(127)
            }
        };
        let line = load.join("\0") + "\n";
        sys::write_all(order.as_raw_fd(), line.as_bytes()).map_err(StepError::of("order"))?;
        drop(exec_writer);
        Ok(WaitingProcess { pid, order, kind: WaitingKind::Runtime { words: prepare.sent_words(), execs } })
    }

    /// Has a process forked from the template before a run arrives, and reports that it is ready.
    fn fork_in_advance(&self, template: &TemplateClient, ready: &OwnedFd) -> Result<WaitingProcess, StepError> {
        let forked = template.fork(&self.io.stdio);
        let message = forked.as_ref().map_or_else(|failed| failed.step.as_str(), |_| "ready");
        let _ = sys::write_all(ready.as_raw_fd(), message.as_bytes());
        forked.map(WaitingProcess::from)
    }

    /// Has a process forked from the template for this run. `None` (not allowed, or the template is
    /// gone) means a cold start.
    fn fork_from_template(&self, run: &Run) -> Option<WaitingProcess> {
        let template = self.template.filter(|template| run.hot && template.serves(run.relax))?;
        template.fork(&self.io.stdio).ok().map(WaitingProcess::from)
    }

    /// Starts the run: binds the stored files, drops the capabilities and lets the waiting process
    /// go, or another one if it does not fit.
    fn start_main(
        &self,
        received: &ReceivedRun,
        waiting: Option<WaitingProcess>,
        store: &OwnedFd,
    ) -> Result<MainProcess, StepError> {
        let ReceivedRun { run, counted, bytes } = received;
        let process = match waiting {
            Some(process) if process.can_serve(run) => process,
            other => {
                if other.is_some() {
                    sys::kill_everyone();
                    while sys::wait_one().is_ok() {}
                }
                match self.fork_from_template(run) {
                    Some(process) => process,
                    None if run.relax == self.filter.relax => self.start_blank(self.filter)?,
                    None => self.start_blank(&Filter::new(run.relax))?,
                }
            }
        };
        cell::bind_files(store).map_err(|(name, errno)| StepError::new(name, errno))?;
        if run.relax.has(Relax::PTY) {
            cell::make_terminals().map_err(|(name, errno)| StepError::new(name, errno))?;
        }
        sys::drop_capabilities().map_err(StepError::of("capabilities"))?;
        match process.kind {
            WaitingKind::Blank(_) => {
                // read before it can have started
                let before_ns = sys::cpu_of(process.pid);
                // a child that has exited has reported why
                let _ = sys::write_all(process.order.as_raw_fd(), bytes);
                Ok(MainProcess { pid: process.pid, before_ns })
            }
            WaitingKind::Runtime { .. } | WaitingKind::Forked { .. } => self.release(process, run, *counted),
        }
    }

    /// Sets the limits of a waiting runtime and sends it the run's arguments.
    fn release(&self, process: WaitingProcess, run: &Run, counted: Counted) -> Result<MainProcess, StepError> {
        let WaitingProcess { pid, order, kind } = process;
        let own_ns = sys::cpu_of(pid);
        let limits = limits::resources(&run.limits, run.relax, 1, counted);
        let mut message = Vec::new();
        let is_live = matches!(kind, WaitingKind::Forked { .. }) && !run.live_env.is_empty();
        let (words, ready_at, before_ns) = match kind {
            WaitingKind::Forked { words, ready_at, before_ns } => {
                // It sets its limits itself: this process has a filter that allows only that.
                let numbers = limits.iter().map(|(_, resource, soft, hard)| format!("{resource} {soft} {hard}"));
                message.extend_from_slice(numbers.collect::<Vec<_>>().join(" ").as_bytes());
                message.push(0);
                (words, ready_at, before_ns)
            }
            WaitingKind::Runtime { words, execs } => {
                // its set-up sets limits too: wait until that is done
                let _ = sys::read(execs.as_raw_fd(), &mut [0]);
                set_limits_of(pid, &limits, own_ns)?;
                (words, 0, own_ns)
            }
            WaitingKind::Blank(_) => {
                set_limits_of(pid, &limits, 0)?;
                (SentWords::default(), 0, own_ns)
            }
        };
        let entry = words.entry(&run.argv).map(|entry| ["entry", entry]);
        let go = if is_live { "live" } else { "go" };
        let arguments = words.rest(&run.argv).map(String::as_str);
        for word in entry.into_iter().flatten().chain([go]).chain(arguments) {
            message.extend_from_slice(word.as_bytes());
            message.push(0);
        }
        let start = ProgramStart { at: sys::now(), ready_at, before_ns, setup_ns: 0, hot: true };
        run_status::send_start(&self.io.status, start);
        // a runtime that has exited ends the run when it is waited for
        let _ = sys::write_all(order.as_raw_fd(), &message);
        Ok(MainProcess { pid, before_ns: own_ns })
    }
}

impl WaitingProcess {
    fn can_serve(&self, run: &Run) -> bool {
        let is_allowed = match &self.kind {
            WaitingKind::Blank(relax) => *relax == run.relax,
            WaitingKind::Runtime { .. } | WaitingKind::Forked { .. } => run.hot,
        };
        is_allowed && !sys::has_exited(self.pid)
    }
}

impl From<ForkedProcess> for WaitingProcess {
    fn from(forked: ForkedProcess) -> Self {
        let ForkedProcess { pid, order, words, before_ns } = forked;
        Self { pid, order, kind: WaitingKind::Forked { words, ready_at: sys::now(), before_ns } }
    }
}

/// Sets the resource limits of a child that has used `used_ns` of CPU time before its run.
/// RLIMIT_CPU counts a process's whole life, so it gets those seconds in addition.
fn set_limits_of(pid: i32, limits: &[Resource], used_ns: u64) -> Result<(), StepError> {
    let seconds = used_ns.div_ceil(1_000_000_000);
    for (name, resource, soft, hard) in limits {
        let more = if *resource == libc::RLIMIT_CPU { seconds } else { 0 };
        sys::limit_of(pid, *resource, soft.saturating_add(more), hard.saturating_add(more))
            .map_err(|errno| StepError::new(name, errno))?;
    }
    Ok(())
}

fn plan_of(run: &Run, counted: Counted) -> Result<ExecPlan, StepError> {
    ExecPlan::new(&run.argv, &run.whole_env(), &run.limits, run.relax, 1, counted)
}

/// Sets no_new_privs and installs the filter.
fn confine(filter: &Filter) -> StepResult<()> {
    sys::no_new_privileges().map_err(|e| ("no_new_privs", e))?;
    sys::install_filter(&filter.instructions).map_err(|e| ("filter", e))
}

/// Waits for the main process to end, then kills and counts the processes that are left.
fn wait_for(main: &MainProcess) -> CellEnd {
    let ended = Ended::Signaled(libc::SIGKILL as u8);
    let before_ns = main.before_ns;
    let mut end = CellEnd { ended, survivors: 0, at: 0, user_ns: 0, system_ns: 0, max_rss: 0, before_ns };
    let mut is_over = false;
    while let Ok(child) = sys::wait_one() {
        let child = if child.pid == main.pid { child.without(before_ns) } else { child };
        let ExitedChild { pid, exited, signal, user_ns, system_ns, max_rss } = child;
        end.user_ns += user_ns;
        end.system_ns += system_ns;
        end.max_rss = end.max_rss.max(max_rss);
        if pid == main.pid {
            end.at = sys::now();
            end.ended = match exited {
                Some(status) => Ended::Exited(status),
                None => Ended::Signaled(signal.unwrap_or(libc::SIGKILL as u8)),
            };
            is_over = true;
        } else if is_over && signal == Some(libc::SIGKILL as u8) {
            end.survivors = end.survivors.saturating_add(1);
        }
        if is_over {
            sys::kill_everyone();
        }
    }
    end
}

/// Waits for a Run. `None` when the sender closed its end. Reads no byte beyond the frame: the next
/// one comes with descriptors.
fn recv_run(from: &OwnedFd) -> Option<ReceivedRun> {
    let mut bytes = vec![0; 5];
    read_exact(from, &mut bytes)?;
    let (counted, length) = bytes.split_first()?;
    let counted = Counted::from_byte(*counted);
    let length = u32::from_le_bytes(length.first_chunk().copied()?) as usize;
    if length > MAX_FRAME_BYTES {
        return None;
    }
    bytes.resize(5 + length, 0);
    let body = bytes.get_mut(5..)?;
    read_exact(from, body)?;
    match codec::decode_to_init(body) {
        Ok(ToInit::Run(run)) => Some(ReceivedRun { run, counted, bytes }),
        _ => None,
    }
}

/// Fills the buffer; `None` at end of file or on an error.
fn read_exact(from: &OwnedFd, mut buffer: &mut [u8]) -> Option<()> {
    while !buffer.is_empty() {
        let n = sys::read(from.as_raw_fd(), buffer).ok().filter(|n| *n > 0)?;
        buffer = buffer.get_mut(n..)?;
    }
    Some(())
}
