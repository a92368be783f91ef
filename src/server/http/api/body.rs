//! The body of a request: JSON, or bytes in pieces. Bounded in size and time, and counted for its
//! account while it is read.

use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;

use super::problem::Problem;
use crate::calls::error::CallError;
use crate::calls::json;
use crate::calls::shape::JsonShape;
use crate::calls::socket_bytes::{ByteAccount, HeldBytes};
use config::bounds;
use protocol::code::Code;

/// A body that was read and parsed.
pub(super) struct JsonBody {
    pub(super) value: Value,
    /// Counts the value.
    pub(super) held: HeldBytes,
    /// When its last byte arrived.
    pub(super) received: Instant,
}

/// Whether the request says that its body is of this type; parameters such as `charset` are
/// ignored.
fn is_of_type(headers: &HeaderMap, expected: &str) -> bool {
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    given.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(expected))
}

/// Refuses a body in another form than is expected.
pub(super) fn check_type(headers: &HeaderMap, expected: &str) -> Result<(), Problem> {
    let unsupported = |message: String| Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::BadRequest, message);
    if headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return Err(unsupported("send the body without Content-Encoding".to_owned()));
    }
    match is_of_type(headers, expected) {
        true => Ok(()),
        false => Err(unsupported(format!("send the body as {expected} (Content-Type)"))),
    }
}

/// The size that the request states; 0 if none.
fn stated_bytes(headers: &HeaderMap) -> u64 {
    headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0)
}

fn too_large(most: u64, remedy: &str) -> Problem {
    CallError::new(Code::TooLarge, format!("the body exceeds {most} bytes{remedy}")).into()
}

/// A body that did not end in time.
pub(super) fn too_slow(most: Duration) -> Problem {
    let seconds = most.as_secs();
    Problem::new(StatusCode::REQUEST_TIMEOUT, Code::BadRequest, format!("the body did not end within {seconds} s"))
}

fn broken(error: axum::Error) -> Problem {
    CallError::new(Code::BadRequest, format!("the body could not be read: {error}")).into()
}

/// Reads pieces of a body one after the other.
pub(super) struct Pieces {
    body: Body,
    left: u64,
    most: u64,
    /// What to do instead of sending more.
    remedy: &'static str,
}

impl Pieces {
    /// A body of at most so many bytes.
    pub(super) fn new(headers: &HeaderMap, body: Body, most: u64, remedy: &'static str) -> Result<Pieces, Problem> {
        match stated_bytes(headers) > most {
            true => Err(too_large(most, remedy)),
            false => Ok(Pieces { body, left: most, most, remedy }),
        }
    }

    /// The next piece; `None` at the end. Waits as long as the client sends.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        while let Some(frame) = self.body.frame().await {
            let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
            if data.is_empty() {
                continue;
            }
            let Some(left) = self.left.checked_sub(data.len() as u64) else {
                return Err(too_large(self.most, self.remedy));
            };
            self.left = left;
            return Ok(Some(data));
        }
        Ok(None)
    }
}

/// Reads and parses a JSON body, which is counted before it is in memory.
pub(super) async fn json(account: &ByteAccount, headers: &HeaderMap, body: Body) -> Result<JsonBody, Problem> {
    check_type(headers, "application/json")?;
    let read = tokio::time::timeout(bounds::LINE_TIME, read_all(account, headers, body)).await;
    let (text, mut held) = read.map_err(|_| too_slow(bounds::LINE_TIME))??;
    let received = Instant::now();
    let shape = JsonShape::of(&text);
    // parsed, a text takes more than itself
    if !held.resize(bounds::CALL_BYTES + text.len() + shape.memory_bytes()) {
        return Err(ByteAccount::refusal().into());
    }
    let value = account.work(text.len(), || json::parse(&text, shape)).await?;
    Ok(JsonBody { value, held, received })
}

/// Reads a whole body of the size of a line.
async fn read_all(account: &ByteAccount, headers: &HeaderMap, body: Body) -> Result<(Vec<u8>, HeldBytes), Problem> {
    let most = bounds::MAX_LINE_BYTES as u64;
    let remedy = "; send large content with PUT /api/v1/blobs";
    let mut pieces = Pieces::new(headers, body, most, remedy)?;
    let stated = stated_bytes(headers) as usize;
    let mut held = account.hold(bounds::CALL_BYTES + stated).ok_or_else(ByteAccount::refusal)?;
    let mut text = Vec::with_capacity(stated);
    while let Some(piece) = pieces.next().await? {
        if !held.resize(bounds::CALL_BYTES + stated.max(text.len() + piece.len())) {
            return Err(ByteAccount::refusal().into());
        }
        text.extend_from_slice(&piece);
    }
    Ok((text, held))
}
