//! The events of a submission, for callers that stream or poll it.
//!
//! ```text
//!  drive --append--> [ log: numbered, bounded, drops the oldest ] --read from a number--> readers
//!           '-- waits while the lossless reader (the caller that streams the run) lags too far
//! ```
//!
//! Events are numbered from 0. A reader that starts late or is slow gets the number of output bytes
//! that it missed. Only the lossless reader (`submission.run` with `stream`) can hold up the run;
//! the program's output then waits for it.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use crate::usage::UsageSeries;
use config::bounds;
use protocol::{Outcome, Verdict};
use sandbox::lifecycle::Usage;
use wire::frame::OutputStream;

/// One event of a submission. `test` is the test's name, if the submission has tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubmissionEvent {
    /// The submission was admitted. Always the first event.
    Accepted,
    /// It has a sandbox.
    Running,
    /// The compile step has ended.
    Compile {
        outcome: Outcome,
    },
    /// A test has ended.
    Test {
        name: String,
        verdict: Verdict,
    },
    Output {
        test: Option<String>,
        stream: OutputStream,
        data: Vec<u8>,
    },
    /// What the running program has used so far.
    Usage {
        test: Option<String>,
        usage: Usage,
    },
}

impl SubmissionEvent {
    /// Bytes of output.
    fn bytes(&self) -> usize {
        if let SubmissionEvent::Output { data, .. } = self { data.len() } else { 0 }
    }

    /// Bytes of memory.
    fn memory_bytes(&self) -> usize {
        let name = match self {
            SubmissionEvent::Test { name, .. } => name.len(),
            SubmissionEvent::Output { test, .. } | SubmissionEvent::Usage { test, .. } => {
                test.as_ref().map_or(0, String::len)
            }
            SubmissionEvent::Accepted | SubmissionEvent::Running | SubmissionEvent::Compile { .. } => 0,
        };
        size_of::<SubmissionEvent>() + name + self.bytes()
    }
}

#[derive(Debug, Default)]
struct LogState {
    events: VecDeque<SubmissionEvent>,
    /// The number of the first event in `events`.
    first: u64,
    /// Output in `events`, in bytes.
    bytes: usize,
    /// Output before `first` that was dropped, in bytes.
    dropped_bytes: u64,
    ended: bool,
    /// Whether any output was read.
    is_read: bool,
    /// The number that the lossless reader reads next.
    lossless_next: Option<u64>,
}

/// The events of one submission.
#[derive(Debug)]
pub struct EventLog {
    state: Mutex<LogState>,
    changed: Notify,
    keeps_output: bool,
    usage: Mutex<UsageSeries>,
}

impl EventLog {
    /// A log that holds [`SubmissionEvent::Accepted`]. With `keeps_output`, it takes output and
    /// usage, too.
    pub fn new(keeps_output: bool) -> Arc<EventLog> {
        let state = LogState { events: [SubmissionEvent::Accepted].into(), ..LogState::default() };
        Arc::new(EventLog { state: Mutex::new(state), changed: Notify::new(), keeps_output, usage: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, LogState> {
        self.state.lock()
    }

    /// Notes what a run has used so far; `is_first` of that run.
    pub(super) fn note_usage(&self, run: &str, usage: Usage, is_first: bool) {
        self.usage.lock().add(run, usage, is_first);
    }

    /// What the runs of the last attempt used over time. It is not here any more afterwards.
    pub fn take_usage(&self) -> UsageSeries {
        std::mem::take(&mut *self.usage.lock())
    }

    /// Whether output and usage are to be appended.
    pub fn keeps_output(&self) -> bool {
        self.keeps_output
    }

    /// Drops all output if none of it was read, so that the program can be run again. False if some
    /// was.
    pub fn discard_unread_output(&self) -> bool {
        let mut state = self.lock();
        if state.is_read {
            return false;
        }
        (state.bytes, state.dropped_bytes) = (0, 0);
        for event in &mut state.events {
            if let SubmissionEvent::Output { data, .. } = event {
                data.clear();
            }
        }
        true
    }

    /// Adds an event. Waits while the lossless reader is too far behind.
    pub(super) async fn append(&self, event: SubmissionEvent) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let mut state = self.lock();
                if state.has_room() {
                    state.add(event);
                    break;
                }
            }
            changed.await;
        }
        self.changed.notify_waiters();
    }

    /// Ends the log: readers get what is left, then `None`.
    pub fn end(&self) {
        let mut state = self.lock();
        state.ended = true;
        // many ended submissions are remembered, so each keeps little
        state.shrink(bounds::MAX_ENDED_LOG_BYTES);
        state.events.shrink_to_fit();
        drop(state);
        self.changed.notify_waiters();
    }

    /// Bytes of memory that its events take.
    pub fn memory_bytes(&self) -> usize {
        self.lock().events.iter().map(SubmissionEvent::memory_bytes).sum()
    }

    /// A reader that starts at an event's number and never holds up the run.
    pub fn read_from(self: &Arc<EventLog>, seq: u64) -> EventReader {
        EventReader { log: self.clone(), next: seq, is_lossless: false }
    }

    /// The lossless reader. It starts at the first event, and the run waits for it. One per log.
    pub fn read_all(self: &Arc<EventLog>) -> EventReader {
        self.lock().lossless_next = Some(0);
        EventReader { log: self.clone(), next: 0, is_lossless: true }
    }
}

