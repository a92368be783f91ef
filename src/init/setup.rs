//! From fork to exec: ordered steps in the child; a step that fails crosses to the parent by name.

use std::ffi::{CString, NulError};
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{ForkResult, Gid, Pid, Uid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, execve, pipe2, setsid};

use super::{Identity, sys};
use crate::wire::frame::{Run, RunLimits};

/// The steps, in order. Their number crosses the pipe, their name goes to the host.
const STEPS: [&str; 13] = [
    "pipes",
    "setsid",
    "stdio",
    "chdir",
    "limits",
    "oom_score",
    "groups",
    "gid",
    "uid",
    "no_new_privs",
    "signals",
    "words",
    "execve",
];

/// A set-up step that failed.
#[derive(Debug, Clone)]
pub(super) struct Failed {
    pub(super) step: String,
    pub(super) errno: i32,
}

/// A program that runs, and our ends of its pipes.
#[derive(Debug)]
pub(super) struct Spawned {
    pub(super) pid: Pid,
    pub(super) stdin: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

fn failed(step: &str, errno: Errno) -> Failed {
    Failed { step: step.to_owned(), errno: errno as i32 }
}

/// Forks and executes. Returns when the exec has happened or a step has failed (the child is then still to be reaped).
pub(super) fn spawn(order: &Run, identity: Identity) -> Result<Spawned, Failed> {
    let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(|errno| failed("pipes", errno));
    let ((stdin, our_stdin), (our_stdout, stdout), (our_stderr, stderr)) = (pipe()?, pipe()?, pipe()?);
    let (report, child_report) = pipe()?;
    match sys::fork().map_err(|errno| failed("fork", errno))? {
        ForkResult::Child => {
            drop((our_stdin, our_stdout, our_stderr, report));
            let (step, errno) = match child(order, identity, &stdin, &stdout, &stderr) {
                Ok(never) => match never {},
                Err(failure) => failure,
            };
            let mut message = vec![step as u8];
            message.extend((errno as i32).to_le_bytes());
            let _ = nix::unistd::write(&child_report, &message);
            sys::exit_now(127);
        }
        ForkResult::Parent { child } => {
            drop((stdin, stdout, stderr, child_report));
            let mut message = [0; 5];
            let n = loop {
                match nix::unistd::read(&report, &mut message) {
                    Err(Errno::EINTR) => {}
                    other => break other.unwrap_or(0),
                }
            };
            if n == message.len() {
                let [step, errno @ ..] = message;
                let step = STEPS.get(usize::from(step)).copied().unwrap_or("unknown");
                return Err(Failed { step: step.to_owned(), errno: i32::from_le_bytes(errno) });
            }
            // only the init's own ends: the program has other open file descriptions
            for fd in [our_stdin.as_fd(), our_stdout.as_fd(), our_stderr.as_fd()] {
                let _ = nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
            }
            Ok(Spawned { pid: child, stdin: our_stdin, stdout: our_stdout, stderr: our_stderr })
        }
    }
}

/// What happens in the child. Returns only to report a failure.
fn child(
    order: &Run,
    identity: Identity,
    stdin: &OwnedFd,
    stdout: &OwnedFd,
    stderr: &OwnedFd,
) -> Result<std::convert::Infallible, (usize, Errno)> {
    let at = |step: &'static str| move |errno: Errno| (STEPS.iter().position(|name| *name == step).unwrap_or(0), errno);
    setsid().map_err(at("setsid"))?;
    dup2_stdin(stdin).map_err(at("stdio"))?;
    dup2_stdout(stdout).map_err(at("stdio"))?;
    dup2_stderr(stderr).map_err(at("stdio"))?;
    chdir("/box").map_err(at("chdir"))?;
    umask(Mode::from_bits_truncate(0o022));
    limits(&order.limits).map_err(at("limits"))?;
    // raising needs no capability, and has to happen while /proc/self is still ours to write
    std::fs::write("/proc/self/oom_score_adj", "1000")
        .map_err(|error| at("oom_score")(Errno::from_raw(error.raw_os_error().unwrap_or(0))))?;
    become_program(identity).map_err(|(step, errno)| at(step)(errno))?;
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(at("no_new_privs"))?;
    nix::sys::prctl::set_no_new_privs().map_err(at("no_new_privs"))?;
    signals().map_err(at("signals"))?;
    sys::close_on_exec_from_3();
    let words = Words::new(order).map_err(|_| at("words")(Errno::EINVAL))?;
    Err(at("execve")(words.exec()))
}

/// Gives up root for good: no groups, real, effective and saved ids of the program, and with them every capability.
pub(super) fn become_program(identity: Identity) -> Result<(), (&'static str, Errno)> {
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    nix::unistd::setgroups(&[]).map_err(|errno| ("groups", errno))?;
    nix::unistd::setresgid(gid, gid, gid).map_err(|errno| ("gid", errno))?;
    nix::unistd::setresuid(uid, uid, uid).map_err(|errno| ("uid", errno))
}

/// Limits never fail for being above what is allowed: they are then what is allowed.
fn limits(limits: &RunLimits) -> Result<(), Errno> {
    let set = |resource, soft: u64, hard: u64| -> Result<(), Errno> {
        let (_, most) = getrlimit(resource)?;
        setrlimit(resource, soft.min(most), hard.min(most))
    };
    // the cgroup's clock decides; these two seconds later are for the case that it cannot be read
    let cpu = limits.cpu_ns.div_ceil(1_000_000_000);
    set(Resource::RLIMIT_CPU, cpu + 1, cpu + 2)?;
    set(Resource::RLIMIT_FSIZE, limits.file_bytes, limits.file_bytes)?;
    let files = u64::from(limits.open_files);
    set(Resource::RLIMIT_NOFILE, files, files)?;
    let pids = u64::from(limits.pids);
    set(Resource::RLIMIT_NPROC, pids, pids)?;
    set(Resource::RLIMIT_CORE, 0, 0)?;
    set(Resource::RLIMIT_MEMLOCK, 64 * 1024, 64 * 1024)?;
    set(Resource::RLIMIT_MSGQUEUE, 0, 0)?;
    // deep recursion is limited by memory, as judges expect
    set(Resource::RLIMIT_STACK, limits.memory_bytes, limits.memory_bytes)
}

/// No signal blocked, none ignored.
fn signals() -> Result<(), Errno> {
    // Rust's runtime ignores SIGPIPE; every other disposition is the default since the init never touches one
    sys::default_action(Signal::SIGPIPE)?;
    SigSet::all().thread_unblock()
}

/// Program, arguments and environment as the kernel wants them.
struct Words {
    programs: Vec<CString>,
    argv: Vec<CString>,
    env: Vec<CString>,
}

impl Words {
    fn new(order: &Run) -> Result<Words, NulError> {
        let argv = order.argv.iter().map(|word| CString::new(word.as_str())).collect::<Result<Vec<_>, _>>()?;
        let env = order
            .env
            .iter()
            .map(|(name, value)| CString::new(format!("{name}={value}")))
            .collect::<Result<Vec<_>, _>>()?;
        let program = order.argv.first().map(String::as_str).unwrap_or_default();
        let programs = if program.contains('/') {
            vec![CString::new(program)?]
        } else {
            let path = order.env.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.as_str());
            path.unwrap_or("/usr/local/bin:/usr/bin:/bin")
                .split(':')
                .filter(|folder| !folder.is_empty())
                .map(|folder| CString::new(format!("{folder}/{program}")))
                .collect::<Result<Vec<_>, _>>()?
        };
        Ok(Words { programs, argv, env })
    }

    /// Tries each place; says what was wrong with the most promising one.
    fn exec(&self) -> Errno {
        let mut worst = Errno::ENOENT;
        for program in &self.programs {
            let Err(errno) = execve(program, &self.argv, &self.env);
            if !matches!(errno, Errno::ENOENT | Errno::ENOTDIR) {
                worst = errno;
            }
        }
        worst
    }
}
