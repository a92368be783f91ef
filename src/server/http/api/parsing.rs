//! The parsers of every route without what is behind them: no daemon, no caller, no run. The fuzz
//! target `http` sends bytes through them as they come from a connection.

use std::convert::Infallible;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::routing::{delete, get, post, put};
use http::{Response, StatusCode};
use http_body_util::BodyExt;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower_service::Service;

use super::body::{Pieces, check_type};
use super::event_stream::first_event;
use super::problem::Problem;
use super::query::{Id, Params};
use super::submissions::set_id;
use crate::calls::json;
use crate::calls::params::params;
use crate::calls::shape::JsonShape;
use crate::http::framing;
use config::bounds;
use protocol::Submission;
use protocol::http::{InputBody, RunCodeBody, SessionBody, StateQuery, SubmitQuery, TenantQuery};
use protocol::params::ListParams;

/// Large enough for every input of the fuzz target.
const MAX_BODY_BYTES: u64 = 64 * 1024;

/// A query that has no parameters.
#[derive(Deserialize)]
struct AnyQuery {}

async fn read(request: Request, media_type: &str) -> Result<(http::HeaderMap, Vec<u8>), Problem> {
    let (parts, body) = request.into_parts();
    check_type(&parts.headers, media_type)?;
    let mut pieces = Pieces::new(&parts.headers, body, MAX_BODY_BYTES, "")?;
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.next().await? {
        bytes.extend_from_slice(&piece);
    }
    Ok((parts.headers, bytes))
}

async fn json_of<T: DeserializeOwned>(request: Request) -> Result<(http::HeaderMap, T), Problem> {
    let (headers, text) = read(request, "application/json").await?;
    let value = json::parse(&text, JsonShape::of(&text))?;
    Ok((headers, params(value)?))
}

async fn query<Q: DeserializeOwned>(Params(_): Params<Q>) -> StatusCode {
    StatusCode::OK
}

async fn id_and_query<Q: DeserializeOwned>(Id(_): Id, Params(_): Params<Q>) -> StatusCode {
    StatusCode::OK
}

async fn submit(Params(_): Params<SubmitQuery>, request: Request) -> Result<StatusCode, Problem> {
    let (headers, mut submission) = json_of::<Submission>(request).await?;
    set_id(&headers, &mut submission)?;
    Ok(StatusCode::OK)
}

async fn events(id: Id, query: Params<TenantQuery>, headers: http::HeaderMap) -> Result<StatusCode, Problem> {
    first_event(&headers)?;
    Ok(id_and_query(id, query).await)
}

async fn body<T: DeserializeOwned>(request: Request) -> Result<StatusCode, Problem> {
    json_of::<T>(request).await.map(|_| StatusCode::OK)
}

async fn input(_: Id, _: Params<TenantQuery>, request: Request) -> Result<StatusCode, Problem> {
    body::<InputBody>(request).await
}

async fn upload(request: Request) -> Result<StatusCode, Problem> {
    read(request, "application/octet-stream").await.map(|_| StatusCode::OK)
}

async fn blob(_: Id) -> StatusCode {
    StatusCode::OK
}

/// The routes of [`super::router`], which only parse.
fn router() -> Router {
    Router::new()
        .route("/api/v1/submissions", post(submit).get(query::<ListParams>))
        .route("/api/v1/submissions/{id}", get(id_and_query::<StateQuery>).delete(id_and_query::<TenantQuery>))
        .route("/api/v1/submissions/{id}/events", get(events))
        .route("/api/v1/submissions/{id}/input", post(input))
        .route("/api/v1/submissions/{id}/receipt", get(id_and_query::<TenantQuery>))
        .route("/api/v1/blobs", put(upload))
        .route("/api/v1/blobs/{id}", get(blob))
        .route("/api/v1/profiles", get(query::<AnyQuery>))
        .route("/api/v1/status", get(query::<AnyQuery>))
        .route("/api/v1/openapi.json", get(query::<AnyQuery>))
        .route("/api/v1/session", post(body::<SessionBody>).merge(delete(query::<AnyQuery>)))
        .route("/api/run-code", post(body::<RunCodeBody>))
}

/// Parses what comes on a connection, in these pieces, as the listener does. Returns the answers.
pub async fn parse_requests(pieces: Vec<Vec<u8>>) -> Vec<u8> {
    let length: usize = pieces.iter().map(Vec::len).sum();
    let (mut ours, theirs) = tokio::io::duplex(2 * length + 4096);
    let router = router();
    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let mut router = router.clone();
        async move {
            let response: Response<Body> = match framing::ambiguity(request.headers()) {
                Some(why) => framing::refusal(why),
                None => match router.call(request).await {
                    Ok(response) => response,
                    Err(never) => match never {},
                },
            };
            // nothing that is read leaves a body that cannot be made
            let (parts, body) = response.into_parts();
            let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            Ok::<_, Infallible>(Response::from_parts(parts, Body::from(body)))
        }
    });
    let mut builder = http1::Builder::new();
    builder.max_buf_size(bounds::MAX_HTTP_HEAD_BYTES).max_headers(bounds::MAX_HTTP_FIELDS).half_close(true);
    // the date would differ between two calls
    builder.auto_date_header(false);
    let serving = tokio::spawn(builder.serve_connection(TokioIo::new(theirs), service));
    let (mut reading, mut writing) = tokio::io::split(&mut ours);
    let mut answers = Vec::new();
    let send = async {
        for piece in pieces {
            // the server may have closed the connection
            if writing.write_all(&piece).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        let _ = writing.shutdown().await;
    };
    let receive = reading.read_to_end(&mut answers);
    let _ = tokio::join!(send, receive);
    let _ = serving.await;
    answers
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::routes::ROUTES;

    #[tokio::test]
    async fn every_route_of_the_api_is_parsed() {
        for route in ROUTES.iter().filter(|route| route.is_api()) {
            let path = route.path.replace("{id}", "x");
            let head = format!("{} {path} HTTP/1.1\r\nhost: x\r\n\r\n", route.verb.as_str());
            let answer = String::from_utf8(parse_requests(vec![head.into_bytes()]).await).unwrap();
            let status = answer.get(9..12).unwrap_or_default();
            assert!(["200", "415"].contains(&status), "{} {path}: {answer}", route.verb.as_str());
        }
    }

    #[tokio::test]
    async fn requests_that_come_one_after_the_other_are_answered_so() {
        let body = r#"{"language":"c","files":[]}"#;
        let one = format!(
            "POST /api/v1/submissions?wait=false HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let bytes = format!("{one}GET /api/v1/submissions?limit=x HTTP/1.1\r\n\r\n{one}").into_bytes();
        for size in [1, 7, bytes.len()] {
            let answer = parse_requests(bytes.chunks(size).map(<[u8]>::to_vec).collect()).await;
            let text = String::from_utf8(answer).unwrap();
            let statuses: Vec<&str> = text.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
            assert_eq!(statuses, ["200", "400", "200"], "{size}: {text}");
        }
    }
}
