//! Processes: fork, exec, wait, exit, and what the kernel reports about them.
#![allow(unsafe_code)]

use super::errno::{Errno, check, last_errno};
use std::ffi::{CStr, CString};

use nix::libc;

/// Resident and shared memory of a process in bytes; 0 when it does not exist.
#[must_use]
pub fn memory_of(pid: i32) -> (u64, u64) {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    // proc(5): size, resident, shared, in pages
    let mut pages = statm.split_ascii_whitespace().skip(1).map_while(|pages| pages.parse::<u64>().ok());
    let mut bytes = || pages.next().unwrap_or(0) * page_size();
    (bytes(), bytes())
}

fn page_size() -> u64 {
    // SAFETY: no pointers.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or_default()
}

/// Children of a process; none when it does not exist.
#[must_use]
pub fn children(pid: i32) -> Vec<i32> {
    let listed = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    listed.split_ascii_whitespace().filter_map(|child| child.parse().ok()).collect()
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

/// Whether a child has exited, without reaping it.
#[must_use]
pub fn has_exited(pid: i32) -> bool {
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
    /// 256 KiB: enough for a few set-up steps without recursion.
    #[must_use]
    pub fn new() -> Self {
        Self(vec![0; 256 * 1024].into_boxed_slice())
    }
}

/// A child that shares this process's memory and suspends it until the child execs or exits
/// (CLONE_VM | CLONE_VFORK). Nothing is copied, so it takes a third of the time of a fork.
/// `child` must end in `exec` or `exit`; memory that it allocates before is never freed.
pub fn fork_to_exec(stack: &mut Stack, child: &mut dyn FnMut()) -> Result<i32, Errno> {
    extern "C" fn enter(argument: *mut libc::c_void) -> libc::c_int {
        // SAFETY: the pointer to the closure's reference that is given below; its owner is stopped
        // and keeps it alive.
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
    // SAFETY: this process has one thread, which is stopped until the child has memory of its own
    // or has exited; the stack is the child's alone.
    check(i64::from(unsafe { libc::clone(enter, top, flags, argument) })).map(|pid| pid as i32)
}

/// fork(2) into fresh user, PID, mount and IPC namespaces: `None` in the child, their PID 1.
pub fn fork_cell() -> Result<Option<i32>, Errno> {
    let flags = libc::CLONE_NEWUSER | libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::SIGCHLD;
    // SAFETY: without CLONE_VM and with no stack of its own it is a fork; the init has one thread.
    match check(unsafe { libc::syscall(libc::SYS_clone, i64::from(flags), 0usize, 0usize, 0usize, 0usize) })? {
        0 => Ok(None),
        pid => Ok(Some(pid as i32)),
    }
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
        match wait(libc::__WALL) {
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
    wait(libc::WNOHANG | libc::__WALL)
}

fn wait(options: i32) -> Result<Option<ExitedChild>, Errno> {
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

/// Everything about this process's scheduling that another process of the same uid could change:
/// priority, policy, I/O priority, CPU affinity. For comparison with an earlier value.
#[must_use]
pub fn scheduling() -> [u64; 20] {
    let mut all = [0; 20];
    let [priority, policy, io_priority, _, cpus @ ..] = &mut all;
    // SAFETY: numbers, and a buffer of the given length.
    unsafe {
        *priority = libc::syscall(libc::SYS_getpriority, libc::PRIO_PROCESS, 0) as u64;
        *policy = libc::syscall(libc::SYS_sched_getscheduler, 0) as u64;
        // 1 is IOPRIO_WHO_PROCESS
        *io_priority = libc::syscall(libc::SYS_ioprio_get, 1, 0) as u64;
        libc::syscall(libc::SYS_sched_getaffinity, 0, std::mem::size_of_val(cpus), cpus.as_mut_ptr());
    }
    all
}
