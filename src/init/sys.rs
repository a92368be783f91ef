//! The system calls that the init makes, each behind a safe function.
//!
//! The only file of the init that may say `unsafe`. It decides nothing: a call, its errno. What is not here is not
//! called. Raw calls rather than wrappers where the wrapper would do more than the call (glibc's set*id talks to threads).
#![allow(unsafe_code)]

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

/// read(2), again on EINTR.
pub fn read(fd: RawFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    loop {
        // SAFETY: the buffer is ours and as long as said.
        let r = unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) };
        match check(r as i64) {
            Err(libc::EINTR) => {}
            other => return other.map(|n| n as usize),
        }
    }
}

/// pread(2) at the file's start: a fresh look at a kernel file.
pub fn read_again(fd: RawFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the buffer is ours and as long as said.
    let r = unsafe { libc::pread(fd, buffer.as_mut_ptr().cast(), buffer.len(), 0) };
    check(r as i64).map(|n| n as usize)
}

/// pread(2).
pub fn read_at(fd: &OwnedFd, buffer: &mut [u8], at: u64) -> Result<usize, Errno> {
    let at = libc::off_t::try_from(at).map_err(|_| libc::EINVAL)?;
    // SAFETY: the buffer is ours and as long as said.
    let r = unsafe { libc::pread(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), at) };
    check(r as i64).map(|n| n as usize)
}

/// write(2), again on EINTR.
pub fn write(fd: RawFd, bytes: &[u8]) -> Result<usize, Errno> {
    loop {
        // SAFETY: the buffer is as long as said.
        let r = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
        match check(r as i64) {
            Err(libc::EINTR) => {}
            other => return other.map(|n| n as usize),
        }
    }
}

/// write(2) until everything is written.
pub fn write_all(fd: RawFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match write(fd, bytes)? {
            0 => return Err(libc::EIO),
            n => bytes = bytes.get(n..).unwrap_or_default(),
        }
    }
    Ok(())
}

/// A pipe, close-on-exec, both ends blocking: (read end, write end).
pub fn pipe() -> Result<(OwnedFd, OwnedFd), Errno> {
    let mut fds = [0; 2];
    // SAFETY: room for two descriptors.
    check(i64::from(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) }))?;
    Ok((own(i64::from(fds[0]))?, own(i64::from(fds[1]))?))
}

/// Makes our end of a pipe non-blocking. The other end is another open file description and keeps its mode.
pub fn set_nonblocking(fd: &OwnedFd) -> Result<(), Errno> {
    // SAFETY: plain numbers.
    check(i64::from(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) })).map(drop)
}

/// Puts `from` at the place `to`, surviving exec.
pub fn dup_onto(from: &OwnedFd, to: RawFd) -> Result<(), Errno> {
    // SAFETY: plain numbers; called in the child only, where 0 to 2 are the program's.
    check(i64::from(unsafe { libc::dup2(from.as_raw_fd(), to) })).map(drop)
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

fn prctl(option: i32, value: u64) -> Result<(), Errno> {
    // SAFETY: the options used here take numbers only.
    check(i64::from(unsafe { libc::prctl(option, value, 0u64, 0u64, 0u64) })).map(drop)
}

/// Nobody may look into this process.
pub fn not_dumpable() -> Result<(), Errno> {
    prctl(libc::PR_SET_DUMPABLE, 0)
}

/// /proc/self belongs to us again: before the maps of a cell are written.
pub fn dumpable() -> Result<(), Errno> {
    prctl(libc::PR_SET_DUMPABLE, 1)
}

/// A filter for every system call from here on, also after exec.
pub fn install_filter(program: &[libc::sock_filter]) -> Result<(), Errno> {
    let len = u16::try_from(program.len()).map_err(|_| libc::E2BIG)?;
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel copies the program, which outlives the call, and does not write to it.
    check(i64::from(unsafe {
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, std::ptr::from_ref(&program))
    }))
    .map(drop)
}

/// No capability: effective, permitted, inheritable, ambient, bounding.
pub fn drop_capabilities() -> Result<(), Errno> {
    // capability(7): ambient ones go with the inheritable.
    let mut number = 0;
    // The kernel says EINVAL behind the last one that it knows.
    while prctl(libc::PR_CAPBSET_DROP, number).is_ok() {
        number += 1;
    }
    // capset(2): version 3, this thread; effective, permitted, inheritable, twice.
    let header = [0x2008_0522u32, 0];
    let none = [0u32; 6];
    // SAFETY: both outlive the call and have the sizes of version 3.
    check(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) }).map(drop)
}

