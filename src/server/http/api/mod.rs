//! The API: `/api/v1` and `/api/run-code` (docs/HTTP.md). The routes and their types are in
//! [`protocol::routes`]; a test compares them with the router.
//!
//! ```text
//!  head --> request id --> route --> who calls (401, 403, 421) --> room for its account (429)
//!     --> body, bounded (400, 408, 413, 415) --> the call, as on the socket --> JSON, problem+json
//!            '-- hang-up: the handler is dropped, and a run that only it waited for is cancelled
//! ```
//!
//! | module | contents |
//! |---|---|
//! | [`call`] | a request's caller, and its room |
//! | [`body`], [`query`], [`problem`], [`reply`] | what comes in and goes out |
//! | [`submissions`], [`event_stream`], [`blobs`], [`run_code`] | routes of submissions |
//! | [`views`], [`session`] | further routes |
//! | [`observe`] | counts and the access log |

mod blobs;
mod body;
mod call;
mod download;
mod event_stream;
mod observe;
pub(super) mod parsing;
mod problem;
mod query;
mod reply;
mod run_code;
mod session;
mod submissions;
mod views;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::set_header::SetResponseHeaderLayer;

use super::counts::HttpMetrics;
use crate::calls::state::Daemon;
use call::RequestCounts;
use problem::Problem;
use protocol::code::Code;

/// Names a request in the access log and in its answer. A client may choose it.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What the handlers share.
#[derive(Clone)]
struct Api {
    daemon: Arc<Daemon>,
    requests: Arc<RequestCounts>,
}

/// The routes of the API.
pub(super) fn router(daemon: Arc<Daemon>, counts: Arc<HttpMetrics>) -> Router {
    let api = Api { daemon, requests: Arc::default() };
    Router::new()
        .route("/api/v1/submissions", post(submissions::create).get(submissions::list))
        .route("/api/v1/submissions/{id}", get(submissions::state).delete(submissions::cancel))
        .route("/api/v1/submissions/{id}/events", get(event_stream::follow))
        .route("/api/v1/submissions/{id}/input", post(submissions::input))
        .route("/api/v1/submissions/{id}/receipt", get(submissions::receipt))
        .route("/api/v1/blobs", put(blobs::upload))
        .route("/api/v1/blobs/{id}", get(blobs::download))
        .route("/api/v1/profiles", get(views::profiles))
        .route("/api/v1/status", get(views::status))
        .route("/api/v1/openapi.json", get(views::openapi))
        .route("/api/v1/session", post(session::open).delete(session::close))
        .route("/api/run-code", post(run_code::run))
        .fallback(unknown_path)
        .method_not_allowed_fallback(other_method)
        .layer(from_fn_with_state(api.clone(), check_head))
        .layer(from_fn_with_state(counts, observe::observe))
        .layer(SetResponseHeaderLayer::if_not_present(CACHE_CONTROL, HeaderValue::from_static("no-store")))
        .layer(SetResponseHeaderLayer::if_not_present(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")))
        .layer(PropagateRequestIdLayer::new(REQUEST_ID))
        .layer(SetRequestIdLayer::new(REQUEST_ID, MakeRequestUuid))
        .with_state(api)
}

/// Checks what holds for every request, also one for a path that there is not.
async fn check_head(State(api): State<Api>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    match api.daemon.access.check_head(&parts) {
        Ok(()) => next.run(Request::from_parts(parts, body)).await,
        Err(error) => {
            let problem = Problem::from(error);
            match parts.extensions.get() {
                Some(address) => problem.logged(api.daemon.access.refusal(error, &parts, address)),
                None => problem,
            }
            .into_response()
        }
    }
}

async fn unknown_path() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        Code::NotFound,
        "this path does not exist; /api/v1/openapi.json lists those that do",
    )
}

/// A method that the path does not take; `Allow` is set by the router. CORS is closed, so the
/// answer to OPTIONS says no more than that.
async fn other_method(request: Request) -> Response {
    match *request.method() {
        Method::OPTIONS => StatusCode::NO_CONTENT.into_response(),
        _ => {
            let message = "the path does not take this method; Allow has those that it takes";
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, Code::BadRequest, message).into_response()
        }
    }
}
