//! Processes: fork, exec, wait, exit, and what the kernel reports about them.
#![allow(unsafe_code)]

use super::errno::{Errno, check, last_errno};
use super::files::read_text;
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::libc;

/// Resident and shared memory of a process in bytes; 0 when it does not exist.
#[must_use]
pub fn memory_of(pid: i32) -> (u64, u64) {
    let statm = read_text(&format!("/proc/{pid}/statm"));
    // proc(5): size, resident, shared, in pages
    let mut pages = statm.split_ascii_whitespace().skip(1).map_while(|pages| pages.parse::<u64>().ok());
    let mut bytes = || pages.next().unwrap_or(0) * page_size();
    (bytes(), bytes())
}

/// Resident memory of a process without mapped files, in bytes.
#[must_use]
pub fn own_bytes_of(pid: i32) -> u64 {
    let (resident, shared) = memory_of(pid);
    resident.saturating_sub(shared)
}

/// What a process holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Bytes that are charged for it: anonymous pages, page tables, stacks in the kernel.
    pub charged: u64,
    /// Bytes of mapped files.
    pub files: u64,
    pub threads: u64,
}

/// Bytes of kernel memory per thread: stack and task.
const PER_THREAD: u64 = 28 * 1024;

/// What a process holds; nothing when it does not exist.
#[must_use]
pub fn holdings_of(pid: i32) -> Holdings {
    let status = read_text(&format!("/proc/{pid}/status"));
    let threads = number_in(&status, "Threads:");
    let charged = (number_in(&status, "RssAnon:") + number_in(&status, "VmPTE:")) * 1024 + threads * PER_THREAD;
    Holdings { charged, files: number_in(&status, "RssFile:") * 1024, threads }
}

/// What a process has in memory, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Resident {
    /// The most so far, mapped files included.
    pub most: u64,
    /// Mapped files now.
    pub files: u64,
}

/// What a process has in memory; nothing when it does not exist.
#[must_use]
pub fn resident_of(pid: i32) -> Resident {
    let status = read_text(&format!("/proc/{pid}/status"));
    Resident {
        most: number_in(&status, "VmHWM:") * 1024,
        files: (number_in(&status, "RssFile:") + number_in(&status, "RssShmem:")) * 1024,
    }
}

/// User and system time of a process and of the children that it waited for, in nanoseconds, by
/// ticks of 10 ms; 0 when it does not exist.
#[must_use]
pub fn ticks_of(pid: i32) -> (u64, u64) {
    const TICK_NS: u64 = 10_000_000;
    let stat = read_text(&format!("/proc/{pid}/stat"));
    // the name, in parentheses, may have any character; user, system, and those of children are the
    // twelfth to the fifteenth word after it
    let words = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace();
    let ticks: Vec<u64> = words.skip(11).take(4).map(|word| word.parse().unwrap_or(0)).collect();
    match ticks.as_slice() {
        [user, system, users, systems] => ((user + users) * TICK_NS, (system + systems) * TICK_NS),
        _ => (0, 0),
    }
}

