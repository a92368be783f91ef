//! Bytes on their way into a program's input: from a caller, or from the program that it talks with.
//!
//! ```text
//!  push (whoever has bytes; looks for room first) --> [ bounded queue ] --> take (the run that is fed)
//!        close: nothing more comes                                       leave: nobody reads any more
//! ```
//!
//! A pipe can have a witness, who writes down what went through it, within a bound.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

/// What waits in a pipe at most before it says that it has no room; one piece more may be on its way.
const ROOM: usize = 256 * 1024;

#[derive(Debug, Default)]
struct PipeState {
    queue: VecDeque<Bytes>,
    bytes: usize,
    closed: bool,
    left: bool,
}

/// A pipe.
#[derive(Debug, Default)]
pub struct Pipe {
    inner: Mutex<PipeState>,
    changed: Notify,
    witness: Option<(Arc<TranscriptRecorder>, Speaker)>,
}

impl Pipe {
    /// A pipe whose bytes are written down.
    pub(super) fn seen(witness: Arc<TranscriptRecorder>, who: Speaker) -> Pipe {
        Pipe { witness: Some((witness, who)), ..Pipe::default() }
    }

    fn lock(&self) -> MutexGuard<'_, PipeState> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether more should be pushed now.
    pub(super) fn has_room(&self) -> bool {
        let inner = self.lock();
        inner.left || inner.bytes < ROOM
    }

    /// Resolves when more should be pushed. CancelSignal-safe.
    pub async fn room(&self) {
        while !self.has_room() {
            let changed = self.changed.notified();
            if self.has_room() {
                return;
            }
            changed.await;
        }
    }

    /// Adds bytes. False: nobody reads any more, or it was closed.
    pub fn push(&self, data: Bytes) -> bool {
        let mut inner = self.lock();
        if inner.left || inner.closed {
            return false;
        }
        if let Some((transcript, who)) = &self.witness {
            transcript.note(*who, &data);
        }
        inner.bytes += data.len();
        inner.queue.push_back(data);
        drop(inner);
        self.changed.notify_waiters();
        true
    }

    /// Nothing more comes.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_waiters();
    }

    /// Nobody reads any more.
    pub fn leave(&self) {
        let mut inner = self.lock();
        (inner.left, inner.bytes) = (true, 0);
        inner.queue.clear();
        drop(inner);
        self.changed.notify_waiters();
    }

    /// The next bytes; none at the end. CancelSignal-safe.
    pub(super) async fn take(&self) -> Option<Bytes> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let mut inner = self.lock();
                if let Some(data) = inner.queue.pop_front() {
                    inner.bytes -= data.len();
                    drop(inner);
                    self.changed.notify_waiters();
                    return Some(data);
                }
                if inner.closed || inner.left {
                    return None;
                }
            }
            changed.await;
        }
    }
}

/// Speaker says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaker {
    /// The submission.
    Submission,
    /// The program that it talks with.
    Interactor,
}

/// What two programs said to each other, in order, up to a bound.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transcript {
    /// Speaker said what, until the other said something.
    pub said: Vec<(Speaker, Vec<u8>)>,
    /// Whether more was said.
    pub is_cut: bool,
}

/// A talk that goes on.
#[derive(Debug, Default)]
pub(super) struct TranscriptRecorder(Mutex<Transcript>);

/// How much of a talk is written down.
const TRANSCRIPT_BYTES: usize = 16 * 1024;

impl TranscriptRecorder {
    fn note(&self, who: Speaker, data: &[u8]) {
        let mut talk = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if talk.is_cut {
            return;
        }
        let bytes: usize = talk.said.iter().map(|(_, words)| words.len()).sum();
        let room = TRANSCRIPT_BYTES.saturating_sub(bytes).min(data.len());
        talk.is_cut = room < data.len();
        match talk.said.last_mut() {
            Some((last, words)) if *last == who => words.extend_from_slice(&data[..room]),
            _ if room > 0 => talk.said.push((who, data[..room].to_vec())),
            _ => {}
        }
    }

    /// What was said so far.
    pub(super) fn read(&self) -> Transcript {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bytes_come_in_order_and_then_the_end() {
        let pipe = Pipe::default();
        assert!(pipe.push(Bytes::from_static(b"a")) && pipe.push(Bytes::from_static(b"b")));
        pipe.close();
        assert!(!pipe.push(Bytes::from_static(b"c")));
        assert_eq!(pipe.take().await.unwrap(), "a");
        assert_eq!(pipe.take().await.unwrap(), "b");
        assert_eq!(pipe.take().await, None);
    }

    #[tokio::test]
    async fn a_full_pipe_says_so_until_somebody_takes_or_leaves() {
        let pipe = Arc::new(Pipe::default());
        pipe.push(Bytes::from(vec![0; ROOM]));
        assert!(!pipe.has_room());
        let waiting = tokio::spawn({
            let pipe = pipe.clone();
            async move { pipe.room().await }
        });
        tokio::task::yield_now().await;
        pipe.take().await.unwrap();
        waiting.await.unwrap();
        pipe.push(Bytes::from(vec![0; ROOM]));
        pipe.leave();
        assert!(pipe.has_room() && !pipe.push(Bytes::from_static(b"x")));
    }

    #[test]
    fn a_talk_is_written_down_up_to_its_bound() {
        let talk = TranscriptRecorder::default();
        talk.note(Speaker::Submission, b"1");
        talk.note(Speaker::Submission, b"2");
        talk.note(Speaker::Interactor, b"3");
        let said = vec![(Speaker::Submission, b"12".to_vec()), (Speaker::Interactor, b"3".to_vec())];
        assert_eq!(talk.read(), Transcript { said, is_cut: false });
        talk.note(Speaker::Submission, &vec![b'x'; TRANSCRIPT_BYTES]);
        let Transcript { said, is_cut } = talk.read();
        assert!(is_cut && said.iter().map(|(_, words)| words.len()).sum::<usize>() == TRANSCRIPT_BYTES);
    }
}
