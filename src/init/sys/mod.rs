//! The system calls that the init makes, each behind a safe function: processes, time and signals here, descriptors and files
//! in `files`, what a process may do in `rights`.
//!
//! The only folder of the init that may say `unsafe`. It decides nothing: a call, its errno. What is not here is not
//! called. Raw calls rather than wrappers where the wrapper would do more than the call (glibc's set*id talks to threads).
#![allow(unsafe_code)]

mod files;
mod rights;

pub use files::*;
pub use rights::*;

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::libc;

/// An errno as a plain number.
pub type Errno = i32;

/// The errno of an `io::Error`; EIO where it has none.
#[must_use]
pub fn errno_of(error: &io::Error) -> Errno {
    error.raw_os_error().unwrap_or(libc::EIO)
}

fn check(r: i64) -> Result<i64, Errno> {
    if r < 0 { Err(errno_of(&io::Error::last_os_error())) } else { Ok(r) }
}

fn own(r: i64) -> Result<OwnedFd, Errno> {
    let fd = check(r)? as RawFd;
    // SAFETY: the kernel just gave us this descriptor; nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Monotonic time in nanoseconds.
#[must_use]
pub fn now() -> u64 {
    clock(libc::CLOCK_MONOTONIC)
}

/// CPU time of this process in nanoseconds.
#[must_use]
pub fn own_cpu() -> u64 {
    clock(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// CPU time of another process of ours, not of its children, in nanoseconds; 0 when it is not there.
#[must_use]
pub fn cpu_of(pid: i32) -> u64 {
    // clock_getcpuclockid(3): the process's clock 2, by its pid
    clock((!pid << 3) | 2)
}

/// Resident memory of another process in bytes; 0 when it is not there.
#[must_use]
pub fn resident(pid: i32) -> u64 {
    let words = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages: u64 = words.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or_default();
    // SAFETY: no pointers.
    pages * u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or_default()
}

/// Children of another process; none when it is not there.
#[must_use]
pub fn children(pid: i32) -> Vec<i32> {
    let words = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    words.split_ascii_whitespace().filter_map(|child| child.parse().ok()).collect()
}

fn clock(id: libc::clockid_t) -> u64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` outlives the call.
    unsafe { libc::clock_gettime(id, &mut t) };
    (t.tv_sec as u64) * 1_000_000_000 + t.tv_nsec as u64
}

/// Whether this process is PID 1 of its namespace.
#[must_use]
pub fn is_pid1() -> bool {
    // SAFETY: no arguments.
    unsafe { libc::getpid() == 1 }
}

/// The init's effective user id.
#[must_use]
pub fn euid() -> u32 {
    // SAFETY: no arguments.
    unsafe { libc::geteuid() }
}

/// SIGKILL to every process of the namespace but this one. Does nothing unless this is PID 1: elsewhere it would mean
/// the whole machine.
pub fn kill_everyone() {
    if is_pid1() {
        // SAFETY: plain numbers.
        unsafe { libc::kill(-1, libc::SIGKILL) };
    }
}

/// SIGKILL to a child: the PID 1 of a cell, and with it everything in there.
pub fn kill(pid: i32) {
    if pid > 1 {
        // SAFETY: plain numbers; a child keeps its pid until it is waited for.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }
}

/// Whether a child has ended, without taking its end.
#[must_use]
pub fn has_ended(pid: i32) -> bool {
    // SAFETY: plain data that outlives the call.
    unsafe {
        let mut info = std::mem::zeroed::<libc::siginfo_t>();
        let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        libc::waitid(libc::P_PID, pid as libc::id_t, &mut info, options) != 0 || info.si_pid() != 0
    }
}

/// Ends this process at once, without destructors.
pub fn exit(status: i32) -> ! {
    // SAFETY: plain numbers.
    unsafe { libc::_exit(status) }
}

/// What poll(2) is asked about one descriptor; a negative one is skipped.
pub type PollFd = libc::pollfd;

/// Waits for one of `fds`, at most `timeout_ns`.
pub fn poll(fds: &mut [PollFd], timeout_ns: u64) -> Result<(), Errno> {
    let t = libc::timespec {
        tv_sec: (timeout_ns / 1_000_000_000) as libc::time_t,
        tv_nsec: (timeout_ns % 1_000_000_000) as libc::c_long,
    };
    // SAFETY: slice and timespec outlive the call; no signal mask.
    let r = unsafe { libc::ppoll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, &t, std::ptr::null()) };
    match check(i64::from(r)) {
        Ok(_) | Err(libc::EINTR) => Ok(()),
        Err(e) => Err(e),
    }
}

/// Blocks every signal and gives a descriptor for SIGCHLD and SIGTERM. Every disposition goes to its default: an ignored
/// signal survives exec, and so would SIGPIPE, which Rust's runtime ignores, or what the engine was started with.
pub fn take_signals() -> Result<OwnedFd, Errno> {
    // The kernel's own struct, all zero: SIG_DFL, no flags, no mask.
    let default = [0u64; 4];
    // SAFETY: the struct outlives the calls and 8 is the size of the kernel's sigset_t; SIGKILL and SIGSTOP fail harmlessly.
    // By the system call, because the C library refuses its own signals (32 to 34).
    unsafe {
        for n in 1..=64 {
            libc::syscall(libc::SYS_rt_sigaction, n, default.as_ptr(), 0, 8);
        }
    }
    // SAFETY: sigset functions on a local set; the descriptor is owned from here on.
    unsafe {
        let mut all = std::mem::zeroed::<libc::sigset_t>();
        libc::sigfillset(&mut all);
        check(i64::from(libc::sigprocmask(libc::SIG_SETMASK, &all, std::ptr::null_mut())))?;
        let mut some = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&mut some);
        libc::sigaddset(&mut some, libc::SIGCHLD);
        libc::sigaddset(&mut some, libc::SIGTERM);
        own(i64::from(libc::signalfd(-1, &some, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)))
    }
}

/// One signal out of a signalfd: (number, sender's pid as seen here; 0 is outside).
#[must_use]
pub fn next_signal(fd: &OwnedFd) -> Option<(u32, u32)> {
    let mut info = [0u8; std::mem::size_of::<libc::signalfd_siginfo>()];
    match read(fd.as_raw_fd(), &mut info) {
        Ok(n) if n == info.len() => {
            let word = |at: usize| info.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_ne_bytes);
            // signalfd(2): ssi_signo, ssi_errno, ssi_code, ssi_pid.
            Some((word(0), word(12)))
        }
        _ => None,
    }
}

/// An empty mask, for the child before exec; the dispositions are the defaults since [`take_signals`].
pub fn unblock_signals() -> Result<(), Errno> {
    // SAFETY: sigset functions on a local set.
    unsafe {
        let mut none = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&mut none);
        check(i64::from(libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut()))).map(drop)
    }
}

/// fork(2): `None` in the child.
pub fn fork() -> Result<Option<i32>, Errno> {
    // SAFETY: the init has one thread, so the child may do whatever the parent may.
    match check(i64::from(unsafe { libc::fork() }))? {
        0 => Ok(None),
        pid => Ok(Some(pid as i32)),
    }
}

/// A stack for [`fork_to_exec`].
pub struct Stack(Box<[u8]>);

impl Stack {
    /// Enough for a few steps without recursion.
    #[must_use]
    pub fn new() -> Self {
        Self(vec![0; 256 * 1024].into_boxed_slice())
    }
}

/// A child that shares this process's memory, and stops it, until the child becomes a program or ends: nothing is copied, so it
/// takes a third of a fork's time. `child` comes to its end by `exec` or `exit`; what it allocates before stays allocated here.
pub fn fork_to_exec(stack: &mut Stack, child: &mut dyn FnMut()) -> Result<i32, Errno> {
    extern "C" fn enter(argument: *mut libc::c_void) -> libc::c_int {
        // SAFETY: the pointer to the closure's reference that is given below; its owner is stopped and keeps it alive.
        let child = unsafe { &mut *argument.cast::<&mut dyn FnMut()>() };
        child();
        exit(127)
    }
    let mut child = child;
    let argument = std::ptr::from_mut(&mut child).cast();
    // a stack grows downwards from an end that is aligned to 16
    let top = stack.0.as_mut_ptr_range().end;
    let top = top.wrapping_sub(top.addr() % 16).cast();
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: this process has one thread, which is stopped until the child has memory of its own or is gone; the stack is the
    // child's alone.
    check(i64::from(unsafe { libc::clone(enter, top, flags, argument) })).map(|pid| pid as i32)
}

/// fork(2) into fresh user, pid, mount and ipc namespaces: `None` in the child, which is their PID 1.
pub fn fork_cell() -> Result<Option<i32>, Errno> {
    let flags = libc::CLONE_NEWUSER | libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::SIGCHLD;
    // SAFETY: without CLONE_VM and with no stack of its own it is a fork; the init has one thread.
    match check(unsafe { libc::syscall(libc::SYS_clone, i64::from(flags), 0usize, 0usize, 0usize, 0usize) })? {
        0 => Ok(None),
        pid => Ok(Some(pid as i32)),
    }
}

/// Waits for a child, as long as it takes. For the PID 1 of a cell, which has nothing else to do.
pub fn wait_one() -> Result<Waited, Errno> {
    loop {
        match wait(libc::__WALL) {
            Ok(Some(waited)) => return Ok(waited),
            Ok(None) | Err(libc::EINTR) => {}
            Err(e) => return Err(e),
        }
    }
}

/// One child that has ended.
#[derive(Debug, Clone, Copy)]
pub struct Waited {
    /// Its pid.
    pub pid: i32,
    /// Exit status, if it exited.
    pub exited: Option<u8>,
    /// Signal, if one ended it.
    pub signal: Option<u8>,
    /// User time in nanoseconds, of it and what it waited for.
    pub user_ns: u64,
    /// System time in nanoseconds.
    pub system_ns: u64,
    /// Largest resident set in bytes.
    pub max_rss: u64,
}

impl Waited {
    /// Its CPU time without what it took before something. The kernel keeps user and system time apart for the whole life only:
    /// what was before is taken to be of the same kind.
    #[must_use]
    pub fn without(self, before_ns: u64) -> Waited {
        let all = self.user_ns + self.system_ns;
        let left = all.saturating_sub(before_ns);
        let user = u128::from(self.user_ns) * u128::from(left) / u128::from(all.max(1));
        let user_ns = u64::try_from(user).unwrap_or(left);
        Waited { user_ns, system_ns: left - user_ns, ..self }
    }
}

/// wait4(-1, WNOHANG). Called from `reap` only. `Ok(None)`: children, but none that ended; ECHILD: no children.
pub fn wait_any() -> Result<Option<Waited>, Errno> {
    // __WALL also sees children made by clone with odd signals.
    wait(libc::WNOHANG | libc::__WALL)
}

fn wait(options: i32) -> Result<Option<Waited>, Errno> {
    let mut status = 0;
    // SAFETY: rusage is plain data.
    let mut usage = unsafe { std::mem::zeroed::<libc::rusage>() };
    // SAFETY: both outlive the call.
    let r = unsafe { libc::wait4(-1, &mut status, options, &mut usage) };
    let pid = match check(i64::from(r))? {
        0 => return Ok(None),
        pid => pid as i32,
    };
    let ns = |t: libc::timeval| (t.tv_sec as u64) * 1_000_000_000 + (t.tv_usec as u64) * 1000;
    Ok(Some(Waited {
        pid,
        exited: libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status) as u8),
        signal: libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status) as u8),
        user_ns: ns(usage.ru_utime),
        system_ns: ns(usage.ru_stime),
        max_rss: (usage.ru_maxrss as u64) * 1024,
    }))
}

/// A session of its own.
pub fn setsid() -> Result<(), Errno> {
    // SAFETY: no arguments.
    check(i64::from(unsafe { libc::setsid() })).map(drop)
}

/// chdir(2).
pub fn chdir(path: &CStr) -> Result<(), Errno> {
    // SAFETY: a C string.
    check(i64::from(unsafe { libc::chdir(path.as_ptr()) })).map(drop)
}

/// Words as execve wants them.
pub struct Words {
    // it owns what the list points to
    _words: Vec<CString>,
    list: Vec<*const libc::c_char>,
}

impl Words {
    /// With the null at the end.
    #[must_use]
    pub fn new(words: Vec<CString>) -> Self {
        let list = words.iter().map(|word| word.as_ptr()).chain([std::ptr::null()]).collect();
        Self { _words: words, list }
    }
}

/// execve(2); comes back only with an errno. Allocates nothing.
#[must_use]
pub fn exec(path: &CStr, argv: &Words, env: &Words) -> Errno {
    // SAFETY: null-terminated lists of C strings that outlive the call.
    unsafe { libc::execve(path.as_ptr(), argv.list.as_ptr(), env.list.as_ptr()) };
    errno_of(&io::Error::last_os_error())
}

/// How many CPUs this process may use; at least 1.
#[must_use]
pub fn cpus() -> u64 {
    let mut words = [0u64; 128];
    // SAFETY: the buffer is as long as said; the call returns the bytes it wrote.
    let r = unsafe { libc::syscall(libc::SYS_sched_getaffinity, 0, std::mem::size_of_val(&words), words.as_mut_ptr()) };
    let count: u32 = words.iter().map(|w| w.count_ones()).sum();
    if r <= 0 { 1 } else { u64::from(count.max(1)) }
}
