//! The rules that nothing can switch off (FEATURES S3.6), as one table over the spec that goes to the engine.

use docker::ContainerSpec;
use protocol::Ceilings;

use super::spec::{CELL_SECCOMP, INIT_PATH, LABEL_INSTANCE, MOST_MEMORY_BYTES, MOST_PIDS};

/// A spec that every rule has read. Only [`approve`] makes one.
#[derive(Debug, Clone)]
pub struct Approved(ContainerSpec);

impl Approved {
    /// The spec.
    pub fn spec(&self) -> &ContainerSpec {
        &self.0
    }
}

/// Policy says no, never.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("policy {rule} denies {field}: {remedy}")]
pub struct Denial {
    /// The rule's name.
    pub rule: &'static str,
    /// The field of the spec, as the Engine spells it.
    pub field: &'static str,
    /// What to do instead.
    pub remedy: &'static str,
}

/// A rule: its name, the field it reads, what it demands, and what to do instead.
struct Rule {
    name: &'static str,
    field: &'static str,
    holds: fn(&ContainerSpec) -> bool,
    remedy: &'static str,
}

/// The capabilities that `split` isolation needs and no program ever has.
const ALLOWED_CAPS: [&str; 3] = ["SETUID", "SETGID", "KILL"];

/// The init of `split` isolation.
const ROOT: &str = "0:0";

/// The uids that programs may have (`uids` in the configuration).
const PLAIN_UIDS: std::ops::Range<u32> = 1000..65_534;

/// Whether the container's user is root, whom `split` needs, or plain, as in cells; neither is no user at all.
fn is_root(spec: &ContainerSpec) -> Option<bool> {
    if spec.user == ROOT {
        return Some(true);
    }
    let (uid, gid) = spec.user.split_once(':')?;
    let plain = |id: &str| id.parse().is_ok_and(|id: u32| PLAIN_UIDS.contains(&id));
    (plain(uid) && plain(gid)).then_some(false)
}

const RULES: &[Rule] = &[
    Rule {
        name: "a-user",
        field: "User",
        holds: |spec| is_root(spec).is_some(),
        remedy: "0:0 for the init of split, which runs programs as another; uid:gid from 1000 to 65533 for cells",
    },
    Rule {
        name: "no-privileged",
        field: "HostConfig.Privileged",
        holds: |spec| !spec.host_config.privileged,
        remedy: "leave it false",
    },
    Rule {
        name: "no-network",
        field: "HostConfig.NetworkMode",
        holds: |spec| spec.host_config.network_mode == "none",
        remedy: "use none",
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
        remedy: "leave the sandbox its own namespaces",
    },
    Rule {
        name: "no-host-paths",
        field: "HostConfig.{Binds,Devices}",
        holds: |spec| spec.host_config.binds.is_empty() && spec.host_config.devices.is_empty(),
        remedy: "hand files over in the submission; nothing of the host is mounted",
    },
    Rule {
        name: "readonly-root",
        field: "HostConfig.ReadonlyRootfs",
        holds: |spec| spec.host_config.readonly_rootfs,
        remedy: "leave it true; /box and /tmp are writable",
    },
    Rule {
        name: "capabilities",
        field: "HostConfig.{CapDrop,CapAdd}",
        holds: |spec| {
            let allowed: &[&str] = if is_root(spec) == Some(true) { &ALLOWED_CAPS } else { &[] };
            spec.host_config.cap_drop.iter().any(|cap| cap == "ALL")
                && spec.host_config.cap_add.iter().all(|cap| allowed.contains(&cap.as_str()))
        },
        remedy: "drop ALL; add SETUID, SETGID, KILL for the root init of split, and nothing for a plain user",
    },
    Rule {
        name: "no-new-privileges",
        field: "HostConfig.SecurityOpt",
        holds: |spec| spec.host_config.security_opt.iter().any(|option| option == "no-new-privileges"),
        remedy: "keep no-new-privileges",
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
        remedy: "leave the engine's seccomp profile, or use the one for cells; never unconfined",
    },
    Rule {
        name: "kernel-files",
        field: "HostConfig.{MaskedPaths,ReadonlyPaths}",
        holds: |spec| {
            let host = &spec.host_config;
            is_root(spec) == Some(false) || (host.masked_paths.is_none() && host.readonly_paths.is_none())
        },
        remedy: "leave the engine's masks in place; only the init of cells, a plain user, does without",
    },
    Rule {
        name: "our-init",
        field: "{Entrypoint,Cmd,HostConfig.Tmpfs}",
        holds: |spec| {
            spec.entrypoint == [INIT_PATH]
                && spec.cmd.is_empty()
                && spec.host_config.tmpfs.keys().all(|path| path == "/box" || path == "/tmp")
        },
        remedy: "start the init and nothing else, and cover nothing but /box and /tmp",
    },
    Rule {
        name: "memory",
        field: "HostConfig.Memory",
        holds: |spec| {
            let host = &spec.host_config;
            let most = MOST_MEMORY_BYTES as i64;
            host.memory > 0 && host.memory <= most && host.memory_swap == host.memory
        },
        remedy: "ask for at most 2 GiB, without swap",
    },
    Rule {
        name: "cpus",
        field: "HostConfig.NanoCpus",
        holds: |spec| {
            spec.host_config.nano_cpus > 0 && spec.host_config.nano_cpus <= (Ceilings::CPUS * 1e9).round() as i64
        },
        remedy: "ask for at most 2.0 CPUs",
    },
    Rule {
        name: "pids",
        field: "HostConfig.PidsLimit",
        holds: |spec| {
            let most = i64::from(MOST_PIDS);
            spec.host_config.pids_limit > 0 && spec.host_config.pids_limit <= most
        },
        remedy: "ask for at most 1024 processes",
    },
    Rule {
        name: "no-log-file",
        field: "HostConfig.LogConfig",
        holds: |spec| spec.host_config.log_config.kind == "none",
        remedy: "use none: a program's output must not fill the host's disk",
    },
    Rule {
        name: "dead-man-switch",
        field: "{OpenStdin,StdinOnce,HostConfig.AutoRemove}",
        holds: |spec| spec.open_stdin && spec.stdin_once && spec.host_config.auto_remove,
        remedy: "leave all three true: a daemon that dies must leave nothing behind",
    },
    Rule {
        name: "pinned-image",
        field: "Image",
        holds: |spec| spec.image.starts_with("sha256:"),
        remedy: "name the image by its id",
    },
    Rule {
        name: "an-owner",
        field: "Labels",
        holds: |spec| spec.labels.get(LABEL_INSTANCE).is_some_and(|instance| !instance.is_empty()),
        remedy: "label it with the instance, so that it can be swept",
    },
];

