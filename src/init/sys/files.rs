//! Descriptors, files, folders, mounts.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::{Errno, check, own};
use nix::libc;

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

/// A descriptor survives exec again.
pub fn keep_open(fd: RawFd) -> Result<(), Errno> {
    // SAFETY: plain numbers.
    check(i64::from(unsafe { libc::fcntl(fd, libc::F_SETFD, 0) })).map(drop)
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

/// Makes an empty file.
pub fn touch(path: &CStr) -> Result<(), Errno> {
    // SAFETY: a C string.
    own(i64::from(unsafe { libc::open(path.as_ptr(), libc::O_CREAT | libc::O_EXCL | libc::O_CLOEXEC, 0o444) }))
        .map(drop)
}

/// A line between two processes of ours, for bytes and a descriptor; close-on-exec.
pub fn line() -> Result<(OwnedFd, OwnedFd), Errno> {
    socketpair(libc::SOCK_STREAM)
}

/// The same, but what is sent at once is received at once, and nothing else with it.
pub fn packets() -> Result<(OwnedFd, OwnedFd), Errno> {
    socketpair(libc::SOCK_SEQPACKET)
}

fn socketpair(kind: i32) -> Result<(OwnedFd, OwnedFd), Errno> {
    let mut fds = [0; 2];
    // SAFETY: room for two descriptors.
    check(i64::from(unsafe { libc::socketpair(libc::AF_UNIX, kind | libc::SOCK_CLOEXEC, 0, fds.as_mut_ptr()) }))?;
    Ok((own(i64::from(fds[0]))?, own(i64::from(fds[1]))?))
}

/// The most descriptors that go at once.
const MAX_SENT: usize = 9;

/// Room for one control message with [`MAX_SENT`] descriptors, aligned as cmsg(3) wants it.
#[repr(C, align(8))]
struct Control([u8; 80]);

fn with_message<T>(control: &mut Control, byte: u8, bytes: usize, call: impl FnOnce(*mut libc::msghdr) -> T) -> T {
    let mut byte = [byte];
    let mut iov = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    // SAFETY: plain data; every pointer in it outlives `call`.
    let mut message = unsafe { std::mem::zeroed::<libc::msghdr>() };
    message.msg_iov = &mut iov;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    // SAFETY: arithmetic only.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(bytes as u32) } as _;
    call(&mut message)
}

/// Sends descriptors, and a byte.
pub fn send_fds<const N: usize>(to: &OwnedFd, byte: u8, fds: [&OwnedFd; N]) -> Result<(), Errno> {
    const { assert!(N <= MAX_SENT) };
    let mut control = Control([0; 80]);
    with_message(&mut control, byte, 4 * N, |message| {
        // SAFETY: the first header lies in the buffer, which has room for it and this many descriptors.
        unsafe {
            let header = libc::CMSG_FIRSTHDR(message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(4 * N as u32) as _;
            for (at, fd) in fds.iter().enumerate() {
                libc::CMSG_DATA(header).cast::<RawFd>().add(at).write_unaligned(fd.as_raw_fd());
            }
            check(libc::sendmsg(to.as_raw_fd(), message, libc::MSG_NOSIGNAL) as i64).map(drop)
        }
    })
}

/// Takes descriptors that were sent; may wait for them.
pub fn receive_fds<const N: usize>(from: &OwnedFd, may_wait: bool) -> Result<[OwnedFd; N], Errno> {
    const { assert!(N <= MAX_SENT) };
    let mut control = Control([0; 80]);
    let flags = libc::MSG_CMSG_CLOEXEC | if may_wait { 0 } else { libc::MSG_DONTWAIT };
    with_message(&mut control, 0, 4 * N, |message| {
        // SAFETY: as in `send_fds`; a header is looked at only where the kernel says that there is one, and descriptors only
        // where it says that there are so many.
        unsafe {
            loop {
                match check(libc::recvmsg(from.as_raw_fd(), message, flags) as i64) {
                    Ok(0) => return Err(libc::EPIPE),
                    Err(libc::EINTR) => {}
                    received => {
                        received?;
                        break;
                    }
                }
            }
            let header = libc::CMSG_FIRSTHDR(message);
            if header.is_null()
                || (*header).cmsg_type != libc::SCM_RIGHTS
                || (*header).cmsg_len as usize != libc::CMSG_LEN(4 * N as u32) as usize
            {
                return Err(libc::EBADMSG);
            }
            let mut numbers = [-1; N];
            for (at, number) in numbers.iter_mut().enumerate() {
                *number = libc::CMSG_DATA(header).cast::<RawFd>().add(at).read_unaligned();
            }
            // the kernel gave them, so that none is negative
            Ok(numbers.map(|number| OwnedFd::from_raw_fd(number)))
        }
    })
}

/// Marks every descriptor from 3 on close-on-exec. Ours are anyway; ENOSYS is fine.
pub fn close_on_exec_from_3() {
    // SAFETY: plain numbers. 4 is CLOSE_RANGE_CLOEXEC.
    unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, 4u32) };
}

/// Closes every descriptor from 3 on but these.
pub fn close_from_3_but<'a>(kept: impl IntoIterator<Item = &'a OwnedFd>) {
    let first = 3;
    let mut kept: Vec<u32> = kept.into_iter().map(|fd| fd.as_raw_fd() as u32).filter(|fd| *fd >= first).collect();
    kept.sort_unstable();
    // SAFETY: for a process that uses none of the others any more and ends by `exit`, without destructors.
    let close = |from: u32, to: u32| unsafe { libc::syscall(libc::SYS_close_range, from, to, 0u32) };
    let mut next = first;
    for fd in kept {
        if fd > next {
            close(next, fd - 1);
        }
        next = fd + 1;
    }
    close(next, u32::MAX);
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

/// Everything of a folder that a program can change, but for the time of its last reading, and what is free in its file system:
/// for comparison with itself.
pub type FolderState = [u64; 13];

/// The state of an open folder.
// their widths differ from architecture to architecture
#[allow(clippy::unnecessary_cast)]
pub fn folder_state(fd: &OwnedFd) -> Result<FolderState, Errno> {
    // SAFETY: plain data that outlives the calls.
    let (s, f, attributes) = unsafe {
        let mut s = std::mem::zeroed::<libc::stat>();
        let mut f = std::mem::zeroed::<libc::statfs>();
        check(i64::from(libc::fstat(fd.as_raw_fd(), &mut s)))?;
        check(i64::from(libc::fstatfs(fd.as_raw_fd(), &mut f)))?;
        // how long the list of their names is; a file system without any says so
        (s, f, libc::flistxattr(fd.as_raw_fd(), std::ptr::null_mut(), 0).max(0))
    };
    let time = |seconds: i64, nanos: i64| [seconds as u64, nanos as u64];
    let [mtime, mtime_ns] = time(s.st_mtime, s.st_mtime_nsec);
    let [ctime, ctime_ns] = time(s.st_ctime, s.st_ctime_nsec);
    let owner = u64::from(s.st_uid) << 32 | u64::from(s.st_gid);
    let (links, size) = (s.st_nlink as u64, s.st_size as u64);
    let (dev, ino, mode) = (s.st_dev as u64, s.st_ino as u64, u64::from(s.st_mode));
    let (blocks, inodes) = (f.f_bfree as u64, f.f_ffree as u64);
    Ok([dev, ino, mode, owner, links, size, mtime, mtime_ns, ctime, ctime_ns, blocks, inodes, attributes as u64])
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
