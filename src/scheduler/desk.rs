//! The desk: who waits for a sandbox stands in line here, and is handed one when it is their turn.
//!
//! ```text
//!   wait --> join the line --> serve <-- the bell: a sandbox is ready, room was given back, a host is up, somebody left
//!                               |
//!              line.next(whose uid may, whose profile a host offers)
//!                               |
//!                        place.choose(host) --> offer, room --> whoever waits, or (gone meanwhile) back to the shelf
//! ```
//!
//! One lock, the line's, is held while somebody is served; pools' and hosts' locks are taken under it and never the other
//! way round.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};

use super::line::{Line, ProfileName, Spot, Stands};
use super::pace::Pace;
use super::place::{Candidate, choose, spread};
use judge::work::{Plan, Referee, Work};
use protocol::Caller;
use protocol::Counts;
use sandbox::host::capacity::{Reservation, Resources};
use sandbox::host::{Fleet, Host};
use sandbox::pool::{Lease, Offer};

/// A sandbox of one's own, on a host with room for the run.
#[derive(Debug)]
pub struct Placed {
    /// Where.
    pub host: Arc<Host>,
    /// The sandbox.
    pub lease: Lease,
    /// The room that the run takes.
    pub taken: Reservation,
    /// Its place among its uid's runs.
    pub running: Running,
}

/// A sandbox for a program that judges what runs on another.
#[derive(Debug)]
pub struct Second {
    /// Where.
    pub host: Arc<Host>,
    /// The sandbox.
    pub lease: Lease,
    /// The room that it takes.
    _taken: Reservation,
}

/// Why there is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no sandbox became ready in time{}", reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default())]
pub struct NoSandbox {
    /// Why none could be made, when that is known.
    pub reason: Option<String>,
}

/// On its way to who waits. Dropped, the sandbox goes back to its shelf and the bell rings.
#[derive(Debug)]
struct Handed {
    host: Arc<Host>,
    offer: Offer,
    taken: Reservation,
    running: Running,
}

#[derive(Debug)]
struct Waiter {
    caller: Caller,
    profile: ProfileName,
    need: Resources,
    avoid: Option<String>,
    reply: oneshot::Sender<Handed>,
}

impl Stands for Waiter {
    fn stands(&self) -> (u32, ProfileName) {
        (self.caller.uid, self.profile.clone())
    }
}

/// Who has a sandbox and waits for a second one. They come before the line, whatever room and ceilings say: were they to wait
/// for those who wait for them, nobody would ever be served.
#[derive(Debug)]
struct SecondWaiter {
    profile: ProfileName,
    need: Resources,
    reply: oneshot::Sender<(Arc<Host>, Offer, Reservation)>,
}

#[derive(Debug, Default)]
struct Books {
    line: Line<Waiter>,
    seconds: VecDeque<SecondWaiter>,
    pace: Pace,
}

/// Runs under way, by uid.
#[derive(Debug, Clone, Default)]
struct Tally(Arc<Mutex<Counts<u32>>>);

/// One of them, given back when dropped.
#[derive(Debug)]
pub struct Running {
    tally: Tally,
    uid: u32,
}

impl Tally {
    fn lock(&self) -> MutexGuard<'_, Counts<u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, uid: u32) -> Running {
        self.lock().increment(uid);
        Running { tally: self.clone(), uid }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tally.lock().decrement(&self.uid);
    }
}

/// The desk.
#[derive(Debug)]
pub struct Desk {
    fleet: Arc<Fleet>,
    bell: Arc<Notify>,
    books: Mutex<Books>,
    running: Tally,
    /// 0: no bound.
    max_running_per_uid: AtomicUsize,
    /// How often the bell was answered.
    turns: AtomicU64,
}

/// A place in line, left when dropped.
struct Place<'a> {
    desk: &'a Desk,
    spot: Spot,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.desk.books().line.leave(&self.spot).is_some() {
            self.desk.bell.notify_one();
        }
    }
}

