//! Store of content that is larger than a line: in memory, bounded per account in size, number
//! and time, and in size for all together.

use std::collections::HashMap;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use parking_lot::{Mutex, MutexGuard};

use config::bounds;
use protocol::{Account, Principal};
use scheduler::BlobStore;

#[derive(Debug)]
enum BlobContent {
    Growing(BytesMut),
    Complete(Bytes),
}

#[derive(Debug)]
struct Blob {
    owner: Principal,
    content: BlobContent,
    last_used: Instant,
    /// Part of a report that is not made yet: it does not expire.
    is_held: bool,
}

impl Blob {
    /// Whether it takes its memory also without being here: a download is under way, which ends
    /// with its connection.
    fn is_being_read(&self) -> bool {
        let is_shared = matches!(&self.content, BlobContent::Complete(bytes) if !bytes.is_unique());
        is_shared && self.last_used.elapsed() < bounds::API_CONNECTION_TIME
    }

    fn len(&self) -> usize {
        match &self.content {
            BlobContent::Growing(bytes) => bytes.len(),
            BlobContent::Complete(bytes) => bytes.len(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlobError {
    /// The caller has no such blob.
    #[error("blob: you have no blob {0:?}")]
    Unknown(String),
    #[error("blob: {0:?} is already complete")]
    Complete(String),
    /// `given` leaves a gap or overlaps.
    #[error("offset: is {given}, but the blob has {have} bytes")]
    Offset { given: u64, have: u64 },
    #[error("{0}")]
    Full(String),
}

#[derive(Debug, Default)]
pub struct MemoryBlobs {
    blobs: Mutex<HashMap<String, Blob>>,
    restoring: tokio::sync::Mutex<()>,
}

impl MemoryBlobs {
    /// Removes the blobs that have expired, and locks the others.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Blob>> {
        let mut blobs = self.blobs.lock();
        blobs.retain(|_, blob| blob.is_held || blob.is_being_read() || blob.last_used.elapsed() < bounds::BLOB_TTL);
        blobs
    }

    /// Appends to a blob, or begins one when `id` is `None`. Returns its id.
    ///
    /// # Errors
    /// See [`BlobError`]; nothing was changed.
    pub fn put(
        &self,
        owner: &Principal,
        id: Option<&str>,
        offset: u64,
        data: &[u8],
        eof: bool,
    ) -> Result<String, BlobError> {
        let mut blobs = self.lock();
        let (mut count, mut total) = (0, 0);
        let account = owner.account();
        for blob in blobs.values().filter(|blob| blob.owner.account() == account) {
            count += 1;
            total += blob.len() as u64;
        }
        if total + data.len() as u64 > bounds::MAX_BLOBS_BYTES_PER_UID {
            return Err(BlobError::Full(format!(
                "your blobs exceed {} bytes; those not used for ten minutes are removed",
                bounds::MAX_BLOBS_BYTES_PER_UID
            )));
        }
        if !make_room(&mut blobs, &account, data.len() as u64, bounds::MAX_BLOBS_BYTES) {
            return Err(BlobError::Full(
                "the blobs of all callers take all the room there is; try again later".to_owned(),
            ));
        }
        let id = match id {
            Some(id) => id.to_owned(),
            None if count >= bounds::MAX_BLOBS_PER_UID => {
                return Err(BlobError::Full(format!(
                    "you have {count} blobs already; those not used for ten minutes are removed"
                )));
            }
            None => {
                let id = uuid::Uuid::new_v4().to_string();
                let content = BlobContent::Growing(BytesMut::new());
                blobs.insert(
                    id.clone(),
                    Blob { owner: owner.clone(), content, last_used: Instant::now(), is_held: false },
                );
                id
            }
        };
        let unknown = || BlobError::Unknown(id.chars().take(64).collect());
        let blob = blobs.get_mut(&id).filter(|blob| blob.owner == *owner).ok_or_else(unknown)?;
        let have = blob.len() as u64;
        let BlobContent::Growing(bytes) = &mut blob.content else { return Err(BlobError::Complete(id)) };
        if offset != have {
            return Err(BlobError::Offset { given: offset, have });
        }
        if have + data.len() as u64 > bounds::MAX_BLOB_BYTES {
            return Err(BlobError::Full(format!("a blob has at most {} bytes", bounds::MAX_BLOB_BYTES)));
        }
        bytes.extend_from_slice(data);
        if eof {
            blob.content = BlobContent::Complete(std::mem::take(bytes).freeze());
        }
        blob.last_used = Instant::now();
        Ok(id)
    }

    /// A complete blob of this caller.
    pub fn get(&self, owner: &Principal, id: &str) -> Option<Bytes> {
        let mut blobs = self.lock();
        let blob = blobs.get_mut(id).filter(|blob| blob.owner == *owner)?;
        blob.last_used = Instant::now();
        match &blob.content {
            BlobContent::Complete(bytes) => Some(bytes.clone()),
            BlobContent::Growing(_) => None,
        }
    }

    /// Waits until no blob is being read from the store: one at a time has a copy that is not
    /// counted yet.
    pub(crate) async fn restoring(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.restoring.lock().await
    }

    /// Stores bytes of the store under their id. False if the bounds of their owner are reached.
    pub(crate) fn restore(&self, owner: &Principal, id: &str, bytes: Bytes) -> bool {
        self.insert(owner, bytes, false, || id.to_owned()).is_some()
    }

    fn store(&self, owner: &Principal, bytes: Bytes, is_held: bool) -> Option<String> {
        self.insert(owner, bytes, is_held, || uuid::Uuid::new_v4().to_string())
    }

    fn insert(&self, owner: &Principal, bytes: Bytes, is_held: bool, id: impl FnOnce() -> String) -> Option<String> {
        let mut blobs = self.lock();
        let account = owner.account();
        let of_account = || blobs.values().filter(|blob| blob.owner.account() == account);
        let total: u64 = of_account().map(|blob| blob.len() as u64).sum();
        if of_account().count() >= bounds::MAX_BLOBS_PER_UID
            || total + bytes.len() as u64 > bounds::MAX_BLOBS_BYTES_PER_UID
        {
            return None;
        }
        if !make_room(&mut blobs, &account, bytes.len() as u64, bounds::MAX_BLOBS_BYTES) {
            return None;
        }
        let id = id();
        let content = BlobContent::Complete(bytes);
        blobs.insert(id.clone(), Blob { owner: owner.clone(), content, last_used: Instant::now(), is_held });
        Some(id)
    }
}

/// Makes room for so many bytes more of this account, so that all blobs have at most `most`: drops
/// blobs of the account that has more than this one and than all others. Returns whether they fit.
fn make_room(blobs: &mut HashMap<String, Blob>, account: &Account, bytes: u64, most: u64) -> bool {
    let mut by_account: HashMap<Account, u64> = HashMap::new();
    blobs.values().for_each(|blob| *by_account.entry(blob.owner.account()).or_default() += blob.len() as u64);
    let mut total = by_account.values().sum::<u64>() + bytes;
    while total > most {
        let own = by_account.get(account).copied().unwrap_or(0) + bytes;
        let Some((other, held)) = by_account.iter_mut().max_by_key(|(_, held)| **held) else { return false };
        if other == account || *held <= own {
            return false;
        }
        let is_free = |blob: &Blob| !blob.is_held && !blob.is_being_read();
        let droppable = blobs.iter().filter(|(_, blob)| blob.owner.account() == *other && is_free(blob));
        let Some(id) = droppable.min_by_key(|(_, blob)| blob.last_used).map(|(id, _)| id.clone()) else {
            return false;
        };
        let len = blobs.remove(&id).map_or(0, |blob| blob.len() as u64);
        *held -= len;
        total -= len;
    }
    true
}

impl BlobStore for MemoryBlobs {
    fn keep(&self, owner: &Principal, bytes: Bytes) -> Option<String> {
        self.store(owner, bytes, false)
    }

    fn hold(&self, owner: &Principal, bytes: Bytes) -> Option<String> {
        self.store(owner, bytes, true)
    }

    fn publish(&self, blob: &str) {
        if let Some(blob) = self.lock().get_mut(blob) {
            (blob.is_held, blob.last_used) = (false, Instant::now());
        }
    }

    fn remove(&self, blob: &str) {
        self.lock().remove(blob);
    }

    fn get(&self, owner: &Principal, blob: &str) -> Option<Bytes> {
        MemoryBlobs::get(self, owner, blob)
    }

    fn put_back(&self, owner: &Principal, blob: &str, bytes: Bytes) {
        let content = BlobContent::Complete(bytes);
        self.lock()
            .insert(blob.to_owned(), Blob { owner: owner.clone(), content, last_used: Instant::now(), is_held: false });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID1: Principal = Principal::Uid(1);
    const UID2: Principal = Principal::Uid(2);

    #[test]
    fn a_blob_is_put_in_pieces_and_read_as_a_whole() {
        let blobs = MemoryBlobs::default();
        let id = blobs.put(&UID1, None, 0, b"ab", false).unwrap();
        assert_eq!(blobs.get(&UID1, &id), None);
        blobs.put(&UID1, Some(&id), 2, b"c", true).unwrap();
        assert_eq!(blobs.get(&UID1, &id).unwrap(), "abc");
        assert_eq!(blobs.put(&UID1, Some(&id), 3, b"d", true), Err(BlobError::Complete(id)));
    }

    #[test]
    fn a_blob_is_invisible_to_other_callers() {
        let blobs = MemoryBlobs::default();
        let id = blobs.put(&UID1, None, 0, b"ab", true).unwrap();
        assert_eq!(blobs.get(&UID2, &id), None);
        assert_eq!(blobs.put(&UID2, Some(&id), 2, b"c", true), Err(BlobError::Unknown(id)));
    }

    #[test]
    fn a_gap_is_refused_with_the_size_of_the_blob() {
        let blobs = MemoryBlobs::default();
        let id = blobs.put(&UID1, None, 0, b"ab", false).unwrap();
        assert_eq!(blobs.put(&UID1, Some(&id), 5, b"x", false), Err(BlobError::Offset { given: 5, have: 2 }));
        assert!(blobs.put(&UID1, None, 9, b"x", false).is_err());
    }

    #[test]
    fn a_held_blob_stays_until_it_is_published_or_removed() {
        let blobs = MemoryBlobs::default();
        let [one, two] = [(); 2].map(|()| blobs.hold(&UID1, Bytes::from(vec![1, 2])).unwrap());
        let age = |id: &str| {
            let old = Instant::now().checked_sub(bounds::BLOB_TTL).unwrap();
            blobs.blobs.lock().get_mut(id).unwrap().last_used = old;
            drop(blobs.lock());
            blobs.blobs.lock().contains_key(id)
        };
        assert!(age(&one) && age(&two));
        blobs.publish(&one);
        blobs.remove(&two);
        assert!(blobs.get(&UID1, &one).is_some() && blobs.get(&UID1, &two).is_none() && !age(&one));
    }

    #[test]
    fn a_blob_that_is_being_read_is_counted_until_it_was_read() {
        let blobs = MemoryBlobs::default();
        assert!(blobs.restore(&UID1, "stored", Bytes::from(vec![7; 10])));
        let read = blobs.get(&UID1, "stored").unwrap();
        let age = || {
            let old = Instant::now().checked_sub(bounds::BLOB_TTL).unwrap();
            blobs.blobs.lock().get_mut("stored").unwrap().last_used = old;
            drop(blobs.lock());
            blobs.blobs.lock().contains_key("stored")
        };
        assert!(age(), "its bytes are in memory, whether it is listed or not");
        drop(read);
        assert!(!age());
    }

    #[test]
    fn a_blob_of_the_store_counts_as_one_of_its_owner() {
        let blobs = MemoryBlobs::default();
        for at in 0..bounds::MAX_BLOBS_PER_UID {
            assert!(blobs.restore(&UID1, &at.to_string(), Bytes::from(vec![7])));
        }
        assert!(!blobs.restore(&UID1, "more", Bytes::from(vec![7])));
        assert!(blobs.restore(&UID2, "other", Bytes::from(vec![7])));
    }

    #[test]
    fn the_account_with_the_most_gives_way_when_all_blobs_take_too_much() {
        let blobs = MemoryBlobs::default();
        let put = |uid, bytes: &[u8]| blobs.put(&Principal::Uid(uid), None, 0, bytes, true).unwrap();
        let (oldest, newer, small) = (put(1, b"aaaa"), put(1, b"bbbb"), put(2, b"cc"));
        let mut held = blobs.lock();
        assert!(make_room(&mut held, &Account::Uid(3), 2, 12) && held.len() == 3, "it fits");
        assert!(make_room(&mut held, &Account::Uid(2), 1, 10) && !held.contains_key(&oldest));
        assert!(held.contains_key(&newer) && held.contains_key(&small));
        assert!(!make_room(&mut held, &Account::Uid(1), 5, 10), "it has the most itself");
        assert!(!make_room(&mut held, &Account::Uid(3), 5, 10), "it would have the most");
        assert_eq!(held.len(), 2);
    }

    #[test]
    fn the_number_of_blobs_per_account_is_bounded() {
        let blobs = MemoryBlobs::default();
        for _ in 0..bounds::MAX_BLOBS_PER_UID {
            blobs.put(&UID1, None, 0, b"", true).unwrap();
        }
        assert!(matches!(blobs.put(&UID1, None, 0, b"", true), Err(BlobError::Full(_))));
        assert!(blobs.put(&UID2, None, 0, b"", true).is_ok());
    }
}
