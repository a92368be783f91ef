//! Descriptors, files, folders, mounts and sockets.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::errno::{Errno, check, own};
use nix::libc;

/// read(2), retried on EINTR.
pub fn read(fd: RawFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    loop {
        // SAFETY: the buffer is ours and has the given length.
        let r = unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) };
        match check(r as i64) {
            Err(libc::EINTR) => {}
            other => return other.map(|n| n as usize),
        }
    }
}

/// The content of a kernel file; empty if it cannot be read. The kernel makes most of them in one
/// piece, so a large buffer saves calls.
#[must_use]
pub fn read_text(path: &str) -> String {
    const PIECE_BYTES: usize = 4096;
    let mut content = Vec::with_capacity(PIECE_BYTES);
    let Some(file) = CString::new(path).ok().and_then(|path| open(&path, libc::O_RDONLY).ok()) else {
        return String::new();
    };
    let mut piece = [0; PIECE_BYTES];
    while let Ok(n @ 1..) = read(file.as_raw_fd(), &mut piece) {
        content.extend_from_slice(piece.get(..n).unwrap_or_default());
    }
    String::from_utf8_lossy(&content).into_owned()
}

/// pread(2) at offset 0: the current content of a kernel file.
pub fn read_from_start(fd: RawFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the buffer is ours and has the given length.
    let r = unsafe { libc::pread(fd, buffer.as_mut_ptr().cast(), buffer.len(), 0) };
    check(r as i64).map(|n| n as usize)
}

/// pread(2) at a byte offset.
pub fn read_at(fd: &OwnedFd, buffer: &mut [u8], at: u64) -> Result<usize, Errno> {
    let at = libc::off_t::try_from(at).map_err(|_| libc::EINVAL)?;
    // SAFETY: the buffer is ours and has the given length.
    let r = unsafe { libc::pread(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), at) };
    check(r as i64).map(|n| n as usize)
}

/// write(2), retried on EINTR.
pub fn write(fd: RawFd, bytes: &[u8]) -> Result<usize, Errno> {
    loop {
        // SAFETY: the buffer has the given length.
        let r = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
        match check(r as i64) {
            Err(libc::EINTR) => {}
            other => return other.map(|n| n as usize),
        }
    }
}

/// write(2), repeated until all bytes are written.
pub fn write_all(fd: RawFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match write(fd, bytes)? {
            0 => return Err(libc::EIO),
            n => bytes = bytes.get(n..).unwrap_or_default(),
        }
    }
    Ok(())
}

/// Replaces the content of an open file.
pub fn replace_content(file: &OwnedFd, bytes: &[u8]) -> Result<(), Errno> {
    // SAFETY: the buffer has the given length.
    let r = unsafe { libc::pwrite(file.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
    check(r as i64)?;
    // SAFETY: plain numbers.
    check(i64::from(unsafe { libc::ftruncate(file.as_raw_fd(), bytes.len() as libc::off_t) })).map(drop)
}

/// A pipe, close-on-exec, both ends blocking: (read end, write end).
pub fn pipe() -> Result<(OwnedFd, OwnedFd), Errno> {
    let mut fds = [0; 2];
    // SAFETY: room for two descriptors.
    check(i64::from(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) }))?;
    Ok((own(i64::from(fds[0]))?, own(i64::from(fds[1]))?))
}

/// Gives a pipe room for this many bytes. Fails if its user has too many large ones.
pub fn set_pipe_size(fd: &OwnedFd, bytes: i32) -> Result<(), Errno> {
    // SAFETY: plain numbers.
    check(i64::from(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETPIPE_SZ, bytes) })).map(drop)
}

/// Makes one end of a pipe non-blocking. The other end is a different open file description and
/// keeps its mode.
pub fn set_nonblocking(fd: &OwnedFd) -> Result<(), Errno> {
    // SAFETY: plain numbers.
    check(i64::from(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) })).map(drop)
}

/// dup2(2): makes `to` a copy of `from` that stays open across exec.
pub fn dup_onto(from: &OwnedFd, to: RawFd) -> Result<(), Errno> {
    // SAFETY: plain numbers; replaces only descriptors that the caller does not own elsewhere.
    check(i64::from(unsafe { libc::dup2(from.as_raw_fd(), to) })).map(drop)
}

/// Clears close-on-exec of a descriptor.
pub fn keep_open(fd: RawFd) -> Result<(), Errno> {
    // SAFETY: plain numbers.
    check(i64::from(unsafe { libc::fcntl(fd, libc::F_SETFD, 0) })).map(drop)
}

/// mount(2). Empty strings are passed as null.
pub fn mount(source: &CStr, target: &CStr, kind: &CStr, flags: u64, data: &CStr) -> Result<(), Errno> {
    let or_null = |s: &CStr| if s.is_empty() { std::ptr::null() } else { s.as_ptr() };
    // SAFETY: C strings or null, all of which mount(2) allows.
    let r = unsafe {
        libc::mount(or_null(source), target.as_ptr(), or_null(kind), flags as libc::c_ulong, or_null(data).cast())
    };
    check(i64::from(r)).map(drop)
}

