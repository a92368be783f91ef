//! A call's request: kind, path, query, headers and body, but no connection.
//!
//! A POST with JSON has exactly `Content-Type: application/json`, because the engine compares the
//! text. A POST without a body has `Content-Length: 0`. An upload is streamed in 64 KiB pieces; its
//! silence is bounded rather than its length: the head's deadline starts again after every piece
//! ([`UploadProgress`]).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, Request, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Body, Frame};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::io::{AsyncRead, ReadBuf};

use super::error::Error;
use super::op::Op;
use super::path::Query;
use super::version::ApiVersion;

/// How much of an upload is read at a time, in bytes.
const UPLOAD_PIECE: usize = 64 * 1024;

pub(super) type RequestBody = UnsyncBoxBody<Bytes, io::Error>;

enum Payload {
    Empty,
    Json(Bytes),
    /// A tar archive; `None` once it was sent.
    Tar(Option<Box<dyn AsyncRead + Send + Unpin>>),
}

/// One call to be made.
pub(super) struct Call {
    pub(super) op: &'static Op,
    /// The bound of the head phase; for an upload, the longest silence.
    pub(super) head: Duration,
    pub(super) progress: Arc<UploadProgress>,
    path: String,
    query: Query,
    headers: Vec<(&'static str, HeaderValue)>,
    payload: Payload,
}

impl Call {
    pub(super) fn new(op: &'static Op, path: impl Into<String>) -> Call {
        Call {
            op,
            head: op.head,
            progress: Arc::default(),
            path: path.into(),
            query: Query::default(),
            headers: Vec::new(),
            payload: Payload::Empty,
        }
    }

    /// Replaces the head deadline of the call's kind.
    pub(super) fn within(mut self, head: Duration) -> Call {
        self.head = head;
        self
    }

    pub(super) fn query(mut self, key: &str, value: impl AsRef<str>) -> Call {
        self.query.add(key, value.as_ref());
        self
    }

    pub(super) fn flag(self, key: &str, value: bool) -> Call {
        self.query(key, if value { "1" } else { "0" })
    }

    /// A query parameter that is left out when it is `None`.
    pub(super) fn optional(self, key: &str, value: Option<impl AsRef<str>>) -> Call {
        match value {
            Some(value) => self.query(key, value),
            None => self,
        }
    }

    pub(super) fn header(mut self, name: &'static str, value: HeaderValue) -> Call {
        self.headers.push((name, value));
        self
    }

    /// Requests the raw connection. Docker only checks that `Upgrade` is present; Podman requires
    /// exactly these two headers.
    pub(super) fn upgrade(self) -> Call {
        self.header("connection", HeaderValue::from_static("Upgrade"))
            .header("upgrade", HeaderValue::from_static("tcp"))
    }

    pub(super) fn json(mut self, value: &impl Serialize) -> Result<Call, Error> {
        let bytes = serde_json::to_vec(value).map_err(|error| Error::invalid(self.op, error))?;
        self.payload = Payload::Json(bytes.into());
        Ok(self)
    }

    /// Streams a tar archive as the body.
    pub(super) fn tar(mut self, reader: impl AsyncRead + Send + Unpin + 'static) -> Call {
        self.payload = Payload::Tar(Some(Box::new(reader)));
        self
    }

    /// Whether HTTP defines the method as safe to repeat.
    pub(super) fn idempotent(&self) -> bool {
        matches!(self.op.method, Method::GET | Method::HEAD)
    }

    /// Whether the request can be built twice: an archive's reader cannot be read again.
    pub(super) fn repeatable(&self) -> bool {
        !matches!(self.payload, Payload::Tar(_))
    }

