//! The `submission.*` methods.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

use super::context::{CallReply, CallResult, Context, ReceivedAt};
use super::error::CallError;
use super::message::params;
use super::outbox::Turn;
use super::socket_bytes::{ByteAccount, HeldBytes};
use super::views::state_word;
use super::{decode, to_value};
use config::bounds;
use judge::accept::accept;
use judge::events::{EventLog, EventReader, NumberedEvent, SubmissionEvent};
use judge::rejected::Rejected;
use protocol::code::Code;
use protocol::method::Notification;
use protocol::params::{CancelParams, IdParams, InputParams, ListParams, WaitParams};
use protocol::results::{
    Empty, EventBody, EventData, EventKind, LogRow, StillGoing, SubmissionLogs, SubmissionRow, SubmissionState,
    Submissions, Submitted, UsageRow, WaitResult,
};
use protocol::{Report, RunReport, Submission};
use scheduler::{Arrival, KeptForNextDaemon, SubmissionHandle, SubmissionPhase, Viewer};
use telemetry::text::clean;
use telemetry::throttle::LogThrottle;
use wire::frame::OutputStream;

static DENIED: LogThrottle = LogThrottle::new();
/// By code: a flood of one must not hide another.
static REFUSED: [LogThrottle; Code::ALL.len()] = [const { LogThrottle::new() }; Code::ALL.len()];

/// The submission in `params`: its fields directly, or under `submission`. Callers use both forms.
fn submission(mut value: Value) -> Result<Submission, CallError> {
    match value.get_mut("submission").map(Value::take) {
        None => params(value),
        Some(inner) => match value.as_object().and_then(|object| object.keys().find(|key| *key != "submission")) {
            None => params(inner),
            Some(other) => {
                Err(CallError::bad(other, format!("{other}: is not allowed in addition to submission; move it inside")))
            }
        },
    }
}

/// Takes `stream` out of the parameters of `submission.run`.
fn take_stream(value: &mut Value) -> Result<bool, CallError> {
    match value.as_object_mut().and_then(|object| object.remove("stream")) {
        None => Ok(false),
        Some(Value::Bool(stream)) => Ok(stream),
        Some(_) => Err(CallError::bad("stream", "stream: must be true or false")),
    }
}

/// Admits the submission in `params`, which `held` counts until then; it counts the call from then
/// on. Returns also whether the caller gave it an id.
async fn admit(
    context: &Context,
    params: Value,
    held: &mut HeldBytes,
    arrival: Arrival,
) -> Result<(Arc<SubmissionHandle>, bool), CallError> {
    let (daemon, bytes) = (&context.daemon, held.bytes());
    let submission = &context.account.work(bytes, || submission(params)).await?;
    daemon.submissions.wait_for_first_probe().await;
    let uid = context.peer.uid;
    let accept = || accept(submission, uid, &daemon.live.profiles(), &|id| daemon.blobs.get(uid, id));
    let accepted = context.account.work(bytes, accept).await;
    let work = accepted.inspect_err(|rejected| {
        if matches!(rejected, Rejected::Denied { .. })
            && let Some(suppressed) = DENIED.allow()
        {
            let field = rejected.field().escape_debug();
            tracing::warn!(uid, suppressed, %field, "security: submission denied by policy");
        }
    })?;
    let (tenant, language) = (work.caller.tenant.clone(), work.profile.name.clone());
    let admitted = daemon.submissions.submit(submission, work, arrival).map_err(|refusal| {
        let error = CallError::from(refusal);
        let throttle = Code::ALL.iter().zip(&REFUSED).find(|(code, _)| **code == error.code);
        if let Some(suppressed) = throttle.and_then(|(_, throttle)| throttle.allow()) {
            let (tenant, code, error) = (clean(&tenant), error.code.as_str(), clean(&error.message));
            tracing::warn!(uid, tenant, language, code, error, suppressed, "submission refused");
        }
        error
    })?;
    held.resize(bounds::CALL_BYTES.min(bytes));
    Ok((admitted, submission.id.is_some()))
}

fn arrival(received: ReceivedAt, log: Arc<EventLog>, outlives_caller: bool) -> Arrival {
    let ReceivedAt { first_byte, last_byte } = received;
    Arrival { received: last_byte, accepting: last_byte.saturating_duration_since(first_byte), log, outlives_caller }
}

