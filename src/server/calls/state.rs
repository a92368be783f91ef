//! The state that all calls share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{Notify, mpsc, oneshot};

use super::blob_store::MemoryBlobs;
use super::connections::Connections;
use super::metrics::ServerMetrics;
use super::peer::Roles;
use crate::http::access::AccessControl;
use judge::accept::ProfileMap;
use protocol::ReusePolicy;
use protocol::results::DaemonPhase;
use sandbox::host::Fleet;
use scheduler::SubmissionService;
use telemetry::liveness::LivenessProbe;

/// The daemon as its callers see it.
#[derive(Debug)]
pub struct Daemon {
    /// Name of the instance, and its random id.
    pub instance: String,
    /// The commit that the daemon was built from; empty if that is not known.
    pub commit: &'static str,
    pub started: Instant,
    pub fleet: Arc<Fleet>,
    pub submissions: Arc<SubmissionService>,
    pub live: Arc<Live>,
    /// Who may use the HTTP API.
    pub access: Arc<AccessControl>,
    pub blobs: Arc<MemoryBlobs>,
    /// Notified when an admin requests a drain.
    pub drain: Arc<Notify>,
    /// Reloads that admins request.
    pub reload: mpsc::Sender<ReloadRequest>,
    pub metrics: Arc<ServerMetrics>,
    pub connections: Connections,
    /// Liveness of the loop that accepts connections.
    pub accept_loop: Arc<LivenessProbe>,
    /// Set when new connections are left to the next daemon.
    pub handing_over: AtomicBool,
}

impl Daemon {
    pub fn phase(&self) -> DaemonPhase {
        match (self.submissions.is_draining(), self.handing_over.load(Ordering::Relaxed)) {
            (true, _) => DaemonPhase::Draining,
            (false, true) => DaemonPhase::HandingOver,
            (false, false) if self.submissions.is_paused() => DaemonPhase::Paused,
            (false, false) => DaemonPhase::Serving,
        }
    }
}

/// Receives the result of a requested reload.
pub type ReloadRequest = oneshot::Sender<Result<Value, String>>;

/// What a reload can change while connections are open.
#[derive(Debug)]
pub struct Live(Mutex<LiveSettings>);

/// The settings of [`Live`].
#[derive(Debug)]
pub struct LiveSettings {
    pub profiles: Arc<ProfileMap>,
    pub roles: Arc<Roles>,
    pub reuse: ReusePolicy,
}

impl Live {
    pub fn new(settings: LiveSettings) -> Live {
        Live(Mutex::new(settings))
    }

    pub fn replace(&self, settings: LiveSettings) {
        *self.0.lock() = settings;
    }

    pub fn profiles(&self) -> Arc<ProfileMap> {
        self.0.lock().profiles.clone()
    }

    pub fn roles(&self) -> Arc<Roles> {
        self.0.lock().roles.clone()
    }

    /// Whose used sandboxes serve again.
    pub fn reuse(&self) -> ReusePolicy {
        self.0.lock().reuse
    }
}