/// mount(2). Empty strings are no strings.
pub fn mount(source: &CStr, target: &CStr, kind: &CStr, flags: u64, data: &CStr) -> Result<(), Errno> {
    let or_null = |s: &CStr| if s.is_empty() { std::ptr::null() } else { s.as_ptr() };
    // SAFETY: C strings or null, all of which mount(2) allows.
    let r = unsafe {
        libc::mount(or_null(source), target.as_ptr(), or_null(kind), flags as libc::c_ulong, or_null(data).cast())
    };
    check(i64::from(r)).map(drop)
}

/// mkdir(2).
pub fn mkdir(path: &CStr, mode: u32) -> Result<(), Errno> {
    // SAFETY: a C string.
    check(i64::from(unsafe { libc::mkdir(path.as_ptr(), mode as libc::mode_t) })).map(drop)
}

/// rmdir(2).
pub fn rmdir(path: &CStr) -> Result<(), Errno> {
    // SAFETY: a C string.
    check(i64::from(unsafe { libc::rmdir(path.as_ptr()) })).map(drop)
}

/// Makes an empty file.
pub fn touch(path: &CStr) -> Result<(), Errno> {
    // SAFETY: a C string.
    own(i64::from(unsafe { libc::open(path.as_ptr(), libc::O_CREAT | libc::O_EXCL | libc::O_CLOEXEC, 0o444) }))
        .map(drop)
}

/// Two ends for one descriptor: (sender's, receiver's), close-on-exec.
pub fn handover() -> Result<(OwnedFd, OwnedFd), Errno> {
    let mut fds = [0; 2];
    // SAFETY: room for two descriptors.
    check(i64::from(unsafe {
        libc::socketpair(
            libc::AF_UNIX,
            libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
            0,
            fds.as_mut_ptr(),
        )
    }))?;
    Ok((own(i64::from(fds[0]))?, own(i64::from(fds[1]))?))
}

/// Room for one control message with one descriptor, aligned as cmsg(3) wants it.
#[repr(C, align(8))]
struct Control([u8; 32]);

fn with_message<T>(control: &mut Control, call: impl FnOnce(*mut libc::msghdr) -> T) -> T {
    let mut byte = [0u8; 1];
    let mut iov = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    // SAFETY: plain data; every pointer in it outlives `call`.
    let mut message = unsafe { std::mem::zeroed::<libc::msghdr>() };
    message.msg_iov = &mut iov;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    // SAFETY: arithmetic only.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(4) } as _;
    call(&mut message)
}

/// Sends a descriptor.
pub fn send_fd(to: &OwnedFd, fd: &OwnedFd) -> Result<(), Errno> {
    let mut control = Control([0; 32]);
    with_message(&mut control, |message| {
        // SAFETY: the first header lies in the buffer, which has room for it and one descriptor.
        unsafe {
            let header = libc::CMSG_FIRSTHDR(message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(4) as _;
            libc::CMSG_DATA(header).cast::<RawFd>().write_unaligned(fd.as_raw_fd());
            check(libc::sendmsg(to.as_raw_fd(), message, libc::MSG_NOSIGNAL) as i64).map(drop)
        }
    })
}

/// Takes a descriptor that was sent; never waits.
pub fn receive_fd(from: &OwnedFd) -> Result<OwnedFd, Errno> {
    let mut control = Control([0; 32]);
    with_message(&mut control, |message| {
        // SAFETY: as in `send_fd`; a header is looked at only where the kernel says that there is one.
        unsafe {
            check(libc::recvmsg(from.as_raw_fd(), message, libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT) as i64)?;
            let header = libc::CMSG_FIRSTHDR(message);
            if header.is_null() || (*header).cmsg_type != libc::SCM_RIGHTS {
                return Err(libc::EBADMSG);
            }
            own(i64::from(libc::CMSG_DATA(header).cast::<RawFd>().read_unaligned()))
        }
    })
}

/// exec never gives more rights from here on.
pub fn no_new_privileges() -> Result<(), Errno> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1)
}

/// SIGKILL when the parent dies.
pub fn die_with_parent() -> Result<(), Errno> {
    prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64)
}

/// Locks what is mapped now. Never the future: beyond RLIMIT_MEMLOCK later allocations would fail.
pub fn lock_memory() {
    // SAFETY: plain numbers; best effort.
    unsafe { libc::mlockall(libc::MCL_CURRENT) };
}

