//! Compares what the init sees of its sandbox with what was asked for.

use protocol::{Isolation, Limits};
use wire::frame::{Ready, VERSION};

use crate::policy::{MemoryOverheads, SPLIT_CAPS_MASK, SandboxPlan};

/// Memory limits may be rounded to pages; no supported platform has smaller ones.
const PAGE_BYTES: u64 = 4096;

/// The CPU share may differ by this fraction: the engine rounds it to a thousandth of a period.
const CPU_TOLERANCE: u64 = 50;

/// # Errors
/// The first property that differs, as a sentence.
pub(super) fn verify(
    ready: &Ready,
    limits: &Limits,
    isolation: Isolation,
    overheads: MemoryOverheads,
) -> Result<(), String> {
    // A runtime with a kernel of its own shows no cgroup: its cgroup contains the whole runtime.
    // The engine gave no warning, so the limits hold.
    let has_cgroup = !overheads.runtime || ready.cgroup_version != 0;
    let allowed_caps = if isolation == Isolation::Cell { 0 } else { SPLIT_CAPS_MASK };
    let memory = SandboxPlan::container_memory(limits, overheads);
    let nano_cpus = SandboxPlan::nano_cpus(limits);
    let pids = u64::from(SandboxPlan::container_pids(limits, overheads));
    let checks = [
        (ready.version == VERSION, format!("the init speaks version {}, we speak {VERSION}", ready.version)),
        (!has_cgroup || ready.cgroup_version != 0, "no cgroup is visible in it".to_owned()),
        (
            !has_cgroup || ready.memory_bytes.abs_diff(memory) < PAGE_BYTES,
            format!("its memory limit is {}, asked for {memory}", ready.memory_bytes),
        ),
        (!has_cgroup || ready.swap_bytes < PAGE_BYTES, format!("it may swap {} bytes", ready.swap_bytes)),
        (!has_cgroup || ready.pids == pids, format!("its process limit is {}, asked for {pids}", ready.pids)),
        (
            !has_cgroup || ready.nano_cpus.abs_diff(nano_cpus) <= nano_cpus / CPU_TOLERANCE,
            format!("its CPU share is {}e-9, asked for {nano_cpus}e-9", ready.nano_cpus),
        ),
        ((ready.cap_bnd | ready.cap_eff) & !allowed_caps == 0, format!("its capabilities are {:#x}", ready.cap_bnd)),
        ((ready.uid == 0) == (isolation == Isolation::Split), format!("its init is uid {}", ready.uid)),
        (ready.no_new_privs, "no_new_privs is off".to_owned()),
        (!has_cgroup || ready.seccomp == 2, "no seccomp filter is on".to_owned()),
        (ready.only_loopback, "it has a network".to_owned()),
        (ready.readonly_root, "its root is writable".to_owned()),
        (ready.box_tmpfs, "/box is not an executable tmpfs".to_owned()),
    ];
    match checks.into_iter().find(|(holds, _)| !holds) {
        None => Ok(()),
        Some((_, reason)) => Err(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::Preset;

    const NONE: MemoryOverheads = MemoryOverheads { runtime: false, template: false, loaded: false, compile_bytes: 0 };

    fn ready() -> Ready {
        let limits = Preset::Judge.limits();
        Ready {
            version: VERSION,
            cgroup_version: 1,
            memory_bytes: SandboxPlan::container_memory(&limits, NONE),
            pids: u64::from(SandboxPlan::container_pids(&limits, NONE)),
            nano_cpus: 1_000_000_000,
            cap_bnd: SPLIT_CAPS_MASK,
            cap_eff: SPLIT_CAPS_MASK,
            no_new_privs: true,
            seccomp: 2,
            only_loopback: true,
            readonly_root: true,
            box_tmpfs: true,
            ..Ready::default()
        }
    }

    #[test]
    fn a_sandbox_as_asked_for_is_accepted() {
        let limits = Preset::Judge.limits();
        verify(&ready(), &limits, Isolation::Split, NONE).unwrap();
        let cell = Ready { uid: 52_000, cap_bnd: 0, cap_eff: 0, ..ready() };
        verify(&cell, &limits, Isolation::Cell, NONE).unwrap();
        assert!(
            verify(&ready(), &limits, Isolation::Cell, NONE).is_err()
                && verify(&cell, &limits, Isolation::Split, NONE).is_err()
        );
    }

    #[test]
    fn a_sandbox_that_differs_in_one_property_is_rejected() {
        let changes: [fn(&mut Ready); 10] = [
            |ready| ready.memory_bytes = u64::MAX,
            |ready| ready.swap_bytes = u64::MAX,
            |ready| ready.pids = u64::MAX,
            |ready| ready.nano_cpus = u64::MAX,
            |ready| ready.cap_bnd |= 1 << 21,
            |ready| ready.no_new_privs = false,
            |ready| ready.seccomp = 0,
            |ready| ready.only_loopback = false,
            |ready| ready.readonly_root = false,
            |ready| ready.cgroup_version = 0,
        ];
        for change in changes {
            let mut ready = ready();
            change(&mut ready);
            assert!(verify(&ready, &Preset::Judge.limits(), Isolation::Split, NONE).is_err());
        }
    }
}
