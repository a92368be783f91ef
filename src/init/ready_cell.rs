//! A cell that waits for its run.
//!
//! ```text
//!            make (fork; its init mounts the folders)        start (a Run)
//!  nothing --------------------------------------> ReadyCell --------------> StartedProgram
//!                                                   | discard (SIGKILL)
//!                                                   v
//!                                                 exiting
//! ```

use super::cell::CellConfig;
use super::cell_init::{CellInit, CellIo, RuntimeToStart};
use super::filter::Filter;
use super::limits::Counted;
use super::own_cpu::OwnCpu;
use super::run_status::{StatusPipe, StepError};
use super::setup::{self, StartedCell, StartedProgram, StdioEnds};
use super::sys::{self, Holdings};
use super::template::{RuntimeOrigin, TemplateClient};
use std::os::fd::{AsRawFd, OwnedFd};
use wire::codec;
use wire::frame::{Prepare, Run};

use nix::libc;

/// Longest message of a runtime about why it is not ready.
pub const MAX_MESSAGE_BYTES: usize = 1024;

/// How long a new cell waits for the network namespaces of ended ones, which the kernel frees in
/// batches.
const NETWORK_PATIENCE_NS: u64 = 3_000_000_000;
const NETWORK_CHECK_NS: u64 = 1_000_000;

/// How long a run waits for its runtime. A fork of the template takes a millisecond on an idle
/// machine, a start of Python ten.
const READY_PATIENCE_NS: u64 = 500_000_000;

/// A cell that waits for its run.
pub struct ReadyCell {
    /// The cell init.
    pid: i32,
    control: OwnedFd,
    status: StatusPipe,
    /// Our ends of its program's pipes.
    stdio: StdioEnds,
    /// Children of the cell init, once they were looked up.
    children: Vec<i32>,
    /// Whether nothing in it runs before its run comes, once what waits in it is ready.
    is_still: bool,
    /// What a still process holds, once it was looked up.
    holdings: Option<Holdings>,
    /// Where its runtime will write `ready`, if a run takes the cell before that.
    ready: Option<OwnedFd>,
}

/// Forks a cell. At the bound on network namespaces (`base`) waits until the kernel has freed one.
fn fork_cell() -> Result<Option<i32>, StepError> {
    let give_up_at = sys::now().saturating_add(NETWORK_PATIENCE_NS);
    loop {
        match sys::fork_cell() {
            Err(libc::ENOSPC) if sys::now() < give_up_at => drop(sys::poll(&mut [], NETWORK_CHECK_NS)),
            forked => return forked.map_err(StepError::of("cell namespaces")),
        }
    }
}

impl ReadyCell {
    /// Makes a cell, with a prewarmed runtime or without. With one, also returns the pipe on which
    /// it reports that it is ready.
    pub fn make(
        config: CellConfig,
        filter: &Filter,
        runtime: Option<(&Prepare, RuntimeOrigin)>,
        template: Option<&TemplateClient>,
    ) -> Result<(Self, Option<OwnedFd>), StepError> {
        let (stdio, program_stdio) = setup::stdio()?;
        let (status, status_writer) = setup::status_pipe()?;
        let (control, cell_control) = sys::control_socket().map_err(StepError::of("pipe"))?;
        let is_still = runtime.as_ref().is_none_or(|(_, origin)| *origin == RuntimeOrigin::Fork);
        let ready = match runtime {
            Some(_) => Some(sys::pipe().map_err(StepError::of("pipe"))?),
            None => None,
        };
        match fork_cell()? {
            Some(pid) => {
                let ready = ready.map(|(reader, _)| reader);
                if let Some(reader) = &ready {
                    sys::set_nonblocking(reader).map_err(StepError::of("pipe"))?;
                }
                let (children, holdings) = (Vec::new(), None);
                Ok((Self { pid, control, status, stdio, children, is_still, holdings, ready: None }, ready))
            }
            None => {
                let ready = ready.map(|(_, writer)| writer);
                // Close the init's ends of pipes, of this cell and of others: open here, they would
                // never reach end of file.
                let [stdin, stdout, stderr] = &program_stdio;
                let own = [Some(stdin), Some(stdout), Some(stderr), Some(&status_writer), Some(&cell_control)];
                let shared = [ready.as_ref(), template.map(TemplateClient::socket)];
                sys::close_from_3_except(own.into_iter().chain(shared).flatten());
                let io = CellIo { stdio: program_stdio, status: status_writer, control: cell_control };
                let runtime = runtime.zip(ready);
                let runtime = runtime.map(|((prepare, origin), ready)| RuntimeToStart { prepare, origin, ready });
                CellInit { io, template, filter }.run(&config, runtime)
            }
        }
    }

    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether what waits in it does nothing until the run comes: a fork of the template, or a
    /// blank child.
    #[must_use]
    pub fn is_still(&self) -> bool {
        self.is_still
    }

