//! The line of submissions that wait for a sandbox, and whose turn it is. Pure: no clock, no IO.
//!
//! ```text
//!   line --turns--> uid --turns--> tenant --by profile, first come first served--> submission
//! ```
//!
//! Turns are deficit round robin, in the form that lets a deficit go below zero: a member whose deficit is above zero is
//! served and pays what the submission costs (its number of runs); each round gives every member one. So a uid with 10,000
//! submissions and a uid with one are served alternately, and one that asks for a hundred tests each time waits for those
//! who ask for one. A member that has nothing in line leaves, and its debt with it: who comes back begins at zero, behind
//! those who are there.
//!
//! A submission whose profile has no sandbox free does not hold up another behind it: a turn goes to the oldest submission
//! that can be served.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;

use protocol::Caller;
use protocol::Counts;

/// A profile's name.
pub type ProfileName = Arc<str>;

/// Where something stands in line, to take it out by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spot {
    uid: u32,
    tenant: String,
    profile: ProfileName,
    number: u64,
}

/// What waits, and what serving it costs.
#[derive(Debug)]
struct Waiting<W> {
    cost: i64,
    what: W,
}

/// Something that holds what waits.
trait Holder<W>: Default {
    /// Whether any of it could be served now.
    fn wants(&self, free: &mut dyn FnMut(&Caller, &ProfileName) -> bool) -> bool;
    /// Takes the next that can be served.
    fn take(&mut self, free: &mut dyn FnMut(&Caller, &ProfileName) -> bool) -> Option<Waiting<W>>;
    fn is_empty(&self) -> bool;
}

/// One tenant's, by profile, oldest first.
#[derive(Debug)]
struct Tenant<W> {
    caller: Caller,
    by_profile: BTreeMap<ProfileName, BTreeMap<u64, Waiting<W>>>,
}

impl<W> Default for Tenant<W> {
    fn default() -> Self {
        Tenant { caller: Caller::default(), by_profile: BTreeMap::new() }
    }
}

impl<W> Holder<W> for Tenant<W> {
    fn wants(&self, free: &mut dyn FnMut(&Caller, &ProfileName) -> bool) -> bool {
        self.by_profile.keys().any(|profile| free(&self.caller, profile))
    }

    fn take(&mut self, free: &mut dyn FnMut(&Caller, &ProfileName) -> bool) -> Option<Waiting<W>> {
        let oldest =
            |(profile, waiting): (&ProfileName, &BTreeMap<u64, _>)| Some((*waiting.keys().next()?, profile.clone()));
        let (number, profile) =
            self.by_profile.iter().filter(|(profile, _)| free(&self.caller, profile)).filter_map(oldest).min()?;
        self.remove(&profile, number)
    }

    fn is_empty(&self) -> bool {
        self.by_profile.is_empty()
    }
}

impl<W> Tenant<W> {
    fn remove(&mut self, profile: &ProfileName, number: u64) -> Option<Waiting<W>> {
        let waiting = self.by_profile.get_mut(profile)?;
        let found = waiting.remove(&number);
        if waiting.is_empty() {
            self.by_profile.remove(profile);
        }
        found
    }
}

/// Members that take turns. Every member of the map is in the ring exactly once.
#[derive(Debug)]
struct Turns<K, H> {
    ring: VecDeque<K>,
    members: HashMap<K, (i64, H)>,
}

impl<K, H> Default for Turns<K, H> {
    fn default() -> Self {
        Turns { ring: VecDeque::new(), members: HashMap::new() }
    }
}

impl<K: Eq + Hash + Clone, H> Turns<K, H> {
    fn member<W>(&mut self, key: &K) -> &mut H
    where
        H: Holder<W>,
    {
        if !self.members.contains_key(key) {
            self.ring.push_back(key.clone());
        }
        &mut self.members.entry(key.clone()).or_insert_with(|| (0, H::default())).1
    }

    /// Does something with a member, and lets it go when nothing is left.
    fn with<W, T>(&mut self, key: &K, work: impl FnOnce(&mut H) -> T) -> Option<T>
    where
        H: Holder<W>,
    {
        let (_, holder) = self.members.get_mut(key)?;
        let done = work(holder);
        if holder.is_empty() {
            self.members.remove(key);
            self.ring.retain(|other| other != key);
        }
        Some(done)
    }
}

