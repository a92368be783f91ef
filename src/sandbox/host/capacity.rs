//! What a host has for runs, and what is taken of it: CPUs and memory. So a burst of big profiles cannot exhaust the machine,
//! and a run is not late because too many others were let in beside it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// CPUs and bytes of memory.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Resources {
    /// CPUs.
    pub cpus: f64,
    /// Bytes.
    pub memory: u64,
}

/// Whether `need` fits beside what is `taken`. With nothing taken anything does: a machine that is too small for a
/// profile still runs it, alone.
pub fn fits(taken: Resources, running: usize, need: Resources, capacity: Resources) -> bool {
    // a hair's width for sums of fractions
    let cpus = taken.cpus + need.cpus <= capacity.cpus + 1e-6;
    running == 0 || (cpus && taken.memory.saturating_add(need.memory) <= capacity.memory)
}

#[derive(Debug, Default)]
struct Books {
    capacity: Resources,
    taken: Resources,
    running: usize,
}

/// A host's room.
#[derive(Debug, Clone)]
pub struct Capacity {
    books: Arc<Mutex<Books>>,
    capacity_changed: Arc<Notify>,
}

/// A part of it, given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    capacity: Capacity,
    amount: Resources,
}

impl Capacity {
    pub(super) fn new(capacity_changed: Arc<Notify>) -> Capacity {
        Capacity { books: Arc::default(), capacity_changed }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn resize(&self, capacity: Resources) {
        self.books().capacity = capacity;
    }

    /// Whether this much would fit now.
    pub fn fits(&self, need: Resources) -> bool {
        let books = self.books();
        fits(books.taken, books.running, need, books.capacity)
    }

    /// Takes this much, whether it fits or not.
    pub fn reserve(&self, amount: Resources) -> Reservation {
        let mut books = self.books();
        books.running += 1;
        books.taken.cpus += amount.cpus;
        books.taken.memory += amount.memory;
        Reservation { capacity: self.clone(), amount }
    }

    /// How much of it is taken, of the scarcer of the two; 1 is all.
    pub fn load(&self) -> f64 {
        let books = self.books();
        let part = |taken: f64, all: f64| if all > 0.0 { taken / all } else { 0.0 };
        part(books.taken.cpus, books.capacity.cpus).max(part(books.taken.memory as f64, books.capacity.memory as f64))
    }

    /// What there is and what is taken.
    pub fn amounts(&self) -> (Resources, Resources) {
        let books = self.books();
        (books.capacity, books.taken)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut books = self.capacity.books();
        books.running -= 1;
        books.taken.memory -= self.amount.memory;
        books.taken.cpus = if books.running == 0 { 0.0 } else { books.taken.cpus - self.amount.cpus };
        drop(books);
        self.capacity.capacity_changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn amount(cpus: f64, memory: u64) -> Resources {
        Resources { cpus, memory }
    }

    #[test]
    fn runs_are_let_in_until_cpus_or_memory_are_taken() {
        let capacity = amount(4.0, 1024 * MIB);
        let need = amount(1.0, 256 * MIB);
        assert!(fits(amount(3.0, 768 * MIB), 3, need, capacity));
        assert!(!fits(amount(4.0, 512 * MIB), 4, need, capacity));
        assert!(!fits(amount(1.0, 900 * MIB), 1, need, capacity));
    }

    #[test]
    fn a_machine_that_is_too_small_runs_one_at_a_time() {
        let need = amount(8.0, 4096 * MIB);
        assert!(fits(Resources::default(), 0, need, amount(1.0, MIB)));
        assert!(!fits(need, 1, amount(0.1, 1), amount(1.0, MIB)));
    }

    #[test]
    fn what_is_given_back_is_all_there_again_and_rings() {
        let room = Capacity::new(Arc::default());
        room.resize(amount(1.0, MIB));
        let taken: Vec<Reservation> = (0..10).map(|_| room.reserve(amount(0.1, 1000))).collect();
        assert!((room.load() - 1.0).abs() < 1e-9 && !room.fits(amount(0.1, 1)));
        drop(taken);
        assert_eq!(room.amounts().1, Resources::default());
    }
}
