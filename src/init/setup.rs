//! From a Run frame to a running program: the child's set-up, step by step.
//!
//! Everything that can be prepared is prepared before the fork. In the child every step has a name; the first one that
//! fails crosses to the parent as (step, errno) on a close-on-exec pipe, and the child is gone without having run a byte
//! of the program. Just before exec the child sends the time, so the parent knows when the program started without
//! having been woken for it.
//!
//! ```text
//! prepare -> fork -> setsid -> stdio -> chdir -> oom score -> rlimits -> groups -> gid -> uid -> pdeathsig
//!                       -> no_new_privs -> (seccomp: issue to come) -> signals -> fds -> time -> execve
//! ```

use super::limits::{self, Resource};
use super::sys::{self, Errno};
use crate::wire::frame::Run;
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::libc;

/// PATH of a program whose environment has none (execvp's own fallback, with the system folders).
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A step that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// Its name.
    pub step: String,
    /// Its errno.
    pub errno: Errno,
}

impl Failed {
    /// A failed step.
    #[must_use]
    pub fn new(step: &str, errno: Errno) -> Self {
        Self { step: step.to_owned(), errno }
    }
}

/// A program that was forked. Our ends of its pipes.
pub struct Started {
    /// Its main process.
    pub pid: i32,
    /// Its input; non-blocking.
    pub stdin: OwnedFd,
    /// Its outputs, stdout first.
    pub output: [OwnedFd; 2],
    /// Where the start's time or the failed step arrives.
    pub report: OwnedFd,
}

/// What the child needs, in the shape that execve wants.
struct Program {
    argv: Vec<CString>,
    env: Vec<CString>,
    /// Where the program may be, in order.
    paths: Vec<CString>,
    resources: [Resource; 7],
    uid: u32,
    gid: u32,
}

fn prepare(run: &Run, uid: u32, gid: u32) -> Result<Program, Failed> {
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
        resources: limits::resources(&run.limits),
        uid,
        gid,
    })
}

/// Starts the program of `run`.
pub fn start(run: &Run, uid: u32, gid: u32) -> Result<Started, Failed> {
    let program = prepare(run, uid, gid)?;
    let pipe = || sys::pipe().map_err(|e| Failed::new("pipe", e));
    let (in_read, in_write) = pipe()?;
    let (out_read, out_write) = pipe()?;
    let (err_read, err_write) = pipe()?;
    let (report_read, report_write) = pipe()?;
    for fd in [&in_write, &out_read, &err_read, &report_read] {
        sys::set_nonblocking(fd).map_err(|e| Failed::new("pipe", e))?;
    }
    match sys::fork().map_err(|e| Failed::new("fork", e))? {
        Some(pid) => Ok(Started { pid, stdin: in_write, output: [out_read, err_read], report: report_read }),
        None => {
            let failed = become_program(&program, &[in_read, out_write, err_write], &report_write);
            let mut message = failed.errno.to_le_bytes().to_vec();
            message.extend_from_slice(failed.step.as_bytes());
            // Below PIPE_BUF into a fresh pipe: it fits at once.
            let _ = sys::write_all(report_write.as_raw_fd(), &message);
            sys::exit(127)
        }
    }
}

/// The child's steps; comes back only when one failed.
fn become_program(program: &Program, stdio: &[OwnedFd; 3], report: &OwnedFd) -> Failed {
    match steps(program, stdio) {
        Ok(()) => {}
        Err((step, errno)) => return Failed::new(step, errno),
    }
    let _ = sys::write_all(report.as_raw_fd(), &sys::now().to_le_bytes());
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

fn steps(program: &Program, stdio: &[OwnedFd; 3]) -> Result<(), (&'static str, Errno)> {
    let step = |name: &'static str, result: Result<(), Errno>| result.map_err(|e| (name, e));
    step("setsid", sys::setsid())?;
    for (fd, place) in stdio.iter().zip(0..) {
        step("stdio", sys::dup_onto(fd, place))?;
    }
    step("chdir", sys::chdir(c"/box"))?;
    sys::umask(0o022);
    // The kernel shall take the program first. Raising needs no right; an engine without the file loses only the order.
    let _ = write_file(c"/proc/self/oom_score_adj", b"1000");
    for (name, resource, soft, hard) in program.resources {
        step(name, sys::limit(resource, soft, hard))?;
    }
    step("setgroups", sys::drop_groups())?;
    step("setresgid", sys::set_gid(program.gid))?;
    step("setresuid", sys::set_uid(program.uid))?;
    // After the uid: changing ids clears it.
    step("pdeathsig", sys::die_with_parent())?;
    step("no_new_privs", sys::no_new_privileges())?;
    // The program's own seccomp filter goes here: after no_new_privs, which makes it unprivileged, and last but for
    // what every program may do anyway.
    step("signals", sys::unblock_signals())?;
    sys::close_on_exec_from_3();
    Ok(())
}

fn write_file(path: &CStr, bytes: &[u8]) -> Result<(), Errno> {
    let file = sys::open(path, libc::O_WRONLY)?;
    sys::write_all(file.as_raw_fd(), bytes)
}

/// Takes what the child has said so far. Never waits.
pub fn hear(fd: &OwnedFd, heard: &mut Vec<u8>) {
    let mut buffer = [0; 256];
    while let Ok(n) = sys::read(fd.as_raw_fd(), &mut buffer) {
        if n == 0 {
            break;
        }
        heard.extend_from_slice(buffer.get(..n).unwrap_or_default());
    }
}

/// What the child's words mean: when it went into exec, and which step failed.
///
/// A time (8 bytes), or a time and a failure, or a failure alone. A failure is an errno (4 bytes) and a step's name,
/// every one of which is longer than 4 bytes.
#[must_use]
pub fn parse_report(bytes: &[u8]) -> (Option<u64>, Option<Failed>) {
    let failed = |bytes: &[u8]| {
        let (errno, step) = bytes.split_first_chunk::<4>()?;
        let step = String::from_utf8_lossy(step);
        Some(Failed::new(&step, i32::from_le_bytes(*errno)))
    };
    // An errno is a small number, so bytes 2 and 3 of a failure alone are 0 and byte 4 starts a name in small letters;
    // execve is the only step after the time.
    match bytes.split_first_chunk::<8>() {
        Some((time, [])) => (Some(u64::from_le_bytes(*time)), None),
        Some((time, rest)) if rest.get(4..) == Some(b"execve") => (Some(u64::from_le_bytes(*time)), failed(rest)),
        _ => (None, failed(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_a_time_or_a_failure_or_both() {
        let time = 123u64.to_le_bytes().to_vec();
        let failure = |step: &str| [&13i32.to_le_bytes()[..], step.as_bytes()].concat();
        assert_eq!(parse_report(&time), (Some(123), None));
        assert_eq!(parse_report(&[]), (None, None));
        for step in ["setsid", "chdir", "stdio", "rlimit cpu", "no_new_privs"] {
            assert_eq!(parse_report(&failure(step)), (None, Some(Failed::new(step, 13))));
        }
        assert_eq!(parse_report(&[time, failure("execve")].concat()), (Some(123), Some(Failed::new("execve", 13))));
    }
}
