//! The rules that no setting can switch off, as one table over the specification that goes to the
//! engine.

use std::borrow::Cow;

use docker::ContainerSpec;
use protocol::Ceilings;

use super::spec::{CELL_SECCOMP, INIT_PATH, LABEL_INSTANCE, MAX_MEMORY_BYTES, MAX_PIDS, ROOT, SPLIT_CAPS};

/// A specification that follows every rule. Only [`approve`] creates one.
#[derive(Debug, Clone)]
pub struct Approved(ContainerSpec);

impl Approved {
    pub fn spec(&self) -> &ContainerSpec {
        &self.0
    }
}

/// The specification breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("policy {rule} denies {field}: {remedy}")]
pub struct Denial {
    /// The rule's name.
    pub rule: &'static str,
    /// The field, as the Engine API spells it.
    pub field: &'static str,
    /// What to do instead.
    pub remedy: Cow<'static, str>,
}

struct Rule {
    name: &'static str,
    /// The field that it reads, as the Engine API spells it.
    field: &'static str,
    holds: fn(&ContainerSpec) -> bool,
    /// What to do instead.
    remedy: fn() -> Cow<'static, str>,
}

/// The uids that programs may have (`uids` in the configuration).
const UNPRIVILEGED_UIDS: std::ops::Range<u32> = 1000..65_534;

/// True if the container's user is root, as `split` requires; false if it is unprivileged, as in
/// cells; `None` if it is neither and must be denied.
fn is_root(spec: &ContainerSpec) -> Option<bool> {
    if spec.user == ROOT {
        return Some(true);
    }
    let (uid, gid) = spec.user.split_once(':')?;
    let unprivileged = |id: &str| id.parse().is_ok_and(|id: u32| UNPRIVILEGED_UIDS.contains(&id));
    (unprivileged(uid) && unprivileged(gid)).then_some(false)
}