    /// Builds the request. An archive's reader is moved into the first one.
    pub(super) fn request(
        &mut self,
        version: Option<ApiVersion>,
        user_agent: &'static str,
    ) -> Result<Request<RequestBody>, Error> {
        let op = self.op;
        let prefix = version.map(|version| format!("/v{version}")).unwrap_or_default();
        let mut request = Request::builder()
            .method(&op.method)
            .uri(format!("{prefix}{}{}", self.path, self.query.as_str()))
            .header(header::HOST, "docker")
            .header(header::USER_AGENT, user_agent);
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let body = match &mut self.payload {
            Payload::Empty => {
                if op.method == Method::POST {
                    request = request.header(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
                }
                Empty::new().map_err(|never| match never {}).boxed_unsync()
            }
            Payload::Json(bytes) => {
                request = request.header(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
                Full::new(bytes.clone()).map_err(|never| match never {}).boxed_unsync()
            }
            Payload::Tar(reader) => {
                request = request.header(header::CONTENT_TYPE, HeaderValue::from_static("application/x-tar"));
                let reader = reader.take().ok_or_else(|| Error::invalid(op, "the archive was already sent"))?;
                Upload { reader, buffer: BytesMut::new(), progress: self.progress.clone() }.boxed_unsync()
            }
        };
        request.body(body).map_err(|error| Error::invalid(op, error))
    }
}

/// Progress of an upload, shared with the call that waits for the head.
#[derive(Debug, Default)]
pub(super) struct UploadProgress {
    pieces: AtomicU64,
    failure: Mutex<Option<io::Error>>,
}

impl UploadProgress {
    /// Pieces read so far.
    pub(super) fn pieces(&self) -> u64 {
        self.pieces.load(Ordering::Relaxed)
    }

    /// Why the reader failed, if it did.
    pub(super) fn take_failure(&self) -> Option<io::Error> {
        self.failure.lock().take()
    }
}

/// A reader as a request body.
struct Upload<R> {
    reader: R,
    buffer: BytesMut,
    progress: Arc<UploadProgress>,
}

impl<R: AsyncRead + Unpin> Body for Upload<R> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = &mut *self;
        this.buffer.resize(UPLOAD_PIECE, 0);
        let mut piece = ReadBuf::new(&mut this.buffer);
        let read = ready!(Pin::new(&mut this.reader).poll_read(cx, &mut piece));
        let filled = piece.filled().len();
        if let Err(error) = read {
            let kind = error.kind();
            *this.progress.failure.lock() = Some(error);
            return Poll::Ready(Some(Err(kind.into())));
        }
        this.progress.pieces.fetch_add(1, Ordering::Relaxed);
        match filled {
            0 => Poll::Ready(None),
            filled => Poll::Ready(Some(Ok(Frame::data(this.buffer.split_to(filled).freeze())))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static POST: Op = Op::post("x");

    fn header<'a>(request: &'a Request<RequestBody>, name: &str) -> Option<&'a str> {
        request.headers().get(name).map(|value| value.to_str().unwrap())
    }

    #[test]
    fn a_request_has_the_headers_that_the_engine_compares() {
        let mut call = Call::new(&POST, "/containers/create").query("name", "a b").json(&1).unwrap();
        let request = call.request(ApiVersion::parse("1.41"), "agent/1").unwrap();
        assert_eq!(request.uri(), "/v1.41/containers/create?name=a%20b");
        assert_eq!(header(&request, "content-type"), Some("application/json"));
        assert_eq!(header(&request, "user-agent"), Some("agent/1"));
        assert!(call.request(None, "a").is_ok() && call.repeatable() && !call.idempotent());
        let request = Call::new(&POST, "/a").request(None, "a").unwrap();
        assert_eq!((header(&request, "content-length"), header(&request, "content-type")), (Some("0"), None));
        let request = Call::new(&POST, "/a").upgrade().request(None, "a").unwrap();
        assert_eq!((header(&request, "connection"), header(&request, "upgrade")), (Some("Upgrade"), Some("tcp")));
    }

    #[test]
    fn an_archive_is_sent_once() {
        let mut call = Call::new(&POST, "/build").tar(tokio::io::empty());
        assert!(!call.repeatable());
        assert!(call.request(None, "a").is_ok() && call.request(None, "a").is_err());
    }
}
