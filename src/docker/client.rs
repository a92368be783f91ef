//! The client: opening it, and sending calls under the negotiated API version.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use parking_lot::Mutex;

use super::app::App;
use super::dial::{Connector, Dialer};
use super::endpoint::Endpoint;
use super::error::Error;
use super::observe::Observer;
use super::reply::EngineReply;
use super::request::Call;
use super::target::{EngineTarget, SetupError};
use super::transport::Transport;
use super::version::{self, ApiVersion, VersionError};

/// A client of one engine. Clones are cheap and share the negotiated version and idle connections.
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    transport: Transport,
    version: Mutex<Option<ApiVersion>>,
    observer: OnceLock<Arc<dyn Observer>>,
}

impl Client {
    /// Opens a client of a target. Reads the certificates and does no other I/O: an engine that is
    /// down is detected by the first call.
    ///
    /// # Errors
    /// A certificate or key is not usable, or TCP without TLS is not allowed.
    pub fn open(target: &EngineTarget) -> Result<Client, SetupError> {
        let dialer = match (&target.endpoint, &target.tls) {
            (Endpoint::Tcp { host, .. }, Some(files)) => Dialer::Tls(files.load(host)?),
            (Endpoint::Tcp { .. }, None) if !target.allow_plaintext => {
                return Err(SetupError::Plaintext { endpoint: target.endpoint.clone(), app: target.app });
            }
            _ => Dialer::Plain,
        };
        Ok(Client::new(target.endpoint.clone(), dialer, target.app))
    }

    /// A client of the engine behind a Unix socket.
    pub fn unix(path: impl Into<PathBuf>) -> Client {
        Client::new(Endpoint::Unix(path.into()), Dialer::Plain, &App::DEFAULT)
    }

    /// A client that connects with the caller's own connector, such as a tunnel. Errors show `name`
    /// as the endpoint.
    pub fn with_connector(name: &str, connector: Connector) -> Client {
        Client::new(Endpoint::Custom(name.to_owned()), Dialer::Custom(connector), &App::DEFAULT)
    }

    fn new(endpoint: Endpoint, dialer: Dialer, app: &'static App) -> Client {
        let transport = Transport::new(endpoint, dialer, app);
        Client { shared: Arc::new(Shared { transport, version: Mutex::new(None), observer: OnceLock::new() }) }
    }

    /// Reports all calls of this client and its clones to `observer` from now on. Has no effect if
    /// there is an observer already.
    #[must_use]
    pub fn with_observer(self, observer: Arc<dyn Observer>) -> Client {
        let _ = self.shared.observer.set(observer);
        self
    }

    pub fn endpoint(&self) -> &Endpoint {
        &self.shared.transport.endpoint
    }

    /// The negotiated version; `None` before the first call and after a failed connect.
    pub fn negotiated(&self) -> Option<ApiVersion> {
        *self.shared.version.lock()
    }

    fn forget_version(&self) {
        *self.shared.version.lock() = None;
    }

    /// Sets the version from the newest one that a ping's reply offers. Returns the offered and the
    /// negotiated version.
    pub(super) fn set_version(&self, offered: Option<&str>) -> Result<(ApiVersion, ApiVersion), Error> {
        let offered = offered.ok_or(VersionError::Missing).and_then(str::parse::<ApiVersion>);
        let agreed = offered.and_then(|offered| Ok((offered, version::negotiate(offered)?)));
        *self.shared.version.lock() = agreed.as_ref().ok().map(|(_, negotiated)| *negotiated);
        agreed.map_err(|problem| self.version_error(problem))
    }

    fn version_error(&self, problem: VersionError) -> Error {
        Error::Version { endpoint: self.endpoint().clone(), problem, app: self.shared.transport.app }
    }

    /// Sends a call under the negotiated version, negotiating first if needed. Statuses that are
    /// not in `accept` are errors.
    pub(super) async fn call(&self, mut call: Call, accept: &[u16]) -> Result<EngineReply, Error> {
        let first = self.send(&mut call).await?.accept(accept).await;
        match first {
            Err(error) if error.is_stale_version() => {
                // The engine checks the version before it does anything.
                self.forget_version();
                if !call.repeatable() {
                    return Err(error);
                }
                let again = self.send(&mut call).await?.accept(accept).await;
                again.map_err(|error| match error {
                    Error::Status { message, .. } if message.contains("too old") => {
                        self.version_error(VersionError::TooNew(message))
                    }
                    other => other,
                })
            }
            other => other,
        }
    }

    /// Sends a call under the negotiated version, negotiating first if needed. Accepts any status.
    pub(super) async fn send(&self, call: &mut Call) -> Result<EngineReply, Error> {
        let version = match self.negotiated() {
            Some(version) => version,
            None => {
                self.ping().await?;
                // A ping that succeeds sets the version, but another task may have reset it since.
                self.negotiated().unwrap_or(version::OLDEST)
            }
        };
        self.send_as(call, Some(version)).await
    }

    /// Sends a call under a given version, or without any.
    pub(super) async fn send_as(&self, call: &mut Call, version: Option<ApiVersion>) -> Result<EngineReply, Error> {
        let start = Instant::now();
        let reply = self.shared.transport.send(call, version).await;
        if let Some(observer) = self.shared.observer.get() {
            observer.answered(call.op, start.elapsed(), reply.as_ref().map(EngineReply::status));
        }
        let reply = reply.inspect_err(|error| {
            if error.is_unreachable() {
                self.forget_version();
            }
        })?;
        if let (Some(used), Some(offered)) = (version, reply.header("api-version"))
            && let Ok(agreed) = offered.parse().and_then(version::negotiate)
            && agreed != used
        {
            *self.shared.version.lock() = Some(agreed);
        }
        Ok(reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_tcp_is_refused_unless_it_is_allowed() {
        let mut target = EngineTarget::from(Endpoint::parse("tcp://127.0.0.1:2375").unwrap());
        assert!(matches!(Client::open(&target), Err(SetupError::Plaintext { .. })));
        target.allow_plaintext = true;
        assert!(Client::open(&target).is_ok());
    }
}
