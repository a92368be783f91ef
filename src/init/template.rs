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
//!                     '- fork into them (`sys::crossing_code`): the new process
//!                        writes its pid               |  no_new_privs, filter, session, stdio,
//!                                                     |  /box, no capability; writes `ready`
//!                          cell init: checks it in /proc, sends it its limits and the run
//! ```
//!
//! The new process is a child of the cell init, as if that had forked it: a process whose parent is
//! outside its PID namespace is reparented to the PID 1 inside. The template is in another PID
//! namespace than every program and offers no interface to them.

use super::fds::ORDER_FD;
use super::filter;
use super::limits::Counted;
use super::run_status::StepError;
use super::setup::{self, ExecPlan, RlimitPhase, StdioEnds};
use super::sys;
use std::os::fd::{AsRawFd, OwnedFd};
use wire::frame::{OWN_PIDS, Prepare, Relax, SentWords};

use nix::libc;

/// Longest answer of the template.
const MAX_ANSWER_BYTES: usize = 1024;

/// Most tasks of its uid that are not a program's: those of the sandbox, the template's among them.
const OUR_TASKS: u64 = 4 * OWN_PIDS as u64;

/// How long a template that does not say when it has loaded may be loading.
const LOADING_NS: u64 = 10_000_000_000;

/// How long a run that is to stop it waits until it executes its program.
const EXEC_PATIENCE_NS: u64 = 100_000_000;

/// Most memory that its forking code may say to take.
const MAX_FORKING_BYTES: u64 = 4 * 1024 * 1024;

/// Message when the template has exited.
const GONE: &str = "the template is gone";

/// The init's handle of a template.
pub struct Template {
    pub pid: i32,
    socket: OwnedFd,
    /// Keeps the other ends of its stdio open.
    _stdio: StdioEnds,
    words: SentWords,
    /// Until when it may be loading; monotonic, in nanoseconds; 0 once it has loaded.
    loads_until: u64,
    /// Since when it is stopped; monotonic, in nanoseconds; 0 while it runs.
    paused_at: u64,
    /// Reaches end of file when it executes its program: before that it holds the init's
    /// descriptors, and runs of others would never reach the end of theirs.
    exec: OwnedFd,
    /// What it told with that message, in bytes.
    forking_bytes: u64,
    copied_bytes: u64,
}

/// What a cell init needs to request a process.
pub struct TemplateClient {
    socket: OwnedFd,
    /// How many leading arguments of a command the runtime stands for.
    words: SentWords,
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
    /// Which words of a command it is sent.
    pub words: SentWords,
    /// CPU time that it and the processes in between used until it was ready, in nanoseconds.
    pub before_ns: u64,
}

impl Template {
    /// Starts a template. It loads in the background.
    pub fn start(prepare: &Prepare) -> Result<Self, StepError> {
        let Prepare { argv, env, load, limits, relax, .. } = prepare;
        let plan = ExecPlan::new(argv, env, limits, *relax, OUR_TASKS, Counted::default())?;
        let (ends, stdio) = setup::stdio()?;
        let (socket, template_socket) = sys::packet_socket().map_err(StepError::of("pipe"))?;
        let (exec, _exec_writer) = sys::pipe().map_err(StepError::of("pipe"))?;
        let steps = |plan: &ExecPlan| {
            sys::dup_onto(&template_socket, ORDER_FD).map_err(|errno| ("order", errno))?;
            // the container's own /box, which has the same path as a cell's
            setup::enter_session(&stdio)?;
            setup::final_steps(plan, RlimitPhase::Loading)?;
            sys::keep_open(ORDER_FD).map_err(|errno| ("order", errno))
        };
        match sys::fork().map_err(StepError::of("fork"))? {
            Some(pid) => {
                let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
                let (filter, load) = (hex(&filter::bytes(*relax)), load.join("\0"));
                let [crossing, steps, detour] = [sys::crossing_code(), sys::steps_code(), sys::detour_code()].map(hex);
                let stack = sys::STACK_BYTES;
                let request = format!("{stack}\0{crossing}\0{steps}\0{detour}\0{filter}\0{load}\n");
                sys::write_all(socket.as_raw_fd(), request.as_bytes()).map_err(StepError::of("order"))?;
                let loads_until = sys::now().saturating_add(LOADING_NS);
                Ok(Self {
                    pid,
                    socket,
                    _stdio: ends,
                    words: prepare.sent_words(),
                    loads_until,
                    paused_at: 0,
                    exec,
                    forking_bytes: 0,
                    copied_bytes: 0,
                })
            }
            None => {
                // a failure shows when the first process is requested
                let _ = setup::exec_program(&plan, None, steps);
                sys::exit(127)
            }
        }
    }

    /// Whether it may still be loading. It sends one message when it has loaded: `loaded FORKING
    /// COPIED`, both in bytes.
    pub fn is_loading(&mut self, now: u64) -> bool {
        if self.loads_until > 0
            && let Some(message) = sys::recv_message(&self.socket)
        {
            self.loads_until = 0;
            let (forking_bytes, copied_bytes) = parse_loaded(&message).unwrap_or_default();
            self.forking_bytes = forking_bytes.min(MAX_FORKING_BYTES);
            self.copied_bytes = copied_bytes.min(sys::own_bytes_of(self.pid));
        }
        self.loads_until > now
    }

