//! Reports on their way to the store: how many there are, and those that were on their way at a
//! moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

/// Reports on their way to the store.
#[derive(Debug, Default)]
pub(super) struct Recordings {
    count: AtomicUsize,
    /// Each report holds that of its time, which is another one after [`Recordings::now`].
    epoch: Mutex<Arc<()>>,
}

impl Recordings {
    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Those that are on their way now; later ones do not count.
    pub(super) fn now(&self) -> PendingRecords {
        PendingRecords(std::mem::take(&mut *self.epoch.lock()))
    }
}

/// The reports that were on their way at a moment.
#[derive(Debug)]
pub(super) struct PendingRecords(Arc<()>);

impl PendingRecords {
    /// Whether any of them still is.
    pub(super) fn are_left(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

/// Counts a report on its way to the store until it is dropped.
#[derive(Debug)]
pub(super) struct RecordingGuard {
    recordings: Arc<Recordings>,
    _epoch: Arc<()>,
}

impl RecordingGuard {
    pub(super) fn new(recordings: &Arc<Recordings>) -> RecordingGuard {
        recordings.count.fetch_add(1, Ordering::Relaxed);
        RecordingGuard { recordings: recordings.clone(), _epoch: recordings.epoch.lock().clone() }
    }
}

impl Drop for RecordingGuard {
    fn drop(&mut self) {
        self.recordings.count.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_the_reports_of_now_does_not_wait_for_later_ones() {
        let recordings = Arc::<Recordings>::default();
        assert!(!recordings.now().are_left());
        let (first, second) = (RecordingGuard::new(&recordings), RecordingGuard::new(&recordings));
        let pending = recordings.now();
        let later = RecordingGuard::new(&recordings);
        assert!(pending.are_left() && recordings.count() == 3);
        drop(first);
        assert!(pending.are_left());
        drop(second);
        assert!(!pending.are_left() && recordings.count() == 1);
        assert!(recordings.now().are_left());
        drop(later);
        assert_eq!(recordings.count(), 0);
    }
}
