//! A cell: one run in user, PID, mount, IPC, network and cgroup namespaces of its own, made without
//! any privilege.
//!
//! ```text
//!  init (a plain uid, no capability) in the base (`base`)
//!    '- fork into new namespaces: the cell init (`cell_init`)
//!         mount: uid maps, loopback, /tmp, /box, /dev/shm, /proc, masks    in advance
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

/// An empty folder that no process can write to; the base covers it.
pub const EMPTY: &CStr = c"/dev/mqueue";

/// Flags of every mount.
pub const USUAL: u64 = libc::MS_NOSUID | libc::MS_NODEV;

/// Files in /proc that reveal too much; the same list that engines mask. And the list of file
/// locks: while it is read, no lock can be taken on the whole machine. Other paths are masked in
/// the base.
const MASKED: [&CStr; 11] = [
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
    c"/proc/locks",
];

/// The OOM score of all processes that are or become a program: the kernel kills them first.
pub const OOM_SCORE: &[u8] = b"1000";

/// Which of [`MASKED`] there are, a bit for each.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProcMasks {
    folders: u16,
    files: u16,
}

impl ProcMasks {
    /// Looks in this process's own /proc, which has the same entries as a cell's.
    #[must_use]
    pub fn find() -> Self {
        let mut found = Self::default();
        for (path, bit) in MASKED.iter().zip((0..).map(|at| 1u16 << at)) {
            // a path that cannot be opened is not a folder
            match sys::open(path, libc::O_PATH).and_then(|file| sys::stat(&file)) {
                Ok(meta) if meta.is_dir => found.folders |= bit,
                Err(libc::ENOENT) => {}
                _ => found.files |= bit,
            }
        }
        found
    }

    fn mount(self) -> Result<(), Errno> {
        for (path, bit) in MASKED.iter().zip((0..).map(|at| 1u16 << at)) {
            if (self.folders | self.files) & bit != 0 {
                mask(path, self.files & bit == 0)?;
            }
        }
        Ok(())
    }
}

/// Ids and sizes of a sandbox's cells.
#[derive(Debug, Clone, Copy)]
pub struct CellConfig {
    /// The init's own uid, and the only one in the cell.
    pub uid: u32,
    /// The init's own gid, and the only one in the cell.
    pub gid: u32,
    pub space: Space,
    pub masks: ProcMasks,
}

/// The result of a step, with its name.
pub fn at<T>(name: &'static str, result: Result<T, Errno>) -> StepResult<T> {
    result.map_err(|errno| (name, errno))
}

/// Descriptors of a cell.
pub struct CellParts {
    /// The cell's own /box.
    pub box_folder: OwnedFd,
    /// The kernel's count of the sockets in its network namespace.
    pub sockets: OwnedFd,
    /// The container's /box with the daemon's files, which the cell's /box covers.
    pub store: OwnedFd,
}

/// Descriptors of a cell that the init keeps after the cell's end.
pub struct CellFiles {
    /// The cell's own /box.
    pub box_folder: OwnedFd,
    /// The kernel's count of its sockets. Keeps its network namespace in existence.
    pub sockets: OwnedFd,
}

/// Mounts a cell's file systems and sets its network up, from inside. Its /box is still empty.
pub fn mount(config: &CellConfig) -> StepResult<CellParts> {
    let CellConfig { uid, gid, space, masks } = *config;
    at("cell maps", map(uid, gid))?;
    at("cell network", set_network_up())?;
    // bind mounts need a source in this mount namespace
    let store = at("cell /box", sys::open(c"/box", libc::O_RDONLY | libc::O_DIRECTORY))?;
    let tmpfs = |target: &CStr, bytes: u64, mode: &str, flags: u64| {
        let options = CString::new(format!("mode={mode},size={bytes},nr_inodes={}", space.inodes));
        sys::mount(c"tmpfs", target, c"tmpfs", USUAL | flags, &options.map_err(|_| libc::EINVAL)?)
    };
    at("cell /tmp", tmpfs(c"/tmp", space.tmp_bytes, "1777", 0))?;
    at("cell /box", tmpfs(c"/box", space.box_bytes, "755", 0))?;
    at("cell /dev/shm", or_absent(tmpfs(c"/dev/shm", space.shm_bytes, "1777", 0)))?;
    at("cell /proc", sys::mount(c"proc", c"/proc", c"proc", USUAL | libc::MS_NOEXEC | libc::MS_RDONLY, c""))?;
    at("cell masks", masks.mount())?;
    let box_folder = at("cell /box", sys::open(c"/box", libc::O_RDONLY | libc::O_DIRECTORY))?;
    let sockets = at("cell sockets", sys::open(c"/proc/net/sockstat", libc::O_RDONLY))?;
    Ok(CellParts { box_folder, sockets, store })
}

/// Gives a cell pseudoterminals of its own. The base masks those of the container.
pub fn make_terminals() -> StepResult<()> {
    let options = c"newinstance,ptmxmode=0666,mode=0620,max=64";
    let mounted = sys::mount(c"devpts", c"/dev/pts", c"devpts", libc::MS_NOSUID | libc::MS_NOEXEC, options);
    at("cell terminals", or_absent(mounted))
}

/// Makes the store's files visible in a cell's /box: creates its folders and binds each of its
/// files.
pub fn bind_files(store: &OwnedFd) -> StepResult<()> {
    at("cell files", FileBinder { store }.bind_below(store, "", 0))
}

