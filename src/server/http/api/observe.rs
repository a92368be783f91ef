//! Counts every request, and writes the access log: one line per request, with its id and its
//! caller. Never the query, a body, a cookie or a token.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::Method;

use super::REQUEST_ID;
use super::call::CalledBy;
use super::problem::RefusedFor;
use crate::http::access::PeerAddress;
use crate::http::counts::HttpMetrics;
use protocol::Principal;
use telemetry::text::clean;
use telemetry::throttle::LogThrottle;

static REFUSED: LogThrottle = LogThrottle::new();

/// How much of a request's id is logged.
const MAX_ID_CHARS: usize = 64;

/// The status in counts and in the log of a request whose client hung up before its answer.
const HUNG_UP: u16 = 499;

pub(super) async fn observe(State(counts): State<Arc<HttpMetrics>>, mut request: Request, next: Next) -> Response {
    let called_by = CalledBy::default();
    request.extensions_mut().insert(called_by.clone());
    let id = request.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok()).unwrap_or_default();
    let mut observed = ObservedRequest {
        begun: Instant::now(),
        counts,
        method: request.method().clone(),
        route: request.extensions().get::<MatchedPath>().cloned(),
        address: request.extensions().get::<PeerAddress>().copied(),
        id: clean(id).chars().take(MAX_ID_CHARS).collect(),
        called_by,
        status: HUNG_UP,
        refused_for: None,
    };
    // a hang-up drops this future
    let response = next.run(request).await;
    observed.status = response.status().as_u16();
    observed.refused_for = response.extensions().get::<RefusedFor>().cloned();
    response
}

/// A request under way; counted and logged when it is answered or given up.
struct ObservedRequest {
    begun: Instant,
    counts: Arc<HttpMetrics>,
    method: Method,
    route: Option<MatchedPath>,
    address: Option<PeerAddress>,
    id: String,
    called_by: CalledBy,
    status: u16,
    refused_for: Option<RefusedFor>,
}

impl Drop for ObservedRequest {
    fn drop(&mut self) {
        let ObservedRequest { begun, counts, method, route, address, id, called_by, status, refused_for } = self;
        let route = route.as_ref().map_or("other", MatchedPath::as_str);
        let caller = called_by.get();
        counts.count_api(route, *status, caller.map(|(_, kind)| *kind));
        let principal = caller.map(|(principal, _)| principal.to_string());
        let credential = caller.map(|(_, kind)| kind.as_str());
        let address = address.map(|address| address.to_string());
        let ms = (begun.elapsed().as_secs_f64() * 1e4).round() / 10.0;
        let what = if *status == HUNG_UP { "request given up by its client" } else { "request answered" };
        let code = refused_for.as_ref().map(|why| why.code.as_str());
        let reason = refused_for.as_ref().map(|why| why.reason.as_str());
        // a stranger must not fill the log
        let is_stranger = caller.is_none_or(|(principal, _)| matches!(principal, Principal::Anonymous(_)));
        let suppressed = match is_stranger && *status != 200 {
            true => match REFUSED.allow() {
                Some(suppressed) => Some(suppressed).filter(|suppressed| *suppressed > 0),
                None => return,
            },
            false => None,
        };
        tracing::info!(
            suppressed, request = id, %method, route, status, code, reason, principal, credential, address, ms, "{what}"
        );
    }
}
