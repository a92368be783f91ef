//! The base of a sandbox with cells: user and mount namespaces that the init enters once, and that
//! every cell is forked from. What is the same in all cells is mounted here, once.
//!
//! ```text
//!  init -- fork into new namespaces --> child: uid maps, mounts, a bound on networks
//!       <-- both namespaces, the folder of limits --'  (exits)
//!   '- enters them and gives up the capabilities that it gets there
//! ```
//!
//! * The cgroup file system is covered: its counters are those of earlier runs. A folder takes its
//!   place with the limits that runtimes size themselves by (the JVM, node), as they are for the
//!   program.
//! * The engine's files in /etc are on the host's disk, where fsync writes out the host's journal.
//!   Copies in memory cover them. In the lists of users and groups the program's own are added.
//! * /sys is a folder in memory with copies of what runtimes read. A program that opens files of
//!   the kernel's own in a loop holds up all that adds to it, as each new network namespace does.
//! * /dev is read-only: the times of its files would pass from run to run.
//! * The kernel frees a network namespace some time after its last process. The bound on their
//!   number includes those.

use super::cell::{self, CellConfig, at, bind_read_only, map, mask, or_absent, write_file};
use super::cgroup::Cgroup;
use super::run_status::{self, StatusPipe, StepError, StepResult};
use super::sys::{self, Errno};
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::libc;

/// Paths that reveal too much, the same list that engines mask, without /proc, which each cell
/// mounts anew; and pseudoterminals, which are counted for the whole machine. /dev/ptmx is mostly a
/// link to what is below /dev/pts.
const MASKED: [&CStr; 4] = [c"/sys/firmware", c"/sys/devices/virtual/powercap", c"/dev/pts", c"/dev/ptmx"];

/// Most network namespaces of a sandbox. The cells that wait or run need six of them; the kernel
/// frees those of ended cells in batches, some time later.
const MAX_NETWORKS: &[u8] = b"64";

/// The engine's files, which cells see as copies. Longer ones are cut.
const ENGINE_FILES: [(&CStr, &CStr); 3] =
    [(c"/etc/hostname", c"/tmp/hostname"), (c"/etc/hosts", c"/tmp/hosts"), (c"/etc/resolv.conf", c"/tmp/resolv.conf")];
const MAX_ENGINE_FILE_BYTES: usize = 64 * 1024;

/// The name of the programs' user and group.
const ACCOUNT: &str = "runner";

const CGROUP: &CStr = c"/sys/fs/cgroup";
const LIMITS: &CStr = c"/tmp/limits";

const SYS: &CStr = c"/sys";
const SYS_COPY: &CStr = c"/tmp/sys";

/// The files of /sys that programs see, where they exist: runtimes size themselves by the CPUs and
/// look whether there are huge pages.
const SYS_FILES: [&str; 16] = [
    "devices/system/cpu/online",
    "devices/system/cpu/offline",
    "devices/system/cpu/possible",
    "devices/system/cpu/present",
    "devices/system/cpu/kernel_max",
    "devices/system/cpu/cpu0/cache/index0/size",
    "devices/system/cpu/cpu0/cache/index1/size",
    "devices/system/cpu/cpu0/cache/index2/size",
    "devices/system/cpu/cpu0/cache/index3/size",
    "devices/system/node/online",
    "devices/system/node/possible",
    "kernel/mm/transparent_hugepage/enabled",
    "kernel/mm/transparent_hugepage/defrag",
    "kernel/mm/transparent_hugepage/shmem_enabled",
    "kernel/mm/transparent_hugepage/hpage_pmd_size",
    "kernel/mm/transparent_hugepage/use_zero_page",
];

