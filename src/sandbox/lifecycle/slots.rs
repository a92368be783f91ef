//! The slots of sandboxes: each gives its sandbox a container name and a uid of its own.

use std::sync::Arc;

use parking_lot::Mutex;

/// A fixed number of slots, shared by all hosts of the daemon. A slot is taken before its container
/// is created and freed after the engine has removed it. So the slots also know every container of
/// this daemon: a container with our label and without a slot is a left-over.
#[derive(Debug, Clone)]
pub struct Slots {
    base_uid: u32,
    /// The container's name for each slot in use.
    names: Arc<Mutex<Vec<Option<String>>>>,
}

/// One slot. Dropping it frees it.
#[derive(Debug)]
pub struct Slot {
    number: u32,
    name: String,
    slots: Slots,
}

impl Slots {
    /// `count` slots; the uid of slot `n` is `base_uid + n`.
    pub fn new(base_uid: u32, count: usize) -> Slots {
        Slots { base_uid, names: Arc::new(Mutex::new(vec![None; count])) }
    }

    /// Takes a free slot for a container of this name. `None` when all are in use.
    pub fn take(&self, name: String) -> Option<Slot> {
        let mut names = self.names.lock();
        let number = names.iter().position(Option::is_none)?;
        names[number] = Some(name.clone());
        Some(Slot { number: number as u32, name, slots: self.clone() })
    }

    /// Whether a container of this name has a slot.
    pub fn contains(&self, name: &str) -> bool {
        self.names.lock().iter().flatten().any(|used| used == name)
    }
}

impl Slot {
    /// The slot's number, from 0.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The container's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The uid and gid of the programs in the sandbox.
    pub fn uid(&self) -> u32 {
        self.slots.base_uid + self.number
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.names.lock()[self.number as usize] = None;
    }
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
        assert!(slots.contains("a") && slots.contains("b") && !slots.contains("c"));
        drop(first);
        assert!(!slots.contains("a"));
        assert_eq!(slots.take("c".to_owned()).unwrap().number(), 0);
    }
}
