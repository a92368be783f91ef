//! The `submission.*` methods.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;

use super::context::{CallReply, CallResult, Context, ReceivedAt};
use super::error::CallError;
use super::message::{ResultText, params};
use super::socket_bytes::{ByteAccount, HeldBytes, held_input};
use super::views::state_word;
use super::{decode, history, to_value};
use config::bounds;
use judge::accept::accept;
use judge::events::{EventLog, EventReader, NumberedEvent, SubmissionEvent};
use judge::rejected::Rejected;
use protocol::code::Code;
use protocol::method::Notification;
use protocol::params::{CancelParams, GetParams, IdParams, InputParams, ListParams, WaitParams};
use protocol::report::Output;
use protocol::results::{
    Empty, EventBody, EventData, EventKind, LogRow, StateWord, StillGoing, SubmissionLogs, SubmissionRow,
    SubmissionState, Submissions, Submitted, UsageRow, WaitResult,
};
use protocol::{ReportText, Submission};
use scheduler::{Arrival, DurableRequest, KeptForNextDaemon, Refusal, SubmissionHandle, SubmissionPhase, Viewer};
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

/// A submission that was admitted.
struct Admitted {
    handle: Arc<SubmissionHandle>,
    submission: Submission,
    /// The blobs that it refers to, if it is to be stored.
    blobs: BTreeMap<String, Bytes>,
}

/// Admits the submission in `params`, which `held` counts.
async fn admit(context: &Context, params: Value, held: &HeldBytes, arrival: Arrival) -> Result<Admitted, CallError> {
    let (daemon, bytes) = (&context.daemon, held.bytes());
    let submission = context.account.work(bytes, || submission(params)).await?;
    daemon.submissions.wait_for_first_probe().await;
    let uid = context.peer.uid;
    let blobs = arrival.outlives_caller.then(Mutex::<BTreeMap<String, Bytes>>::default);
    let blob = |id: &str| {
        let content = daemon.blobs.get(uid, id)?;
        if let Some(blobs) = &blobs {
            blobs.lock().insert(id.to_owned(), content.clone());
        }
        Some(content)
    };
    let accept = || accept(&submission, uid, &daemon.live.profiles(), &blob);
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
    let admitted = daemon.submissions.submit(&submission, work, arrival);
    let handle = admitted.map_err(|refusal| refused(uid, &tenant, &language, refusal))?;
    Ok(Admitted { handle, submission, blobs: blobs.map(Mutex::into_inner).unwrap_or_default() })
}

/// The error of a submission that is refused, which is logged.
fn refused(uid: u32, tenant: &str, language: &str, refusal: Refusal) -> CallError {
    let error = CallError::from(refusal);
    let throttle = Code::ALL.iter().zip(&REFUSED).find(|(code, _)| **code == error.code);
    if let Some(suppressed) = throttle.and_then(|(_, throttle)| throttle.allow()) {
        let (tenant, code, error) = (clean(tenant), error.code.as_str(), clean(&error.message));
        tracing::warn!(uid, tenant, language, code, error, suppressed, "submission refused");
    }
    error
}

fn arrival(received: ReceivedAt, log: Arc<EventLog>, outlives_caller: bool) -> Arrival {
    let ReceivedAt { first_byte, last_byte } = received;
    Arrival { received: last_byte, accepting: last_byte.saturating_duration_since(first_byte), log, outlives_caller }
}

