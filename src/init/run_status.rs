//! What the processes of a run report to the init, on a close-on-exec pipe: that a cell waits for
//! its run, that the program starts, that a set-up step failed, and how the program of a cell
//! ended. Only our own code writes it: exec closes the pipe.
//!
//! ```text
//! 'W' waiting
//! 'T' start   at u64 | ready_at u64 | before_ns u64 | setup_ns u64 | hot u8
//! 'F' failed  errno i32 | length u8 | step
//! 'E' end     kind u8 (0 exited, 1 signaled) | value u8 | survivors u32 | at u64 | user_ns u64
//!             | system_ns u64 | max_rss u64 | before_ns u64
//! ```
//!
//! All integers are little-endian.

use super::sys::{self, Errno};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use wire::frame::Ended;

use nix::libc;

/// A set-up step that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepError {
    /// Name of the step, for example `execve`.
    pub step: String,
    pub errno: Errno,
}

impl StepError {
    #[must_use]
    pub fn new(step: &str, errno: Errno) -> Self {
        Self { step: step.to_owned(), errno }
    }

    /// For `map_err`: makes the error of `step` from an errno.
    pub fn of(step: &'static str) -> impl Fn(Errno) -> Self {
        move |errno| Self::new(step, errno)
    }
}

/// Result of a set-up step: the name of a failed one and its errno. Allocates nothing, so that it
/// can be used between clone and exec.
pub type StepResult<T> = Result<T, (&'static str, Errno)>;

/// The start of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProgramStart {
    /// Just before exec, or before the runtime was told to go; monotonic, in nanoseconds.
    pub at: u64,
    /// When the process was ready for its run; monotonic, in nanoseconds.
    pub ready_at: u64,
    /// CPU time that it had used when the run arrived, in nanoseconds.
    pub before_ns: u64,
    /// CPU time from there to its start, in nanoseconds. Set-up, not the program's.
    pub setup_ns: u64,
    /// Whether it is a prewarmed runtime.
    pub hot: bool,
}

/// The end of a program in a cell, as the cell init reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellEnd {
    /// How the main process ended.
    pub ended: Ended,
    /// Processes that were still alive then.
    pub survivors: u32,
    /// When the main process ended; monotonic, in nanoseconds.
    pub at: u64,
    /// User time of all processes, in nanoseconds.
    pub user_ns: u64,
    /// System time of all processes, in nanoseconds.
    pub system_ns: u64,
    /// Largest resident set, in bytes.
    pub max_rss: u64,
    /// CPU time of the main process before it became the program, in nanoseconds. Not contained in
    /// `user_ns` and `system_ns`, but in what the kernel counts for the cell init's children.
    pub before_ns: u64,
}

impl CellEnd {
    /// What the kernel counts for the cell init's children because of this run, in nanoseconds.
    #[must_use]
    pub fn children_ns(&self) -> u64 {
        self.user_ns + self.system_ns + self.before_ns
    }
}

/// What was received about one run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunStatus {
    /// Whether the cell waits for its run, with the process in it that does, if any.
    pub waits: bool,
    pub start: Option<ProgramStart>,
    pub failed: Option<StepError>,
    pub end: Option<CellEnd>,
}

/// The init's end of the pipe.
pub struct StatusPipe {
    fd: OwnedFd,
    /// Received bytes that are not parsed yet.
    bytes: Vec<u8>,
    status: RunStatus,
    has_ended: bool,
}

impl StatusPipe {
    /// `fd` must be non-blocking.
    #[must_use]
    pub fn new(fd: OwnedFd) -> Self {
        Self { fd, bytes: Vec::new(), status: RunStatus::default(), has_ended: false }
    }

    /// The descriptor for poll.
    #[must_use]
    pub fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// What was received so far, without reading.
    #[must_use]
    pub fn status(&self) -> &RunStatus {
        &self.status
    }

    /// Waits until the cell waits for its run, a step has failed, or the pipe has ended; at most
    /// until `give_up_at`.
    pub fn wait_until_waiting(&mut self, give_up_at: u64) {
        loop {
            let RunStatus { waits, failed, .. } = self.recv();
            let is_settled = *waits || failed.is_some();
            let left = give_up_at.saturating_sub(sys::now());
            if is_settled || self.has_ended || left == 0 {
                return;
            }
            let _ = sys::poll(&mut [sys::poll_fd(self.fd(), libc::POLLIN)], left);
        }
    }

    /// Reads what is in the pipe. Never waits.
    pub fn recv(&mut self) -> &RunStatus {
        let mut buffer = [0; 512];
        while let Ok(n) = sys::read(self.fd.as_raw_fd(), &mut buffer) {
            if n == 0 {
                self.has_ended = true;
                break;
            }
            self.bytes.extend_from_slice(buffer.get(..n).unwrap_or_default());
        }
        let taken = parse(&self.bytes, &mut self.status);
        self.bytes.drain(..taken);
        &self.status
    }
}

/// Parses complete records up to the end of the run. Returns how many bytes they have.
fn parse(all: &[u8], status: &mut RunStatus) -> usize {
    let mut rest = all;
    while status.end.is_none()
        && let Some(after) = parse_record(rest, status)
    {
        rest = after;
    }
    all.len() - rest.len()
}

