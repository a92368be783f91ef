//! `POST /api/run-code`: one program, and whether it succeeded. For pages that were written for the
//! predecessor's code runner: an error has its fields too (`success`, `output`, `error`,
//! `executionTime`).

use std::time::Instant;

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::header::CONTENT_LENGTH;
use serde_json::{Map, Value, json};

use super::body::{self, JsonBody};
use super::call::ApiCall;
use super::problem::Problem;
use super::{reply, submissions};
use crate::calls::context::{CallContext, CallReply, ReceivedAt, ResultText};
use crate::calls::error::CallError;
use crate::calls::params::params;
use protocol::code::Code;
use protocol::http::{RunCodeBody, RunCodeReply};
use protocol::report::Output;
use protocol::submission::{Content, FileSpec};
use protocol::{LimitsRequest, Preset, Report, RunReport, Submission, Verdict};

/// The profile of a request that names none.
const DEFAULT_LANGUAGE: &str = "python";

/// What learners are told when the engine does not answer.
const NO_ENGINE: &str = "Please make sure Docker is running";

/// The submission of a request. `entry_of` is the default entry of a profile.
fn submission(given: RunCodeBody, entry_of: impl Fn(&str) -> Option<String>) -> Result<Submission, CallError> {
    let RunCodeBody { code, timeout_ms, memory_limit_mb, language, lesson, step } = given;
    for (field, is_given) in [("lesson", lesson.is_some()), ("step", step.is_some())] {
        if is_given {
            let message = format!("{field}: lessons are not available in this version; leave the field out");
            return Err(CallError::new(Code::Unsupported, message).at_field(field));
        }
    }
    let memory_bytes = match memory_limit_mb.map(|mib| mib.checked_mul(1 << 20)) {
        Some(None) => return Err(CallError::bad("memoryLimitMb", "memoryLimitMb: is too large; it is in MiB")),
        Some(bytes) => bytes,
        None => None,
    };
    let language = language.unwrap_or_else(|| DEFAULT_LANGUAGE.to_owned());
    let path = entry_of(&language).unwrap_or_else(|| "main".to_owned());
    Ok(Submission {
        files: vec![FileSpec { path, content: Some(Content::Text(code)), ..FileSpec::default() }],
        preset: Some(Preset::Lesson),
        limits: Some(LimitsRequest { wall_ms: timeout_ms, memory_bytes, ..LimitsRequest::default() }),
        truncate_output: true,
        language,
        ..Submission::default()
    })
}