/// A report as a reply, which is timed from when both the call and the report were there. It counts
/// for its uid while it waits for its turn.
async fn report_reply(
    context: &Context,
    entry: &SubmissionHandle,
    report: Result<ReportText, KeptForNextDaemon>,
    received: ReceivedAt,
) -> Result<CallReply, CallError> {
    let report = report.map_err(|KeptForNextDaemon| {
        let message = "the daemon is shutting down; the submission is kept and runs after the restart: ask again then";
        CallError::new(Code::Draining, message)
    })?;
    let ready_at: Option<Instant> = entry.done_at().map(|done| done.max(received.last_byte));
    let (turn, held) = match context.outbox.turn_now() {
        Some(turn) => (Some(turn), None),
        None => {
            let held = context.account.hold(report.bytes()).ok_or_else(ByteAccount::refusal)?;
            (context.outbox.turn().await, Some(held))
        }
    };
    Ok(CallReply { result: ResultText::Report(report), ready_at, turn, held })
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

pub(super) async fn submit(context: &Context, value: Value, received: ReceivedAt, held: HeldBytes) -> CallResult {
    let Admitted { handle, submission, blobs } =
        admit(context, value, &held, arrival(received, EventLog::new(true), true)).await?;
    let (submissions, entry) = (context.daemon.submissions.clone(), handle.clone());
    let language = submission.language.clone();
    let request = DurableRequest { submission, blobs, bytes: held.bytes() };
    // a caller that hangs up does not leave it half taken in
    let taken_in = tokio::spawn(async move { submissions.acknowledge(&entry, request).await });
    match taken_in.await {
        Ok(Ok(())) => {}
        Ok(Err(refusal)) => return Err(refused(context.peer.uid, &handle.caller.tenant, &language, refusal)),
        Err(_) => return Err(CallError::new(Code::Internal, "the submission could not be stored")),
    }
    Ok(ResultText::of(&Submitted { id: handle.id.clone() }))
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

fn find(context: &Context, id: &str, tenant: Option<&str>) -> Result<Arc<SubmissionHandle>, CallError> {
    find_known(context, id, tenant).ok_or_else(history::not_found)
}

/// The submission, if memory has it.
fn find_known(context: &Context, id: &str, tenant: Option<&str>) -> Option<Arc<SubmissionHandle>> {
    context.daemon.submissions.find(viewer(context), id, tenant)
}

pub(super) async fn wait(context: &Context, given: Value, received: ReceivedAt) -> Result<CallReply, CallError> {
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
            Ok(ResultText::of(&WaitResult::State(state)).into())
        }
    }
}

/// Feeds the standard input of a program; responds when there is room for more. `held` counts the
/// call, and then its bytes until the program takes them.
pub(super) async fn input(context: &Context, given: Value, held: HeldBytes) -> CallResult {
    let InputParams { id, tenant, data, data_b64, eof } = params(given)?;
    let data = match (data, data_b64) {
        (Some(_), Some(_)) => return Err(CallError::bad("data", "data: give data or data_b64, not both")),
        (Some(text), None) => text.into_bytes(),
        (None, Some(b64)) => decode("data_b64", &b64)?,
        (None, None) => Vec::new(),
    };
    let entry = find(context, &id, tenant.as_deref())?;
    let closed =
        || CallError::bad("id", "id: the input of this submission is not open (any more); submit it with stdin_open");
    let pipe = entry.io.input.as_ref().ok_or_else(closed)?;
    // the submission may end during this wait
    pipe.wait_for_room().await;
    if matches!(entry.phase(), SubmissionPhase::Done(_)) || !(data.is_empty() || pipe.push(held_input(data, held))) {
        return Err(closed());
    }
    if eof {
        pipe.close();
    }
    Ok(ResultText::of(&Empty {}))
}

/// A reply that holds a report, or parts of it, and is counted before it is made.
async fn with_report(
    context: &Context,
    phase: &SubmissionPhase,
    make: impl FnOnce() -> ResultText,
) -> Result<CallReply, CallError> {
    let bytes = if let SubmissionPhase::Done(report) = phase { report.bytes() } else { 0 };
    with_bytes(context, bytes, make).await
}

/// A reply of about so many bytes, which are counted before it is made.
async fn with_bytes(
    context: &Context,
    bytes: usize,
    make: impl FnOnce() -> ResultText,
) -> Result<CallReply, CallError> {
    let held = context.account.hold(bytes).ok_or_else(ByteAccount::refusal)?;
    let result = context.account.work(bytes, make).await;
    Ok(CallReply { held: Some(held), ..CallReply::from(result) })
}

pub(super) async fn get(context: &Context, given: Value) -> Result<CallReply, CallError> {
    let GetParams { id, tenant, history } = params(given)?;
    let known = find_known(context, &id, tenant.as_deref());
    if (history || known.is_none())
        && let Some(found) = history::find_report(context, &id, tenant.as_deref()).await?
    {
        let bytes = found.report.bytes() + found.usage.as_ref().map_or(0, String::len);
        let make = || match history {
            true => history::found_state(&id, &found),
            false => done_state(&id, &found.report),
        };
        return with_bytes(context, bytes, || ResultText::Made(make())).await;
    }
    let entry = known.ok_or_else(history::not_found)?;
    let (phase, id) = (entry.phase(), &entry.id);
    let state = state_word(&phase);
    let make = || match &phase {
        SubmissionPhase::Done(report) => ResultText::Made(done_state(id, report)),
        _ => ResultText::of(&SubmissionState { id, state, report: None, history: None, usage: Vec::new() }),
    };
    with_report(context, &phase, make).await
}

