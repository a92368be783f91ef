//! The sandbox's cgroup as seen from inside: counters and limits, versions 1 and 2.
//!
//! The counters' files are opened once and read with pread, which takes a few microseconds.
//! Counters cover the container's whole life, so only differences are meaningful (docs/ENGINE.md,
//! memory, CPU and process counts).

use super::sys;
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::libc;

/// Values of the counters at one time. A counter that is not visible is 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CgroupCounters {
    /// CPU time used, in nanoseconds.
    pub cpu_ns: u64,
    pub oom_kills: u64,
    /// Forks that the process limit denied.
    pub pids_denied: u64,
    /// Bytes in use.
    pub memory: u64,
    /// Largest number of bytes ever in use.
    pub memory_peak: u64,
}

/// The limits in force; units and special values as in [`wire::frame::Ready`].
#[derive(Debug, Clone, Copy)]
pub struct CgroupLimits {
    /// In bytes; 0 unknown.
    pub memory: u64,
    /// Bytes beyond memory.
    pub swap: u64,
    /// Processes; 0 unknown.
    pub pids: u64,
    /// CPU quota in 1e-9 CPUs; 0 unknown.
    pub nano_cpus: u64,
}

/// Open files of the counters; `None` for those that are not visible.
#[derive(Debug, Default)]
pub struct Cgroup {
    version: u8,
    cpu: Option<OwnedFd>,
    oom: Option<OwnedFd>,
    pids: Option<OwnedFd>,
    memory: Option<OwnedFd>,
    stat: Option<OwnedFd>,
    peak: Option<OwnedFd>,
}

const ROOT: &str = "/sys/fs/cgroup";
const V1_CPU: [&str; 4] = ["cpuacct", "cpu,cpuacct", "cpuacct,cpu", "cpu"];
const V1_QUOTA: [&str; 3] = ["cpu", "cpu,cpuacct", "cpuacct,cpu"];

fn open(path: &str) -> Option<OwnedFd> {
    let path = CString::new(format!("{ROOT}/{path}")).ok()?;
    sys::open(&path, libc::O_RDONLY).ok()
}

/// Reads a kernel file into `buffer` and returns it as text.
fn text<'a>(fd: Option<&OwnedFd>, buffer: &'a mut [u8]) -> Option<&'a str> {
    let n = sys::read_from_start(fd?.as_raw_fd(), buffer).ok()?;
    std::str::from_utf8(buffer.get(..n)?).ok()
}

/// A file with one number.
fn number(fd: Option<&OwnedFd>) -> Option<u64> {
    let mut buffer = [0; 64];
    parse_number(text(fd, &mut buffer)?)
}

/// `max`, -1 and numbers beyond 2^62 (version 1 has such defaults) mean unlimited: u64::MAX.
fn parse_number(text: &str) -> Option<u64> {
    match text.trim() {
        "max" | "-1" => Some(u64::MAX),
        digits => digits.parse::<u64>().ok().map(|n| if n >= 1 << 62 { u64::MAX } else { n }),
    }
}

/// The value of `key` in a text of lines `key value`.
fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

impl Cgroup {
    /// Opens the counters that are visible.
    #[must_use]
    pub fn find() -> Self {
        if open("cgroup.controllers").is_some() {
            return Self {
                version: 2,
                cpu: open("cpu.stat"),
                oom: open("memory.events"),
                pids: open("pids.events"),
                memory: open("memory.current"),
                stat: open("memory.stat"),
                peak: open("memory.peak"),
            };
        }
        let mut found = Self {
            version: 1,
            cpu: V1_CPU.iter().find_map(|dir| open(&format!("{dir}/cpuacct.usage"))),
            oom: open("memory/memory.oom_control"),
            pids: open("pids/pids.events"),
            memory: open("memory/memory.usage_in_bytes"),
            stat: open("memory/memory.stat"),
            peak: open("memory/memory.max_usage_in_bytes"),
        };
        if found.cpu.is_none() && found.memory.is_none() && found.pids.is_none() {
            found.version = 0;
        }
        found
    }

    /// The descriptors that it holds open.
    pub fn descriptors(&self) -> impl Iterator<Item = &OwnedFd> {
        [&self.cpu, &self.oom, &self.pids, &self.memory, &self.stat, &self.peak].into_iter().flatten()
    }

    /// 1, 2, or 0 when no cgroup is visible.
    #[must_use]
    pub fn version(&self) -> u8 {
        self.version
    }

    /// Whether CPU time is visible.
    #[must_use]
    pub fn has_cpu(&self) -> bool {
        self.cpu.is_some()
    }

    /// Whether memory use is visible.
    #[must_use]
    pub fn has_memory(&self) -> bool {
        self.memory.is_some()
    }