const RULES: &[Rule] = &[
    Rule {
        name: "user",
        field: "User",
        holds: |spec| is_root(spec).is_some(),
        remedy: || {
            "use 0:0 for split, whose init starts programs as another user; uid:gid from 1000 to 65533 for cells".into()
        },
    },
    Rule {
        name: "no-privileged",
        field: "HostConfig.Privileged",
        holds: |spec| !spec.host_config.privileged,
        remedy: || "leave it false".into(),
    },
    Rule {
        name: "no-network",
        field: "HostConfig.NetworkMode",
        holds: |spec| spec.host_config.network_mode == "none",
        remedy: || "use none".into(),
    },
    Rule {
        name: "no-host-namespaces",
        field: "HostConfig.{PidMode,IpcMode,UTSMode,UsernsMode,CgroupnsMode}",
        holds: |spec| {
            let host = &spec.host_config;
            host.pid_mode.is_empty()
                && host.uts_mode.is_empty()
                && host.userns_mode.is_empty()
                && host.ipc_mode == "private"
                && host.cgroupns_mode == "private"
        },
        remedy: || "leave the sandbox its own namespaces".into(),
    },
    Rule {
        name: "no-host-paths",
        field: "HostConfig.{Binds,Devices}",
        holds: |spec| spec.host_config.binds.is_empty() && spec.host_config.devices.is_empty(),
        remedy: || "send files with the submission; nothing of the host is mounted".into(),
    },
    Rule {
        name: "readonly-root",
        field: "HostConfig.ReadonlyRootfs",
        holds: |spec| spec.host_config.readonly_rootfs,
        remedy: || "leave it true; /box and /tmp are writable".into(),
    },
    Rule {
        name: "capabilities",
        field: "HostConfig.{CapDrop,CapAdd}",
        holds: |spec| {
            let allowed = |cap: &String| is_root(spec) == Some(true) && SPLIT_CAPS.iter().any(|(name, _)| name == cap);
            spec.host_config.cap_drop.iter().any(|cap| cap == "ALL") && spec.host_config.cap_add.iter().all(allowed)
        },
        remedy: || "drop ALL; add SETUID, SETGID and KILL for split, and nothing for cells".into(),
    },
    Rule {
        name: "no-new-privileges",
        field: "HostConfig.SecurityOpt",
        holds: |spec| spec.host_config.security_opt.iter().any(|option| option == "no-new-privileges"),
        remedy: || "keep no-new-privileges".into(),
    },
    Rule {
        name: "confinement",
        field: "HostConfig.SecurityOpt",
        holds: |spec| {
            let known = |option: &String| match option.split_once('=') {
                None => option == "no-new-privileges",
                Some(("seccomp", profile)) => is_root(spec) == Some(false) && profile == CELL_SECCOMP,
                Some(("apparmor", name)) => !name.is_empty() && name != "unconfined",
                Some(_) => false,
            };
            spec.host_config.security_opt.iter().all(known)
        },
        remedy: || "use the engine's default seccomp profile, or the one for cells; never unconfined".into(),
    },
    Rule {
        name: "kernel-files",
        field: "HostConfig.{MaskedPaths,ReadonlyPaths}",
        holds: |spec| {
            let host = &spec.host_config;
            is_root(spec) == Some(false) || (host.masked_paths.is_none() && host.readonly_paths.is_none())
        },
        remedy: || {
            "leave the engine's masks in place; only cells, whose init is unprivileged, work without them".into()
        },
    },
    Rule {
        name: "init-only",
        field: "{Entrypoint,Cmd,HostConfig.Tmpfs}",
        holds: |spec| {
            spec.entrypoint == [INIT_PATH]
                && spec.cmd.is_empty()
                && spec.host_config.tmpfs.keys().all(|path| path == "/box" || path == "/tmp")
        },
        remedy: || "start only the init, and mount a tmpfs only at /box and /tmp".into(),
    },
    Rule {
        name: "memory",
        field: "HostConfig.Memory",
        holds: |spec| {
            let host = &spec.host_config;
            let most = MAX_MEMORY_BYTES as i64;
            host.memory > 0 && host.memory <= most && host.memory_swap == host.memory
        },
        remedy: || format!("ask for at most {} GiB, without swap", Ceilings::MEMORY_BYTES >> 30).into(),
    },
    Rule {
        name: "cpus",
        field: "HostConfig.NanoCpus",
        holds: |spec| {
            spec.host_config.nano_cpus > 0 && spec.host_config.nano_cpus <= (Ceilings::CPUS * 1e9).round() as i64
        },
        remedy: || format!("ask for at most {:.1} CPUs", Ceilings::CPUS).into(),
    },
    Rule {
        name: "pids",
        field: "HostConfig.PidsLimit",
        holds: |spec| {
            let most = i64::from(MAX_PIDS);
            spec.host_config.pids_limit > 0 && spec.host_config.pids_limit <= most
        },
        remedy: || format!("ask for at most {} processes", Ceilings::PIDS).into(),
    },
    Rule {
        name: "no-log-file",
        field: "HostConfig.LogConfig",
        holds: |spec| spec.host_config.log_config.kind == "none",
        remedy: || "use none: a program's output must not fill the host's disk".into(),
    },
    Rule {
        name: "dead-man-switch",
        field: "{OpenStdin,StdinOnce,HostConfig.AutoRemove}",
        holds: |spec| spec.open_stdin && spec.stdin_once && spec.host_config.auto_remove,
        remedy: || "leave all three true: a daemon that dies must leave nothing behind".into(),
    },
    Rule {
        name: "pinned-image",
        field: "Image",
        holds: |spec| spec.image.starts_with("sha256:"),
        remedy: || "name the image by its id".into(),
    },
    Rule {
        name: "owner",
        field: "Labels",
        holds: |spec| spec.labels.get(LABEL_INSTANCE).is_some_and(|instance| !instance.is_empty()),
        remedy: || "set the instance label, so that a sweep can find the container".into(),
    },
];

