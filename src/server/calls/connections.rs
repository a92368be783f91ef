//! Counts of connections and of calls, for bounds and for the shutdown of the daemon.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::socket_bytes::{ByteAccount, SocketBytes};
use config::bounds;
use protocol::{Account, Counts};

/// Open connections and held bytes by account, and what the shutdown waits for.
#[derive(Debug, Clone, Default)]
pub struct Connections {
    by_account: Arc<Mutex<Counts<Account>>>,
    bytes: SocketBytes,
    silent: Arc<AtomicUsize>,
    pending_reports: Arc<AtomicUsize>,
}

/// Counts one until it is dropped: a silent connection, or a pending report.
#[derive(Debug)]
pub(crate) struct CountGuard(Arc<AtomicUsize>);

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
pub(crate) struct ConnectionSlot {
    connections: Connections,
    account: Account,
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.connections.by_account.lock().decrement(&self.account);
    }
}

impl Connections {
    pub fn count(&self) -> usize {
        self.by_account.lock().total()
    }

    /// Connections whose first call was neither admitted nor answered yet.
    pub fn silent_connections(&self) -> usize {
        self.silent.load(Ordering::Relaxed)
    }

    /// Calls that wait for a report, or whose report is not written to the socket yet.
    pub fn pending_reports(&self) -> usize {
        self.pending_reports.load(Ordering::Relaxed)
    }

    pub(crate) fn count_silent(&self) -> CountGuard {
        CountGuard::new(&self.silent)
    }

    pub(crate) fn count_pending_report(&self) -> CountGuard {
        CountGuard::new(&self.pending_reports)
    }

    /// Where the bytes of the caller's messages are counted.
    pub(crate) fn byte_account(&self, account: Account) -> ByteAccount {
        self.bytes.account(account)
    }

    /// `None` when the account, or all together, have as many connections as they may.
    pub(crate) fn acquire(&self, account: Account) -> Option<ConnectionSlot> {
        let mut counts = self.by_account.lock();
        if counts.get(&account) >= bounds::MAX_CONNECTIONS_PER_UID || counts.total() >= bounds::MAX_CONNECTIONS {
            return None;
        }
        counts.increment(account.clone());
        Some(ConnectionSlot { connections: self.clone(), account })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_account_cannot_take_all_the_connections() {
        let connections = Connections::default();
        let slots: Vec<ConnectionSlot> = std::iter::from_fn(|| connections.acquire(Account::Uid(1))).collect();
        assert_eq!(slots.len(), bounds::MAX_CONNECTIONS_PER_UID);
        assert!(connections.acquire(Account::Uid(2)).is_some());
        drop(slots);
        assert!(connections.acquire(Account::Uid(1)).is_some() && connections.count() == 0);
    }
}
