//! The socket: binds it, accepts connections and identifies their callers.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

use super::connection;
use crate::calls::error::CallError;
use crate::calls::peer::Peer;
use crate::calls::state::Daemon;
use config::bounds;
use protocol::code::Code;
use telemetry::throttle::LogThrottle;

/// Pause after a failed accept, which mostly means that the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Delay that a refused caller is told to wait.
const CONNECT_RETRY: Duration = Duration::from_secs(1);

/// Binds the socket. Replaces a socket file on which no process listens; leaves any other file
/// alone.
///
/// # Errors
/// A message: the path is in use or cannot be created.
pub async fn bind(path: &Path, mode: u32) -> Result<UnixListener, String> {
    let failed = |what: &str, error: std::io::Error| format!("{what} {}: {error} (socket.path)", path.display());
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(|error| failed("make the folder of", error))?;
    }
    match std::fs::symlink_metadata(path) {
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(format!("{} exists and is not a socket; choose another socket.path", path.display()));
        }
        Ok(_) => {
            if UnixStream::connect(path).await.is_ok() {
                return Err(format!("another daemon already listens on {}", path.display()));
            }
            std::fs::remove_file(path).map_err(|error| failed("replace", error))?;
        }
        Err(_) => {}
    }
    let listener = UnixListener::bind(path).map_err(|error| failed("listen on", error))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(|error| failed("protect", error))?;
    Ok(listener)
}

static UNIDENTIFIED: LogThrottle = LogThrottle::new();
static TOO_MANY: LogThrottle = LogThrottle::new();
static NOT_ACCEPTED: LogThrottle = LogThrottle::new();

/// Sends the reason before the connection closes, if the socket takes it without waiting.
fn refuse(stream: &UnixStream, peer: &Peer) {
    let (max, max_per_uid) = (bounds::MAX_CONNECTIONS, bounds::MAX_CONNECTIONS_PER_UID);
    if let Some(suppressed) = TOO_MANY.allow() {
        tracing::warn!(
            uid = peer.principal.uid(),
            principal = peer.principal.named(),
            max,
            max_per_uid,
            suppressed,
            "connection refused: too many connections"
        );
    }
    let message = format!("too many connections: at most {max_per_uid} of one uid and {max} in all; close some");
    let error = CallError::new(Code::QuotaExceeded, message).retry_after(CONNECT_RETRY);
    let line = serde_json::json!({ "jsonrpc": "2.0", "id": null, "error": error.to_json() });
    let _ = stream.try_write(format!("{line}\n").as_bytes());
}

/// Accepts connections until `stop`, then closes the listener; a socket of the service manager
/// stays open there. Accepted connections continue until `closed`.
pub async fn serve(
    listener: UnixListener,
    daemon: Arc<Daemon>,
    mut stop: watch::Receiver<bool>,
    closed: watch::Receiver<bool>,
) {
    let liveness = daemon.accept_loop.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = liveness.requested() => {
                liveness.acknowledge();
                continue;
            }
            _ = stop.wait_for(|stop| *stop) => {
                liveness.mark_ended();
                return;
            }
        };
        match accepted {
            Ok((stream, _)) => start(stream, &daemon, &closed),
            Err(error) => {
                if let Some(suppressed) = NOT_ACCEPTED.allow() {
                    tracing::warn!(%error, suppressed, "failed to accept a connection");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Starts the task of a connection, or refuses it.
fn start(stream: UnixStream, daemon: &Arc<Daemon>, closed: &watch::Receiver<bool>) {
    let Some(peer) = daemon.live.roles().identify(&stream) else {
        if let Some(suppressed) = UNIDENTIFIED.allow() {
            tracing::warn!(suppressed, "connection refused: the caller's uid is unknown");
        }
        daemon.metrics.count_refused();
        return;
    };
    let Some(slot) = daemon.connections.acquire(peer.principal.account()) else {
        refuse(&stream, &peer);
        daemon.metrics.count_refused();
        return;
    };
    let open = daemon.metrics.count_accepted();
    let (daemon, closed, silent) = (daemon.clone(), closed.clone(), daemon.connections.count_silent());
    tokio::spawn(async move {
        connection::serve(stream, peer, daemon, silent, closed).await;
        drop((slot, open));
    });
}
