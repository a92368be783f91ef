//! The `submission.*` methods that wait, or that know of the connection's other calls.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::context::{Context, LineReply};
use crate::calls::context::{CallReply, CallResult, ReceivedAt, ResultText};
use crate::calls::error::CallError;
use crate::calls::events::event_body;
use crate::calls::params::params;
use crate::calls::socket_bytes::{ByteAccount, HeldBytes};
use crate::calls::submissions::{admit, arrival, available, find};
use crate::calls::to_value;
use crate::calls::views::state_word;
use config::bounds;
use judge::events::{EventLog, EventReader, NumberedEvent};
use protocol::ReportText;
use protocol::method::Notification;
use protocol::params::{CancelParams, WaitParams};
use protocol::results::{Empty, StillGoing, WaitResult};
use scheduler::{KeptForNextDaemon, SubmissionHandle};

/// Takes `stream` out of the parameters of `submission.run`.
fn take_stream(value: &mut Value) -> Result<bool, CallError> {
    match value.as_object_mut().and_then(|object| object.remove("stream")) {
        None => Ok(false),
        Some(Value::Bool(stream)) => Ok(stream),
        Some(_) => Err(CallError::bad("stream", "stream: must be true or false")),
    }
}

/// A report as a reply, which is timed from when both the call and the report were there. It counts
/// for its account while it waits for its turn.
async fn report_reply(
    context: &Context,
    entry: &SubmissionHandle,
    report: Result<ReportText, KeptForNextDaemon>,
    received: ReceivedAt,
) -> Result<LineReply, CallError> {
    let report = available(report)?;
    let ready_at: Option<Instant> = entry.done_at().map(|done| done.max(received.last_byte));
    let (turn, held) = match context.outbox.turn_now() {
        Some(turn) => (Some(turn), None),
        None => {
            let held = context.account.hold(report.bytes()).ok_or_else(ByteAccount::refusal)?;
            (context.outbox.turn().await, Some(held))
        }
    };
    Ok(LineReply { reply: CallReply { result: ResultText::Report(report), ready_at, held }, turn })
}

pub(super) async fn run(
    context: &Arc<Context>,
    call: &Value,
    mut value: Value,
    received: ReceivedAt,
    mut held: HeldBytes,
) -> Result<LineReply, CallError> {
    let stream = take_stream(&mut value)?;
    let log = EventLog::new(stream);
    // this reader misses no event: the program waits for it
    let events = stream.then(|| log.read_all());
    let admitted = admit(context, value, &held, arrival(received, log.clone(), false)).await?;
    let (entry, has_id) = (admitted.handle, admitted.submission.id.is_some());
    drop(admitted.submission);
    // the submission counts the bytes of its call from now on
    held.resize(bounds::CALL_BYTES.min(held.bytes()));
    context.add_run(call, &entry);
    // a hang-up drops this future, and cancels the run if no other call waits for it
    let _waiting = entry.count_waiting();
    if let Some(events) = events {
        // a submission with a known id has the log of the first call
        let is_ours = Arc::ptr_eq(&entry.io.log, &log);
        forward(context, &entry.id, if is_ours { events } else { entry.io.log.read_from(0) }).await;
    }
    let report = entry.report().await;
    // its answer can be told, so a hang-up cancels nothing
    context.remove_run(call);
    let reply = report_reply(context, &entry, report, received).await;
    if !has_id {
        context.daemon.submissions.forget(&entry);
    }
    reply
}

/// Sends events as they happen, until the submission is done or the connection is gone.
async fn forward(context: &Context, id: &str, mut events: EventReader) {
    while let Some(NumberedEvent { seq, event, dropped_bytes }) = events.next().await {
        let params = || {
            let mut body = event_body(id, seq, event);
            body.dropped_bytes = Some(dropped_bytes).filter(|bytes| *bytes > 0);
            to_value(&body)
        };
        if !context.notify(Notification::SubmissionEvent, params).await {
            return;
        }
    }
}

pub(super) async fn wait(context: &Context, given: Value, received: ReceivedAt) -> Result<LineReply, CallError> {
    let WaitParams { id, tenant, timeout_ms, stream, from_seq } = params(given)?;
    if from_seq.is_some() && !stream {
        return Err(CallError::bad("from_seq", "from_seq: is the start of a stream; set stream as well"));
    }
    let entry = find(context, &id, tenant.as_deref())?;
    let _waiting = entry.count_waiting();
    let waiting = async {
        if stream {
            forward(context, &entry.id, entry.io.log.read_from(from_seq.unwrap_or(0))).await;
        }
        entry.report().await
    };
    let report = match timeout_ms {
        None => Some(waiting.await),
        Some(ms) => tokio::time::timeout(Duration::from_millis(ms), waiting).await.ok(),
    };
    match report {
        Some(report) => {
            let reply = report_reply(context, &entry, report, received).await?;
            context.daemon.submissions.fetched(&entry);
            Ok(reply)
        }
        None => {
            let state = StillGoing { id: entry.id.clone(), state: state_word(&entry.phase()) };
            Ok(CallReply::from(ResultText::of(&WaitResult::State(state))).into())
        }
    }
}

pub(super) fn cancel(context: &Context, given: Value) -> CallResult {
    match params(given)? {
        CancelParams { id: Some(id), tenant, request: None } => find(context, &id, tenant.as_deref())?.cancel(),
        CancelParams { id: None, tenant: None, request: Some(call) } => {
            // cancelling a call that is already answered is not an error
            if let Some(entry) = context.find_run(&call) {
                entry.cancel();
            }
        }
        _ => return Err(CallError::bad("id", "give id (a submission) or request (a call of this connection)")),
    }
    Ok(ResultText::of(&Empty {}))
}
