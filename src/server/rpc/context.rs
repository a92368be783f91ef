//! What the calls of one connection share: the caller, the lines to be written, and the submissions
//! under way.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use serde_json::Value;

use super::connections::CountGuard;
use super::error::CallError;
use super::message::{ResultText, error_response, notification};
use super::outbox::{Outbox, OutgoingLine, Turn};
use super::peer::Peer;
use super::socket_bytes::{ByteAccount, HeldBytes};
use super::state::Daemon;
use protocol::method::Notification;
use scheduler::SubmissionHandle;

/// When a call was received.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReceivedAt {
    pub(super) first_byte: Instant,
    pub(super) last_byte: Instant,
}

/// Result of a call.
#[derive(Debug)]
pub(super) struct CallReply {
    pub(super) result: ResultText,
    /// When the report became available; used to time the reply. `None` for replies that are not
    /// reports.
    pub(super) ready_at: Option<Instant>,
    /// Set if the reply was made in the call's turn.
    pub(super) turn: Option<Turn>,
    /// Counts a reply that had to wait for its turn, or was counted before it was made.
    pub(super) held: Option<HeldBytes>,
}

impl From<ResultText> for CallReply {
    fn from(result: ResultText) -> CallReply {
        CallReply { result, ready_at: None, turn: None, held: None }
    }
}

pub(super) type CallResult = Result<ResultText, CallError>;

pub(super) struct Context {
    pub(super) daemon: Arc<Daemon>,
    pub(super) peer: Peer,
    pub(super) outbox: Outbox,
    /// Counts the bytes of the caller's messages.
    pub(super) account: ByteAccount,
    /// Submissions of `submission.run` calls under way, by the JSON text of the call's id.
    runs: Mutex<HashMap<String, Arc<SubmissionHandle>>>,
    /// Counts the connection as silent until its first call is admitted or answered.
    silent: Mutex<Option<CountGuard>>,
}

impl Context {
    pub(super) fn new(daemon: Arc<Daemon>, peer: Peer, outbox: Outbox, silent: CountGuard) -> Context {
        let account = daemon.connections.byte_account(peer.uid);
        Context { daemon, peer, outbox, account, runs: Mutex::default(), silent: Mutex::new(Some(silent)) }
    }

    /// Sends a notification; waits while the caller does not read. False when the connection is
    /// gone.
    pub(super) async fn notify(&self, name: Notification, params: impl FnOnce() -> Value) -> bool {
        let Some(turn) = self.outbox.turn().await else { return false };
        let text = notification(name, &params());
        let held = Some(self.account.hold_when_free(text.len()).await);
        self.outbox.send(turn, OutgoingLine { held, ..text.into() }).await
    }

    /// Sends the response of a call. False when the connection is gone.
    pub(super) async fn respond(
        &self,
        id: &Value,
        reply: Result<CallReply, CallError>,
        pending: Option<CountGuard>,
    ) -> bool {
        let (result, ready_at, turn, held) = match reply {
            Ok(CallReply { result, ready_at, turn, held }) => (Ok(result), ready_at, turn, held),
            Err(error) => (Err(error), None, None, None),
        };
        let turn = match turn {
            Some(turn) => turn,
            None => match self.outbox.turn().await {
                Some(turn) => turn,
                None => return false,
            },
        };
        let mut held = held.unwrap_or_else(|| self.account.nothing());
        let id = id.to_string();
        // counted before it is made
        let counted = result.and_then(|result| match held.resize(result.line_bytes(&id)) {
            true => Ok(result),
            false => Err(ByteAccount::refusal()),
        });
        let text = match counted {
            Ok(result) => self.account.work(held.bytes(), || result.response(&id)).await,
            Err(error) => {
                let text = error_response(&id, &error);
                if held.resize(text.len()) { text } else { error_response(&id, &ByteAccount::refusal()) }
            }
        };
        self.outbox.send(turn, OutgoingLine { text, ready_at, pending, held: Some(held) }).await
    }

    /// A call of this connection was admitted or answered.
    pub(super) fn mark_heard(&self) {
        *self.silent.lock() = None;
    }

    /// Remembers the submission of a call, so that the call's id can cancel it.
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
}
