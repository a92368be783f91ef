//! The state that all connections share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{Notify, mpsc, oneshot};

use super::blob_store::MemoryBlobs;
use super::connections::Connections;
use super::metrics::RpcMetrics;
use super::peer::Roles;
use judge::accept::ProfileMap;
use protocol::results::DaemonPhase;
use sandbox::host::Fleet;
use scheduler::SubmissionService;
use telemetry::liveness::LivenessProbe;

/// The daemon as its connections see it.
#[derive(Debug)]
pub struct Daemon {
    /// Name of the instance, and its random id.
    pub instance: String,
    pub started: Instant,
    pub fleet: Arc<Fleet>,
    pub submissions: Arc<SubmissionService>,
    pub live: Arc<Live>,
    pub blobs: Arc<MemoryBlobs>,
    /// Notified when an admin requests a drain.
    pub drain: Arc<Notify>,
    /// Reloads that admins request.
    pub reload: mpsc::Sender<ReloadRequest>,
    pub metrics: Arc<RpcMetrics>,
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
            (false, false) => DaemonPhase::Serving,
        }
    }
}

/// Receives the result of a requested reload.
pub type ReloadRequest = oneshot::Sender<Result<Value, String>>;

/// What a reload can change while connections are open.
#[derive(Debug)]
pub struct Live(Mutex<(Arc<ProfileMap>, Arc<Roles>)>);

impl Live {
    pub fn new(profiles: ProfileMap, roles: Arc<Roles>) -> Live {
        Live(Mutex::new((Arc::new(profiles), roles)))
    }

    pub fn replace(&self, profiles: ProfileMap, roles: Arc<Roles>) {
        *self.0.lock() = (Arc::new(profiles), roles);
    }

    pub fn profiles(&self) -> Arc<ProfileMap> {
        self.0.lock().0.clone()
    }

    pub fn roles(&self) -> Arc<Roles> {
        self.0.lock().1.clone()
    }
}
