//! A call on its way: what is asked, without the connection that it goes over.
//!
//! A POST with JSON says exactly `application/json`, because the engine compares; a POST without a body says
//! `Content-Length: 0`. An upload is streamed in 64 KiB pieces, and its silence is bounded rather than its length: the wait
//! for the head starts anew whenever a piece was taken ([`Meter`]).

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, Request, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Body, Frame};
use serde::Serialize;
use tokio::io::{AsyncRead, ReadBuf};

use super::deadlines;
use super::error::Error;
use super::path::Query;
use super::version::ApiVersion;

const PIECE: usize = 64 * 1024;

pub(super) type RequestBody = UnsyncBoxBody<Bytes, io::Error>;

/// What goes along with a call.
enum Payload {
    Nothing,
    Json(Bytes),
    /// A tar archive; taken by the first try.
    Tar(Option<Box<dyn AsyncRead + Send + Unpin>>),
}

/// Everything of a call but its connection.
pub(super) struct Call {
    pub(super) name: &'static str,
    pub(super) head: Duration,
    pub(super) meter: Arc<Meter>,
    method: Method,
    path: String,
    query: Query,
    headers: Vec<(&'static str, HeaderValue)>,
    payload: Payload,
}

impl Call {
    fn new(name: &'static str, method: Method, path: impl Into<String>) -> Call {
        Call {
            name,
            head: deadlines::LOOK,
            meter: Arc::default(),
            method,
            path: path.into(),
            query: Query::default(),
            headers: Vec::new(),
            payload: Payload::Nothing,
        }
    }

    pub(super) fn get(name: &'static str, path: impl Into<String>) -> Call {
        Call::new(name, Method::GET, path)
    }

    pub(super) fn head_of(name: &'static str, path: impl Into<String>) -> Call {
        Call::new(name, Method::HEAD, path)
    }

    pub(super) fn post(name: &'static str, path: impl Into<String>) -> Call {
        Call::new(name, Method::POST, path)
    }

    pub(super) fn put(name: &'static str, path: impl Into<String>) -> Call {
        Call::new(name, Method::PUT, path)
    }

    pub(super) fn delete(name: &'static str, path: impl Into<String>) -> Call {
        Call::new(name, Method::DELETE, path)
    }

    /// The bound of the head phase; for an upload, of its silence.
    pub(super) fn within(mut self, bound: Duration) -> Call {
        self.head = bound;
        self
    }

    pub(super) fn query(mut self, key: &str, value: impl AsRef<str>) -> Call {
        self.query.add(key, value.as_ref());
        self
    }

    pub(super) fn flag(self, key: &str, value: bool) -> Call {
        self.query(key, if value { "1" } else { "0" })
    }

    /// A query parameter that is left out when there is nothing to say.
    pub(super) fn maybe(self, key: &str, value: Option<impl AsRef<str>>) -> Call {
        match value {
            Some(value) => self.query(key, value),
            None => self,
        }
    }

    pub(super) fn header(mut self, name: &'static str, value: HeaderValue) -> Call {
        self.headers.push((name, value));
        self
    }

    /// Asks for the connection itself. The engine looks only for the presence of `Upgrade`; Podman wants both just so.
    pub(super) fn upgrade(self) -> Call {
        self.header("connection", HeaderValue::from_static("Upgrade"))
            .header("upgrade", HeaderValue::from_static("tcp"))
    }

    pub(super) fn json(mut self, value: &impl Serialize) -> Result<Call, Error> {
        let bytes = serde_json::to_vec(value)
            .map_err(|error| Error::Refused { call: self.name, message: error.to_string() })?;
        self.payload = Payload::Json(bytes.into());
        Ok(self)
    }

    /// Streams a tar archive as the body.
    pub(super) fn tar(mut self, reader: impl AsyncRead + Send + Unpin + 'static) -> Call {
        self.payload = Payload::Tar(Some(Box::new(reader)));
        self
    }

