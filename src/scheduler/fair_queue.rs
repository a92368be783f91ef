//! The queue of submissions that wait for a sandbox, and which one is next. Pure: no clock, no IO.
//!
//! ```text
//!   queue --turns--> account --turns--> tenant --per profile, in order--> submission
//! ```
//!
//! Turns are deficit round robin with deficits that may become negative: a member with a positive
//! deficit is served and pays the submission's cost (its number of runs); each round adds one to
//! every member's deficit, up to one. So an account with 10,000 submissions and one with a single
//! submission are served alternately, and one that asks for a hundred tests each time gets fewer
//! turns than one that asks for a single run. A member with nothing queued is removed together with
//! its debt; when it returns it starts at zero, behind the others.
//!
//! A submission whose profile has no free sandbox does not block those behind it: a turn goes to
//! the oldest submission that can be served.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;

use protocol::{Account, Caller, Counts};

/// A profile's name, shared by the queue's indexes.
pub type ProfileName = Arc<str>;

/// What an item needs: items of one caller with the same needs are served in order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lane {
    pub profile: ProfileName,
    /// Whether only an unused sandbox will do.
    pub fresh: bool,
    pub room: Room,
}

/// The part of a host's capacity that an item takes, in units that can be compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Room {
    /// CPU share in millionths.
    pub micro_cpus: u64,
    /// Memory in bytes.
    pub memory: u64,
}

impl From<&str> for Lane {
    fn from(profile: &str) -> Lane {
        Lane { profile: profile.into(), fresh: false, room: Room::default() }
    }
}

/// Identifies a queued item, to remove it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueTicket {
    account: Account,
    /// What [`Caller::turn`] says.
    turn: String,
    lane: Lane,
    number: u64,
}

/// A queued item and its cost in runs.
#[derive(Debug)]
struct QueuedItem<T> {
    cost: i64,
    item: T,
}

/// Tells whether a sandbox that the lane needs is free for the caller.
type IsFree<'a> = &'a mut dyn FnMut(&Caller, &Lane) -> bool;

