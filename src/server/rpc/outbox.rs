//! The lines of a connection that wait to be written, bounded in number and bytes.
//!
//! ```text
//!  a reply or event is ready --> turn (first come, first served; waits while much is unwritten)
//!       --> its text is made and counted --> queue --> writer
//! ```
//!
//! A call whose reply can be large takes its turn before the reply is made, so that a caller that
//! does not read costs the daemon one bound and not one reply for each call.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tokio::sync::{Mutex, Notify, OwnedMutexGuard, mpsc};

use crate::calls::connections::CountGuard;
use crate::calls::socket_bytes::HeldBytes;
use config::bounds;

/// A line to be written.
pub(super) struct OutgoingLine {
    pub(super) text: String,
    /// When the report became available. `None` for lines that are not reports.
    pub(super) ready_at: Option<Instant>,
    /// Counts the report as pending until the line is written.
    pub(super) pending: Option<CountGuard>,
    /// Counts the text for the uid until the line is written.
    pub(super) held: Option<HeldBytes>,
}

impl From<String> for OutgoingLine {
    fn from(text: String) -> OutgoingLine {
        OutgoingLine { text, ready_at: None, pending: None, held: None }
    }
}

/// A line in the queue.
pub(super) struct QueuedLine {
    pub(super) line: OutgoingLine,
    unwritten: Arc<Unwritten>,
}

impl Drop for QueuedLine {
    fn drop(&mut self) {
        self.unwritten.bytes.fetch_sub(self.line.text.len(), Ordering::Relaxed);
        self.unwritten.written.notify_waiters();
    }
}

/// Bytes in the queue.
#[derive(Default)]
struct Unwritten {
    bytes: AtomicUsize,
    written: Notify,
}

impl Unwritten {
    fn has_room(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) < bounds::MAX_OUTBOUND_BYTES
    }

    async fn wait_for_room(&self) {
        loop {
            let written = self.written.notified();
            tokio::pin!(written);
            written.as_mut().enable();
            if self.has_room() {
                return;
            }
            written.await;
        }
    }
}

/// The right to add the next line. Kept until the line is in the queue.
pub(super) struct Turn(#[expect(dead_code, reason = "held for its lock")] OwnedMutexGuard<()>);

impl std::fmt::Debug for Turn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Turn")
    }
}

pub(super) struct Outbox {
    queue: mpsc::Sender<QueuedLine>,
    unwritten: Arc<Unwritten>,
    turns: Arc<Mutex<()>>,
}

impl Outbox {
    pub(super) fn new() -> (Outbox, mpsc::Receiver<QueuedLine>) {
        let (queue, lines) = mpsc::channel(bounds::MAX_OUTBOUND_MESSAGES);
        (Outbox { queue, unwritten: Arc::default(), turns: Arc::default() }, lines)
    }

    /// Waits for the turn. `None` when the connection is gone.
    pub(super) async fn turn(&self) -> Option<Turn> {
        let turn = async {
            let turn = self.turns.clone().lock_owned().await;
            self.unwritten.wait_for_room().await;
            Turn(turn)
        };
        tokio::select! {
            biased;
            () = self.queue.closed() => None,
            turn = turn => Some(turn),
        }
    }

    /// The turn, if there is nothing to wait for.
    pub(super) fn turn_now(&self) -> Option<Turn> {
        let turn = self.turns.clone().try_lock_owned().ok()?;
        self.unwritten.has_room().then_some(Turn(turn))
    }

    /// Adds a line; waits while there are too many. False when the connection is gone.
    pub(super) async fn send(&self, _turn: Turn, line: OutgoingLine) -> bool {
        self.unwritten.bytes.fetch_add(line.text.len(), Ordering::Relaxed);
        self.queue.send(QueuedLine { line, unwritten: self.unwritten.clone() }).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reply_waits_while_the_caller_does_not_read() {
        let (outbox, mut lines) = Outbox::new();
        let large = "x".repeat(bounds::MAX_OUTBOUND_BYTES);
        assert!(outbox.send(outbox.turn_now().unwrap(), large.into()).await);
        assert!(outbox.turn_now().is_none());
        let (turn, ()) = tokio::join!(outbox.turn(), async {
            tokio::task::yield_now().await;
            drop(lines.recv().await);
        });
        assert!(turn.is_some());
        // one turn at a time
        assert!(outbox.turn_now().is_none());
        drop(turn);
        assert!(outbox.turn_now().is_some());
    }

    #[tokio::test]
    async fn no_reply_waits_for_a_connection_that_is_gone() {
        let (outbox, lines) = Outbox::new();
        let large = "x".repeat(bounds::MAX_OUTBOUND_BYTES);
        assert!(outbox.send(outbox.turn_now().unwrap(), large.into()).await);
        drop(lines);
        assert!(outbox.turn().await.is_none());
    }
}