/// umask(2).
pub fn umask(mask: u32) {
    // SAFETY: plain numbers.
    unsafe { libc::umask(mask as libc::mode_t) };
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

/// No supplementary groups.
pub fn drop_groups() -> Result<(), Errno> {
    // SAFETY: an empty list.
    check(unsafe { libc::syscall(libc::SYS_setgroups, 0usize, std::ptr::null::<u32>()) }).map(drop)
}

/// Real, effective and saved group.
pub fn set_gid(gid: u32) -> Result<(), Errno> {
    // SAFETY: plain numbers.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) }).map(drop)
}

/// Real, effective and saved user.
pub fn set_uid(uid: u32) -> Result<(), Errno> {
    // SAFETY: plain numbers.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(drop)
}

/// Does `work` with the program's effective ids. Only called when none of its processes is alive.
///
/// Cheaper than a helper process, and a fork bomb's remains cannot deny it. The real and saved ids stay 0, so neither
/// ptrace nor kill nor prlimit from that uid would be allowed; setfsuid would be narrower, but gVisor has none.
/// An init that cannot come back ends at once.
pub fn as_user<T>(uid: u32, gid: u32, work: impl FnOnce() -> T) -> Result<T, Errno> {
    const KEEP: u32 = u32::MAX;
    // SAFETY: plain numbers.
    let set = |uid: u32, gid: u32, group_first: bool| unsafe {
        let g = || check(libc::syscall(libc::SYS_setresgid, KEEP, gid, KEEP));
        let u = || check(libc::syscall(libc::SYS_setresuid, KEEP, uid, KEEP));
        if group_first { g().and_then(|_| u()) } else { u().and_then(|_| g()) }
    };
    let entered = set(uid, gid, true);
    let result = entered.map(|_| work());
    if set(0, 0, false).is_err() {
        kill_everyone();
        exit(70);
    }
    // A change of ids resets the flag to fs.suid_dumpable.
    let _ = not_dumpable();
    result
}

/// Sets one resource limit, clamped to the hard limit that is there. Clamping is fine, so it fails for no good reason only.
pub fn limit(resource: u32, soft: u64, hard: u64) -> Result<(), Errno> {
    let mut have = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    let resource = resource as libc::__rlimit_resource_t;
    // SAFETY: the structure outlives the calls.
    check(i64::from(unsafe { libc::getrlimit(resource, &mut have) }))?;
    let hard = hard.min(have.rlim_max);
    let want = libc::rlimit { rlim_cur: soft.min(hard), rlim_max: hard };
    // SAFETY: as above.
    check(i64::from(unsafe { libc::setrlimit(resource, &want) })).map(drop)
}

/// Marks every descriptor from 3 on close-on-exec. Ours are anyway; ENOSYS is fine.
pub fn close_on_exec_from_3() {
    // SAFETY: plain numbers. 4 is CLOSE_RANGE_CLOEXEC.
    unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, 4u32) };
}

/// Closes every descriptor but this one.
pub fn close_all_but(fd: &OwnedFd) {
    let fd = fd.as_raw_fd() as u32;
    // SAFETY: for a process that uses none of the others any more and ends by `exit`, without destructors.
    unsafe {
        if fd > 0 {
            libc::syscall(libc::SYS_close_range, 0u32, fd - 1, 0u32);
        }
        libc::syscall(libc::SYS_close_range, fd + 1, u32::MAX, 0u32);
    }
}

/// execve(2); comes back only with an errno. The pointer lists end with null (see `setup`).
#[must_use]
pub fn exec(path: &CStr, argv: &[CString], env: &[CString]) -> Errno {
    let list = |v: &[CString]| -> Vec<*const libc::c_char> {
        v.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (argv, env) = (list(argv), list(env));
    // SAFETY: null-terminated lists of C strings that outlive the call.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), env.as_ptr()) };
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

/// Opens a path the init itself chose.
pub fn open(path: &CStr, flags: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: a C string.
    own(i64::from(unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC) }))
}

/// Opens one component below `dir`, never through a symbolic link.
pub fn open_at(dir: &OwnedFd, name: &CStr, flags: i32, mode: u32) -> Result<OwnedFd, Errno> {
    // SAFETY: a C string.
    own(i64::from(unsafe {
        libc::openat(dir.as_raw_fd(), name.as_ptr(), flags | libc::O_NOFOLLOW | libc::O_CLOEXEC, mode)
    }))
}

/// What the init looks at in a file's metadata.
#[derive(Debug, Clone, Copy)]
pub struct Meta {
    /// Owner.
    pub uid: u32,
    /// Permission bits.
    pub mode: u32,
    /// Whether it is a folder.
    pub is_dir: bool,
    /// Whether it is a regular file.
    pub is_file: bool,
    /// Bytes.
    pub size: u64,
}