    /// Stops it if it is loading: a run that it does not serve has the CPU and the memory for
    /// itself.
    pub fn pause(&mut self, now: u64) {
        if self.paused_at == 0 && self.is_loading(now) && self.has_executed() && sys::stop(self.pid) {
            self.paused_at = now;
        }
    }

    /// Whether it executes its program, or does so within [`EXEC_PATIENCE_NS`].
    fn has_executed(&self) -> bool {
        let mut fds = [sys::poll_fd(self.exec.as_raw_fd(), libc::POLLIN)];
        sys::poll(&mut fds, EXEC_PATIENCE_NS).is_ok() && fds[0].revents != 0
    }

    /// Lets it continue to load.
    pub fn resume(&mut self, now: u64) {
        if self.paused_at > 0 {
            sys::proceed(self.pid);
            if self.loads_until > 0 {
                self.loads_until = self.loads_until.saturating_add(now.saturating_sub(self.paused_at));
            }
            self.paused_at = 0;
        }
    }

    /// Bytes of its memory, and of that of its forks, that only serve the forking.
    #[must_use]
    pub fn forking_bytes(&self) -> u64 {
        self.forking_bytes
    }

    /// Bytes of its memory that each fork copies when it begins.
    #[must_use]
    pub fn copied_bytes(&self) -> u64 {
        self.copied_bytes
    }

    /// A handle for a cell init whose programs have the filter of `relax`.
    pub fn client(&self, relax: Relax) -> Option<TemplateClient> {
        let socket = self.socket.try_clone().ok()?;
        Some(TemplateClient { socket, words: self.words, relax })
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
        let Some((pid, between_ns)) = parse_answer(&answer) else {
            let message = if answer.is_empty() { GONE } else { answer.trim_end() };
            return Err(StepError::new(message, 0));
        };
        if !is_confined(pid) {
            return Err(StepError::new("a process forked from the template is not confined", 0));
        }
        let before_ns = sys::cpu_of(pid) + between_ns;
        Ok(ForkedProcess { pid, order, words: self.words, before_ns })
    }

    /// Sends the request and reads the whole answer, or an error message.
    fn request(&self, stdio: &[OwnedFd; 3], order_reader: OwnedFd) -> Result<String, StepError> {
        let namespace = |path| sys::open(path, libc::O_RDONLY).map_err(StepError::of("namespaces"));
        let user = namespace(c"/proc/self/ns/user")?;
        let mount = namespace(c"/proc/self/ns/mnt")?;
        let ipc = namespace(c"/proc/self/ns/ipc")?;
        let network = namespace(c"/proc/self/ns/net")?;
        let cgroup = namespace(c"/proc/self/ns/cgroup")?;
        let pid = namespace(c"/proc/self/ns/pid")?;
        let (answer, answer_writer) = sys::pipe().map_err(StepError::of("pipe"))?;
        let [stdin, stdout, stderr] = stdio;
        #[rustfmt::skip]
        let all = [
            &user, &mount, &ipc, &network, &cgroup, &pid, // in the order in which they are entered
            stdin, stdout, stderr, &order_reader, &answer_writer,
        ];
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

/// The two figures of a template that has loaded.
fn parse_loaded(message: &str) -> Option<(u64, u64)> {
    let (forking_bytes, copied_bytes) = message.strip_prefix("loaded ")?.split_once(' ')?;
    Some((forking_bytes.parse().ok()?, copied_bytes.parse().ok()?))
}

/// The answer in two parts, in either order: `forked PID NS;` from the template, with the CPU time
/// of the processes in between, and `ready;` from the new process.
fn parse_answer(answer: &str) -> Option<(i32, u64)> {
    let mut parts: Vec<&str> = answer.strip_suffix(';')?.split(';').collect();
    parts.sort_unstable();
    let [forked, "ready"] = parts.as_slice() else { return None };
    let (pid, between_ns) = forked.strip_prefix("forked ")?.split_once(' ')?;
    Some((pid.parse().ok()?, between_ns.parse().ok()?))
}

/// Checks in /proc that a process is a child of ours with one thread, no capability, no_new_privs
/// and a filter.
fn is_confined(pid: i32) -> bool {
    let status = sys::read_text(&format!("/proc/{pid}/status"));
    let of = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let none = Some("0000000000000000");
    of("PPid:") == Some("1")
        && ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"].iter().all(|set| of(set) == none)
        && of("NoNewPrivs:") == Some("1")
        && of("Seccomp:") == Some("2")
        && of("Threads:") == Some("1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loaded_template_reports_two_sizes() {
        assert_eq!(parse_loaded("loaded 4096 8192"), Some((4096, 8192)));
        for message in ["", "loaded", "loaded 4096", "loaded 4096 x"] {
            assert_eq!(parse_loaded(message), None, "{message}");
        }
    }

    #[test]
    fn an_answer_is_complete_with_both_parts_in_either_order() {
        assert_eq!(parse_answer("forked 3 1200;ready;"), Some((3, 1200)));
        assert_eq!(parse_answer("ready;forked 3 1200;"), Some((3, 1200)));
        for part in ["", "ready;", "forked 3 1200;", "forked 3 1200;ready", "forked 3;ready;", "OSError: no;ready;"] {
            assert_eq!(parse_answer(part), None, "{part}");
        }
    }
}