impl LogState {
    /// Whether the lossless reader is close enough to take one more event.
    fn has_room(&self) -> bool {
        let Some(next) = self.lossless_next else { return true };
        let unread = self.events.iter().skip(usize::try_from(next - self.first).unwrap_or(usize::MAX));
        let (count, bytes) = unread.fold((0, 0), |(count, bytes), event| (count + 1, bytes + event.bytes()));
        count < bounds::MAX_EVENTS_AHEAD && bytes < bounds::MAX_LOG_BYTES
    }

    fn add(&mut self, event: SubmissionEvent) {
        self.bytes += event.bytes();
        self.events.push_back(event);
        self.shrink(bounds::MAX_LOG_BYTES);
    }

    /// Drops the oldest events until the log is within its bounds, but none that the lossless
    /// reader has not read.
    fn shrink(&mut self, max_bytes: usize) {
        while self.events.len() > bounds::MAX_LOG_EVENTS || self.bytes > max_bytes {
            if self.lossless_next.is_some_and(|next| self.first >= next) {
                break;
            }
            let Some(dropped) = self.events.pop_front() else { break };
            self.first += 1;
            self.bytes -= dropped.bytes();
            self.dropped_bytes += dropped.bytes() as u64;
        }
    }
}

/// An event with its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberedEvent {
    pub seq: u64,
    pub event: SubmissionEvent,
    /// Upper bound of the output bytes that were dropped since the event that was read before.
    pub dropped_bytes: u64,
}

/// Reads a log.
#[derive(Debug)]
pub struct EventReader {
    log: Arc<EventLog>,
    next: u64,
    is_lossless: bool,
}

impl EventReader {
    /// The next event; `None` once the log has ended. Cancel-safe.
    pub async fn next(&mut self) -> Option<NumberedEvent> {
        loop {
            let changed = self.log.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let mut state = self.log.lock();
                let dropped_bytes = if self.next < state.first { state.dropped_bytes } else { 0 };
                self.next = self.next.max(state.first);
                let index = usize::try_from(self.next - state.first).unwrap_or(usize::MAX);
                if let Some(event) = state.events.get(index).cloned() {
                    let seq = self.next;
                    self.next += 1;
                    state.is_read |= event.bytes() > 0 || dropped_bytes > 0;
                    if self.is_lossless {
                        state.lossless_next = Some(self.next);
                    }
                    drop(state);
                    self.log.changed.notify_waiters();
                    return Some(NumberedEvent { seq, event, dropped_bytes });
                }
                if state.ended {
                    return None;
                }
            }
            changed.await;
        }
    }
}

impl Drop for EventReader {
    fn drop(&mut self) {
        if self.is_lossless {
            self.log.lock().lossless_next = None;
            self.log.changed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(bytes: usize) -> SubmissionEvent {
        SubmissionEvent::Output { test: None, stream: OutputStream::Stdout, data: vec![0; bytes] }
    }

    #[tokio::test]
    async fn a_reader_may_start_late_and_at_any_number() {
        let log = EventLog::new(true);
        log.append(SubmissionEvent::Running).await;
        log.append(output(3)).await;
        log.end();
        let mut reader = log.read_from(1);
        assert_eq!(
            reader.next().await,
            Some(NumberedEvent { seq: 1, event: SubmissionEvent::Running, dropped_bytes: 0 })
        );
        assert_eq!(reader.next().await.unwrap().seq, 2);
        assert_eq!(reader.next().await, None);
        assert_eq!(log.read_from(0).next().await.unwrap().event, SubmissionEvent::Accepted);
        assert_eq!(log.read_from(99).next().await, None);
    }

    #[tokio::test]
    async fn a_reader_that_starts_too_late_gets_the_number_of_dropped_bytes() {
        let log = EventLog::new(true);
        for _ in 0..4 {
            log.append(output(bounds::MAX_LOG_BYTES / 2)).await;
        }
        let read = log.read_from(0).next().await.unwrap();
        assert_eq!((read.seq, read.dropped_bytes), (3, bounds::MAX_LOG_BYTES as u64));
        assert_eq!(log.read_from(3).next().await.unwrap().dropped_bytes, 0);
        log.end();
        assert_eq!(log.read_from(3).next().await, None);
    }

    #[tokio::test]
    async fn the_memory_of_a_log_includes_events_without_output() {
        let log = EventLog::new(true);
        let test = |name: &str| SubmissionEvent::Test { name: name.to_owned(), verdict: Verdict::Accepted };
        for _ in 0..1000 {
            log.append(test(&"n".repeat(200))).await;
        }
        assert!((200_000..400_000).contains(&log.memory_bytes()), "{}", log.memory_bytes());
        log.append(output(1000)).await;
        assert!(log.memory_bytes() >= 201_000);
    }

    #[tokio::test]
    async fn the_lossless_reader_misses_nothing_and_holds_up_nothing_once_dropped() {
        for (events, bytes) in [(bounds::MAX_LOG_EVENTS * 2, 1), (100, bounds::MAX_LOG_BYTES / 3)] {
            let log = EventLog::new(true);
            let mut reader = log.read_all();
            let writing = tokio::spawn({
                let log = log.clone();
                async move {
                    for _ in 0..events {
                        log.append(output(bytes)).await;
                    }
                    log.end();
                }
            });
            for seq in 0..events as u64 / 2 {
                let read = reader.next().await.unwrap();
                assert_eq!((read.seq, read.dropped_bytes), (seq, 0));
                tokio::task::yield_now().await;
            }
            assert!(!writing.is_finished());
            drop(reader);
            writing.await.unwrap();
        }
    }
}
