//! Submissions that hold a sandbox and wait for one for a referee. These are served before the
//! queue and regardless of ceilings: submissions that hold a sandbox and wait for another could
//! otherwise deadlock. They have room: it is reserved with the submission's own, on the same host.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::fair_queue::ProfileName;
use super::offers::find;
use sandbox::host::Host;
use sandbox::host::capacity::{Reservation, Resources};
use sandbox::pool::Offer;

#[derive(Debug)]
pub(super) struct RefereeRequest {
    pub(super) profile: ProfileName,
    /// The host of the submission's own sandbox.
    pub(super) own: Arc<Host>,
    pub(super) need: Resources,
    pub(super) reply: oneshot::Sender<(Arc<Host>, Offer, Option<Reservation>)>,
}

impl RefereeRequest {
    /// Whether its own host can serve it. Otherwise another one does, and reserves more.
    fn has_own(&self, hosts: &[Arc<Host>]) -> bool {
        let is_willing = hosts.iter().any(|host| Arc::ptr_eq(host, &self.own));
        is_willing && self.own.pool(&self.profile).is_some_and(|pool| pool.blocked().is_none())
    }
}

#[derive(Debug, Default)]
pub(super) struct RefereeRequests(Vec<RefereeRequest>);

impl RefereeRequests {
    pub(super) fn push(&mut self, request: RefereeRequest) {
        self.0.push(request);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Drops the requests for profiles that `is_hopeless` names.
    pub(super) fn drop_hopeless(&mut self, is_hopeless: impl Fn(&ProfileName) -> bool) {
        self.0.retain(|request| !is_hopeless(&request.profile));
    }

    /// Serves requests as far as sandboxes are ready, and drops abandoned ones.
    pub(super) fn serve(&mut self, hosts: &[Arc<Host>]) {
        for request in std::mem::take(&mut self.0) {
            if request.reply.is_closed() {
                continue;
            }
            let own = std::slice::from_ref(&request.own);
            let hosts = if request.has_own(hosts) { own } else { hosts };
            match find(hosts, &request.profile, None, &|_| true) {
                Some((host, offer)) => {
                    let is_elsewhere = !Arc::ptr_eq(&host, &request.own);
                    let reservation = is_elsewhere.then(|| host.capacity().reserve(request.need));
                    let _ = request.reply.send((host, offer, reservation));
                }
                None => self.0.push(request),
            }
        }
    }

    /// How many wait for a profile on this host, and on whichever host has one.
    pub(super) fn waiting_for(&self, profile: &str, host: &Arc<Host>, hosts: &[Arc<Host>]) -> (usize, usize) {
        let of_profile = self.0.iter().filter(|request| *request.profile == *profile);
        let (bound, free): (Vec<_>, Vec<_>) = of_profile.partition(|request| request.has_own(hosts));
        (bound.into_iter().filter(|request| Arc::ptr_eq(&request.own, host)).count(), free.len())
    }
}