/// The number after `name` in a file of /proc like `status`; 0 if it is missing.
fn number_in(status: &str, name: &str) -> u64 {
    let value = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    value.split_ascii_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn page_size() -> u64 {
    // SAFETY: no pointers.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or_default()
}

/// Children of a process; none when it does not exist.
#[must_use]
pub fn children(pid: i32) -> Vec<i32> {
    let listed = read_text(&format!("/proc/{pid}/task/{pid}/children"));
    listed.split_ascii_whitespace().filter_map(|child| child.parse().ok()).collect()
}

/// Allocates a piece of memory for as long as the process lives, and returns its size in bytes.
pub fn take_memory() -> u64 {
    const PIECE_BYTES: usize = 2 * 1024 * 1024;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
    // SAFETY: a new mapping, which nothing refers to.
    unsafe { libc::mmap(std::ptr::null_mut(), PIECE_BYTES, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    PIECE_BYTES as u64
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

/// Whether this process is root in its user namespace.
#[must_use]
pub fn is_root() -> bool {
    euid() == 0
}

/// Whether a child has exited, without reaping it.
#[must_use]
pub fn has_exited(pid: i32) -> bool {
    !matches!(peek(pid), Ok(None))
}

/// CPU time of a child that has exited and was not reaped, with that of the children that it waited
/// for; in nanoseconds. `None` while it runs.
#[must_use]
pub fn cpu_of_zombie(pid: i32) -> Option<u64> {
    let usage = peek(pid).ok().flatten()?;
    Some(ns(usage.ru_utime) + ns(usage.ru_stime))
}

/// What a child used, if it has exited, without reaping it; ECHILD: not a child.
fn peek(pid: i32) -> Result<Option<libc::rusage>, Errno> {
    let options = i64::from(libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL);
    // SAFETY: plain data.
    let (mut info, mut usage) = unsafe { (std::mem::zeroed::<libc::siginfo_t>(), std::mem::zeroed::<libc::rusage>()) };
    let (info_out, usage_out) = (&raw mut info, &raw mut usage);
    // SAFETY: both outlive the call. The C library's waitid does not take the usage.
    check(unsafe { libc::syscall(libc::SYS_waitid, libc::P_PID, pid, info_out, options, usage_out) })?;
    // SAFETY: filled by waitid, or zero.
    Ok((unsafe { info.si_pid() } != 0).then_some(usage))
}

fn ns(time: libc::timeval) -> u64 {
    (time.tv_sec as u64) * 1_000_000_000 + (time.tv_usec as u64) * 1000
}

/// Ends this process at once, without destructors.
pub fn exit(status: i32) -> ! {
    // SAFETY: plain numbers.
    unsafe { libc::_exit(status) }
}

/// fork(2): `None` in the child.
pub fn fork() -> Result<Option<i32>, Errno> {
    // SAFETY: the init has one thread, so the child may do whatever the parent may.
    match check(i64::from(unsafe { libc::fork() }))? {
        0 => Ok(None),
        pid => Ok(Some(pid as i32)),
    }
}

/// Asks a forked child, and waits for its answer. `false` if it could not be asked.
pub fn in_child(question: impl FnOnce() -> bool) -> bool {
    match fork() {
        Ok(None) => exit(i32::from(question())),
        Ok(Some(pid)) => loop {
            match wait(pid, libc::__WALL) {
                Err(libc::EINTR) => {}
                ended => break ended.is_ok_and(|child| child.is_some_and(|child| child.exited == Some(1))),
            }
        },
        Err(_) => false,
    }
}

/// The namespaces of a cell, with the names that errors give them.
pub const CELL_NAMESPACES: [(&str, i32); 6] = [
    ("cell user namespace", libc::CLONE_NEWUSER),
    ("cell PID namespace", libc::CLONE_NEWPID),
    ("cell mount namespace", libc::CLONE_NEWNS),
    ("cell IPC namespace", libc::CLONE_NEWIPC),
    ("cell network namespace", libc::CLONE_NEWNET),
    ("cell cgroup namespace", libc::CLONE_NEWCGROUP),
];

/// fork(2) into all fresh [`CELL_NAMESPACES`]: `None` in the child, their PID 1.
pub fn fork_cell() -> Result<Option<i32>, Errno> {
    fork_into(CELL_NAMESPACES.iter().fold(0, |flags, (_, flag)| flags | flag))
}

/// fork(2) into fresh user and mount namespaces: `None` in the child.
pub fn fork_base() -> Result<Option<i32>, Errno> {
    fork_into(libc::CLONE_NEWUSER | libc::CLONE_NEWNS)
}

/// fork(2) into these fresh namespaces: `None` in the child.
pub fn fork_into(namespaces: i32) -> Result<Option<i32>, Errno> {
    let flags = namespaces | libc::SIGCHLD;
    // SAFETY: without CLONE_VM and with no stack of its own it is a fork; the init has one thread.
    match check(unsafe { libc::syscall(libc::SYS_clone, i64::from(flags), 0usize, 0usize, 0usize, 0usize) })? {
        0 => Ok(None),
        pid => Ok(Some(pid as i32)),
    }
}

/// setns(2): enters the namespace of a descriptor from /proc/PID/ns.
pub fn enter_namespace(namespace: &OwnedFd) -> Result<(), Errno> {
    // SAFETY: plain numbers.
    check(i64::from(unsafe { libc::setns(namespace.as_raw_fd(), 0) })).map(drop)
}

/// A child that has exited and was reaped.
#[derive(Debug, Clone, Copy)]
pub struct ExitedChild {
    pub pid: i32,
    /// Exit status, if it exited.
    pub exited: Option<u8>,
    /// The signal that ended it, if one did.
    pub signal: Option<u8>,
    /// User time in nanoseconds, including the children that it waited for.
    pub user_ns: u64,
    /// System time in nanoseconds, including the children that it waited for.
    pub system_ns: u64,
    /// Largest resident set in bytes.
    pub max_rss: u64,
}

impl ExitedChild {
    /// User and system time, in nanoseconds.
    #[must_use]
    pub fn cpu_ns(&self) -> u64 {
        self.user_ns + self.system_ns
    }

    /// Subtracts CPU time that it used before it became the program. The kernel reports user and
    /// system time for the whole life only, so what is subtracted is split in the same proportion.
    #[must_use]
    pub fn without(self, before_ns: u64) -> ExitedChild {
        let all = self.cpu_ns();
        let left = all.saturating_sub(before_ns);
        let user = u128::from(self.user_ns) * u128::from(left) / u128::from(all.max(1));
        let user_ns = u64::try_from(user).unwrap_or(left);
        ExitedChild { user_ns, system_ns: left - user_ns, ..self }
    }
}

/// Waits for a child, as long as it takes. For the PID 1 of a cell, which has nothing else to do.
pub fn wait_one() -> Result<ExitedChild, Errno> {
    loop {
        match wait(-1, libc::__WALL) {
            Ok(Some(child)) => return Ok(child),
            Ok(None) | Err(libc::EINTR) => {}
            Err(e) => return Err(e),
        }
    }
}

/// wait4(-1, WNOHANG). Called from `reap` only. `Ok(None)`: no child has exited; ECHILD: no
/// children.
pub fn wait_any() -> Result<Option<ExitedChild>, Errno> {
    // __WALL includes children made by clone with another exit signal.
    wait(-1, libc::WNOHANG | libc::__WALL)
}

/// The same for one child.
pub fn wait_for(pid: i32) -> Result<Option<ExitedChild>, Errno> {
    wait(pid, libc::WNOHANG | libc::__WALL)
}

fn wait(pid: i32, options: i32) -> Result<Option<ExitedChild>, Errno> {
    let mut status = 0;
    // SAFETY: rusage is plain data.
    let mut usage = unsafe { std::mem::zeroed::<libc::rusage>() };
    // SAFETY: both outlive the call.
    let r = unsafe { libc::wait4(pid, &mut status, options, &mut usage) };
    let pid = match check(i64::from(r))? {
        0 => return Ok(None),
        pid => pid as i32,
    };
    Ok(Some(ExitedChild {
        pid,
        exited: libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status) as u8),
        signal: libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status) as u8),
        user_ns: ns(usage.ru_utime),
        system_ns: ns(usage.ru_stime),
        max_rss: (usage.ru_maxrss as u64) * 1024,
    }))
}

