//! A runtime from which programs are forked: loaded once, it serves every run of its sandbox but the first. That one has a runtime
//! of its own, which is faster than a fork: it shares no page with anybody.
//!
//! ```text
//!  init --starts--> template (the container's namespaces; reads the image, the profile, and one-byte requests; no foreign byte)
//!                     |
//!  leader of a cell --request: its namespaces, the program's stdio, an order's pipe, a pipe for the answer-->
//!                     |
//!                     '- fork: enters the namespaces - fork - fork: the program-to-be, and the two between are gone
//!                                                              |  no new rights, the filter, its session, its stdio,
//!                                                              |  /box, no capability; says its pid
//!                          leader: looks at what the kernel says of it, gives it its limits and its order
//! ```
//!
//! The program is the leader's child, as if it had forked it: of a process whose own parent was outside, the PID 1 inside becomes
//! the parent. The template is in another pid namespace than every program and has no way in that a program could find.

use super::filter;
use super::leader::ORDER_FD;
use super::report::Failed;
use super::setup::{self, Ends, Limits, Program};
use super::sys;
use std::os::fd::{AsRawFd, OwnedFd};
use wire::frame::{Prepare, Relax};

use nix::libc;

/// The most that may be said about a program-to-be, or about why there is none.
const MAX_WORDS: usize = 1024;

/// What is said of one that is not there any more.
const GONE: &str = "the template is gone";

/// A template, as the init has it.
pub struct Template {
    /// Its pid.
    pub pid: i32,
    line: OwnedFd,
    /// What the runtime has for its own stdio until a program has another.
    _ends: Ends,
    known: usize,
}

/// What a leader needs to ask for a program.
pub struct Nursery {
    line: OwnedFd,
    /// Of its command's words, the runtime knows so many.
    known: usize,
    relax: Relax,
}

/// Where a runtime comes from that waits in a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It is started like a program.
    Own,
    /// The template, which has loaded already.
    Fork,
}

/// A program-to-be in the leader's cell.
pub struct Forked {
    /// Its pid.
    pub pid: i32,
    /// Where its order goes.
    pub order: OwnedFd,
    /// Of its command's words, it knows so many.
    pub known: usize,
    /// CPU time of it and of those between until it was ready, in nanoseconds.
    pub before_ns: u64,
}

fn step<T>(name: &'static str, result: Result<T, i32>) -> Result<T, Failed> {
    result.map_err(|errno| Failed::new(name, errno))
}

impl Template {
    /// Starts one. It loads while the others go on.
    pub fn start(prepare: &Prepare) -> Result<Self, Failed> {
        let Prepare { argv, stands_for, env, load, limits, relax, .. } = prepare;
        let program = Program::new(argv, env, limits, *relax, 0)?;
        let (ends, stdio) = setup::stdio()?;
        let (line, theirs) = step("pipe", sys::packets())?;
        let steps = |program: &Program| {
            sys::dup_onto(&theirs, ORDER_FD).map_err(|errno| ("order", errno))?;
            // in the container's own /box, which has the name of a cell's
            setup::settle(&stdio)?;
            setup::last_steps(program, Limits::Ahead)?;
            sys::keep_open(ORDER_FD).map_err(|errno| ("order", errno))
        };
        match step("fork", sys::fork())? {
            Some(pid) => {
                let filter: String = filter::bytes(*relax).iter().map(|byte| format!("{byte:02x}")).collect();
                let words = format!("{filter}\0{}\n", load.join("\0"));
                step("order", sys::write_all(line.as_raw_fd(), words.as_bytes()))?;
                Ok(Self { pid, line, _ends: ends, known: stands_for.len() })
            }
            None => {
                // what it would have answered later, its end says as well
                let _ = setup::become_program(&program, None, steps);
                sys::exit(127)
            }
        }
    }

    /// For a leader.
    pub fn nursery(&self, relax: Relax) -> Option<Nursery> {
        Some(Nursery { line: self.line.try_clone().ok()?, known: self.known, relax })
    }

    /// Memory that is its own, in bytes.
    #[must_use]
    pub fn own_bytes(&self) -> u64 {
        let pages = std::fs::read_to_string(format!("/proc/{}/statm", self.pid)).unwrap_or_default();
        let mut words = pages.split_whitespace().skip(1).filter_map(|word| word.parse::<u64>().ok());
        let (resident, shared) = (words.next().unwrap_or(0), words.next().unwrap_or(0));
        resident.saturating_sub(shared) * 4096
    }
}

impl Nursery {
    /// What must stay open for it.
    pub fn line(&self) -> &OwnedFd {
        &self.line
    }

    /// Whether its programs have the filter that lets this through.
    #[must_use]
    pub fn serves(&self, relax: Relax) -> bool {
        self.relax == relax
    }

    /// Has a program forked into this process's namespaces. Waits until it is there, or cannot be.
    pub fn ask(&self, stdio: &[OwnedFd; 3]) -> Result<Forked, Failed> {
        let space = |path| step("namespaces", sys::open(path, libc::O_RDONLY));
        let spaces = [
            space(c"/proc/self/ns/user")?,
            space(c"/proc/self/ns/mnt")?,
            space(c"/proc/self/ns/ipc")?,
            space(c"/proc/self/ns/pid")?,
        ];
        let (order_in, order) = step("pipe", sys::pipe())?;
        let (heard, said) = step("pipe", sys::pipe())?;
        let [user, mount, ipc, pid] = &spaces;
        let [stdin, stdout, stderr] = stdio;
        let all = [user, mount, ipc, pid, stdin, stdout, stderr, &order_in, &said];
        sys::send_fds(&self.line, 0, all).map_err(|_| Failed::new(GONE, 0))?;
        drop((order_in, said));
        let mut words = Vec::new();
        let mut buffer = [0; MAX_WORDS];
        while words.len() < MAX_WORDS {
            match sys::read(heard.as_raw_fd(), &mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(n) => words.extend_from_slice(buffer.get(..n).unwrap_or_default()),
            }
        }
        let words = String::from_utf8_lossy(&words);
        let mut numbers = words.split(' ').map(str::parse::<u64>);
        let (Some(Ok(pid)), Some(Ok(between_ns)), None) = (numbers.next(), numbers.next(), numbers.next()) else {
            let words = if words.is_empty() { GONE } else { words.trim_end() };
            return Err(Failed::new(words, 0));
        };
        let pid = i32::try_from(pid).map_err(|_| Failed::new("template", libc::EINVAL))?;
        if !is_confined(pid) {
            return Err(Failed::new("a fork of the template that is not confined", 0));
        }
        let before_ns = sys::cpu_of(pid) + between_ns;
        Ok(Forked { pid, order, known: self.known, before_ns })
    }
}

/// What the kernel says of a program-to-be: a child of ours, no capability, no way to more, a filter.
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
