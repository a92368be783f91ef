//! The pulse of a loop: it is asked to turn, and counts that it did. A loop that hangs turns no more, whatever holds it;
//! one that waits for something turns as soon as it is asked.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// A count that stands for a loop that has ended in order.
const ENDED: u64 = u64::MAX;

/// The pulse of one loop.
#[derive(Debug, Default)]
pub struct Pulse {
    ask: Notify,
    turns: AtomicU64,
}

impl Pulse {
    /// Asks the loop to turn.
    pub fn ask(&self) {
        self.ask.notify_one();
    }

    /// Resolves when the loop is asked. Cancel-safe: an asking that nobody waited for is kept.
    pub async fn asked(&self) {
        self.ask.notified().await;
    }

    /// The loop turned.
    pub fn turned(&self) {
        self.turns.fetch_add(1, Ordering::Relaxed);
    }

    /// The loop ended, and is not to be waited for.
    pub fn ended(&self) {
        self.turns.store(ENDED, Ordering::Relaxed);
    }

    /// How often it turned; none when it has ended.
    pub fn turns(&self) -> Option<u64> {
        Some(self.turns.load(Ordering::Relaxed)).filter(|turns| *turns != ENDED)
    }
}