/// The cgroup's files that programs see, where they exist: limits, no counters.
const LIMIT_FILES: [(&str, LimitFile); 16] = [
    // version 1
    ("memory/memory.limit_in_bytes", LimitFile::Memory),
    // node takes the smaller of both limits
    ("memory/memory.soft_limit_in_bytes", LimitFile::Memory),
    ("cpu/cpu.cfs_quota_us", LimitFile::Copy),
    ("cpu/cpu.cfs_period_us", LimitFile::Copy),
    ("cpu/cpu.shares", LimitFile::Copy),
    ("cpu,cpuacct/cpu.cfs_quota_us", LimitFile::Copy),
    ("cpu,cpuacct/cpu.cfs_period_us", LimitFile::Copy),
    ("cpu,cpuacct/cpu.shares", LimitFile::Copy),
    ("cpuset/cpuset.cpus", LimitFile::Copy),
    ("cpuset/cpuset.mems", LimitFile::Copy),
    // version 2
    ("cgroup.controllers", LimitFile::Copy),
    ("memory.max", LimitFile::Memory),
    ("memory.high", LimitFile::Memory),
    ("cpu.max", LimitFile::Copy),
    ("cpu.weight", LimitFile::Copy),
    ("cpuset.cpus.effective", LimitFile::Copy),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum LimitFile {
    /// The program's memory limit. The cgroup's contains the reserve for the init.
    Memory,
    /// What the cgroup says.
    Copy,
}

/// The folder of the CPUs in /sys, and how many of them programs see.
const SYS_CPUS: &str = "devices/system/cpu";
const MAX_SYS_CPUS: usize = 512;

/// The base that the init is in.
pub struct Base {
    /// The folder of limits, writable through this descriptor only.
    limits: OwnedFd,
    /// The memory limit that it shows, in bytes.
    memory_bytes: u64,
    /// The container's own mount namespace, which ends with its last user. The cgroup is read
    /// through it.
    _outside: OwnedFd,
}

impl Base {
    /// Makes the base and enters it.
    pub fn enter(config: &CellConfig, cgroup: &Cgroup) -> Result<Self, StepError> {
        let outside = sys::open(c"/proc/self/ns/mnt", libc::O_RDONLY).map_err(StepError::of("base handover"))?;
        let (control, child_control) = sys::control_socket().map_err(StepError::of("pipe"))?;
        let (reader, writer) = sys::pipe().map_err(StepError::of("pipe"))?;
        let made = match sys::fork_base().map_err(StepError::of("base namespaces"))? {
            None => {
                let mounted = mount_base(config, cgroup, &child_control);
                if let Err((step, errno)) = mounted {
                    run_status::send_failed(&writer, &StepError::new(step, errno));
                }
                sys::exit(i32::from(mounted.is_err()))
            }
            Some(_) => {
                drop((child_control, writer));
                let made = sys::recv_fds(&control, true);
                sys::wait_one().map_err(StepError::of("base wait"))?;
                made
            }
        };
        let [user, mount, limits] = made.map_err(|errno| {
            StatusPipe::new(reader).recv().failed.clone().unwrap_or_else(|| StepError::new("base", errno))
        })?;
        sys::enter_namespace(&user).map_err(StepError::of("base user namespace"))?;
        sys::enter_namespace(&mount).map_err(StepError::of("base mount namespace"))?;
        sys::bound_capabilities().map_err(StepError::of("base capabilities"))?;
        sys::drop_capabilities().map_err(StepError::of("base capabilities"))?;
        // the change of credentials resets it
        sys::not_dumpable().map_err(StepError::of("dumpable"))?;
        Ok(Self { limits, memory_bytes: 0, _outside: outside })
    }

    /// Shows programs this memory limit.
    pub fn show_memory_limit(&mut self, bytes: u64) {
        if self.memory_bytes != bytes {
            self.memory_bytes = bytes;
            for (path, kind) in LIMIT_FILES {
                if kind == LimitFile::Memory {
                    self.replace(path, format!("{bytes}\n").as_bytes());
                }
            }
        }
    }

    /// Shows programs the other limits as they are now.
    pub fn show_limits(&self, cgroup: &Cgroup) {
        for (path, kind) in LIMIT_FILES {
            if kind == LimitFile::Copy
                && let Some(content) = cgroup.content(path)
            {
                self.replace(path, &content);
            }
        }
    }

    /// Replaces the content of a file of limits that exists.
    fn replace(&self, path: &str, content: &[u8]) {
        let file = CString::new(path).map_err(|_| libc::EINVAL);
        let file = file.and_then(|path| sys::open_at(&self.limits, &path, libc::O_WRONLY, 0));
        // on failure the old value stays
        let _ = file.and_then(|file| sys::replace_content(&file, content));
    }
}

/// In the child: mounts everything, and sends the namespaces and the folder of limits.
fn mount_base(config: &CellConfig, cgroup: &Cgroup, control: &OwnedFd) -> StepResult<()> {
    at("base maps", map(config.uid, config.gid))?;
    at("base mounts", sys::mount(c"", c"/", c"", libc::MS_REC | libc::MS_PRIVATE, c""))?;
    at("base networks", or_absent(write_file(c"/proc/sys/user/max_net_namespaces", MAX_NETWORKS)))?;
    // covered at the end: what is bound elsewhere stays
    at("base files", sys::mount(c"tmpfs", c"/tmp", c"tmpfs", cell::USUAL, c"mode=755,size=1m,nr_inodes=1024"))?;
    at("base masks", sys::mkdir(c"/tmp/empty", 0o555))?;
    at("base masks", or_absent(bind_read_only(c"/tmp/empty", cell::EMPTY)))?;
    at("base limits", write_limits(cgroup))?;
    at("base /sys", cover_sys())?;
    for path in MASKED {
        let is_folder = sys::open(path, libc::O_PATH).and_then(|file| sys::stat(&file)).is_ok_and(|meta| meta.is_dir);
        at("base masks", or_absent(mask(path, is_folder)))?;
    }
    for (path, copy) in ENGINE_FILES {
        at("base files", or_absent(cover_with_copy(path, copy, b"")))?;
    }
    at("base files", or_absent(cover_accounts(config.uid, config.gid)))?;
    let limits = at("base limits", sys::open(LIMITS, libc::O_RDONLY | libc::O_DIRECTORY))?;
    at("base limits", or_absent(bind_read_only(LIMITS, CGROUP)))?;
    // programs could leave each other numbers in the times of its files
    at("base /dev", cell::remount_read_only(c"/dev", libc::MS_NOSUID))?;
    at("base /tmp", sys::mount(c"tmpfs", c"/tmp", c"tmpfs", cell::USUAL, c"mode=1777,size=64k,nr_inodes=128"))?;
    let user = at("base handover", sys::open(c"/proc/self/ns/user", libc::O_RDONLY))?;
    let mount = at("base handover", sys::open(c"/proc/self/ns/mnt", libc::O_RDONLY))?;
    at("base handover", sys::send_fds(control, 0, [&user, &mount, &limits]))
}

/// Covers a file with a read-only copy in memory, and `more` at its end.
fn cover_with_copy(path: &CStr, copy: &CStr, more: &[u8]) -> Result<(), Errno> {
    let original = sys::open(path, libc::O_RDONLY)?;
    let mut content = vec![0; MAX_ENGINE_FILE_BYTES];
    let length = sys::read_from_start(original.as_raw_fd(), &mut content)?;
    content.truncate(length);
    content.extend_from_slice(more);
    write_new(copy, &content)?;
    bind_read_only(copy, path)
}

/// Covers /sys with copies of a few of its files.
fn cover_sys() -> Result<(), Errno> {
    sys::mkdir(SYS_COPY, 0o755)?;
    // where the folder of limits is bound, one that is masked, and a cell's one network interface
    for folder in ["fs/cgroup/", "firmware/", "class/net/lo/"] {
        make_folders(SYS_COPY, folder)?;
    }
    for path in SYS_FILES {
        let below = |root: &CStr| path_below(root, path);
        let mut content = vec![0; MAX_ENGINE_FILE_BYTES];
        let original = sys::open(&below(SYS)?, libc::O_RDONLY);
        let read = original.and_then(|file| sys::read_from_start(file.as_raw_fd(), &mut content));
        // this kernel may have no such file
        let Ok(length) = read else { continue };
        make_folders(SYS_COPY, path)?;
        write_new(&below(SYS_COPY)?, content.get(..length).unwrap_or_default())?;
    }
    // the C library counts these
    let mut names = Vec::new();
    let cpus = sys::open(&path_below(SYS, SYS_CPUS)?, libc::O_RDONLY | libc::O_DIRECTORY);
    while let Ok(folder) = &cpus
        && sys::read_dir(folder, &mut names)?
    {
        let is_cpu = |name: &&str| name.strip_prefix("cpu").is_some_and(|number| number.parse::<u32>().is_ok());
        for name in names.iter().filter_map(|name| name.to_str().ok()).filter(is_cpu).take(MAX_SYS_CPUS) {
            make_folders(SYS_COPY, &format!("{SYS_CPUS}/{name}/"))?;
        }
    }
    or_absent(bind_read_only(SYS_COPY, SYS))
}

/// Makes the folders of a file below `root`.
fn make_folders(root: &CStr, file: &str) -> Result<(), Errno> {
    for (end, _) in file.match_indices('/') {
        match sys::mkdir(&path_below(root, file.get(..end).unwrap_or_default())?, 0o755) {
            Ok(()) | Err(libc::EEXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn path_below(root: &CStr, path: &str) -> Result<CString, Errno> {
    let root = root.to_str().unwrap_or_default();
    CString::new(format!("{root}/{path}")).map_err(|_| libc::EINVAL)
}

/// Covers the lists of users and groups with copies in which the program's own are named.
fn cover_accounts(uid: u32, gid: u32) -> Result<(), Errno> {
    let user = format!("{ACCOUNT}:x:{uid}:{gid}::/tmp:/bin/sh\n");
    let group = format!("{ACCOUNT}:x:{gid}:\n");
    cover_with_copy(c"/etc/passwd", c"/tmp/passwd", user.as_bytes())?;
    cover_with_copy(c"/etc/group", c"/tmp/group", group.as_bytes())
}

/// Writes the folder of limits.
fn write_limits(cgroup: &Cgroup) -> Result<(), Errno> {
    sys::mkdir(LIMITS, 0o555)?;
    for (path, _) in LIMIT_FILES {
        let Some(content) = cgroup.content(path) else { continue };
        make_folders(LIMITS, path)?;
        write_new(&path_below(LIMITS, path)?, &content)?;
    }
    Ok(())
}

/// Creates a file that everyone can read.
fn write_new(path: &CStr, content: &[u8]) -> Result<(), Errno> {
    sys::touch(path)?;
    // the mode allows its owner to write only as long as the file system does
    sys::chmod_path(path, 0o644)?;
    write_file(path, content)
}
