//! Liveness probe of a loop: a monitor requests a check, the loop acknowledges it in its next
//! iteration. A loop that hangs acknowledges nothing; an idle loop wakes up and acknowledges at
//! once.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// Value of the counter after the loop has ended in order.
const ENDED: u64 = u64::MAX;

/// Shared by one loop and its monitor.
#[derive(Debug, Default)]
pub struct LivenessProbe {
    request: Notify,
    acknowledged: AtomicU64,
}

impl LivenessProbe {
    /// Monitor: requests an acknowledgement from the loop.
    pub fn request(&self) {
        self.request.notify_one();
    }

    /// Loop: resolves when an acknowledgement is requested. Cancel-safe: a request made meanwhile
    /// is kept.
    pub async fn requested(&self) {
        self.request.notified().await;
    }

    /// Loop: acknowledges the request.
    pub fn acknowledge(&self) {
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
    }

    /// Loop: it ends now, so a monitor must not wait for it any more.
    pub fn mark_ended(&self) {
        self.acknowledged.store(ENDED, Ordering::Relaxed);
    }

    /// Monitor: number of acknowledgements so far, `None` when the loop has ended.
    pub fn acknowledged(&self) -> Option<u64> {
        Some(self.acknowledged.load(Ordering::Relaxed)).filter(|count| *count != ENDED)
    }
}
