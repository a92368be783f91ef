//! A fresh connection, and in plain words why there is none. The one place where an `errno` becomes a sentence.

use std::fmt;
use std::future::Future;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::deadlines;
use super::endpoint::{Endpoint, PLAIN_PORT, TLS_PORT};
use super::error::Error;
use super::tls::{Tls, TlsProblem};

/// Anything that can carry a connection.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection that a caller's own way made.
pub type BoxedIo = Box<dyn Io>;
/// A caller's own way to connect.
pub type Connector = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = io::Result<BoxedIo>> + Send>> + Send + Sync>;

/// How connections are made.
#[derive(Clone)]
pub(super) enum Transport {
    /// A Unix socket, or plain TCP.
    Plain,
    /// TCP with TLS.
    Tls(Tls),
    /// A caller's own.
    Through(Connector),
}

/// A connection to an engine.
pub(super) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Through(BoxedIo),
}

/// Why an engine could not be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectProblem {
    /// There is no socket.
    Missing,
    /// There is something else than a socket.
    NotASocket(&'static str),
    /// Nobody listens.
    Refused,
    /// We may not use the socket.
    Denied {
        /// The group that may, when it has a name.
        group: Option<String>,
    },
    /// The backlog is full, or the connect took longer than its bound.
    Busy,
    /// The host's name is not known.
    UnknownHost,
    /// Anything else, in the kernel's words.
    Other(String),
}

impl ConnectProblem {
    fn of(error: &io::Error, endpoint: &Endpoint) -> ConnectProblem {
        if let Endpoint::Unix(path) = endpoint
            && let Some(kind) = other_than_socket(path)
        {
            return ConnectProblem::NotASocket(kind);
        }
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ConnectProblem::Missing,
            io::ErrorKind::ConnectionRefused => ConnectProblem::Refused,
            io::ErrorKind::PermissionDenied => ConnectProblem::Denied {
                group: match endpoint {
                    Endpoint::Unix(path) => group_of(path),
                    _ => None,
                },
            },
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ConnectProblem::Busy,
            _ if error.to_string().contains("lookup") => ConnectProblem::UnknownHost,
            _ => ConnectProblem::Other(error.to_string()),
        }
    }

    /// Whether it may pass without anybody's doing.
    pub(super) fn may_pass(&self) -> bool {
        !matches!(self, ConnectProblem::Denied { .. } | ConnectProblem::NotASocket(_))
    }

    /// What a person can do about it.
    pub(super) fn remedy(&self, endpoint: &Endpoint) -> Option<String> {
        Some(match (self, endpoint) {
            (ConnectProblem::Missing | ConnectProblem::Refused, Endpoint::Unix(_)) => {
                "start the engine: sudo systemctl start docker (or: sudo dockerd &)".to_owned()
            }
            (ConnectProblem::Refused, _) => {
                "start the engine there with -H tcp://0.0.0.0:2376 --tlsverify, and open the port".to_owned()
            }
            (ConnectProblem::NotASocket(_), _) => {
                "give the engine's socket, such as unix:///var/run/docker.sock".to_owned()
            }
            (ConnectProblem::Denied { group: Some(group) }, _) => format!(
                "add the daemon's user to the group {group:?} (sudo usermod -aG {group} USER), then log in again; that group is root on this machine"
            ),
            (ConnectProblem::Denied { group: None }, _) => {
                "run as a user who may write to the engine's socket (ls -l shows its group)".to_owned()
            }
            (ConnectProblem::Busy, Endpoint::Unix(_)) => {
                "the engine does not accept connections: look at its log (journalctl -u docker)".to_owned()
            }
            (ConnectProblem::Busy, _) => "check the address, the network and the firewall in between".to_owned(),
            (ConnectProblem::UnknownHost, _) => "check the host's name, or give its address".to_owned(),
            _ => return None,
        })
    }
}

impl fmt::Display for ConnectProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ConnectProblem::Missing => "its socket does not exist. Please make sure Docker is running",
            ConnectProblem::NotASocket(kind) => return write!(f, "that is {kind}, not a socket"),
            ConnectProblem::Refused => "nobody listens there. Please make sure Docker is running",
            ConnectProblem::Denied { .. } => "permission denied on its socket",
            ConnectProblem::Busy => "it does not accept the connection in time",
            ConnectProblem::UnknownHost => "its name cannot be resolved",
            ConnectProblem::Other(text) => text,
        })
    }
}

/// What stands where a socket should, in words.
fn other_than_socket(path: &Path) -> Option<&'static str> {
    let kind = std::fs::metadata(path).ok()?.file_type();
    match kind {
        kind if kind.is_socket() => None,
        kind if kind.is_dir() => Some("a folder"),
        kind if kind.is_file() => Some("a file"),
        _ => Some("something else"),
    }
}