impl<W, K: Eq + Hash + Clone, H: Holder<W>> Holder<W> for Turns<K, H> {
    fn wants(&self, free: &mut dyn FnMut(&Caller, &ProfileName) -> bool) -> bool {
        self.members.values().any(|(_, holder)| holder.wants(free))
    }

    fn take(&mut self, free: &mut dyn FnMut(&Caller, &ProfileName) -> bool) -> Option<Waiting<W>> {
        self.take_of(&mut |_| true, free)
    }

    fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
}

impl<K: Eq + Hash + Clone, H> Turns<K, H> {
    /// Takes the next of those members that `may` be served.
    fn take_of<W>(
        &mut self,
        may: &mut dyn FnMut(&K) -> bool,
        free: &mut dyn FnMut(&Caller, &ProfileName) -> bool,
    ) -> Option<Waiting<W>>
    where
        H: Holder<W>,
    {
        // the rounds that pass until somebody who can be served has something to spend
        let mut rounds = None::<i64>;
        for at in 0..self.ring.len() {
            let (deficit, holder) = self.members.get(&self.ring[at])?;
            if !may(&self.ring[at]) || !holder.wants(free) {
                continue;
            }
            let missing = (1 - deficit).max(0);
            rounds = Some(rounds.map_or(missing, |least| least.min(missing)));
            if missing <= 1 {
                // the next round serves: nobody can come sooner
                break;
            }
        }
        let rounds = rounds?;
        if rounds > 1 {
            for (deficit, _) in self.members.values_mut() {
                // what is not spent is not saved up
                *deficit = (*deficit + rounds - 1).min(1);
            }
        }
        for _ in 0..self.ring.len() {
            let key = self.ring.pop_front()?;
            let (deficit, holder) = self.members.get_mut(&key)?;
            *deficit = (*deficit + 1).min(1);
            let taken = if *deficit > 0 && may(&key) { holder.take(free) } else { None };
            if let Some(taken) = &taken {
                *deficit -= taken.cost;
            }
            match holder.is_empty() {
                true => drop(self.members.remove(&key)),
                false => self.ring.push_back(key),
            }
            if taken.is_some() {
                return taken;
            }
        }
        None
    }
}

/// The line.
#[derive(Debug)]
pub struct Line<W> {
    uids: Turns<u32, Turns<String, Tenant<W>>>,
    /// Those who wait, by whose they are and what they wait for.
    waiting: Counts<(u32, ProfileName)>,
    by_profile: Counts<ProfileName>,
    next: u64,
}

impl<W> Default for Line<W> {
    fn default() -> Self {
        Line { uids: Turns::default(), waiting: Counts::default(), by_profile: Counts::default(), next: 0 }
    }
}

impl<W> Line<W> {
    /// Stands in line. `cost` is in runs, at least 1.
    pub fn join(&mut self, uid: u32, tenant: &str, profile: &ProfileName, cost: u32, what: W) -> Spot {
        let number = self.next;
        self.next += 1;
        self.waiting.increment((uid, profile.clone()));
        self.by_profile.increment(profile.clone());
        let tenants = self.uids.member(&uid);
        let waiting = Waiting { cost: i64::from(cost.max(1)), what };
        let member = tenants.member(&tenant.to_owned());
        member.caller = Caller { uid, tenant: tenant.to_owned() };
        member.by_profile.entry(profile.clone()).or_default().insert(number, waiting);
        Spot { uid, tenant: tenant.to_owned(), profile: profile.clone(), number }
    }

    /// Leaves the line, if it still stands there.
    pub fn leave(&mut self, spot: &Spot) -> Option<W> {
        let found = self
            .uids
            .with(&spot.uid, |tenants| tenants.with(&spot.tenant, |tenant| tenant.remove(&spot.profile, spot.number)))
            .flatten()
            .flatten()?;
        self.left(spot.uid, &spot.profile);
        Some(found.what)
    }

    fn left(&mut self, uid: u32, profile: &ProfileName) {
        self.waiting.decrement(&(uid, profile.clone()));
        self.by_profile.decrement(profile);
    }

    /// Whose turn it is, of those whose uid `may` be served and for whom a sandbox of the profile is `free`.
    pub fn next(
        &mut self,
        may: &mut dyn FnMut(&u32) -> bool,
        free: &mut dyn FnMut(&Caller, &ProfileName) -> bool,
    ) -> Option<W>
    where
        W: Stands,
    {
        let taken = self.uids.take_of(may, free)?.what;
        let (uid, profile) = taken.stands();
        self.left(uid, &profile);
        Some(taken)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.by_profile.total()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.uids.members.is_empty()
    }