impl Desk {
    /// A desk, served from now on whenever the bell rings.
    pub fn open(fleet: Arc<Fleet>, bell: Arc<Notify>, max_running_per_uid: usize) -> Arc<Desk> {
        let desk = Arc::new(Desk {
            fleet,
            bell: bell.clone(),
            books: Mutex::default(),
            running: Tally::default(),
            max_running_per_uid: AtomicUsize::new(max_running_per_uid),
            turns: AtomicU64::new(0),
        });
        let serving = Arc::downgrade(&desk);
        tokio::spawn(async move {
            loop {
                bell.notified().await;
                let Some(desk) = serving.upgrade() else { return };
                desk.serve();
                desk.turns.fetch_add(1, Ordering::Relaxed);
            }
        });
        desk
    }

    /// How often the bell was answered: it grows whenever somebody rings, or the desk hangs.
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// Rings the bell: the desk looks whose turn it is.
    pub fn ring(&self) {
        self.bell.notify_one();
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a sandbox for this work; elsewhere than on `avoid` if that can be. Dropping the future leaves the line, and
    /// takes nothing along.
    ///
    /// # Errors
    /// None within `patience`.
    pub async fn wait(&self, work: &Work, avoid: Option<&str>, patience: Duration) -> Result<Placed, NoSandbox> {
        let begun = Instant::now();
        let (reply, handed) = oneshot::channel();
        let profile: ProfileName = work.profile.name.as_str().into();
        let waiter = Waiter {
            caller: work.caller.clone(),
            profile: profile.clone(),
            need: Resources { cpus: work.limits.cpus, memory: work.limits.memory_bytes },
            avoid: avoid.map(str::to_owned),
            reply,
        };
        let spot = self.books().line.join(work.caller.uid, &work.caller.tenant, &profile, runs(work), waiter);
        let _place = Place { desk: self, spot };
        self.serve();
        let handed = tokio::time::timeout(patience, handed).await;
        if let Ok(Ok(Handed { host, offer, taken, running })) = handed
            && let Some(lease) = offer.accept(begun.elapsed())
        {
            return Ok(Placed { host, lease, taken, running });
        }
        Err(NoSandbox { reason: self.why_none(&profile) })
    }

    /// Waits for a sandbox for a program that judges a submission which has its own.
    ///
    /// # Errors
    /// None within `patience`.
    pub async fn second(&self, referee: &Referee, patience: Duration) -> Result<Second, NoSandbox> {
        /// Whoever stops waiting is to be noticed.
        struct Rings<'a>(&'a Notify);
        impl Drop for Rings<'_> {
            fn drop(&mut self) {
                self.0.notify_one();
            }
        }
        let begun = Instant::now();
        let _rings = Rings(&self.bell);
        let profile: ProfileName = referee.profile.name.as_str().into();
        let (reply, handed) = oneshot::channel();
        // while it works the submission mostly waits: it takes memory, no CPU
        let need = Resources { cpus: 0.0, memory: referee.step.limits.memory_bytes };
        self.books().seconds.push_back(SecondWaiter { profile: profile.clone(), need, reply });
        self.serve();
        if let Ok(Ok((host, offer, taken))) = tokio::time::timeout(patience, handed).await
            && let Some(lease) = offer.accept(begun.elapsed())
        {
            return Ok(Second { host, lease, _taken: taken });
        }
        Err(NoSandbox { reason: self.why_none(&profile) })
    }

    fn why_none(&self, profile: &str) -> Option<String> {
        let hosts = self.fleet.all();
        if !hosts.iter().any(|host| host.pool(profile).is_some()) {
            return Some(format!("the profile {profile} is gone from the configuration"));
        }
        // what keeps a host that is up from making one says more than a host that is down
        let broken = |host: &Arc<Host>| host.pool(profile)?.state().broken;
        self.fleet.schedulable().iter().find_map(broken).or_else(|| hosts.iter().find_map(|host| host.health().reason))
    }

    /// Hands out what there is, to whose turn it is.
    fn serve(&self) {
        let hosts = self.fleet.schedulable();
        let mut held = Held::default();
        let mut books = self.books();
        self.send_away(&mut books.line);
        for waiter in std::mem::take(&mut books.seconds) {
            if waiter.reply.is_closed() {
                continue;
            }
            match find(&hosts, &waiter.profile, None, Room::Any) {
                Some((host, offer)) => {
                    let taken = host.capacity().reserve(waiter.need);
                    let _ = waiter.reply.send((host, offer, taken));
                }
                None => books.seconds.push_back(waiter),
            }
        }
        loop {
            let most = self.max_running_per_uid.load(Ordering::Relaxed);
            let may = &mut |uid: &u32| most == 0 || self.running.lock().get(uid) < most;
            let next = books.line.next(may, &mut |caller, profile| held.has(&hosts, caller, profile));
            let Some(waiter) = next else { break };
            let found = held.take(&hosts, &waiter.caller, &waiter.profile);
            let Some((mut host, mut offer)) = found else { break };
            if waiter.avoid.as_deref() == Some(host.name())
                && let Some((other, better)) = find(&hosts, &waiter.profile, waiter.avoid.as_deref(), Room::Enough)
            {
                match other.name() == host.name() {
                    true => better.decline(),
                    false => {
                        std::mem::replace(&mut offer, better).decline();
                        host = other;
                    }
                }
            }
            let others = !books.line.is_empty();
            books.pace.served(Instant::now(), others);
            let taken = host.capacity().reserve(waiter.need);
            let running = self.running.begin(waiter.caller.uid);
            // who has gone meanwhile gives everything back by not taking it
            let _ = waiter.reply.send(Handed { host, offer, taken, running });
        }
        self.tell(&books, &hosts);
        drop(books);
        held.decline();
    }

    /// Lets go those who wait for a profile that no host has any more: a reload took it away.
    fn send_away(&self, line: &mut Line<Waiter>) {
        let hosts = self.fleet.all();
        let gone: Vec<ProfileName> =
            line.profiles().filter(|profile| !hosts.iter().any(|host| host.pool(profile).is_some())).cloned().collect();
        if !gone.is_empty() {
            while line.next(&mut |_| true, &mut |_, profile| gone.contains(profile)).is_some() {}
        }
    }

    /// Tells every pool how many wait for it.
    fn tell(&self, books: &Books, hosts: &[Arc<Host>]) {
        let weights: Vec<f64> = hosts.iter().map(|host| host.capacity().amounts().0.cpus).collect();
        for host in self.fleet.all().iter() {
            let at = hosts.iter().position(|willing| Arc::ptr_eq(willing, host));
            for pool in host.pools() {
                // mostly nobody waits for most of them
                let share = |count| match at {
                    Some(at) if count > 0 => spread(count, &weights).get(at).copied().unwrap_or(0),
                    _ => 0,
                };
                let seconds = books.seconds.iter().filter(|waiter| *waiter.profile == *pool.profile()).count();
                pool.set_demand(share(books.line.waiting_for(pool.profile())), share(seconds));
            }
        }
    }

    /// How long one of this uid would wait for a sandbox of a profile, by what was measured; none when nobody waits for one,
    /// or too little was seen to say.
    pub fn predict(&self, uid: u32, profile: &str) -> Option<Duration> {
        let profile: ProfileName = profile.into();
        let books = self.books();
        match books.line.waiting_for(&profile) {
            0 => None,
            _ => books.pace.wait(books.line.ahead_of(uid, &profile)),
        }
    }

    /// How many wait and how many runs there are, by uid.
    pub fn callers(&self) -> BTreeMap<u32, (usize, usize)> {
        let mut rows: BTreeMap<u32, (usize, usize)> =
            self.running.lock().iter().map(|(uid, running)| (*uid, (0, running))).collect();
        for (uid, waiting) in self.books().line.by_uid() {
            rows.entry(uid).or_default().0 = waiting;
        }
        rows
    }

    /// Runs under way.
    pub fn running(&self) -> usize {
        self.running.lock().total()
    }

    /// Another bound from now on; 0 for none.
    pub(super) fn set_max_running_per_uid(&self, most: usize) {
        self.max_running_per_uid.store(most, Ordering::Relaxed);
        self.bell.notify_one();
    }

    /// How many wait, by profile; profiles for which nobody does are not there.
    pub fn waiting_by_profile(&self) -> BTreeMap<String, usize> {
        let books = self.books();
        books.line.profiles().map(|profile| (profile.to_string(), books.line.waiting_for(profile))).collect()
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.books().line.len()
    }
}

