//! Answers of the API.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use http_body_util::Full;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use super::problem::Problem;
use crate::calls::context::{CallReply, ResultText};
use crate::calls::socket_bytes::{ByteAccount, HeldBytes};
use protocol::ReportText;

/// A body that is counted for its account until it is sent or given up.
struct HeldBody {
    body: Full<Bytes>,
    _held: HeldBytes,
}

impl HttpBody for HeldBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The text of a report as a body, without a copy.
struct SharedReport(ReportText);

impl AsRef<[u8]> for SharedReport {
    fn as_ref(&self) -> &[u8] {
        self.0.as_str().as_bytes()
    }
}

fn bytes_of(result: ResultText) -> Bytes {
    match result {
        ResultText::Made(text) => Bytes::from(text),
        ResultText::Report(report) => Bytes::from_owner(SharedReport(report)),
    }
}

/// JSON with a status.
pub(super) fn json(status: StatusCode, body: Body) -> Response {
    let mut response = (status, body).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The result of a call, counted for its account while it is sent.
pub(super) fn counted(account: &ByteAccount, reply: CallReply) -> Result<Response, Problem> {
    let CallReply { result, held, .. } = reply;
    let held: HeldBytes = match held {
        Some(held) => held,
        None => account.hold(result.as_str().len()).ok_or_else(ByteAccount::refusal)?,
    };
    Ok(json(StatusCode::OK, Body::new(HeldBody { body: Full::new(bytes_of(result)), _held: held })))
}
