//! The books of a pool, and the decision how many sandboxes to make. Pure: no clock, no IO.
//!
//! Every sandbox is counted in exactly one place: `ready.len()`, `creating`, `leased` or `kept`; their sum never passes the
//! ceiling by more than those have who needed a second one.

use std::collections::VecDeque;

/// The levels that the books aim for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Levels {
    /// Ready ones to keep.
    pub floor: usize,
    /// Ready, being made and leased ones at most.
    pub ceiling: usize,
}

/// What the machine is doing at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostLoad {
    /// A run is under way on this host: making a sandbox now would cost it CPU time.
    pub busy: bool,
}

/// The books. `S` is a ready sandbox.
#[derive(Debug)]
pub struct Stock<S> {
    /// Ready ones, oldest first.
    pub ready: VecDeque<S>,
    /// Tickets out.
    pub creating: usize,
    /// Offers and leases out.
    pub leased: usize,
    /// Used ones, each kept for the caller whose it was.
    pub kept: usize,
    /// How many wait for one of this pool.
    pub demand: usize,
    /// How many wait beside those who hold another sandbox meanwhile: the ceiling is not for them, or all could hold one and
    /// wait for ever.
    pub referee_demand: usize,
}

impl<S> Default for Stock<S> {
    fn default() -> Self {
        Stock { ready: VecDeque::new(), creating: 0, leased: 0, kept: 0, demand: 0, referee_demand: 0 }
    }
}

impl<S> Stock<S> {
    /// How many more to make now.
    ///
    /// Callers that wait come first. To keep the floor, refill waits while a run is under way, so that it doesn't take
    /// the run's CPU time, unless the stock is below half its floor.
    pub fn want(&self, levels: Levels, load: HostLoad) -> usize {
        let room = self.room(levels);
        let for_callers = self.for_callers();
        let in_hand = (self.ready.len() + self.creating).saturating_sub(self.demand + self.referee_demand);
        let low_water = levels.floor.div_ceil(2);
        let target = if load.busy { low_water } else { levels.floor };
        let for_floor = target.saturating_sub(in_hand);
        room.min(for_callers + for_floor).max(self.referee_demand.saturating_sub(self.ready.len() + self.creating))
    }

    /// How many more may be held.
    fn room(&self, levels: Levels) -> usize {
        levels.ceiling.saturating_sub(self.ready.len() + self.creating + self.leased + self.kept)
    }

    /// How many wait for whom none is ready or on its way.
    fn for_callers(&self) -> usize {
        (self.demand + self.referee_demand).saturating_sub(self.ready.len() + self.creating)
    }

    /// How many of the kept ones must go, so that those who wait can have one: a used one serves its own caller only.
    pub fn evict(&self, levels: Levels) -> usize {
        self.for_callers().saturating_sub(self.room(levels)).min(self.kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stock(ready: usize, creating: usize, leased: usize, demand: usize) -> Stock<()> {
        Stock { ready: vec![(); ready].into(), creating, leased, demand, ..Stock::default() }
    }

    #[test]
    fn a_kept_one_takes_its_place_and_gives_way_to_who_waits() {
        let kept = |kept, demand| Stock { kept, ..stock(0, 0, 4, demand) };
        assert_eq!((kept(4, 0).want(LEVELS, CALM), kept(4, 0).evict(LEVELS)), (0, 0));
        assert_eq!((kept(3, 2).want(LEVELS, CALM), kept(3, 2).evict(LEVELS)), (1, 1));
        assert_eq!(kept(4, 9).evict(LEVELS), 4);
        assert_eq!(kept(1, 2).evict(LEVELS), 0);
    }

    const LEVELS: Levels = Levels { floor: 4, ceiling: 8 };
    const CALM: HostLoad = HostLoad { busy: false };
    const BUSY: HostLoad = HostLoad { busy: true };

    #[test]
    fn an_empty_pool_is_filled_to_its_floor() {
        assert_eq!(stock(0, 0, 0, 0).want(LEVELS, CALM), 4);
        assert_eq!(stock(1, 2, 0, 0).want(LEVELS, CALM), 1);
        assert_eq!(stock(4, 0, 0, 0).want(LEVELS, CALM), 0);
    }

    #[test]
    fn refill_waits_for_a_run_to_end_unless_the_stock_is_low() {
        assert_eq!(stock(3, 0, 1, 0).want(LEVELS, BUSY), 0);
        assert_eq!(stock(3, 0, 1, 0).want(LEVELS, CALM), 1);
        assert_eq!(stock(1, 0, 3, 0).want(LEVELS, BUSY), 1);
    }

    #[test]
    fn a_waiting_caller_gets_one_beside_the_floor() {
        assert_eq!(stock(0, 0, 0, 3).want(LEVELS, CALM), 7);
        assert_eq!(stock(0, 3, 0, 3).want(LEVELS, BUSY), 2);
    }

    #[test]
    fn the_ceiling_holds_whatever_is_asked() {
        assert_eq!(stock(0, 0, 8, 100).want(LEVELS, CALM), 0);
        assert_eq!(stock(0, 3, 4, 100).want(LEVELS, CALM), 1);
        assert_eq!(stock(0, 20, 4, 0).want(LEVELS, CALM), 0);
    }

    #[test]
    fn who_holds_another_one_gets_a_second_beyond_the_ceiling() {
        let with =
            |ready, creating, leased, referee_demand| Stock { referee_demand, ..stock(ready, creating, leased, 3) };
        assert_eq!(with(0, 0, 8, 2).want(LEVELS, CALM), 2);
        assert_eq!(with(0, 2, 8, 2).want(LEVELS, CALM), 0);
        assert_eq!(with(1, 0, 7, 2).want(LEVELS, BUSY), 1);
    }

    #[test]
    fn a_pool_without_a_floor_still_serves_a_caller() {
        let levels = Levels { floor: 0, ceiling: 2 };
        assert_eq!(stock(0, 0, 0, 0).want(levels, CALM), 0);
        assert_eq!(stock(0, 0, 0, 1).want(levels, BUSY), 1);
    }
}