/// A sandbox, and where.
type Found = (Arc<Host>, Offer);

/// What is held while the desk serves: whoever was told that there is something for them finds it, whatever the pools do
/// meanwhile.
#[derive(Default)]
struct Held {
    shelves: HashMap<ProfileName, Shelf>,
    /// Used ones, by whose they are.
    kept: HashMap<(Caller, ProfileName), Option<Found>>,
}

/// What there is of one profile.
struct Shelf {
    fresh: Option<Found>,
    /// Whether its pools keep used ones at all.
    reuses: bool,
}

impl Held {
    /// Whether this caller can be served now.
    fn has(&mut self, hosts: &[Arc<Host>], caller: &Caller, profile: &ProfileName) -> bool {
        // room may have gone to another profile since
        let roomy = |found: &Option<Found>| found.as_ref().is_some_and(|(host, _)| host.has_capacity_for(profile));
        let shelf = self.shelf(hosts, profile);
        roomy(&shelf.fresh) || shelf.reuses && roomy(self.kept_for(hosts, caller, profile))
    }

    /// The best for this caller: a used one of their own, else a fresh one.
    fn take(&mut self, hosts: &[Arc<Host>], caller: &Caller, profile: &ProfileName) -> Option<Found> {
        if self.shelf(hosts, profile).reuses {
            self.kept_for(hosts, caller, profile);
            if let Some(kept) = self.kept.remove(&(caller.clone(), profile.clone())).flatten() {
                return Some(kept);
            }
        }
        self.shelves.remove(profile)?.fresh
    }

