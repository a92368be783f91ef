//! Metrics of this process from `/proc`, under the names that all Prometheus client libraries use.

use std::fmt;
use std::fs;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{SysconfVar, sysconf};

use super::metrics::{MetricsWriter, Unit};

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProcessStats {
    /// User and system time.
    pub cpu: Duration,
    pub resident_bytes: u64,
    /// Size of the address space.
    pub virtual_bytes: u64,
    pub threads: u64,
    /// Start time since the Unix epoch.
    pub started: Duration,
}

fn system_value(name: SysconfVar, default: u64) -> u64 {
    sysconf(name)
        .ok()
        .flatten()
        .and_then(|value| u64::try_from(value).ok())
        .filter(|value| *value > 0)
        .unwrap_or(default)
}

/// Parses `/proc/self/stat` and the boot time in `/proc/stat` (proc(5)). `ticks` is CLK_TCK, `page`
/// in bytes.
fn parse(stat: &str, boot: &str, ticks: u64, page: u64) -> Option<ProcessStats> {
    // the name is in parentheses and may itself contain parentheses
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    // the first field after the name is field 3 of proc(5)
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let since_boot = |value: u64| Duration::from_secs_f64(value as f64 / ticks as f64);
    let booted: u64 = boot.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(ProcessStats {
        cpu: since_boot(field(14)? + field(15)?),
        threads: field(20)?,
        started: Duration::from_secs(booted) + since_boot(field(22)?),
        virtual_bytes: field(23)?,
        resident_bytes: field(24)? * page,
    })
}

/// The `btime` line of `/proc/stat`, computed from the clocks.
fn boot_time() -> Option<String> {
    let up = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).ok()?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(format!("btime {}\n", now.as_secs().saturating_sub(u64::try_from(up.tv_sec()).ok()?)))
}

impl ProcessStats {
    pub fn read() -> Option<ProcessStats> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        // ProcSubset=pid hides /proc/stat
        let boot = fs::read_to_string("/proc/stat").ok().or_else(boot_time)?;
        parse(&stat, &boot, system_value(SysconfVar::CLK_TCK, 100), system_value(SysconfVar::PAGE_SIZE, 4096))
    }
}

/// Open file descriptors, without the one used for counting.
fn open_files() -> Option<usize> {
    Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1))
}

pub fn write(writer: &mut MetricsWriter<'_>) -> fmt::Result {
    if let Some(stats) = ProcessStats::read() {
        let cpu = stats.cpu.as_secs_f64();
        writer.counter("process_cpu", "CPU time spent, user and system.", Some(Unit::Seconds), cpu)?;
        let bytes = Some(Unit::Bytes);
        writer.gauge("process_resident_memory", "Resident memory.", bytes.clone(), stats.resident_bytes as f64)?;
        writer.gauge("process_virtual_memory", "Address space.", bytes, stats.virtual_bytes as f64)?;
        writer.gauge("process_threads", "Threads of the daemon.", None, stats.threads as f64)?;
        let started = stats.started.as_secs_f64();
        writer.gauge("process_start_time", "Start of the daemon, since 1970.", Some(Unit::Seconds), started)?;
    }
    if let Some(open) = open_files() {
        writer.gauge("process_open_fds", "Open file descriptors.", None, open as f64)?;
    }
    if let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
        writer.gauge("process_max_fds", "Open file descriptors at most.", None, soft as f64)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_time_from_the_clocks_equals_the_kernels() {
        let seconds = |text: &str| -> u64 {
            text.lines().find_map(|line| line.strip_prefix("btime ")).unwrap().trim().parse().unwrap()
        };
        let (clocks, kernel) = (boot_time().unwrap(), fs::read_to_string("/proc/stat").unwrap());
        assert!(seconds(&clocks).abs_diff(seconds(&kernel)) <= 2, "{clocks} {kernel}");
    }

    #[test]
    fn a_process_name_with_parentheses_shifts_no_field() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 7 0 1000 4096000 25 0";
        let stats = parse(&format!("9 (a) b (c)) {rest}"), "cpu 1\nbtime 1000\n", 100, 4096).unwrap();
        assert_eq!((stats.cpu, stats.threads), (Duration::from_secs(2), 7));
        assert_eq!((stats.virtual_bytes, stats.resident_bytes), (4_096_000, 25 * 4096));
        assert_eq!(stats.started, Duration::from_secs(1010));
        assert_eq!(parse("9 (a", "btime 1", 100, 4096), None);
    }

    #[test]
    fn the_stats_of_this_process_are_plausible() {
        let stats = ProcessStats::read().unwrap();
        assert!(stats.threads > 0 && stats.resident_bytes > 0 && stats.virtual_bytes >= stats.resident_bytes);
        assert!(open_files().unwrap() > 2);
    }
}
