//! A prewarmed runtime that programs are forked from. It is loaded once and serves every run of its
//! sandbox except the first, which gets a runtime of its own: that is faster than a fork, because
//! it shares no pages.
//!
//! ```text
//!  init --starts--> template, in the container's namespaces; reads only the image, the profile
//!                     |       and one-byte requests, nothing that a submission wrote
//!                     |
//!  cell init --request: its namespaces, the program's stdio, pipes for the run and the answer
//!                     |
//!                     '- fork: enters the namespaces - fork - fork: the new process
//!                              (exits)                 (exits)  |  no_new_privs, filter, session,
//!                                                               |  stdio, /box, no capability;
//!                                                               |  writes its pid
//!                          cell init: checks it in /proc, sends it its limits and the run
//! ```
//!
//! The new process is a child of the cell init, as if that had forked it: a process whose parent is
//! outside its PID namespace is reparented to the PID 1 inside. The template is in another PID
//! namespace than every program and offers no interface to them.

use super::fds::ORDER_FD;
use super::filter;
use super::run_status::StepError;
use super::setup::{self, ExecPlan, RlimitPhase, StdioEnds};
use super::sys;
use std::os::fd::{AsRawFd, OwnedFd};
use wire::frame::{Prepare, Relax};

use nix::libc;

/// Longest answer of the template.
const MAX_ANSWER_BYTES: usize = 1024;

/// Message when the template has exited.
const GONE: &str = "the template is gone";

/// The init's handle of a template.
pub struct Template {
    pub pid: i32,
    socket: OwnedFd,
    /// Keeps the other ends of its stdio open.
    _stdio: StdioEnds,
    argv_prefix_len: usize,
}

/// What a cell init needs to request a process.
pub struct TemplateClient {
    socket: OwnedFd,
    /// How many leading arguments of a command the runtime stands for.
    argv_prefix_len: usize,
    relax: Relax,
}

/// How a runtime comes into a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuntimeOrigin {
    /// It is executed like a program, and loads.
    Exec,
    /// It is forked from the template, which has loaded already.
    Fork,
}

/// A process in the cell init's namespaces, forked from the template and waiting for its run.
pub struct ForkedProcess {
    pub pid: i32,
    /// Where its run is written.
    pub order: OwnedFd,
    /// How many leading arguments of a command the runtime stands for.
    pub argv_prefix_len: usize,
    /// CPU time that it and the processes in between used until it was ready, in nanoseconds.
    pub before_ns: u64,
}

impl Template {
    /// Starts a template. It loads in the background.
    pub fn start(prepare: &Prepare) -> Result<Self, StepError> {
        let Prepare { argv, stands_for, env, load, limits, relax, .. } = prepare;
        let plan = ExecPlan::new(argv, env, limits, *relax, 0)?;
        let (ends, stdio) = setup::stdio()?;
        let (socket, template_socket) = sys::packet_socket().map_err(StepError::of("pipe"))?;
        let steps = |plan: &ExecPlan| {
            sys::dup_onto(&template_socket, ORDER_FD).map_err(|errno| ("order", errno))?;
            // the container's own /box, which has the same path as a cell's
            setup::enter_session(&stdio)?;
            setup::final_steps(plan, RlimitPhase::Loading)?;
            sys::keep_open(ORDER_FD).map_err(|errno| ("order", errno))
        };
        match sys::fork().map_err(StepError::of("fork"))? {
            Some(pid) => {
                let filter: String = filter::bytes(*relax).iter().map(|byte| format!("{byte:02x}")).collect();
                let request = format!("{filter}\0{}\n", load.join("\0"));
                sys::write_all(socket.as_raw_fd(), request.as_bytes()).map_err(StepError::of("order"))?;
                Ok(Self { pid, socket, _stdio: ends, argv_prefix_len: stands_for.len() })
            }
            None => {
                // a failure shows when the first process is requested
                let _ = setup::exec_program(&plan, None, steps);
                sys::exit(127)
            }
        }
    }

    /// A handle for a cell init whose programs have the filter of `relax`.
    pub fn client(&self, relax: Relax) -> Option<TemplateClient> {
        let socket = self.socket.try_clone().ok()?;
        Some(TemplateClient { socket, argv_prefix_len: self.argv_prefix_len, relax })
    }

    /// Memory that it does not share with others, in bytes.
    #[must_use]
    pub fn own_bytes(&self) -> u64 {
        let (resident, shared) = sys::memory_of(self.pid);
        resident.saturating_sub(shared)
    }
}

impl TemplateClient {
    /// The descriptor that must stay open.
    pub fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Whether its processes have the filter of `relax`.
    #[must_use]
    pub fn serves(&self, relax: Relax) -> bool {
        self.relax == relax
    }

    /// Has a process forked into this process's namespaces. Waits until it is ready or has failed.
    pub fn fork(&self, stdio: &[OwnedFd; 3]) -> Result<ForkedProcess, StepError> {
        let (order_reader, order) = sys::pipe().map_err(StepError::of("pipe"))?;
        let answer = self.request(stdio, order_reader)?;
        let mut numbers = answer.split(' ').map(str::parse::<u64>);
        let (Some(Ok(pid)), Some(Ok(between_ns)), None) = (numbers.next(), numbers.next(), numbers.next()) else {
            let message = if answer.is_empty() { GONE } else { answer.trim_end() };
            return Err(StepError::new(message, 0));
        };
        let pid = i32::try_from(pid).map_err(|_| StepError::new("template", libc::EINVAL))?;
        if !is_confined(pid) {
            return Err(StepError::new("a process forked from the template is not confined", 0));
        }
        let before_ns = sys::cpu_of(pid) + between_ns;
        Ok(ForkedProcess { pid, order, argv_prefix_len: self.argv_prefix_len, before_ns })
    }

    /// Sends the request and reads the whole answer: `pid cpu_ns`, or an error message.
    fn request(&self, stdio: &[OwnedFd; 3], order_reader: OwnedFd) -> Result<String, StepError> {
        let namespace = |path| sys::open(path, libc::O_RDONLY).map_err(StepError::of("namespaces"));
        let user = namespace(c"/proc/self/ns/user")?;
        let mount = namespace(c"/proc/self/ns/mnt")?;
        let ipc = namespace(c"/proc/self/ns/ipc")?;
        let pid = namespace(c"/proc/self/ns/pid")?;
        let (answer, answer_writer) = sys::pipe().map_err(StepError::of("pipe"))?;
        let [stdin, stdout, stderr] = stdio;
        let all = [&user, &mount, &ipc, &pid, stdin, stdout, stderr, &order_reader, &answer_writer];
        sys::send_fds(&self.socket, 0, all).map_err(|_| StepError::new(GONE, 0))?;
        drop((order_reader, answer_writer));
        let mut text = Vec::new();
        let mut buffer = [0; MAX_ANSWER_BYTES];
        while text.len() < MAX_ANSWER_BYTES {
            match sys::read(answer.as_raw_fd(), &mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(n) => text.extend_from_slice(buffer.get(..n).unwrap_or_default()),
            }
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

/// Checks in /proc that a process is a child of ours with one thread, no capability, no_new_privs
/// and a filter.
fn is_confined(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let of = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let none = Some("0000000000000000");
    of("PPid:") == Some("1")
        && ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"].iter().all(|set| of(set) == none)
        && of("NoNewPrivs:") == Some("1")
        && of("Seccomp:") == Some("2")
        && of("Threads:") == Some("1")
}
