//! What a run's own processes tell the init, on a close-on-exec pipe: that the program starts, that a step failed, how a
//! cell's program ended, and how the cell is then. Records of our own code only: the pipe is closed when the program begins.
//!
//! ```text
//! 'T' | time u64 | ready since u64 | CPU before the order u64 | CPU since then u64 | whether it is a runtime that had waited u8
//! 'F' | errno i32 | length u8 | step
//! 'E' | kind u8 (0 exited, 1 signaled) | value u8 | survivors u32 | time u64 | user u64 | system u64 | largest u64 | before u64
//!     | whether the cell is as new u8
//!     | [when it is: time u64 | CPU of its PID 1 u64 | the cgroup's CPU u64 | OOM kills u64 | denied forks u64 | memory u64 | its peak u64]
//! ```

use super::cgroup::Counters;
use super::sys::{self, Errno};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use wire::frame::Ended;

/// A step that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// Its name.
    pub step: String,
    /// Its errno.
    pub errno: Errno,
}

impl Failed {
    /// A failed step.
    #[must_use]
    pub fn new(step: &str, errno: Errno) -> Self {
        Self { step: step.to_owned(), errno }
    }
}

/// How a cell's program ended, by the cell's PID 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// The main process.
    pub ended: Ended,
    /// Processes that were alive then.
    pub survivors: u32,
    /// When, monotonic, in nanoseconds.
    pub at: u64,
    /// User time of all, in nanoseconds.
    pub user_ns: u64,
    /// System time of all.
    pub system_ns: u64,
    /// Largest resident set, in bytes.
    pub max_rss: u64,
    /// CPU time of the main process before it was the program's: not in the above, but in what the kernel says of the cell's PID 1.
    pub before_ns: u64,
    /// When the cell is as it was before its program came, and its PID 1 goes on with the next order: what was counted then.
    pub as_new: Option<Between>,
}

impl End {
    /// What the kernel counts for the children of the cell's PID 1, in nanoseconds.
    #[must_use]
    pub fn children_ns(&self) -> u64 {
        self.user_ns + self.system_ns + self.before_ns
    }
}

/// Between two programs of one cell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Between {
    /// When, monotonic, in nanoseconds.
    pub at: u64,
    /// CPU time of the cell's PID 1, in nanoseconds.
    pub leader_ns: u64,
    /// The sandbox's counters.
    pub counters: Counters,
}

/// A program's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// When it went into exec, or was let go, monotonic, in nanoseconds.
    pub at: u64,
    /// Since when it had been ready for its order.
    pub ready_at: u64,
    /// CPU time that it had taken when the order came, in nanoseconds.
    pub before_ns: u64,
    /// CPU time from there to its start: not the program's either.
    pub setup_ns: u64,
    /// Whether it is a runtime that had waited.
    pub hot: bool,
}

/// What has been heard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heard {
    /// Its start.
    pub start: Option<Start>,
    /// The step that failed.
    pub failed: Option<Failed>,
    /// How a cell's program ended.
    pub end: Option<End>,
}

/// Our end of the pipe.
pub struct Report {
    fd: OwnedFd,
    bytes: Vec<u8>,
    heard: Heard,
}

impl Report {
    /// The end must not block.
    #[must_use]
    pub fn new(fd: OwnedFd) -> Self {
        Self { fd, bytes: Vec::new(), heard: Heard::default() }
    }

    /// For poll.
    #[must_use]
    pub fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Forgets what was heard: another run begins. What is said of that one is kept apart until then.
    #[must_use]
    pub fn anew(self) -> Self {
        Self { heard: Heard::default(), ..self }
    }

    /// What was heard so far.
    #[must_use]
    pub fn heard(&self) -> &Heard {
        &self.heard
    }

    /// Everything said so far. Never waits.
    pub fn hear(&mut self) -> &Heard {
        let mut buffer = [0; 512];
        while let Ok(n) = sys::read(self.fd.as_raw_fd(), &mut buffer) {
            if n == 0 {
                break;
            }
            self.bytes.extend_from_slice(buffer.get(..n).unwrap_or_default());
        }
        let taken = parse(&self.bytes, &mut self.heard);
        self.bytes.drain(..taken);
        &self.heard
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = bytes.split_first_chunk::<N>()?;
    *bytes = tail;
    Some(*head)
}

fn number(bytes: &mut &[u8]) -> Option<u64> {
    take(bytes).map(u64::from_le_bytes)
}

/// Reads whole records until an end; gives how many bytes they were.
fn parse(all: &[u8], heard: &mut Heard) -> usize {
    let mut rest = all;
    while heard.end.is_none()
        && let Some(after) = one(rest, heard)
    {
        rest = after;
    }
    all.len() - rest.len()
}

fn one<'a>(bytes: &'a [u8], heard: &mut Heard) -> Option<&'a [u8]> {
    let (tag, mut rest) = bytes.split_first()?;
    match tag {
        b'T' => {
            let (at, ready_at) = (number(&mut rest)?, number(&mut rest)?);
            let (before_ns, setup_ns) = (number(&mut rest)?, number(&mut rest)?);
            let [hot] = take(&mut rest)?;
            heard.start = Some(Start { at, ready_at, before_ns, setup_ns, hot: hot != 0 });
        }
        b'F' => {
            let errno = i32::from_le_bytes(take(&mut rest)?);
            let [length] = take(&mut rest)?;
            let (step, after) = rest.split_at_checked(usize::from(length))?;
            heard.failed = Some(Failed::new(&String::from_utf8_lossy(step), errno));
            rest = after;
        }
        _ => {
            let [kind, value] = take(&mut rest)?;
            let survivors = u32::from_le_bytes(take(&mut rest)?);
            heard.end = Some(End {
                ended: if kind == 0 { Ended::Exited(value) } else { Ended::Signaled(value) },
                survivors,
                at: number(&mut rest)?,
                user_ns: number(&mut rest)?,
                system_ns: number(&mut rest)?,
                max_rss: number(&mut rest)?,
                before_ns: number(&mut rest)?,
                as_new: match take(&mut rest)? {
                    [0] => None,
                    _ => Some(Between {
                        at: number(&mut rest)?,
                        leader_ns: number(&mut rest)?,
                        counters: Counters {
                            cpu_ns: number(&mut rest)?,
                            oom_kills: number(&mut rest)?,
                            pids_denied: number(&mut rest)?,
                            memory: number(&mut rest)?,
                            memory_peak: number(&mut rest)?,
                        },
                    }),
                },
            });
        }
    }
    Some(rest)
}

