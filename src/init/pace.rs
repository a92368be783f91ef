//! The pace at which a program's output is read.
//!
//! Each read becomes a frame, which costs the engine and the daemon more than a small write costs
//! the program. So after many small reads in a row the init waits a moment before each: what is
//! written meanwhile comes in one piece.

/// Reads of fewer bytes are small.
const SMALL_BYTES: usize = 256;

/// How many small reads are free.
const FREE_READS: u32 = 64;

/// The pause before each later one.
const PAUSE_NS: u64 = 1_000_000;

/// After so long without output the program has its free reads again.
const QUIET_NS: u64 = 20_000_000;

/// See the head of this file.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pace {
    small_reads: u32,
    last_at: u64,
    /// Until when nothing is read; monotonic, in nanoseconds.
    until: u64,
}

impl Pace {
    /// So many bytes were read.
    pub fn note(&mut self, bytes: usize, now: u64) {
        let is_quiet = now.saturating_sub(self.last_at) > QUIET_NS;
        self.small_reads = match bytes < SMALL_BYTES {
            true if is_quiet => 1,
            true => self.small_reads.saturating_add(1),
            false => 0,
        };
        self.last_at = now;
        if self.small_reads > FREE_READS {
            self.until = now.saturating_add(PAUSE_NS);
        }
    }

    /// Until when nothing is to be read, if it is to wait.
    #[must_use]
    pub fn paused_until(&self, now: u64) -> Option<u64> {
        (self.until > now).then_some(self.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_many_small_reads_each_waits_a_moment() {
        let mut pace = Pace::default();
        let mut now = QUIET_NS * 2;
        for _ in 0..FREE_READS {
            now += 10;
            pace.note(1, now);
            assert_eq!(pace.paused_until(now), None);
        }
        pace.note(1, now);
        assert_eq!(pace.paused_until(now), Some(now + PAUSE_NS));
        assert_eq!(pace.paused_until(now + PAUSE_NS), None);
        pace.note(1, now + PAUSE_NS);
        assert!(pace.paused_until(now + PAUSE_NS).is_some());
        pace.note(SMALL_BYTES, now + 2 * PAUSE_NS);
        assert_eq!(pace.paused_until(now + 2 * PAUSE_NS), None, "a large one");
        (0..=FREE_READS).for_each(|_| pace.note(1, now));
        pace.note(1, now + 2 * QUIET_NS);
        assert_eq!(pace.paused_until(now + 2 * QUIET_NS), None, "after a while");
    }
}
