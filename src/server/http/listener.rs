//! Connections of the HTTP listener: their number, lifetime and the size of a request's head. Knows
//! no routes.

use std::convert::Infallible;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::PassedListener;
use super::routes::Routes;
use config::{Listen, bounds};
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

    async fn accept(&self) -> std::io::Result<HttpStream> {
        match self {
            HttpListener::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // a response is one write: Nagle's algorithm would only delay it
                let _ = stream.set_nodelay(true);
                Ok(HttpStream::Tcp(stream))
            }
            HttpListener::Unix { listener, .. } => listener.accept().await.map(|(stream, _)| HttpStream::Unix(stream)),
        }
    }
}

static TOO_MANY: LogThrottle = LogThrottle::new();
static NOT_ACCEPTED: LogThrottle = LogThrottle::new();

/// Sends a 503 before the connection closes, if the socket takes it without waiting.
fn refuse(stream: HttpStream) {
    let max = bounds::MAX_HTTP_CONNECTIONS;
    if let Some(suppressed) = TOO_MANY.allow() {
        tracing::warn!(max, suppressed, "HTTP connection refused: too many connections");
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
pub(super) async fn serve(listener: HttpListener, routes: Arc<Routes>, mut stop: watch::Receiver<bool>) {
    let permits = Arc::new(Semaphore::new(bounds::MAX_HTTP_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                if let Some(suppressed) = NOT_ACCEPTED.allow() {
                    tracing::warn!(%error, suppressed, "failed to accept an HTTP connection");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = permits.clone().try_acquire_owned() else {
            routes.counts().count_refused();
            refuse(stream);
            continue;
        };
        let open = routes.counts().count_accepted();
        let (routes, stop) = (routes.clone(), stop.clone());
        let service = service_fn(move |request| {
            let routes = routes.clone();
            async move { Ok::<_, Infallible>(routes.respond(request).await) }
        });
        connections.spawn(async move {
            match stream {
                HttpStream::Tcp(stream) => connection(stream, service, stop).await,
                HttpStream::Unix(stream) => connection(stream, service, stop).await,
            }
            drop((permit, open));
        });
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Serves one connection, from its first request to its end.
async fn connection<S>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    service: S,
    mut stop: watch::Receiver<bool>,
) where
    S: Service<Request<Incoming>, Response = Response<Full<Bytes>>, Error = Infallible>,
{
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(bounds::HTTP_HEAD_TIME)
        .max_buf_size(bounds::MAX_HTTP_HEAD_BYTES)
        .max_headers(bounds::MAX_HTTP_FIELDS)
        .half_close(true);
    let serving = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    // client errors are not logged
    tokio::select! {
        _ = serving.as_mut() => return,
        () = tokio::time::sleep(bounds::HTTP_CONNECTION_TIME) => {}
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

    /// The client's end of a connection to a service that responds `body`, and the task that serves
    /// it.
    fn connect(body: &'static [u8]) -> (DuplexStream, tokio::task::JoinHandle<()>) {
        let (ours, theirs) = duplex(1024);
        let service = service_fn(move |_| async move { Ok(Response::new(Full::new(Bytes::from_static(body)))) });
        let (never, stop) = watch::channel(false);
        let serving = tokio::spawn(async move {
            connection(theirs, service, stop).await;
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
        assert_eq!(start.elapsed().as_secs(), (bounds::HTTP_CONNECTION_TIME + bounds::HTTP_SHUTDOWN_TIME).as_secs());

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
