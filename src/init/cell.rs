//! A cell: one run in user, PID, mount and IPC namespaces of its own, made without any privilege.
//!
//! ```text
//!  init (a plain uid, no capability)
//!    '- fork into new namespaces: the cell init (`cell_init`)
//!         mount: uid maps, /tmp, /box, /dev/shm, /proc, masks    in advance, if there is time
//!         bind_files: the files that the daemon put              when the run arrives
//!         then the program; when the cell init exits, the kernel ends all processes, mounts,
//!         tmpfs contents and IPC objects of the run
//! ```
//!
//! Files from the daemon are in the store, which is the container's own /box. In the cell a new
//! tmpfs covers it. The store's folders are created there again, and each of its files is
//! bind-mounted read-only over an empty one. So the program can add files anywhere but change none
//! of the daemon's.
//!
//! Outside the cell the program has the init's uid, but inside it reaches nothing of the init:
//! other pids, other mounts, another user namespace, and no capability in its own. The cell init is
//! undumpable and immune to signals from inside, and its descriptors are close-on-exec.

use super::clean::MAX_DEPTH;
use super::run_status::{self, StatusPipe, StepError, StepResult};
use super::sys::{self, Errno};
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd};
use wire::frame::Space;

use nix::libc;

const USUAL: u64 = libc::MS_NOSUID | libc::MS_NODEV;
const READ_ONLY: u64 = libc::MS_BIND | libc::MS_REMOUNT | libc::MS_RDONLY | USUAL;

/// Kernel files that reveal too much; the same list that engines mask.
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

/// Kernel files that are made read-only; the same list as the engines'.
const LOCKED: [&CStr; 5] = [c"/proc/bus", c"/proc/fs", c"/proc/irq", c"/proc/sys", c"/proc/sysrq-trigger"];

/// Ids and sizes of a sandbox's cells.
#[derive(Debug, Clone, Copy)]
pub struct CellConfig {
    /// The init's own uid, and the only one in the cell.
    pub uid: u32,
    /// The init's own gid, and the only one in the cell.
    pub gid: u32,
    pub space: Space,
}

fn at<T>(name: &'static str, result: Result<T, Errno>) -> StepResult<T> {
    result.map_err(|errno| (name, errno))
}

/// The folders of a cell.
pub struct CellFolders {
    /// The cell's own /box.
    pub box_folder: OwnedFd,
    /// The container's /box with the daemon's files, which the cell's /box covers.
    pub store: OwnedFd,
}

/// Mounts a cell's file systems, from inside. Its /box is still empty.
pub fn mount(config: &CellConfig) -> StepResult<CellFolders> {
    let CellConfig { uid, gid, space } = *config;
    at("cell maps", map(uid, gid))?;
    at("cell mounts", sys::mount(c"", c"/", c"", libc::MS_REC | libc::MS_PRIVATE, c""))?;
    // bind mounts need a source in this mount namespace
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
    let box_folder = at("cell /box", sys::open(c"/box", libc::O_RDONLY | libc::O_DIRECTORY))?;
    Ok(CellFolders { box_folder, store })
}

/// Makes the store's files visible in a cell's /box: creates its folders and binds each of its
/// files. Returns the paths of the folders.
pub fn bind_files(store: &OwnedFd) -> StepResult<Vec<CString>> {
    let mut binder = FileBinder { store, folders: Vec::new() };
    at("cell files", binder.bind_below(store, "", 0))?;
    Ok(binder.folders)
}

/// A path that does not exist needs no mount.
fn or_absent(result: Result<(), Errno>) -> Result<(), Errno> {
    match result {
        Err(libc::ENOENT) => Ok(()),
        other => other,
    }
}

fn map(uid: u32, gid: u32) -> Result<(), Errno> {
    // /proc/self belongs to root while this process is undumpable
    sys::dumpable()?;
    write_file(c"/proc/self/setgroups", b"deny")?;
    write_file(c"/proc/self/uid_map", format!("{uid} {uid} 1").as_bytes())?;
    write_file(c"/proc/self/gid_map", format!("{gid} {gid} 1").as_bytes())?;
    sys::not_dumpable()
}

