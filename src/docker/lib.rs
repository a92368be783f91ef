//! A client of the Docker Engine's HTTP API that has never heard of sandboxes.
//!
//! It promises four things. Every wait is bounded and has a name ([`deadlines`]); every pile of bytes has a top; every error
//! says whose fault it was, in which call, and whether trying again makes sense ([`Error`]); and a dropped future closes its
//! own connection and nothing else. What the engine goes on doing after that is written at each call, because it differs.
//!
//! ```text
//!   Settings + Environment --target.rs--> Target --Client::open--> Client (Arc: wire, negotiated version)
//!                                                                    |
//!   call/*.rs  ------->  Call  (method, path, query, body, head's deadline)
//!                         |
//!   connection.rs         |  idle stock, or dial.rs (Unix, TCP, tls.rs) ----> engine
//!                         |  head ------------------------------------------> status line
//!                         v
//!              +------- Reply -------+--------------------+
//!              | status refused      | 2xx                | 101
//!              v                     v                    v
//!        error body, 4 KiB     whole body, capped    Hijacked: the stream itself,
//!        -> Error::Status      or JSON lines, idle   leftover bytes first, never half-closed
//!                                                         |
//!                                                    stdcopy::Decoder (sans-IO)
//! ```
//!
//! The client refuses to know: exec, privileged helpers, pools, retries beyond what was provably never done (a caller decides,
//! by [`Error::retryable`]), or what labels mean. The set of calls is closed on purpose: the engine's socket is root.
//!
//! **Versions.** Negotiated once: the lower of the engine's newest and 1.51, at least 1.41. Every reply names the engine's
//! newest again, and a change is taken over at once. A failed connect, or an engine that says it no longer speaks our version,
//! makes us forget: it may have been upgraded under us. Fields without a note exist in 1.41.

mod call;
mod connection;
pub mod deadlines;
mod dial;
mod endpoint;
mod error;
mod hijack;
pub mod jsonlines;
mod observe;
mod path;
pub mod registry;
mod reply;
mod request;
pub mod stdcopy;
mod target;
mod tls;
mod types;
pub mod version;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

pub use call::images::{Pull, PullPolicy};
pub use call::lifecycle::{Logs, LogsOptions, StatsStream, Wait};
pub use call::system::Events;
pub use call::transfer::BuildOptions;
pub use dial::{BoxedIo, ConnectProblem, Connector, Io};
pub use endpoint::{DEFAULT_SOCKET, Endpoint, EndpointError};
pub use error::{Error, Phase};
pub use hijack::{HijackReader, HijackWriter, Hijacked};
pub use observe::Observer;
pub use reply::error_text;
pub use target::{Environment, Settings, SetupError, Target};
pub use tls::{TlsFiles, TlsProblem, TlsSetupError};
pub use types::*;
pub use version::{ApiVersion, VersionError};

use connection::Wire;
use dial::Transport;
use reply::Reply;
use request::Call;

/// An engine's client. Cloning is cheap and shares the negotiated version and the idle connections.
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    wire: Wire,
    version: Mutex<Option<ApiVersion>>,
    observer: OnceLock<Arc<dyn Observer>>,
}

impl Client {
    /// A client of a target. Reads certificates, and does no other IO: an engine that is down is found by the first call.
    ///
    /// # Errors
    /// A certificate or key that is no good; TCP without TLS where that is not allowed.
    pub fn open(target: &Target) -> Result<Client, SetupError> {
        let transport = match (&target.endpoint, &target.tls) {
            (Endpoint::Tcp { host, .. }, Some(files)) => Transport::Tls(files.load(host)?),
            (Endpoint::Tcp { .. }, None) if !target.allow_plaintext => {
                return Err(SetupError::Plaintext(target.endpoint.clone()));
            }
            _ => Transport::Plain,
        };
        Ok(Client::over(target.endpoint.clone(), transport))
    }

    /// A client of the engine behind a Unix socket.
    pub fn unix(path: impl Into<std::path::PathBuf>) -> Client {
        Client::over(Endpoint::Unix(path.into()), Transport::Plain)
    }

    /// A client that connects in a way of the caller's own, `name` for people: a tunnel, or a test.
    pub fn through(name: &str, connector: Connector) -> Client {
        Client::over(Endpoint::Through(name.to_owned()), Transport::Through(connector))
    }

