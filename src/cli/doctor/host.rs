//! The engine's machine as an attacker would look at it: who can reach the engine, what the kernel gives away, what helps an
//! escape along. Numbers in brackets are those of the CIS Docker Benchmark. Pure but for reading files below a root.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::checks::Check;

/// A machine's files; `/` for this one.
#[derive(Debug, Clone)]
pub struct Machine {
    root: PathBuf,
}

/// A kernel setting, and what it should be.
struct Setting {
    name: &'static str,
    path: &'static str,
    is_well: fn(&str) -> bool,
    well: &'static str,
    trouble: &'static str,
    remedy: &'static str,
}

fn number(text: &str) -> i64 {
    text.trim().parse().unwrap_or(0)
}

const SETTINGS: &[Setting] = &[
    Setting {
        name: "aslr",
        path: "/proc/sys/kernel/randomize_va_space",
        is_well: |text| number(text) == 2,
        well: "addresses are random",
        trouble: "addresses are not random: every exploit is easier",
        remedy: "sysctl kernel.randomize_va_space=2",
    },
    Setting {
        name: "core-pattern",
        path: "/proc/sys/kernel/core_pattern",
        is_well: |text| !text.starts_with('|'),
        well: "core dumps go to files",
        trouble: "core dumps go to a program of the host, also those from containers (ours dump none)",
        remedy: "sysctl kernel.core_pattern=core",
    },
    Setting {
        name: "bpf",
        path: "/proc/sys/kernel/unprivileged_bpf_disabled",
        is_well: |text| number(text) > 0,
        well: "bpf is for root only",
        trouble: "everybody may load bpf programs (those in sandboxes may not)",
        remedy: "sysctl kernel.unprivileged_bpf_disabled=1",
    },
    Setting {
        name: "kernel-log",
        path: "/proc/sys/kernel/dmesg_restrict",
        is_well: |text| number(text) == 1,
        well: "the kernel's log is for root only",
        trouble: "everybody may read the kernel's log, and addresses in it (those in sandboxes may not)",
        remedy: "sysctl kernel.dmesg_restrict=1",
    },
    Setting {
        name: "kernel-pointers",
        path: "/proc/sys/kernel/kptr_restrict",
        is_well: |text| number(text) >= 1,
        well: "kernel addresses are hidden",
        trouble: "kernel addresses can be read",
        remedy: "sysctl kernel.kptr_restrict=1",
    },
    Setting {
        name: "hard-links",
        path: "/proc/sys/fs/protected_hardlinks",
        is_well: |text| number(text) == 1,
        well: "nobody links to what is not theirs",
        trouble: "anybody may make a hard link to anybody's file",
        remedy: "sysctl fs.protected_hardlinks=1",
    },
    Setting {
        name: "symlinks",
        path: "/proc/sys/fs/protected_symlinks",
        is_well: |text| number(text) == 1,
        well: "links in shared folders are not followed for others",
        trouble: "links in /tmp are followed for anybody",
        remedy: "sysctl fs.protected_symlinks=1",
    },
];

impl Machine {
    /// The machine whose files lie there.
    pub fn at(root: impl Into<PathBuf>) -> Machine {
        Machine { root: root.into() }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn read(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.path(path)).ok()
    }

    /// Every check of this machine. `engine` is its socket's path, when it has one.
    pub fn checks(&self, engine: Option<&Path>) -> Vec<Check> {
        let mut found = Vec::new();
        if let Some(socket) = engine {
            found.push(self.socket("engine-socket", &socket.to_string_lossy(), "[3.15, 3.16]"));
        }
        found.push(self.socket("containerd-socket", "/run/containerd/containerd.sock", "[3.23, 3.24]"));
        found.push(self.group());
        found.push(self.open_port());
        found.push(self.daemon_json());
        found.push(self.apparmor());
        found.push(self.user_namespaces());
        found.push(self.swap());
        found.push(self.vulnerabilities());
        for setting in SETTINGS {
            found.push(match self.read(setting.path) {
                None => Check::skip(setting.name, format!("{} is not there", setting.path)),
                Some(text) if (setting.is_well)(&text) => Check::ok(setting.name, setting.well.into()),
                Some(text) => {
                    let seen = format!("{} ({})", setting.trouble, text.trim());
                    Check::warn(setting.name, seen, Some(setting.remedy.into()))
                }
            });
        }
        found
    }

    /// Whoever may write to an engine's socket is root there.
    fn socket(&self, name: &'static str, path: &str, item: &str) -> Check {
        let Ok(meta) = std::fs::metadata(self.path(path)) else {
            return Check::skip(name, format!("{path} is not there"));
        };
        let mode = meta.permissions().mode() & 0o777;
        let seen = format!("{path}: mode {mode:04o}, uid {}, gid {} {item}", meta.uid(), meta.gid());
        match mode {
            mode if mode & 0o002 != 0 => {
                Check::fail(name, format!("{seen}: everybody on this machine is root"), format!("chmod 0660 {path}"))
            }
            mode if mode & 0o004 != 0 || meta.uid() != 0 => {
                Check::warn(name, seen, Some(format!("chown root {path}; chmod 0660 {path}")))
            }
            _ => Check::ok(name, seen),
        }
    }

