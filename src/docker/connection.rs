//! One HTTP connection: dialled, or taken from the idle stock; a call goes out on it and a reply's head comes back.
//!
//! ```text
//!            dial                    head                    body read to its end
//!  (nothing) ----> Connection ----------------> Reply ---------------------------> Stock (not Unix)   
//!                      ^      request on it       |                                  |
//!                      |                          | dropped before its end, or 101   |
//!                      |                          v                                  |
//!                      |                       closed                                |
//!                      '-------------------------------------------------------------'
//! ```
//!
//! On a Unix socket every call has a connection of its own: a connect costs tens of microseconds, while a kept connection
//! races with the server's closing it (hyper issue 2136). Over TCP, TLS and a caller's tunnel, where a handshake is dear, at most
//! [`MAX_IDLE`] lie idle. A call that fails on one of those is sent again on a fresh one only when it was provably never
//! sent, or is idempotent.
//!
//! Dropping the future of [`Wire::send`] closes the connection; so does dropping a reply before its end.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::deadlines;
use super::dial::{Stream, Transport, dial};
use super::endpoint::Endpoint;
use super::error::{Error, Phase};
use super::reply::Reply;
use super::request::{Call, RequestBody};
use super::tls::TlsProblem;
use super::version::ApiVersion;

/// The most connections that lie idle.
pub(super) const MAX_IDLE: usize = 8;
/// The most bytes of a reply's head, and of a piece of its body.
const MAX_BUFFER: usize = 256 * 1024;

/// Where calls go.
pub(super) struct Wire {
    pub(super) endpoint: Endpoint,
    transport: Transport,
    stock: Option<Arc<Stock>>,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.endpoint)
    }
}

/// An open connection.
pub(super) struct Connection {
    sender: SendRequest<RequestBody>,
    driver: Driver,
}

/// The task that moves a connection's bytes. Dropping it closes the connection.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Connections that lie idle, the last one used first.
#[derive(Default)]
pub(super) struct Stock(Mutex<Vec<(Connection, Instant)>>);

impl Stock {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(Connection, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<Connection> {
        let mut idle = self.lock();
        while let Some((connection, since)) = idle.pop() {
            if since.elapsed() < deadlines::IDLE && !connection.sender.is_closed() {
                return Some(connection);
            }
        }
        None
    }

    /// Takes a connection back, whose last reply was read to its end.
    pub(super) fn give(&self, connection: Connection) {
        let mut idle = self.lock();
        if connection.sender.is_closed() {
            return;
        }
        if idle.len() >= MAX_IDLE {
            idle.remove(0);
        }
        idle.push((connection, Instant::now()));
    }
}

impl Wire {
    pub(super) fn new(endpoint: Endpoint, transport: Transport) -> Wire {
        let stock = (!matches!(endpoint, Endpoint::Unix(_))).then(Arc::default);
        Wire { endpoint, transport, stock }
    }

    /// Sends a call and waits for the head of its reply.
    pub(super) async fn send(&self, call: &mut Call, version: Option<ApiVersion>) -> Result<Reply, Error> {
        let mut request = call.request(version)?;
        let mut kept = self.stock.as_ref().and_then(|stock| stock.take());
        loop {
            let (mut connection, used) = match kept.take() {
                Some(connection) => (connection, true),
                None => (self.open(call.name).await?, false),
            };
            if used && connection.sender.ready().await.is_err() {
                continue;
            }
            let head = connection.sender.try_send_request(request);
            tokio::pin!(head);
            let answer = loop {
                let before = call.meter.moved();
                match tokio::time::timeout(call.head, &mut head).await {
                    Ok(answer) => break answer,
                    Err(_) if call.meter.moved() != before => {}
                    Err(_) => {
                        return Err(Error::Timeout { call: call.name, phase: Phase::Head, after: call.head });
                    }
                }
            };
            match answer {
                Ok(response) => return Ok(Reply::new(call.name, response, connection, self.stock.clone())),
                Err(mut failed) => {
                    let unsent = failed.take_message();
                    let error = failed.into_error();
                    request = match unsent {
                        Some(request) if used => request,
                        _ if used && call.idempotent() && !error.is_parse() => call.request(version)?,
                        _ => return Err(self.broken(call, error)),
                    };
                }
            }
        }
    }

    async fn open(&self, call: &'static str) -> Result<Connection, Error> {
        let stream = dial(&self.endpoint, &self.transport).await?;
        let handshake = http1::Builder::new().max_buf_size(MAX_BUFFER).handshake(TokioIo::new(stream));
        let (sender, connection) =
            handshake.await.map_err(|source| Error::Broken { call, phase: Phase::Head, source: source.into() })?;
        let driver = Driver(tokio::spawn(async move {
            // An error here reaches the call through its own future.
            let _ = connection.with_upgrades().await;
        }));
        Ok(Connection { sender, driver })
    }

    fn broken(&self, call: &Call, error: hyper::Error) -> Error {
        if let Some(source) = call.meter.failure() {
            // The connection broke because our own reader did: that is no news about the engine.
            return Error::Upload { call: call.name, source };
        }
        if let Some(problem) = TlsProblem::among(&error) {
            return Error::Tls { endpoint: self.endpoint.clone(), problem };
        }
        match error.is_parse() {
            true => Error::NotHttp { call: call.name, endpoint: self.endpoint.clone(), source: error.into() },
            false => Error::Broken { call: call.name, phase: Phase::Head, source: error.into() },
        }
    }
}

impl Connection {
    /// Lets the driver finish by itself: an upgrade takes the connection out of its hands.
    pub(super) fn into_driver(self) -> impl Send {
        self.driver
    }
}

/// The stream below an upgraded connection, and what was read from it too early.
pub(super) fn take_over(upgraded: hyper::upgrade::Upgraded) -> Option<(Stream, Bytes)> {
    let parts = upgraded.downcast::<TokioIo<Stream>>().ok()?;
    Some((parts.io.into_inner(), parts.read_buf))
}
