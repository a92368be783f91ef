//! The bytes that a door holds for an account: unfinished requests, calls under way, and replies
//! that were not read.
//!
//! ```text
//!  line grows --resize--> [ bytes of the account ] <--resize-- parsed call, until it is answered;
//!                             |        ^                   a submission, until it is admitted
//!                     refuse, or wait  '-- hold -- text of a reply, until it is written
//! ```
//!
//! Input of a program counts after the answer of its call, until the program takes it.
//!
//! Callers count together if they have the same account. One that has reached the bound is told so;
//! its small messages and all other accounts are served as before. Messages take time as well:
//! those of one account are worked on one after the other.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::error::CallError;
use config::bounds;
use judge::compute::{SMALL_BYTES, on_bytes};
use protocol::Account;
use protocol::code::Code;

/// The bytes held for each account.
#[derive(Debug, Clone, Default)]
pub(crate) struct SocketBytes(Arc<Mutex<HashMap<Account, Arc<AccountBytes>>>>);

#[derive(Debug, Default)]
struct AccountBytes {
    held: AtomicU64,
    /// Notified when bytes were released.
    released: Notify,
    /// Held while a small, and while a large message is worked on.
    small: tokio::sync::Mutex<()>,
    large: tokio::sync::Mutex<()>,
    /// Held while the store is read.
    reading: tokio::sync::Mutex<()>,
}

impl SocketBytes {
    /// Where the bytes of an account are counted, for all its connections.
    pub(crate) fn account(&self, account: Account) -> ByteAccount {
        let mut by_account = self.0.lock();
        // those without connection and without held bytes
        by_account.retain(|_, bytes| Arc::strong_count(bytes) > 1);
        ByteAccount(by_account.entry(account).or_default().clone())
    }
}

/// The bytes of one account.
#[derive(Debug, Clone)]
pub(crate) struct ByteAccount(Arc<AccountBytes>);

impl ByteAccount {
    /// Holds nothing yet.
    pub(crate) fn nothing(&self) -> HeldBytes {
        HeldBytes { account: self.clone(), bytes: 0 }
    }

    /// Counts bytes until the result is dropped. `None` if it holds too many.
    pub(crate) fn hold(&self, bytes: usize) -> Option<HeldBytes> {
        let mut held = self.nothing();
        held.resize(bytes).then_some(held)
    }

    /// Parses a message of this size, or makes a reply. An account's messages are worked on one
    /// after the other, however many connections it has, so that they never occupy all threads of
    /// the runtime. Those above [`SMALL_BYTES`] wait for each other only, so that they do not delay
    /// small ones, and occupy no thread of the runtime.
    pub(crate) async fn work<T>(&self, bytes: usize, work: impl FnOnce() -> T) -> T {
        let _turn = if bytes > SMALL_BYTES { self.0.large.lock().await } else { self.0.small.lock().await };
        on_bytes(bytes, work)
    }

    /// Waits for the account's turn to read the store.
    pub(crate) async fn reading(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.0.reading.lock().await
    }

    /// The same as [`ByteAccount::hold`], but waits until there is room.
    pub(crate) async fn hold_when_free(&self, bytes: usize) -> HeldBytes {
        loop {
            let released = self.0.released.notified();
            tokio::pin!(released);
            released.as_mut().enable();
            match self.hold(bytes) {
                Some(held) => return held,
                None => released.await,
            }
        }
    }

    /// The error of a call that would exceed the bound.
    pub(crate) fn refusal() -> CallError {
        let message = format!(
            "your unfinished lines, calls under way and unread replies would hold more than {} bytes; read the \
             replies, or send less at a time",
            bounds::MAX_SOCKET_BYTES_PER_UID
        );
        CallError::new(Code::QuotaExceeded, message).retry_after(bounds::SOCKET_BYTES_RETRY)
    }
}

/// Bytes that are counted until this is dropped.
#[derive(Debug)]
pub(crate) struct HeldBytes {
    account: ByteAccount,
    bytes: u64,
}

impl HeldBytes {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes as usize
    }

    /// Counts `bytes` from now on. False, and nothing has changed, if the account would hold too
    /// many.
    pub(crate) fn resize(&mut self, bytes: usize) -> bool {
        let AccountBytes { held, released, .. } = &*self.account.0;
        let bytes = bytes as u64;
        let Some(more) = bytes.checked_sub(self.bytes) else {
            held.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
            self.bytes = bytes;
            released.notify_waiters();
            return true;
        };
        // small messages have room of their own, so that a full account is not silent
        let is_small = bytes <= bounds::SMALL_MESSAGE_BYTES;
        let most = bounds::MAX_SOCKET_BYTES_PER_UID + if is_small { bounds::SMALL_MESSAGES_BYTES_PER_UID } else { 0 };
        let add = |held: u64| held.checked_add(more).filter(|held| *held <= most);
        let added = held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok();
        if added {
            self.bytes = bytes;
        }
        added
    }
}

/// Memory of a piece of input besides its bytes.
const INPUT_BYTES: usize = 256;

/// Input that is counted as long as any of it is held.
struct HeldInput {
    data: Vec<u8>,
    _held: HeldBytes,
}

