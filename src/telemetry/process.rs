//! The figures of this process, under the names that every Prometheus client library gives them. Read from /proc when they are
//! asked for.

use std::fmt;
use std::fs;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{SysconfVar, sysconf};

use super::metrics::{Sheet, Unit};

/// What the kernel says of this process.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    /// CPU time, user and system.
    pub cpu: Duration,
    /// Resident memory, in bytes.
    pub resident_bytes: u64,
    /// Address space, in bytes.
    pub virtual_bytes: u64,
    /// Threads.
    pub threads: u64,
    /// When it started, since 1970.
    pub started: Duration,
}

fn of_system(what: SysconfVar, usual: u64) -> u64 {
    sysconf(what).ok().flatten().and_then(|value| u64::try_from(value).ok()).filter(|value| *value > 0).unwrap_or(usual)
}

/// Reads `/proc/self/stat` and the boot time of `/proc/stat`; none when they are not what proc(5) says.
fn parse(stat: &str, boot: &str, ticks: u64, page: u64) -> Option<Figures> {
    // the name stands in parentheses and may hold anything, also parentheses
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    // field 3 of proc(5) is the first behind the name
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let since_boot = |ticks_of: u64| Duration::from_secs_f64(ticks_of as f64 / ticks as f64);
    let booted: u64 = boot.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(Figures {
        cpu: since_boot(field(14)? + field(15)?),
        threads: field(20)?,
        started: Duration::from_secs(booted) + since_boot(field(22)?),
        virtual_bytes: field(23)?,
        resident_bytes: field(24)? * page,
    })
}

/// The machine's boot time as `/proc/stat` would say it, by the clocks.
fn boot_time() -> Option<String> {
    let up = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).ok()?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(format!("btime {}\n", now.as_secs().saturating_sub(u64::try_from(up.tv_sec()).ok()?)))
}

impl Figures {
    /// Those of now.
    pub fn read() -> Option<Figures> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        // hidden from a service with ProcSubset=pid
        let boot = fs::read_to_string("/proc/stat").ok().or_else(boot_time)?;
        parse(&stat, &boot, of_system(SysconfVar::CLK_TCK, 100), of_system(SysconfVar::PAGE_SIZE, 4096))
    }
}

/// Open file descriptors; the one that looks is not counted.
fn open_files() -> Option<usize> {
    Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1))
}

/// Writes them all.
///
/// # Errors
/// The writer's.
pub fn write(sheet: &mut Sheet<'_>) -> fmt::Result {
    if let Some(figures) = Figures::read() {
        let cpu = figures.cpu.as_secs_f64();
        sheet.counter("process_cpu", "CPU time spent, user and system.", Some(Unit::Seconds), cpu)?;
        let bytes = Some(Unit::Bytes);
        sheet.gauge("process_resident_memory", "Resident memory.", bytes.clone(), figures.resident_bytes as f64)?;
        sheet.gauge("process_virtual_memory", "Address space.", bytes, figures.virtual_bytes as f64)?;
        sheet.gauge("process_threads", "Threads of the daemon.", None, figures.threads as f64)?;
        let started = figures.started.as_secs_f64();
        sheet.gauge("process_start_time", "Start of the daemon, since 1970.", Some(Unit::Seconds), started)?;
    }
    if let Some(open) = open_files() {
        sheet.gauge("process_open_fds", "Open file descriptors.", None, open as f64)?;
    }
    if let Ok((most, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
        sheet.gauge("process_max_fds", "Open file descriptors at most.", None, most as f64)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_time_by_the_clocks_is_the_one_that_the_kernel_says() {
        let seconds = |text: &str| -> u64 {
            text.lines().find_map(|line| line.strip_prefix("btime ")).unwrap().trim().parse().unwrap()
        };
        let (clocks, kernel) = (boot_time().unwrap(), fs::read_to_string("/proc/stat").unwrap());
        assert!(seconds(&clocks).abs_diff(seconds(&kernel)) <= 2, "{clocks} {kernel}");
    }

    #[test]
    fn a_name_with_parentheses_moves_no_field() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 7 0 1000 4096000 25 0";
        let figures = parse(&format!("9 (a) b (c)) {rest}"), "cpu 1\nbtime 1000\n", 100, 4096).unwrap();
        assert_eq!((figures.cpu, figures.threads), (Duration::from_secs(2), 7));
        assert_eq!((figures.virtual_bytes, figures.resident_bytes), (4_096_000, 25 * 4096));
        assert_eq!(figures.started, Duration::from_secs(1010));
        assert_eq!(parse("9 (a", "btime 1", 100, 4096), None);
    }

    #[test]
    fn this_process_has_figures() {
        let figures = Figures::read().unwrap();
        assert!(figures.threads > 0 && figures.resident_bytes > 0 && figures.virtual_bytes >= figures.resident_bytes);
        assert!(open_files().unwrap() > 2);
    }
}
