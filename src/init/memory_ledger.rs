//! The memory ledger of one run: how much of the sandbox's memory was the program's at its peak.
//!
//! The cgroup's counters cover everything in the sandbox, since its start. The program is charged
//! what is left of them:
//!
//! | memory | charged to |
//! |---|---|
//! | the init, ready cells, the template, other waiting runtimes, what earlier runs left | init |
//! | page cache of the image's files, which the kernel drops when memory is short | no one |
//! | the runtime that serves the run, or the pages that it shares with its template | program |
//! | pages, tmpfs files, socket buffers, page tables, stacks, pipes of the program | program |
//!
//! The peak counter is exact if the run raised it ([`MemoryMethod::CgroupPeak`]). If an earlier run
//! or a compiler used more, or if page cache was dropped meanwhile, the figure is the largest of
//! the samples and of the largest process ([`MemoryMethod::Sampled`]). From a process's largest
//! resident set the pages of files are subtracted that it had mapped until then, as far as samples
//! tell when that was. The figure is never above what the peak counter allows.
//!
//! The kernel charges in batches of 64 pages per CPU, so every figure may be that much too high.
//! The ledger itself makes no system call.

use super::cgroup::CgroupCounters;
use super::sys::Resident;
use wire::frame::MemoryMethod;

/// Bytes by which the use may stay below the sandbox's limit when a charge fails.
const CHARGE_SLACK: u64 = 512 * 1024;

/// Page cache that may be dropped unnoticed: the peak counter then tells that much too much.
const CACHE_SLACK: u64 = 1024 * 1024;

/// Memory that runtimes may load beside a run.
const LOADED_SLACK: u64 = 512 * 1024;

/// Bytes that one byte of page table maps.
const PER_TABLE_BYTE: u64 = 512;

/// Memory that a run had before it began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Inherited {
    /// Bytes of its own or shared with a template.
    pub bytes: u64,
    /// Those of them that it copies when it begins, and is charged then.
    pub copied_bytes: u64,
    /// Bytes of mapped files, the page cache's; `None` if it is started from nothing.
    pub file_bytes: Option<u64>,
}

/// See the head of this file. All figures are bytes.
#[derive(Debug, Clone, Copy)]
pub struct MemoryLedger {
    /// Use of the sandbox without the program.
    own: u64,
    /// The same when the run began.
    own_before: u64,
    /// Whether runtimes loaded so much meanwhile that the peak counter is not the program's.
    has_loaded: bool,
    before: CgroupCounters,
    /// The sandbox's limit; 0 unknown.
    sandbox_limit: u64,
    /// Largest use by the program in a sample.
    largest: u64,
    /// Most page cache in a sample.
    most_cache: u64,
    /// Most mapped files of the main process in a sample.
    file_bytes: Option<u64>,
    /// The most that the main process had beside them, up to a sample.
    beside_files: u64,
}

impl MemoryLedger {
    #[must_use]
    pub fn new(before: CgroupCounters, inherited: Inherited, sandbox_limit: u64) -> Self {
        let own = (before.used() + inherited.copied_bytes).saturating_sub(inherited.bytes);
        Self {
            own,
            own_before: own,
            has_loaded: false,
            before,
            sandbox_limit,
            largest: 0,
            most_cache: before.cache,
            file_bytes: inherited.file_bytes,
            beside_files: 0,
        }
    }

    /// Runtimes that load beside the run hold `bytes` more than when it began.
    pub fn set_loaded(&mut self, bytes: u64) {
        self.own = self.own_before.saturating_add(bytes);
        self.has_loaded |= bytes > LOADED_SLACK;
    }

    /// Whether the peak counter told nothing of this run in the last sample.
    #[must_use]
    pub fn is_hidden(&self, now: &CgroupCounters) -> bool {
        now.memory_peak <= self.before.memory_peak
    }

    /// Adds a sample, with what the main process has in memory if it was looked at.
    pub fn sample(&mut self, now: &CgroupCounters, main: Option<Resident>) {
        // what ended a run must not be more than its final figure
        self.largest = self.largest.max(self.peak(now, 0).0);
        self.most_cache = self.most_cache.max(now.cache);
        if let Some(main) = main {
            // a process that is exiting has none
            self.file_bytes = self.file_bytes.max(Some(main.files));
            self.beside_files = self.beside_files.max(main.most.saturating_sub(self.file_bytes.unwrap_or(0)));
        }
    }

    /// Memory in use by the program.
    #[must_use]
    pub fn now(&self, now: &CgroupCounters) -> u64 {
        now.used().saturating_sub(self.own)
    }

    /// The program's peak so far. `max_rss` is the largest resident set of one of its processes,
    /// 0 while it runs.
    #[must_use]
    pub fn peak(&self, now: &CgroupCounters, max_rss: u64) -> (u64, MemoryMethod) {
        let known = self.largest.max(self.now(now)).max(self.sockets(now));
        let is_full = self.sandbox_limit > 0 && now.memory_peak.saturating_add(CHARGE_SLACK) >= self.sandbox_limit;
        if now.oom_kills > self.before.oom_kills && is_full {
            // the use reached the limit in this run, and what page cache was left was in use
            return (known.max(now.memory_peak.saturating_sub(self.own)), MemoryMethod::CgroupPeak);
        }
        let at_peak = now.memory_peak.saturating_sub(now.cache).saturating_sub(self.own);
        let was_dropped = self.most_cache > now.cache + CACHE_SLACK;
        let may_be_dropped = is_full && self.most_cache.max(now.cache) > CACHE_SLACK;
        if !self.is_hidden(now) && !self.has_loaded && !was_dropped && !may_be_dropped {
            return (known.max(at_peak), MemoryMethod::CgroupPeak);
        }
        let resident = max_rss.saturating_sub(self.file_bytes.unwrap_or(0)).max(self.beside_files);
        let estimate = resident + resident / PER_TABLE_BYTE;
        let most = if now.memory_peak > 0 { now.memory_peak.saturating_sub(self.own_before) } else { u64::MAX };
        (known.max(estimate.min(most)), MemoryMethod::Sampled)
    }

