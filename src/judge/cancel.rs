//! Cancellation of a submission.

use tokio::sync::watch;

/// Starts false, becomes true once.
pub type CancelSignal = watch::Receiver<bool>;

/// Resolves on cancellation; never once the sender is gone.
pub(super) async fn cancelled(cancel: &mut CancelSignal) {
    if cancel.wait_for(|cancelled| *cancelled).await.is_err() {
        std::future::pending::<()>().await;
    }
}
