//! Connections of an HTTP listener: their number, lifetime, pace and the size of a request's head.
//! Knows no routes.

use std::convert::Infallible;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::PassedListener;
use super::access::PeerAddress;
use super::address_key::AddressKey;
use super::doors::Doors;
use super::paced::PacedStream;
use config::{Listen, bounds};
use protocol::Counts;
use telemetry::throttle::LogThrottle;

/// Mode of a Unix socket: the daemon's group may connect.
const SOCKET_MODE: u32 = 0o660;

/// Pause after a failed accept, which mostly means that the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) enum HttpListener {
    Tcp(TcpListener),
    Unix { listener: UnixListener, path: String },
}

enum HttpStream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl HttpListener {
    pub(super) async fn bind(listen: &Listen) -> Result<HttpListener, String> {
        match listen {
            Listen::Tcp(address) => match TcpListener::bind(address).await {
                Ok(listener) => Ok(HttpListener::Tcp(listener)),
                // the unit as shipped: a private network, and RestrictAddressFamilies= without
                // AF_INET
                Err(error) if error.raw_os_error() == Some(nix::libc::EAFNOSUPPORT) => Err(format!(
                    "listen on {address} for HTTP: {error}: the unit gives the daemon no network (http.listen); \
                     remove the setting and run: systemctl enable assay-http.socket && systemctl restart assayd"
                )),
                Err(error) => Err(format!("listen on {address} for HTTP: {error} (http.listen)")),
            },
            Listen::Unix(path) => match crate::rpc::bind(path, SOCKET_MODE).await {
                Ok(listener) => Ok(HttpListener::Unix { listener, path: path.display().to_string() }),
                Err(error) => Err(format!("serve HTTP: {error} (http.listen)")),
            },
        }
    }

    pub(super) fn from_passed(passed: PassedListener) -> std::io::Result<HttpListener> {
        match passed {
            PassedListener::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                Ok(HttpListener::Tcp(TcpListener::from_std(listener)?))
            }
            PassedListener::Unix(listener) => {
                listener.set_nonblocking(true)?;
                let path = listener.local_addr()?.as_pathname().map(|path| path.display().to_string());
                Ok(HttpListener::Unix { listener: UnixListener::from_std(listener)?, path: path.unwrap_or_default() })
            }
        }
    }

    /// The address, with the port that the kernel chose when port 0 was asked for.
    pub(super) fn address(&self) -> String {
        match self {
            HttpListener::Tcp(listener) => {
                listener.local_addr().map_or_else(|_| "?".to_owned(), |address| format!("http://{address}"))
            }
            HttpListener::Unix { path, .. } => format!("unix:{path}"),
        }
    }

    /// The address, if it is one of TCP.
    pub(super) fn tcp_address(&self) -> Option<SocketAddr> {
        match self {
            HttpListener::Tcp(listener) => listener.local_addr().ok(),
            HttpListener::Unix { .. } => None,
        }
    }

    async fn accept(&self) -> std::io::Result<(HttpStream, PeerAddress)> {
        match self {
            HttpListener::Tcp(listener) => {
                let (stream, from) = listener.accept().await?;
                // a response is one write: Nagle's algorithm would only delay it
                let _ = stream.set_nodelay(true);
                let own = listener.local_addr();
                let is_loopback_listener = own.is_ok_and(|own| own.ip().to_canonical().is_loopback());
                Ok((HttpStream::Tcp(stream), PeerAddress::Tcp { from, is_loopback_listener }))
            }
            HttpListener::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                let credentials = stream.peer_cred()?;
                let (uid, gid) = (credentials.uid(), credentials.gid());
                Ok((HttpStream::Unix(stream), PeerAddress::Unix { uid, gid }))
            }
        }
    }
}

static TOO_MANY: LogThrottle = LogThrottle::new();
static NOT_ACCEPTED: LogThrottle = LogThrottle::new();

/// What a listener allows its connections.
#[derive(Debug, Clone, Copy)]
struct ConnectionBounds {
    most: usize,
    most_per_address: usize,
    /// From the start of the connection, or the end of the last response, to the end of a head.
    head: Duration,
    lifetime: Duration,
    /// Whether a client that sends end-of-file still gets its response. Otherwise it is a hang-up.
    half_close: bool,
}

impl ConnectionBounds {
    fn of(doors: &Doors) -> ConnectionBounds {
        match doors.has_api() {
            true => ConnectionBounds {
                most: bounds::MAX_API_CONNECTIONS,
                most_per_address: bounds::MAX_API_CONNECTIONS_PER_ADDRESS,
                head: bounds::HTTP_IDLE_TIME,
                lifetime: bounds::API_CONNECTION_TIME,
                half_close: false,
            },
            false => ConnectionBounds {
                most: bounds::MAX_HTTP_CONNECTIONS,
                most_per_address: bounds::MAX_HTTP_CONNECTIONS,
                head: bounds::HTTP_HEAD_TIME,
                lifetime: bounds::HTTP_CONNECTION_TIME,
                half_close: true,
            },
        }
    }
}