    fn shelf(&mut self, hosts: &[Arc<Host>], profile: &ProfileName) -> &mut Shelf {
        self.shelves.entry(profile.clone()).or_insert_with(|| Shelf {
            fresh: find(hosts, profile, None, Room::Enough),
            reuses: hosts.iter().any(|host| host.pool(profile).is_some_and(|pool| pool.reuses())),
        })
    }

    fn kept_for(&mut self, hosts: &[Arc<Host>], caller: &Caller, profile: &ProfileName) -> &Option<Found> {
        self.kept.entry((caller.clone(), profile.clone())).or_insert_with(|| {
            let roomy = hosts.iter().filter(|host| host.has_capacity_for(profile));
            let mut offers = roomy.filter_map(|host| Some((host.clone(), host.pool(profile)?.offer_kept(caller)?)));
            offers.next()
        })
    }

    /// Nobody wanted the rest.
    fn decline(self) {
        let fresh = self.shelves.into_values().filter_map(|shelf| shelf.fresh);
        fresh.chain(self.kept.into_values().flatten()).for_each(|(_, offer)| offer.decline());
    }
}

/// How much room a host must have.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Room {
    Enough,
    Any,
}

/// A sandbox of a profile, of the host that is the best place for it.
fn find(hosts: &[Arc<Host>], profile: &str, avoid: Option<&str>, room: Room) -> Option<Found> {
    let roomy = |host: &&Arc<Host>| room == Room::Any || host.has_capacity_for(profile);
    let mut left: Vec<&Arc<Host>> = hosts.iter().filter(roomy).collect();
    loop {
        let candidate = |host: &&Arc<Host>| Candidate {
            ready: host.pool(profile).map_or(0, |pool| pool.ready()),
            load: host.capacity().load(),
            avoid: avoid == Some(host.name()),
        };
        let candidates: Vec<Candidate> = left.iter().map(candidate).collect();
        let host = left.remove(choose(&candidates)?);
        if let Some(offer) = host.pool(profile).and_then(|pool| pool.offer()) {
            return Some((host.clone(), offer));
        }
    }
}

/// What serving a submission costs: its number of runs.
fn runs(work: &Work) -> u32 {
    let tests = match &work.plan {
        Plan::Run(_) | Plan::Suite(_) => 1,
        Plan::Tests(tests) => tests.len().max(1),
    };
    u32::try_from(tests + usize::from(work.compile.is_some())).unwrap_or(u32::MAX)
}
