//! The counters of the sandbox's own cgroup, as a container sees them (ENGINE section 4), version 1 and 2.
//!
//! Files stay open and are read with pread: a snapshot costs a few microseconds. A counter that does not exist reads
//! as none.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

const ROOT: &str = "/sys/fs/cgroup";

#[derive(Debug)]
enum Layout {
    V1,
    V2,
}

#[derive(Debug)]
pub(super) struct Cgroup {
    layout: Layout,
    memory: File,
    memory_used: File,
    memory_peak: Option<File>,
    cpu: Option<File>,
    pids_events: Option<File>,
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Snapshot {
    pub(super) cpu_ns: Option<u64>,
    pub(super) oom_kills: u64,
    pub(super) pids_denied: u64,
    pub(super) memory_used: u64,
    pub(super) memory_peak: Option<u64>,
}

/// The limits that the cgroup states. `u64::MAX` is unlimited, 0 unknown.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Stated {
    pub(super) memory: u64,
    pub(super) swap: u64,
    pub(super) pids: u64,
    pub(super) nano_cpus: u64,
}

fn open(path: &str) -> Option<File> {
    File::open(Path::new(ROOT).join(path)).ok()
}

fn text(file: &File) -> String {
    let mut buffer = [0; 4096];
    let n = file.read_at(&mut buffer, 0).unwrap_or(0);
    String::from_utf8_lossy(&buffer[..n]).into_owned()
}

/// The number behind `key` in lines of `key number`.
fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// A number, `max` being the largest there is. Version 1 says "unlimited" with a number near 2^63.
fn limit(text: &str) -> Option<u64> {
    let text = text.trim();
    if text == "max" || text == "-1" {
        return Some(u64::MAX);
    }
    text.parse().ok().map(|number: u64| if number >= 1 << 62 { u64::MAX } else { number })
}

impl Cgroup {
    pub(super) fn open() -> Option<Cgroup> {
        if Path::new(ROOT).join("cgroup.controllers").exists() {
            return Some(Cgroup {
                layout: Layout::V2,
                memory: open("memory.events")?,
                memory_used: open("memory.current")?,
                memory_peak: open("memory.peak"),
                cpu: open("cpu.stat"),
                pids_events: open("pids.events"),
            });
        }
        Some(Cgroup {
            layout: Layout::V1,
            memory: open("memory/memory.oom_control")?,
            memory_used: open("memory/memory.usage_in_bytes")?,
            memory_peak: open("memory/memory.max_usage_in_bytes"),
            cpu: open("cpuacct/cpuacct.usage").or_else(|| open("cpu,cpuacct/cpuacct.usage")),
            pids_events: open("pids/pids.events"),
        })
    }

    pub(super) fn version(&self) -> u8 {
        match self.layout {
            Layout::V1 => 1,
            Layout::V2 => 2,
        }
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot {
            cpu_ns: self.cpu_ns(),
            oom_kills: self.oom_kills(),
            pids_denied: self.pids_events.as_ref().and_then(|file| keyed(&text(file), "max")).unwrap_or(0),
            memory_used: self.memory_used(),
            memory_peak: self.memory_peak.as_ref().and_then(|file| limit(&text(file))),
        }
    }

    pub(super) fn cpu_ns(&self) -> Option<u64> {
        let text = text(self.cpu.as_ref()?);
        match self.layout {
            Layout::V1 => text.trim().parse().ok(),
            Layout::V2 => keyed(&text, "usage_usec").map(|micros| micros * 1000),
        }
    }

    pub(super) fn oom_kills(&self) -> u64 {
        keyed(&text(&self.memory), "oom_kill").unwrap_or(0)
    }

    pub(super) fn memory_used(&self) -> u64 {
        limit(&text(&self.memory_used)).unwrap_or(0)
    }

    /// What the cgroup says of its limits.
    pub(super) fn stated(&self) -> Stated {
        let read = |path: &str| open(path).map(|file| text(&file)).unwrap_or_default();
        match self.layout {
            Layout::V1 => {
                let memory = limit(&read("memory/memory.limit_in_bytes")).unwrap_or(0);
                let both = limit(&read("memory/memory.memsw.limit_in_bytes"));
                let cpu = |name: &str| {
                    let text = read(&format!("cpu/{name}"));
                    if text.is_empty() { read(&format!("cpu,cpuacct/{name}")) } else { text }
                };
                Stated {
                    memory,
                    swap: both.map_or(u64::MAX, |both| both.saturating_sub(memory)),
                    pids: limit(&read("pids/pids.max")).unwrap_or(0),
                    nano_cpus: share(limit(&cpu("cpu.cfs_quota_us")), limit(&cpu("cpu.cfs_period_us"))),
                }
            }
            Layout::V2 => {
                let cpu = read("cpu.max");
                let mut words = cpu.split_whitespace().map(limit);
                Stated {
                    memory: limit(&read("memory.max")).unwrap_or(0),
                    // no swap file means a kernel without swap accounting: unlimited as far as we can tell
                    swap: limit(&read("memory.swap.max")).unwrap_or(u64::MAX),
                    pids: limit(&read("pids.max")).unwrap_or(0),
                    nano_cpus: share(words.next().flatten(), words.next().flatten()),
                }
            }
        }
    }
}

fn share(quota: Option<u64>, period: Option<u64>) -> u64 {
    match (quota, period) {
        (Some(u64::MAX), _) => u64::MAX,
        (Some(quota), Some(period)) if period > 0 => (u128::from(quota) * 1_000_000_000 / u128::from(period)) as u64,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_by_their_whole_name() {
        let text = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        assert_eq!(keyed(text, "oom_kill"), Some(3));
        assert_eq!(keyed("low 0\nmax 7\n", "max"), Some(7));
        assert_eq!(keyed("", "max"), None);
    }

    #[test]
    fn unlimited_is_said_in_three_ways() {
        assert_eq!(limit("max\n"), Some(u64::MAX));
        assert_eq!(limit("-1\n"), Some(u64::MAX));
        assert_eq!(limit("9223372036854771712"), Some(u64::MAX));
        assert_eq!(limit("268435456\n"), Some(268_435_456));
    }

    #[test]
    fn a_cpu_share_is_quota_by_period() {
        assert_eq!(share(Some(50_000), Some(100_000)), 500_000_000);
        assert_eq!(share(Some(u64::MAX), Some(100_000)), u64::MAX);
        assert_eq!(share(None, None), 0);
    }
}
