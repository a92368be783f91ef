//! Connections: how many, how long, how large a head. Nothing here knows what is asked.

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

use super::Passed;
use super::site::Site;
use crate::config::{Listen, bounds};
use crate::telemetry::seldom::Seldom;

/// The socket file's mode: the daemon's group may look.
const SOCKET_MODE: u32 = 0o660;

/// How long after a failed accept the next is tried: it mostly fails for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Something to listen on.
#[derive(Debug)]
pub(super) enum Door {
    Tcp(TcpListener),
    Unix(UnixListener, String),
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Door {
    /// Listens there.
    pub(super) async fn open(listen: &Listen) -> Result<Door, String> {
        match listen {
            Listen::Tcp(address) => match TcpListener::bind(address).await {
                Ok(listener) => Ok(Door::Tcp(listener)),
                // the unit as it is shipped: an empty network, and no sockets of IP's
                Err(error) if error.raw_os_error() == Some(nix::libc::EAFNOSUPPORT) => Err(format!(
                    "listen on {address} for HTTP: {error}: the unit gives the daemon no network (http.listen); leave it out, and: \
                     systemctl enable assay-http.socket && systemctl restart assayd"
                )),
                Err(error) => Err(format!("listen on {address} for HTTP: {error} (http.listen)")),
            },
            Listen::Unix(path) => match crate::rpc::bind(path, SOCKET_MODE).await {
                Ok(listener) => Ok(Door::Unix(listener, path.display().to_string())),
                Err(error) => Err(format!("serve HTTP: {error} (http.listen)")),
            },
        }
    }

    /// Listens on what the service manager listens on.
    pub(super) fn passed(passed: Passed) -> std::io::Result<Door> {
        match passed {
            Passed::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                Ok(Door::Tcp(TcpListener::from_std(listener)?))
            }
            Passed::Unix(listener) => {
                listener.set_nonblocking(true)?;
                let path = listener.local_addr()?.as_pathname().map(|path| path.display().to_string());
                Ok(Door::Unix(UnixListener::from_std(listener)?, path.unwrap_or_default()))
            }
        }
    }

    /// Where that is, with the port that was given when any was asked for.
    pub(super) fn place(&self) -> String {
        match self {
            Door::Tcp(listener) => listener.local_addr().map_or_else(|_| "?".to_owned(), |at| format!("http://{at}")),
            Door::Unix(_, path) => format!("unix:{path}"),
        }
    }

    async fn accept(&self) -> std::io::Result<Stream> {
        match self {
            Door::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // an answer is one piece: nothing is gained by waiting for more
                let _ = stream.set_nodelay(true);
                Ok(Stream::Tcp(stream))
            }
            Door::Unix(listener, _) => listener.accept().await.map(|(stream, _)| Stream::Unix(stream)),
        }
    }
}

static CROWDED: Seldom = Seldom::new();

/// Says why before the connection closes, as far as the socket takes it at once.
fn turn_away(stream: Stream) {
    let max = bounds::MAX_HTTP_CONNECTIONS;
    if let Some(unsaid) = CROWDED.may() {
        tracing::warn!(max, unsaid, "too many connections to the HTTP door: one was refused");
    }
    let body = format!("{{\"error\":\"too many connections: at most {max} at a time\"}}\n");
    let head =
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\nconnection: close";
    let text = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let _ = match stream {
        Stream::Tcp(stream) => stream.into_std().and_then(|mut stream| stream.write(text.as_bytes())),
        Stream::Unix(stream) => stream.into_std().and_then(|mut stream| stream.write(text.as_bytes())),
    };
}

