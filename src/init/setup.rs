//! From a Run frame to a running program: the child's set-up, step by step.
//!
//! Everything that can be prepared is prepared before the fork. In the child every step has a name; the first one that
//! fails crosses to the parent on a close-on-exec pipe (`report`), and the child is gone without having run a byte of the
//! program. Just before exec the child sends the time, so the parent knows when the program started without having been
//! woken for it, and the CPU time that all this took, which is not the program's.
//!
//! ```text
//! split: prepare -> fork -> setsid -> stdio -> chdir -> oom score -> rlimits -> groups -> gid -> uid -> pdeathsig
//!                         -> no_new_privs -> filter -> signals -> fds -> time -> execve
//! cell:  prepare -> fork into namespaces -> furnish (`cell`) -> no_new_privs -> filter
//!                         '-> fork -> setsid -> stdio -> chdir -> oom score -> rlimits -> no capability -> signals
//!                              -> fds -> time -> execve
//! ```

use super::cell::{self, Step, Tenant, write_file};
use super::filter::{self, Instruction};
use super::limits::{self, Resource};
use super::report::{self, End, Failed, Report};
use super::sys::{self, Errno, Waited};
use crate::wire::frame::{Ended, Run};
use std::ffi::CString;
use std::os::fd::OwnedFd;

use nix::libc;

/// PATH of a program whose environment has none (execvp's own fallback, with the system folders).
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where a program runs, and as whom.
#[derive(Clone, Copy)]
pub enum Place<'a> {
    /// In the sandbox itself, as this uid and gid.
    Split(u32, u32),
    /// In a cell over this store.
    Cell(Tenant, &'a OwnedFd),
}

/// A program that was forked. Our ends of its pipes.
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
    pub handover: Option<OwnedFd>,
}

/// What the child needs, in the shape that execve wants.
struct Program {
    argv: Vec<CString>,
    env: Vec<CString>,
    /// Where the program may be, in order.
    paths: Vec<CString>,
    resources: [Resource; 8],
    filter: Vec<Instruction>,
    uid: u32,
    gid: u32,
}

fn prepare(run: &Run, place: Place<'_>) -> Result<Program, Failed> {
    let (uid, gid, others) = match place {
        Place::Split(uid, gid) => (uid, gid, 0),
        // the PID 1 of the cell is of the same uid
        Place::Cell(Tenant { uid, gid, .. }, _) => (uid, gid, 1),
    };
    let string = |step: &str, s: String| CString::new(s).map_err(|_| Failed::new(step, libc::EINVAL));
    let name = run.argv.first().ok_or_else(|| Failed::new("argv", libc::EINVAL))?;
    if name.is_empty() {
        return Err(Failed::new("argv", libc::ENOENT));
    }
    let mut paths = Vec::new();
    if name.contains('/') {
        paths.push(string("argv", name.clone())?);
    } else {
        let path = run.env.iter().find(|(k, _)| k == "PATH");
        let path = path.map_or(DEFAULT_PATH, |(_, v)| v.as_str());
        for folder in path.split(':') {
            // An empty folder is the current one (execvp(3)).
            let folder = if folder.is_empty() { "." } else { folder };
            paths.push(string("argv", format!("{folder}/{name}"))?);
        }
    }
    let mut env = Vec::with_capacity(run.env.len());
    for (key, value) in &run.env {
        if key.is_empty() || key.contains('=') {
            return Err(Failed::new("env", libc::EINVAL));
        }
        env.push(string("env", format!("{key}={value}"))?);
    }
    let argv = run.argv.iter().map(|s| string("argv", s.clone()));
    Ok(Program {
        argv: argv.collect::<Result<_, _>>()?,
        env,
        paths,
        resources: limits::resources(&run.limits, run.relax, others),
        filter: filter::build(run.relax),
        uid,
        gid,
    })
}

/// Starts the program of `run`.
pub fn start(run: &Run, place: Place<'_>) -> Result<Started, Failed> {
    let program = prepare(run, place)?;
    let pipe = || sys::pipe().map_err(|e| Failed::new("pipe", e));
    let (in_read, in_write) = pipe()?;
    let (out_read, out_write) = pipe()?;
    let (err_read, err_write) = pipe()?;
    let (report_read, report_write) = pipe()?;
    for fd in [&in_write, &out_read, &err_read, &report_read] {
        sys::set_nonblocking(fd).map_err(|e| Failed::new("pipe", e))?;
    }
    let stdio = [in_read, out_write, err_write];
    let (forked, handover) = match place {
        Place::Split(..) => match sys::fork().map_err(|e| Failed::new("fork", e))? {
            Some(pid) => (pid, None),
            None => {
                let failed = become_program(&program, &stdio, &report_write, 0, split_steps);
                report::say_failed(&report_write, &failed);
                sys::exit(127)
            }
        },
        Place::Cell(tenant, store) => {
            let (ours, theirs) = sys::handover().map_err(|e| Failed::new("pipe", e))?;
            match sys::fork_cell().map_err(|e| Failed::new("cell namespaces", e))? {
                Some(pid) => (pid, Some(ours)),
                None => {
                    // our ends of the program's pipes would keep them open beside it
                    drop((in_write, out_read, err_read, report_read, ours));
                    lead_cell(&program, stdio, &report_write, &tenant, store, &theirs)
                }
            }
        }
    };
    let report = Report::new(report_read);
    Ok(Started { pid: forked, stdin: in_write, output: [out_read, err_read], report, handover })
}

