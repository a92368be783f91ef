//! A pool and its callers in simulated time: what [`stock`](super::stock) and `reuse` decide
//! together when many tenants share a few sandboxes.

use std::collections::VecDeque;
use std::time::Duration;

use super::reuse::{gives_way, is_over};
use super::stock::{HostLoad, Levels, Stock};

/// The shipped ones of python.
const LEVELS: Levels = Levels { floor: 2, ceiling: 8 };
/// An engine makes two sandboxes at a time, each in this many milliseconds.
const CREATION: u64 = 150;
const AT_A_TIME: usize = 2;
/// Runs for which the host has CPUs.
const RUNS_AT_A_TIME: usize = 4;
/// A run and its audit.
const RUN: u64 = 5;

struct Kept {
    owner: u32,
    since: u64,
    uses: u32,
}

struct Running {
    owner: u32,
    until: u64,
    uses: u32,
}

/// A submission that was served.
struct Served {
    owner: u32,
    waited: u64,
    at: u64,
    was_kept: bool,
}

/// One pool, in steps of a millisecond. At most four submissions run at a time.
struct CrowdSimulation {
    reuses: bool,
    levels: Levels,
    now: u64,
    stock: Stock<()>,
    /// When the creations end.
    creating: Vec<u64>,
    /// Those kept longest come first.
    kept: Vec<Kept>,
    running: Vec<Running>,
    /// Owner and arrival of each submission that waits.
    waiting: VecDeque<(u32, u64)>,
    served: Vec<Served>,
    evicted: usize,
}

impl CrowdSimulation {
    fn new(reuses: bool, levels: Levels) -> CrowdSimulation {
        let stock = Stock { ready: vec![(); levels.floor].into(), ..Stock::default() };
        CrowdSimulation {
            reuses,
            levels,
            now: 0,
            stock,
            creating: Vec::new(),
            kept: Vec::new(),
            running: Vec::new(),
            waiting: VecDeque::new(),
            served: Vec::new(),
            evicted: 0,
        }
    }

    fn submit(&mut self, owner: u32) {
        self.waiting.push_back((owner, self.now));
    }

    fn is_served(&self, owner: u32) -> bool {
        self.waiting.iter().all(|(waiting, _)| *waiting != owner)
            && self.running.iter().all(|running| running.owner != owner)
    }

    /// Counts the sandboxes, as the pool does.
    fn count(&mut self) {
        let (kept, creating, leased) = (self.kept.len(), self.creating.len(), self.running.len());
        (self.stock.kept, self.stock.creating, self.stock.leased) = (kept, creating, leased);
    }

    /// Counts those that wait, as the allocator does when it has served: one ahead of what can run.
    fn count_demand(&mut self) {
        let owners = || self.kept.iter().map(|kept| kept.owner).chain(self.running.iter().map(|run| run.owner));
        let is_stranger = |(owner, _): &&(u32, u64)| !owners().any(|other| other == *owner);
        let strangers = self.waiting.iter().filter(is_stranger).count();
        self.stock.demand = self.waiting.len().min(RUNS_AT_A_TIME - self.running.len() + 1);
        self.stock.strangers = strangers.min(self.stock.demand);
    }

    fn step(&mut self) {
        self.now += 1;
        let now = self.now;
        let made = self.creating.iter().filter(|until| **until <= now).count();
        self.creating.retain(|until| *until > now);
        self.stock.ready.extend(vec![(); made]);
        while let Some(at) = self.running.iter().position(|run| run.until <= now) {
            let Running { owner, uses, .. } = self.running.remove(at);
            self.count();
            if self.reuses && self.stock.may_keep(self.levels) {
                self.kept.push(Kept { owner, since: now, uses });
            }
        }
        self.serve();
        self.count_demand();
        let idle = |kept: &Kept| Duration::from_millis(now - kept.since);
        self.kept.retain(|kept| !is_over(idle(kept), Duration::ZERO));
        let gives = self.kept.iter().take_while(|kept| gives_way(idle(kept), kept.uses)).count();
        self.count();
        let evicted = self.stock.to_give_up(self.levels, gives);
        self.kept.drain(..evicted);
        self.evicted += evicted;
        self.count();
        let load = HostLoad { busy: !self.running.is_empty() };
        let count = self.stock.to_create(self.levels, load).min(AT_A_TIME.saturating_sub(self.creating.len()));
        self.creating.extend(vec![now + CREATION; count]);
        self.count();
        assert!(
            self.kept.len() + self.creating.len() + self.running.len() + self.stock.ready.len() <= self.levels.ceiling
        );
    }

    /// Gives sandboxes to those that wait: its own to a caller that has one, else an unused one.
    fn serve(&mut self) {
        let mut at = 0;
        while at < self.waiting.len() && self.running.len() < RUNS_AT_A_TIME {
            let (owner, since) = self.waiting[at];
            let kept = self.kept.iter().position(|kept| kept.owner == owner);
            let uses = match kept {
                Some(kept) => self.kept.remove(kept).uses,
                None if self.stock.ready.pop_front().is_some() => 0,
                None => {
                    at += 1;
                    continue;
                }
            };
            self.waiting.remove(at);
            self.running.push(Running { owner, until: self.now + RUN, uses: uses + 1 });
            let (waited, was_kept) = (self.now - since, kept.is_some());
            self.served.push(Served { owner, waited, at: self.now, was_kept });
        }
    }