    /// Whether sending it twice does what sending it once does, by HTTP's own promise.
    pub(super) fn idempotent(&self) -> bool {
        matches!(self.method, Method::GET | Method::HEAD)
    }

    /// Whether it can be written down again: an archive's reader can't be read twice.
    pub(super) fn repeatable(&self) -> bool {
        !matches!(self.payload, Payload::Tar(_))
    }

    /// The request. An archive goes with the first one only.
    pub(super) fn request(&mut self, version: Option<ApiVersion>) -> Result<Request<RequestBody>, Error> {
        let prefix = version.map(|version| format!("/v{version}")).unwrap_or_default();
        let mut request = Request::builder()
            .method(&self.method)
            .uri(format!("{prefix}{}{}", self.path, self.query.as_str()))
            .header(header::HOST, "docker")
            .header(header::USER_AGENT, concat!("assay/", env!("CARGO_PKG_VERSION")));
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let body = match &mut self.payload {
            Payload::Nothing => {
                if self.method == Method::POST {
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
                let reader = reader.take().ok_or_else(|| Error::Refused {
                    call: self.name,
                    message: "the archive was sent already".to_owned(),
                })?;
                Upload { reader, buffer: BytesMut::new(), meter: self.meter.clone() }.boxed_unsync()
            }
        };
        request.body(body).map_err(|error| Error::Refused { call: self.name, message: error.to_string() })
    }
}

/// What an upload tells the call that waits for its answer.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// Pieces taken so far.
    moved: AtomicU64,
    /// Why the reader could not go on.
    failed: Mutex<Option<io::Error>>,
}

impl Meter {
    pub(super) fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    pub(super) fn failure(&self) -> Option<io::Error> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn fail(&self, error: io::Error) {
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }
}

/// A reader as a request body.
struct Upload<R> {
    reader: R,
    buffer: BytesMut,
    meter: Arc<Meter>,
}

impl<R: AsyncRead + Unpin> Body for Upload<R> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = &mut *self;
        this.buffer.resize(PIECE, 0);
        let mut piece = ReadBuf::new(&mut this.buffer);
        let read = ready!(Pin::new(&mut this.reader).poll_read(cx, &mut piece));
        let filled = piece.filled().len();
        if let Err(error) = read {
            let kind = error.kind();
            this.meter.fail(error);
            return Poll::Ready(Some(Err(kind.into())));
        }
        this.meter.moved.fetch_add(1, Ordering::Relaxed);
        match filled {
            0 => Poll::Ready(None),
            filled => Poll::Ready(Some(Ok(Frame::data(this.buffer.split_to(filled).freeze())))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header<'a>(request: &'a Request<RequestBody>, name: &str) -> Option<&'a str> {
        request.headers().get(name).map(|value| value.to_str().unwrap())
    }

    #[test]
    fn a_request_says_what_the_engine_compares() {
        let mut call = Call::post("x", "/containers/create").query("name", "a b").json(&1).unwrap();
        let request = call.request(ApiVersion::parse("1.41")).unwrap();
        assert_eq!(request.uri(), "/v1.41/containers/create?name=a%20b");
        assert_eq!(header(&request, "content-type"), Some("application/json"));
        assert!(call.request(None).is_ok() && call.repeatable() && !call.idempotent());
        let request = Call::post("x", "/a").request(None).unwrap();
        assert_eq!((header(&request, "content-length"), header(&request, "content-type")), (Some("0"), None));
        let request = Call::post("x", "/a").upgrade().request(None).unwrap();
        assert_eq!((header(&request, "connection"), header(&request, "upgrade")), (Some("Upgrade"), Some("tcp")));
    }

    #[test]
    fn an_archive_goes_out_once() {
        let mut call = Call::post("x", "/build").tar(tokio::io::empty());
        assert!(!call.repeatable());
        assert!(call.request(None).is_ok() && call.request(None).is_err());
    }
}