/// The open connections of a listener, by address.
#[derive(Debug, Clone, Default)]
struct Addresses(Arc<Mutex<Counts<AddressKey>>>);

/// A connection that is counted until this is dropped.
struct CountedConnection(Addresses, AddressKey);

impl Addresses {
    /// `None` if there are too many, of this address or in all.
    fn count(&self, key: AddressKey, bounds: &ConnectionBounds) -> Option<CountedConnection> {
        let mut counts = self.0.lock();
        if counts.total() >= bounds.most || counts.get(&key) >= bounds.most_per_address {
            return None;
        }
        counts.increment(key);
        Some(CountedConnection(self.clone(), key))
    }
}

impl Drop for CountedConnection {
    fn drop(&mut self) {
        self.0.0.lock().decrement(&self.1);
    }
}

/// Sends a 503 before the connection closes, if the socket takes it without waiting.
fn refuse(stream: HttpStream, address: &PeerAddress, bounds: &ConnectionBounds) {
    let max = bounds.most_per_address;
    if let Some(suppressed) = TOO_MANY.allow() {
        tracing::warn!(max, %address, suppressed, "HTTP connection refused: too many connections");
    }
    let body = format!("{{\"error\":\"too many connections: at most {max} at a time\"}}\n");
    let head =
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\nconnection: close";
    let text = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let _ = match stream {
        HttpStream::Tcp(stream) => stream.into_std().and_then(|mut stream| stream.write(text.as_bytes())),
        HttpStream::Unix(stream) => stream.into_std().and_then(|mut stream| stream.write(text.as_bytes())),
    };
}

/// Serves until `stop`; then lets responses under way complete, within
/// [`bounds::HTTP_SHUTDOWN_TIME`].
pub(super) async fn serve(listener: HttpListener, doors: Arc<Doors>, mut stop: watch::Receiver<bool>) {
    let (bounds, addresses) = (ConnectionBounds::of(&doors), Addresses::default());
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if let Some(suppressed) = NOT_ACCEPTED.allow() {
                    tracing::warn!(%error, suppressed, "failed to accept an HTTP connection");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(counted) = addresses.count(AddressKey::from(&address), &bounds) else {
            doors.counts().count_refused();
            refuse(stream, &address, &bounds);
            continue;
        };
        let open = doors.counts().count_accepted();
        let (doors, stop) = (doors.clone(), stop.clone());
        let has_asked = Arc::new(AtomicBool::new(false));
        let asked = has_asked.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            asked.store(true, Ordering::Relaxed);
            let doors = doors.clone();
            request.extensions_mut().insert(address);
            async move { Ok::<_, Infallible>(doors.respond(request).await) }
        });
        connections.spawn(async move {
            let served = async {
                match stream {
                    HttpStream::Tcp(stream) => connection(stream, service, bounds, stop).await,
                    HttpStream::Unix(stream) => connection(stream, service, bounds, stop).await,
                }
            };
            tokio::select! {
                () = served => {}
                // one that asks nothing keeps no other out for long
                () = never_asked(&has_asked) => {}
            }
            drop((counted, open));
        });
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Resolves when a connection had no request within [`bounds::HTTP_HEAD_TIME`]; else never.
async fn never_asked(has_asked: &AtomicBool) {
    tokio::time::sleep(bounds::HTTP_HEAD_TIME).await;
    if has_asked.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
}

