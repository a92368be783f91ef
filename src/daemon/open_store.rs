//! Opens the store in the state folder. While the disk does not let it be opened, the daemon runs
//! without it and tries again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use scheduler::{StoreAccess, may_pass};

/// How often a store that could not be opened is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Opens the store. Returns whether it is open; if not, [`try_again`] is to be called.
///
/// # Errors
/// A message: the operator has to do something about the file.
pub(super) fn open(access: &StoreAccess, folder: &Path) -> Result<bool, String> {
    match access.open(folder) {
        Ok(()) => Ok(true),
        Err(error) if !may_pass(&error) => Err(format!("failed to {error} (instance.state_dir)")),
        Err(error) => {
            tracing::error!(
                %error, folder = %folder.display(),
                remedy = "see whether the disk is full or failing (df, dmesg), and whose the folder is",
                "the store cannot be opened, so no history is kept and no submission acknowledged; it is tried again"
            );
            Ok(false)
        }
    }
}

/// Opens the store when the disk lets it, and then does what is to be done first.
pub(super) async fn try_again(access: Arc<StoreAccess>, folder: PathBuf, opened: impl Future<Output = ()>) {
    loop {
        tokio::time::sleep(RETRY).await;
        let (access, folder) = (access.clone(), folder.clone());
        let tried = tokio::task::spawn_blocking(move || access.open(&folder)).await;
        if matches!(tried, Ok(Ok(()))) {
            tracing::info!("the store is open");
            return opened.await;
        }
    }
}
