//! Security checks of the engine's machine: access to the engine's socket, kernel settings,
//! mitigations. Only reads files below a root folder.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::checks::DoctorCheck;
use super::cis::cis;

/// The file system of a machine; `/` for the local one.
#[derive(Debug, Clone)]
pub struct HostFiles {
    root: PathBuf,
}

/// A kernel setting and its recommended values.
struct KernelSetting {
    name: &'static str,
    path: &'static str,
    is_ok: fn(&str) -> bool,
    ok_message: &'static str,
    warning: &'static str,
    remedy: &'static str,
}

fn number(text: &str) -> i64 {
    text.trim().parse().unwrap_or(0)
}

const SETTINGS: &[KernelSetting] = &[
    KernelSetting {
        name: "aslr",
        path: "/proc/sys/kernel/randomize_va_space",
        is_ok: |text| number(text) == 2,
        ok_message: "address space layout is randomized",
        warning: "address space layout is not randomized, which makes exploits easier",
        remedy: "sysctl kernel.randomize_va_space=2",
    },
    KernelSetting {
        name: "core-pattern",
        path: "/proc/sys/kernel/core_pattern",
        is_ok: |text| !text.starts_with('|'),
        ok_message: "core dumps are files",
        warning: "core dumps, those of containers too, are piped to a program on the host (sandboxes make none)",
        remedy: "sysctl kernel.core_pattern=core",
    },
    KernelSetting {
        name: "bpf",
        path: "/proc/sys/kernel/unprivileged_bpf_disabled",
        is_ok: |text| number(text) > 0,
        ok_message: "only root can load BPF programs",
        warning: "every user can load BPF programs (programs in sandboxes cannot)",
        remedy: "sysctl kernel.unprivileged_bpf_disabled=1",
    },
    KernelSetting {
        name: "kernel-log",
        path: "/proc/sys/kernel/dmesg_restrict",
        is_ok: |text| number(text) == 1,
        ok_message: "only root can read the kernel log",
        warning: "every user can read the kernel log and the addresses in it (programs in sandboxes cannot)",
        remedy: "sysctl kernel.dmesg_restrict=1",
    },
    KernelSetting {
        name: "kernel-pointers",
        path: "/proc/sys/kernel/kptr_restrict",
        is_ok: |text| number(text) >= 1,
        ok_message: "kernel addresses are hidden",
        warning: "kernel addresses are visible",
        remedy: "sysctl kernel.kptr_restrict=1",
    },
    KernelSetting {
        name: "hard-links",
        path: "/proc/sys/fs/protected_hardlinks",
        is_ok: |text| number(text) == 1,
        ok_message: "users cannot make hard links to files of others",
        warning: "every user can make hard links to files of others",
        remedy: "sysctl fs.protected_hardlinks=1",
    },
    KernelSetting {
        name: "symlinks",
        path: "/proc/sys/fs/protected_symlinks",
        is_ok: |text| number(text) == 1,
        ok_message: "symlinks of others in shared folders are not followed",
        warning: "symlinks of others in /tmp are followed",
        remedy: "sysctl fs.protected_symlinks=1",
    },
];

impl HostFiles {
    pub fn new(root: impl Into<PathBuf>) -> HostFiles {
        HostFiles { root: root.into() }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn read(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.path(path)).ok()
    }

    /// All checks. `engine` is the path of the engine's socket, if it has one.
    pub fn checks(&self, engine: Option<&Path>) -> Vec<DoctorCheck> {
        let mut found = Vec::new();
        if let Some(socket) = engine {
            found.push(self.socket("engine-socket", &socket.to_string_lossy(), &["3.15", "3.16"]));
        }
        found.push(self.socket("containerd-socket", "/run/containerd/containerd.sock", &["3.23", "3.24"]));
        found.push(self.group());
        found.push(self.open_port());
        found.push(self.daemon_json());
        found.push(self.apparmor());
        found.push(self.user_namespaces());
        found.push(self.swap());
        found.push(self.vulnerabilities());
        for setting in SETTINGS {
            found.push(match self.read(setting.path) {
                None => DoctorCheck::skip(setting.name, format!("{} does not exist", setting.path)),
                Some(text) if (setting.is_ok)(&text) => DoctorCheck::ok(setting.name, setting.ok_message.into()),
                Some(text) => {
                    let message = format!("{} ({})", setting.warning, text.trim());
                    DoctorCheck::warn(setting.name, message, Some(setting.remedy.into()))
                }
            });
        }
        found
    }

    /// Write access to an engine's socket is equivalent to root.
    fn socket(&self, name: &'static str, path: &str, items: &[&str]) -> DoctorCheck {
        let Ok(meta) = std::fs::metadata(self.path(path)) else {
            return DoctorCheck::skip(name, format!("{path} does not exist"));
        };
        let mode = meta.permissions().mode() & 0o777;
        let message = format!("{path}: mode {mode:04o}, uid {}, gid {} {}", meta.uid(), meta.gid(), cis(items));
        match mode {
            mode if mode & 0o002 != 0 => DoctorCheck::fail(
                name,
                format!("{message}: every local user can become root"),
                format!("chmod 0660 {path}"),
            ),
            mode if mode & 0o004 != 0 || meta.uid() != 0 => {
                DoctorCheck::warn(name, message, Some(format!("chown root {path}; chmod 0660 {path}")))
            }
            _ => DoctorCheck::ok(name, message),
        }
    }

