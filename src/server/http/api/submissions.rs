//! Submissions: hand in, look at, wait, cancel, feed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::header::LOCATION;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::body::{self, JsonBody};
use super::call::ApiCall;
use super::problem::Problem;
use super::query::{Id, Params};
use super::reply;
use crate::calls::context::{CallContext, CallReply, ReceivedAt, ResultText};
use crate::calls::error::CallError;
use crate::calls::params::params;
use crate::calls::socket_bytes::HeldBytes;
use crate::calls::submissions::{self, Admitted};
use crate::calls::{history, to_value};
use crate::http::access::ApiAction;
use config::bounds;
use judge::events::EventLog;
use protocol::Submission;
use protocol::http::{InputBody, StateQuery, SubmitQuery, TenantQuery};
use protocol::params::{GetParams, IdParams, InputParams, ListParams};
use protocol::results::{StateWord, Submitted};
use scheduler::{SubmissionHandle, SubmissionPhase};

/// The header that names a submission, so that a request can be sent again.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Takes the id from the header, if the JSON has none.
pub(super) fn set_id(headers: &HeaderMap, submission: &mut Submission) -> Result<(), CallError> {
    let mut keys = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(key) = keys.next() else { return Ok(()) };
    let wrong = |message: &str| Err(CallError::bad("id", format!("id: {message}")));
    let (Ok(key), None) = (key.to_str(), keys.next()) else {
        return wrong("Idempotency-Key must be there once, as text");
    };
    match &submission.id {
        Some(id) if id != key => wrong("Idempotency-Key is another one than id; give one of them"),
        _ => {
            submission.id = Some(key.to_owned());
            Ok(())
        }
    }
}

/// Parses the submission of a body.
async fn submission(call: &ApiCall, headers: &HeaderMap, body: JsonBody) -> Result<(Submission, HeldBytes), Problem> {
    let JsonBody { value, held, .. } = body;
    let parsed = call.context.account.work(held.bytes(), || params::<Submission>(value)).await;
    let mut submission = parsed?;
    set_id(headers, &mut submission)?;
    Ok((submission, held))
}

/// Judges a submission while its caller waits. A hang-up drops this, and cancels the run unless
/// another call waits for it.
pub(super) async fn judge(
    context: &CallContext,
    submission: Submission,
    received: ReceivedAt,
    mut held: HeldBytes,
) -> Result<protocol::ReportText, CallError> {
    let arrival = submissions::arrival(received, EventLog::new(false), false);
    let admitted = submissions::admit_submission(context, submission, held.bytes(), arrival).await;
    let Admitted { handle, submission, .. } = admitted.inspect_err(|error| context.count_refused(error))?;
    let has_id = submission.id.is_some();
    drop(submission);
    // the submission counts the bytes of its call from now on
    held.resize(bounds::CALL_BYTES.min(held.bytes()));
    let _waiting = handle.count_waiting();
    let report = submissions::available(handle.report().await);
    if !has_id {
        context.daemon.submissions.forget(&handle);
    }
    report
}

pub(super) async fn create(
    call: ApiCall,
    Params(SubmitQuery { wait }): Params<SubmitQuery>,
    request: Request,
) -> Result<Response, Problem> {
    let first_byte = Instant::now();
    let (parts, body) = request.into_parts();
    let context = &call.context;
    let body = body::json(&context.account, &parts.headers, body).await?;
    // a shutdown waits for the answer
    let _pending = context.daemon.connections.count_pending_report();
    call.check_current()?;
    let received = ReceivedAt { first_byte, last_byte: body.received };
    let (mut submission, held) = submission(&call, &parts.headers, body).await?;
    if submission.id.is_some() {
        call.may(ApiAction::SubmitNamed)?;
    }
    submission.fresh |= call.identity.is_one_shot();
    if wait {
        let report = call.while_current(judge(context, submission, received, held)).await?;
        let result = ResultText::Report(report);
        return reply::counted(&context.account, CallReply::from(result));
    }
    call.may(ApiAction::SubmitLater)?;
    let submitted = submissions::submit_submission(context, submission, received, held).await;
    let id = submitted.inspect_err(|error| context.count_refused(error))?;
    let location = HeaderValue::try_from(path_of(&id));
    let mut response = reply::json(StatusCode::ACCEPTED, Body::from(to_value(&Submitted { id }).to_string()));
    response.headers_mut().extend(location.ok().map(|location| (LOCATION, location)));
    Ok(response)
}