/// An output as text; bytes that are not are replaced.
fn text(context: &CallContext, output: Option<&Output>, b64: Option<&String>) -> String {
    let bytes = match (output, b64) {
        (Some(Output::Text(text)), _) => return text.clone(),
        (Some(Output::Blob(blob)), _) => {
            context.daemon.blobs.get(&context.peer.principal, &blob.blob).map(Vec::from).unwrap_or_default()
        }
        (None, Some(b64)) => BASE64.decode(b64).unwrap_or_default(),
        (None, None) => Vec::new(),
    };
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Names the field of the request that a field of the submission was made of.
fn named_as_given(error: CallError) -> CallError {
    let given = match error.field.as_deref() {
        Some("limits.wall_ms") => "timeoutMs",
        Some("limits.memory_bytes") => "memoryLimitMb",
        Some(field) if field.starts_with("files") => "code",
        _ => return error,
    };
    let message = error.field.iter().fold(error.message.clone(), |text, field| text.replace(field.as_str(), given));
    CallError { message, field: Some(given.to_owned()), ..error }
}

/// What the program printed; what the compiler wrote, if it did not run.
fn output(context: &CallContext, report: &Report) -> String {
    let of = |run: &RunReport| {
        let stdout = text(context, run.stdout.as_ref(), run.stdout_b64.as_ref());
        stdout + &text(context, run.stderr.as_ref(), run.stderr_b64.as_ref())
    };
    report.run.as_ref().or(report.compile.as_ref()).map(of).unwrap_or_default()
}

fn answer(context: &CallContext, report: Report) -> RunCodeReply {
    let success = report.verdict == Verdict::Accepted;
    RunCodeReply {
        success,
        output: output(context, &report),
        error: (!success).then(|| report.message.clone()),
        execution_time: report.timing.total_ms,
        verdict: report.verdict,
        tests: report.tests,
    }
}

/// The fields of an answer, for a request that was not run.
fn not_run(error: &CallError) -> Map<String, Value> {
    let message = if error.code == Code::NoHost { NO_ENGINE } else { &error.message };
    let fields = json!({ "success": false, "output": "", "error": message, "executionTime": 0 });
    if let Value::Object(fields) = fields { fields } else { Map::new() }
}

async fn judge(call: &ApiCall, request: Request) -> Result<Response, Problem> {
    let first_byte = Instant::now();
    let (parts, body) = request.into_parts();
    let context = &call.context;
    let JsonBody { value, held, received } = body::json(&context.account, &parts.headers, body).await?;
    call.check_current()?;
    let given = params::<RunCodeBody>(value)?;
    let profiles = context.daemon.live.profiles();
    let mut submission = submission(given, |language| Some(profiles.get(language)?.entry.clone()))?;
    submission.fresh = call.identity.is_one_shot();
    let received = ReceivedAt { first_byte, last_byte: received };
    let _pending = context.daemon.connections.count_pending_report();
    let judged = async { submissions::judge(context, submission, received, held).await.map_err(named_as_given) };
    let report = call.while_current(judged).await?;
    let make = || {
        let report = serde_json::from_str::<Report>(report.as_str());
        report.map(|report| ResultText::of(&answer(context, report)))
    };
    let unreadable = |error| CallError::new(Code::Internal, format!("the report cannot be read: {error}"));
    let result = context.account.work(report.bytes(), make).await.map_err(unreadable)?;
    reply::counted(&context.account, CallReply::from(result))
}

pub(super) async fn run(call: Result<ApiCall, Problem>, request: Request) -> Response {
    match call {
        Ok(call) => judge(&call, request).await.unwrap_or_else(failed),
        Err(problem) => failed(problem),
    }
}

/// A problem with the fields of an answer beside its own.
fn failed(problem: Problem) -> Response {
    let mut body = problem.to_json();
    if let Value::Object(body) = &mut body {
        body.extend(not_run(&problem.error));
    }
    let mut response = problem.into_response();
    response.headers_mut().remove(CONTENT_LENGTH);
    *response.body_mut() = format!("{body}\n").into();
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn submission_of(body: Value) -> Result<Submission, CallError> {
        submission(serde_json::from_value(body).unwrap(), |name| (name == "python").then(|| "main.py".to_owned()))
    }

    #[test]
    fn a_request_becomes_a_submission_with_the_limits_of_a_lesson() {
        let made = submission_of(json!({ "code": "print(1)", "timeoutMs": 500, "memoryLimitMb": 64 })).unwrap();
        assert_eq!((made.language.as_str(), made.files[0].path.as_str()), ("python", "main.py"));
        assert_eq!(made.preset, Some(Preset::Lesson));
        let limits = made.limits.unwrap();
        assert_eq!((limits.wall_ms, limits.memory_bytes), (Some(500), Some(64 << 20)));
    }

    #[test]
    fn what_is_not_there_yet_is_said_and_a_number_does_not_wrap() {
        for (body, code, field) in [
            (json!({ "code": "", "lesson": "redis" }), Code::Unsupported, "lesson"),
            (json!({ "code": "", "step": 1 }), Code::Unsupported, "step"),
            (json!({ "code": "", "memoryLimitMb": u64::MAX }), Code::BadRequest, "memoryLimitMb"),
        ] {
            let error = submission_of(body).unwrap_err();
            assert_eq!((error.code, error.field.as_deref()), (code, Some(field)));
        }
    }

    #[test]
    fn an_error_names_the_field_that_the_caller_wrote() {
        let error = named_as_given(CallError::bad("limits.wall_ms", "limits.wall_ms: must be 1 to 60000"));
        assert_eq!(
            (error.field.as_deref(), error.message.as_str()),
            (Some("timeoutMs"), "timeoutMs: must be 1 to 60000")
        );
    }

    #[test]
    fn a_request_that_was_not_run_has_the_fields_of_an_answer() {
        let fields = not_run(&CallError::new(Code::NoHost, "no Docker host is up"));
        assert_eq!(Value::from(fields)["error"], NO_ENGINE);
    }
}
