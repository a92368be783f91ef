//! Where large outputs of reports are, until they are fetched.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use judge::stored::OutputStore;

/// The store of large outputs that reports refer to.
pub trait BlobStore: Send + Sync {
    /// Stores bytes for a uid and returns the blob's id; `None` if the uid's bounds are reached.
    fn keep(&self, uid: u32, bytes: Bytes) -> Option<String>;
    /// The same, but the blob stays until it is published or removed.
    fn hold(&self, uid: u32, bytes: Bytes) -> Option<String>;
    /// A held blob is one like any other from now on.
    fn publish(&self, blob: &str);
    fn remove(&self, blob: &str);
    /// The bytes of a blob of a uid.
    fn get(&self, uid: u32, blob: &str) -> Option<Bytes>;
    /// Stores bytes under the id they had in the daemon before.
    fn put_back(&self, uid: u32, blob: &str, bytes: Bytes);
}

/// The blobs of one uid, for the outputs of its submissions.
pub(super) struct UidOutputs {
    pub(super) uid: u32,
    pub(super) blobs: Arc<dyn BlobStore>,
}

impl fmt::Debug for UidOutputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UidOutputs").field("uid", &self.uid).finish_non_exhaustive()
    }
}

impl OutputStore for UidOutputs {
    fn hold(&self, bytes: Bytes) -> Option<String> {
        self.blobs.hold(self.uid, bytes)
    }

    fn publish(&self, blob: &str) {
        self.blobs.publish(blob);
    }

    fn remove(&self, blob: &str) {
        self.blobs.remove(blob);
    }
}