/// The path of a submission.
fn path_of(id: &str) -> String {
    format!("/api/v1/submissions/{}", percent_encoding::utf8_percent_encode(id, percent_encoding::NON_ALPHANUMERIC))
}

/// A page of history; with `state=queued` or `running`, what is not done yet.
pub(super) async fn list(call: ApiCall, Params(mut given): Params<ListParams>) -> Result<Response, Problem> {
    let context = &call.context;
    let words = [StateWord::Queued, StateWord::Running, StateWord::Done].map(StateWord::as_str);
    if given.state.as_deref().is_some_and(|state| !words.contains(&state)) {
        return Err(CallError::bad("state", format!("state: must be {}", words.join(" or "))).into());
    }
    let is_unfinished = given.state.as_deref().is_some_and(|state| state != StateWord::Done.as_str());
    if !is_unfinished && context.daemon.submissions.store().get().is_some() {
        given.limit.get_or_insert(history::PAGE_ROWS);
    }
    let result = submissions::list_of(context, given).await?;
    reply::counted(&context.account, result.into())
}

/// Waits for a report, at most so long.
async fn wait_for_report(handle: &Arc<SubmissionHandle>, wait_ms: u64) -> Result<(), CallError> {
    let most = bounds::MAX_WAIT.as_millis() as u64;
    if wait_ms > most {
        return Err(CallError::bad("wait_ms", format!("wait_ms: must be 0 to {most}; ask again for more")));
    }
    let _waiting = handle.count_waiting();
    let _ = tokio::time::timeout(Duration::from_millis(wait_ms), handle.report()).await;
    Ok(())
}

pub(super) async fn state(
    call: ApiCall,
    Id(id): Id,
    Params(StateQuery { tenant, wait_ms, history }): Params<StateQuery>,
) -> Result<Response, Problem> {
    let context = &call.context;
    let known = submissions::find_known(context, &id, tenant.as_deref());
    if let (Some(handle), Some(wait_ms)) = (&known, wait_ms) {
        call.while_current(wait_for_report(handle, wait_ms)).await?;
    }
    let done = known.filter(|handle| matches!(handle.phase(), SubmissionPhase::Done(_)));
    let reply = submissions::get_state(context, GetParams { id, tenant, history }).await?;
    if let Some(handle) = done {
        context.daemon.submissions.fetched(&handle);
    }
    reply::counted(&context.account, reply)
}

pub(super) async fn cancel(
    call: ApiCall,
    Id(id): Id,
    Params(TenantQuery { tenant }): Params<TenantQuery>,
) -> Result<StatusCode, Problem> {
    submissions::find(&call.context, &id, tenant.as_deref())?.cancel();
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn input(
    call: ApiCall,
    Id(id): Id,
    Params(TenantQuery { tenant }): Params<TenantQuery>,
    request: Request,
) -> Result<StatusCode, Problem> {
    let (parts, body) = request.into_parts();
    let context = &call.context;
    let JsonBody { value, held, .. } = body::json(&context.account, &parts.headers, body).await?;
    call.check_current()?;
    let InputBody { data, data_b64, eof } = params(value)?;
    submissions::feed(context, InputParams { id, tenant, data, data_b64, eof }, held).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn receipt(
    call: ApiCall,
    Id(id): Id,
    Params(TenantQuery { tenant }): Params<TenantQuery>,
) -> Result<Response, Problem> {
    let context = &call.context;
    let reply = history::receipt_of(context, IdParams { id, tenant }).await?;
    reply::counted(&context.account, reply)
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::code::Code;
    use serde_json::json;

    fn id_with(headers: &[&str], id: Option<&str>) -> Result<Option<String>, Code> {
        let mut submission: Submission = serde_json::from_value(json!({ "language": "c", "id": id })).unwrap();
        let mut map = HeaderMap::new();
        for value in headers {
            map.append(IDEMPOTENCY_KEY, HeaderValue::from_str(value).unwrap());
        }
        set_id(&map, &mut submission).map(|()| submission.id).map_err(|error| error.code)
    }

    #[test]
    fn the_id_is_that_of_the_header_or_of_the_json_and_never_two() {
        assert_eq!(id_with(&[], None), Ok(None));
        assert_eq!(id_with(&["a"], None), Ok(Some("a".to_owned())));
        assert_eq!(id_with(&["a"], Some("a")), Ok(Some("a".to_owned())));
        assert_eq!(id_with(&[], Some("b")), Ok(Some("b".to_owned())));
        assert_eq!(id_with(&["a"], Some("b")), Err(Code::BadRequest));
        assert_eq!(id_with(&["a", "a"], None), Err(Code::BadRequest));
    }
}
