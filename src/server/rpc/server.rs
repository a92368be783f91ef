//! The socket: bind, accept, identify.

use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde_json::Value;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::blobs::Blobs;
use super::connection;
use super::metrics::RpcMetrics;
use super::peer::Roles;
use super::types::{Code, RpcError};
use config::bounds;
use protocol::{Counts, Profile};
use sandbox::host::Fleet;
use scheduler::SubmissionService;
use telemetry::liveness::LivenessProbe;
use telemetry::throttle::LogThrottle;

/// What every connection shares.
#[derive(Debug)]
pub struct Daemon {
    /// Instance name and random id.
    pub instance: String,
    /// When it started.
    pub started: Instant,
    /// The hosts.
    pub fleet: Arc<Fleet>,
    /// All submissions.
    pub submissions: Arc<SubmissionService>,
    /// What a reload may change.
    pub live: Arc<Live>,
    /// The blobs.
    pub blobs: Arc<Blobs>,
    /// Told when an admin asks for a drain.
    pub drain: Arc<Notify>,
    /// Asked when an admin wants a reload.
    pub reload: mpsc::Sender<ReloadAsk>,
    /// Connection and refusal counts.
    pub metrics: Arc<RpcMetrics>,
    /// Who is connected.
    pub connections: Connections,
    /// Liveness of the loop that accepts connections.
    pub accept_loop: Arc<LivenessProbe>,
}

/// Takes what a reload came to.
pub type ReloadAsk = oneshot::Sender<Result<Value, String>>;

/// The profiles by name.
pub type Profiles = BTreeMap<String, Arc<Profile>>;

/// What a reload may change under the connections.
#[derive(Debug)]
pub struct Live(Mutex<(Arc<Profiles>, Arc<Roles>)>);

impl Live {
    /// These at first.
    pub fn new(profiles: Profiles, roles: Arc<Roles>) -> Live {
        Live(Mutex::new((Arc::new(profiles), roles)))
    }

    /// These from now on.
    pub fn replace(&self, profiles: Profiles, roles: Arc<Roles>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (Arc::new(profiles), roles);
    }

    /// The profiles now.
    pub fn profiles(&self) -> Arc<Profiles> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// Who may do what now.
    pub fn roles(&self) -> Arc<Roles> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
    }
}

/// Binds the socket. A socket file that nobody listens on is replaced, anything else at that path is left alone.
///
/// # Errors
/// In words: the path is in use, or cannot be made.
pub async fn bind(path: &Path, mode: u32) -> Result<UnixListener, String> {
    let failed = |what: &str, error: std::io::Error| format!("{what} {}: {error}", path.display());
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(|error| failed("make the folder of", error))?;
    }
    match std::fs::symlink_metadata(path) {
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(format!("{} exists and is no socket; choose another socket.path", path.display()));
        }
        Ok(_) => {
            if UnixStream::connect(path).await.is_ok() {
                return Err(format!("another daemon listens on {} already", path.display()));
            }
            std::fs::remove_file(path).map_err(|error| failed("replace", error))?;
        }
        Err(_) => {}
    }
    let listener = UnixListener::bind(path).map_err(|error| failed("listen on", error))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(|error| failed("protect", error))?;
    Ok(listener)
}

/// Connections, by uid.
#[derive(Debug, Clone, Default)]
pub struct Connections {
    places: Arc<Mutex<Counts<u32>>>,
    unheard: Arc<AtomicUsize>,
    owed: Arc<AtomicUsize>,
}

/// One that is counted until it is dropped: a connection of which no call was heard yet, or a report that somebody waits for
/// and that is not written.
#[derive(Debug)]
pub(super) struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn among(count: &Arc<AtomicUsize>) -> Counted {
        count.fetch_add(1, Ordering::Relaxed);
        Counted(count.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One of them, given back when dropped.
struct Place {
    places: Connections,
    uid: u32,
}

impl Connections {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.lock().total()
    }

    /// How many of them were let in and not yet heard: their first call was neither admitted nor answered.
    pub fn unheard(&self) -> usize {
        self.unheard.load(Ordering::Relaxed)
    }

    /// How many calls wait for a report, or have one that is not written yet.
    pub fn owed(&self) -> usize {
        self.owed.load(Ordering::Relaxed)
    }

    pub(super) fn owe(&self) -> Counted {
        Counted::among(&self.owed)
    }

    fn lock(&self) -> MutexGuard<'_, Counts<u32>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, uid: u32) -> Option<Place> {
        let mut counts = self.lock();
        if counts.get(&uid) >= bounds::MAX_CONNECTIONS_PER_UID || counts.total() >= bounds::MAX_CONNECTIONS {
            return None;
        }
        counts.increment(uid);
        Some(Place { places: self.clone(), uid })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().decrement(&self.uid);
    }
}

static NAMELESS: LogThrottle = LogThrottle::new();
static CROWDED: LogThrottle = LogThrottle::new();

/// Says why before the connection closes, as far as the socket takes it at once.
fn refuse(stream: &UnixStream, uid: u32) {
    let (max, max_per_uid) = (bounds::MAX_CONNECTIONS, bounds::MAX_CONNECTIONS_PER_UID);
    if let Some(suppressed) = CROWDED.allow() {
        tracing::warn!(uid, max, max_per_uid, suppressed, "too many connections: one was refused");
    }
    let message = format!("too many connections: at most {max_per_uid} of one uid and {max} in all; close some");
    let error = RpcError {
        retry_after: Some(std::time::Duration::from_secs(1)),
        ..RpcError::new(Code::QuotaExceeded, message)
    };
    let line = serde_json::json!({ "jsonrpc": "2.0", "id": null, "error": error.to_json() });
    let _ = stream.try_write(format!("{line}\n").as_bytes());
}

/// Accepts until `stop` says so; the listener is closed then, which refuses nobody where the service manager holds it too.
/// Connections that are there go on by themselves until `gone` says so.
pub async fn serve(
    listener: UnixListener,
    daemon: Arc<Daemon>,
    mut stop: watch::Receiver<bool>,
    gone: watch::Receiver<bool>,
) {
    let places = daemon.connections.clone();
    let accept_loop = daemon.accept_loop.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = accept_loop.requested() => {
                accept_loop.acknowledge();
                continue;
            }
            _ = stop.wait_for(|stop| *stop) => {
                accept_loop.mark_ended();
                return;
            }
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        let Some(peer) = daemon.live.roles().identify(&stream) else {
            if let Some(suppressed) = NAMELESS.allow() {
                tracing::warn!(suppressed, "a caller without an identity was refused");
            }
            daemon.metrics.count_refused();
            continue;
        };
        let Some(place) = places.take(peer.uid) else {
            refuse(&stream, peer.uid);
            daemon.metrics.count_refused();
            continue;
        };
        let open = daemon.metrics.count_accepted();
        let (daemon, gone, unheard) = (daemon.clone(), gone.clone(), Counted::among(&places.unheard));
        tokio::spawn(async move {
            connection::serve(stream, peer, daemon, unheard, gone).await;
            drop((place, open));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_uid_cannot_take_all_the_connections() {
        let places = Connections::default();
        let taken: Vec<Place> = std::iter::from_fn(|| places.take(1)).collect();
        assert_eq!(taken.len(), bounds::MAX_CONNECTIONS_PER_UID);
        assert!(places.take(2).is_some());
        drop(taken);
        assert!(places.take(1).is_some() && places.count() == 0);
    }
}
