//! A cell that waits for its run.
//!
//! ```text
//!            make (fork; its init mounts the folders)        start (a Run)
//!  nothing --------------------------------------> ReadyCell --------------> StartedProgram
//!                                                   | ^                              |
//!                                 discard (SIGKILL) | '--- unchanged at its end, ----'
//!                                                   v      and another run follows
//!                                                 exiting
//! ```

use super::cell::CellConfig;
use super::cell_init::{CellInit, CellIo, RuntimeToStart};
use super::cgroup::Cgroup;
use super::own_cpu::OwnCpu;
use super::run_status::{StatusPipe, StepError};
use super::setup::{self, StartedProgram, StdioEnds, UsedCell};
use super::sys;
use super::template::{RuntimeOrigin, TemplateClient};
use std::os::fd::{AsRawFd, OwnedFd};
use wire::codec;
use wire::frame::{Prepare, Relax, Run};

/// Longest message of a runtime about why it is not ready.
pub const MAX_MESSAGE_BYTES: usize = 1024;

/// A cell that waits for its run.
pub struct ReadyCell {
    /// The cell init.
    pid: i32,
    control: OwnedFd,
    status: StatusPipe,
    history: CellHistory,
}

enum CellHistory {
    Unused {
        /// Our ends of its first program's pipes.
        stdio: StdioEnds,
        /// Children of the cell init, once they were looked up.
        children: Vec<i32>,
        /// Where a runtime that was let in early still has to write `ready`.
        ready: Option<OwnedFd>,
    },
    Used(UsedCell),
}

impl ReadyCell {
    /// Makes a cell, with a prewarmed runtime or without. With one, also returns the pipe on which
    /// it reports that it is ready.
    pub fn make(
        config: CellConfig,
        relax: Relax,
        runtime: Option<(&Prepare, RuntimeOrigin)>,
        template: Option<&TemplateClient>,
        cgroup: &Cgroup,
    ) -> Result<(Self, Option<OwnedFd>), StepError> {
        let (stdio, program_stdio) = setup::stdio()?;
        let (status, status_writer) = setup::status_pipe()?;
        let (control, cell_control) = sys::control_socket().map_err(StepError::of("pipe"))?;
        let ready = match runtime {
            Some(_) => Some(sys::pipe().map_err(StepError::of("pipe"))?),
            None => None,
        };
        match sys::fork_cell().map_err(StepError::of("cell namespaces"))? {
            Some(pid) => {
                let ready = ready.map(|(reader, _)| reader);
                if let Some(reader) = &ready {
                    sys::set_nonblocking(reader).map_err(StepError::of("pipe"))?;
                }
                let history = CellHistory::Unused { stdio, children: Vec::new(), ready: None };
                Ok((Self { pid, control, status, history }, ready))
            }
            None => {
                let ready = ready.map(|(_, writer)| writer);
                // Close the init's ends of pipes, of this cell and of others: open here, they would
                // never reach end of file.
                let [stdin, stdout, stderr] = &program_stdio;
                let own = [Some(stdin), Some(stdout), Some(stderr), Some(&status_writer), Some(&cell_control)];
                let shared = [ready.as_ref(), template.map(TemplateClient::socket)];
                let kept = own.into_iter().chain(shared).flatten();
                sys::close_from_3_except(kept.chain(cgroup.descriptors()));
                let io = CellIo { stdio: program_stdio, status: status_writer, control: cell_control };
                let runtime = runtime.zip(ready);
                let runtime = runtime.map(|((prepare, origin), ready)| RuntimeToStart { prepare, origin, ready });
                CellInit { io, template, cgroup }.run(&config, relax, runtime)
            }
        }
    }

    /// An unchanged cell after its run.
    #[must_use]
    pub fn reused(pid: i32, control: OwnedFd, status: StatusPipe, used: UsedCell) -> Self {
        Self { pid, control, status: status.for_next_run(), history: CellHistory::Used(used) }
    }

    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether it served an earlier run.
    #[must_use]
    pub fn is_used(&self) -> bool {
        matches!(self.history, CellHistory::Used(_))
    }

    /// Lets a runtime in that has not reported yet: its run holds the pipe.
    pub fn set_ready_pipe(&mut self, pipe: Option<OwnedFd>) {
        if let CellHistory::Unused { ready, .. } = &mut self.history {
            *ready = pipe;
        }
    }

    /// CPU time of the cell init in nanoseconds: at the snapshot after the previous run if
    /// `since_previous_run` and there was one, otherwise now.
    #[must_use]
    pub fn cell_init_ns(&self, since_previous_run: bool) -> u64 {
        match &self.history {
            CellHistory::Used(used) if since_previous_run => used.cell_init_ns,
            _ => sys::cpu_of(self.pid),
        }
    }

    /// What the kernel counts for the cell init's children of earlier runs, in nanoseconds.
    #[must_use]
    pub fn earlier_children_ns(&self) -> u64 {
        match &self.history {
            CellHistory::Used(used) => used.children_ns,
            CellHistory::Unused { .. } => 0,
        }
    }

    /// CPU time of all processes of the cell, in nanoseconds.
    pub fn cpu_ns(&mut self) -> u64 {
        let waiting = match &mut self.history {
            CellHistory::Used(_) => &[][..],
            CellHistory::Unused { children, .. } => {
                if children.is_empty() {
                    *children = sys::children(self.pid);
                }
                children
            }
        };
        waiting.iter().chain([&self.pid]).map(|pid| sys::cpu_of(*pid)).sum()
    }

    /// Starts `run` in it. `sent` are the pipes if the run was sent to the cell init in advance.
    pub fn start(self, run: &Run, sent: Option<StdioEnds>) -> Result<StartedProgram, StepError> {
        let Self { pid, control, status, history } = self;
        let (stdio, ready, used, passed) = match history {
            CellHistory::Used(used) if let Some(stdio) = sent => {
                let (control, used) = (Some(control), Some(used));
                return Ok(StartedProgram { pid, stdio, status, control, ready: None, used });
            }
            CellHistory::Unused { stdio, ready, .. } => {
                // what a runtime printed while it was loading is not the program's output
                let mut discarded = [0; MAX_MESSAGE_BYTES];
                for pipe in &stdio.output {
                    while matches!(sys::read(pipe.as_raw_fd(), &mut discarded), Ok(1..)) {}
                }
                (stdio, ready, None, Ok(()))
            }
            CellHistory::Used(used) => {
                let (stdio, [stdin, stdout, stderr]) = setup::stdio()?;
                let passed = sys::send_fds(&control, 0, [&stdin, &stdout, &stderr]);
                (stdio, None, Some(used), passed)
            }
        };
        let mut frame = Vec::new();
        codec::encode_run(run, &mut frame);
        if let Err(errno) = passed.and_then(|()| sys::write_all(control.as_raw_fd(), &frame)) {
            sys::kill(pid);
            return Err(StepError::new("cell order", errno));
        }
        Ok(StartedProgram { pid, stdio, status, control: Some(control), ready, used })
    }

    /// Kills it. Its CPU time is the init's.
    pub fn discard(self, own: &mut OwnCpu) {
        let (helpers, charged_ns) = match self.history {
            CellHistory::Unused { .. } => (sys::children(self.pid), 0),
            CellHistory::Used(used) => (Vec::new(), used.children_ns),
        };
        own.add_exiting(self.pid, helpers, charged_ns);
        sys::kill(self.pid);
    }
}