/// Reads the spec by every rule.
///
/// # Errors
/// The first rule that doesn't hold.
pub fn approve(spec: ContainerSpec) -> Result<Approved, Denial> {
    match RULES.iter().find(|rule| !(rule.holds)(&spec)) {
        None => Ok(Approved(spec)),
        Some(rule) => Err(Denial { rule: rule.name, field: rule.field, remedy: rule.remedy }),
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
    fn what_we_build_is_approved() {
        approve(build(&plan())).unwrap();
        approve(build(&cell_plan())).unwrap();
    }

    fn cell_plan() -> SandboxPlan {
        SandboxPlan { isolation: Isolation::Cell, apparmor: Some("assay-cell".to_owned()), ..plan() }
    }

    #[test]
    fn what_is_loosened_for_cells_is_denied_to_everybody_else() {
        type Break = fn(&mut ContainerSpec);
        let breaks: [(&str, Break); 6] = [
            ("capabilities", |spec| spec.host_config.cap_add.push("SETUID".to_owned())),
            ("confinement", |spec| spec.user = "0:0".to_owned()),
            ("a-user", |spec| spec.user = "0:1000".to_owned()),
            ("a-user", |spec| spec.user = "52000".to_owned()),
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
    fn the_filter_of_cells_lets_the_init_mount_and_enter_and_nobody_load_code_into_the_kernel() {
        let profile: serde_json::Value = serde_json::from_str(CELL_SECCOMP).unwrap();
        assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
        let names = profile["syscalls"][0]["names"].as_array().unwrap();
        let allows = |name: &str| names.iter().any(|known| known == name);
        assert!(["mount", "clone", "seccomp", "capset", "execve"].into_iter().all(allows));
        // a template's forks enter the cells that the init has made
        assert!(allows("setns"));
        let never = ["bpf", "init_module", "kexec_load", "keyctl", "perf_event_open", "unshare", "userfaultfd"];
        assert!(!never.into_iter().any(allows));
    }

    #[test]
    fn every_rule_denies_the_spec_that_breaks_it() {
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
            ("our-init", |spec| spec.cmd.push("sh".to_owned())),
            ("a-user", |spec| spec.user.clear()),
            ("memory", |spec| spec.host_config.memory_swap = -1),
            ("cpus", |spec| spec.host_config.nano_cpus = 0),
            ("pids", |spec| spec.host_config.pids_limit = -1),
            ("no-log-file", |spec| spec.host_config.log_config.kind = "json-file".to_owned()),
            ("dead-man-switch", |spec| spec.stdin_once = false),
            ("pinned-image", |spec| spec.image = "python:latest".to_owned()),
            ("an-owner", |spec| spec.labels.clear()),
        ];
        assert_eq!(breaks.len(), RULES.len());
        for (rule, break_it) in breaks {
            let mut spec = build(&plan());
            break_it(&mut spec);
            assert_eq!(approve(spec).unwrap_err().rule, rule);
        }
    }
}