fn meta(s: &libc::stat) -> Meta {
    let kind = s.st_mode & libc::S_IFMT;
    Meta {
        uid: s.st_uid,
        mode: s.st_mode & 0o7777,
        is_dir: kind == libc::S_IFDIR,
        is_file: kind == libc::S_IFREG,
        size: s.st_size as u64,
    }
}

/// Metadata of an open file.
pub fn stat(fd: &OwnedFd) -> Result<Meta, Errno> {
    // SAFETY: stat is plain data and outlives the call.
    let mut s = unsafe { std::mem::zeroed::<libc::stat>() };
    // SAFETY: as above.
    check(i64::from(unsafe { libc::fstat(fd.as_raw_fd(), &mut s) }))?;
    Ok(meta(&s))
}

/// Metadata of an entry itself, not of what it points to.
pub fn stat_at(dir: &OwnedFd, name: &CStr) -> Result<Meta, Errno> {
    // SAFETY: stat is plain data and outlives the call.
    let mut s = unsafe { std::mem::zeroed::<libc::stat>() };
    // SAFETY: as above, and a C string.
    check(i64::from(unsafe { libc::fstatat(dir.as_raw_fd(), name.as_ptr(), &mut s, libc::AT_SYMLINK_NOFOLLOW) }))?;
    Ok(meta(&s))
}

/// fchmod(2).
pub fn chmod(fd: &OwnedFd, mode: u32) -> Result<(), Errno> {
    // SAFETY: plain numbers.
    check(i64::from(unsafe { libc::fchmod(fd.as_raw_fd(), mode as libc::mode_t) })).map(drop)
}

/// fchmodat(2). Follows a symbolic link: only for an entry that was just seen not to be one, with no process left that
/// could change it.
pub fn chmod_at(dir: &OwnedFd, name: &CStr, mode: u32) -> Result<(), Errno> {
    // SAFETY: a C string.
    check(i64::from(unsafe { libc::fchmodat(dir.as_raw_fd(), name.as_ptr(), mode as libc::mode_t, 0) })).map(drop)
}

/// mkdirat(2).
pub fn mkdir_at(dir: &OwnedFd, name: &CStr, mode: u32) -> Result<(), Errno> {
    // SAFETY: a C string.
    check(i64::from(unsafe { libc::mkdirat(dir.as_raw_fd(), name.as_ptr(), mode as libc::mode_t) })).map(drop)
}

/// Removes an entry: a folder (which must be empty) or anything else.
pub fn unlink_at(dir: &OwnedFd, name: &CStr, folder: bool) -> Result<(), Errno> {
    let flag = if folder { libc::AT_REMOVEDIR } else { 0 };
    // SAFETY: a C string.
    check(i64::from(unsafe { libc::unlinkat(dir.as_raw_fd(), name.as_ptr(), flag) })).map(drop)
}

/// Back to an open folder's or file's start.
pub fn rewind(fd: &OwnedFd) -> Result<(), Errno> {
    // SAFETY: plain numbers.
    check(unsafe { libc::lseek(fd.as_raw_fd(), 0, libc::SEEK_SET) }).map(drop)
}

/// Gives `length` bytes from `at` on back to the file system. Best effort.
pub fn punch_hole(fd: &OwnedFd, at: u64, length: u64) {
    // SAFETY: plain numbers.
    unsafe {
        libc::fallocate(
            fd.as_raw_fd(),
            libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
            at as libc::off_t,
            length as libc::off_t,
        )
    };
}

/// The next names of an open folder ("." and ".." left out), at most one buffer's worth; `false` at the end.
pub fn read_dir(dir: &OwnedFd, names: &mut Vec<CString>) -> Result<bool, Errno> {
    names.clear();
    let mut buffer = [0u8; 8192];
    // SAFETY: the buffer is as long as said.
    let n = check(unsafe { libc::syscall(libc::SYS_getdents64, dir.as_raw_fd(), buffer.as_mut_ptr(), buffer.len()) })?
        as usize;
    // getdents64(2): u64 ino, i64 off, u16 reclen, u8 type, name with its NUL.
    let mut rest = buffer.get(..n).unwrap_or_default();
    while let Some(&[low, high]) = rest.get(16..18) {
        let length = usize::from(u16::from_ne_bytes([low, high]));
        let Some((record, tail)) = rest.split_at_checked(length.max(19)) else {
            break;
        };
        rest = tail;
        let name = record.get(19..).unwrap_or_default();
        if let Ok(name) = CStr::from_bytes_until_nul(name)
            && name != c"."
            && name != c".."
        {
            names.push(name.to_owned());
        }
    }
    Ok(n > 0)
}