    fn group(&self) -> DoctorCheck {
        let name = "docker-group";
        let groups = self.read("/etc/group").unwrap_or_default();
        let Some(line) = groups.lines().find(|line| line.starts_with("docker:")) else {
            return DoctorCheck::ok(name, format!("the docker group does not exist {}", cis(&["1.1.2"])));
        };
        let members: Vec<&str> =
            line.rsplit(':').next().unwrap_or("").split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
        match members.as_slice() {
            [] => DoctorCheck::ok(name, format!("it has no members {}", cis(&["1.1.2"]))),
            some => {
                let message = format!("its members can become root: {} {}", some.join(", "), cis(&["1.1.2"]));
                DoctorCheck::warn(
                    name,
                    message,
                    Some("gpasswd -d NAME docker, for each member that does not need root".into()),
                )
            }
        }
    }

    /// Port 2375 is the engine's port without TLS; 0947 in hexadecimal, state 0A is LISTEN.
    fn open_port(&self) -> DoctorCheck {
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
            false => DoctorCheck::ok(name, format!("nothing listens on port 2375 {}", cis(&["2.7"]))),
            true => DoctorCheck::fail(
                name,
                format!(
                    "something listens on port 2375, the engine's port without TLS: access to it is access as root {}",
                    cis(&["2.7"])
                ),
                "Remove the tcp:// address, or use --tlsverify (docs/DOCKER.md).".into(),
            ),
        }
    }

    fn daemon_json(&self) -> DoctorCheck {
        let (name, path) = ("daemon.json", "/etc/docker/daemon.json");
        let Some(text) = self.read(path) else {
            return DoctorCheck::ok(name, format!("{path} does not exist: the engine uses its defaults"));
        };
        let Ok(json) = serde_json::from_str::<serde_json::Value>(&text) else {
            return DoctorCheck::fail(
                name,
                format!("{path} is not valid JSON"),
                "Fix it: the engine will not start again.".into(),
            );
        };
        let mode = std::fs::metadata(self.path(path)).map_or(0, |meta| meta.permissions().mode() & 0o777);
        let mut problems = Vec::new();
        if mode & 0o022 != 0 {
            problems.push(format!("other users can write it (mode {mode:04o}) {}", cis(&["3.18"])));
        }
        if json["insecure-registries"].as_array().is_some_and(|all| !all.is_empty()) {
            problems.push(format!("insecure-registries: images are not authenticated {}", cis(&["2.5"])));
        }
        if json["seccomp-profile"] == "unconfined" {
            problems.push(format!("seccomp-profile: unconfined {}", cis(&["2.17"])));
        }
        if json["experimental"] == true {
            problems.push(format!("experimental is on {}", cis(&["2.18"])));
        }
        match problems.is_empty() {
            true => DoctorCheck::ok(name, format!("{path}: mode {mode:04o}, no weak settings")),
            false => {
                DoctorCheck::warn(name, problems.join("; "), Some(format!("Fix {path}, then restart the engine.")))
            }
        }
    }

    fn apparmor(&self) -> DoctorCheck {
        let name = "apparmor";
        match self.read("/sys/module/apparmor/parameters/enabled").as_deref().map(str::trim) {
            Some("Y") => DoctorCheck::ok(
                name,
                format!("enabled; cells need the profile assay-cell, which the package loads {}", cis(&["5.2"])),
            ),
            _ => {
                let message = format!(
                    "disabled: one layer less around the init (programs have a seccomp filter of their own) {}",
                    cis(&["5.2"])
                );
                DoctorCheck::warn(
                    name,
                    message,
                    Some("Boot with apparmor=1 security=apparmor, if the kernel supports it.".into()),
                )
            }
        }
    }

    /// Whether unprivileged users can create user namespaces, which cells need.
    fn user_namespaces(&self) -> DoctorCheck {
        let name = "user-namespaces";
        let is_zero = |path: &str| self.read(path).is_some_and(|text| text.trim() == "0");
        let remedy = |text: &str| Some(text.to_owned());
        if is_zero("/proc/sys/kernel/unprivileged_userns_clone") {
            let message = "only for root: no cells".to_owned();
            return DoctorCheck::warn(name, message, remedy("sysctl kernel.unprivileged_userns_clone=1"));
        }
        if is_zero("/proc/sys/user/max_user_namespaces") {
            return DoctorCheck::warn(
                name,
                "disabled: no cells".into(),
                remedy("sysctl user.max_user_namespaces=65536"),
            );
        }
        let restricted = self.read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns");
        if restricted.is_some_and(|text| text.trim() == "1") {
            let message = "only with an AppArmor profile that allows them".to_owned();
            let load =
                "apparmor_parser -r /etc/apparmor.d/assay-cell, and apparmor_profile = \"assay-cell\" in [engine]";
            return DoctorCheck::warn(name, message, remedy(load));
        }
        DoctorCheck::ok(name, "available: cells work".into())
    }

    fn swap(&self) -> DoctorCheck {
        match self.read("/proc/swaps").map_or(0, |text| text.lines().count().saturating_sub(1)) {
            0 => DoctorCheck::ok("swap-space", "no swap: run times are not affected".into()),
            _ => DoctorCheck::warn(
                "swap-space",
                "swap is on: sandboxes never swap, but the machine may, which makes runs slower".into(),
                Some("swapoff -a, and no swap in /etc/fstab".into()),
            ),
        }
    }

    fn vulnerabilities(&self) -> DoctorCheck {
        let name = "cpu";
        let Ok(entries) = std::fs::read_dir(self.path("/sys/devices/system/cpu/vulnerabilities")) else {
            return DoctorCheck::skip(name, "the kernel does not report CPU vulnerabilities".into());
        };
        let mut vulnerable: Vec<String> = entries
            .flatten()
            .filter(|entry| {
                std::fs::read_to_string(entry.path()).is_ok_and(|text| text.trim_start().starts_with("Vulnerable"))
            })
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        vulnerable.sort();
        let smt = self.read("/sys/devices/system/cpu/smt/active").is_some_and(|text| text.trim() == "1");
        let threads = if smt { "; hyper-threading is on, and threads of one core share caches (nosmt)" } else { "" };
        match vulnerable.is_empty() {
            true => DoctorCheck::ok(name, format!("all known vulnerabilities are mitigated{threads}")),
            false => {
                let message = format!("vulnerable to {}{threads}", vulnerable.join(", "));
                DoctorCheck::warn(name, message, Some("Update microcode and kernel; remove mitigations=off.".into()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::checks::CheckStatus;
    use super::*;

    fn machine(files: &[(&str, &str, u32)]) -> (tempfile::TempDir, HostFiles) {
        let folder = tempfile::tempdir().unwrap();
        for (path, text, mode) in files {
            let path = folder.path().join(path.trim_start_matches('/'));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(*mode)).unwrap();
        }
        let machine = HostFiles::new(folder.path());
        (folder, machine)
    }

    fn status(found: &[DoctorCheck], name: &str) -> CheckStatus {
        found.iter().find(|check| check.name == name).unwrap().status
    }

    #[test]
    fn access_to_the_engine_is_checked() {
        let head = "  sl  local_address rem_address   st\n";
        let (_folder, machine) = machine(&[
            ("/run/docker.sock", "", 0o666),
            ("/run/containerd/containerd.sock", "", 0o660),
            ("/etc/group", "root:x:0:\ndocker:x:999:ann,bob\n", 0o644),
            ("/proc/net/tcp", &format!("{head}   0: 00000000:0947 00000000:0000 0A\n"), 0o644),
            ("/etc/docker/daemon.json", r#"{"insecure-registries":["x"],"experimental":true}"#, 0o666),
        ]);
        let found = machine.checks(Some(Path::new("/run/docker.sock")));
        assert_eq!(status(&found, "engine-socket"), CheckStatus::Fail);
        assert_eq!(status(&found, "docker-group"), CheckStatus::Warn);
        assert_eq!(status(&found, "plaintext-port"), CheckStatus::Fail);
        let json = found.iter().find(|check| check.name == "daemon.json").unwrap();
        assert_eq!((json.status, json.message.matches(';').count()), (CheckStatus::Warn, 2), "{}", json.message);
        assert!(found.iter().all(|check| check.status == CheckStatus::Ok
            || check.status == CheckStatus::Skip
            || check.remedy.is_some()));
    }

    #[test]
    fn recommended_kernel_settings_pass() {
        let mut files: Vec<(&str, &str, u32)> = SETTINGS.iter().map(|setting| (setting.path, "1\n", 0o644)).collect();
        files[0].1 = "2\n";
        files[1].1 = "core\n";
        files.push(("/proc/swaps", "Filename Type\n", 0o644));
        files.push(("/proc/sys/user/max_user_namespaces", "100\n", 0o644));
        files.push(("/sys/devices/system/cpu/vulnerabilities/meltdown", "Mitigation: PTI\n", 0o644));
        let (_folder, good) = machine(&files);
        let found = good.checks(None);
        let not_ok: Vec<_> =
            found.iter().filter(|check| check.status != CheckStatus::Ok).map(|check| check.name).collect();
        assert_eq!(not_ok, ["containerd-socket", "apparmor"]);
        files.push(("/sys/devices/system/cpu/vulnerabilities/mds", "Vulnerable: no microcode\n", 0o644));
        files[1].1 = "|/usr/share/apport %p\n";
        files.push(("/proc/sys/kernel/unprivileged_userns_clone", "0\n", 0o644));
        let (_folder, weak) = machine(&files);
        let found = weak.checks(None);
        for name in ["cpu", "core-pattern", "user-namespaces"] {
            assert_eq!(status(&found, name), CheckStatus::Warn, "{name}");
        }
    }
}
