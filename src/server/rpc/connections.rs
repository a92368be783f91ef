//! Counts of connections and of calls, for bounds and for the shutdown of the daemon.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::socket_bytes::{ByteAccount, SocketBytes};
use config::bounds;
use protocol::Counts;

/// Open connections and held bytes by uid, and what the shutdown waits for.
#[derive(Debug, Clone, Default)]
pub struct Connections {
    by_uid: Arc<Mutex<Counts<u32>>>,
    bytes: SocketBytes,
    silent: Arc<AtomicUsize>,
    pending_reports: Arc<AtomicUsize>,
}

/// Counts one until it is dropped: a silent connection, or a pending report.
#[derive(Debug)]
pub(super) struct CountGuard(Arc<AtomicUsize>);

impl CountGuard {
    fn new(count: &Arc<AtomicUsize>) -> CountGuard {
        count.fetch_add(1, Ordering::Relaxed);
        CountGuard(count.clone())
    }
}

impl Drop for CountGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One of the allowed connections, released on drop.
pub(super) struct ConnectionSlot {
    connections: Connections,
    uid: u32,
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.connections.by_uid.lock().decrement(&self.uid);
    }
}

impl Connections {
    pub fn count(&self) -> usize {
        self.by_uid.lock().total()
    }

    /// Connections whose first call was neither admitted nor answered yet.
    pub fn silent_connections(&self) -> usize {
        self.silent.load(Ordering::Relaxed)
    }

    /// Calls that wait for a report, or whose report is not written to the socket yet.
    pub fn pending_reports(&self) -> usize {
        self.pending_reports.load(Ordering::Relaxed)
    }

    pub(super) fn count_silent(&self) -> CountGuard {
        CountGuard::new(&self.silent)
    }

    pub(super) fn count_pending_report(&self) -> CountGuard {
        CountGuard::new(&self.pending_reports)
    }

    /// Where the bytes of the uid's messages are counted.
    pub(super) fn byte_account(&self, uid: u32) -> ByteAccount {
        self.bytes.account(uid)
    }

    /// `None` when the uid, or all uids together, have as many connections as they may.
    pub(super) fn acquire(&self, uid: u32) -> Option<ConnectionSlot> {
        let mut counts = self.by_uid.lock();
        if counts.get(&uid) >= bounds::MAX_CONNECTIONS_PER_UID || counts.total() >= bounds::MAX_CONNECTIONS {
            return None;
        }
        counts.increment(uid);
        Some(ConnectionSlot { connections: self.clone(), uid })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_uid_cannot_take_all_the_connections() {
        let connections = Connections::default();
        let slots: Vec<ConnectionSlot> = std::iter::from_fn(|| connections.acquire(1)).collect();
        assert_eq!(slots.len(), bounds::MAX_CONNECTIONS_PER_UID);
        assert!(connections.acquire(2).is_some());
        drop(slots);
        assert!(connections.acquire(1).is_some() && connections.count() == 0);
    }
}
