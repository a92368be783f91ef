//! An output that is a blob before the report is made, and how much output a report carries itself.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use config::bounds;
use protocol::RunFacts;

/// Where outputs go that the report does not carry itself: the blobs of the submission's uid.
pub trait OutputStore: Debug + Send + Sync {
    /// Stores bytes until they are published or removed, and returns the blob's id; `None` if the
    /// store is full.
    fn hold(&self, bytes: Bytes) -> Option<String>;

    /// Makes it a blob like any other: it is dropped some time after its last use.
    fn publish(&self, blob: &str);

    fn remove(&self, blob: &str);
}

/// An output that is a blob. It is removed with the last copy of this, unless it was published.
#[derive(Debug, Clone)]
pub struct StoredOutput(Arc<HeldBlob>);

#[derive(Debug)]
struct HeldBlob {
    id: String,
    /// The store's bytes, not a second copy.
    bytes: Bytes,
    store: Arc<dyn OutputStore>,
    is_published: AtomicBool,
}

impl StoredOutput {
    pub(super) fn new(bytes: Bytes, store: &Arc<dyn OutputStore>) -> Option<StoredOutput> {
        let (id, is_published) = (store.hold(bytes.clone())?, AtomicBool::new(false));
        Some(StoredOutput(Arc::new(HeldBlob { id, bytes, store: store.clone(), is_published })))
    }

    /// The id for the report.
    pub(super) fn publish(&self) -> String {
        self.0.store.publish(&self.0.id);
        self.0.is_published.store(true, Ordering::Relaxed);
        self.0.id.clone()
    }
}

impl PartialEq for StoredOutput {
    fn eq(&self, other: &StoredOutput) -> bool {
        self.0.id == other.0.id
    }
}

impl Drop for HeldBlob {
    fn drop(&mut self) {
        if !self.is_published.load(Ordering::Relaxed) {
            self.store.remove(&self.id);
        }
    }
}

/// The outputs of a run that are blobs; the others are in its facts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StoredOutputs {
    pub(super) stdout: Option<StoredOutput>,
    pub(super) stderr: Option<StoredOutput>,
}

impl StoredOutputs {
    /// All that was kept of a run's stdout and stderr.
    pub(super) fn with<'r>(&'r self, run: &'r RunFacts) -> (&'r [u8], &'r [u8]) {
        let of = |stored: &'r Option<StoredOutput>, bytes| stored.as_ref().map_or(bytes, |stored| &*stored.0.bytes);
        (of(&self.stdout, &run.stdout), of(&self.stderr, &run.stderr))
    }
}

/// Bytes of output that still fit into the report itself.
#[derive(Debug)]
pub(super) struct InlineBudget {
    left: usize,
}

impl Default for InlineBudget {
    fn default() -> InlineBudget {
        // a quarter of the bound: base64 and JSON escapes can double the size
        InlineBudget { left: bounds::MAX_REPORT_BYTES / 4 }
    }
}

impl InlineBudget {
    /// The size up to which the next output is in the report itself.
    pub fn inline(&self) -> usize {
        self.left.min(bounds::MAX_INLINE_OUTPUT_BYTES)
    }

    pub fn take(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes);
    }
}
