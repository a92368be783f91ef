//! Submissions: admission, state, input, logs, lists.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;

use super::context::{CallContext, CallReply, CallResult, ReceivedAt, ResultText};
use super::error::CallError;
use super::params::params;
use super::peer::Peer;
use super::socket_bytes::{ByteAccount, HeldBytes, held_input};
use super::views::state_word;
use super::{decode, history, to_value};
use config::bounds;
use judge::accept::accept;
use judge::events::EventLog;
use judge::rejected::Rejected;
use protocol::code::Code;
use protocol::params::{GetParams, IdParams, InputParams, ListParams};
use protocol::report::Output;
use protocol::results::{
    Empty, LogRow, StateWord, SubmissionLogs, SubmissionRow, SubmissionState, Submissions, Submitted,
};
use protocol::{Principal, ReportText, Submission};
use scheduler::{Arrival, DurableRequest, KeptForNextDaemon, Refusal, SubmissionHandle, SubmissionPhase};
use telemetry::text::clean;
use telemetry::throttle::LogThrottle;

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

/// A submission that was admitted.
pub(crate) struct Admitted {
    pub(crate) handle: Arc<SubmissionHandle>,
    pub(crate) submission: Submission,
    /// The blobs that it refers to, if it is to be stored.
    blobs: BTreeMap<String, Bytes>,
}

/// Sets the tenant of a caller whose tenant is fixed.
fn set_tenant(peer: &Peer, submission: &mut Submission) -> Result<(), CallError> {
    let Some(own) = &peer.tenant else { return Ok(()) };
    match submission.tenant.as_deref() {
        Some(given) if given != &**own => {
            let message = format!("tenant: your token is for the tenant {own:?}; leave the field out");
            Err(CallError::new(Code::Forbidden, message).at_field("tenant"))
        }
        _ => {
            submission.tenant = Some(own.to_string());
            Ok(())
        }
    }
}

/// Admits the submission in `params`, which `held` counts.
pub(crate) async fn admit(
    context: &CallContext,
    params: Value,
    held: &HeldBytes,
    arrival: Arrival,
) -> Result<Admitted, CallError> {
    let submission = context.account.work(held.bytes(), || submission(params)).await?;
    admit_submission(context, submission, held.bytes(), arrival).await
}

/// Admits a submission of about so many bytes.
pub(crate) async fn admit_submission(
    context: &CallContext,
    mut submission: Submission,
    bytes: usize,
    arrival: Arrival,
) -> Result<Admitted, CallError> {
    let (daemon, principal) = (&context.daemon, &context.peer.principal);
    set_tenant(&context.peer, &mut submission)?;
    daemon.submissions.wait_for_first_probe().await;
    let blobs = arrival.outlives_caller.then(Mutex::<BTreeMap<String, Bytes>>::default);
    let blob = |id: &str| {
        let content = daemon.blobs.get(principal, id)?;
        if let Some(blobs) = &blobs {
            blobs.lock().insert(id.to_owned(), content.clone());
        }
        Some(content)
    };
    let accept = || accept(&submission, principal, &daemon.live.profiles(), &blob);
    let accepted = context.account.work(bytes, accept).await;
    let work = accepted.inspect_err(|rejected| {
        if matches!(rejected, Rejected::Denied { .. })
            && let Some(suppressed) = DENIED.allow()
        {
            let field = rejected.field().escape_debug();
            tracing::warn!(uid = principal.uid(), principal = principal.named(), suppressed, %field, "security: submission denied by policy");
        }
    })?;
    let (tenant, language) = (work.caller.tenant.clone(), work.profile.name.clone());
    let admitted = daemon.submissions.submit(&submission, work, arrival);
    let handle = admitted.map_err(|refusal| refused(principal, &tenant, &language, refusal))?;
    if matches!(principal, Principal::Anonymous(_)) {
        handle.cancel_after(bounds::ANONYMOUS_TIME);
    }
    Ok(Admitted { handle, submission, blobs: blobs.map(Mutex::into_inner).unwrap_or_default() })
}

/// What callers without a uid are told when no engine answers; the log and health say why.
const NO_HOST: &str = "no Docker host is up; try again later";

/// The error of a submission that is refused, which is logged.
fn refused(principal: &Principal, tenant: &str, language: &str, refusal: Refusal) -> CallError {
    let error = CallError::from(refusal);
    let throttle = Code::ALL.iter().zip(&REFUSED).find(|(code, _)| **code == error.code);
    if let Some(suppressed) = throttle.and_then(|(_, throttle)| throttle.allow()) {
        let (tenant, code, error) = (clean(tenant), error.code.as_str(), clean(&error.message));
        tracing::warn!(
            uid = principal.uid(),
            principal = principal.named(),
            tenant,
            language,
            code,
            error,
            suppressed,
            "submission refused"
        );
    }
    // a caller from elsewhere need not know addresses of engines
    match error.code {
        Code::NoHost if principal.uid().is_none() => CallError { message: NO_HOST.to_owned(), ..error },
        _ => error,
    }
}

pub(crate) fn arrival(received: ReceivedAt, log: Arc<EventLog>, outlives_caller: bool) -> Arrival {
    let ReceivedAt { first_byte, last_byte } = received;
    Arrival { received: last_byte, accepting: last_byte.saturating_duration_since(first_byte), log, outlives_caller }
}