    /// How many wait for a profile.
    pub fn waiting_for(&self, profile: &str) -> usize {
        self.by_profile.get(profile)
    }

    /// The profiles that somebody waits for.
    pub fn profiles(&self) -> impl Iterator<Item = &ProfileName> {
        self.by_profile.iter().map(|(profile, _)| profile)
    }

    /// How many wait, by uid.
    pub fn by_uid(&self) -> BTreeMap<u32, usize> {
        let mut all = BTreeMap::new();
        for ((uid, _), count) in self.waiting.iter() {
            *all.entry(*uid).or_default() += count;
        }
        all
    }

    /// How many would be served before one that this uid brings now for a profile: of those who wait for it, everybody, but
    /// of another uid no more than this one has itself, since they take turns.
    pub fn ahead_of(&self, uid: u32, profile: &ProfileName) -> usize {
        let own = self.waiting.get(&(uid, profile.clone()));
        let others = self.waiting.iter().filter(|((other, wanted), _)| *other != uid && wanted == profile);
        own + others.map(|(_, count)| count.min(own + 1)).sum::<usize>()
    }
}

/// Knows whose it is and what it waits for.
pub trait Stands {
    /// The uid and the profile that it joined with.
    fn stands(&self) -> (u32, ProfileName);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone, PartialEq)]
    struct One(u32, &'static str, u32);

    impl Stands for One {
        fn stands(&self) -> (u32, ProfileName) {
            (self.0, self.1.into())
        }
    }

    fn join(line: &mut Line<One>, uid: u32, profile: &'static str, cost: u32, number: u32) -> Spot {
        line.join(uid, "", &profile.into(), cost, One(uid, profile, number))
    }

    fn order(line: &mut Line<One>) -> Vec<(u32, u32)> {
        std::iter::from_fn(|| line.next(&mut |_| true, &mut |_, _| true)).map(|one| (one.0, one.2)).collect()
    }

    #[test]
    fn a_greedy_caller_waits_for_its_turn_like_everybody() {
        let mut line = Line::default();
        for number in 0..1000 {
            join(&mut line, 1, "python", 1, number);
        }
        for number in 0..3 {
            join(&mut line, 2, "python", 1, number);
        }
        join(&mut line, 4, "bash", 1, 0);
        let python: ProfileName = "python".into();
        assert_eq!(line.ahead_of(2, &python), 3 + 4);
        assert_eq!(line.ahead_of(3, &python), 2);
        assert_eq!((line.ahead_of(2, &"bash".into()), line.ahead_of(4, &"bash".into())), (1, 1));
        assert!(line.next(&mut |uid| *uid == 4, &mut |_, _| true).is_some());
        let order = order(&mut line);
        let places: Vec<usize> = (0..order.len()).filter(|at| order[*at].0 == 2).collect();
        assert_eq!(places, [1, 3, 5]);
        assert!(line.is_empty() && line.by_uid().is_empty());
    }

    #[test]
    fn one_callers_own_are_served_in_order() {
        let mut line = Line::default();
        for number in 0..5 {
            join(&mut line, 1, "python", 1, number);
        }
        assert_eq!(order(&mut line), [(1, 0), (1, 1), (1, 2), (1, 3), (1, 4)]);
    }

    #[test]
    fn who_asks_for_many_runs_at_a_time_gets_fewer_turns() {
        let mut line = Line::default();
        for number in 0..20 {
            join(&mut line, 1, "python", 10, number);
            join(&mut line, 2, "python", 1, number);
        }
        let served: Vec<u32> = order(&mut line).into_iter().map(|(uid, _)| uid).take(12).collect();
        assert_eq!(served.iter().filter(|uid| **uid == 1).count(), 2, "{served:?}");
    }

    #[test]
    fn tenants_of_one_uid_take_turns_too() {
        let mut line = Line::default();
        for number in 0..10 {
            line.join(1, "loud", &"python".into(), 1, One(1, "python", number));
        }
        line.join(1, "quiet", &"python".into(), 1, One(1, "python", 99));
        assert_eq!(order(&mut line)[1], (1, 99));
    }

    #[test]
    fn what_cannot_be_served_holds_up_nobody_behind_it() {
        let mut line = Line::default();
        join(&mut line, 1, "python", 1, 0);
        join(&mut line, 1, "bash", 1, 1);
        assert_eq!(line.next(&mut |_| true, &mut |_, profile| &**profile == "bash"), Some(One(1, "bash", 1)));
        assert_eq!(line.next(&mut |_| true, &mut |_, profile| &**profile == "bash"), None);
        assert_eq!((line.waiting_for("python"), line.waiting_for("bash"), line.len()), (1, 0, 1));
    }

    #[test]
    fn a_uid_that_may_not_be_served_holds_up_no_other() {
        let mut line = Line::default();
        join(&mut line, 1, "python", 1, 0);
        join(&mut line, 2, "python", 1, 1);
        assert_eq!(line.next(&mut |uid| *uid == 2, &mut |_, _| true), Some(One(2, "python", 1)));
        assert_eq!(line.next(&mut |uid| *uid == 2, &mut |_, _| true), None);
    }

    #[test]
    fn who_leaves_leaves_nothing() {
        let mut line = Line::default();
        let spot = join(&mut line, 1, "python", 1, 0);
        let other = join(&mut line, 1, "python", 1, 1);
        assert!(line.leave(&spot).is_some() && line.leave(&spot).is_none());
        assert_eq!(order(&mut line), [(1, 1)]);
        assert!(line.leave(&other).is_none());
        assert!(line.uids.members.is_empty() && line.uids.ring.is_empty());
        assert_eq!((line.by_profile.total(), line.waiting.total()), (0, 0));
    }

    const PROFILES: [&str; 3] = ["a", "b", "c"];

    #[derive(Debug, Clone)]
    enum Move {
        Join { uid: u32, tenant: u8, profile: usize, cost: u32 },
        Leave(usize),
        Serve { free: [bool; 3] },
    }

    fn moves() -> impl Strategy<Value = Vec<Move>> {
        let one = prop_oneof![
            3 => (0..4u32, 0..3u8, 0..3usize, 1..20u32).prop_map(|(uid, tenant, profile, cost)| Move::Join { uid, tenant, profile, cost }),
            1 => (0..64usize).prop_map(Move::Leave),
            3 => any::<[bool; 3]>().prop_map(|free| Move::Serve { free }),
        ];
        proptest::collection::vec(one, 0..200)
    }

    proptest! {
        /// Against a model that is only a list: nothing is lost, doubled or served without a free profile; who can be served
        /// is; and the counts are right.
        #[test]
        fn the_line_keeps_its_books_under_random_moves(moves in moves()) {
            let mut line = Line::default();
            let mut model: Vec<(Spot, One, u8)> = Vec::new();
            for (number, step) in moves.into_iter().enumerate() {
                match step {
                    Move::Join { uid, tenant, profile, cost } => {
                        let one = One(uid, PROFILES[profile], number as u32);
                        let spot = line.join(uid, &tenant.to_string(), &PROFILES[profile].into(), cost, one.clone());
                        model.push((spot, one, tenant));
                    }
                    Move::Leave(at) if !model.is_empty() => {
                        let (spot, one, _) = model.remove(at % model.len());
                        prop_assert_eq!(line.leave(&spot), Some(one));
                    }
                    Move::Leave(_) => {}
                    Move::Serve { free } => {
                        let is_free = |name: &str| PROFILES.iter().position(|known| *known == name).is_some_and(|at| free[at]);
                        match line.next(&mut |_| true, &mut |_, profile| is_free(profile)) {
                            None => prop_assert!(!model.iter().any(|(_, one, _)| is_free(one.1))),
                            Some(got) => {
                                prop_assert!(is_free(got.1));
                                let at = model.iter().position(|(_, one, _)| *one == got);
                                let (_, _, tenant) = model.remove(at.expect("served what did not wait"));
                                // of one tenant the oldest that can be served comes first
                                let older = model.iter().any(|(_, one, other)| {
                                    one.0 == got.0 && *other == tenant && is_free(one.1) && one.2 < got.2
                                });
                                prop_assert!(!older);
                            }
                        }
                    }
                }
                prop_assert_eq!(line.len(), model.len());
                for profile in PROFILES {
                    prop_assert_eq!(line.waiting_for(profile), model.iter().filter(|(_, one, _)| one.1 == profile).count());
                }
            }
        }
    }
}