/// Below PIPE_BUF into a pipe with room: it fits at once. Nobody is there to be told when it does not.
fn say(to: &OwnedFd, record: &[u8]) {
    let _ = sys::write_all(to.as_raw_fd(), record);
}

/// The program starts.
pub fn say_start(to: &OwnedFd, start: Start) {
    // on the stack: whoever shares another's memory allocates nothing
    let mut record = [0; 34];
    record[0] = b'T';
    let numbers = [start.at, start.ready_at, start.before_ns, start.setup_ns];
    for (place, number) in record[1..33].chunks_exact_mut(8).zip(numbers) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    record[33] = u8::from(start.hot);
    say(to, &record);
}

/// A step failed.
pub fn say_failed(to: &OwnedFd, failed: &Failed) {
    let mut record = vec![b'F'];
    record.extend(failed.errno.to_le_bytes());
    let step = failed.step.as_bytes();
    let step = step.get(..255).unwrap_or(step);
    record.push(step.len() as u8);
    record.extend_from_slice(step);
    say(to, &record);
}

/// A cell's program ended.
pub fn say_end(to: &OwnedFd, end: &End) {
    let (kind, value) = match end.ended {
        Ended::Exited(status) => (0, status),
        Ended::Signaled(signal) => (1, signal),
        // there is a record of its own for that
        Ended::NotStarted { .. } => (0, 127),
    };
    let mut record = vec![b'E', kind, value];
    record.extend(end.survivors.to_le_bytes());
    for number in [end.at, end.user_ns, end.system_ns, end.max_rss, end.before_ns] {
        record.extend(number.to_le_bytes());
    }
    record.push(u8::from(end.as_new.is_some()));
    if let Some(Between { at, leader_ns, counters }) = end.as_new {
        let Counters { cpu_ns, oom_kills, pids_denied, memory, memory_peak } = counters;
        for number in [at, leader_ns, cpu_ns, oom_kills, pids_denied, memory, memory_peak] {
            record.extend(number.to_le_bytes());
        }
    }
    say(to, &record);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_the_next_run_is_not_heard_before_its_turn() {
        let (from, to) = sys::pipe().unwrap();
        sys::set_nonblocking(&from).unwrap();
        let mut report = Report::new(from);
        let start = |at| Start { at, ready_at: 0, before_ns: 0, setup_ns: 0, hot: false };
        let ended = Ended::Exited(0);
        let as_new = Some(Between::default());
        let end = End { ended, survivors: 0, at: 2, user_ns: 0, system_ns: 0, max_rss: 0, before_ns: 0, as_new };
        say_start(&to, start(1));
        say_end(&to, &end);
        say_start(&to, start(3));
        assert_eq!((report.hear().start, report.hear().end.clone()), (Some(start(1)), Some(end)));
        let mut next = report.anew();
        assert_eq!((next.hear().start, next.hear().end.clone()), (Some(start(3)), None));
    }

    #[test]
    fn what_is_said_is_heard_in_whatever_pieces() {
        let (from, to) = sys::pipe().unwrap();
        sys::set_nonblocking(&from).unwrap();
        let mut report = Report::new(from);
        assert_eq!(*report.hear(), Heard::default());
        let start = Start { at: 76, ready_at: 77, before_ns: 78, setup_ns: 79, hot: true };
        say_start(&to, start);
        assert_eq!(report.hear().start, Some(start));
        say_failed(&to, &Failed::new("execve", 13));
        let ended = Ended::Signaled(9);
        let counters = Counters { cpu_ns: 7, oom_kills: 8, pids_denied: 9, memory: 10, memory_peak: 11 };
        let as_new = Some(Between { at: 12, leader_ns: 6, counters });
        let end = End { ended, survivors: 3, at: 1, user_ns: 2, system_ns: 3, max_rss: 4, before_ns: 5, as_new };
        say_end(&to, &end);
        let heard = report.hear().clone();
        assert_eq!((heard.failed, heard.end), (Some(Failed::new("execve", 13)), Some(end)));

        let mut bytes = vec![b'T'];
        bytes.extend([0; 33]);
        bytes.extend([b'F', 2, 0, 0, 0, 3, b'a', b'b', b'c']);
        for cut in 0..bytes.len() {
            let mut heard = Heard::default();
            let taken = parse(&bytes[..cut], &mut heard);
            assert_eq!(taken, if cut < 34 { 0 } else { 34 });
        }
    }
}