    /// Sets the pipe of a runtime that is not ready yet when a run takes the cell. The run holds it
    /// open.
    pub fn set_ready_pipe(&mut self, pipe: Option<OwnedFd>) {
        self.ready = pipe;
    }

    /// Waits until the process exists that waits in it: until then it can be counted in the cgroup
    /// and not be known as the program's. And until a runtime that was let in early is ready: until
    /// then its memory changes, and a fork shares with the template what it is about to copy. The
    /// run would wait for both anyway. At most [`READY_PATIENCE_NS`] each, because neither has to
    /// happen.
    pub fn wait_until_ready(&mut self) {
        self.status.wait_until_waiting(sys::now().saturating_add(READY_PATIENCE_NS));
        if let Some(ready) = &self.ready {
            let _ = sys::poll(&mut [sys::poll_fd(ready.as_raw_fd(), libc::POLLIN)], READY_PATIENCE_NS);
        }
    }

    /// CPU time of the cell init, in nanoseconds.
    #[must_use]
    pub fn cell_init_ns(&self) -> u64 {
        sys::cpu_of(self.pid)
    }

    /// The process that waits in it for the run, if any.
    fn waiting(&mut self) -> &[i32] {
        if self.children.is_empty() {
            self.children = sys::children(self.pid);
        }
        &self.children
    }

    /// Memory of the processes that wait in it, without mapped files, in bytes.
    pub fn own_bytes(&mut self) -> u64 {
        self.waiting().iter().map(|pid| sys::own_bytes_of(*pid)).sum()
    }

    /// What the process that waits in it holds.
    pub fn waiting_holdings(&mut self) -> Option<Holdings> {
        self.holdings.or_else(|| self.waiting().first().map(|pid| sys::holdings_of(*pid)))
    }

    /// How many processes and threads wait in it for the run. To be called when it is ready.
    pub fn count_waiting(&mut self) -> u64 {
        let held = self.waiting_holdings();
        self.holdings = held.filter(|_| self.is_still);
        held.map_or(0, |held| held.threads)
    }

    /// CPU time of all processes of the cell, in nanoseconds.
    pub fn cpu_ns(&mut self) -> u64 {
        self.waiting_ns() + self.cell_init_ns()
    }

    /// CPU time of the process that waits in it, in nanoseconds.
    pub fn waiting_ns(&mut self) -> u64 {
        self.waiting().iter().map(|pid| sys::cpu_of(*pid)).sum()
    }

    /// Starts `run` in it.
    pub fn start(self, run: &Run, counted: Counted) -> Result<StartedProgram, StepError> {
        let Self { pid, control, status, stdio, ready, children, .. } = self;
        // what a runtime printed while it was loading is not the program's output
        let mut discarded = [0; MAX_MESSAGE_BYTES];
        for pipe in &stdio.output {
            while matches!(sys::read(pipe.as_raw_fd(), &mut discarded), Ok(1..)) {}
        }
        let mut frame = vec![counted.to_byte()];
        codec::encode_run(run, &mut frame);
        if let Err(errno) = sys::write_all(control.as_raw_fd(), &frame) {
            sys::kill(pid);
            return Err(StepError::new("cell order", errno));
        }
        let (main, cell) = (children.first().copied(), Some(StartedCell::new(control)));
        Ok(StartedProgram { pid, main, stdio, status, cell, ready })
    }

    /// Kills it. Its CPU time is the init's.
    pub fn discard(self, own: &mut OwnCpu) {
        own.add_exiting(self.pid, sys::children(self.pid), 0);
        sys::kill(self.pid);
    }
}