/// Connects, within [`deadlines::CONNECT`], and shakes hands, within [`deadlines::HANDSHAKE`].
pub(super) async fn dial(endpoint: &Endpoint, transport: &Transport) -> Result<Stream, Error> {
    let late = || io::Error::from(io::ErrorKind::TimedOut);
    let failed = |source: io::Error| Error::Connect {
        endpoint: endpoint.clone(),
        problem: ConnectProblem::of(&source, endpoint),
        source,
    };
    let connecting = async {
        match (endpoint, transport) {
            (_, Transport::Through(connector)) => connector().await.map(Stream::Through),
            (Endpoint::Unix(path), _) => UnixStream::connect(path).await.map(Stream::Unix),
            (Endpoint::Tcp { host, port }, transport) => {
                let usual = if matches!(transport, Transport::Tls(_)) { TLS_PORT } else { PLAIN_PORT };
                let stream = TcpStream::connect((host.as_str(), port.unwrap_or(usual))).await?;
                stream.set_nodelay(true)?;
                keep_alive(&stream)?;
                Ok(Stream::Tcp(stream))
            }
            (Endpoint::Through(name), _) => Err(io::Error::other(format!("there is no way through {name}"))),
        }
    };
    let stream = timeout(deadlines::CONNECT, connecting).await.unwrap_or_else(|_| Err(late())).map_err(failed)?;
    let (stream, tls) = match (stream, transport) {
        (Stream::Tcp(stream), Transport::Tls(tls)) => (stream, tls),
        (stream, _) => return Ok(stream),
    };
    let shaking = TlsConnector::from(tls.config.clone()).connect(tls.name.clone(), stream);
    let shaken = timeout(deadlines::HANDSHAKE, shaking).await.unwrap_or_else(|_| Err(late()));
    shaken
        .map(|stream| Stream::Tls(Box::new(stream)))
        .map_err(|source| Error::Tls { endpoint: endpoint.clone(), problem: TlsProblem::of(&source) })
}

/// A peer that vanished is noticed within about a minute and a half, also by who only listens (an attach).
fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &30)?;
    setsockopt(stream, sockopt::TcpKeepInterval, &15)?;
    setsockopt(stream, sockopt::TcpKeepCount, &4)?;
    Ok(())
}

/// The name of the group that owns `socket`. Read from the file: `getgrgid` wants NSS modules, which a static program
/// must not load.
fn group_of(socket: &Path) -> Option<String> {
    let gid = std::fs::metadata(socket).ok()?.gid();
    name_of_group(&std::fs::read_to_string("/etc/group").ok()?, gid)
}

fn name_of_group(table: &str, gid: u32) -> Option<String> {
    table.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(gid)).then(|| name.to_owned())
    })
}

/// One method on whichever stream it is.
macro_rules! on {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream {
            Stream::Unix($inner) => $call,
            Stream::Tcp($inner) => $call,
            Stream::Tls($inner) => $call,
            Stream::Through($inner) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        on!(self.get_mut(), inner => Pin::new(inner).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        on!(self.get_mut(), inner => Pin::new(inner).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on!(self.get_mut(), inner => Pin::new(inner).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        on!(self, inner => inner.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on!(self.get_mut(), inner => Pin::new(inner).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on!(self.get_mut(), inner => Pin::new(inner).poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_found_by_its_number() {
        let table = "root:x:0:\nbroken\ndocker:x:998:ann,bob\n";
        assert_eq!(name_of_group(table, 998).as_deref(), Some("docker"));
        assert_eq!(name_of_group(table, 5), None);
    }

    #[tokio::test]
    async fn what_is_not_a_socket_is_said_by_its_kind() {
        let folder = tempfile::tempdir().unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        for (path, kind) in [(folder.path(), "a folder"), (file.path(), "a file")] {
            let endpoint = Endpoint::Unix(path.to_owned());
            let error = dial(&endpoint, &Transport::Plain).await.err().unwrap();
            assert!(error.to_string().contains(kind) && !error.retryable(), "{error}");
            assert!(error.remedy().unwrap().contains("docker.sock"));
        }
    }

    #[tokio::test]
    async fn a_socket_nobody_listens_on_asks_whether_docker_is_running() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docker.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        for path in [path, folder.path().join("none.sock")] {
            let error = dial(&Endpoint::Unix(path), &Transport::Plain).await.err().unwrap();
            assert!(error.is_unreachable() && error.retryable());
            assert!(error.to_string().contains("Please make sure Docker is running"), "{error}");
            assert!(error.remedy().unwrap().contains("systemctl start docker"));
        }
    }

    #[test]
    fn permission_denied_names_the_group_to_join() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docker.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let endpoint = Endpoint::Unix(path);
        let denied = ConnectProblem::of(&io::ErrorKind::PermissionDenied.into(), &endpoint);
        let ConnectProblem::Denied { group: Some(group) } = &denied else { panic!("{denied:?}") };
        assert!(denied.remedy(&endpoint).unwrap().contains(&format!("usermod -aG {group} ")));
    }

    #[tokio::test]
    async fn a_host_that_does_not_exist_is_said_so() {
        let endpoint = Endpoint::Tcp { host: "no-such-host.invalid".to_owned(), port: Some(1) };
        let error = dial(&endpoint, &Transport::Plain).await.err().unwrap();
        assert!(
            matches!(&error, Error::Connect { problem: ConnectProblem::UnknownHost | ConnectProblem::Busy, .. }),
            "{error}"
        );
    }
}
