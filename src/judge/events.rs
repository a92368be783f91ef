//! What happens to a submission, told while it happens.
//!
//! ```text
//!  the driver --tell--> [ log: numbered, bounded; the oldest go ] --read from any number--> readers
//!        '-- waits while a reader that must miss nothing is too far behind: its own caller, who streams the run
//! ```
//!
//! Every event has a number, the first is 0. A reader that comes late, or is slow, is told how many bytes of output it
//! missed. One reader may hold the run up (`submission.run` with `stream`): the program's output waits for it. All others
//! hold up nobody.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use config::bounds;
use protocol::{Outcome, Verdict};
use sandbox::lifecycle::Usage;
use wire::frame::OutputStream;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubmissionEvent {
    /// It was let in. Always the first.
    Accepted,
    /// It has a sandbox.
    Running,
    /// The compile step has ended.
    Compile {
        /// How.
        outcome: Outcome,
    },
    /// A test has ended.
    Test {
        /// Its name.
        name: String,
        /// Its verdict.
        verdict: Verdict,
    },
    /// Output.
    Output {
        /// The test's name.
        test: Option<String>,
        /// Which stream.
        stream: OutputStream,
        /// The bytes.
        data: Vec<u8>,
    },
    /// What the program that runs has used so far.
    Usage {
        /// The test's name.
        test: Option<String>,
        /// How much.
        usage: Usage,
    },
}

impl SubmissionEvent {
    fn bytes(&self) -> usize {
        if let SubmissionEvent::Output { data, .. } = self { data.len() } else { 0 }
    }
}

#[derive(Debug, Default)]
struct LogState {
    events: VecDeque<SubmissionEvent>,
    /// The number of the first that is there.
    first: u64,
    /// Output that is there, in bytes.
    bytes: usize,
    /// Output that was there, or never was, before the first.
    missed: u64,
    ended: bool,
    /// Whether anybody has read output.
    is_read: bool,
    /// How far the reader is that must miss nothing.
    at: Option<u64>,
}

/// A submission's events.
#[derive(Debug)]
pub struct EventLog {
    books: Mutex<LogState>,
    changed: Notify,
    keeps_output: bool,
}

impl EventLog {
    /// A log of one that was let in; with its output, where somebody may come for it.
    pub fn new(keeps_output: bool) -> Arc<EventLog> {
        let books = LogState { events: [SubmissionEvent::Accepted].into(), ..LogState::default() };
        Arc::new(EventLog { books: Mutex::new(books), changed: Notify::new(), keeps_output })
    }

    fn lock(&self) -> MutexGuard<'_, LogState> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether output, and what is used, is of interest to anybody.
    pub fn keeps_output(&self) -> bool {
        self.keeps_output
    }

    /// Takes back the output that was told, when nobody has read any: the program is run again. False when somebody has.
    pub fn discard_unread_output(&self) -> bool {
        let mut books = self.lock();
        if books.is_read {
            return false;
        }
        (books.bytes, books.missed) = (0, 0);
        for event in &mut books.events {
            if let SubmissionEvent::Output { data, .. } = event {
                data.clear();
            }
        }
        true
    }

    /// Adds an event. Waits while the reader that must miss nothing is too far behind.
    pub(super) async fn tell(&self, event: SubmissionEvent) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let mut books = self.lock();
                if books.has_room() {
                    books.add(event);
                    break;
                }
            }
            changed.await;
        }
        self.changed.notify_waiters();
    }

    /// Nothing more happens.
    pub fn end(&self) {
        let mut books = self.lock();
        books.ended = true;
        // many that are over are remembered: each keeps little
        books.shrink(bounds::MAX_ENDED_LOG_BYTES);
        drop(books);
        self.changed.notify_waiters();
    }

    /// A reader from a number on, who holds up nobody.
    pub fn read_from(self: &Arc<EventLog>, seq: u64) -> EventReader {
        EventReader { log: self.clone(), next: seq, is_waited_for: false }
    }

    /// The reader that must miss nothing.
    pub fn read_all(self: &Arc<EventLog>) -> EventReader {
        self.lock().at = Some(0);
        EventReader { log: self.clone(), next: 0, is_waited_for: true }
    }
}

