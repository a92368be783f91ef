//! What one listener serves: health checks, metrics, the API; each or all of them.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use http::header::{CONNECTION, TRANSFER_ENCODING};
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use tower_service::Service;

use super::counts::HttpMetrics;
use super::framing;
use super::routes::Routes;

/// The routes of a listener.
#[derive(Debug)]
pub(super) struct Doors {
    pub(super) routes: Routes,
    pub(super) api: Option<Router>,
    pub(super) counts: Arc<HttpMetrics>,
}

impl Doors {
    pub(super) fn has_api(&self) -> bool {
        self.api.is_some()
    }

    pub(super) fn counts(&self) -> &Arc<HttpMetrics> {
        &self.counts
    }

    pub(super) async fn respond(&self, request: Request<Incoming>) -> Response<Body> {
        if let Some(why) = framing::ambiguity(request.headers()) {
            self.counts.count_response("other", 400);
            return framing::refusal(why);
        }
        // hyper drops a Content-Length that follows Transfer-Encoding: a proxy may have gone by it
        let is_chunked = request.headers().contains_key(TRANSFER_ENCODING);
        let mut response = self.dispatch(request).await;
        if is_chunked {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    async fn dispatch(&self, request: Request<Incoming>) -> Response<Body> {
        match &self.api {
            Some(api) if !self.routes.has(request.uri().path()) => match api.clone().call(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            },
            _ => self.routes.respond(request).await.map(Body::new),
        }
    }
}