/// Serves one connection, from its first request to its end.
async fn connection<S>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    service: S,
    bounds: ConnectionBounds,
    mut stop: watch::Receiver<bool>,
) where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
{
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.head)
        .max_buf_size(bounds::MAX_HTTP_HEAD_BYTES)
        .max_headers(bounds::MAX_HTTP_FIELDS)
        .half_close(bounds.half_close);
    let serving = builder.serve_connection(TokioIo::new(PacedStream::new(stream)), service);
    tokio::pin!(serving);
    // client errors are not logged
    tokio::select! {
        _ = serving.as_mut() => return,
        () = tokio::time::sleep(bounds.lifetime) => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
    serving.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(bounds::HTTP_SHUTDOWN_TIME, serving).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::Instant;

    const MONITORING: ConnectionBounds = ConnectionBounds {
        most: bounds::MAX_HTTP_CONNECTIONS,
        most_per_address: bounds::MAX_HTTP_CONNECTIONS,
        head: bounds::HTTP_HEAD_TIME,
        lifetime: bounds::HTTP_CONNECTION_TIME,
        half_close: true,
    };

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_asks_nothing_ends_and_one_that_asked_does_not() {
        let begun = Instant::now();
        never_asked(&AtomicBool::new(false)).await;
        assert_eq!(begun.elapsed(), bounds::HTTP_HEAD_TIME);
        let asked = AtomicBool::new(true);
        assert!(tokio::time::timeout(bounds::API_CONNECTION_TIME, never_asked(&asked)).await.is_err());
    }

    #[test]
    fn one_address_cannot_take_all_the_connections() {
        let (addresses, bounds) =
            (Addresses::default(), ConnectionBounds { most: 5, most_per_address: 3, ..MONITORING });
        let [one, other] = [1, 2].map(|last| AddressKey::V4([192, 0, 2, last]));
        let all: Vec<CountedConnection> = std::iter::from_fn(|| addresses.count(one, &bounds)).collect();
        assert_eq!(all.len(), 3);
        let others: Vec<CountedConnection> = std::iter::from_fn(|| addresses.count(other, &bounds)).collect();
        assert_eq!(others.len(), 2, "the bound of all");
        drop(all);
        assert!(addresses.count(one, &bounds).is_some());
    }

    /// The client's end of a connection to a service that responds `body`, and the task that serves
    /// it.
    fn connect(body: &'static [u8]) -> (DuplexStream, tokio::task::JoinHandle<()>) {
        let (ours, theirs) = duplex(1024);
        let service = service_fn(move |_| async move { Ok(Response::new(Body::from(body))) });
        let (never, stop) = watch::channel(false);
        let serving = tokio::spawn(async move {
            connection(theirs, service, MONITORING, stop).await;
            drop(never);
        });
        (ours, serving)
    }

    async fn response_to(request: &[u8]) -> String {
        let (mut ours, _) = connect(b"hello");
        // the server may close before the whole request is written
        let _ = ours.write_all(request).await;
        let _ = ours.shutdown().await;
        let mut response = String::new();
        ours.read_to_string(&mut response).await.unwrap();
        response
    }

    #[tokio::test]
    async fn a_head_that_is_invalid_too_large_or_has_too_many_fields_is_refused_with_its_own_status() {
        assert!(response_to(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.starts_with("HTTP/1.1 200"));
        assert!(response_to(b"\x16\x03\x01\x02\x00\r\n\r\n").await.starts_with("HTTP/1.1 400"));
        let large = format!("GET / HTTP/1.1\r\nhost: x\r\na: {}\r\n\r\n", "x".repeat(bounds::MAX_HTTP_HEAD_BYTES));
        assert!(response_to(large.as_bytes()).await.starts_with("HTTP/1.1 431"));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(bounds::MAX_HTTP_FIELDS + 1));
        assert!(response_to(many.as_bytes()).await.starts_with("HTTP/1.1 431"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_or_very_slow_client_is_disconnected_when_the_head_timeout_expires() {
        for dribbles in [false, true] {
            let (ours, serving) = connect(b"hello");
            let start = Instant::now();
            let (mut reader, mut writer) = tokio::io::split(ours);
            let dribbling = tokio::spawn(async move {
                for byte in
                    b"GET / HTTP/1.1\r\nhost: x\r\nx-a: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb".iter().cycle()
                {
                    if dribbles && writer.write_all(&[*byte]).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            });
            serving.await.unwrap();
            assert!(start.elapsed() < bounds::HTTP_HEAD_TIME + Duration::from_secs(2), "{:?}", start.elapsed());
            let mut rest = Vec::new();
            reader.read_to_end(&mut rest).await.unwrap();
            assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 408"), "{rest:?}");
            dribbling.abort();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_is_disconnected_and_a_busy_one_is_closed_between_responses() {
        static LARGE: [u8; 64 * 1024] = [b'x'; 64 * 1024];
        let (mut ours, serving) = connect(&LARGE);
        let start = Instant::now();
        ours.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        serving.await.unwrap();
        assert_eq!(start.elapsed().as_secs(), bounds::SLOW_READER.as_secs());

        let (mut ours, serving) = connect(b"hello");
        let start = Instant::now();
        let mut responses = 0;
        while ours.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.is_ok() {
            let mut response = [0; 1024];
            match ours.read(&mut response).await {
                Ok(read) if read > 0 => responses += 1,
                _ => break,
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        serving.await.unwrap();
        assert!(responses >= 59, "{responses}");
        assert!(start.elapsed() <= bounds::HTTP_CONNECTION_TIME + Duration::from_secs(2), "{:?}", start.elapsed());
    }
}