    fn wait(&mut self, ms: u64) {
        (0..ms).for_each(|_| self.step());
    }
}

/// Milliseconds until so many tenants, each of which comes once, were served to four callers that
/// submit one after the other.
fn once_each(reuses: bool, tenants: u32) -> u64 {
    let mut simulation = CrowdSimulation::new(reuses, LEVELS);
    let mut next = 4;
    let mut callers = [0, 1, 2, 3];
    callers.iter().for_each(|tenant| simulation.submit(*tenant));
    while simulation.served.len() < tenants as usize {
        simulation.step();
        for tenant in &mut callers {
            if simulation.is_served(*tenant) {
                *tenant = next;
                next += 1;
                simulation.submit(*tenant);
            }
        }
    }
    simulation.now
}

#[test]
fn a_thousand_tenants_that_come_once_are_served_as_fast_as_without_reuse() {
    let (reused, unused) = (once_each(true, 1000), once_each(false, 1000));
    // nothing but the engine bounds either: two sandboxes in 150 ms
    assert!(unused < 1000 * CREATION / 2 * 11 / 10, "{unused}");
    assert!(reused <= unused * 101 / 100, "{reused} ms with reuse, {unused} ms without");
}

/// Owners that have come back and hold all of a pool, but do not come any more.
fn idle_owners(levels: Levels) -> CrowdSimulation {
    let mut simulation = CrowdSimulation::new(true, levels);
    let owners = (levels.ceiling - levels.floor) as u32;
    for round in 0..20 {
        (0..owners).for_each(|owner| simulation.submit(owner));
        simulation.wait(if round == 0 { 6 * CREATION } else { 4 * RUN });
    }
    simulation.wait(3 * CREATION);
    simulation
}

#[test]
fn sandboxes_of_idle_owners_give_way_to_newcomers() {
    for levels in [LEVELS, Levels { floor: 0, ceiling: 6 }] {
        let mut simulation = idle_owners(levels);
        let (before, ready) = (simulation.served.len(), simulation.stock.ready.len());
        assert!(simulation.kept.len() >= 3 && simulation.kept.len() + ready + 1 >= levels.ceiling);
        // two more than there are unused sandboxes for
        let newcomers = ready + 2;
        (0..newcomers as u32).for_each(|newcomer| simulation.submit(100 + newcomer));
        simulation.evicted = 0;
        simulation.wait(3 * CREATION);
        let waits: Vec<u64> = simulation.served[before..].iter().map(|served| served.waited).collect();
        assert!(waits.len() == newcomers && waits.iter().all(|wait| *wait <= CREATION + 2 * RUN), "{waits:?}");
        // no more of them than that takes
        assert!(simulation.evicted <= newcomers, "{} of {levels:?}", simulation.evicted);
    }
}

#[test]
fn owners_that_come_back_keep_their_sandboxes_while_others_come_and_go() {
    let mut simulation = CrowdSimulation::new(true, LEVELS);
    // two owners every 50 ms, and a newcomer every second
    for turn in 0..2000 {
        if turn % 5 == 0 {
            [1, 2]
                .into_iter()
                .filter(|owner| simulation.is_served(*owner))
                .collect::<Vec<_>>()
                .into_iter()
                .for_each(|owner| simulation.submit(owner));
        }
        if turn % 100 == 0 {
            simulation.submit(1000 + turn);
        }
        simulation.wait(10);
    }
    let of = |is_owner: bool| simulation.served.iter().filter(move |served| (served.owner < 1000) == is_owner);
    assert!(of(true).count() > 780 && of(false).count() == 20, "{}", simulation.served.len());
    let cold = of(true).filter(|served| !served.was_kept && served.at > 1000).count();
    assert_eq!(cold, 0, "an owner lost its sandbox");
    assert!(of(false).all(|served| served.waited <= CREATION + RUN));
}

#[test]
fn one_busy_tenant_leaves_the_others_their_share() {
    let mut simulation = CrowdSimulation::new(true, Levels { floor: 0, ceiling: 4 });
    // a tenant that always has ten waiting, and one that comes once a second
    let mut modest = 0;
    for ms in 0..20_000 {
        while simulation.waiting.iter().filter(|(owner, _)| *owner == 1).count() < 10 {
            simulation.submit(1);
        }
        if ms % 1000 == 0 {
            // turns go round the callers: the modest one is next
            simulation.waiting.push_front((2, simulation.now));
            modest += 1;
        }
        simulation.step();
    }
    let waits: Vec<u64> =
        simulation.served.iter().filter(|served| served.owner == 2).map(|served| served.waited).collect();
    assert!(waits.len() == modest && waits.iter().all(|wait| *wait <= 2 * CREATION), "{waits:?}");
    // its sandboxes serve the busy one all the time
    assert!(simulation.served.len() > 10_000, "{}", simulation.served.len());
}
