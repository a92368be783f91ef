//! A request that may go on: who calls, and the room that its account has for it.

use std::sync::{Arc, OnceLock};

use axum::extract::{FromRequestParts, MatchedPath};
use http::Method;
use http::request::Parts;
use parking_lot::Mutex;

use super::Api;
use super::problem::Problem;
use crate::calls::context::CallContext;
use crate::calls::error::CallError;
use crate::http::access::{ApiAction, Identity, IdentityKind, PeerAddress, may};
use config::bounds;
use protocol::code::Code;
use protocol::routes::ROUTES;
use protocol::{Account, Counts, Principal};

/// How long a caller waits that has too many requests under way.
const REQUEST_RETRY: std::time::Duration = std::time::Duration::from_millis(100);

/// Requests and streams of events under way, by account.
#[derive(Debug, Default)]
pub(super) struct RequestCounts {
    requests: Mutex<Counts<Account>>,
    streams: Mutex<Counts<Account>>,
}

/// What is counted.
#[derive(Debug, Clone, Copy)]
enum Counted {
    Request,
    Stream,
}

/// Room that is returned when it is dropped.
#[derive(Debug)]
pub(super) struct Room {
    counts: Arc<RequestCounts>,
    counted: Counted,
    account: Account,
}

impl RequestCounts {
    fn of(&self, counted: Counted) -> &Mutex<Counts<Account>> {
        match counted {
            Counted::Request => &self.requests,
            Counted::Stream => &self.streams,
        }
    }

    fn take(self: &Arc<Self>, counted: Counted, account: Account) -> Result<Room, CallError> {
        let (most, what) = match (counted, &account) {
            (Counted::Request, Account::Anonymous) => (bounds::MAX_ANONYMOUS_REQUESTS, "requests"),
            (Counted::Request, _) => (bounds::MAX_REQUESTS_PER_ACCOUNT, "requests"),
            (Counted::Stream, Account::Anonymous) => (bounds::MAX_ANONYMOUS_EVENT_STREAMS, "streams of events"),
            (Counted::Stream, _) => (bounds::MAX_EVENT_STREAMS_PER_ACCOUNT, "streams of events"),
        };
        let mut counts = self.of(counted).lock();
        if counts.get(&account) >= most {
            let message = format!("{most} {what} of yours are under way already; wait for one of them to end");
            return Err(CallError::new(Code::QuotaExceeded, message).retry_after(REQUEST_RETRY));
        }
        counts.increment(account.clone());
        Ok(Room { counts: self.clone(), counted, account })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.counts.of(self.counted).lock().decrement(&self.account);
    }
}

/// Where the access log reads who called, once that is known.
#[derive(Debug, Clone, Default)]
pub(super) struct CalledBy(Arc<OnceLock<(Principal, IdentityKind)>>);

impl CalledBy {
    pub(super) fn get(&self) -> Option<&(Principal, IdentityKind)> {
        self.0.get()
    }
}

/// A request whose caller is known, and has room for it.
pub(super) struct Call {
    pub(super) context: CallContext,
    pub(super) identity: Identity,
    requests: Arc<RequestCounts>,
    /// Kept while the request is under way.
    pub(super) room: Room,
}

impl Call {
    /// Checks a right that depends on more than the route.
    pub(super) fn may(&self, action: ApiAction) -> Result<(), Problem> {
        may(&self.identity, action).map_err(Problem::from)
    }

    /// Room for a stream of events, which takes the place of the request's.
    pub(super) fn room_for_stream(&self) -> Result<Room, Problem> {
        let account = self.context.peer.principal.account();
        self.requests.take(Counted::Stream, account).map_err(Problem::from)
    }
}

/// What the request's route asks for.
fn action(parts: &Parts) -> Option<ApiAction> {
    let path = parts.extensions.get::<MatchedPath>()?.as_str();
    let verb = if parts.method == Method::HEAD { "GET" } else { parts.method.as_str() };
    let route = ROUTES.iter().find(|route| route.path == path && route.verb.as_str() == verb)?;
    ApiAction::of_operation(route.operation)
}

impl FromRequestParts<Api> for Call {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Call, Problem> {
        let unknown = || CallError::new(Code::Internal, "the route or the address of the request is not known");
        let address = parts.extensions.get::<PeerAddress>().copied().ok_or_else(unknown)?;
        let identity = api.daemon.access.identify(parts, &address)?;
        if let Some(CalledBy(called_by)) = parts.extensions.get() {
            let _ = called_by.set((identity.peer.principal.clone(), identity.kind));
        }
        may(&identity, action(parts).ok_or_else(unknown)?)?;
        let room = api.requests.take(Counted::Request, identity.peer.principal.account())?;
        let context = CallContext::new(api.daemon.clone(), identity.peer.clone());
        Ok(Call { context, identity, requests: api.requests.clone(), room })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_with_credentials_has_an_action() {
        for route in ROUTES.iter().filter(|route| route.is_api()) {
            assert!(ApiAction::of_operation(route.operation).is_some(), "{}", route.operation);
        }
    }

    #[test]
    fn an_account_has_its_own_room_and_anonymous_callers_share_a_small_one() {
        let counts = Arc::new(RequestCounts::default());
        let take = |account| counts.take(Counted::Request, account);
        let all: Vec<Room> = std::iter::from_fn(|| take(Account::Anonymous).ok()).collect();
        assert_eq!(all.len(), bounds::MAX_ANONYMOUS_REQUESTS);
        assert_eq!(take(Account::Anonymous).unwrap_err().code, Code::QuotaExceeded);
        assert!(take(Account::Uid(1)).is_ok());
        assert!(counts.take(Counted::Stream, Account::Anonymous).is_ok());
        drop(all);
        assert!(take(Account::Anonymous).is_ok());
    }
}