impl AsRef<[u8]> for HeldInput {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

/// The input of a program. `held` counted the call that brought it, and counts the input from now
/// on, until a program has taken the last of it.
pub(crate) fn held_input(data: Vec<u8>, mut held: HeldBytes) -> Bytes {
    // a call counts for more than its input
    let input_bytes = data.len() + INPUT_BYTES;
    held.resize(input_bytes.min(held.bytes()));
    Bytes::from_owner(HeldInput { data, _held: held })
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.account.0.held.fetch_sub(self.bytes, Ordering::Relaxed);
            self.account.0.released.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(bytes: &SocketBytes, uid: u32) -> ByteAccount {
        bytes.account(Account::Uid(uid))
    }

    const MOST: usize = bounds::MAX_SOCKET_BYTES_PER_UID as usize;

    #[test]
    fn an_account_holds_no_more_than_its_bound_and_harms_no_other() {
        let bytes = SocketBytes::default();
        let (one, same, other) = (account(&bytes, 1), account(&bytes, 1), account(&bytes, 2));
        let mut held = one.hold(MOST - 10).unwrap();
        assert!(same.hold(1 << 20).is_none() && other.hold(1 << 20).is_some());
        // small messages go on
        assert!(same.hold(100).is_some());
        assert!(!held.resize(MOST + 1) && held.resize(MOST) && held.resize(10));
        assert!(same.hold(1 << 20).is_some());
        drop(held);
        assert_eq!(one.0.held.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn small_messages_have_a_bound_as_well() {
        let account = account(&SocketBytes::default(), 1);
        let small = bounds::SMALL_MESSAGE_BYTES as usize;
        let all: Vec<HeldBytes> = std::iter::from_fn(|| account.hold(small)).collect();
        let most = bounds::MAX_SOCKET_BYTES_PER_UID + bounds::SMALL_MESSAGES_BYTES_PER_UID;
        assert_eq!(all.len() as u64, most / bounds::SMALL_MESSAGE_BYTES);
    }

    #[tokio::test]
    async fn a_message_that_may_wait_is_counted_when_there_is_room() {
        let account = account(&SocketBytes::default(), 1);
        let held = account.hold(MOST).unwrap();
        let (waiting, ()) = tokio::join!(account.hold_when_free(1 << 20), async {
            tokio::task::yield_now().await;
            drop(held);
        });
        assert_eq!(waiting.bytes, 1 << 20);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn messages_of_an_account_are_worked_on_one_after_the_other() {
        let account = account(&SocketBytes::default(), 1);
        let reading = Arc::new(AtomicU64::new(0));
        let work = |size| {
            let (account, reading) = (account.clone(), reading.clone());
            tokio::spawn(async move {
                let at_once = || {
                    let others = reading.fetch_add(1, Ordering::SeqCst);
                    std::thread::sleep(std::time::Duration::from_millis(2));
                    reading.fetch_sub(1, Ordering::SeqCst);
                    others
                };
                account.work(size, at_once).await
            })
        };
        for size in [1, SMALL_BYTES + 1] {
            let all: Vec<_> = (0..20).map(|_| work(size)).collect();
            for one in all {
                assert_eq!(one.await.unwrap(), 0, "{size}");
            }
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_large_message_delays_neither_small_ones_nor_other_accounts() {
        let bytes = SocketBytes::default();
        let (sender, receiver) = std::sync::mpsc::channel();
        let (one, other) = (account(&bytes, 1), account(&bytes, 2));
        let same = one.clone();
        let large =
            tokio::spawn(async move { one.work(SMALL_BYTES + 1, move || receiver.iter().take(2).sum::<i32>()).await });
        let second = sender.clone();
        tokio::spawn(async move { same.work(1, || sender.send(1).unwrap()).await });
        tokio::spawn(async move { other.work(SMALL_BYTES + 1, || second.send(2).unwrap()).await });
        assert_eq!(large.await.unwrap(), 3);
    }

    #[tokio::test]
    async fn input_counts_until_its_program_takes_the_last_of_it() {
        let account = account(&SocketBytes::default(), 1);
        let held = || account.0.held.load(Ordering::Relaxed) as usize;
        let pipe = judge::pipe::Pipe::default();
        let mut call = account.nothing();
        assert!(call.resize(bounds::CALL_BYTES + 2000));
        assert!(pipe.push(held_input(vec![b'x'; 1000], call)));
        assert_eq!(held(), 1000 + INPUT_BYTES);
        pipe.close_reader();
        assert_eq!(held(), 0);
        let input = held_input(vec![b'x'; 1000], account.hold(bounds::CALL_BYTES).unwrap());
        let rest = input.slice(999..);
        drop(input);
        assert_eq!(held(), 1000 + INPUT_BYTES);
        drop(rest);
        assert_eq!(held(), 0);
    }

    #[test]
    fn accounts_without_a_connection_are_forgotten() {
        let bytes = SocketBytes::default();
        drop(account(&bytes, 1));
        let _two = account(&bytes, 2);
        assert_eq!(bytes.0.lock().len(), 1);
    }
}