/// mkdir(2) of a path.
pub fn mkdir(path: &CStr, mode: u32) -> Result<(), Errno> {
    // SAFETY: a C string.
    check(i64::from(unsafe { libc::mkdir(path.as_ptr(), mode as libc::mode_t) })).map(drop)
}

/// Creates an empty file; fails if it exists.
pub fn touch(path: &CStr) -> Result<(), Errno> {
    // SAFETY: a C string.
    own(i64::from(unsafe { libc::open(path.as_ptr(), libc::O_CREAT | libc::O_EXCL | libc::O_CLOEXEC, 0o444) }))
        .map(drop)
}

/// A stream socket pair between two of our processes, for bytes and descriptors; close-on-exec.
pub fn control_socket() -> Result<(OwnedFd, OwnedFd), Errno> {
    socketpair(libc::SOCK_STREAM)
}

/// A packet socket pair: each message is received as it was sent.
pub fn packet_socket() -> Result<(OwnedFd, OwnedFd), Errno> {
    socketpair(libc::SOCK_SEQPACKET)
}

fn socketpair(kind: i32) -> Result<(OwnedFd, OwnedFd), Errno> {
    let mut fds = [0; 2];
    // SAFETY: room for two descriptors.
    check(i64::from(unsafe { libc::socketpair(libc::AF_UNIX, kind | libc::SOCK_CLOEXEC, 0, fds.as_mut_ptr()) }))?;
    Ok((own(i64::from(fds[0]))?, own(i64::from(fds[1]))?))
}

/// Most descriptors in one message.
const MAX_SENT: usize = 11;

/// Buffer for one control message with [`MAX_SENT`] descriptors, aligned as cmsg(3) requires.
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

/// Sends descriptors and one byte.
pub fn send_fds<const N: usize>(to: &OwnedFd, byte: u8, fds: [&OwnedFd; N]) -> Result<(), Errno> {
    const { assert!(N <= MAX_SENT) };
    let mut control = Control([0; 80]);
    with_message(&mut control, byte, 4 * N, |message| {
        // SAFETY: the first header lies in the buffer, which has room for it and this many
        // descriptors.
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

/// Receives exactly `N` descriptors; EAGAIN if there are none and it may not wait.
pub fn recv_fds<const N: usize>(from: &OwnedFd, may_wait: bool) -> Result<[OwnedFd; N], Errno> {
    const { assert!(N <= MAX_SENT) };
    let mut control = Control([0; 80]);
    let flags = libc::MSG_CMSG_CLOEXEC | if may_wait { 0 } else { libc::MSG_DONTWAIT };
    with_message(&mut control, 0, 4 * N, |message| {
        // SAFETY: as in `send_fds`; a header is read only if the kernel reports one, and
        // descriptors only if it reports this many.
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
            // the kernel installed them, so none is negative
            Ok(numbers.map(|number| OwnedFd::from_raw_fd(number)))
        }
    })
}

/// Takes a short message from a packet socket, if there is one.
pub fn recv_message(from: &OwnedFd) -> Option<String> {
    let mut buffer = [0u8; 64];
    // SAFETY: the buffer has the given length.
    let r = unsafe { libc::recv(from.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT) };
    let message = buffer.get(..usize::try_from(r).ok()?)?;
    (!message.is_empty()).then(|| String::from_utf8_lossy(message).into_owned())
}

/// Sets the loopback interface of this process's network namespace up.
pub fn set_loopback_up() -> Result<(), Errno> {
    // SAFETY: plain numbers.
    let socket = own(i64::from(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) }))?;
    // SAFETY: plain data.
    let mut request = unsafe { std::mem::zeroed::<libc::ifreq>() };
    for (place, byte) in request.ifr_name.iter_mut().zip(*b"lo") {
        *place = byte as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: the request outlives the call.
    check(i64::from(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &request) })).map(drop)
}

/// Marks every descriptor from 3 on close-on-exec. Ours are already, so ENOSYS is harmless.
pub fn close_on_exec_from_3() {
    // SAFETY: plain numbers. 4 is CLOSE_RANGE_CLOEXEC.
    unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, 4u32) };
}

