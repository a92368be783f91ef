//! A cell: one run in user, pid, mount and ipc namespaces of its own, made without any privilege.
//!
//! ```text
//!  init (a plain uid, no capability)
//!    '- fork into new namespaces: the cell's PID 1 (`leader`)
//!         furnish: maps -> mounts (/tmp, /box, /dev/shm, /proc, masks)      ahead of its run, where there is time
//!         mirror: the files that the host put                              when the run is due
//!         then the program; and with the PID 1's end, that of every process, mount, tmpfs and IPC object of the run
//! ```
//!
//! What the host put stands in the store (the container's own /box). In the cell the store is covered by a fresh tmpfs, with
//! the store's folders made anew and each of its files bound over an empty one, read-only. So the program can add files
//! wherever it likes and can change none that was given.
//!
//! The program has the init's own uid outside, but sees nothing of it: other pids, other mounts, another user namespace, and
//! no capability in its own. The cell's PID 1 is ours, too: undumpable, immune to signals from inside, all descriptors
//! close-on-exec.

use super::clean::MAX_DEPTH;
use super::report::{self, Failed, Report};
use super::sys::{self, Errno};
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd};
use wire::frame::Space;

use nix::libc;

/// A step that failed: its name and errno.
pub type Step<T> = Result<T, (&'static str, Errno)>;

const USUAL: u64 = libc::MS_NOSUID | libc::MS_NODEV;
const READ_ONLY: u64 = libc::MS_BIND | libc::MS_REMOUNT | libc::MS_RDONLY | USUAL;

/// Kernel files that say too much, as the engines mask them.
const MASKED: [&CStr; 13] = [
    c"/proc/asound",
    c"/proc/acpi",
    c"/proc/interrupts",
    c"/proc/kcore",
    c"/proc/keys",
    c"/proc/latency_stats",
    c"/proc/timer_list",
    c"/proc/timer_stats",
    c"/proc/sched_debug",
    c"/proc/scsi",
    c"/sys/firmware",
    c"/sys/devices/virtual/powercap",
    c"/dev/mqueue",
];

/// Kernel files that nobody may write, as the engines have them.
const LOCKED: [&CStr; 5] = [c"/proc/bus", c"/proc/fs", c"/proc/irq", c"/proc/sys", c"/proc/sysrq-trigger"];

/// Who the program is and what room it gets.
#[derive(Debug, Clone, Copy)]
pub struct Tenant {
    /// The init's own uid, and the only one in the cell.
    pub uid: u32,
    /// The same for the group.
    pub gid: u32,
    /// Room.
    pub space: Space,
}

fn at<T>(name: &'static str, result: Result<T, Errno>) -> Step<T> {
    result.map_err(|errno| (name, errno))
}

/// A cell's view of files.
pub struct World {
    /// Its /box.
    pub folder: OwnedFd,
    /// What the host put, which the cell's /box covers.
    pub store: OwnedFd,
}

/// Makes the world of a cell, from inside. Its /box is empty yet.
pub fn furnish(tenant: &Tenant) -> Step<World> {
    let Tenant { uid, gid, space } = *tenant;
    at("cell maps", map(uid, gid))?;
    at("cell mounts", sys::mount(c"", c"/", c"", libc::MS_REC | libc::MS_PRIVATE, c""))?;
    // only a mount of this namespace can be bound from
    let store = at("cell /box", sys::open(c"/box", libc::O_RDONLY | libc::O_DIRECTORY))?;
    let tmpfs = |target: &CStr, bytes: u64, mode: &str, flags: u64| {
        let options = CString::new(format!("mode={mode},size={bytes},nr_inodes={}", space.inodes));
        sys::mount(c"tmpfs", target, c"tmpfs", USUAL | flags, &options.map_err(|_| libc::EINVAL)?)
    };
    at("cell /tmp", tmpfs(c"/tmp", space.tmp_bytes, "1777", 0))?;
    at("cell /box", tmpfs(c"/box", space.box_bytes, "755", 0))?;
    at("cell /dev/shm", or_absent(tmpfs(c"/dev/shm", space.shm_bytes, "1777", 0)))?;
    at("cell /proc", sys::mount(c"proc", c"/proc", c"proc", USUAL | libc::MS_NOEXEC, c""))?;
    for path in MASKED {
        at("cell masks", or_absent(mask(path)))?;
    }
    for path in LOCKED {
        at("cell masks", or_absent(bind_read_only(path, path)))?;
    }
    let folder = at("cell /box", sys::open(c"/box", libc::O_RDONLY | libc::O_DIRECTORY))?;
    Ok(World { folder, store })
}

/// Puts the store's files into a cell's /box: its folders made anew, each of its files bound. Gives the folders.
pub fn mirror(store: &OwnedFd) -> Step<Vec<CString>> {
    let mut folders = Vec::new();
    at("cell files", mirror_below(store, store, "", 0, &mut folders))?;
    Ok(folders)
}

/// What is not there needs no covering.
fn or_absent(result: Result<(), Errno>) -> Result<(), Errno> {
    match result {
        Err(libc::ENOENT) => Ok(()),
        other => other,
    }
}

fn map(uid: u32, gid: u32) -> Result<(), Errno> {
    // /proc/self belongs to root while we are not dumpable
    sys::dumpable()?;
    write_file(c"/proc/self/setgroups", b"deny")?;
    write_file(c"/proc/self/uid_map", format!("{uid} {uid} 1").as_bytes())?;
    write_file(c"/proc/self/gid_map", format!("{gid} {gid} 1").as_bytes())?;
    sys::not_dumpable()
}

/// Writes a kernel file.
pub fn write_file(path: &CStr, bytes: &[u8]) -> Result<(), Errno> {
    let file = sys::open(path, libc::O_WRONLY)?;
    sys::write_all(file.as_raw_fd(), bytes)
}

fn bind_read_only(source: &CStr, target: &CStr) -> Result<(), Errno> {
    sys::mount(source, target, c"", libc::MS_BIND | libc::MS_REC, c"")?;
    // a bind keeps what its source had; what the engine locked must be said again
    match sys::mount(c"", target, c"", READ_ONLY, c"") {
        Err(libc::EPERM) => sys::mount(c"", target, c"", READ_ONLY | libc::MS_NOEXEC, c""),
        other => other,
    }
}

/// Nothing where a file says too much, an empty folder where a folder does.
fn mask(path: &CStr) -> Result<(), Errno> {
    match sys::mount(c"tmpfs", path, c"tmpfs", USUAL | libc::MS_RDONLY | libc::MS_NOEXEC, c"size=4k,nr_inodes=1") {
        Err(libc::ENOTDIR) => sys::mount(c"/dev/null", path, c"", libc::MS_BIND, c""),
        other => other,
    }
}

fn mirror_below(
    store: &OwnedFd,
    folder: &OwnedFd,
    below: &str,
    depth: usize,
    folders: &mut Vec<CString>,
) -> Result<(), Errno> {
    if depth > MAX_DEPTH {
        return Err(libc::ELOOP);
    }
    sys::rewind(folder)?;
    let mut names = Vec::new();
    while sys::read_dir(folder, &mut names)? {
        for name in &names {
            // the init's own names: text without a NUL
            let path = format!("{below}/{}", name.to_str().map_err(|_| libc::EILSEQ)?);
            let path_at = |root: &str| CString::new(format!("{root}{path}")).map_err(|_| libc::EINVAL);
            let target = path_at("/box")?;
            if sys::stat_at(folder, name)?.is_dir {
                sys::mkdir(&target, 0o755)?;
                // a mount point cannot be renamed away from what stands below it
                sys::mount(&target, &target, c"", libc::MS_BIND, c"")?;
                let inner = sys::open_at(folder, name, libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
                mirror_below(store, &inner, &path, depth + 1, folders)?;
                folders.push(target);
            } else {
                sys::touch(&target)?;
                bind_read_only(&path_at(&format!("/proc/self/fd/{}", store.as_raw_fd()))?, &target)?;
            }
        }
    }
    Ok(())
}

/// Whether cells can be made here: makes one and lets it go.
pub fn trial(tenant: &Tenant) -> Result<(), Failed> {
    let failed = |step: &'static str| move |errno| Failed::new(step, errno);
    let (heard, said) = sys::pipe().map_err(failed("pipe"))?;
    match sys::fork_cell().map_err(failed("cell namespaces"))? {
        None => {
            let end = furnish(tenant);
            if let Err((step, errno)) = end {
                report::say_failed(&said, &Failed::new(step, errno));
            }
            sys::exit(i32::from(end.is_err()))
        }
        Some(_) => {
            drop(said);
            let status = sys::wait_one().map_err(failed("cell wait"))?;
            match Report::new(heard).hear().failed.clone() {
                Some(failed) => Err(failed),
                None if status.exited == Some(0) => Ok(()),
                None => Err(Failed::new("cell", libc::ECHILD)),
            }
        }
    }
}
