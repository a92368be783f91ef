//! Builds the specification of a sandbox's container.

use std::collections::BTreeMap;

use docker::{ContainerSpec, HostConfig, LogConfig, Ulimit};
use protocol::{Ceilings, Isolation, Limits};

/// Label: the owner of a container, as the instance's name and random id.
pub const LABEL_INSTANCE: &str = "assay.instance";
/// Label: the profile that the sandbox serves.
pub const LABEL_PROFILE: &str = "assay.profile";
/// Label: the sandbox's slot, which determines its uid.
pub const LABEL_SLOT: &str = "assay.slot";
/// Label: the isolation of the sandbox's runs.
pub const LABEL_ISOLATION: &str = "assay.isolation";

/// Path of the init in the layered image.
pub const INIT_PATH: &str = "/.assay/init";

/// User of the init in `split` sandboxes.
pub(super) const ROOT: &str = "0:0";

/// Capabilities of the init in `split` sandboxes, with their numbers (capabilities(7)). Programs
/// never have them.
pub(super) const SPLIT_CAPS: [(&str, u32); 3] = [("SETUID", 7), ("SETGID", 6), ("KILL", 5)];

/// [`SPLIT_CAPS`] as a mask, as in `/proc/PID/status`.
pub const SPLIT_CAPS_MASK: u64 = 1 << SPLIT_CAPS[0].1 | 1 << SPLIT_CAPS[1].1 | 1 << SPLIT_CAPS[2].1;

/// Container memory beyond the program's limit: the init (about 1 MiB, locked), page tables, and
/// kernel memory of the sandbox itself.
pub const MEMORY_RESERVE_BYTES: u64 = 8 * 1024 * 1024;

/// Container processes beyond the program's limit. The init fills what it does not use of them, so
/// that the container's limit is the program's, and the kernel counts what it denies.
pub const PIDS_RESERVE: u32 = wire::frame::OWN_PIDS;

/// Memory and processes of an OCI runtime with a kernel of its own (gVisor's sentry). Chosen
/// generously, not measured: with these values the Python tests pass under runsc.
const RUNTIME_MEMORY_BYTES: u64 = 96 * 1024 * 1024;
const RUNTIME_PIDS: u32 = 512;

/// Memory of a template runtime, from which programs are forked. Pages that a program shares with
/// it are charged to one of the two only. Measured for a sandbox with one template (`scripts/bench
/// hot`): 4.4 MiB for Python, 18 MiB with numpy.
const TEMPLATE_MEMORY_BYTES: u64 = 12 * 1024 * 1024;
/// What is added to it if it has loaded modules.
const LOADED_MEMORY_BYTES: u64 = 32 * 1024 * 1024;

/// What a container's memory depends on besides the program's limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryOverheads {
    /// An OCI runtime with a kernel of its own.
    pub runtime: bool,
    /// A template runtime, from which programs are forked.
    pub template: bool,
    /// A template runtime that has loaded modules.
    pub loaded: bool,
    /// Memory of the compile step, which may be more than the program's; 0 without one. The init
    /// keeps each program to its own limit.
    pub compile_bytes: u64,
}

impl MemoryOverheads {
    fn memory_bytes(self) -> u64 {
        let bytes_if = |present: bool, bytes: u64| if present { bytes } else { 0 };
        bytes_if(self.runtime, RUNTIME_MEMORY_BYTES)
            + bytes_if(self.template, TEMPLATE_MEMORY_BYTES)
            + bytes_if(self.template && self.loaded, LOADED_MEMORY_BYTES)
    }
}

/// Inodes of each tmpfs. They use kernel memory, so they have a limit of their own.
pub const TMPFS_INODES: u32 = 32 * 1024;

/// Size of /dev/shm, which Python's multiprocessing needs. It is counted as memory and audited.
pub const SHM_BYTES: u64 = 16 * 1024 * 1024;

/// The seccomp profile of containers with cells: what an unprivileged init needs to make a cell,
/// and what programs may be allowed. The init adds a stricter filter for each program.
pub const CELL_SECCOMP: &str = include_str!("../../../config/seccomp/cell.json");

/// Upper bound on any container's memory.
pub(super) const MAX_MEMORY_BYTES: u64 =
    Ceilings::MEMORY_BYTES + MEMORY_RESERVE_BYTES + TEMPLATE_MEMORY_BYTES + LOADED_MEMORY_BYTES;
/// Upper bound on any container's processes.
pub(super) const MAX_PIDS: u32 = Ceilings::PIDS + PIDS_RESERVE;

/// The properties of a sandbox that its container's specification depends on.
#[derive(Debug, Clone)]
pub struct SandboxPlan {
    /// The id of the layered image (`sha256:...`).
    pub image_id: String,
    /// The instance's name and random id.
    pub instance: String,
    /// The profile's name.
    pub profile: String,
    /// The slot's number.
    pub slot: u32,
    /// Uid and gid of the program; in cells also of the init.
    pub uid: u32,
    pub isolation: Isolation,
    /// The OCI runtime; `None` for the engine's default.
    pub runtime: Option<String>,
    /// The AppArmor profile for cells, where the engine's default would forbid their mounts.
    pub apparmor: Option<String>,
    /// Memory, CPU share and processes of the program.
    pub limits: Limits,
    pub overheads: MemoryOverheads,
    /// Send `NetworkDisabled: true`. Halves the start time with runc; gVisor fails to start with
    /// it, so leave it false for other runtimes.
    pub network_disabled: bool,
}

