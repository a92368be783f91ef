//! Browser sessions: a cookie in exchange for a token or a one-use code.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CONTENT_LENGTH, SET_COOKIE, TRANSFER_ENCODING};

use super::body::{self, Pieces};
use super::problem::Problem;
use super::{Api, reply};
use crate::calls::error::CallError;
use crate::calls::json;
use crate::calls::params::params;
use crate::calls::shape::JsonShape;
use crate::calls::to_value;
use crate::http::access::{OpenedSession, PeerAddress};
use config::bounds;
use protocol::code::Code;
use protocol::http::{SessionBody, SessionRow};

/// Size of the body, which is read before it is known who calls.
const MAX_BODY_BYTES: u64 = 4 * 1024;

/// The body, which a request with a token need not have.
async fn session_body(request: Request) -> Result<(http::request::Parts, SessionBody), Problem> {
    let (parts, body) = request.into_parts();
    let headers = &parts.headers;
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    if !headers.contains_key(TRANSFER_ENCODING) && length.is_none_or(|length| length == "0") {
        return Ok((parts, SessionBody::default()));
    }
    body::check_type(headers, "application/json")?;
    let mut pieces = Pieces::new(headers, body, MAX_BODY_BYTES, "")?;
    let mut text = Vec::new();
    let read = async {
        while let Some(piece) = pieces.next().await? {
            text.extend_from_slice(&piece);
        }
        Ok::<_, Problem>(())
    };
    let read = tokio::time::timeout(bounds::HTTP_HEAD_TIME, read).await;
    read.map_err(|_| body::too_slow(bounds::HTTP_HEAD_TIME))??;
    let given = params::<SessionBody>(json::parse(&text, JsonShape::of(&text))?)?;
    Ok((parts, given))
}

/// Where the connection comes from; the listener always says it.
fn address(parts: &http::request::Parts) -> Result<PeerAddress, Problem> {
    let missing = || CallError::new(Code::Internal, "the address of the connection is not known");
    parts.extensions.get().copied().ok_or_else(|| missing().into())
}

pub(super) async fn open(State(api): State<Api>, request: Request) -> Result<Response, Problem> {
    let (parts, SessionBody { code }) = session_body(request).await?;
    let (access, from) = (&api.daemon.access, address(&parts)?);
    let refused = |error| Problem::from(error).logged(access.refusal(error, &parts, &from));
    let opened = access.open_session(&parts, &from, code.as_deref()).map_err(refused)?;
    let OpenedSession { identity, cookie, lasts } = opened;
    let row = SessionRow {
        role: if identity.peer.is_admin { "admin" } else { "submit" }.to_owned(),
        tenant: identity.peer.tenant.as_deref().map(str::to_owned),
        principal: identity.peer.principal,
        expires_in_ms: u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX),
    };
    let mut response = reply::json(StatusCode::OK, Body::from(to_value(&row).to_string()));
    response.headers_mut().insert(SET_COOKIE, cookie);
    Ok(response)
}

pub(super) async fn close(State(api): State<Api>, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let cookie = api.daemon.access.close_session(&parts)?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    response.headers_mut().insert(SET_COOKIE, cookie);
    Ok(response)
}
