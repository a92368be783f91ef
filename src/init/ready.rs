//! What the init really sees of its sandbox, for the host to compare with what it asked for.

use nix::sys::statvfs::{FsFlags, statvfs};

use super::cgroup::Cgroup;
use crate::wire::frame::{Ready, VERSION};

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn field<'a>(text: &'a str, name: &str) -> &'a str {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map_or("", str::trim)
}

pub(super) fn look(nonce: [u8; 16], cgroup: Option<&Cgroup>) -> Ready {
    let status = read("/proc/self/status");
    let hex = |name: &str| u64::from_str_radix(field(&status, name), 16).unwrap_or(u64::MAX);
    let stated = cgroup.map(Cgroup::stated).unwrap_or_default();
    Ready {
        version: VERSION,
        nonce,
        cgroup_version: cgroup.map_or(0, Cgroup::version),
        memory_bytes: stated.memory,
        swap_bytes: stated.swap,
        pids: stated.pids,
        nano_cpus: stated.nano_cpus,
        cap_eff: hex("CapEff"),
        cap_bnd: hex("CapBnd"),
        no_new_privs: field(&status, "NoNewPrivs") == "1",
        seccomp: field(&status, "Seccomp").parse().unwrap_or(0),
        uid: nix::unistd::getuid().as_raw(),
        userns_remapped: !is_identity(&read("/proc/self/uid_map")),
        only_loopback: only_loopback(&read("/proc/net/dev")),
        readonly_root: statvfs("/").is_ok_and(|fs| fs.flags().contains(FsFlags::ST_RDONLY)),
        box_tmpfs: is_box_mount(&read("/proc/self/mountinfo")),
        memory_used_bytes: cgroup.map_or(0, Cgroup::memory_used),
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
    }
}

/// Whether uid 0 in here is uid 0 outside.
fn is_identity(uid_map: &str) -> bool {
    uid_map.lines().any(|line| {
        let mut words = line.split_whitespace();
        words.next() == Some("0") && words.next() == Some("0")
    })
}

fn only_loopback(net_dev: &str) -> bool {
    let mut names = net_dev.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim());
    names.all(|name| name == "lo")
}

/// Whether /box is a tmpfs, writable and executable.
fn is_box_mount(mountinfo: &str) -> bool {
    mountinfo.lines().filter_map(|line| line.split_once(" - ")).any(|(mount, fs)| {
        let words: Vec<&str> = mount.split_whitespace().collect();
        let options = words.get(5).copied().unwrap_or_default();
        words.get(4) == Some(&"/box")
            && fs.starts_with("tmpfs ")
            && options.split(',').any(|option| option == "rw")
            && !options.split(',').any(|option| option == "noexec")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_interface_is_seen() {
        let head = "Inter-|   Receive\n face |bytes\n";
        assert!(only_loopback(&format!("{head}    lo: 0 0\n")));
        assert!(!only_loopback(&format!("{head}    lo: 0 0\n  eth0: 0 0\n")));
    }

    #[test]
    fn a_box_that_cannot_execute_is_no_box() {
        let line = |options: &str| format!("66 60 0:50 / /box {options} - tmpfs tmpfs rw,size=1k");
        assert!(is_box_mount(&line("rw,nosuid,nodev,relatime")));
        assert!(!is_box_mount(&line("rw,noexec")));
        assert!(!is_box_mount(&line("ro")));
        assert!(!is_box_mount("66 60 0:50 / /box rw - ext4 /dev/x rw"));
    }

    #[test]
    fn a_remapped_root_is_seen() {
        assert!(is_identity("         0          0 4294967295"));
        assert!(!is_identity("         0     100000      65536"));
    }
}