/// Serves until `stop` says so; then everybody has a moment to take the answer that is under way.
pub(super) async fn serve(door: Door, site: Arc<Site>, mut stop: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(bounds::MAX_HTTP_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = door.accept() => accepted,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection to the HTTP door could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            site.tally().turned_away();
            turn_away(stream);
            continue;
        };
        let open = site.tally().opened();
        let (site, stop) = (site.clone(), stop.clone());
        let service = service_fn(move |request| {
            let site = site.clone();
            async move { Ok::<_, Infallible>(site.answer(request).await) }
        });
        connections.spawn(async move {
            match stream {
                Stream::Tcp(stream) => connection(stream, service, stop).await,
                Stream::Unix(stream) => connection(stream, service, stop).await,
            }
            drop((place, open));
        });
    }
    drop(door);
    while connections.join_next().await.is_some() {}
}

/// One connection, from its first head to its end.
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
    // how it ends is the caller's affair: who says nonsense, or nothing, is no news
    tokio::select! {
        _ = serving.as_mut() => return,
        () = tokio::time::sleep(bounds::HTTP_CONNECTION_TIME) => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
    serving.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(bounds::HTTP_LAST_WORDS, serving).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::Instant;

    /// A connection to a service that says `answer`; whoever reads it is to be found at the other end.
    fn connect(answer: &'static [u8]) -> (DuplexStream, tokio::task::JoinHandle<()>) {
        let (ours, theirs) = duplex(1024);
        let service = service_fn(move |_| async move { Ok(Response::new(Full::new(Bytes::from_static(answer)))) });
        let (never, stop) = watch::channel(false);
        let serving = tokio::spawn(async move {
            connection(theirs, service, stop).await;
            drop(never);
        });
        (ours, serving)
    }

    async fn said(request: &[u8]) -> String {
        let (mut ours, _) = connect(b"hello");
        // it may be closed before all of it was said
        let _ = ours.write_all(request).await;
        let _ = ours.shutdown().await;
        let mut said = String::new();
        ours.read_to_string(&mut said).await.unwrap();
        said
    }

    #[tokio::test]
    async fn a_head_that_is_nonsense_too_large_or_too_long_a_list_is_refused_by_its_own_status() {
        assert!(said(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.starts_with("HTTP/1.1 200"));
        assert!(said(b"\x16\x03\x01\x02\x00\r\n\r\n").await.starts_with("HTTP/1.1 400"));
        let large = format!("GET / HTTP/1.1\r\nhost: x\r\na: {}\r\n\r\n", "x".repeat(bounds::MAX_HTTP_HEAD_BYTES));
        assert!(said(large.as_bytes()).await.starts_with("HTTP/1.1 431"));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(bounds::MAX_HTTP_FIELDS + 1));
        assert!(said(many.as_bytes()).await.starts_with("HTTP/1.1 431"));
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_or_a_byte_a_second_is_closed_when_a_head_should_have_been_there() {
        for dribbles in [false, true] {
            let (ours, serving) = connect(b"hello");
            let begun = Instant::now();
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
            assert!(begun.elapsed() < bounds::HTTP_HEAD_TIME + Duration::from_secs(2), "{:?}", begun.elapsed());
            let mut rest = Vec::new();
            reader.read_to_end(&mut rest).await.unwrap();
            assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 408"), "{rest:?}");
            dribbling.abort();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_no_answer_is_cut_and_who_asks_again_and_again_is_let_go_politely() {
        static LARGE: [u8; 64 * 1024] = [b'x'; 64 * 1024];
        let (mut ours, serving) = connect(&LARGE);
        let begun = Instant::now();
        ours.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        serving.await.unwrap();
        assert_eq!(begun.elapsed().as_secs(), (bounds::HTTP_CONNECTION_TIME + bounds::HTTP_LAST_WORDS).as_secs());

        let (mut ours, serving) = connect(b"hello");
        let begun = Instant::now();
        let mut answers = 0;
        while ours.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.is_ok() {
            let mut answer = [0; 1024];
            match ours.read(&mut answer).await {
                Ok(read) if read > 0 => answers += 1,
                _ => break,
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        serving.await.unwrap();
        assert!(answers >= 59, "{answers}");
        assert!(begun.elapsed() <= bounds::HTTP_CONNECTION_TIME + Duration::from_secs(2), "{:?}", begun.elapsed());
    }
}