impl SandboxPlan {
    /// The container's memory limit in bytes.
    pub fn container_memory(limits: &Limits, overheads: MemoryOverheads) -> u64 {
        let program = limits.memory_bytes.max(overheads.compile_bytes);
        (program + MEMORY_RESERVE_BYTES + overheads.memory_bytes()).min(MAX_MEMORY_BYTES)
    }

    /// Size of the tmpfs at /box in bytes. Together with [`SandboxPlan::tmp_bytes`] it does not
    /// exceed the program's limit: files alone can never use up the init's reserve.
    pub fn box_bytes(limits: &Limits) -> u64 {
        limits.memory_bytes / 4 * 3
    }

    /// Size of the tmpfs at /tmp in bytes.
    pub fn tmp_bytes(limits: &Limits) -> u64 {
        limits.memory_bytes / 4
    }

    /// The container's process limit.
    pub fn container_pids(limits: &Limits, overheads: MemoryOverheads) -> u32 {
        let runtime = if overheads.runtime { RUNTIME_PIDS } else { 0 };
        (limits.pids + PIDS_RESERVE + runtime).min(MAX_PIDS)
    }

    /// The CPU share in units of 1e-9 CPU.
    pub fn nano_cpus(limits: &Limits) -> u64 {
        (limits.cpus * 1e9).round() as u64
    }
}

/// Builds the specification. It still has to be approved.
pub fn build(plan: &SandboxPlan) -> ContainerSpec {
    let memory = SandboxPlan::container_memory(&plan.limits, plan.overheads) as i64;
    let cell = plan.isolation == Isolation::Cell;
    // With cells, each cell covers /tmp with a tmpfs of its own. Old versions of runc ignore mode=
    // where the folder exists, but not uid=.
    let tmp_bytes = if cell { 64 * 1024 } else { SandboxPlan::tmp_bytes(&plan.limits) };
    let owner = if cell { format!(",uid={0},gid={0}", plan.uid) } else { String::new() };
    let folder = |bytes: u64| format!("rw,exec,nosuid,nodev,mode=1777,size={bytes},nr_inodes={TMPFS_INODES}{owner}");
    let tmpfs = BTreeMap::from([
        ("/box".to_owned(), folder(SandboxPlan::box_bytes(&plan.limits))),
        ("/tmp".to_owned(), folder(tmp_bytes)),
    ]);
    let mut security_opt = vec!["no-new-privileges".to_owned()];
    if cell {
        security_opt.push(format!("seccomp={CELL_SECCOMP}"));
        security_opt.extend(plan.apparmor.iter().map(|name| format!("apparmor={name}")));
    }
    // The kernel allows a cell to mount its own /proc only if the container's /proc has no masks.
    // The cell masks the same paths again.
    let unmasked = cell.then(Vec::new);
    ContainerSpec {
        image: plan.image_id.clone(),
        entrypoint: vec![INIT_PATH.to_owned()],
        user: if cell { format!("{0}:{0}", plan.uid) } else { ROOT.to_owned() },
        working_dir: "/".to_owned(),
        labels: BTreeMap::from([
            (LABEL_INSTANCE.to_owned(), plan.instance.clone()),
            (LABEL_PROFILE.to_owned(), plan.profile.clone()),
            (LABEL_SLOT.to_owned(), plan.slot.to_string()),
            (LABEL_ISOLATION.to_owned(), plan.isolation.as_str().to_owned()),
        ]),
        open_stdin: true,
        stdin_once: true,
        attach_stdin: true,
        attach_stdout: true,
        attach_stderr: true,
        tty: false,
        network_disabled: plan.network_disabled.then_some(true),
        host_config: HostConfig {
            network_mode: "none".to_owned(),
            readonly_rootfs: true,
            cap_drop: vec!["ALL".to_owned()],
            cap_add: if cell { Vec::new() } else { SPLIT_CAPS.map(|(name, _)| name.to_owned()).to_vec() },
            security_opt,
            runtime: plan.runtime.clone(),
            masked_paths: unmasked.clone(),
            readonly_paths: unmasked,
            memory,
            memory_swap: memory,
            nano_cpus: SandboxPlan::nano_cpus(&plan.limits) as i64,
            pids_limit: i64::from(SandboxPlan::container_pids(&plan.limits, plan.overheads)),
            ulimits: vec![Ulimit { name: "core".to_owned(), soft: 0, hard: 0 }],
            tmpfs,
            ipc_mode: "private".to_owned(),
            shm_size: SHM_BYTES as i64,
            cgroupns_mode: "private".to_owned(),
            log_config: LogConfig { kind: "none".to_owned(), config: BTreeMap::new() },
            init: Some(false),
            auto_remove: true,
            ..HostConfig::default()
        },
        ..ContainerSpec::default()
    }
}
