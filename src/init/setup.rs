//! From a Run frame to a running program: the child's set-up, step by step.
//!
//! What can be prepared is prepared before the fork, or before the order. In the child every step has a name; the first one that
//! fails crosses to the parent on a close-on-exec pipe (`report`), and the child is gone without having run a byte of the
//! program. Just before exec the child sends the time, so the parent knows when the program started without having been
//! woken for it, and the CPU time that all this took, which is not the program's.
//!
//! ```text
//! split: prepare -> fork -> setsid -> stdio -> chdir -> oom score -> rlimits -> groups -> gid -> uid -> pdeathsig
//!                         -> no_new_privs -> filter -> signals -> fds -> time -> execve
//! cell:  (by `leader`) fork -> no_new_privs -> filter -> setsid -> stdio -> chdir -> oom score -> no capability
//!        then, when the order comes: prepare -> rlimits -> signals -> fds -> time -> execve
//! ```

use super::cell::{Step, write_file};
use super::filter::{self, Instruction};
use super::limits::{self, Resource};
use super::report::{self, Failed, Report, Start};
use super::sys::{self, Errno, Words};
use std::ffi::CString;
use std::os::fd::OwnedFd;
use wire::frame::{Relax, Run, RunLimits};

use nix::libc;

/// PATH of a program whose environment has none (execvp's own fallback, with the system folders).
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the child needs, in the shape that execve wants.
pub struct Program {
    argv: Words,
    env: Words,
    /// Where the program may be, in order.
    paths: Vec<CString>,
    resources: [Resource; 8],
}

impl Program {
    /// Prepares everything that can be; `others` are processes of the program's uid that are ours.
    pub fn new(
        argv: &[String],
        env: &[(String, String)],
        limits: &RunLimits,
        relax: Relax,
        others: u64,
    ) -> Result<Program, Failed> {
        let string = |step: &str, s: String| CString::new(s).map_err(|_| Failed::new(step, libc::EINVAL));
        let name = argv.first().ok_or_else(|| Failed::new("argv", libc::EINVAL))?;
        if name.is_empty() {
            return Err(Failed::new("argv", libc::ENOENT));
        }
        let mut paths = Vec::new();
        if name.contains('/') {
            paths.push(string("argv", name.clone())?);
        } else {
            let path = env.iter().find(|(k, _)| k == "PATH");
            let path = path.map_or(DEFAULT_PATH, |(_, v)| v.as_str());
            for folder in path.split(':') {
                // An empty folder is the current one (execvp(3)).
                let folder = if folder.is_empty() { "." } else { folder };
                paths.push(string("argv", format!("{folder}/{name}"))?);
            }
        }
        let mut pairs = Vec::with_capacity(env.len());
        for (key, value) in env {
            if key.is_empty() || key.contains('=') {
                return Err(Failed::new("env", libc::EINVAL));
            }
            pairs.push(string("env", format!("{key}={value}"))?);
        }
        let argv = argv.iter().map(|s| string("argv", s.clone()));
        Ok(Program {
            argv: Words::new(argv.collect::<Result<_, _>>()?),
            env: Words::new(pairs),
            paths,
            resources: limits::resources(limits, relax, others),
        })
    }
}

/// A program that was forked, and our ends of its pipes.
pub struct Started {
    /// Its main process, or the PID 1 of its cell.
    pub pid: i32,
    /// Its input; non-blocking.
    pub stdin: OwnedFd,
    /// Its outputs, stdout first.
    pub output: [OwnedFd; 2],
    /// Where its start, a failed step and a cell's end arrive.
    pub report: Report,
    /// Where the /box of its cell arrives.
    pub line: Option<OwnedFd>,
    /// Where a runtime that was still loading says that it waits: somebody must hold it.
    pub ready: Option<OwnedFd>,
    /// What its cell has from the run before.
    pub used: Option<Used>,
}

/// What is known of a cell that has been used.
pub struct Used {
    /// Its /box.
    pub folder: OwnedFd,
    /// What the kernel has counted for the children of its PID 1, in nanoseconds.
    pub children_ns: u64,
    /// CPU time of its PID 1 between the run before and the next one, in nanoseconds.
    pub leader_ns: u64,
}

/// Our ends of a program's stdin, stdout and stderr.
pub struct Ends {
    /// Its input; non-blocking.
    pub stdin: OwnedFd,
    /// Its outputs, stdout first; non-blocking.
    pub output: [OwnedFd; 2],
}

/// The pipes between the init and a program: ours, and its own.
pub fn stdio() -> Result<(Ends, [OwnedFd; 3]), Failed> {
    let pipe = || sys::pipe().map_err(|e| Failed::new("pipe", e));
    let (in_read, stdin) = pipe()?;
    let (stdout, out_write) = pipe()?;
    let (stderr, err_write) = pipe()?;
    for fd in [&stdin, &stdout, &stderr] {
        sys::set_nonblocking(fd).map_err(|e| Failed::new("pipe", e))?;
    }
    Ok((Ends { stdin, output: [stdout, stderr] }, [in_read, out_write, err_write]))
}

