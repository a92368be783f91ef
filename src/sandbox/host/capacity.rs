//! The CPUs and memory that a host has for runs, and how much of it is reserved. The scheduler
//! admits only as many runs as fit, so that large profiles cannot exhaust the machine and runs do
//! not slow each other down.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Tolerance for sums of floating-point CPU shares.
const CPU_EPSILON: f64 = 1e-6;

#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Resources {
    pub cpus: f64,
    /// Memory in bytes.
    pub memory: u64,
}

/// Whether `need` fits into `total` next to `reserved`. If nothing runs, anything fits: a machine
/// that is too small for a profile still runs it, alone.
pub fn fits(reserved: Resources, running: usize, need: Resources, total: Resources) -> bool {
    let cpus = reserved.cpus + need.cpus <= total.cpus + CPU_EPSILON;
    running == 0 || (cpus && reserved.memory.saturating_add(need.memory) <= total.memory)
}

#[derive(Debug, Default)]
struct CapacityState {
    total: Resources,
    reserved: Resources,
    reservations: usize,
}

/// A host's capacity for runs. Clones share it.
#[derive(Debug, Clone)]
pub struct Capacity {
    state: Arc<Mutex<CapacityState>>,
    /// Notified when a reservation ends.
    changed: Arc<Notify>,
}

/// A part of the capacity. Dropping it gives the part back.
#[derive(Debug)]
pub struct Reservation {
    capacity: Capacity,
    resources: Resources,
}

impl Capacity {
    pub(super) fn new(changed: Arc<Notify>) -> Capacity {
        Capacity { state: Arc::default(), changed }
    }

    pub(super) fn resize(&self, total: Resources) {
        self.state.lock().total = total;
    }

    /// Whether these resources would fit now.
    pub fn fits(&self, need: Resources) -> bool {
        let state = self.state.lock();
        fits(state.reserved, state.reservations, need, state.total)
    }

    /// How many runs that need these resources would fit now.
    pub fn room(&self, need: Resources) -> usize {
        let state = self.state.lock();
        let fraction = |free: f64, need: f64| if need > 0.0 { (free / need + CPU_EPSILON).max(0.0) } else { f64::MAX };
        let cpus = fraction(state.total.cpus - state.reserved.cpus, need.cpus);
        let free = state.total.memory.saturating_sub(state.reserved.memory);
        let room = cpus.min(fraction(free as f64, need.memory as f64)) as usize;
        room.max(usize::from(state.reservations == 0))
    }

    /// Reserves these resources, whether they fit or not.
    pub fn reserve(&self, resources: Resources) -> Reservation {
        let mut state = self.state.lock();
        state.reservations += 1;
        state.reserved.cpus += resources.cpus;
        state.reserved.memory += resources.memory;
        Reservation { capacity: self.clone(), resources }
    }

    /// The reserved fraction of the scarcer resource; 1 is all of it.
    pub fn load(&self) -> f64 {
        let state = self.state.lock();
        let fraction = |reserved: f64, total: f64| if total > 0.0 { reserved / total } else { 0.0 };
        let memory = fraction(state.reserved.memory as f64, state.total.memory as f64);
        fraction(state.reserved.cpus, state.total.cpus).max(memory)
    }

    /// All resources for runs.
    pub fn total(&self) -> Resources {
        self.state.lock().total
    }

    /// The resources that are reserved.
    pub fn reserved(&self) -> Resources {
        self.state.lock().reserved
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut state = self.capacity.state.lock();
        state.reservations -= 1;
        state.reserved.memory -= self.resources.memory;
        // exactly zero, whatever rounding errors have accumulated
        state.reserved.cpus = if state.reservations == 0 { 0.0 } else { state.reserved.cpus - self.resources.cpus };
        drop(state);
        self.capacity.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn resources(cpus: f64, memory: u64) -> Resources {
        Resources { cpus, memory }
    }

    #[test]
    fn runs_fit_until_cpus_or_memory_are_exhausted() {
        let total = resources(4.0, 1024 * MIB);
        let need = resources(1.0, 256 * MIB);
        assert!(fits(resources(3.0, 768 * MIB), 3, need, total));
        assert!(!fits(resources(4.0, 512 * MIB), 4, need, total));
        assert!(!fits(resources(1.0, 900 * MIB), 1, need, total));
    }

    #[test]
    fn a_machine_that_is_too_small_runs_one_at_a_time() {
        let need = resources(8.0, 4096 * MIB);
        assert!(fits(Resources::default(), 0, need, resources(1.0, MIB)));
        assert!(!fits(need, 1, resources(0.1, 1), resources(1.0, MIB)));
    }

    #[test]
    fn dropped_reservations_give_everything_back() {
        let capacity = Capacity::new(Arc::default());
        capacity.resize(resources(1.0, MIB));
        let reservations: Vec<Reservation> = (0..10).map(|_| capacity.reserve(resources(0.1, 1000))).collect();
        assert!((capacity.load() - 1.0).abs() < 1e-9 && !capacity.fits(resources(0.1, 1)));
        drop(reservations);
        assert_eq!(capacity.reserved(), Resources::default());
    }
}
