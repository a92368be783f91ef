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
use crate::http::access::{IdentityKind, PeerAddress};
use crate::http::counts::HttpMetrics;
use protocol::Principal;
use telemetry::text::clean;

/// How much of a request's id is logged.
const MAX_ID_CHARS: usize = 64;

pub(super) async fn observe(State(counts): State<Arc<HttpMetrics>>, mut request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let called_by = CalledBy::default();
    request.extensions_mut().insert(called_by.clone());
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let address = request.extensions().get::<PeerAddress>().map(ToString::to_string);
    let id = request.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok()).unwrap_or_default();
    let id: String = clean(id).chars().take(MAX_ID_CHARS).collect();
    let response = next.run(request).await;
    let route = route.as_ref().map_or("other", MatchedPath::as_str);
    let status = response.status().as_u16();
    let caller = called_by.get();
    counts.count_api(route, status, caller.map(|(_, kind)| *kind));
    let log = AccessLine { method: &method, route, status, caller, address: address.as_deref(), id: &id, begun };
    log.write();
    response
}

/// A line of the access log.
struct AccessLine<'a> {
    method: &'a Method,
    route: &'a str,
    status: u16,
    caller: Option<&'a (Principal, IdentityKind)>,
    address: Option<&'a str>,
    id: &'a str,
    begun: Instant,
}

impl AccessLine<'_> {
    fn write(&self) {
        let AccessLine { method, route, status, caller, address, id, begun } = self;
        let principal = caller.map(|(principal, _)| principal.to_string());
        let credential = caller.map(|(_, kind)| kind.as_str());
        let ms = (begun.elapsed().as_secs_f64() * 1e4).round() / 10.0;
        tracing::info!(request = id, %method, route, status, principal, credential, address, ms, "request answered");
    }
}