    /// The program's peak of socket buffers, where they have a counter of their own.
    fn sockets(&self, now: &CgroupCounters) -> u64 {
        let rose = now.sockets_peak > self.before.sockets_peak;
        if rose { now.sockets_peak.saturating_sub(self.before.sockets) } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn counters(memory: u64, memory_peak: u64) -> CgroupCounters {
        CgroupCounters { memory: memory * MIB, memory_peak: memory_peak * MIB, ..CgroupCounters::default() }
    }

    fn ledger(inherited: u64) -> MemoryLedger {
        let inherited = Inherited { bytes: inherited * MIB, ..Inherited::default() };
        MemoryLedger::new(counters(10, 20), inherited, 100 * MIB)
    }

    fn peak(ledger: &MemoryLedger, now: &CgroupCounters, max_rss: u64) -> (u64, MemoryMethod) {
        let (bytes, method) = ledger.peak(now, max_rss * MIB);
        (bytes / MIB, method)
    }

    #[test]
    fn a_peak_that_the_run_raised_is_exact() {
        assert_eq!(peak(&ledger(0), &counters(11, 50), 99), (40, MemoryMethod::CgroupPeak));
        assert_eq!(peak(&ledger(3), &counters(11, 50), 99), (43, MemoryMethod::CgroupPeak), "what it had before");
    }

    #[test]
    fn memory_of_a_runtime_that_loads_beside_the_run_is_not_the_programs() {
        let mut ledger = ledger(0);
        ledger.set_loaded(15 * MIB);
        ledger.sample(&counters(32, 50), None);
        assert_eq!(peak(&ledger, &counters(26, 50), 0), (7, MemoryMethod::Sampled));
        assert_eq!(peak(&ledger, &counters(26, 50), 9), (9, MemoryMethod::Sampled));
    }

    #[test]
    fn a_hidden_peak_is_sampled_and_bounded_by_the_counter() {
        let mut ledger = ledger(0);
        ledger.sample(&counters(14, 20), Some(Resident { most: 5 * MIB, files: 2 * MIB }));
        assert_eq!(peak(&ledger, &counters(10, 20), 0), (4, MemoryMethod::Sampled));
        assert_eq!(peak(&ledger, &counters(10, 20), 9), (7, MemoryMethod::Sampled), "without mapped files");
        assert_eq!(peak(&ledger, &counters(10, 20), 50), (10, MemoryMethod::Sampled), "not above the counter");
    }

    #[test]
    fn files_that_are_mapped_after_the_peak_do_not_hide_it() {
        let mut ledger = ledger(0);
        let resident = |most, files| Some(Resident { most: most * MIB, files: files * MIB });
        ledger.sample(&counters(11, 20), resident(8, 2));
        ledger.sample(&counters(11, 20), resident(9, 9));
        assert_eq!(peak(&ledger, &counters(10, 20), 9), (6, MemoryMethod::Sampled));
    }

    #[test]
    fn page_cache_is_not_charged() {
        let with = |memory, peak, cache| CgroupCounters { cache: cache * MIB, ..counters(memory, peak) };
        let mut ledger = MemoryLedger::new(with(15, 20, 5), Inherited::default(), 100 * MIB);
        assert_eq!(peak(&ledger, &with(40, 50, 25), 0), (15, MemoryMethod::CgroupPeak));
        // the machine dropped some of it
        ledger.sample(&with(40, 50, 25), None);
        assert_eq!(peak(&ledger, &with(18, 50, 3), 0), (15, MemoryMethod::Sampled));
        // once the sandbox's limit was reached, page cache may have been dropped
        ledger.sample(&with(99, 99, 60), None);
        assert_eq!(peak(&ledger, &with(60, 100, 20), 0), (30, MemoryMethod::Sampled));
    }

    #[test]
    fn an_oom_kill_shows_that_the_sandboxs_limit_was_reached() {
        let killed = |peak| CgroupCounters { oom_kills: 1, cache: 3 * MIB, ..counters(11, peak) };
        assert_eq!(peak(&ledger(0), &killed(100), 0), (90, MemoryMethod::CgroupPeak));
        // the machine's memory was short, not the sandbox's
        assert_eq!(peak(&ledger(0), &killed(20), 0), (0, MemoryMethod::Sampled));
    }

    #[test]
    fn socket_buffers_with_a_counter_of_their_own_are_the_programs() {
        let now = CgroupCounters { sockets: 7 * MIB, sockets_peak: 30 * MIB, ..counters(12, 20) };
        assert_eq!(ledger(0).now(&now), 9 * MIB);
        assert_eq!(peak(&ledger(0), &now, 0).0, 30);
    }
}