/// The life of a cell's PID 1.
fn lead_cell(
    program: &Program,
    stdio: [OwnedFd; 3],
    report: &OwnedFd,
    tenant: &Tenant,
    store: &OwnedFd,
    handover: &OwnedFd,
) -> ! {
    let fail = |failed: Failed| -> ! {
        report::say_failed(report, &failed);
        sys::exit(127)
    };
    let prepared = cell::furnish(tenant, store).and_then(|folder| {
        sys::send_fd(handover, &folder).map_err(|e| ("cell handover", e))?;
        sys::no_new_privileges().map_err(|e| ("no_new_privs", e))?;
        sys::install_filter(&program.filter).map_err(|e| ("filter", e))
    });
    if let Err((step, errno)) = prepared {
        fail(Failed::new(step, errno));
    }
    let used = sys::own_cpu();
    let main = match sys::fork() {
        Ok(Some(pid)) => pid,
        Ok(None) => fail(become_program(program, &stdio, report, used, cell_steps)),
        Err(errno) => fail(Failed::new("fork", errno)),
    };
    drop(stdio);
    sys::close_all_but(report);
    if let Err(errno) = sys::drop_capabilities() {
        fail(Failed::new("capabilities", errno));
    }
    report::say_end(report, &wait_for(main, used));
    sys::exit(0)
}

/// Waits for the main process, then ends and counts what is left.
fn wait_for(main: i32, before_ns: u64) -> End {
    let ended = Ended::Signaled(libc::SIGKILL as u8);
    let mut end = End { ended, survivors: 0, at: 0, user_ns: 0, system_ns: 0, max_rss: 0, before_ns };
    let mut over = false;
    while let Ok(one) = sys::wait_one() {
        let Waited { pid, exited, signal, user_ns, system_ns, max_rss } = one;
        end.user_ns += user_ns;
        end.system_ns += system_ns;
        end.max_rss = end.max_rss.max(max_rss);
        if pid == main {
            end.at = sys::now();
            end.ended = match exited {
                Some(status) => Ended::Exited(status),
                None => Ended::Signaled(signal.unwrap_or(libc::SIGKILL as u8)),
            };
            over = true;
        } else if over && signal == Some(libc::SIGKILL as u8) {
            end.survivors = end.survivors.saturating_add(1);
        }
        if over {
            sys::kill_everyone();
        }
    }
    end
}

type Steps = fn(&Program, &[OwnedFd; 3]) -> Step<()>;

/// The child's steps; comes back only when one failed.
fn become_program(program: &Program, stdio: &[OwnedFd; 3], report: &OwnedFd, cpu_before: u64, steps: Steps) -> Failed {
    if let Err((step, errno)) = steps(program, stdio) {
        return Failed::new(step, errno);
    }
    report::say_exec(report, cpu_before + sys::own_cpu());
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

/// What every program gets, whoever it is.
fn common_steps(program: &Program, stdio: &[OwnedFd; 3]) -> Step<()> {
    step("setsid", sys::setsid())?;
    for (fd, place) in stdio.iter().zip(0..) {
        step("stdio", sys::dup_onto(fd, place))?;
    }
    step("chdir", sys::chdir(c"/box"))?;
    sys::umask(0o022);
    // The kernel shall take the program first. Raising needs no right; an engine without the file loses only the order.
    let _ = write_file(c"/proc/self/oom_score_adj", b"1000");
    for (name, resource, soft, hard) in program.resources {
        match sys::limit(resource, soft, hard) {
            // gVisor has neither this limit nor the queues
            Err(libc::EPERM) if resource == libc::RLIMIT_MSGQUEUE => {}
            limited => step(name, limited)?,
        }
    }
    Ok(())
}

fn last_steps() -> Step<()> {
    step("signals", sys::unblock_signals())?;
    sys::close_on_exec_from_3();
    Ok(())
}

fn split_steps(program: &Program, stdio: &[OwnedFd; 3]) -> Step<()> {
    common_steps(program, stdio)?;
    step("setgroups", sys::drop_groups())?;
    step("setresgid", sys::set_gid(program.gid))?;
    step("setresuid", sys::set_uid(program.uid))?;
    // After the uid: changing ids clears it.
    step("pdeathsig", sys::die_with_parent())?;
    step("no_new_privs", sys::no_new_privileges())?;
    // After no_new_privs, which makes it unprivileged, and last but for what every program may do anyway.
    step("filter", sys::install_filter(&program.filter))?;
    last_steps()
}

fn cell_steps(program: &Program, stdio: &[OwnedFd; 3]) -> Step<()> {
    // /proc/self is ours only then; exec sets it anyway
    step("dumpable", sys::dumpable())?;
    common_steps(program, stdio)?;
    step("capabilities", sys::drop_capabilities())?;
    last_steps()
}
