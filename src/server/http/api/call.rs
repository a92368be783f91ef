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
use crate::http::access::{AccessError, ApiAction, Identity, IdentityKind, PeerAddress, may};
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
enum UnderWay {
    Request,
    Stream,
}

/// RequestRoom that is returned when it is dropped.
#[derive(Debug)]
pub(super) struct RequestRoom {
    counts: Arc<RequestCounts>,
    counted: UnderWay,
    account: Account,
}

impl RequestCounts {
    fn of(&self, counted: UnderWay) -> &Mutex<Counts<Account>> {
        match counted {
            UnderWay::Request => &self.requests,
            UnderWay::Stream => &self.streams,
        }
    }

    fn take(self: &Arc<Self>, counted: UnderWay, account: Account) -> Result<RequestRoom, CallError> {
        let (most, what) = match (counted, &account) {
            (UnderWay::Request, Account::Anonymous) => (bounds::MAX_ANONYMOUS_REQUESTS, "requests"),
            (UnderWay::Request, _) => (bounds::MAX_REQUESTS_PER_ACCOUNT, "requests"),
            (UnderWay::Stream, Account::Anonymous) => (bounds::MAX_ANONYMOUS_EVENT_STREAMS, "streams of events"),
            (UnderWay::Stream, _) => (bounds::MAX_EVENT_STREAMS_PER_ACCOUNT, "streams of events"),
        };
        let mut counts = self.of(counted).lock();
        if counts.get(&account) >= most {
            let message = format!("{most} {what} of yours are under way already; wait for one of them to end");
            return Err(CallError::new(Code::QuotaExceeded, message).retry_after(REQUEST_RETRY));
        }
        counts.increment(account.clone());
        Ok(RequestRoom { counts: self.clone(), counted, account })
    }
}

impl Drop for RequestRoom {
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
pub(super) struct ApiCall {
    pub(super) context: CallContext,
    pub(super) identity: Identity,
    requests: Arc<RequestCounts>,
    /// Kept while the request is under way.
    _room: RequestRoom,
}

impl ApiCall {
    /// Checks a right that depends on more than the route.
    pub(super) fn may(&self, action: ApiAction) -> Result<(), Problem> {
        may(&self.identity, action).map_err(Problem::from)
    }

    /// Checks that the caller still is who it was: its token may have been revoked while the body
    /// was on its way.
    pub(super) fn check_current(&self) -> Result<(), Problem> {
        match self.context.daemon.access.is_current(&self.identity) {
            true => Ok(()),
            false => Err(AccessError::Unauthenticated.into()),
        }
    }

    /// Waits for something as long as the caller is who it was.
    pub(super) async fn while_current<T>(
        &self,
        work: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, Problem> {
        let access = &self.context.daemon.access;
        tokio::select! {
            biased;
            done = work => {
                self.check_current()?;
                done.map_err(Problem::from)
            }
            () = access.ended(&self.identity) => Err(AccessError::Unauthenticated.into()),
        }
    }

    /// Room for a stream of events, which takes the place of the request's.
    pub(super) fn room_for_stream(&self) -> Result<RequestRoom, Problem> {
        let account = self.context.peer.principal.account();
        self.requests.take(UnderWay::Stream, account).map_err(Problem::from)
    }
}

/// What the request's route asks for.
fn action(parts: &Parts) -> Option<ApiAction> {
    let path = parts.extensions.get::<MatchedPath>()?.as_str();
    let verb = if parts.method == Method::HEAD { "GET" } else { parts.method.as_str() };
    let route = ROUTES.iter().find(|route| route.path == path && route.verb.as_str() == verb)?;
    ApiAction::of_operation(route.operation)
}

impl FromRequestParts<Api> for ApiCall {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<ApiCall, Problem> {
        let unknown = || CallError::new(Code::Internal, "the route or the address of the request is not known");
        let address = parts.extensions.get::<PeerAddress>().copied().ok_or_else(unknown)?;
        let access = &api.daemon.access;
        let refused = |error| Problem::from(error).logged(access.refusal(error, parts, &address));
        let identity = access.identify(parts, &address).map_err(refused)?;
        if let Some(CalledBy(called_by)) = parts.extensions.get() {
            let _ = called_by.set((identity.peer.principal.clone(), identity.kind));
        }
        may(&identity, action(parts).ok_or_else(unknown)?)?;
        let room = api.requests.take(UnderWay::Request, identity.peer.principal.account())?;
        let context = CallContext::new(api.daemon.clone(), identity.peer.clone());
        Ok(ApiCall { context, identity, requests: api.requests.clone(), _room: room })
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
        let take = |account| counts.take(UnderWay::Request, account);
        let all: Vec<RequestRoom> = std::iter::from_fn(|| take(Account::Anonymous).ok()).collect();
        assert_eq!(all.len(), bounds::MAX_ANONYMOUS_REQUESTS);
        assert_eq!(take(Account::Anonymous).unwrap_err().code, Code::QuotaExceeded);
        assert!(take(Account::Uid(1)).is_ok());
        assert!(counts.take(UnderWay::Stream, Account::Anonymous).is_ok());
        drop(all);
        assert!(take(Account::Anonymous).is_ok());
    }
}