    fn group(&self) -> Check {
        let name = "docker-group";
        let groups = self.read("/etc/group").unwrap_or_default();
        let Some(line) = groups.lines().find(|line| line.starts_with("docker:")) else {
            return Check::ok(name, "there is no group docker [1.1.2]".into());
        };
        let members: Vec<&str> =
            line.rsplit(':').next().unwrap_or("").split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
        match members.as_slice() {
            [] => Check::ok(name, "nobody is in it [1.1.2]".into()),
            some => {
                let seen = format!("whoever is in it is root: {} [1.1.2]", some.join(", "));
                Check::warn(name, seen, Some("gpasswd -d NAME docker, for everybody who need not be root".into()))
            }
        }
    }

    /// Port 2375 is the engine's without TLS.
    fn open_port(&self) -> Check {
        let name = "plaintext-port";
        let listens = |text: &String| {
            text.lines().skip(1).any(|line| {
                let mut words = line.split_whitespace().skip(1);
                let local = words.next().unwrap_or("");
                let state = words.nth(1).unwrap_or("");
                local.ends_with(":0947") && state == "0A"
            })
        };
        let tables = [self.read("/proc/net/tcp"), self.read("/proc/net/tcp6")];
        match tables.iter().flatten().any(listens) {
            false => Check::ok(name, "nothing listens on port 2375 [2.7]".into()),
            true => Check::fail(
                name,
                "something listens on port 2375, the engine's without TLS: whoever reaches it is root [2.7]".into(),
                "Remove the tcp:// address, or give it --tlsverify (docs/DOCKER.md).".into(),
            ),
        }
    }

    fn daemon_json(&self) -> Check {
        let (name, path) = ("daemon.json", "/etc/docker/daemon.json");
        let Some(text) = self.read(path) else {
            return Check::ok(name, format!("{path} is not there: the engine's own settings hold"));
        };
        let Ok(json) = serde_json::from_str::<serde_json::Value>(&text) else {
            return Check::fail(name, format!("{path} is no JSON"), "The engine will not start again: mend it.".into());
        };
        let mode = std::fs::metadata(self.path(path)).map_or(0, |meta| meta.permissions().mode() & 0o777);
        let mut trouble = Vec::new();
        if mode & 0o022 != 0 {
            trouble.push(format!("others may write it (mode {mode:04o}) [3.17, 3.18]"));
        }
        if json["insecure-registries"].as_array().is_some_and(|all| !all.is_empty()) {
            trouble.push("insecure-registries: images come unchecked [2.5]".to_owned());
        }
        if json["seccomp-profile"] == "unconfined" {
            trouble.push("seccomp-profile: unconfined [2.17]".to_owned());
        }
        if json["experimental"] == true {
            trouble.push("experimental [2.18]".to_owned());
        }
        match trouble.is_empty() {
            true => Check::ok(name, format!("{path}: mode {mode:04o}, nothing that weakens")),
            false => Check::warn(name, trouble.join("; "), Some(format!("Mend {path}, then restart the engine."))),
        }
    }

    fn apparmor(&self) -> Check {
        let name = "apparmor";
        match self.read("/sys/module/apparmor/parameters/enabled").as_deref().map(str::trim) {
            Some("Y") => Check::ok(name, "on [5.2]; cells need the profile config/apparmor/assay-cell".into()),
            _ => {
                let seen = "off: one layer less around the init (programs have their own filter) [5.2]".to_owned();
                Check::warn(name, seen, Some("Boot with apparmor=1 security=apparmor, where the kernel has it.".into()))
            }
        }
    }

    /// What cells need.
    fn user_namespaces(&self) -> Check {
        let name = "user-namespaces";
        let is_zero = |path: &str| self.read(path).is_some_and(|text| text.trim() == "0");
        let remedy = |text: &str| Some(text.to_owned());
        if is_zero("/proc/sys/kernel/unprivileged_userns_clone") {
            let seen = "for root only: no cells".to_owned();
            return Check::warn(name, seen, remedy("sysctl kernel.unprivileged_userns_clone=1"));
        }
        if is_zero("/proc/sys/user/max_user_namespaces") {
            return Check::warn(name, "none: no cells".into(), remedy("sysctl user.max_user_namespaces=65536"));
        }
        let restricted = self.read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns");
        if restricted.is_some_and(|text| text.trim() == "1") {
            let seen = "only with an AppArmor profile that allows them".to_owned();
            let load =
                "apparmor_parser -r config/apparmor/assay-cell, and apparmor_profile = \"assay-cell\" in [engine]";
            return Check::warn(name, seen, remedy(load));
        }
        Check::ok(name, "cells can be made".into())
    }

