//! What the init sees of its sandbox, for Ready.
//!
//! An engine may accept a limit and drop it (docs/ENGINE.md, limits that the engine accepts and
//! drops), so everything is read from the kernel. What cannot be read is reported as the weaker
//! value.

use super::cgroup::{Cgroup, CgroupLimits};
use super::sys;
use wire::frame::{InitHello, IsolationMode, Ready, VERSION};

/// Interfaces that kernel modules create in every new namespace, down and without a peer (the
/// sysctl fb_tunnels_only_for_init_net).
const FALLBACK_TUNNELS: [&str; 9] =
    ["tunl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "sit0", "ip6tnl0", "ip6gre0"];

/// Descriptors of the programs' uid that may be in flight before the first run: another daemon's
/// programs may have the same uid.
const MOST_IN_FLIGHT: u64 = 16;

/// How often they are looked at before the uid counts as spent, and the pause in between.
const MAX_SPENT_CHECKS: usize = 40;
const SPENT_CHECK_NS: u64 = 10_000_000;

/// Reads the state of the sandbox.
#[must_use]
pub fn probe(hello: &InitHello, cgroup: &Cgroup) -> Ready {
    let read = sys::read_text;
    let status = read("/proc/self/status");
    let mounts = read("/proc/self/mountinfo");
    let hex = |key| field(&status, key).and_then(|v| u64::from_str_radix(v, 16).ok());
    let ready = Ready {
        version: VERSION,
        nonce: hello.nonce,
        cgroup_version: cgroup.version(),
        cap_eff: hex("CapEff").unwrap_or(u64::MAX),
        cap_bnd: hex("CapBnd").unwrap_or(u64::MAX),
        no_new_privs: sys::has_no_new_privileges(),
        seccomp: field(&status, "Seccomp").and_then(|v| v.parse().ok()).unwrap_or(0),
        uid: sys::euid(),
        userns_remapped: is_remapped(&read("/proc/self/uid_map")),
        only_loopback: only_loopback(&read("/proc/net/dev")),
        readonly_root: mount(&mounts, "/").is_some_and(|m| m.has("ro")),
        uid_is_spent: is_spent(hello),
        box_tmpfs: mount(&mounts, "/box").is_some_and(|m| m.kind == "tmpfs" && m.has("rw") && !m.has("noexec")),
        no_cell: None,
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        ..Ready::default()
    };
    with_limits(ready, &cgroup.limits(), cgroup)
}

/// Whether the programs' uid has descriptors in flight, which it must not have before the first
/// run. Sockets of a sandbox that was removed just now may still be collected.
fn is_spent(hello: &InitHello) -> bool {
    let is_counted = || match hello.isolation {
        IsolationMode::Cell => sys::has_more_in_flight(MOST_IN_FLIGHT),
        // root's own descriptors count for root
        IsolationMode::Split => sys::in_child(|| {
            let ids = sys::drop_groups().and_then(|()| sys::set_gid(hello.gid)).and_then(|()| sys::set_uid(hello.uid));
            ids.is_ok() && sys::has_more_in_flight(MOST_IN_FLIGHT)
        }),
    };
    (0..MAX_SPENT_CHECKS).all(|check| {
        if check > 0 {
            let _ = sys::poll(&mut [], SPENT_CHECK_NS);
        }
        is_counted()
    })
}

/// The same state with these limits, and the memory in use now.
#[must_use]
pub fn with_limits(ready: Ready, limits: &CgroupLimits, cgroup: &Cgroup) -> Ready {
    Ready {
        memory_bytes: limits.memory,
        swap_bytes: limits.swap,
        pids: limits.pids,
        nano_cpus: limits.nano_cpus,
        memory_used_bytes: cgroup.memory(),
        ..ready
    }
}

fn field<'a>(status: &'a str, key: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim)
}

fn is_remapped(uid_map: &str) -> bool {
    uid_map.lines().any(|line| {
        let mut fields = line.split_whitespace();
        fields.next() == Some("0") && fields.next().is_some_and(|outside| outside != "0")
    })
}

/// Whether lo is the only interface. False if the list cannot be read.
fn only_loopback(dev: &str) -> bool {
    let mut names = dev.lines().filter_map(|l| Some(l.split_once(':')?.0.trim()));
    let mut lo = false;
    names.all(|name| {
        lo |= name == "lo";
        name == "lo" || FALLBACK_TUNNELS.contains(&name)
    }) && lo
}

/// An entry of mountinfo.
struct Mount<'a> {
    options: &'a str,
    kind: &'a str,
}

impl Mount<'_> {
    fn has(&self, option: &str) -> bool {
        self.options.split(',').any(|o| o == option)
    }
}

/// The topmost mount at `point` (proc(5): "36 35 98:0 /root /point opts optional... - type source
/// superopts").
fn mount<'a>(mounts: &'a str, point: &str) -> Option<Mount<'a>> {
    mounts.lines().rev().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut fields = left.split(' ').skip(4);
        if fields.next()? != point {
            return None;
        }
        Some(Mount { options: fields.next()?, kind: right.split(' ').next()? })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topmost_mount_of_a_point_counts() {
        let text = "1 0 0:1 / / ro,relatime master:1 - overlay overlay rw\n\
                    2 1 0:2 / /box rw,nosuid shared:3 - ext4 /dev/x rw\n\
                    3 1 0:3 / /box rw,nosuid,noexec - tmpfs tmpfs rw,size=64k\n";
        assert!(mount(text, "/").is_some_and(|m| m.has("ro") && m.kind == "overlay"));
        assert!(mount(text, "/box").is_some_and(|m| m.has("noexec") && m.kind == "tmpfs"));
        assert!(mount(text, "/bo").is_none());
    }

    #[test]
    fn fallback_tunnels_do_not_count_as_interfaces() {
        let head = "Inter-|   Receive\n face |bytes\n";
        assert!(only_loopback(&format!("{head}    lo: 0 0\n")));
        assert!(only_loopback(&format!("{head}    lo: 0 0\n  sit0: 0 0\n")));
        assert!(!only_loopback(&format!("{head}    lo: 0 0\n  eth0: 0 0\n")));
        assert!(!only_loopback(head));
        assert!(!only_loopback(""));
    }

    #[test]
    fn uid_0_mapped_to_another_uid_is_remapped() {
        assert!(!is_remapped("         0          0 4294967295\n"));
        assert!(is_remapped("         0     100000      65536\n"));
    }
}
