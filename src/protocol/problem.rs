//! An error over HTTP: `application/problem+json` (RFC 9457) with the code of the socket protocol.

use schemars::JsonSchema;
use serde::Serialize;

use crate::code::{Code, http_status};

/// The media type of [`ProblemBody`].
pub const PROBLEM_JSON: &str = "application/problem+json";

/// An error over HTTP.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Problem")]
pub struct ProblemBody<'a> {
    /// Always `about:blank`: `code` says more than a URL could.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The status in words.
    pub title: &'a str,
    /// The status of the answer.
    pub status: u16,
    /// Text for a human: what is wrong, and what would be right.
    pub detail: &'a str,
    /// One of a closed list; treat an unknown code as `internal`.
    pub code: Code,
    /// Path of the field of the request that is at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<&'a str>,
    /// When to try again; the header `Retry-After` has it in whole seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl<'a> ProblemBody<'a> {
    /// A problem with the status of its code.
    pub fn new(code: Code, detail: &'a str) -> ProblemBody<'a> {
        ProblemBody::with_status(http_status(code), code, detail)
    }

    /// A problem with a status that HTTP itself asks for, such as 405.
    pub fn with_status(status: u16, code: Code, detail: &'a str) -> ProblemBody<'a> {
        let title = reason(status);
        ProblemBody { kind: "about:blank", title, status, detail, code, field: None, retry_after_ms: None }
    }

    /// The value of `Retry-After`: whole seconds, rounded up, so that a caller does not come early.
    pub fn retry_after_seconds(&self) -> Option<u64> {
        self.retry_after_ms.map(|millis| millis.div_ceil(1000).max(1))
    }
}

/// The words of a status (RFC 9110).
pub fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        413 => "Payload Too Large",
        415 => "Unsupported Media Type",
        421 => "Misdirected Request",
        422 => "Unprocessable Entity",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Error",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_problem_has_the_status_of_its_code_and_rounds_the_delay_up() {
        let problem = ProblemBody { retry_after_ms: Some(1), ..ProblemBody::new(Code::QueueFull, "the queue is full") };
        assert_eq!(problem.retry_after_seconds(), Some(1));
        assert_eq!(
            serde_json::to_value(&problem).unwrap(),
            json!({ "type": "about:blank", "title": "Too Many Requests", "status": 429, "code": "queue_full",
                "detail": "the queue is full", "retry_after_ms": 1 })
        );
        for code in Code::ALL {
            assert_ne!(ProblemBody::new(*code, "").title, "Error", "{code:?}");
        }
        let late =
            |millis| ProblemBody { retry_after_ms: millis, ..ProblemBody::new(Code::NoHost, "") }.retry_after_seconds();
        assert_eq!([Some(0), Some(1000), Some(1001), None].map(late), [Some(1), Some(1), Some(2), None]);
    }
}