/// [`SubmissionState`] with a report, whose text is copied once.
fn done_state(id: &str, report: &ReportText) -> String {
    let (id, report) = (to_value(&id), report.as_str());
    let state = to_value(&StateWord::Done);
    format!("{{\"id\":{id},\"report\":{report},\"state\":{state}}}")
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

pub(super) async fn list(context: &Context, given: Value) -> CallResult {
    let given: ListParams = params(given)?;
    if given.is_history() {
        return history::list(context, given).await;
    }
    Ok(context.account.work(0, || list_known(context, &given)).await)
}

/// The submissions that memory has.
fn list_known(context: &Context, ListParams { state, tenant, .. }: &ListParams) -> ResultText {
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
                history: None,
            });
        }
    }
    ResultText::of(&Submissions { submissions: rows, next_cursor: None })
}

/// What the logs take of a report: the outputs of a run or test.
#[derive(Default, Deserialize)]
#[serde(default)]
struct LoggedRun {
    name: String,
    stdout: Option<Output>,
    stdout_b64: Option<String>,
    stderr: Option<Output>,
    stderr_b64: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LoggedReport {
    compile: Option<LoggedRun>,
    run: Option<LoggedRun>,
    tests: Vec<LoggedRun>,
}

impl From<LoggedRun> for LogRow {
    fn from(logged: LoggedRun) -> LogRow {
        let LoggedRun { name, stdout, stdout_b64, stderr, stderr_b64 } = logged;
        LogRow { name, stdout, stdout_b64, stderr, stderr_b64 }
    }
}

fn log_rows(report: &ReportText) -> Vec<LogRow> {
    // it is the text of a report
    let LoggedReport { compile, run, tests } = serde_json::from_str(report.as_str()).unwrap_or_default();
    let named = |name: &str, run: Option<LoggedRun>| run.map(|run| LoggedRun { name: name.to_owned(), ..run });
    let all = named("compile", compile).into_iter().chain(named("run", run)).chain(tests);
    all.map(LogRow::from).collect()
}

pub(super) async fn logs(context: &Context, given: Value) -> Result<CallReply, CallError> {
    let IdParams { id, tenant } = params(given)?;
    let Some(entry) = find_known(context, &id, tenant.as_deref()) else {
        let found = history::find_report(context, &id, tenant.as_deref()).await?.ok_or_else(history::not_found)?;
        let (bytes, logs) = (found.report.bytes(), || log_rows(&found.report));
        let make = || ResultText::of(&SubmissionLogs { id, state: StateWord::Done, logs: logs() });
        return with_bytes(context, bytes, make).await;
    };
    let phase = entry.phase();
    let make = || {
        let logs = if let SubmissionPhase::Done(report) = &phase { log_rows(report) } else { Vec::new() };
        ResultText::of(&SubmissionLogs { id: entry.id.clone(), state: state_word(&phase), logs })
    };
    with_report(context, &phase, make).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::Report;
    use serde_json::json;

    fn report() -> (Report, ReportText) {
        let report: Report = serde_json::from_value(json!({
            "id": "i", "verdict": "runtime_error", "message": "m", "blame": null,
            "score": { "passed": 1, "total": 2, "points": 1.0, "max_points": 2.0 }, "timing": {},
            "compile": run(json!({ "stderr": "warning" })),
            "tests": [
                with(run(json!({ "stdout": { "blob": "b" }, "stderr_b64": "/w==" })), "1"),
                with(json!({}), "2"),
            ],
        }))
        .unwrap();
        let text = ReportText::from(&report);
        (report, text)
    }

    fn run(outputs: Value) -> Value {
        let mut run = json!({
            "outcome": "exited", "exit_code": 1, "signal": null, "cpu_ms": 1.5, "wall_ms": 2.0, "memory_bytes": 3,
            "stdout_truncated": false, "evidence": protocol::Evidence::default(),
        });
        run.as_object_mut().unwrap().extend(outputs.as_object().unwrap().clone());
        run
    }

    fn with(mut test: Value, name: &str) -> Value {
        let fields = json!({ "name": name, "verdict": "runtime_error", "message": "" });
        test.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        test
    }

    #[test]
    fn a_state_with_a_report_is_the_json_of_its_type() {
        let (report, text) = report();
        let state = SubmissionState {
            id: "a\"b",
            state: StateWord::Done,
            report: Some(&report),
            history: None,
            usage: Vec::new(),
        };
        assert_eq!(done_state("a\"b", &text), to_value(&state).to_string());
    }

    #[test]
    fn the_logs_are_the_outputs_of_every_step() {
        let logs = to_value(&log_rows(&report().1));
        let expected = json!([
            { "name": "compile", "stderr": "warning" },
            { "name": "1", "stdout": { "blob": "b" }, "stderr_b64": "/w==" },
            { "name": "2" },
        ]);
        assert_eq!(logs, expected);
    }
}
