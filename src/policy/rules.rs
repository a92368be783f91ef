//! The rules that nothing can switch off (FEATURES S3.6), as one table over the spec that goes to the engine.

use crate::docker::ContainerSpec;
use crate::model::Ceilings;

use super::spec::{LABEL_INSTANCE, MEMORY_RESERVE_BYTES, PIDS_RESERVE};

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

const RULES: &[Rule] = &[
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
            spec.host_config.cap_drop.iter().any(|cap| cap == "ALL")
                && spec.host_config.cap_add.iter().all(|cap| ALLOWED_CAPS.contains(&cap.as_str()))
        },
        remedy: "drop ALL and add no more than SETUID, SETGID, KILL",
    },
    Rule {
        name: "no-new-privileges",
        field: "HostConfig.SecurityOpt",
        holds: |spec| {
            let options = &spec.host_config.security_opt;
            options.iter().any(|option| option == "no-new-privileges")
                && !options.iter().any(|option| option.contains("unconfined"))
        },
        remedy: "keep no-new-privileges and a seccomp profile",
    },
    Rule {
        name: "a-user",
        field: "User",
        holds: |spec| !spec.user.is_empty(),
        remedy: "name the user; the init drops to an unprivileged one for every program",
    },
    Rule {
        name: "memory",
        field: "HostConfig.Memory",
        holds: |spec| {
            let host = &spec.host_config;
            let most = (Ceilings::MEMORY_BYTES + MEMORY_RESERVE_BYTES) as i64;
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
            let most = i64::from(Ceilings::PIDS + PIDS_RESERVE);
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
    use crate::model::Preset;

    fn plan() -> SandboxPlan {
        SandboxPlan {
            image_id: "sha256:0".to_owned(),
            instance: "test-1".to_owned(),
            profile: "python".to_owned(),
            slot: 0,
            limits: Preset::Judge.limits(),
            network_disabled: true,
        }
    }

    #[test]
    fn what_we_build_is_approved() {
        approve(build(&plan())).unwrap();
    }

    #[test]
    fn every_rule_denies_the_spec_that_breaks_it() {
        type Break = fn(&mut ContainerSpec);
        let breaks: [(&str, Break); 15] = [
            ("no-privileged", |spec| spec.host_config.privileged = true),
            ("no-network", |spec| spec.host_config.network_mode = "host".to_owned()),
            ("no-host-namespaces", |spec| spec.host_config.pid_mode = "host".to_owned()),
            ("no-host-paths", |spec| spec.host_config.binds.push("/var/run/docker.sock:/s".to_owned())),
            ("readonly-root", |spec| spec.host_config.readonly_rootfs = false),
            ("capabilities", |spec| spec.host_config.cap_add.push("SYS_ADMIN".to_owned())),
            ("no-new-privileges", |spec| spec.host_config.security_opt.push("seccomp=unconfined".to_owned())),
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
