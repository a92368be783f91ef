//! A bounded byte queue that feeds a program's stdin, from a caller or from another program's
//! stdout.
//!
//! ```text
//!  push (after has_room) --> [ queue, about 256 KiB ] --> next
//!  close: the input has ended                             close_reader: nothing reads any more
//! ```
//!
//! A pipe can record what goes through it in a [`TranscriptRecorder`].

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use super::transcript::{Speaker, TranscriptRecorder};

/// Queued bytes from which on a pipe reports that it is full. The push that passes it still
/// succeeds.
const CAPACITY_BYTES: usize = 256 * 1024;

#[derive(Debug, Default)]
struct PipeState {
    queue: VecDeque<Bytes>,
    bytes: usize,
    writer_closed: bool,
    reader_closed: bool,
}

impl PipeState {
    fn has_room(&self) -> bool {
        self.reader_closed || self.bytes < CAPACITY_BYTES
    }
}

/// A pipe with one reader and one writer.
#[derive(Debug, Default)]
pub struct Pipe {
    state: Mutex<PipeState>,
    changed: Notify,
    recorder: Option<(Arc<TranscriptRecorder>, Speaker)>,
}

impl Pipe {
    /// A pipe whose bytes are recorded as `speaker`'s.
    pub(super) fn recorded(recorder: Arc<TranscriptRecorder>, speaker: Speaker) -> Pipe {
        Pipe { recorder: Some((recorder, speaker)), ..Pipe::default() }
    }

    fn lock(&self) -> MutexGuard<'_, PipeState> {
        self.state.lock()
    }

    /// Whether the writer may push now. True once the reader is gone, so that a writer never waits
    /// for it.
    pub(super) fn has_room(&self) -> bool {
        self.lock().has_room()
    }

    /// Resolves when the writer may push. Cancel-safe.
    pub async fn wait_for_room(&self) {
        loop {
            let changed = self.changed.notified();
            if self.has_room() {
                return;
            }
            changed.await;
        }
    }

    /// Queues bytes. False if the reader is gone or the pipe was closed.
    pub fn push(&self, data: Bytes) -> bool {
        let mut state = self.lock();
        if state.reader_closed || state.writer_closed {
            return false;
        }
        if let Some((recorder, speaker)) = &self.recorder {
            recorder.record(*speaker, &data);
        }
        state.bytes += data.len();
        state.queue.push_back(data);
        drop(state);
        self.changed.notify_waiters();
        true
    }

    /// Ends the input: what is queued can still be read.
    pub fn close(&self) {
        self.lock().writer_closed = true;
        self.changed.notify_waiters();
    }

    /// Ends the reading side and drops what is queued.
    pub fn close_reader(&self) {
        let mut state = self.lock();
        (state.reader_closed, state.bytes) = (true, 0);
        state.queue.clear();
        drop(state);
        self.changed.notify_waiters();
    }

    /// The next bytes, `None` at the end. Cancel-safe.
    pub(super) async fn next(&self) -> Option<Bytes> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let mut state = self.lock();
                if let Some(data) = state.queue.pop_front() {
                    state.bytes -= data.len();
                    drop(state);
                    self.changed.notify_waiters();
                    return Some(data);
                }
                if state.writer_closed || state.reader_closed {
                    return None;
                }
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bytes_arrive_in_order_and_then_the_end() {
        let pipe = Pipe::default();
        assert!(pipe.push(Bytes::from_static(b"a")) && pipe.push(Bytes::from_static(b"b")));
        pipe.close();
        assert!(!pipe.push(Bytes::from_static(b"c")));
        assert_eq!(pipe.next().await.unwrap(), "a");
        assert_eq!(pipe.next().await.unwrap(), "b");
        assert_eq!(pipe.next().await, None);
    }

    #[tokio::test]
    async fn a_full_pipe_has_no_room_until_its_reader_takes_bytes_or_closes() {
        let pipe = Arc::new(Pipe::default());
        pipe.push(Bytes::from(vec![0; CAPACITY_BYTES]));
        assert!(!pipe.has_room());
        let waiting = tokio::spawn({
            let pipe = pipe.clone();
            async move { pipe.wait_for_room().await }
        });
        tokio::task::yield_now().await;
        pipe.next().await.unwrap();
        waiting.await.unwrap();
        pipe.push(Bytes::from(vec![0; CAPACITY_BYTES]));
        pipe.close_reader();
        assert!(pipe.has_room() && !pipe.push(Bytes::from_static(b"x")));
    }
}
