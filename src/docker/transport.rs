//! Sends a call to an endpoint and waits for the head of its reply.
//!
//! A call that fails on a reused connection is sent again on a fresh one, but only if it was
//! provably never sent or is idempotent. Dropping the future of [`Transport::send`] closes the
//! connection; so does dropping a reply before its end.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::app::App;
use super::connection::{HttpConnection, IdlePool};
use super::dial::{Dialer, dial};
use super::endpoint::Endpoint;
use super::error::{Error, Phase};
use super::op::Op;
use super::reply::EngineReply;
use super::request::{Call, UploadProgress};
use super::tls::TlsProblem;
use super::version::ApiVersion;

/// Where calls go, and how.
pub(super) struct Transport {
    pub(super) endpoint: Endpoint,
    pub(super) app: &'static App,
    dialer: Dialer,
    /// `None` for Unix sockets.
    idle: Option<Arc<IdlePool>>,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.endpoint)
    }
}

impl Transport {
    pub(super) fn new(endpoint: Endpoint, dialer: Dialer, app: &'static App) -> Transport {
        let idle = (!matches!(endpoint, Endpoint::Unix(_))).then(Arc::default);
        Transport { endpoint, app, dialer, idle }
    }

    /// Sends a call and waits for the head of its reply, whatever its status.
    pub(super) async fn send(&self, call: &mut Call, version: Option<ApiVersion>) -> Result<EngineReply, Error> {
        let mut request = call.request(version, self.app.user_agent)?;
        let mut idle = self.idle.as_ref().and_then(|pool| pool.take());
        loop {
            let (mut connection, reused) = match idle.take() {
                Some(connection) => (connection, true),
                None => (self.open(call.op).await?, false),
            };
            if reused && connection.sender.ready().await.is_err() {
                continue;
            }
            let response = connection.sender.try_send_request(request);
            match head_of(response, call.op, call.head, &call.progress).await? {
                Ok(response) => return Ok(EngineReply::new(call.op, response, connection, self.idle.clone())),
                Err(mut failed) => {
                    let unsent = failed.take_message();
                    let error = failed.into_error();
                    request = match unsent {
                        Some(request) if reused => request,
                        _ if reused && call.idempotent() && !error.is_parse() => {
                            call.request(version, self.app.user_agent)?
                        }
                        _ => return Err(self.failure(call, error)),
                    };
                }
            }
        }
    }

    async fn open(&self, op: &'static Op) -> Result<HttpConnection, Error> {
        let stream = dial(&self.endpoint, &self.dialer, self.app).await?;
        let broken = |source: hyper::Error| Error::Broken { call: op, phase: Phase::Head, source: source.into() };
        HttpConnection::open(stream).await.map_err(broken)
    }

    /// What a failure before the head means.
    fn failure(&self, call: &Call, error: hyper::Error) -> Error {
        if let Some(source) = call.progress.take_failure() {
            // The connection broke because our own reader failed: not the engine's fault.
            return Error::Upload { call: call.op, source };
        }
        if let Some(problem) = TlsProblem::among(&error) {
            return Error::Tls { endpoint: self.endpoint.clone(), problem, app: self.app };
        }
        match error.is_parse() {
            true => Error::NotHttp { call: call.op, endpoint: self.endpoint.clone(), source: error.into() },
            false => Error::Broken { call: call.op, phase: Phase::Head, source: error.into() },
        }
    }
}

/// Waits for the head within `after`, which starts again whenever an upload progressed.
async fn head_of<T>(
    response: impl Future<Output = T>,
    call: &'static Op,
    after: Duration,
    progress: &UploadProgress,
) -> Result<T, Error> {
    tokio::pin!(response);
    loop {
        let before = progress.pieces();
        match timeout(after, &mut response).await {
            Ok(answer) => return Ok(answer),
            Err(_) if progress.pieces() != before => {}
            Err(_) => return Err(Error::Timeout { call, phase: Phase::Head, after }),
        }
    }
}
