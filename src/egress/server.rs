//! The socket on which the daemon asks. Only the daemon's uid, root and the own uid may: the kernel
//! names the peer.
//!
//! One request and one reply per connection ([`protocol::egress`]). [`MAX_CONNECTIONS`] are served
//! at a time; more wait in the socket's backlog.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::callback::{Callback, CallbackClient};
use config::bounds::MAX_REPORT_BYTES;
use protocol::egress::{EgressReply, EgressRequest, EgressStep, MAX_EGRESS_LINE_BYTES};
use telemetry::throttle::LogThrottle;

/// Connections served at a time; each may hold a report.
pub const MAX_CONNECTIONS: usize = 32;

/// How long the daemon may take to send a request, or to read a reply.
const PEER_TIME: Duration = Duration::from_secs(10);

/// The kernel's uid for peers that this user namespace cannot express.
const OVERFLOW_UID: u32 = 65_534;

static STRANGER: LogThrottle = LogThrottle::new();
static NOT_ACCEPTED: LogThrottle = LogThrottle::new();

/// Opens the socket at a path. One that an earlier process left is removed.
///
/// # Errors
/// Another process listens there, or the folder is missing.
pub fn bind(path: &Path, is_for_other_uid: bool) -> io::Result<UnixListener> {
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(error);
            }
            std::fs::remove_file(path)?;
            UnixListener::bind(path)?
        }
        other => other?,
    };
    // the peer's uid decides; the mode keeps others from trying, where it can
    let mode = if is_for_other_uid { 0o666 } else { 0o600 };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    Ok(listener)
}

/// Serves the daemon with uid `daemon` until `ended` resolves, then finishes what is under way.
pub async fn serve(listener: UnixListener, daemon: u32, client: CallbackClient, ended: impl Future<Output = ()>) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut tasks = JoinSet::new();
    tokio::pin!(ended);
    loop {
        while tasks.try_join_next().is_some() {}
        let accepted = async {
            let permit = room.clone().acquire_owned().await;
            (listener.accept().await, permit)
        };
        let (accepted, permit) = tokio::select! {
            () = &mut ended => break,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let client = client.clone();
                tasks.spawn(async move {
                    let _permit = permit;
                    if may_ask(&stream, daemon) {
                        answer(stream, &client).await;
                    }
                });
            }
            Err(error) => {
                if let Some(suppressed) = NOT_ACCEPTED.allow() {
                    tracing::error!(%error, suppressed, "failed to accept a connection");
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    while tasks.join_next().await.is_some() {}
}

fn may_ask(stream: &UnixStream, daemon: u32) -> bool {
    let Ok(uid) = stream.peer_cred().map(|peer| peer.uid()) else { return false };
    let may = may(uid, nix::unistd::geteuid().as_raw(), daemon);
    if !may && let Some(suppressed) = STRANGER.allow() {
        tracing::warn!(uid, suppressed, "a process that is not the daemon's was turned away (--daemon-user)");
    }
    may
}

/// Whether a peer with this uid may ask a process with the uid `own`.
pub(crate) fn may(uid: u32, own: u32, daemon: u32) -> bool {
    uid != OVERFLOW_UID && [0, own, daemon].contains(&uid)
}

async fn answer(stream: UnixStream, client: &CallbackClient) {
    let mut stream = BufReader::new(stream);
    let request = tokio::time::timeout(PEER_TIME, read(&mut stream)).await;
    let reply = match request.unwrap_or_else(|_| Err("the request did not end".to_owned())) {
        Ok(AskedFor::Probe) => EgressReply::Ready,
        Ok(AskedFor::Callback(callback)) => {
            let delivery = callback.delivery.clone();
            let reply = client.deliver(callback).await;
            tracing::debug!(delivery, ?reply, "callback");
            reply
        }
        Err(message) => EgressReply::Failed { step: EgressStep::Request, message },
    };
    let mut line = serde_json::to_vec(&reply).unwrap_or_default();
    line.push(b'\n');
    let write = async {
        stream.write_all(&line).await?;
        stream.shutdown().await
    };
    let _ = tokio::time::timeout(PEER_TIME, write).await;
}

/// A request with its body.
enum AskedFor {
    Probe,
    Callback(Callback),
}

async fn read(stream: &mut BufReader<UnixStream>) -> Result<AskedFor, String> {
    let mut line = Vec::new();
    let most = MAX_EGRESS_LINE_BYTES as u64 + 1;
    let read = (&mut *stream).take(most).read_until(b'\n', &mut line).await;
    read.map_err(|error| error.to_string())?;
    if line.last() != Some(&b'\n') {
        return Err(format!("the request is not a line of at most {MAX_EGRESS_LINE_BYTES} bytes"));
    }
    match serde_json::from_slice(&line).map_err(|error| format!("the request cannot be read: {error}"))? {
        EgressRequest::Probe => Ok(AskedFor::Probe),
        EgressRequest::Callback { body_bytes, .. } if body_bytes > MAX_REPORT_BYTES => {
            Err(format!("{body_bytes} bytes are more than a report has"))
        }
        EgressRequest::Callback { url, delivery, signature, body_bytes } => {
            let mut body = vec![0; body_bytes];
            stream.read_exact(&mut body).await.map_err(|error| error.to_string())?;
            Ok(AskedFor::Callback(Callback { url, delivery, signature, body: Bytes::from(body) }))
        }
    }
}