    fn swap(&self) -> Check {
        match self.read("/proc/swaps").map_or(0, |text| text.lines().count().saturating_sub(1)) {
            0 => Check::ok("swap-space", "none: times are what they are".into()),
            _ => Check::warn(
                "swap-space",
                "on: a sandbox never swaps, but the machine may, and times become longer".into(),
                Some("swapoff -a, and no swap in /etc/fstab".into()),
            ),
        }
    }

    fn vulnerabilities(&self) -> Check {
        let name = "cpu";
        let Ok(entries) = std::fs::read_dir(self.path("/sys/devices/system/cpu/vulnerabilities")) else {
            return Check::skip(name, "the kernel does not say how vulnerable the CPU is".into());
        };
        let mut open: Vec<String> = entries
            .flatten()
            .filter(|entry| {
                std::fs::read_to_string(entry.path()).is_ok_and(|text| text.trim_start().starts_with("Vulnerable"))
            })
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        open.sort();
        let smt = self.read("/sys/devices/system/cpu/smt/active").is_some_and(|text| text.trim() == "1");
        let threads = if smt { "; two threads of a core share more than two cores do (nosmt)" } else { "" };
        match open.is_empty() {
            true => Check::ok(name, format!("no known leak is open{threads}")),
            false => {
                let seen = format!("open to {}{threads}", open.join(", "));
                Check::warn(name, seen, Some("Update microcode and kernel; remove mitigations=off.".into()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::checks::Status;
    use super::*;

    fn machine(files: &[(&str, &str, u32)]) -> (tempfile::TempDir, Machine) {
        let folder = tempfile::tempdir().unwrap();
        for (path, text, mode) in files {
            let path = folder.path().join(path.trim_start_matches('/'));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(*mode)).unwrap();
        }
        let machine = Machine::at(folder.path());
        (folder, machine)
    }

    fn status(found: &[Check], name: &str) -> Status {
        found.iter().find(|check| check.name == name).unwrap().status
    }

    #[test]
    fn who_can_reach_the_engine_is_told() {
        let head = "  sl  local_address rem_address   st\n";
        let (_folder, machine) = machine(&[
            ("/run/docker.sock", "", 0o666),
            ("/run/containerd/containerd.sock", "", 0o660),
            ("/etc/group", "root:x:0:\ndocker:x:999:ann,bob\n", 0o644),
            ("/proc/net/tcp", &format!("{head}   0: 00000000:0947 00000000:0000 0A\n"), 0o644),
            ("/etc/docker/daemon.json", r#"{"insecure-registries":["x"],"experimental":true}"#, 0o666),
        ]);
        let found = machine.checks(Some(Path::new("/run/docker.sock")));
        assert_eq!(status(&found, "engine-socket"), Status::Fail);
        assert_eq!(status(&found, "docker-group"), Status::Warn);
        assert_eq!(status(&found, "plaintext-port"), Status::Fail);
        let json = found.iter().find(|check| check.name == "daemon.json").unwrap();
        assert_eq!((json.status, json.seen.matches(';').count()), (Status::Warn, 2), "{}", json.seen);
        assert!(
            found
                .iter()
                .all(|check| check.status == Status::Ok || check.status == Status::Skip || check.remedy.is_some())
        );
    }

    #[test]
    fn a_kernel_that_is_as_it_should_be_is_well() {
        let mut files: Vec<(&str, &str, u32)> = SETTINGS.iter().map(|setting| (setting.path, "1\n", 0o644)).collect();
        files[0].1 = "2\n";
        files[1].1 = "core\n";
        files.push(("/proc/swaps", "Filename Type\n", 0o644));
        files.push(("/proc/sys/user/max_user_namespaces", "100\n", 0o644));
        files.push(("/sys/devices/system/cpu/vulnerabilities/meltdown", "Mitigation: PTI\n", 0o644));
        let (_folder, well) = machine(&files);
        let found = well.checks(None);
        let not_well: Vec<_> =
            found.iter().filter(|check| check.status != Status::Ok).map(|check| check.name).collect();
        assert_eq!(not_well, ["containerd-socket", "apparmor"]);
        files.push(("/sys/devices/system/cpu/vulnerabilities/mds", "Vulnerable: no microcode\n", 0o644));
        files[1].1 = "|/usr/share/apport %p\n";
        files.push(("/proc/sys/kernel/unprivileged_userns_clone", "0\n", 0o644));
        let (_folder, worse) = machine(&files);
        let found = worse.checks(None);
        for name in ["cpu", "core-pattern", "user-namespaces"] {
            assert_eq!(status(&found, name), Status::Warn, "{name}");
        }
    }
}
