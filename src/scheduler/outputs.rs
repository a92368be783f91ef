//! Where large outputs of reports are, until they are fetched.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use judge::stored::OutputStore;
use protocol::Principal;

/// The store of large outputs that reports refer to.
pub trait BlobStore: Send + Sync {
    /// Stores bytes for a principal and returns the blob's id; `None` if its bounds are reached.
    fn keep(&self, owner: &Principal, bytes: Bytes) -> Option<String>;
    /// The same, but the blob stays until it is published or removed.
    fn hold(&self, owner: &Principal, bytes: Bytes) -> Option<String>;
    /// A held blob is one like any other from now on.
    fn publish(&self, blob: &str);
    fn remove(&self, blob: &str);
    /// The bytes of a blob of a principal.
    fn get(&self, owner: &Principal, blob: &str) -> Option<Bytes>;
    /// Stores bytes under the id they had in the daemon before.
    fn put_back(&self, owner: &Principal, blob: &str, bytes: Bytes);
}

/// The blobs of one principal, for the outputs of its submissions.
pub(super) struct OwnedOutputs {
    pub(super) owner: Principal,
    pub(super) blobs: Arc<dyn BlobStore>,
}

impl fmt::Debug for OwnedOutputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnedOutputs").field("owner", &self.owner).finish_non_exhaustive()
    }
}

impl OutputStore for OwnedOutputs {
    fn hold(&self, bytes: Bytes) -> Option<String> {
        self.blobs.hold(&self.owner, bytes)
    }

    fn publish(&self, blob: &str) {
        self.blobs.publish(blob);
    }

    fn remove(&self, blob: &str) {
        self.blobs.remove(blob);
    }
}
