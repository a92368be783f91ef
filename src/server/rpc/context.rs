//! What the calls of one connection share: the caller, the lines to be written, and the submissions
//! under way.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;

use super::message::{error_response, line_bytes, notification, response};
use super::outbox::{Outbox, OutgoingLine, Turn};
use crate::calls::connections::CountGuard;
use crate::calls::context::{CallContext, CallReply, ResultText};
use crate::calls::error::CallError;
use crate::calls::socket_bytes::ByteAccount;
use protocol::method::Notification;
use scheduler::SubmissionHandle;

/// The result of a call on its way to the connection.
#[derive(Debug)]
pub(super) struct LineReply {
    pub(super) reply: CallReply,
    /// Set if the reply was made in the call's turn.
    pub(super) turn: Option<Turn>,
}

impl From<CallReply> for LineReply {
    fn from(reply: CallReply) -> LineReply {
        LineReply { reply, turn: None }
    }
}

impl From<ResultText> for LineReply {
    fn from(result: ResultText) -> LineReply {
        CallReply::from(result).into()
    }
}

pub(super) struct Context {
    call: CallContext,
    pub(super) outbox: Outbox,
    /// Submissions of `submission.run` calls under way, by the JSON text of the call's id.
    runs: Mutex<HashMap<String, Arc<SubmissionHandle>>>,
    /// Counts the connection as silent until its first call is admitted or answered.
    silent: Mutex<Option<CountGuard>>,
}

impl Deref for Context {
    type Target = CallContext;

    fn deref(&self) -> &CallContext {
        &self.call
    }
}

impl Context {
    pub(super) fn new(call: CallContext, outbox: Outbox, silent: CountGuard) -> Context {
        Context { call, outbox, runs: Mutex::default(), silent: Mutex::new(Some(silent)) }
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
        reply: Result<LineReply, CallError>,
        pending: Option<CountGuard>,
    ) -> bool {
        let (result, ready_at, turn, held) = match reply {
            Ok(LineReply { reply: CallReply { result, ready_at, held }, turn }) => (Ok(result), ready_at, turn, held),
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
        let counted = result.and_then(|result| match held.resize(line_bytes(&result, &id)) {
            true => Ok(result),
            false => Err(ByteAccount::refusal()),
        });
        let text = match counted {
            Ok(result) => self.account.work(held.bytes(), || response(&result, &id)).await,
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