/// Checks every rule.
///
/// # Errors
/// The first rule that does not hold.
pub fn approve(spec: ContainerSpec) -> Result<Approved, Denial> {
    match RULES.iter().find(|rule| !(rule.holds)(&spec)) {
        None => Ok(Approved(spec)),
        Some(rule) => Err(Denial { rule: rule.name, field: rule.field, remedy: (rule.remedy)() }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::spec::{SandboxPlan, build};
    use super::*;
    use protocol::{Isolation, Preset};

    fn plan() -> SandboxPlan {
        SandboxPlan {
            image_id: "sha256:0".to_owned(),
            instance: "test-1".to_owned(),
            profile: "python".to_owned(),
            slot: 0,
            uid: 52_000,
            isolation: Isolation::Split,
            runtime: None,
            apparmor: None,
            limits: Preset::Judge.limits(),
            overheads: crate::policy::MemoryOverheads::default(),
            network_disabled: true,
        }
    }

    #[test]
    fn a_built_specification_is_approved() {
        approve(build(&plan())).unwrap();
        approve(build(&cell_plan())).unwrap();
    }

    fn cell_plan() -> SandboxPlan {
        SandboxPlan { isolation: Isolation::Cell, apparmor: Some("assay-cell".to_owned()), ..plan() }
    }

    #[test]
    fn privileges_of_cells_are_denied_to_split_and_vice_versa() {
        type Break = fn(&mut ContainerSpec);
        let breaks: [(&str, Break); 6] = [
            ("capabilities", |spec| spec.host_config.cap_add.push("SETUID".to_owned())),
            ("confinement", |spec| spec.user = "0:0".to_owned()),
            ("user", |spec| spec.user = "0:1000".to_owned()),
            ("user", |spec| spec.user = "52000".to_owned()),
            ("confinement", |spec| spec.host_config.security_opt.push("apparmor=unconfined".to_owned())),
            ("confinement", |spec| spec.host_config.security_opt.push("seccomp={}".to_owned())),
        ];
        for (rule, break_it) in breaks {
            let mut spec = build(&cell_plan());
            break_it(&mut spec);
            assert_eq!(approve(spec).unwrap_err().rule, rule);
        }
    }

    #[test]
    fn the_seccomp_profile_of_cells_allows_mounts_and_setns_but_no_way_to_load_kernel_code() {
        let profile: serde_json::Value = serde_json::from_str(CELL_SECCOMP).unwrap();
        assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
        let names = profile["syscalls"][0]["names"].as_array().unwrap();
        let allows = |name: &str| names.iter().any(|known| known == name);
        assert!(["mount", "clone", "seccomp", "capset", "execve"].into_iter().all(allows));
        // forks of a template enter cells that the init made
        assert!(allows("setns"));
        let never = ["bpf", "init_module", "kexec_load", "keyctl", "perf_event_open", "unshare", "userfaultfd"];
        assert!(!never.into_iter().any(allows));
    }

    #[test]
    fn every_rule_denies_a_specification_that_breaks_it() {
        type Break = fn(&mut ContainerSpec);
        let breaks: [(&str, Break); 18] = [
            ("no-privileged", |spec| spec.host_config.privileged = true),
            ("no-network", |spec| spec.host_config.network_mode = "host".to_owned()),
            ("no-host-namespaces", |spec| spec.host_config.pid_mode = "host".to_owned()),
            ("no-host-paths", |spec| spec.host_config.binds.push("/var/run/docker.sock:/s".to_owned())),
            ("readonly-root", |spec| spec.host_config.readonly_rootfs = false),
            ("capabilities", |spec| spec.host_config.cap_add.push("SYS_ADMIN".to_owned())),
            ("no-new-privileges", |spec| spec.host_config.security_opt.clear()),
            ("confinement", |spec| spec.host_config.security_opt.push("seccomp=unconfined".to_owned())),
            ("kernel-files", |spec| spec.host_config.masked_paths = Some(Vec::new())),
            ("init-only", |spec| spec.cmd.push("sh".to_owned())),
            ("user", |spec| spec.user.clear()),
            ("memory", |spec| spec.host_config.memory_swap = -1),
            ("cpus", |spec| spec.host_config.nano_cpus = 0),
            ("pids", |spec| spec.host_config.pids_limit = -1),
            ("no-log-file", |spec| spec.host_config.log_config.kind = "json-file".to_owned()),
            ("dead-man-switch", |spec| spec.stdin_once = false),
            ("pinned-image", |spec| spec.image = "python:latest".to_owned()),
            ("owner", |spec| spec.labels.clear()),
        ];
        assert_eq!(breaks.len(), RULES.len());
        for (rule, break_it) in breaks {
            let mut spec = build(&plan());
            break_it(&mut spec);
            assert_eq!(approve(spec).unwrap_err().rule, rule);
        }
    }
}
