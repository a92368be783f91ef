//! Removes containers: of one sandbox at its end, and all left-overs of an instance.
//!
//! Closing the connection already ends a sandbox: the init reads end of file and exits, and
//! AutoRemove removes the container. `retire` confirms that, late enough not to race with the
//! engine's removal.

use std::time::Duration;

use docker::{Client, Error as EngineError, Filters, Removal};

use super::slots::{Slot, Slots};
use crate::policy::LABEL_INSTANCE;

/// Time for the engine's own removal. Measured: 52 ms after the end of the connection, several
/// times that on a busy machine.
const GRACE: Duration = Duration::from_millis(400);

/// Pauses between checks of a removal in progress, in milliseconds. Their sum bounds the wait.
const PAUSES_MS: [u64; 8] = [50, 100, 200, 400, 800, 1600, 3200, 6400];

/// Waits until the engine has removed a container, removes it if it has not, and frees the slot.
/// `container` is an id or a name, and `label` what the log calls it.
pub(super) async fn retire(client: &Client, container: &str, label: &str, slot: Option<Slot>) {
    tokio::time::sleep(GRACE).await;
    if let Err(error) = remove(client, container).await {
        tracing::warn!(sandbox = %label, %error, "a sandbox could not be removed; the next sweep tries again");
    }
    drop(slot);
}

/// Removes a container and returns when it is gone.
async fn remove(client: &Client, container: &str) -> Result<(), EngineError> {
    let mut last_error = None;
    for pause in PAUSES_MS {
        match client.remove_container(container, true).await {
            Ok(Removal::Removed | Removal::AlreadyGone) => return Ok(()),
            Ok(Removal::InProgress) => {}
            Err(error) => last_error = Some(error),
        }
        tokio::time::sleep(Duration::from_millis(pause)).await;
        match client.inspect_container(container).await {
            Err(error) if error.is_not_found() => return Ok(()),
            _ => {}
        }
    }
    last_error.map_or(Ok(()), Err)
}

/// Removes every container of an instance except those with a slot in `keep`. Returns their number.
///
/// # Errors
/// The engine could not list its containers.
pub async fn sweep(client: &Client, instance: &str, keep: Option<&Slots>) -> Result<usize, EngineError> {
    let filters = Filters::new().with("label", &format!("{LABEL_INSTANCE}={instance}"));
    let mut left = client.list_containers(true, &filters).await?;
    let is_kept = |name: &String| keep.is_some_and(|slots| slots.contains(name.trim_start_matches('/')));
    left.retain(|container| !container.names.iter().any(is_kept));
    let removals = left.iter().map(|container| remove(client, &container.id));
    for result in futures_util::future::join_all(removals).await {
        if let Err(error) = result {
            tracing::warn!(%error, "a left-over sandbox could not be removed");
        }
    }
    Ok(left.len())
}