    fn over(endpoint: Endpoint, transport: Transport) -> Client {
        let wire = Wire::new(endpoint, transport);
        Client { inner: Arc::new(Inner { wire, version: Mutex::new(None), observer: OnceLock::new() }) }
    }

    /// The same client, whose calls are told to somebody from now on. The first observer stays.
    #[must_use]
    pub fn observed(self, observer: Arc<dyn Observer>) -> Client {
        let _ = self.inner.observer.set(observer);
        self
    }

    /// Where this client connects to.
    pub fn endpoint(&self) -> &Endpoint {
        &self.inner.wire.endpoint
    }

    /// The version that is spoken, when one was negotiated.
    pub fn negotiated(&self) -> Option<ApiVersion> {
        *self.slot()
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<ApiVersion>> {
        // A version is a plain value: a panic elsewhere cannot have left it half written.
        self.inner.version.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over the version that a ping's reply names: what was offered, and what is spoken.
    fn settle(&self, named: Option<&str>) -> Result<(ApiVersion, ApiVersion), Error> {
        let offered = named.ok_or(VersionError::Missing).and_then(str::parse::<ApiVersion>);
        let agreed = offered.and_then(|offered| Ok((offered, version::negotiate(offered)?)));
        *self.slot() = agreed.as_ref().ok().map(|(_, spoken)| *spoken);
        agreed.map_err(|problem| Error::Version { endpoint: self.endpoint().clone(), problem })
    }

    /// Sends a call under the negotiated version, negotiating first if need be, and refuses statuses not in `accept`.
    async fn call(&self, mut call: Call, accept: &[u16]) -> Result<Reply, Error> {
        let first = self.send(&mut call).await?.accept(accept).await;
        match first {
            Err(error) if error.is_stale() => {
                // The engine did nothing: it looks at the version first.
                *self.slot() = None;
                if !call.repeatable() {
                    return Err(error);
                }
                let again = self.send(&mut call).await?.accept(accept).await;
                again.map_err(|error| match error {
                    Error::Status { message, .. } if message.contains("too old") => {
                        Error::Version { endpoint: self.endpoint().clone(), problem: VersionError::TooNew(message) }
                    }
                    other => other,
                })
            }
            other => other,
        }
    }

    /// Sends a call under the negotiated version, negotiating first if need be. Any status is a reply.
    async fn send(&self, call: &mut Call) -> Result<Reply, Error> {
        let version = match self.negotiated() {
            Some(version) => version,
            None => {
                self.ping().await?;
                // A ping that succeeds has settled it; between the two, another task may have made us forget.
                self.negotiated().unwrap_or(version::OLDEST)
            }
        };
        self.send_as(call, Some(version)).await
    }

    async fn send_as(&self, call: &mut Call, version: Option<ApiVersion>) -> Result<Reply, Error> {
        let begun = Instant::now();
        let reply = self.inner.wire.send(call, version).await;
        if let Some(observer) = self.inner.observer.get() {
            observer.answered(call.name, begun.elapsed(), reply.as_ref().map(Reply::status));
        }
        let reply = reply.inspect_err(|error| {
            if error.is_unreachable() {
                *self.slot() = None;
            }
        })?;
        if let (Some(spoken), Some(offered)) = (version, reply.header("api-version"))
            && let Ok(agreed) = offered.parse().and_then(version::negotiate)
            && agreed != spoken
        {
            *self.slot() = Some(agreed);
        }
        Ok(reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sendable<T: Send>(future: T) {
        drop(future);
    }

    #[test]
    fn every_kind_of_call_can_be_spawned() {
        let client = Client::unix(DEFAULT_SOCKET);
        let (filters, spec) = (Filters::new(), ContainerSpec::default());
        let options = BuildOptions::default();
        sendable(client.ping());
        sendable(client.events(&filters));
        sendable(client.create_container("a", &spec));
        sendable(client.attach("a"));
        sendable(client.begin_wait("a", WaitCondition::NextExit));
        sendable(client.import_image("a", "b", &[], tokio::io::empty(), &mut |_| {}));
        sendable(client.build_image(&options, bytes::Bytes::new(), &mut |_| {}));
    }

    #[test]
    fn plain_tcp_is_no_target_unless_it_is_allowed() {
        let mut target = Target::from(Endpoint::parse("tcp://127.0.0.1:2375").unwrap());
        assert!(matches!(Client::open(&target), Err(SetupError::Plaintext(_))));
        target.allow_plaintext = true;
        assert!(Client::open(&target).is_ok());
    }
}
