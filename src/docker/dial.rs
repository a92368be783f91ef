//! Makes connections: Unix sockets with hyperlocal, TCP, TLS, or the caller's own connector.

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyperlocal::{UnixConnector, UnixStream};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower_service::Service;

use super::app::App;
use super::connect_problem::ConnectProblem;
use super::deadlines;
use super::endpoint::{Endpoint, PLAIN_PORT, TLS_PORT};
use super::error::Error;
use super::tls::{TlsProblem, TlsSetup};

/// The longest path of a Unix socket, in bytes: `sun_path` has 108 with its final NUL.
const MAX_SOCKET_PATH: usize = 107;

/// Anything that can carry a connection.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection made by a [`Connector`].
pub type BoxedIo = Box<dyn Io>;
/// The caller's own way to connect.
pub type Connector = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = io::Result<BoxedIo>> + Send>> + Send + Sync>;

/// How connections to an endpoint are made.
#[derive(Clone)]
pub(super) enum Dialer {
    /// A Unix socket, or TCP without TLS.
    Plain,
    Tls(TlsSetup),
    Custom(Connector),
}

/// A connection to an engine.
pub(super) enum EngineStream {
    Unix(UnixStream),
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Custom(BoxedIo),
}

/// Connects within [`deadlines::CONNECT`], then does the TLS handshake within
/// [`deadlines::HANDSHAKE`].
pub(super) async fn dial(endpoint: &Endpoint, dialer: &Dialer, app: &'static App) -> Result<EngineStream, Error> {
    let timed_out = || io::Error::from(io::ErrorKind::TimedOut);
    let connecting = timeout(deadlines::CONNECT, connect(endpoint, dialer));
    let connected = connecting.await.unwrap_or_else(|_| Err(timed_out()));
    let stream = connected.map_err(|source| Error::Connect {
        endpoint: endpoint.clone(),
        problem: ConnectProblem::of(&source, endpoint),
        source,
    })?;
    let (stream, tls) = match (stream, dialer) {
        (EngineStream::Tcp(stream), Dialer::Tls(tls)) => (stream, tls),
        (stream, _) => return Ok(stream),
    };
    let handshake = TlsConnector::from(tls.config.clone()).connect(tls.name.clone(), stream);
    timeout(deadlines::HANDSHAKE, handshake)
        .await
        .unwrap_or_else(|_| Err(timed_out()))
        .map(|stream| EngineStream::Tls(Box::new(stream)))
        .map_err(|source| Error::Tls { endpoint: endpoint.clone(), problem: TlsProblem::of(&source), app })
}

async fn connect(endpoint: &Endpoint, dialer: &Dialer) -> io::Result<EngineStream> {
    match (endpoint, dialer) {
        (_, Dialer::Custom(connector)) => connector().await.map(EngineStream::Custom),
        (Endpoint::Unix(path), _) => connect_unix(path).await.map(EngineStream::Unix),
        (Endpoint::Tcp { host, port }, dialer) => {
            let default = if matches!(dialer, Dialer::Tls(_)) { TLS_PORT } else { PLAIN_PORT };
            let stream = TcpStream::connect((host.as_str(), port.unwrap_or(default))).await?;
            stream.set_nodelay(true)?;
            keep_alive(&stream)?;
            Ok(EngineStream::Tcp(stream))
        }
        (Endpoint::Custom(name), _) => Err(io::Error::other(format!("no connector for {name}"))),
    }
}

/// hyperlocal carries the path inside a URI, as hexadecimal UTF-8, and panics if the URI gets too
/// long: so the path is checked first.
async fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    let invalid = |problem: &str| io::Error::new(io::ErrorKind::InvalidInput, problem);
    match path.to_str() {
        None => Err(invalid("the socket's path is not UTF-8")),
        Some("") => Err(io::ErrorKind::NotFound.into()),
        Some(text) if text.len() > MAX_SOCKET_PATH => Err(invalid("the socket's path has more than 107 bytes")),
        Some(text) => UnixConnector.call(hyperlocal::Uri::new(text, "/").into()).await,
    }
}

/// Lets the kernel detect a vanished peer within 90 seconds, also on a connection that only reads
/// (an attach).
fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &30)?;
    setsockopt(stream, sockopt::TcpKeepInterval, &15)?;
    setsockopt(stream, sockopt::TcpKeepCount, &4)?;
    Ok(())
}

/// Calls one method on whichever stream it is.
macro_rules! delegate {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream {
            EngineStream::Unix($inner) => $call,
            EngineStream::Tcp($inner) => $call,
            EngineStream::Tls($inner) => $call,
            EngineStream::Custom($inner) => $call,
        }
    };
}

impl AsyncRead for EngineStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        delegate!(self.get_mut(), inner => AsyncRead::poll_read(Pin::new(inner), cx, buf))
    }
}

impl AsyncWrite for EngineStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        delegate!(self.get_mut(), inner => AsyncWrite::poll_write(Pin::new(inner), cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        delegate!(self.get_mut(), inner => AsyncWrite::poll_write_vectored(Pin::new(inner), cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        delegate!(self, inner => AsyncWrite::is_write_vectored(inner))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self.get_mut(), inner => AsyncWrite::poll_flush(Pin::new(inner), cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self.get_mut(), inner => AsyncWrite::poll_shutdown(Pin::new(inner), cx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn failure(endpoint: &Endpoint) -> Error {
        dial(endpoint, &Dialer::Plain, &App::DEFAULT).await.err().unwrap()
    }

    #[tokio::test]
    async fn a_path_that_is_not_a_socket_is_named_by_its_kind() {
        let folder = tempfile::tempdir().unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        for (path, kind) in [(folder.path(), "a folder"), (file.path(), "a file")] {
            let error = failure(&Endpoint::Unix(path.to_owned())).await;
            assert!(error.to_string().contains(kind) && !error.retryable(), "{error}");
            assert!(error.remedy().unwrap().contains("docker.sock"));
        }
    }

    #[tokio::test]
    async fn a_missing_or_dead_socket_asks_whether_docker_is_running() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docker.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        for path in [path, folder.path().join("none.sock")] {
            let error = failure(&Endpoint::Unix(path)).await;
            assert!(error.is_unreachable() && error.retryable());
            assert!(error.to_string().contains("Please make sure Docker is running"), "{error}");
            assert!(error.remedy().unwrap().contains("systemctl start docker"));
        }
    }

    #[tokio::test]
    async fn a_socket_path_that_no_socket_can_have_is_an_error() {
        use std::os::unix::ffi::OsStrExt;
        let long = "/x".repeat(100_000);
        for path in
            ["", "/\0", &long].map(Path::new).into_iter().chain([Path::new(std::ffi::OsStr::from_bytes(b"/\xff"))])
        {
            let error = failure(&Endpoint::Unix(path.to_owned())).await;
            assert!(matches!(error, Error::Connect { .. }), "{error:?}");
        }
    }

    #[tokio::test]
    async fn an_unknown_host_is_reported_as_such() {
        let error = failure(&Endpoint::Tcp { host: "no-such-host.invalid".to_owned(), port: Some(1) }).await;
        assert!(
            matches!(&error, Error::Connect { problem: ConnectProblem::UnknownHost | ConnectProblem::Busy, .. }),
            "{error}"
        );
    }
}
