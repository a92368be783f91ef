//! What a run's own processes tell the init, on a close-on-exec pipe: that the program starts, that a step failed, how a
//! cell's program ended. Records of our own code only: the pipe is closed when the program begins.
//!
//! ```text
//! 'T' | time u64 | CPU so far u64
//! 'F' | errno i32 | length u8 | step
//! 'E' | kind u8 (0 exited, 1 signaled) | value u8 | survivors u32 | time u64 | user u64 | system u64 | largest u64 | before u64
//! ```

use super::sys::{self, Errno};
use crate::wire::frame::Ended;
use std::os::fd::{AsRawFd, OwnedFd};

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
    /// CPU time of the cell's PID 1 itself when it forked the program, in nanoseconds: what it takes after that is no more
    /// the program's than what it took before.
    pub before_ns: u64,
}

/// What has been heard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heard {
    /// When the program went into exec, and the CPU time that its set-up had taken: not the program's.
    pub exec: Option<(u64, u64)>,
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

/// Reads whole records; gives how many bytes they were.
fn parse(all: &[u8], heard: &mut Heard) -> usize {
    let mut rest = all;
    while let Some(after) = one(rest, heard) {
        rest = after;
    }
    all.len() - rest.len()
}

fn one<'a>(bytes: &'a [u8], heard: &mut Heard) -> Option<&'a [u8]> {
    let (tag, mut rest) = bytes.split_first()?;
    match tag {
        b'T' => heard.exec = Some((number(&mut rest)?, number(&mut rest)?)),
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
            });
        }
    }
    Some(rest)
}

/// Below PIPE_BUF into a pipe with room: it fits at once. Nobody is there to be told when it does not.
fn say(to: &OwnedFd, record: &[u8]) {
    let _ = sys::write_all(to.as_raw_fd(), record);
}

/// The program starts now; its set-up took so much CPU time.
pub fn say_exec(to: &OwnedFd, cpu_ns: u64) {
    let mut record = vec![b'T'];
    record.extend(sys::now().to_le_bytes());
    record.extend(cpu_ns.to_le_bytes());
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
    say(to, &record);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_heard_in_whatever_pieces() {
        let (from, to) = sys::pipe().unwrap();
        sys::set_nonblocking(&from).unwrap();
        let mut report = Report::new(from);
        assert_eq!(*report.hear(), Heard::default());
        say_exec(&to, 77);
        assert_eq!(report.hear().exec.map(|(_, cpu)| cpu), Some(77));
        say_failed(&to, &Failed::new("execve", 13));
        let ended = Ended::Signaled(9);
        let end = End { ended, survivors: 3, at: 1, user_ns: 2, system_ns: 3, max_rss: 4, before_ns: 5 };
        say_end(&to, &end);
        let heard = report.hear().clone();
        assert_eq!((heard.failed, heard.end), (Some(Failed::new("execve", 13)), Some(end)));

        let mut bytes = vec![b'T'];
        bytes.extend([0; 16]);
        bytes.extend([b'F', 2, 0, 0, 0, 3, b'a', b'b', b'c']);
        for cut in 0..bytes.len() {
            let mut heard = Heard::default();
            let taken = parse(&bytes[..cut], &mut heard);
            assert_eq!(taken, if cut < 17 { 0 } else { 17 });
        }
    }
}
