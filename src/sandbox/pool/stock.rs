//! How many sandboxes a pool has in which state, and how many more to create. Pure: no clock, no
//! IO.
//!
//! Every sandbox is counted in exactly one place: `ready.len()`, `creating`, `leased` or `kept`.
//! Their sum exceeds the ceiling only by referee sandboxes.

use std::collections::VecDeque;

/// The targets of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Levels {
    /// Ready sandboxes to keep.
    pub floor: usize,
    /// The most sandboxes in all states together.
    pub ceiling: usize,
}

/// What the host's machine is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostLoad {
    /// A run is in progress on this host: creating a sandbox now would take CPU time from it.
    pub busy: bool,
}

/// The counts of a pool. `S` is a ready sandbox.
#[derive(Debug)]
pub struct Stock<S> {
    /// Ready sandboxes, oldest first.
    pub ready: VecDeque<S>,
    /// Creation tickets handed out.
    pub creating: usize,
    /// Offers and leases handed out.
    pub leased: usize,
    /// Used sandboxes, each kept for its caller.
    pub kept: usize,
    /// Submissions that wait for a sandbox of this pool.
    pub demand: usize,
    /// Those of them for which no kept sandbox will do: their caller has none in this pool, or they
    /// need an unused one. Only these evict kept sandboxes at once.
    pub strangers: usize,
    /// Waiting submissions that already hold another sandbox. They are exempt from the ceiling:
    /// otherwise all could hold one sandbox and wait for a second one forever.
    pub referee_demand: usize,
}

impl<S> Default for Stock<S> {
    fn default() -> Self {
        Stock { ready: VecDeque::new(), creating: 0, leased: 0, kept: 0, demand: 0, strangers: 0, referee_demand: 0 }
    }
}

impl<S> Stock<S> {
    /// The number of sandboxes to start creating now.
    ///
    /// Waiting submissions come first. While a run is in progress, refilling to the floor waits, so
    /// that it doesn't take the run's CPU time, unless the stock is below half the floor; then one
    /// is created at a time.
    pub fn to_create(&self, levels: Levels, load: HostLoad) -> usize {
        let available = self.ready.len() + self.creating;
        let for_floor = match load.busy {
            true => levels.floor.div_ceil(2).saturating_sub(self.surplus()).min(1),
            false => levels.floor.saturating_sub(self.surplus()),
        };
        let wanted = self.unserved() + for_floor;
        wanted.min(self.below_ceiling(levels)).max(self.referee_demand.saturating_sub(available))
    }

    /// How many more sandboxes the ceiling allows.
    pub fn below_ceiling(&self, levels: Levels) -> usize {
        levels.ceiling.saturating_sub(self.ready.len() + self.creating + self.leased + self.kept)
    }

    /// Waiting submissions without a ready sandbox or one being created.
    fn unserved(&self) -> usize {
        (self.demand + self.referee_demand).saturating_sub(self.ready.len() + self.creating)
    }

    /// The number of kept sandboxes to evict because strangers need their places below the ceiling.
    pub fn to_evict(&self, levels: Levels) -> usize {
        self.unserved_strangers().saturating_sub(self.below_ceiling(levels)).min(self.kept)
    }

    /// Whether one more used sandbox may be kept. Otherwise a busy caller's sandboxes would go from
    /// one of its submissions to the next, and others would never get one.
    pub fn may_keep(&self, levels: Levels) -> bool {
        self.unserved_strangers() < self.below_ceiling(levels).max(1)
    }

    fn unserved_strangers(&self) -> usize {
        (self.strangers + self.referee_demand).saturating_sub(self.ready.len() + self.creating)
    }

    /// The number of kept sandboxes to evict in all, longest kept first. Strangers get places at
    /// once. Ready sandboxes up to the floor get only those of the `idle` ones, which have waited
    /// long enough: otherwise a pool whose callers all come back would replace its sandboxes all
    /// the time.
    pub fn to_give_up(&self, levels: Levels, idle: usize) -> usize {
        let at_once = self.to_evict(levels);
        at_once.max(self.to_make_room(levels).min(idle))
    }

    /// The number of kept sandboxes whose places waiting submissions and the floor need.
    pub fn to_make_room(&self, levels: Levels) -> usize {
        let wanted = self.unserved() + levels.floor.saturating_sub(self.surplus());
        wanted.saturating_sub(self.below_ceiling(levels)).min(self.kept)
    }