impl LogState {
    /// Whether the reader that must miss nothing is near enough.
    fn has_room(&self) -> bool {
        let Some(at) = self.at else { return true };
        let unread = self.events.iter().skip(usize::try_from(at - self.first).unwrap_or(usize::MAX));
        let (count, bytes) = unread.fold((0, 0), |(count, bytes), event| (count + 1, bytes + event.bytes()));
        count < bounds::MAX_EVENTS_AHEAD && bytes < bounds::MAX_LOG_BYTES
    }

    fn add(&mut self, event: SubmissionEvent) {
        self.bytes += event.bytes();
        self.events.push_back(event);
        self.shrink(bounds::MAX_LOG_BYTES);
    }

    /// Lets the oldest go; nothing that the reader who must miss nothing has not read.
    fn shrink(&mut self, most: usize) {
        while self.events.len() > bounds::MAX_LOG_EVENTS || self.bytes > most {
            if self.at.is_some_and(|at| self.first >= at) {
                break;
            }
            let Some(gone) = self.events.pop_front() else { break };
            self.first += 1;
            self.bytes -= gone.bytes();
            self.missed += gone.bytes() as u64;
        }
    }
}

/// An event with its number, and the bytes of output that were missed before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberedEvent {
    /// Its number.
    pub seq: u64,
    /// What happened.
    pub event: SubmissionEvent,
    /// At most so many bytes of output went by since the last one that was read.
    pub dropped_bytes: u64,
}

/// Reads a log.
#[derive(Debug)]
pub struct EventReader {
    log: Arc<EventLog>,
    next: u64,
    is_waited_for: bool,
}

impl EventReader {
    /// The next event; none when nothing more happens. CancelSignal-safe.
    pub async fn next(&mut self) -> Option<NumberedEvent> {
        loop {
            let changed = self.log.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let mut books = self.log.lock();
                let dropped_bytes = if self.next < books.first { books.missed } else { 0 };
                self.next = self.next.max(books.first);
                let at = usize::try_from(self.next - books.first).unwrap_or(usize::MAX);
                if let Some(event) = books.events.get(at).cloned() {
                    let seq = self.next;
                    self.next += 1;
                    books.is_read |= event.bytes() > 0 || dropped_bytes > 0;
                    if self.is_waited_for {
                        books.at = Some(self.next);
                    }
                    drop(books);
                    self.log.changed.notify_waiters();
                    return Some(NumberedEvent { seq, event, dropped_bytes });
                }
                if books.ended {
                    return None;
                }
            }
            changed.await;
        }
    }
}

impl Drop for EventReader {
    fn drop(&mut self) {
        if self.is_waited_for {
            self.log.lock().at = None;
            self.log.changed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(bytes: usize) -> SubmissionEvent {
        SubmissionEvent::Output { test: None, stream: OutputStream::Stdout, data: vec![0; bytes] }
    }

    #[tokio::test]
    async fn a_reader_may_come_late_and_begin_anywhere() {
        let log = EventLog::new(true);
        log.tell(SubmissionEvent::Running).await;
        log.tell(said(3)).await;
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
    async fn who_comes_too_late_is_told_how_much_went_by() {
        let log = EventLog::new(true);
        for _ in 0..4 {
            log.tell(said(bounds::MAX_LOG_BYTES / 2)).await;
        }
        let told = log.read_from(0).next().await.unwrap();
        assert_eq!((told.seq, told.dropped_bytes), (3, bounds::MAX_LOG_BYTES as u64));
        assert_eq!(log.read_from(3).next().await.unwrap().dropped_bytes, 0);
        log.end();
        assert_eq!(log.read_from(3).next().await, None);
    }

    #[tokio::test]
    async fn the_one_reader_that_is_waited_for_misses_nothing_and_holds_nobody_up_when_it_is_gone() {
        for (events, bytes) in [(bounds::MAX_LOG_EVENTS * 2, 1), (100, bounds::MAX_LOG_BYTES / 3)] {
            let log = EventLog::new(true);
            let mut reader = log.read_all();
            let writing = tokio::spawn({
                let log = log.clone();
                async move {
                    for _ in 0..events {
                        log.tell(said(bytes)).await;
                    }
                    log.end();
                }
            });
            for seq in 0..events as u64 / 2 {
                let told = reader.next().await.unwrap();
                assert_eq!((told.seq, told.dropped_bytes), (seq, 0));
                tokio::task::yield_now().await;
            }
            assert!(!writing.is_finished());
            drop(reader);
            writing.await.unwrap();
        }
    }
}