pub(crate) async fn submit(context: &CallContext, value: Value, received: ReceivedAt, held: HeldBytes) -> CallResult {
    let submission = context.account.work(held.bytes(), || submission(value)).await?;
    let id = submit_submission(context, submission, received, held).await?;
    Ok(ResultText::of(&Submitted { id }))
}

/// Takes a submission in durably; returns its id.
pub(crate) async fn submit_submission(
    context: &CallContext,
    submission: Submission,
    received: ReceivedAt,
    held: HeldBytes,
) -> Result<String, CallError> {
    let arrival = arrival(received, EventLog::new(true), true);
    let Admitted { handle, submission, blobs } = admit_submission(context, submission, held.bytes(), arrival).await?;
    let (submissions, entry) = (context.daemon.submissions.clone(), handle.clone());
    let language = submission.language.clone();
    let request = DurableRequest { submission, blobs, bytes: held.bytes() };
    // a caller that hangs up does not leave it half taken in
    let taken_in = tokio::spawn(async move { submissions.acknowledge(&entry, request).await });
    match taken_in.await {
        Ok(Ok(())) => {}
        Ok(Err(refusal)) => return Err(refused(&context.peer.principal, &handle.caller.tenant, &language, refusal)),
        Err(_) => return Err(CallError::new(Code::Internal, "the submission could not be stored")),
    }
    Ok(handle.id.clone())
}

/// The report, if the daemon that made it is still there to give it.
pub(crate) fn available(report: Result<ReportText, KeptForNextDaemon>) -> Result<ReportText, CallError> {
    report.map_err(|KeptForNextDaemon| {
        let message = "the daemon is shutting down; the submission is kept and runs after the restart: ask again then";
        CallError::new(Code::Draining, message)
    })
}

pub(crate) fn find(context: &CallContext, id: &str, tenant: Option<&str>) -> Result<Arc<SubmissionHandle>, CallError> {
    context.peer.visible_tenant(tenant)?;
    find_known(context, id, tenant).ok_or_else(history::not_found)
}

/// The submission, if memory has it.
pub(crate) fn find_known(context: &CallContext, id: &str, tenant: Option<&str>) -> Option<Arc<SubmissionHandle>> {
    let tenant = context.peer.visible_tenant(tenant).ok()?;
    context.daemon.submissions.find(&context.viewer(), id, tenant)
}

pub(crate) async fn input(context: &CallContext, given: Value, held: HeldBytes) -> CallResult {
    feed(context, params(given)?, held).await?;
    Ok(ResultText::of(&Empty {}))
}

/// Feeds the standard input of a program; returns when there is room for more. `held` counts the
/// call, and then its bytes until the program takes them.
pub(crate) async fn feed(context: &CallContext, given: InputParams, held: HeldBytes) -> Result<(), CallError> {
    let InputParams { id, tenant, data, data_b64, eof } = given;
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
    Ok(())
}

/// A reply that holds a report, or parts of it, and is counted before it is made.
async fn with_report(
    context: &CallContext,
    phase: &SubmissionPhase,
    make: impl FnOnce() -> ResultText,
) -> Result<CallReply, CallError> {
    let bytes = if let SubmissionPhase::Done(report) = phase { report.bytes() } else { 0 };
    with_bytes(context, bytes, make).await
}

/// A reply of about so many bytes, which are counted before it is made.
async fn with_bytes(
    context: &CallContext,
    bytes: usize,
    make: impl FnOnce() -> ResultText,
) -> Result<CallReply, CallError> {
    let held = context.account.hold(bytes).ok_or_else(ByteAccount::refusal)?;
    let result = context.account.work(bytes, make).await;
    Ok(CallReply { held: Some(held), ..CallReply::from(result) })
}

pub(crate) async fn get(context: &CallContext, given: Value) -> Result<CallReply, CallError> {
    get_state(context, params(given)?).await
}

/// The state of a submission, and its report when it is done.
pub(crate) async fn get_state(context: &CallContext, given: GetParams) -> Result<CallReply, CallError> {
    let GetParams { id, tenant, history } = given;
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

pub(crate) async fn list(context: &CallContext, given: Value) -> CallResult {
    list_of(context, params(given)?).await
}

/// Submissions that are known, or history.
pub(crate) async fn list_of(context: &CallContext, given: ListParams) -> CallResult {
    if given.is_history() {
        return history::list(context, given).await;
    }
    let tenant = context.peer.visible_tenant(given.tenant.as_deref())?;
    Ok(context.account.work(0, || list_known(context, given.state.as_deref(), tenant)).await)
}

/// The submissions that memory has.
fn list_known(context: &CallContext, state: Option<&str>, tenant: Option<&str>) -> ResultText {
    let mut rows = Vec::new();
    for entry in context.daemon.submissions.list(&context.viewer()) {
        let word = state_word(&entry.phase());
        let is_match = state.is_none_or(|state| state == word.as_str())
            && tenant.is_none_or(|tenant| tenant == entry.caller.tenant);
        if is_match {
            rows.push(SubmissionRow {
                id: entry.id.clone(),
                state: word,
                uid: entry.caller.principal.uid(),
                principal: entry.caller.principal.named(),
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

pub(crate) async fn logs(context: &CallContext, given: Value) -> Result<CallReply, CallError> {
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