/// A report as a reply, which is timed from when both the call and the report were there.
async fn report_reply(
    context: &Context,
    entry: &SubmissionHandle,
    report: Result<Arc<Report>, KeptForNextDaemon>,
    received: ReceivedAt,
) -> Result<CallReply, CallError> {
    let report = report.map_err(|KeptForNextDaemon| {
        let message = "the daemon is shutting down; the submission is kept and runs after the restart: ask again then";
        CallError::new(Code::Draining, message)
    })?;
    let ready_at: Option<Instant> = entry.done_at().map(|done| done.max(received.last_byte));
    let (turn, held) = report_turn(context, &report).await?;
    let size = held.as_ref().map_or(0, HeldBytes::bytes);
    let value = context.account.work(size, || serialize(&*report)).await?;
    Ok(CallReply { value, ready_at, turn, held })
}

/// Waits for the turn of a report, which counts for its uid meanwhile.
async fn report_turn(context: &Context, report: &Report) -> Result<(Option<Turn>, Option<HeldBytes>), CallError> {
    if let Some(turn) = context.outbox.turn_now() {
        return Ok((Some(turn), None));
    }
    let mut size = ByteCount(0);
    serde_json::to_writer(&mut size, report).map_err(|error| CallError::new(Code::Internal, error.to_string()))?;
    let held = context.account.hold(size.0).ok_or_else(ByteAccount::refusal)?;
    Ok((context.outbox.turn().await, Some(held)))
}

/// Counts what is written, and keeps nothing.
struct ByteCount(usize);