    /// CPU time used, in nanoseconds.
    #[must_use]
    pub fn cpu_ns(&self) -> u64 {
        if self.version == 2 {
            let mut buffer = [0; 2048];
            text(self.cpu.as_ref(), &mut buffer)
                .and_then(|t| keyed(t, "usage_usec"))
                .map_or(0, |us| us.saturating_mul(1000))
        } else {
            number(self.cpu.as_ref()).unwrap_or(0)
        }
    }

    /// OOM kills so far.
    #[must_use]
    pub fn oom_kills(&self) -> u64 {
        let mut buffer = [0; 512];
        text(self.oom.as_ref(), &mut buffer).and_then(|t| keyed(t, "oom_kill")).unwrap_or(0)
    }

    /// Bytes in use.
    #[must_use]
    pub fn memory(&self) -> u64 {
        number(self.memory.as_ref()).unwrap_or(0)
    }

    /// Bytes of anonymous memory and tmpfs files, which a run can leave behind. Without the page
    /// cache, which the kernel drops when memory is short.
    #[must_use]
    pub fn held(&self) -> u64 {
        let mut buffer = [0; 8192];
        let Some(stat) = text(self.stat.as_ref(), &mut buffer) else { return 0 };
        let anonymous = keyed(stat, if self.version == 2 { "anon" } else { "rss" });
        anonymous.unwrap_or(0) + keyed(stat, "shmem").unwrap_or(0)
    }

    /// Reads all counters.
    #[must_use]
    pub fn counters(&self) -> CgroupCounters {
        let mut buffer = [0; 512];
        CgroupCounters {
            cpu_ns: self.cpu_ns(),
            oom_kills: self.oom_kills(),
            pids_denied: text(self.pids.as_ref(), &mut buffer).and_then(|t| keyed(t, "max")).unwrap_or(0),
            memory: self.memory(),
            memory_peak: number(self.peak.as_ref()).unwrap_or(0),
        }
    }

    /// Reads the current limits. Opens files, so not for the hot path.
    #[must_use]
    pub fn limits(&self) -> CgroupLimits {
        let read = |path: &str| number(open(path).as_ref());
        match self.version {
            2 => {
                let mut buffer = [0; 64];
                let file = open("cpu.max");
                CgroupLimits {
                    memory: read("memory.max").unwrap_or(0),
                    swap: read("memory.swap.max").unwrap_or(u64::MAX),
                    pids: read("pids.max").unwrap_or(0),
                    nano_cpus: text(file.as_ref(), &mut buffer).map_or(0, |t| {
                        let mut fields = t.split_whitespace();
                        quota(fields.next().and_then(parse_number), fields.next().and_then(parse_number))
                    }),
                }
            }
            1 => {
                let memory = read("memory/memory.limit_in_bytes").unwrap_or(0);
                let both = read("memory/memory.memsw.limit_in_bytes").unwrap_or(u64::MAX);
                let cpu = |name: &str| V1_QUOTA.iter().find_map(|dir| read(&format!("{dir}/{name}")));
                CgroupLimits {
                    memory,
                    swap: if both == u64::MAX { u64::MAX } else { both.saturating_sub(memory) },
                    pids: read("pids/pids.max").unwrap_or(0),
                    nano_cpus: quota(cpu("cpu.cfs_quota_us"), cpu("cpu.cfs_period_us")),
                }
            }
            _ => CgroupLimits { memory: 0, swap: u64::MAX, pids: 0, nano_cpus: 0 },
        }
    }
}

fn quota(quota: Option<u64>, period: Option<u64>) -> u64 {
    match (quota, period) {
        (Some(u64::MAX), _) => u64::MAX,
        (Some(q), Some(p)) if p > 0 => q.saturating_mul(1_000_000_000) / p,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_whole_word_at_the_start_of_a_line() {
        let events = "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n";
        assert_eq!(keyed(events, "oom_kill"), Some(2));
        assert_eq!(keyed(events, "oom"), Some(3));
        assert_eq!(keyed(events, "kill"), None);
    }

    #[test]
    fn every_spelling_of_unlimited_is_the_same_number() {
        assert_eq!(parse_number("max\n"), Some(u64::MAX));
        assert_eq!(parse_number("-1\n"), Some(u64::MAX));
        assert_eq!(parse_number("9223372036854771712\n"), Some(u64::MAX));
        assert_eq!(parse_number("268435456\n"), Some(268_435_456));
    }

    #[test]
    fn a_quota_is_a_fraction_of_its_period() {
        assert_eq!(quota(Some(150_000), Some(100_000)), 1_500_000_000);
        assert_eq!(quota(Some(u64::MAX), Some(100_000)), u64::MAX);
        assert_eq!(quota(None, Some(1)), 0);
    }
}