/// A part of the queue that takes turns with its siblings.
trait TurnMember<T>: Default {
    /// Whether any of its items can be served now.
    fn has_servable(&self, is_free: IsFree<'_>) -> bool;
    /// Removes the next item that can be served.
    fn take_next(&mut self, is_free: IsFree<'_>) -> Option<QueuedItem<T>>;
    fn is_empty(&self) -> bool;
}

/// One tenant's items by lane, oldest first.
#[derive(Debug)]
struct TenantQueue<T> {
    caller: Caller,
    by_lane: BTreeMap<Lane, BTreeMap<u64, QueuedItem<T>>>,
}

impl<T> Default for TenantQueue<T> {
    fn default() -> Self {
        TenantQueue { caller: Caller::default(), by_lane: BTreeMap::new() }
    }
}

impl<T> TurnMember<T> for TenantQueue<T> {
    fn has_servable(&self, is_free: IsFree<'_>) -> bool {
        self.by_lane.keys().any(|lane| is_free(&self.caller, lane))
    }

    fn take_next(&mut self, is_free: IsFree<'_>) -> Option<QueuedItem<T>> {
        let oldest = |(lane, items): (&Lane, &BTreeMap<u64, _>)| Some((*items.keys().next()?, lane.clone()));
        let free = self.by_lane.iter().filter(|(lane, _)| is_free(&self.caller, lane));
        let (number, lane) = free.filter_map(oldest).min()?;
        self.remove(&lane, number)
    }

    fn is_empty(&self) -> bool {
        self.by_lane.is_empty()
    }
}

impl<T> TenantQueue<T> {
    fn remove(&mut self, lane: &Lane, number: u64) -> Option<QueuedItem<T>> {
        let items = self.by_lane.get_mut(lane)?;
        let found = items.remove(&number);
        if items.is_empty() {
            self.by_lane.remove(lane);
        }
        found
    }
}

/// Members that take turns. Every key of `members` is in `ring` exactly once.
#[derive(Debug)]
struct RoundRobin<K, M> {
    ring: VecDeque<K>,
    /// Each member with its deficit.
    members: HashMap<K, (i64, M)>,
}

impl<K, M> Default for RoundRobin<K, M> {
    fn default() -> Self {
        RoundRobin { ring: VecDeque::new(), members: HashMap::new() }
    }
}

impl<K: Eq + Hash + Clone, M> RoundRobin<K, M> {
    /// The member with this key, added at the end of the ring if it is new.
    fn member<T>(&mut self, key: &K) -> &mut M
    where
        M: TurnMember<T>,
    {
        if !self.members.contains_key(key) {
            self.ring.push_back(key.clone());
        }
        &mut self.members.entry(key.clone()).or_insert_with(|| (0, M::default())).1
    }

    /// Changes a member, and removes it if that leaves it empty.
    fn update<T, R>(&mut self, key: &K, change: impl FnOnce(&mut M) -> R) -> Option<R>
    where
        M: TurnMember<T>,
    {
        let (_, member) = self.members.get_mut(key)?;
        let result = change(member);
        if member.is_empty() {
            self.members.remove(key);
            self.ring.retain(|other| other != key);
        }
        Some(result)
    }
}

impl<T, K: Eq + Hash + Clone, M: TurnMember<T>> TurnMember<T> for RoundRobin<K, M> {
    fn has_servable(&self, is_free: IsFree<'_>) -> bool {
        self.members.values().any(|(_, member)| member.has_servable(is_free))
    }

    fn take_next(&mut self, is_free: IsFree<'_>) -> Option<QueuedItem<T>> {
        self.take_next_of(&mut |_| true, is_free)
    }

    fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
}

impl<K: Eq + Hash + Clone, M> RoundRobin<K, M> {
    /// Removes the next item of those members that `may_run` accepts.
    fn take_next_of<T>(&mut self, may_run: &mut dyn FnMut(&K) -> bool, is_free: IsFree<'_>) -> Option<QueuedItem<T>>
    where
        M: TurnMember<T>,
    {
        let rounds = self.rounds_to_next(may_run, is_free)?;
        if rounds > 1 {
            for (deficit, _) in self.members.values_mut() {
                // an unused turn is not saved up
                *deficit = (*deficit + rounds - 1).min(1);
            }
        }
        for _ in 0..self.ring.len() {
            let key = self.ring.pop_front()?;
            let (deficit, member) = self.members.get_mut(&key)?;
            *deficit = (*deficit + 1).min(1);
            let taken = if *deficit > 0 && may_run(&key) { member.take_next(is_free) } else { None };
            if let Some(taken) = &taken {
                *deficit -= taken.cost;
            }
            match member.is_empty() {
                true => drop(self.members.remove(&key)),
                false => self.ring.push_back(key),
            }
            if taken.is_some() {
                return taken;
            }
        }
        None
    }

    /// Rounds until a member that can be served has a positive deficit; `None` if none can be
    /// served.
    fn rounds_to_next<T>(&self, may_run: &mut dyn FnMut(&K) -> bool, is_free: IsFree<'_>) -> Option<i64>
    where
        M: TurnMember<T>,
    {
        let mut rounds = None::<i64>;
        for key in &self.ring {
            let (deficit, member) = self.members.get(key)?;
            if !may_run(key) || !member.has_servable(is_free) {
                continue;
            }
            let missing = (1 - deficit).max(0);
            rounds = Some(rounds.map_or(missing, |least| least.min(missing)));
            if missing <= 1 {
                // served in the next round: no other member can be earlier
                break;
            }
        }
        rounds
    }
}

/// The queue. `T` is a queued item.
#[derive(Debug)]
pub struct FairQueue<T> {
    accounts: RoundRobin<Account, RoundRobin<String, TenantQueue<T>>>,
    by_account_and_profile: Counts<(Account, ProfileName)>,
    by_profile: Counts<ProfileName>,
    next_number: u64,
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        FairQueue {
            accounts: RoundRobin::default(),
            by_account_and_profile: Counts::default(),
            by_profile: Counts::default(),
            next_number: 0,
        }
    }
}

impl<T> FairQueue<T> {
    /// Adds an item. `cost` is in runs, at least 1.
    pub fn enqueue(&mut self, caller: &Caller, lane: &Lane, cost: u32, item: T) -> QueueTicket {
        let number = self.next_number;
        self.next_number += 1;
        let (account, turn) = (caller.account(), caller.turn().to_owned());
        self.by_account_and_profile.increment((account.clone(), lane.profile.clone()));
        self.by_profile.increment(lane.profile.clone());
        let queued = QueuedItem { cost: i64::from(cost.max(1)), item };
        let member = self.accounts.member(&account).member(&turn);
        member.caller = caller.clone();
        member.by_lane.entry(lane.clone()).or_default().insert(number, queued);
        QueueTicket { account, turn, lane: lane.clone(), number }
    }

    /// Removes an item; `None` if it was served or removed before.
    pub fn remove(&mut self, ticket: &QueueTicket) -> Option<T> {
        let QueueTicket { account, turn, lane, number } = ticket;
        let found = self
            .accounts
            .update(account, |tenants| tenants.update(turn, |queue| queue.remove(lane, *number)))
            .flatten()
            .flatten()?;
        self.uncount(account, &lane.profile);
        Some(found.item)
    }

    fn uncount(&mut self, account: &Account, profile: &ProfileName) {
        self.by_account_and_profile.decrement(&(account.clone(), profile.clone()));
        self.by_profile.decrement(profile);
    }

    /// Removes and returns the next item, among accounts that `may_run` accepts and lanes with a
    /// free sandbox.
    pub fn pop_next(
        &mut self,
        may_run: &mut dyn FnMut(&Account) -> bool,
        is_free: &mut dyn FnMut(&Caller, &Lane) -> bool,
    ) -> Option<T>
    where
        T: QueueKey,
    {
        let taken = self.accounts.take_next_of(may_run, is_free)?.item;
        let (account, profile) = taken.key();
        self.uncount(&account, &profile);
        Some(taken)
    }

    /// The number of queued items.
    pub fn len(&self) -> usize {
        self.by_profile.total()
    }

    /// Whether nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.accounts.members.is_empty()
    }

    /// The number of items queued for a profile.
    pub fn waiting_for(&self, profile: &str) -> usize {
        self.by_profile.get(profile)
    }

    /// Queued items for a profile that `is_counted` accepts, by caller and whether they need an
    /// unused sandbox; stops at `most`.
    pub fn count_up_to(&self, most: usize, profile: &str, is_counted: &mut dyn FnMut(&Caller, &Lane) -> bool) -> usize {
        let tenants = self.accounts.members.values().flat_map(|(_, tenants)| tenants.members.values());
        let mut count = 0;
        for (_, queue) in tenants {
            let lanes = queue.by_lane.iter().filter(|(lane, _)| *lane.profile == *profile);
            for (lane, items) in lanes {
                if is_counted(&queue.caller, lane) {
                    count += items.len();
                }
            }
            if count >= most {
                break;
            }
        }
        count.min(most)
    }

    /// Profiles with queued items.
    pub fn profiles(&self) -> impl Iterator<Item = &ProfileName> {
        self.by_profile.iter().map(|(profile, _)| profile)
    }

    /// The number of queued items by account.
    pub fn waiting_by_account(&self) -> BTreeMap<Account, usize> {
        let mut all = BTreeMap::new();
        for ((account, _), count) in self.by_account_and_profile.iter() {
            *all.entry(account.clone()).or_default() += count;
        }
        all
    }

    /// Queue position a new submission of `account` would get for `profile`. Other accounts count
    /// at most `own + 1` each, because accounts are served round-robin.
    pub fn ahead_of(&self, account: &Account, profile: &ProfileName) -> usize {
        let own = self.by_account_and_profile.get(&(account.clone(), profile.clone()));
        let others = self.by_account_and_profile.iter();
        let others = others.filter(|((other, wanted), _)| other != account && wanted == profile);
        own + others.map(|(_, count)| count.min(own + 1)).sum::<usize>()
    }
}

/// An item that knows the account and the profile it was queued with.
pub trait QueueKey {
    /// Account and profile, as passed to [`FairQueue::enqueue`].
    fn key(&self) -> (Account, ProfileName);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use protocol::Principal;

    #[derive(Debug, Clone, PartialEq)]
    struct Item(u32, &'static str, u32);

    impl QueueKey for Item {
        fn key(&self) -> (Account, ProfileName) {
            (Account::Uid(self.0), self.1.into())
        }
    }

    /// Of any account.
    struct Shared(u32);

    impl QueueKey for Shared {
        fn key(&self) -> (Account, ProfileName) {
            (if self.0 == 4 { Account::Uid(1) } else { Account::Anonymous }, "python".into())
        }
    }

    fn enqueue(queue: &mut FairQueue<Item>, uid: u32, profile: &'static str, cost: u32, number: u32) -> QueueTicket {
        queue.enqueue(&Caller::of_uid(uid, ""), &profile.into(), cost, Item(uid, profile, number))
    }

    fn order(queue: &mut FairQueue<Item>) -> Vec<(u32, u32)> {
        std::iter::from_fn(|| queue.pop_next(&mut |_| true, &mut |_, _| true)).map(|item| (item.0, item.2)).collect()
    }

    #[test]
    fn a_uid_with_many_submissions_takes_turns_with_the_others() {
        let mut queue = FairQueue::default();
        for number in 0..1000 {
            enqueue(&mut queue, 1, "python", 1, number);
        }
        for number in 0..3 {
            enqueue(&mut queue, 2, "python", 1, number);
        }
        enqueue(&mut queue, 4, "bash", 1, 0);
        let python: ProfileName = "python".into();
        assert_eq!(queue.ahead_of(&Account::Uid(2), &python), 3 + 4);
        assert_eq!(queue.ahead_of(&Account::Uid(3), &python), 2);
        let for_bash = |uid| queue.ahead_of(&Account::Uid(uid), &"bash".into());
        assert_eq!((for_bash(2), for_bash(4)), (1, 1));
        assert!(queue.pop_next(&mut |account| *account == Account::Uid(4), &mut |_, _| true).is_some());
        let order = order(&mut queue);
        let positions: Vec<usize> = (0..order.len()).filter(|at| order[*at].0 == 2).collect();
        assert_eq!(positions, [1, 3, 5]);
        assert!(queue.is_empty() && queue.waiting_by_account().is_empty());
    }

    #[test]
    fn submissions_of_one_caller_are_served_in_order() {
        let mut queue = FairQueue::default();
        for number in 0..5 {
            enqueue(&mut queue, 1, "python", 1, number);
        }
        assert_eq!(order(&mut queue), [(1, 0), (1, 1), (1, 2), (1, 3), (1, 4)]);
    }

    #[test]
    fn a_uid_with_expensive_submissions_gets_fewer_turns() {
        let mut queue = FairQueue::default();
        for number in 0..20 {
            enqueue(&mut queue, 1, "python", 10, number);
            enqueue(&mut queue, 2, "python", 1, number);
        }
        let served: Vec<u32> = order(&mut queue).into_iter().map(|(uid, _)| uid).take(12).collect();
        assert_eq!(served.iter().filter(|uid| **uid == 1).count(), 2, "{served:?}");
    }

    #[test]
    fn tenants_of_one_uid_take_turns() {
        let mut queue = FairQueue::default();
        for number in 0..10 {
            queue.enqueue(&Caller::of_uid(1, "loud"), &"python".into(), 1, Item(1, "python", number));
        }
        queue.enqueue(&Caller::of_uid(1, "quiet"), &"python".into(), 1, Item(1, "python", 99));
        assert_eq!(order(&mut queue)[1], (1, 99));
    }

    #[test]
    fn anonymous_browsers_share_the_turns_of_one_account() {
        let mut queue = FairQueue::default();
        let browser = |id: &str| Caller { principal: Principal::Anonymous(id.into()), tenant: String::new() };
        for (id, number) in [("a", 0), ("a", 1), ("a", 2), ("b", 3)] {
            queue.enqueue(&browser(id), &"python".into(), 1, Shared(number));
        }
        queue.enqueue(&Caller::of_uid(1, ""), &"python".into(), 1, Shared(4));
        let served = std::iter::from_fn(|| queue.pop_next(&mut |_| true, &mut |_, _| true)).map(|item| item.0);
        assert_eq!(served.take(3).collect::<Vec<_>>(), [0, 4, 3]);
    }

    #[test]
    fn a_submission_that_cannot_be_served_does_not_block_the_queue() {
        let mut queue = FairQueue::default();
        enqueue(&mut queue, 1, "python", 1, 0);
        enqueue(&mut queue, 1, "bash", 1, 1);
        assert_eq!(queue.pop_next(&mut |_| true, &mut |_, lane| &*lane.profile == "bash"), Some(Item(1, "bash", 1)));
        assert_eq!(queue.pop_next(&mut |_| true, &mut |_, lane| &*lane.profile == "bash"), None);
        assert_eq!((queue.waiting_for("python"), queue.waiting_for("bash"), queue.len()), (1, 0, 1));
    }

    #[test]
    fn a_uid_that_may_not_run_does_not_block_others() {
        let mut queue = FairQueue::default();
        enqueue(&mut queue, 1, "python", 1, 0);
        enqueue(&mut queue, 2, "python", 1, 1);
        assert_eq!(
            queue.pop_next(&mut |account| *account == Account::Uid(2), &mut |_, _| true),
            Some(Item(2, "python", 1))
        );
        assert_eq!(queue.pop_next(&mut |account| *account == Account::Uid(2), &mut |_, _| true), None);
    }

    #[test]
    fn a_removed_submission_leaves_no_trace() {
        let mut queue = FairQueue::default();
        let ticket = enqueue(&mut queue, 1, "python", 1, 0);
        let other = enqueue(&mut queue, 1, "python", 1, 1);
        assert!(queue.remove(&ticket).is_some() && queue.remove(&ticket).is_none());
        assert_eq!(order(&mut queue), [(1, 1)]);
        assert!(queue.remove(&other).is_none());
        assert!(queue.accounts.members.is_empty() && queue.accounts.ring.is_empty());
        assert_eq!((queue.by_profile.total(), queue.by_account_and_profile.total()), (0, 0));
    }

    const PROFILES: [&str; 3] = ["a", "b", "c"];

    #[derive(Debug, Clone)]
    enum QueueMove {
        Enqueue { uid: u32, tenant: u8, profile: usize, cost: u32 },
        Remove(usize),
        Serve { free: [bool; 3] },
    }

    fn moves() -> impl Strategy<Value = Vec<QueueMove>> {
        let step = prop_oneof![
            3 => (0..4u32, 0..3u8, 0..3usize, 1..20u32).prop_map(|(uid, tenant, profile, cost)| QueueMove::Enqueue { uid, tenant, profile, cost }),
            1 => (0..64usize).prop_map(QueueMove::Remove),
            3 => any::<[bool; 3]>().prop_map(|free| QueueMove::Serve { free }),
        ];
        proptest::collection::vec(step, 0..200)
    }

    proptest! {
        /// Against a plain list: nothing is lost, duplicated or served without a free profile,
        /// whatever can be served is, and the counts are right.
        #[test]
        fn the_queue_matches_a_list_under_random_moves(moves in moves()) {
            let mut queue = FairQueue::default();
            let mut model: Vec<(QueueTicket, Item, u8)> = Vec::new();
            for (number, step) in moves.into_iter().enumerate() {
                match step {
                    QueueMove::Enqueue { uid, tenant, profile, cost } => {
                        let item = Item(uid, PROFILES[profile], number as u32);
                        let ticket = queue.enqueue(&Caller::of_uid(uid, tenant.to_string()), &PROFILES[profile].into(), cost, item.clone());
                        model.push((ticket, item, tenant));
                    }
                    QueueMove::Remove(at) if !model.is_empty() => {
                        let (ticket, item, _) = model.remove(at % model.len());
                        prop_assert_eq!(queue.remove(&ticket), Some(item));
                    }
                    QueueMove::Remove(_) => {}
                    QueueMove::Serve { free } => {
                        let is_free = |name: &str| PROFILES.iter().position(|known| *known == name).is_some_and(|at| free[at]);
                        match queue.pop_next(&mut |_| true, &mut |_, lane| is_free(&lane.profile)) {
                            None => prop_assert!(!model.iter().any(|(_, item, _)| is_free(item.1))),
                            Some(got) => {
                                prop_assert!(is_free(got.1));
                                let at = model.iter().position(|(_, item, _)| *item == got);
                                let (_, _, tenant) = model.remove(at.expect("served an item that was not queued"));
                                // within a tenant the oldest that can be served comes first
                                let older = model.iter().any(|(_, item, other)| {
                                    item.0 == got.0 && *other == tenant && is_free(item.1) && item.2 < got.2
                                });
                                prop_assert!(!older);
                            }
                        }
                    }
                }
                prop_assert_eq!(queue.len(), model.len());
                for profile in PROFILES {
                    prop_assert_eq!(queue.waiting_for(profile), model.iter().filter(|(_, item, _)| item.1 == profile).count());
                }
            }
        }
    }
}