impl std::io::Write for ByteCount {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn serialize(value: &impl serde::Serialize) -> CallResult {
    serde_json::to_value(value).map_err(|error| CallError::new(Code::Internal, error.to_string()))
}

pub(super) async fn run(
    context: &Arc<Context>,
    call: &Value,
    mut value: Value,
    received: ReceivedAt,
    mut held: HeldBytes,
) -> Result<CallReply, CallError> {
    let stream = take_stream(&mut value)?;
    let log = EventLog::new(stream);
    // this reader misses no event: the program waits for it
    let events = stream.then(|| log.read_all());
    let (entry, has_id) = admit(context, value, &mut held, arrival(received, log.clone(), false)).await?;
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

pub(super) async fn submit(context: &Context, value: Value, received: ReceivedAt, mut held: HeldBytes) -> CallResult {
    let (entry, _) = admit(context, value, &mut held, arrival(received, EventLog::new(true), true)).await?;
    Ok(to_value(&Submitted { id: entry.id.clone() }))
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

fn event_body(id: &str, seq: u64, event: SubmissionEvent) -> EventBody {
    let body =
        |kind, test, data| EventBody { id: id.to_owned(), seq, kind, test, data, data_b64: None, dropped_bytes: None };
    match event {
        SubmissionEvent::Accepted => body(EventKind::Accepted, None, None),
        SubmissionEvent::Running => body(EventKind::State, None, Some(EventData::Text("running".to_owned()))),
        SubmissionEvent::Compile { outcome } => body(EventKind::Compile, None, Some(EventData::Outcome(outcome))),
        SubmissionEvent::Test { name, verdict } => body(EventKind::Test, Some(name), Some(EventData::Verdict(verdict))),
        SubmissionEvent::Usage { test, usage } => {
            let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
            let data = UsageRow { wall_ms: ms(usage.wall), cpu_ms: ms(usage.cpu), memory_bytes: usage.memory_bytes };
            body(EventKind::Usage, test, Some(EventData::Usage(data)))
        }
        SubmissionEvent::Output { test, stream, data } => {
            let kind = match stream {
                OutputStream::Stdout => EventKind::Stdout,
                OutputStream::Stderr => EventKind::Stderr,
            };
            match String::from_utf8(data) {
                Ok(text) => body(kind, test, Some(EventData::Text(text))),
                Err(error) => EventBody { data_b64: Some(BASE64.encode(error.as_bytes())), ..body(kind, test, None) },
            }
        }
    }
}

fn viewer(context: &Context) -> Viewer {
    if context.peer.is_admin { Viewer::Admin } else { Viewer::Uid(context.peer.uid) }
}

fn find(context: &Context, id: &str) -> Result<Arc<SubmissionHandle>, CallError> {
    let found = context.daemon.submissions.find(viewer(context), id);
    found.ok_or_else(|| CallError::new(Code::NotFound, "id: you have no such submission (any more)").at_field("id"))
}

pub(super) async fn wait(context: &Context, given: Value, received: ReceivedAt) -> Result<CallReply, CallError> {
    let WaitParams { id, timeout_ms, stream, from_seq } = params(given)?;
    if from_seq.is_some() && !stream {
        return Err(CallError::bad("from_seq", "from_seq: is the start of a stream; set stream as well"));
    }
    let entry = find(context, &id)?;
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
        Some(report) => report_reply(context, &entry, report, received).await,
        None => {
            let state = StillGoing { id: entry.id.clone(), state: state_word(&entry.phase()) };
            Ok(to_value(&WaitResult::State(state)).into())
        }
    }
}

/// Feeds the standard input of a program; responds when there is room for more.
pub(super) async fn input(context: &Context, given: Value) -> CallResult {
    let InputParams { id, data, data_b64, eof } = params(given)?;
    let data = match (data, data_b64) {
        (Some(_), Some(_)) => return Err(CallError::bad("data", "data: give data or data_b64, not both")),
        (Some(text), None) => text.into_bytes(),
        (None, Some(b64)) => decode("data_b64", &b64)?,
        (None, None) => Vec::new(),
    };
    let entry = find(context, &id)?;
    let closed =
        || CallError::bad("id", "id: the input of this submission is not open (any more); submit it with stdin_open");
    let pipe = entry.io.input.as_ref().ok_or_else(closed)?;
    // the submission may end during this wait
    pipe.wait_for_room().await;
    if matches!(entry.phase(), SubmissionPhase::Done(_)) || !(data.is_empty() || pipe.push(data.into())) {
        return Err(closed());
    }
    if eof {
        pipe.close();
    }
    Ok(to_value(&Empty {}))
}

pub(super) fn get(context: &Context, given: Value) -> CallResult {
    let entry = find(context, &params::<IdParams>(given)?.id)?;
    let state = entry.phase();
    let report = if let SubmissionPhase::Done(report) = &state { Some(report.as_ref()) } else { None };
    serialize(&SubmissionState { id: &entry.id, state: state_word(&state), report })
}

pub(super) fn cancel(context: &Context, given: Value) -> CallResult {
    match params(given)? {
        CancelParams { id: Some(id), request: None } => find(context, &id)?.cancel(),
        CancelParams { id: None, request: Some(call) } => {
            // cancelling a call that is already answered is not an error
            if let Some(entry) = context.find_run(&call) {
                entry.cancel();
            }
        }
        _ => return Err(CallError::bad("id", "give id (a submission) or request (a call of this connection)")),
    }
    Ok(to_value(&Empty {}))
}

pub(super) fn list(context: &Context, given: Value) -> CallResult {
    let ListParams { state, tenant } = params(given)?;
    let mut rows = Vec::new();
    for entry in context.daemon.submissions.list(viewer(context)) {
        let word = state_word(&entry.phase());
        let is_match = state.as_deref().is_none_or(|state| state == word.as_str())
            && tenant.as_deref().is_none_or(|tenant| tenant == entry.caller.tenant);
        if is_match {
            rows.push(SubmissionRow {
                id: entry.id.clone(),
                state: word,
                uid: entry.caller.uid,
                tenant: entry.caller.tenant.clone(),
            });
        }
    }
    Ok(to_value(&Submissions { submissions: rows }))
}

fn log_row(name: &str, run: &RunReport) -> LogRow {
    LogRow {
        name: name.to_owned(),
        stdout: run.stdout.clone(),
        stdout_b64: run.stdout_b64.clone(),
        stderr: run.stderr.clone(),
        stderr_b64: run.stderr_b64.clone(),
    }
}

pub(super) fn logs(context: &Context, given: Value) -> CallResult {
    let entry = find(context, &params::<IdParams>(given)?.id)?;
    let state = entry.phase();
    let mut logs = Vec::new();
    if let SubmissionPhase::Done(report) = &state {
        logs.extend(report.compile.as_ref().map(|run| log_row("compile", run)));
        logs.extend(report.run.as_ref().map(|run| log_row("run", run)));
        logs.extend(report.tests.iter().map(|test| match &test.run {
            Some(run) => log_row(&test.name, run),
            None => LogRow { name: test.name.clone(), ..LogRow::default() },
        }));
    }
    serialize(&SubmissionLogs { id: entry.id.clone(), state: state_word(&state), logs })
}