    /// Ready sandboxes, now or soon, that no submission waits for.
    fn surplus(&self) -> usize {
        (self.ready.len() + self.creating).saturating_sub(self.demand + self.referee_demand)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEVELS: Levels = Levels { floor: 4, ceiling: 8 };
    const IDLE: HostLoad = HostLoad { busy: false };
    const BUSY: HostLoad = HostLoad { busy: true };

    fn stock(ready: usize, creating: usize, leased: usize, demand: usize) -> Stock<()> {
        Stock { ready: vec![(); ready].into(), creating, leased, demand, ..Stock::default() }
    }

    #[test]
    fn a_kept_sandbox_counts_toward_the_ceiling_and_is_evicted_for_waiting_submissions() {
        let kept = |kept, demand| Stock { kept, strangers: demand, ..stock(0, 0, 4, demand) };
        assert_eq!((kept(4, 0).to_create(LEVELS, IDLE), kept(4, 0).to_evict(LEVELS)), (0, 0));
        assert_eq!((kept(3, 2).to_create(LEVELS, IDLE), kept(3, 2).to_evict(LEVELS)), (1, 1));
        assert_eq!(kept(4, 9).to_evict(LEVELS), 4);
        assert_eq!(kept(1, 2).to_evict(LEVELS), 0);
    }

    #[test]
    fn a_caller_that_has_sandboxes_takes_none_of_another_and_keeps_its_own_unless_others_wait() {
        let waiting = |demand, strangers| Stock { kept: 4, strangers, ..stock(0, 0, 3, demand) };
        assert_eq!((waiting(9, 0).to_evict(LEVELS), waiting(9, 0).may_keep(LEVELS)), (0, true));
        assert_eq!((waiting(9, 1).to_evict(LEVELS), waiting(9, 1).may_keep(LEVELS)), (0, false));
        assert_eq!((waiting(9, 3).to_evict(LEVELS), waiting(9, 3).may_keep(LEVELS)), (2, false));
        // below the ceiling there is room for all
        let roomy = Stock { strangers: 1, ..stock(0, 0, 3, 1) };
        assert!(roomy.may_keep(LEVELS));
    }

    #[test]
    fn the_floor_takes_places_of_kept_sandboxes_that_waited() {
        let kept = |ready, kept, leased| Stock { kept, ..stock(ready, 0, leased, 0) };
        assert_eq!(kept(0, 8, 0).to_make_room(LEVELS), 4);
        assert_eq!(kept(2, 4, 2).to_make_room(LEVELS), 2);
        assert_eq!(kept(4, 4, 0).to_make_room(LEVELS), 0);
        assert_eq!(kept(0, 1, 7).to_make_room(LEVELS), 1);
        assert_eq!(kept(0, 3, 0).to_make_room(LEVELS), 0);
    }

    #[test]
    fn an_empty_pool_is_filled_to_its_floor() {
        assert_eq!(stock(0, 0, 0, 0).to_create(LEVELS, IDLE), 4);
        assert_eq!(stock(1, 2, 0, 0).to_create(LEVELS, IDLE), 1);
        assert_eq!(stock(4, 0, 0, 0).to_create(LEVELS, IDLE), 0);
    }

    #[test]
    fn refill_waits_for_a_run_to_end_unless_the_stock_is_low() {
        assert_eq!(stock(3, 0, 1, 0).to_create(LEVELS, BUSY), 0);
        assert_eq!(stock(3, 0, 1, 0).to_create(LEVELS, IDLE), 1);
        assert_eq!(stock(1, 0, 3, 0).to_create(LEVELS, BUSY), 1);
        assert_eq!(stock(0, 0, 3, 0).to_create(LEVELS, BUSY), 1);
    }

    #[test]
    fn waiting_submissions_are_served_in_addition_to_the_floor() {
        assert_eq!(stock(0, 0, 0, 3).to_create(LEVELS, IDLE), 7);
        assert_eq!(stock(0, 3, 0, 3).to_create(LEVELS, BUSY), 1);
    }

    #[test]
    fn the_ceiling_holds_for_any_demand() {
        assert_eq!(stock(0, 0, 8, 100).to_create(LEVELS, IDLE), 0);
        assert_eq!(stock(0, 3, 4, 100).to_create(LEVELS, IDLE), 1);
        assert_eq!(stock(0, 20, 4, 0).to_create(LEVELS, IDLE), 0);
    }

    #[test]
    fn referee_demand_is_served_beyond_the_ceiling() {
        let with =
            |ready, creating, leased, referee_demand| Stock { referee_demand, ..stock(ready, creating, leased, 3) };
        assert_eq!(with(0, 0, 8, 2).to_create(LEVELS, IDLE), 2);
        assert_eq!(with(0, 2, 8, 2).to_create(LEVELS, IDLE), 0);
        assert_eq!(with(1, 0, 7, 2).to_create(LEVELS, BUSY), 1);
    }

    #[test]
    fn a_pool_without_a_floor_still_serves_a_submission() {
        let levels = Levels { floor: 0, ceiling: 2 };
        assert_eq!(stock(0, 0, 0, 0).to_create(levels, IDLE), 0);
        assert_eq!(stock(0, 0, 0, 1).to_create(levels, BUSY), 1);
    }
}
