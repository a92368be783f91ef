//! The slots of sandboxes: each gives its sandbox a container name and a uid of its own.
//!
//! A slot is used again as late as possible. What the kernel counts per uid outlives a sandbox
//! (descriptors in flight, in cycles of sockets that some kernels never free), and the next one
//! with that uid may be another caller's. A slot with which a new sandbox finds some is spent.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

/// A fixed number of slots, shared by all hosts of the daemon. A slot is taken before its container
/// is created and freed after the engine has removed it. So the slots also know every container of
/// this daemon: a container with our label and without a slot is a left-over.
#[derive(Debug, Clone)]
pub struct Slots {
    base_uid: u32,
    state: Arc<Mutex<SlotsState>>,
}

#[derive(Debug)]
struct SlotsState {
    /// The container's name for each slot in use.
    names: Vec<Option<String>>,
    /// The others, those first that were freed first.
    free: VecDeque<u32>,
    /// Slots that are not used again.
    spent: usize,
}

/// One slot. Dropping it frees it.
#[derive(Debug)]
pub struct Slot {
    number: u32,
    name: String,
    is_spent: bool,
    slots: Slots,
}

impl Slots {
    /// `count` slots; the uid of slot `n` is `base_uid + n`.
    pub fn new(base_uid: u32, count: usize) -> Slots {
        let state = SlotsState { names: vec![None; count], free: (0..count as u32).collect(), spent: 0 };
        Slots { base_uid, state: Arc::new(Mutex::new(state)) }
    }

    /// Takes a free slot for a container of this name. `None` when all are in use.
    pub fn take(&self, name: String) -> Option<Slot> {
        let mut state = self.state.lock();
        let number = state.free.pop_front()?;
        state.names[number as usize] = Some(name.clone());
        Some(Slot { number, name, is_spent: false, slots: self.clone() })
    }

    /// How many slots there are.
    pub fn count(&self) -> usize {
        self.state.lock().names.len()
    }

    /// How many slots are not used again.
    pub fn count_spent(&self) -> usize {
        self.state.lock().spent
    }

    /// Whether a container of this name has a slot.
    pub fn contains(&self, name: &str) -> bool {
        self.state.lock().names.iter().flatten().any(|used| used == name)
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

    /// Marks it as not to be used again while the daemon runs: the kernel counts something for its
    /// uid that no sandbox has.
    pub fn spend(&mut self) {
        self.is_spent = true;
        let uid = self.uid();
        tracing::warn!(
            uid,
            remedy = "boot the machine when you can; if many uids are lost, raise uids.count",
            "a uid is not used any more: a program left descriptors in flight that this kernel does not free"
        );
    }

    /// The uid and gid of the programs in the sandbox.
    pub fn uid(&self) -> u32 {
        self.slots.base_uid + self.number
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.slots.state.lock();
        state.names[self.number as usize] = None;
        match self.is_spent {
            true => state.spent += 1,
            false => state.free.push_back(self.number),
        }
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

    #[test]
    fn a_spent_slot_is_never_used_again() {
        let slots = Slots::new(52000, 2);
        slots.take("a".to_owned()).unwrap().spend();
        assert_eq!(slots.count_spent(), 1);
        assert_eq!([0; 2].map(|_| slots.take("b".to_owned()).unwrap().uid()), [52001, 52001]);
    }

    #[test]
    fn the_slot_that_was_freed_first_is_used_again_first() {
        let slots = Slots::new(52000, 3);
        let uid = |slot: Option<Slot>| slot.unwrap().uid();
        assert_eq!([0; 4].map(|_| uid(slots.take("a".to_owned()))), [52000, 52001, 52002, 52000]);
    }
}
