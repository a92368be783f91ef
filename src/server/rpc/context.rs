//! What the calls of one connection share: the caller, the outbound queue, and the submissions
//! under way.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::mpsc;

use super::connections::CountGuard;
use super::error::CallError;
use super::message::notification;
use super::peer::Peer;
use super::state::Daemon;
use protocol::method::Notification;
use scheduler::SubmissionHandle;

/// When a call was received.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReceivedAt {
    pub(super) first_byte: Instant,
    pub(super) last_byte: Instant,
}

/// A line to be written.
pub(super) struct OutgoingLine {
    pub(super) text: String,
    /// When the report became available. `None` for lines that are not reports.
    pub(super) ready_at: Option<Instant>,
    /// Counts the report as pending until the line is written.
    pub(super) pending: Option<CountGuard>,
}

impl From<String> for OutgoingLine {
    fn from(text: String) -> OutgoingLine {
        OutgoingLine { text, ready_at: None, pending: None }
    }
}

/// Result of a call.
#[derive(Debug)]
pub(super) struct CallReply {
    pub(super) value: Value,
    /// When the report became available; used to time the reply. `None` for replies that are not
    /// reports.
    pub(super) ready_at: Option<Instant>,
}

impl From<Value> for CallReply {
    fn from(value: Value) -> CallReply {
        CallReply { value, ready_at: None }
    }
}

pub(super) type CallResult = Result<Value, CallError>;

pub(super) struct Context {
    pub(super) daemon: Arc<Daemon>,
    pub(super) peer: Peer,
    pub(super) outbound: mpsc::Sender<OutgoingLine>,
    /// Submissions of `submission.run` calls under way, by the JSON text of the call's id.
    runs: Mutex<HashMap<String, Arc<SubmissionHandle>>>,
    /// Counts the connection as silent until its first call is admitted or answered.
    silent: Mutex<Option<CountGuard>>,
}

impl Context {
    pub(super) fn new(
        daemon: Arc<Daemon>,
        peer: Peer,
        outbound: mpsc::Sender<OutgoingLine>,
        silent: CountGuard,
    ) -> Context {
        Context { daemon, peer, outbound, runs: Mutex::default(), silent: Mutex::new(Some(silent)) }
    }

    /// Sends a notification; waits while the queue is full. False when the connection is gone.
    pub(super) async fn notify(&self, name: Notification, params: &Value) -> bool {
        self.outbound.send(notification(name, params).into()).await.is_ok()
    }

    /// A call of this connection was admitted or answered.
    pub(super) fn mark_heard(&self) {
        *self.silent.lock() = None;
    }

    /// Remembers the submission of a call, so that the call's id and a hang-up can cancel it.
    pub(super) fn add_run(&self, call: &Value, entry: &Arc<SubmissionHandle>) {
        self.mark_heard();
        self.runs.lock().insert(call.to_string(), entry.clone());
    }

    pub(super) fn remove_run(&self, call: &Value) {
        self.runs.lock().remove(&call.to_string());
    }

    pub(super) fn find_run(&self, call: &Value) -> Option<Arc<SubmissionHandle>> {
        self.runs.lock().get(&call.to_string()).cloned()
    }

    pub(super) fn cancel_runs(&self) {
        self.runs.lock().values().for_each(|entry| entry.cancel());
    }
}