/// The pipe on which a program's start is told, and more.
pub fn report() -> Result<(Report, OwnedFd), Failed> {
    let failed = |e| Failed::new("pipe", e);
    let (heard, said) = sys::pipe().map_err(failed)?;
    sys::set_nonblocking(&heard).map_err(failed)?;
    Ok((Report::new(heard), said))
}

/// Starts the program of `run` in the sandbox itself, as this uid and gid.
pub fn start_split(run: &Run, uid: u32, gid: u32) -> Result<Started, Failed> {
    let program = Program::new(&run.argv, &run.env, &run.limits, run.relax, 0)?;
    let (Ends { stdin, output }, stdio) = stdio()?;
    let (report, told) = self::report()?;
    let filter = filter::build(run.relax);
    match sys::fork().map_err(|e| Failed::new("fork", e))? {
        Some(pid) => Ok(Started { pid, stdin, output, report, line: None, ready: None, used: None }),
        None => {
            let steps = |program: &Program| split_steps(program, &stdio, uid, gid, &filter);
            let failed = become_program(&program, Some((&told, 0, 0)), steps);
            report::say_failed(&told, &failed);
            sys::exit(127)
        }
    }
}

/// The child's last steps; comes back only when one failed. `told` is where the start is said, since when the child was ready
/// for it, and its CPU time until the order came.
pub fn become_program(
    program: &Program,
    told: Option<(&OwnedFd, u64, u64)>,
    steps: impl Fn(&Program) -> Step<()>,
) -> Failed {
    if let Err((step, errno)) = steps(program) {
        return Failed::new(step, errno);
    }
    if let Some((report, ready_at, before_ns)) = told {
        let setup_ns = sys::own_cpu().saturating_sub(before_ns);
        report::say_start(report, Start { at: sys::now(), ready_at, before_ns, setup_ns, hot: false });
    }
    let mut denied = false;
    let mut errno = libc::ENOENT;
    for path in &program.paths {
        errno = sys::exec(path, &program.argv, &program.env);
        match errno {
            // As execvp: look on, but remember that something was there.
            libc::EACCES => denied = true,
            libc::ENOENT | libc::ENOTDIR => {}
            _ => return Failed::new("execve", errno),
        }
    }
    Failed::new("execve", if denied { libc::EACCES } else { errno })
}

fn step(name: &'static str, result: Result<(), Errno>) -> Step<()> {
    result.map_err(|errno| (name, errno))
}

/// A session, stdio and a folder to be in.
pub fn settle(stdio: &[OwnedFd; 3]) -> Step<()> {
    step("setsid", sys::setsid())?;
    for (fd, place) in stdio.iter().zip(0..) {
        step("stdio", sys::dup_onto(fd, place))?;
    }
    step("chdir", sys::chdir(c"/box"))?;
    sys::umask(0o022);
    Ok(())
}

/// What every program gets, whoever it is and whatever it is.
fn place(stdio: &[OwnedFd; 3]) -> Step<()> {
    settle(stdio)?;
    // The kernel shall take the program first. Raising needs no right; an engine without the file loses only the order.
    let _ = write_file(c"/proc/self/oom_score_adj", b"1000");
    Ok(())
}

/// Which limits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Limits {
    /// The run's.
    OfTheRun,
    /// Those of a runtime ahead of its run: what it loads is not limited, and the order may bring others.
    Ahead,
}

/// The last steps of all, but for what changes who it is.
pub fn last_steps(program: &Program, limits: Limits) -> Step<()> {
    for (name, resource, soft, hard) in program.resources {
        let hard = match limits {
            Limits::OfTheRun => hard,
            Limits::Ahead if resource == libc::RLIMIT_CPU => continue,
            Limits::Ahead => u64::MAX,
        };
        match sys::limit(resource, soft, hard) {
            // gVisor has neither this limit nor the queues
            Err(libc::EPERM) if resource == libc::RLIMIT_MSGQUEUE => {}
            limited => step(name, limited)?,
        }
    }
    step("signals", sys::unblock_signals())?;
    sys::close_on_exec_from_3();
    Ok(())
}

fn split_steps(program: &Program, stdio: &[OwnedFd; 3], uid: u32, gid: u32, filter: &[Instruction]) -> Step<()> {
    place(stdio)?;
    last_steps(program, Limits::OfTheRun)?;
    step("setgroups", sys::drop_groups())?;
    step("setresgid", sys::set_gid(gid))?;
    step("setresuid", sys::set_uid(uid))?;
    // After the uid: changing ids clears it.
    step("pdeathsig", sys::die_with_parent())?;
    step("no_new_privs", sys::no_new_privileges())?;
    // After no_new_privs, which makes it unprivileged, and last.
    step("filter", sys::install_filter(filter))
}

/// The first steps in a cell, under the filter already: whatever the program will be.
pub fn first_steps(stdio: &[OwnedFd; 3]) -> Step<()> {
    next_steps(stdio)?;
    step("capabilities", sys::drop_capabilities())
}

/// The same where there is no capability left.
pub fn next_steps(stdio: &[OwnedFd; 3]) -> Step<()> {
    // /proc/self is ours only then; exec sets it anyway
    step("dumpable", sys::dumpable())?;
    place(stdio)?;
    // our own code until exec
    step("dumpable", sys::not_dumpable())
}
