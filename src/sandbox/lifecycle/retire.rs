//! The end of a sandbox, and the slots that are free again only after it.
//!
//! Closing the connection is the removal: the init reads end-of-file and exits, AutoRemove does the rest. What
//! follows here is the confirmation, late enough not to race with the engine's own removal.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::policy::LABEL_INSTANCE;
use docker::{Client, Error, Filters, Removal};

/// How long the engine's own removal gets before we ask for it. Measured: 52 ms after the connection's end, several
/// times that when the machine is busy.
const GRACE: Duration = Duration::from_millis(400);

/// Pauses between looks at a removal under way; their sum bounds the wait.
const PAUSES: [u64; 8] = [50, 100, 200, 400, 800, 1600, 3200, 6400];

/// The numbers that sandboxes hold while they exist, each with a uid of its own (ENGINE finding 7). A slot is taken before
/// its sandbox is asked for and free again after the engine has removed it, so the slots also know every container of this
/// daemon, on whichever host: what bears our label and stands in no slot is a left-over.
#[derive(Debug, Clone)]
pub struct Slots {
    base: u32,
    held: Arc<Mutex<Vec<Option<String>>>>,
}

/// One slot, held until the sandbox is gone.
#[derive(Debug)]
pub struct Slot {
    number: u32,
    name: String,
    slots: Slots,
}

impl Slots {
    /// `count` slots, whose uids start at `base`.
    pub fn new(base: u32, count: usize) -> Slots {
        Slots { base, held: Arc::new(Mutex::new(vec![None; count])) }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Option<String>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A free slot for a container of that name, or none.
    pub fn take(&self, name: String) -> Option<Slot> {
        let mut held = self.lock();
        let number = held.iter().position(Option::is_none)?;
        held[number] = Some(name.clone());
        Some(Slot { number: number as u32, name, slots: self.clone() })
    }

    /// Whether a container of that name is one of this daemon's.
    pub fn know(&self, name: &str) -> bool {
        self.lock().iter().flatten().any(|held| held == name)
    }
}

impl Slot {
    /// Its number, from 0.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The container's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The uid (and gid) of the programs in it.
    pub fn uid(&self) -> u32 {
        self.slots.base + self.number
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.lock()[self.number as usize] = None;
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

/// Removes every container of an instance, but those that `keep` knows. Says how many there were.
///
/// # Errors
/// The engine could not list.
pub async fn sweep(client: &Client, instance: &str, keep: Option<&Slots>) -> Result<usize, Error> {
    let filters = Filters::new().with("label", &format!("{LABEL_INSTANCE}={instance}"));
    let mut left = client.list_containers(true, &filters).await?;
    let known = |name: &String| keep.is_some_and(|slots| slots.know(name.trim_start_matches('/')));
    left.retain(|container| !container.names.iter().any(known));
    let removals = left.iter().map(|container| remove(client, &container.id));
    for result in futures_util::future::join_all(removals).await {
        if let Err(error) = result {
            tracing::warn!(%error, "a left-over sandbox could not be removed");
        }
    }
    Ok(left.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_free_again_only_when_dropped() {
        let slots = Slots::new(52000, 2);
        let first = slots.take("a".to_owned()).unwrap();
        let second = slots.take("b".to_owned()).unwrap();
        assert_eq!((first.uid(), second.uid()), (52000, 52001));
        assert!(slots.take("c".to_owned()).is_none());
        assert!(slots.know("a") && slots.know("b") && !slots.know("c"));
        drop(first);
        assert!(!slots.know("a"));
        assert_eq!(slots.take("c".to_owned()).unwrap().number(), 0);
    }
}