/// Writes to a kernel file.
pub fn write_file(path: &CStr, bytes: &[u8]) -> Result<(), Errno> {
    let file = sys::open(path, libc::O_WRONLY)?;
    sys::write_all(file.as_raw_fd(), bytes)
}

fn bind_read_only(source: &CStr, target: &CStr) -> Result<(), Errno> {
    sys::mount(source, target, c"", libc::MS_BIND | libc::MS_REC, c"")?;
    // A remount must repeat the flags that the engine locked on the source.
    match sys::mount(c"", target, c"", READ_ONLY, c"") {
        Err(libc::EPERM) => sys::mount(c"", target, c"", READ_ONLY | libc::MS_NOEXEC, c""),
        other => other,
    }
}

/// Covers a folder with an empty one, a file with /dev/null.
fn mask(path: &CStr) -> Result<(), Errno> {
    match sys::mount(c"tmpfs", path, c"tmpfs", USUAL | libc::MS_RDONLY | libc::MS_NOEXEC, c"size=4k,nr_inodes=1") {
        Err(libc::ENOTDIR) => sys::mount(c"/dev/null", path, c"", libc::MS_BIND, c""),
        other => other,
    }
}

/// Binds the files of the store into /box.
struct FileBinder<'a> {
    store: &'a OwnedFd,
    /// Paths of the folders that were created.
    folders: Vec<CString>,
}

impl FileBinder<'_> {
    fn bind_below(&mut self, folder: &OwnedFd, below: &str, depth: usize) -> Result<(), Errno> {
        if depth > MAX_DEPTH {
            return Err(libc::ELOOP);
        }
        sys::rewind(folder)?;
        let mut names = Vec::new();
        while sys::read_dir(folder, &mut names)? {
            for name in &names {
                // names that the init created: UTF-8 without NUL
                let path = format!("{below}/{}", name.to_str().map_err(|_| libc::EILSEQ)?);
                self.bind_entry(folder, name, &path, depth)?;
            }
        }
        Ok(())
    }

    fn bind_entry(&mut self, folder: &OwnedFd, name: &CStr, path: &str, depth: usize) -> Result<(), Errno> {
        let path_below = |root: &str| CString::new(format!("{root}{path}")).map_err(|_| libc::EINVAL);
        let target = path_below("/box")?;
        if sys::stat_at(folder, name)?.is_dir {
            sys::mkdir(&target, 0o755)?;
            // a mount point cannot be renamed, and with it what is below
            sys::mount(&target, &target, c"", libc::MS_BIND, c"")?;
            let inner = sys::open_at(folder, name, libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
            self.bind_below(&inner, path, depth + 1)?;
            self.folders.push(target);
            Ok(())
        } else {
            sys::touch(&target)?;
            bind_read_only(&path_below(&format!("/proc/self/fd/{}", self.store.as_raw_fd()))?, &target)
        }
    }
}

/// Whether cells can be made here: makes one and lets it exit.
pub fn trial(config: &CellConfig) -> Result<(), StepError> {
    let (reader, writer) = sys::pipe().map_err(StepError::of("pipe"))?;
    match sys::fork_cell().map_err(StepError::of("cell namespaces"))? {
        None => {
            let mounted = mount(config);
            if let Err((step, errno)) = mounted {
                run_status::send_failed(&writer, &StepError::new(step, errno));
            }
            sys::exit(i32::from(mounted.is_err()))
        }
        Some(_) => {
            drop(writer);
            let child = sys::wait_one().map_err(StepError::of("cell wait"))?;
            match StatusPipe::new(reader).recv().failed.clone() {
                Some(failed) => Err(failed),
                None if child.exited == Some(0) => Ok(()),
                None => Err(StepError::new("cell", libc::ECHILD)),
            }
        }
    }
}
