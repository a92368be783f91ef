//! What is larger than a line: kept in memory, per uid, bounded in size, number and time.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use config::bounds;
use scheduler::BlobStore;

#[derive(Debug)]
enum Content {
    Growing(BytesMut),
    Whole(Bytes),
}

#[derive(Debug)]
struct Blob {
    uid: u32,
    content: Content,
    touched: Instant,
}

impl Blob {
    fn len(&self) -> usize {
        match &self.content {
            Content::Growing(bytes) => bytes.len(),
            Content::Whole(bytes) => bytes.len(),
        }
    }
}

/// Why a blob could not be put or found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlobError {
    /// No such blob of this uid.
    #[error("blob: there is no blob {0:?} of yours")]
    Unknown(String),
    /// It was ended already.
    #[error("blob: {0:?} has been ended already")]
    Ended(String),
    /// A gap or an overlap.
    #[error("offset: is {given}, but the blob has {have} bytes")]
    Offset {
        /// What was given.
        given: u64,
        /// How much there is.
        have: u64,
    },
    /// A bound.
    #[error("{0}")]
    Full(String),
}

/// All blobs.
#[derive(Debug, Default)]
pub struct Blobs {
    blobs: Mutex<HashMap<String, Blob>>,
}

impl Blobs {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Blob>> {
        let mut blobs = self.blobs.lock().unwrap_or_else(PoisonError::into_inner);
        blobs.retain(|_, blob| blob.touched.elapsed() < bounds::BLOB_TTL);
        blobs
    }

    /// Appends to a blob, or begins one. Says its id.
    ///
    /// # Errors
    /// See [`BlobError`]; nothing was changed.
    pub fn put(&self, uid: u32, id: Option<&str>, offset: u64, data: &[u8], eof: bool) -> Result<String, BlobError> {
        let mut blobs = self.lock();
        let (mut count, mut total) = (0, 0);
        for blob in blobs.values().filter(|blob| blob.uid == uid) {
            count += 1;
            total += blob.len() as u64;
        }
        if total + data.len() as u64 > bounds::MAX_BLOBS_BYTES_PER_UID {
            return Err(BlobError::Full(format!("your blobs exceed {} bytes", bounds::MAX_BLOBS_BYTES_PER_UID)));
        }
        let id = match id {
            Some(id) => id.to_owned(),
            None if count >= bounds::MAX_BLOBS_PER_UID => {
                return Err(BlobError::Full(format!("you have {count} blobs already")));
            }
            None => {
                let id = uuid::Uuid::new_v4().to_string();
                let content = Content::Growing(BytesMut::new());
                blobs.insert(id.clone(), Blob { uid, content, touched: Instant::now() });
                id
            }
        };
        let unknown = || BlobError::Unknown(id.chars().take(64).collect());
        let blob = blobs.get_mut(&id).filter(|blob| blob.uid == uid).ok_or_else(unknown)?;
        let have = blob.len() as u64;
        let Content::Growing(bytes) = &mut blob.content else { return Err(BlobError::Ended(id)) };
        if offset != have {
            return Err(BlobError::Offset { given: offset, have });
        }
        if have + data.len() as u64 > bounds::MAX_BLOB_BYTES {
            return Err(BlobError::Full(format!("a blob has at most {} bytes", bounds::MAX_BLOB_BYTES)));
        }
        bytes.extend_from_slice(data);
        if eof {
            blob.content = Content::Whole(std::mem::take(bytes).freeze());
        }
        blob.touched = Instant::now();
        Ok(id)
    }

    /// A whole blob of this uid.
    pub fn get(&self, uid: u32, id: &str) -> Option<Bytes> {
        let mut blobs = self.lock();
        let blob = blobs.get_mut(id).filter(|blob| blob.uid == uid)?;
        blob.touched = Instant::now();
        match &blob.content {
            Content::Whole(bytes) => Some(bytes.clone()),
            Content::Growing(_) => None,
        }
    }
}

impl BlobStore for Blobs {
    fn keep(&self, uid: u32, bytes: Bytes) -> Option<String> {
        let id = self.put(uid, None, 0, &[], false).ok()?;
        let mut blobs = self.lock();
        let total: u64 = blobs.values().filter(|blob| blob.uid == uid).map(|blob| blob.len() as u64).sum();
        if total + bytes.len() as u64 > bounds::MAX_BLOBS_BYTES_PER_UID {
            blobs.remove(&id);
            return None;
        }
        blobs.insert(id.clone(), Blob { uid, content: Content::Whole(bytes), touched: Instant::now() });
        Some(id)
    }

    fn get(&self, uid: u32, blob: &str) -> Option<Bytes> {
        Blobs::get(self, uid, blob)
    }

    fn put_back(&self, uid: u32, blob: &str, bytes: Bytes) {
        let content = Content::Whole(bytes);
        self.lock().insert(blob.to_owned(), Blob { uid, content, touched: Instant::now() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_is_put_in_pieces_and_read_whole() {
        let blobs = Blobs::default();
        let id = blobs.put(1, None, 0, b"ab", false).unwrap();
        assert_eq!(blobs.get(1, &id), None);
        blobs.put(1, Some(&id), 2, b"c", true).unwrap();
        assert_eq!(blobs.get(1, &id).unwrap(), "abc");
        assert_eq!(blobs.put(1, Some(&id), 3, b"d", true), Err(BlobError::Ended(id)));
    }

    #[test]
    fn another_uid_sees_nothing() {
        let blobs = Blobs::default();
        let id = blobs.put(1, None, 0, b"ab", true).unwrap();
        assert_eq!(blobs.get(2, &id), None);
        assert_eq!(blobs.put(2, Some(&id), 2, b"c", true), Err(BlobError::Unknown(id)));
    }

    #[test]
    fn a_gap_is_refused_and_says_how_much_there_is() {
        let blobs = Blobs::default();
        let id = blobs.put(1, None, 0, b"ab", false).unwrap();
        assert_eq!(blobs.put(1, Some(&id), 5, b"x", false), Err(BlobError::Offset { given: 5, have: 2 }));
        assert!(blobs.put(1, None, 9, b"x", false).is_err());
    }

    #[test]
    fn a_uid_has_a_bounded_number_of_blobs() {
        let blobs = Blobs::default();
        for _ in 0..bounds::MAX_BLOBS_PER_UID {
            blobs.put(1, None, 0, b"", true).unwrap();
        }
        assert!(matches!(blobs.put(1, None, 0, b"", true), Err(BlobError::Full(_))));
        assert!(blobs.put(2, None, 0, b"", true).is_ok());
    }
}
