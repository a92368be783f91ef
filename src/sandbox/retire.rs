//! The end of a sandbox, and the slots that are free again only after it.
//!
//! Closing the connection is the removal: the init reads end-of-file and exits, AutoRemove does the rest. What
//! follows here is the confirmation, late enough not to race with the engine's own removal.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::docker::{Client, Error, Filters, Removal};
use crate::policy::LABEL_INSTANCE;

/// How long the engine's own removal gets before we ask for it. Measured: 52 ms after the connection's end, several
/// times that when the machine is busy.
const GRACE: Duration = Duration::from_millis(400);

/// Pauses between looks at a removal under way; their sum bounds the wait.
const PAUSES: [u64; 8] = [50, 100, 200, 400, 800, 1600, 3200, 6400];

/// The numbers that sandboxes hold while they exist, each with a uid of its own (ENGINE finding 7).
#[derive(Debug, Clone)]
pub struct Slots {
    base: u32,
    used: Arc<Mutex<Vec<bool>>>,
}

/// One slot, held until the sandbox is gone.
#[derive(Debug)]
pub struct Slot {
    number: u32,
    slots: Slots,
}

impl Slots {
    /// `count` slots, whose uids start at `base`.
    pub fn new(base: u32, count: usize) -> Slots {
        Slots { base, used: Arc::new(Mutex::new(vec![false; count])) }
    }

    /// A free slot, or none.
    pub fn take(&self) -> Option<Slot> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let number = used.iter().position(|used| !used)?;
        used[number] = true;
        Some(Slot { number: number as u32, slots: self.clone() })
    }
}

impl Slot {
    /// Its number, from 0.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The uid (and gid) of the programs in it.
    pub fn uid(&self) -> u32 {
        self.slots.base + self.number
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut used = self.slots.used.lock().unwrap_or_else(PoisonError::into_inner);
        used[self.number as usize] = false;
    }
}

/// Waits for the engine to have removed a container, asks for it when it has not, and frees the slot.
pub(super) async fn retire(client: &Client, id: &str, slot: Option<Slot>) {
    tokio::time::sleep(GRACE).await;
    if let Err(error) = remove(client, id).await {
        tracing::warn!(sandbox = %super::create::short(id), %error, "a sandbox could not be removed; the next sweep tries again");
    }
    drop(slot);
}

/// Removes until it is gone.
async fn remove(client: &Client, id: &str) -> Result<(), Error> {
    let mut last = None;
    for pause in PAUSES {
        match client.remove_container(id, true).await {
            Ok(Removal::Removed | Removal::AlreadyGone) => return Ok(()),
            Ok(Removal::InProgress) => {}
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(Duration::from_millis(pause)).await;
        match client.inspect_container(id).await {
            Err(error) if error.is_not_found() => return Ok(()),
            _ => {}
        }
    }
    last.map_or(Ok(()), Err)
}

/// Removes every container of an instance, but those whose ids `keep` knows. Says how many there were.
///
/// # Errors
/// The engine could not list.
pub async fn sweep(client: &Client, instance: &str, keep: &(dyn Fn(&str) -> bool + Sync)) -> Result<usize, Error> {
    let left: Vec<String> = list(client, instance).await?.into_iter().filter(|id| !keep(id)).collect();
    let removals = left.iter().map(|id| remove(client, id));
    for result in futures_util::future::join_all(removals).await {
        if let Err(error) = result {
            tracing::warn!(%error, "a left-over sandbox could not be removed");
        }
    }
    Ok(left.len())
}

/// The ids of an instance's containers, in whatever state.
///
/// # Errors
/// The engine could not list.
pub async fn list(client: &Client, instance: &str) -> Result<Vec<String>, Error> {
    let filters = Filters::new().with("label", &format!("{LABEL_INSTANCE}={instance}"));
    let containers = client.list_containers(true, &filters).await?;
    Ok(containers.into_iter().map(|container| container.id).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_free_again_only_when_dropped() {
        let slots = Slots::new(52000, 2);
        let first = slots.take().unwrap();
        let second = slots.take().unwrap();
        assert_eq!((first.uid(), second.uid()), (52000, 52001));
        assert!(slots.take().is_none());
        drop(first);
        assert_eq!(slots.take().unwrap().number(), 0);
    }
}