/// Closes every descriptor from 3 on except these.
pub fn close_from_3_except<'a>(kept: impl IntoIterator<Item = &'a OwnedFd>) {
    let first = 3;
    let mut kept: Vec<u32> = kept.into_iter().map(|fd| fd.as_raw_fd() as u32).filter(|fd| *fd >= first).collect();
    kept.sort_unstable();
    // SAFETY: for a process that uses none of the others any more and ends by `exit`, without
    // destructors.
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

/// Opens a path that the init itself chose.
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

/// The part of a file's metadata that the init uses.
#[derive(Debug, Clone, Copy)]
pub struct FileMeta {
    /// Uid of the owner.
    pub uid: u32,
    /// Permission bits, `& 0o7777`.
    pub mode: u32,
    pub is_dir: bool,
    /// Whether it is a regular file.
    pub is_file: bool,
    /// Size in bytes.
    pub size: u64,
}

fn meta(s: &libc::stat) -> FileMeta {
    let kind = s.st_mode & libc::S_IFMT;
    FileMeta {
        uid: s.st_uid,
        mode: s.st_mode & 0o7777,
        is_dir: kind == libc::S_IFDIR,
        is_file: kind == libc::S_IFREG,
        size: s.st_size as u64,
    }
}

/// fstat(2) of an open file.
pub fn stat(fd: &OwnedFd) -> Result<FileMeta, Errno> {
    // SAFETY: stat is plain data and outlives the call.
    let mut s = unsafe { std::mem::zeroed::<libc::stat>() };
    // SAFETY: as above.
    check(i64::from(unsafe { libc::fstat(fd.as_raw_fd(), &mut s) }))?;
    Ok(meta(&s))
}

/// Metadata of a folder entry itself, not of what a link points to.
pub fn stat_at(dir: &OwnedFd, name: &CStr) -> Result<FileMeta, Errno> {
    // SAFETY: stat is plain data and outlives the call.
    let mut s = unsafe { std::mem::zeroed::<libc::stat>() };
    // SAFETY: as above, and a C string.
    check(i64::from(unsafe { libc::fstatat(dir.as_raw_fd(), name.as_ptr(), &mut s, libc::AT_SYMLINK_NOFOLLOW) }))?;
    Ok(meta(&s))
}

/// Bytes in use in the file system of an open folder; 0 if that cannot be read.
#[allow(clippy::unnecessary_cast)] // field widths differ between architectures
pub fn used_bytes(fd: &OwnedFd) -> u64 {
    // SAFETY: plain data that outlives the call.
    let mut f = unsafe { std::mem::zeroed::<libc::statfs>() };
    // SAFETY: as above.
    match check(i64::from(unsafe { libc::fstatfs(fd.as_raw_fd(), &mut f) })) {
        Ok(_) => (f.f_blocks as u64).saturating_sub(f.f_bfree as u64) * f.f_bsize as u64,
        Err(_) => 0,
    }
}

/// fchmod(2) of an open file.
pub fn chmod(fd: &OwnedFd, mode: u32) -> Result<(), Errno> {
    // SAFETY: plain numbers.
    check(i64::from(unsafe { libc::fchmod(fd.as_raw_fd(), mode as libc::mode_t) })).map(drop)
}

/// chmod(2) of a path that the init itself chose.
pub fn chmod_path(path: &CStr, mode: u32) -> Result<(), Errno> {
    // SAFETY: a C string.
    check(i64::from(unsafe { libc::chmod(path.as_ptr(), mode as libc::mode_t) })).map(drop)
}

/// fchmodat(2). Follows a symbolic link, so use it only for an entry that was just checked not to
/// be one, when no process is left that could change it.
pub fn chmod_at(dir: &OwnedFd, name: &CStr, mode: u32) -> Result<(), Errno> {
    // SAFETY: a C string.
    check(i64::from(unsafe { libc::fchmodat(dir.as_raw_fd(), name.as_ptr(), mode as libc::mode_t, 0) })).map(drop)
}

/// mkdirat(2) below an open folder.
pub fn mkdir_at(dir: &OwnedFd, name: &CStr, mode: u32) -> Result<(), Errno> {
    // SAFETY: a C string.
    check(i64::from(unsafe { libc::mkdirat(dir.as_raw_fd(), name.as_ptr(), mode as libc::mode_t) })).map(drop)
}

/// Removes a folder entry: an empty folder, or anything that is not a folder.
pub fn unlink_at(dir: &OwnedFd, name: &CStr, folder: bool) -> Result<(), Errno> {
    let flag = if folder { libc::AT_REMOVEDIR } else { 0 };
    // SAFETY: a C string.
    check(i64::from(unsafe { libc::unlinkat(dir.as_raw_fd(), name.as_ptr(), flag) })).map(drop)
}

/// Seeks to the start of an open folder or file.
pub fn rewind(fd: &OwnedFd) -> Result<(), Errno> {
    // SAFETY: plain numbers.
    check(unsafe { libc::lseek(fd.as_raw_fd(), 0, libc::SEEK_SET) }).map(drop)
}

/// Frees `length` bytes from offset `at` on in the file system. Best effort.
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

/// Reads the next names of an open folder (without "." and ".."), at most one buffer of 8 KiB.
/// Returns false at the end.
pub fn read_dir(dir: &OwnedFd, names: &mut Vec<CString>) -> Result<bool, Errno> {
    names.clear();
    let mut buffer = [0u8; 8192];
    // SAFETY: the buffer has the given length.
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
