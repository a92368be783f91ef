//! Errors of the API: problem+json (RFC 9457) with the protocol's closed list of codes.

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde_json::Value;

use crate::calls::error::CallError;
use crate::calls::to_value;
use crate::http::access::AccessError;
use protocol::code::{Code, http_status};
use protocol::problem::{PROBLEM_JSON, ProblemBody};
use telemetry::text::clean;

/// Why a request failed, for the access log.
#[derive(Debug, Clone)]
pub(super) struct RefusedFor {
    pub(super) code: Code,
    pub(super) reason: String,
}

/// How much of a message the access log has.
const MAX_REASON_CHARS: usize = 200;

impl RefusedFor {
    fn of(problem: &Problem) -> RefusedFor {
        let text = problem.logged.as_ref().unwrap_or(&problem.error.message);
        // it may repeat words of the request
        let reason = clean(text).chars().take(MAX_REASON_CHARS).collect();
        RefusedFor { code: problem.error.code, reason }
    }
}

/// A request that failed.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(super) status: StatusCode,
    pub(super) error: CallError,
    /// What the log says instead of the error's message.
    logged: Option<String>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, code: Code, message: impl Into<String>) -> Problem {
        Problem { status, error: CallError::new(code, message), logged: None }
    }

    /// The same, with another text in the log.
    pub(super) fn logged(self, reason: String) -> Problem {
        Problem { logged: Some(reason), ..self }
    }

    /// The published form.
    fn body(&self) -> ProblemBody<'_> {
        let CallError { code, message, field, retry_after, .. } = &self.error;
        ProblemBody {
            field: field.as_deref(),
            retry_after_ms: retry_after.map(|after| after.as_millis() as u64),
            ..ProblemBody::with_status(self.status.as_u16(), *code, message)
        }
    }

    /// The body as JSON.
    pub(super) fn to_json(&self) -> Value {
        to_value(&self.body())
    }
}

impl From<CallError> for Problem {
    fn from(error: CallError) -> Problem {
        let status = StatusCode::from_u16(http_status(error.code)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Problem { status, error, logged: None }
    }
}

impl From<AccessError> for Problem {
    fn from(error: AccessError) -> Problem {
        Problem::new(error.status(), error.code(), error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, format!("{}\n", self.to_json())).into_response();
        response.extensions_mut().insert(RefusedFor::of(&self));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if let Some(seconds) = self.body().retry_after_seconds() {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_delay_is_told_in_whole_seconds_and_in_milliseconds() {
        let error = CallError::new(Code::QueueFull, "full").retry_after(Duration::from_millis(1200));
        let problem = Problem::from(error);
        assert_eq!(problem.to_json()["retry_after_ms"], 1200);
        let response = problem.into_response();
        assert!(response.status().as_u16() == 429 && response.headers()[RETRY_AFTER] == "2");
    }
}