/// A path that does not exist needs nothing.
pub fn or_absent(result: Result<(), Errno>) -> Result<(), Errno> {
    match result {
        Err(libc::ENOENT) => Ok(()),
        other => other,
    }
}

/// Loopback only. A program may use every port, as engines allow it in their own networks.
fn set_network_up() -> Result<(), Errno> {
    sys::set_loopback_up()?;
    or_absent(write_file(c"/proc/sys/net/ipv4/ip_unprivileged_port_start", b"0"))
}

/// How many sockets there are in a cell's network namespace, from the descriptor that came from it.
#[must_use]
pub fn sockets_in_use(sockets: &OwnedFd) -> u64 {
    let mut buffer = [0; 1024];
    let length = sys::read_from_start(sockets.as_raw_fd(), &mut buffer).unwrap_or(0);
    let text = buffer.get(..length).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix("sockets: used ")?.trim().parse().ok()).unwrap_or(0)
}

/// Maps this uid and gid into a new user namespace, from inside.
pub fn map(uid: u32, gid: u32) -> Result<(), Errno> {
    // /proc/self belongs to root while this process is undumpable
    sys::dumpable()?;
    write_file(c"/proc/self/setgroups", b"deny")?;
    write_file(c"/proc/self/uid_map", format!("{uid} {uid} 1").as_bytes())?;
    write_file(c"/proc/self/gid_map", format!("{gid} {gid} 1").as_bytes())?;
    // inherited by the program, which cannot undo it: its /proc is read-only
    write_file(c"/proc/self/oom_score_adj", OOM_SCORE)?;
    sys::not_dumpable()
}

/// Writes to a kernel file.
pub fn write_file(path: &CStr, bytes: &[u8]) -> Result<(), Errno> {
    let file = sys::open(path, libc::O_WRONLY)?;
    sys::write_all(file.as_raw_fd(), bytes)
}

/// Binds a file or folder, read-only.
pub fn bind_read_only(source: &CStr, target: &CStr) -> Result<(), Errno> {
    sys::mount(source, target, c"", libc::MS_BIND | libc::MS_REC, c"")?;
    remount_read_only(target, USUAL)
}

/// Makes a mount read-only and gives it these flags.
pub fn remount_read_only(target: &CStr, flags: u64) -> Result<(), Errno> {
    let flags = libc::MS_BIND | libc::MS_REMOUNT | libc::MS_RDONLY | flags;
    // A remount must repeat the flags that the engine locked on the source.
    match sys::mount(c"", target, c"", flags, c"") {
        Err(libc::EPERM) => sys::mount(c"", target, c"", flags | libc::MS_NOEXEC, c""),
        other => other,
    }
}

/// Covers a folder with an empty one, a file with /dev/null.
pub fn mask(path: &CStr, is_folder: bool) -> Result<(), Errno> {
    if !is_folder {
        return sys::mount(c"/dev/null", path, c"", libc::MS_BIND, c"");
    }
    // the base's empty, read-only folder
    match sys::mount(EMPTY, path, c"", libc::MS_BIND, c"") {
        // a container without that folder
        Err(libc::ENOENT) => {
            let flags = USUAL | libc::MS_RDONLY | libc::MS_NOEXEC;
            sys::mount(c"tmpfs", path, c"tmpfs", flags, c"size=4k,nr_inodes=1")
        }
        other => other,
    }
}

/// Binds the files of the store into /box.
struct FileBinder<'a> {
    store: &'a OwnedFd,
}

impl FileBinder<'_> {
    fn bind_below(&self, folder: &OwnedFd, below: &str, depth: usize) -> Result<(), Errno> {
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

    fn bind_entry(&self, folder: &OwnedFd, name: &CStr, path: &str, depth: usize) -> Result<(), Errno> {
        let path_below = |root: &str| CString::new(format!("{root}{path}")).map_err(|_| libc::EINVAL);
        let target = path_below("/box")?;
        if sys::stat_at(folder, name)?.is_dir {
            sys::mkdir(&target, 0o755)?;
            // a mount point cannot be renamed, and with it what is below
            sys::mount(&target, &target, c"", libc::MS_BIND, c"")?;
            let inner = sys::open_at(folder, name, libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
            self.bind_below(&inner, path, depth + 1)
        } else {
            sys::touch(&target)?;
            bind_read_only(&path_below(&format!("/proc/self/fd/{}", self.store.as_raw_fd()))?, &target)
        }
    }
}

/// Whether cells can be made here: makes one and lets it exit.
pub fn trial(config: &CellConfig) -> Result<(), StepError> {
    let (reader, writer) = sys::pipe().map_err(StepError::of("pipe"))?;
    match sys::fork_cell().map_err(denied_namespace)? {
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

/// Names the first namespace that the kernel refuses, together with those before it.
fn denied_namespace(errno: Errno) -> StepError {
    let mut flags = 0;
    for (name, flag) in sys::CELL_NAMESPACES {
        flags |= flag;
        match sys::fork_into(flags) {
            Ok(None) => sys::exit(0),
            Ok(Some(_)) => drop(sys::wait_one()),
            Err(errno) => return StepError::new(name, errno),
        }
    }
    StepError::new("cell namespaces", errno)
}
