//! The sandbox's cgroup as seen from inside: counters and limits, versions 1 and 2.
//!
//! The counters' files are opened once and read with pread, which takes a few microseconds.
//! Counters cover the container's whole life, so only differences are meaningful (docs/ENGINE.md,
//! memory, CPU and process counts).

use super::limits::{Counted, LEAST_COUNTED_PIDS};
use super::sys;
use std::cell::Cell;
use std::ffi::{CStr, CString};
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
    /// Bytes of page cache: pages of files outside of any tmpfs.
    pub cache: u64,
    /// Bytes of socket buffers that `memory` does not include (version 1).
    pub sockets: u64,
    /// Largest number of these bytes ever in use.
    pub sockets_peak: u64,
}

impl CgroupCounters {
    /// Bytes in use that the kernel cannot drop.
    #[must_use]
    pub fn used(&self) -> u64 {
        (self.memory + self.sockets).saturating_sub(self.cache)
    }
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

impl CgroupLimits {
    /// How many of `cpus` CPUs the sandbox can keep busy, in 1e-9 CPUs: the smaller of affinity and
    /// quota, at least a hundredth of a CPU.
    #[must_use]
    pub fn speed(&self, cpus: u64) -> u64 {
        let all = cpus.saturating_mul(1_000_000_000);
        match self.nano_cpus {
            0 => all,
            quota => quota.min(all),
        }
        .max(10_000_000)
    }
}

/// Open files of the counters; `None` for those that are not visible.
#[derive(Debug, Default)]
pub struct Cgroup {
    version: u8,
    /// The folder of the cgroup file system, which the base covers.
    root: Option<OwnedFd>,
    cpu: Option<OwnedFd>,
    oom: Option<OwnedFd>,
    pids: Option<OwnedFd>,
    memory: Option<OwnedFd>,
    stat: Option<OwnedFd>,
    peak: Option<OwnedFd>,
    sockets: Option<OwnedFd>,
    sockets_peak: Option<OwnedFd>,
    tasks: Option<OwnedFd>,
    /// The limit on processes when the limits were last read: only the daemon changes it, and then
    /// has them read again.
    max_tasks: Cell<Option<u64>>,
}

/// Most processes beyond a program's limit that are filled up (`process_room`).
const MAX_RESERVE: u64 = 128;

/// The part of memory.stat that is read: what is looked for is in its first thousand bytes.
const STAT_BYTES: usize = 4096;

const ROOT: &CStr = c"/sys/fs/cgroup";
const V1_CPU: [&str; 4] = ["cpuacct", "cpu,cpuacct", "cpuacct,cpu", "cpu"];
const V1_QUOTA: [&str; 3] = ["cpu", "cpu,cpuacct", "cpuacct,cpu"];

fn open_below(root: Option<&OwnedFd>, path: &str) -> Option<OwnedFd> {
    sys::open_at(root?, &CString::new(path).ok()?, libc::O_RDONLY, 0).ok()
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
        let root = sys::open(ROOT, libc::O_PATH | libc::O_DIRECTORY).ok();
        let open = |path: &str| open_below(root.as_ref(), path);
        if open("cgroup.controllers").is_some() {
            return Self {
                version: 2,
                cpu: open("cpu.stat"),
                oom: open("memory.events"),
                pids: open("pids.events"),
                memory: open("memory.current"),
                stat: open("memory.stat"),
                peak: open("memory.peak"),
                sockets: None,
                sockets_peak: None,
                tasks: open("pids.current"),
                max_tasks: Cell::default(),
                root,
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
            sockets: open("memory/memory.kmem.tcp.usage_in_bytes"),
            sockets_peak: open("memory/memory.kmem.tcp.max_usage_in_bytes"),
            tasks: open("pids/pids.current"),
            max_tasks: Cell::default(),
            root,
        };
        if found.cpu.is_none() && found.memory.is_none() && found.pids.is_none() {
            found.version = 0;
        }
        found
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

    /// Bytes in use without the page cache of files on disk, which the kernel drops when memory is
    /// short. With kernel memory.
    #[must_use]
    pub fn unreclaimable(&self) -> u64 {
        let mut buffer = [0; STAT_BYTES];
        let Some(stat) = text(self.stat.as_ref(), &mut buffer) else { return 0 };
        let cache = |list: &str| keyed(stat, list).unwrap_or(0);
        self.memory().saturating_sub(cache("active_file") + cache("inactive_file"))
    }

    /// Bytes of page cache.
    fn cache(&self) -> u64 {
        let mut buffer = [0; STAT_BYTES];
        let Some(stat) = text(self.stat.as_ref(), &mut buffer) else { return 0 };
        let files = keyed(stat, if self.version == 2 { "file" } else { "cache" });
        files.unwrap_or(0).saturating_sub(keyed(stat, "shmem").unwrap_or(0))
    }

    /// Whether its memory counters include socket buffers. On version 1 they do not, because
    /// runtimes do not set the limit that turns this on (docs/ENGINE.md, memory, CPU and process
    /// counts).
    #[must_use]
    pub fn counts_sockets(&self) -> bool {
        self.version != 1
    }

    /// Processes and threads; `None` if they are not visible.
    #[must_use]
    pub fn tasks(&self) -> Option<u64> {
        number(self.tasks.as_ref())
    }

    /// The limit on processes and threads when [`Self::limits`] were last read; `None` if it is not
    /// visible.
    #[must_use]
    pub fn max_tasks(&self) -> Option<u64> {
        self.max_tasks.get()
    }

    /// Which limits of a program with this process limit the counters can decide.
    #[must_use]
    pub fn counted(&self, pids: u32) -> Counted {
        let reserve = self.max_tasks().and_then(|max| max.checked_sub(u64::from(pids)));
        let is_fitting = pids >= LEAST_COUNTED_PIDS && reserve.is_some_and(|reserve| reserve <= MAX_RESERVE);
        Counted { cpu: self.has_cpu(), pids: is_fitting && self.pids.is_some() && self.tasks.is_some() }
    }

    /// Forks that the process limit denied so far; `None` if that is not visible.
    #[must_use]
    pub fn pids_denied(&self) -> Option<u64> {
        let mut buffer = [0; 512];
        text(self.pids.as_ref(), &mut buffer).and_then(|t| keyed(t, "max"))
    }

    /// Reads all counters.
    #[must_use]
    pub fn counters(&self) -> CgroupCounters {
        CgroupCounters { cpu_ns: self.cpu_ns(), pids_denied: self.pids_denied().unwrap_or(0), ..self.memory_counters() }
    }

    /// Reads the counters of memory, and OOM kills.
    #[must_use]
    pub fn memory_counters(&self) -> CgroupCounters {
        CgroupCounters {
            oom_kills: self.oom_kills(),
            memory: self.memory(),
            memory_peak: number(self.peak.as_ref()).unwrap_or(0),
            cache: self.cache(),
            sockets: number(self.sockets.as_ref()).unwrap_or(0),
            sockets_peak: number(self.sockets_peak.as_ref()).unwrap_or(0),
            ..CgroupCounters::default()
        }
    }

    /// The content of a small file of the cgroup file system.
    #[must_use]
    pub fn content(&self, path: &str) -> Option<Vec<u8>> {
        let mut buffer = [0; 4096];
        let n = sys::read_from_start(open_below(self.root.as_ref(), path)?.as_raw_fd(), &mut buffer).ok()?;
        buffer.get(..n).map(<[u8]>::to_vec)
    }

    /// Reads the current limits. Opens files, so not for the hot path.
    #[must_use]
    pub fn limits(&self) -> CgroupLimits {
        let limits = self.read_limits();
        self.max_tasks.set(Some(limits.pids).filter(|pids| *pids > 0));
        limits
    }

    fn read_limits(&self) -> CgroupLimits {
        let open = |path: &str| open_below(self.root.as_ref(), path);
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

    #[test]
    fn speed_is_the_smaller_of_affinity_and_quota() {
        let with = |nano_cpus| CgroupLimits { memory: 0, swap: 0, pids: 0, nano_cpus };
        assert_eq!(with(1_500_000_000).speed(2), 1_500_000_000);
        assert_eq!(with(u64::MAX).speed(2), 2_000_000_000);
        assert_eq!(with(0).speed(2), 2_000_000_000);
        assert_eq!(with(4_000_000_000).speed(1), 1_000_000_000);
    }
}
