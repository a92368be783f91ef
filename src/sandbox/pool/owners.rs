//! How many sandboxes of a pool each caller has, in use or kept.

use std::sync::Arc;

use parking_lot::Mutex;
use protocol::{Caller, Counts};

/// The callers that have sandboxes. Clones share it. Its lock is the innermost one.
#[derive(Debug, Clone, Default)]
pub(super) struct Owners(Arc<Mutex<Counts<Caller>>>);

/// A sandbox is one caller's until this is dropped.
#[derive(Debug)]
pub(super) struct Ownership {
    owners: Owners,
    caller: Caller,
}

impl Owners {
    /// Makes a sandbox this caller's.
    pub(super) fn add(&self, caller: Caller) -> Ownership {
        self.0.lock().increment(caller.clone());
        Ownership { owners: self.clone(), caller }
    }

    /// Whether this caller has a sandbox.
    pub(super) fn contains(&self, caller: &Caller) -> bool {
        self.0.lock().get(caller) > 0
    }
}

impl Ownership {
    pub(super) fn caller(&self) -> &Caller {
        &self.caller
    }
}

impl Drop for Ownership {
    fn drop(&mut self) {
        self.owners.0.lock().decrement(&self.caller);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_has_sandboxes_until_the_last_of_them_is_given_up() {
        let (owners, caller) = (Owners::default(), Caller::of_uid(1, "a"));
        let (first, second) = (owners.add(caller.clone()), owners.add(caller.clone()));
        assert!(owners.contains(&caller) && !owners.contains(&Caller::default()));
        drop(first);
        assert!(owners.contains(&caller));
        drop(second);
        assert!(!owners.contains(&caller) && owners.0.lock().total() == 0);
    }
}