/// setsid(2): a new session.
pub fn setsid() -> Result<(), Errno> {
    // SAFETY: no arguments.
    check(i64::from(unsafe { libc::setsid() })).map(drop)
}

/// chdir(2) to a path.
pub fn chdir(path: &CStr) -> Result<(), Errno> {
    // SAFETY: a C string.
    check(i64::from(unsafe { libc::chdir(path.as_ptr()) })).map(drop)
}

/// A null-terminated array of C strings, as execve(2) takes it.
pub struct CStringArray {
    // owns what the list points to
    _strings: Vec<CString>,
    list: Vec<*const libc::c_char>,
}

impl CStringArray {
    #[must_use]
    pub fn new(strings: Vec<CString>) -> Self {
        let list = strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect();
        Self { _strings: strings, list }
    }
}

/// execve(2); returns only on failure, with the errno. Allocates nothing.
#[must_use]
pub fn exec(path: &CStr, argv: &CStringArray, env: &CStringArray) -> Errno {
    // SAFETY: null-terminated lists of C strings that outlive the call.
    unsafe { libc::execve(path.as_ptr(), argv.list.as_ptr(), env.list.as_ptr()) };
    last_errno()
}

/// How many CPUs this process may use; at least 1.
#[must_use]
pub fn cpus() -> u64 {
    let mut mask = [0u64; 128];
    // SAFETY: the buffer has the given length; the call returns the bytes it wrote.
    let r = unsafe { libc::syscall(libc::SYS_sched_getaffinity, 0, std::mem::size_of_val(&mask), mask.as_mut_ptr()) };
    let count: u32 = mask.iter().map(|word| word.count_ones()).sum();
    if r <= 0 { 1 } else { u64::from(count.max(1)) }
}
