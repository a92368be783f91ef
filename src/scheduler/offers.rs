//! The sandboxes that hosts offer to the queue while it is served.

use std::collections::HashMap;
use std::sync::Arc;

use super::fair_queue::{Lane, ProfileName, Room};
use super::host_choice::{Candidate, choose};
use protocol::Caller;
use sandbox::host::Host;
use sandbox::host::capacity::Resources;
use sandbox::pool::Offer;

/// An offered sandbox and its host.
pub(super) type FoundOffer = (Arc<Host>, Offer);

/// The offers taken while the queue is served once. An offer counted as available stays available,
/// whatever the pools do meanwhile.
#[derive(Default)]
pub(super) struct OfferCache {
    profiles: HashMap<ProfileName, ProfileOffers>,
    /// Sandboxes kept for a caller.
    kept: HashMap<(Caller, ProfileName), Option<FoundOffer>>,
    /// The one for which the others have to leave room.
    pub(super) held: Option<(Caller, Lane)>,
    /// Those for which some host has no room.
    pub(super) short: Vec<(Caller, Lane)>,
}

struct ProfileOffers {
    unused: Option<FoundOffer>,
    /// Whether any pool of the profile keeps used sandboxes for their callers.
    reuses: bool,
}

fn fits(host: &Host, room: Room) -> bool {
    host.capacity().fits(Resources { cpus: room.micro_cpus as f64 / 1e6, memory: room.memory })
}

impl OfferCache {
    pub(super) fn new(held: Option<(Caller, Lane)>) -> OfferCache {
        OfferCache { held, ..OfferCache::default() }
    }

    /// Whether a sandbox is available to this caller, on a host with room for what it needs.
    pub(super) fn has(&mut self, hosts: &[Arc<Host>], caller: &Caller, lane: &Lane) -> bool {
        let waits_for_another = |(held_for, held): &(Caller, Lane)| (held_for, held) != (caller, lane);
        if self.held.as_ref().is_some_and(waits_for_another) {
            return false;
        }
        let has = self.has_kept(hosts, caller, lane) || self.has_unused(hosts, lane);
        if !has && hosts.iter().any(|host| host.pool(&lane.profile).is_some() && !fits(host, lane.room)) {
            self.short.push((caller.clone(), lane.clone()));
        }
        has
    }

    /// Takes the best offer for this caller: a sandbox kept for it, else an unused one.
    pub(super) fn take(&mut self, hosts: &[Arc<Host>], caller: &Caller, lane: &Lane) -> Option<FoundOffer> {
        if self.has_kept(hosts, caller, lane) {
            return self.kept.remove(&(caller.clone(), lane.profile.clone())).flatten();
        }
        if self.has_unused(hosts, lane) { self.profiles.remove(&lane.profile)?.unused } else { None }
    }

    fn has_unused(&mut self, hosts: &[Arc<Host>], lane: &Lane) -> bool {
        let offers = self.offers(hosts, &lane.profile);
        if offers.unused.as_ref().is_some_and(|(host, _)| fits(host, lane.room)) {
            return true;
        }
        // another host may have the room, or a need of less room may fit where a larger one did not
        let found = find(hosts, &lane.profile, None, &|host| fits(host, lane.room));
        let has = found.is_some();
        if let Some(found) = found
            && let Some((_, other)) = self.offers(hosts, &lane.profile).unused.replace(found)
        {
            other.decline();
        }
        has
    }

    fn has_kept(&mut self, hosts: &[Arc<Host>], caller: &Caller, lane: &Lane) -> bool {
        let may_be_kept = !lane.fresh && self.offers(hosts, &lane.profile).reuses;
        may_be_kept && self.kept_for(hosts, caller, lane).as_ref().is_some_and(|(host, _)| fits(host, lane.room))
    }

    fn offers(&mut self, hosts: &[Arc<Host>], profile: &ProfileName) -> &mut ProfileOffers {
        self.profiles.entry(profile.clone()).or_insert_with(|| ProfileOffers {
            unused: None,
            reuses: hosts.iter().any(|host| host.pool(profile).is_some_and(|pool| pool.reuses())),
        })
    }

    fn kept_for(&mut self, hosts: &[Arc<Host>], caller: &Caller, lane: &Lane) -> &Option<FoundOffer> {
        let profile = &lane.profile;
        self.kept.entry((caller.clone(), profile.clone())).or_insert_with(|| {
            let (roomy, full): (Vec<_>, Vec<_>) = hosts.iter().partition(|host| fits(host, lane.room));
            let mut all = roomy.into_iter().chain(full);
            all.find_map(|host| Some((host.clone(), host.pool(profile)?.offer_kept(caller)?)))
        })
    }

    /// Returns the remaining offers to their pools.
    pub(super) fn decline(self) {
        let unused = self.profiles.into_values().filter_map(|offers| offers.unused);
        unused.chain(self.kept.into_values().flatten()).for_each(|(_, offer)| offer.decline());
    }
}

/// An unused sandbox of the profile on the best host that `fits`.
pub(super) fn find(
    hosts: &[Arc<Host>],
    profile: &str,
    avoid: Option<&str>,
    fits: &dyn Fn(&Host) -> bool,
) -> Option<FoundOffer> {
    let mut left: Vec<&Arc<Host>> = hosts.iter().filter(|host| fits(host)).collect();
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
