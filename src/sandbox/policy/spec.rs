//! The one way a sandbox's container is spelled (DESIGN section 4).

use std::collections::BTreeMap;

use docker::{ContainerSpec, HostConfig, LogConfig, Ulimit};
use protocol::{Ceilings, Isolation, Limits};

/// The label that says whose a container is: the instance's name and random id.
pub const LABEL_INSTANCE: &str = "assay.instance";
/// The label that says which profile a sandbox serves.
pub const LABEL_PROFILE: &str = "assay.profile";
/// The label that says which slot, and so which uid, a sandbox has.
pub const LABEL_SLOT: &str = "assay.slot";

/// The label that says how a sandbox keeps runs apart.
pub const LABEL_ISOLATION: &str = "assay.isolation";

/// Where the init stands in the layered image.
pub const INIT_PATH: &str = "/.assay/init";

/// What the container gets beyond the program's memory limit: the init (about 1 MiB locked), page tables, and kernel
/// memory of the sandbox itself.
pub const MEMORY_RESERVE_BYTES: u64 = 8 * 1024 * 1024;

/// What the container gets beyond the program's processes: the init, the helpers that it forks, and runtimes that wait
/// (a JVM has twenty threads). The program's own limit is RLIMIT_NPROC.
pub const PIDS_RESERVE: u32 = 64;

/// Room in the container's memory and processes for a runtime with a kernel of its own (gVisor's sentry). Generous, not measured:
/// with it, Python's tests pass under runsc.
const RUNTIME_MEMORY_BYTES: u64 = 96 * 1024 * 1024;
const RUNTIME_PIDS: u32 = 512;

/// Room for a runtime from which programs are forked: what it has loaded is in the program's account only as far as the program
/// has it too. Measured (`scripts/bench hot`, of a sandbox with one): 4.4 MiB for a Python, 18 with numpy.
const TEMPLATE_MEMORY_BYTES: u64 = 12 * 1024 * 1024;
const LOADED_MEMORY_BYTES: u64 = 32 * 1024 * 1024;

/// Who is in a container beside the init and its program.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryOverheads {
    /// A runtime with a kernel of its own.
    pub runtime: bool,
    /// A runtime from which programs are forked.
    pub template: bool,
    /// One that has loaded modules.
    pub loaded: bool,
}

impl MemoryOverheads {
    fn memory_bytes(self) -> u64 {
        let of = |is: bool, bytes: u64| if is { bytes } else { 0 };
        of(self.runtime, RUNTIME_MEMORY_BYTES)
            + of(self.template, TEMPLATE_MEMORY_BYTES)
            + of(self.template && self.loaded, LOADED_MEMORY_BYTES)
    }
}

/// Inodes of each tmpfs: they are kernel memory, so they have a bound of their own.
pub const TMPFS_INODES: u32 = 32 * 1024;

/// /dev/shm, which multiprocessing needs; counted and audited.
pub const SHM_BYTES: u64 = 16 * 1024 * 1024;

/// What the container of cells may call: what an unprivileged init needs to make one, and what programs may be allowed. The
/// programs themselves have the init's own filter on top.
pub const CELL_SECCOMP: &str = include_str!("../../../config/seccomp/cell.json");

/// What no container may exceed.
pub(super) const MOST_MEMORY_BYTES: u64 =
    Ceilings::MEMORY_BYTES + MEMORY_RESERVE_BYTES + TEMPLATE_MEMORY_BYTES + LOADED_MEMORY_BYTES;
/// What no container may exceed.
pub(super) const MOST_PIDS: u32 = Ceilings::PIDS + PIDS_RESERVE;

/// What a sandbox shall be.
#[derive(Debug, Clone)]
pub struct SandboxPlan {
    /// The layered image's id (`sha256:...`).
    pub image_id: String,
    /// Instance name and random id.
    pub instance: String,
    /// The profile's name.
    pub profile: String,
    /// The slot's number.
    pub slot: u32,
    /// The program's uid and gid; in cells, the init's too.
    pub uid: u32,
    /// How runs are kept apart.
    pub isolation: Isolation,
    /// The OCI runtime; the engine's own when absent.
    pub runtime: Option<String>,
    /// The AppArmor profile of cells, where the engine's own would forbid their mounts.
    pub apparmor: Option<String>,
    /// Memory, CPU share and processes.
    pub limits: Limits,
    /// Who else is in it.
    pub overheads: MemoryOverheads,
    /// Whether NetworkDisabled halves the start (runc) or breaks it (gVisor).
    pub network_disabled: bool,
}

impl SandboxPlan {
    /// The container's memory limit in bytes.
    pub fn container_memory(limits: &Limits, overheads: MemoryOverheads) -> u64 {
        (limits.memory_bytes + MEMORY_RESERVE_BYTES + overheads.memory_bytes()).min(MOST_MEMORY_BYTES)
    }

    /// Room below the box, in bytes. With [`SandboxPlan::tmp_bytes`] no more than the program's limit: files alone can never
    /// take the reserve that the init lives on.
    pub fn box_bytes(limits: &Limits) -> u64 {
        limits.memory_bytes / 4 * 3
    }

    /// Room below /tmp, in bytes.
    pub fn tmp_bytes(limits: &Limits) -> u64 {
        limits.memory_bytes / 4
    }

    /// The container's process limit.
    pub fn container_pids(limits: &Limits, overheads: MemoryOverheads) -> u32 {
        let own = if overheads.runtime { RUNTIME_PIDS } else { 0 };
        (limits.pids + PIDS_RESERVE + own).min(MOST_PIDS)
    }

    /// The CPU share in units of 1e-9 CPU.
    pub fn nano_cpus(limits: &Limits) -> u64 {
        (limits.cpus * 1e9).round() as u64
    }
}

/// Spells the plan.
pub fn build(plan: &SandboxPlan) -> ContainerSpec {
    let memory = SandboxPlan::container_memory(&plan.limits, plan.overheads) as i64;
    let cell = plan.isolation == Isolation::Cell;
    // the /tmp of a container of cells is only covered; old runcs ignore mode= where the folder exists, but not uid=
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
    // a cell's own /proc can only be mounted where none of the engine's masks lies over the old one; it masks again
    let unmasked = cell.then(Vec::new);
    ContainerSpec {
        image: plan.image_id.clone(),
        entrypoint: vec![INIT_PATH.to_owned()],
        user: if cell { format!("{0}:{0}", plan.uid) } else { "0:0".to_owned() },
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
            cap_add: if cell { Vec::new() } else { ["SETUID", "SETGID", "KILL"].map(str::to_owned).to_vec() },
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