/// Parses one record; `None` while it is incomplete. Returns the bytes after it.
fn parse_record<'a>(bytes: &'a [u8], status: &mut RunStatus) -> Option<&'a [u8]> {
    let (tag, mut rest) = bytes.split_first()?;
    match tag {
        b'W' => status.waits = true,
        b'T' => status.start = Some(parse_start(&mut rest)?),
        b'F' => status.failed = Some(parse_failed(&mut rest)?),
        _ => status.end = Some(parse_end(&mut rest)?),
    }
    Some(rest)
}

fn parse_start(rest: &mut &[u8]) -> Option<ProgramStart> {
    let (at, ready_at) = (number(rest)?, number(rest)?);
    let (before_ns, setup_ns) = (number(rest)?, number(rest)?);
    let [hot] = take(rest)?;
    Some(ProgramStart { at, ready_at, before_ns, setup_ns, hot: hot != 0 })
}

fn parse_failed(rest: &mut &[u8]) -> Option<StepError> {
    let errno = i32::from_le_bytes(take(rest)?);
    let [length] = take(rest)?;
    let (step, after) = rest.split_at_checked(usize::from(length))?;
    *rest = after;
    Some(StepError::new(&String::from_utf8_lossy(step), errno))
}

fn parse_end(rest: &mut &[u8]) -> Option<CellEnd> {
    let [kind, value] = take(rest)?;
    Some(CellEnd {
        ended: if kind == 0 { Ended::Exited(value) } else { Ended::Signaled(value) },
        survivors: u32::from_le_bytes(take(rest)?),
        at: number(rest)?,
        user_ns: number(rest)?,
        system_ns: number(rest)?,
        max_rss: number(rest)?,
        before_ns: number(rest)?,
    })
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = bytes.split_first_chunk::<N>()?;
    *bytes = tail;
    Some(*head)
}

fn number(bytes: &mut &[u8]) -> Option<u64> {
    take(bytes).map(u64::from_le_bytes)
}

/// A record is smaller than PIPE_BUF and the pipe has room, so it is written at once. There is no
/// way to report a failure.
fn send(to: &OwnedFd, record: &[u8]) {
    let _ = sys::write_all(to.as_raw_fd(), record);
}

/// Reports that the cell waits for its run.
pub fn send_waiting(to: &OwnedFd) {
    send(to, b"W");
}

/// Reports that the program starts.
pub fn send_start(to: &OwnedFd, start: ProgramStart) {
    // on the stack: a process that shares its parent's memory must not allocate
    let mut record = [0; 34];
    record[0] = b'T';
    let numbers = [start.at, start.ready_at, start.before_ns, start.setup_ns];
    for (place, number) in record[1..33].chunks_exact_mut(8).zip(numbers) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    record[33] = u8::from(start.hot);
    send(to, &record);
}

/// Reports that a step failed. Names longer than 255 bytes are cut.
pub fn send_failed(to: &OwnedFd, failed: &StepError) {
    let mut record = vec![b'F'];
    record.extend(failed.errno.to_le_bytes());
    let step = failed.step.as_bytes();
    let step = step.get(..255).unwrap_or(step);
    record.push(step.len() as u8);
    record.extend_from_slice(step);
    send(to, &record);
}

/// Reports how the program of a cell ended.
pub fn send_end(to: &OwnedFd, end: &CellEnd) {
    let (kind, value) = match end.ended {
        Ended::Exited(status) => (0, status),
        Ended::Signaled(signal) => (1, signal),
        // reported by `send_failed`
        Ended::NotStarted { .. } => (0, 127),
    };
    let mut record = vec![b'E', kind, value];
    record.extend(end.survivors.to_le_bytes());
    for number in [end.at, end.user_ns, end.system_ns, end.max_rss, end.before_ns] {
        record.extend(number.to_le_bytes());
    }
    send(to, &record);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipe() -> (StatusPipe, OwnedFd) {
        let (from, to) = sys::pipe().unwrap();
        sys::set_nonblocking(&from).unwrap();
        (StatusPipe::new(from), to)
    }

    #[test]
    fn records_are_received_as_sent_and_incomplete_ones_wait() {
        let (mut pipe, to) = pipe();
        assert_eq!(*pipe.recv(), RunStatus::default());
        let start = ProgramStart { at: 76, ready_at: 77, before_ns: 78, setup_ns: 79, hot: true };
        send_start(&to, start);
        assert_eq!(pipe.recv().start, Some(start));
        send_failed(&to, &StepError::new("execve", 13));
        let ended = Ended::Signaled(9);
        let end = CellEnd { ended, survivors: 3, at: 1, user_ns: 2, system_ns: 3, max_rss: 4, before_ns: 5 };
        send_end(&to, &end);
        let status = pipe.recv().clone();
        assert_eq!((status.failed, status.end), (Some(StepError::new("execve", 13)), Some(end)));

        let mut bytes = vec![b'T'];
        bytes.extend([0; 33]);
        bytes.extend([b'F', 2, 0, 0, 0, 3, b'a', b'b', b'c']);
        for cut in 0..bytes.len() {
            let mut status = RunStatus::default();
            let taken = parse(&bytes[..cut], &mut status);
            assert_eq!(taken, if cut < 34 { 0 } else { 34 });
        }
    }
}
