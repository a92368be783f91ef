//! What the daemon says to assay-egress on its socket. One request and one reply per connection,
//! each a line of JSON; the body of a callback follows its line.
//!
//! ```text
//!  daemon                                                          assay-egress
//!    {"request":"callback","url":...,"body_bytes":N}\n  N bytes -->
//!                                                        decides, resolves, connects, sends
//!                         <-- {"reply":"answered","status":200}\n
//! ```
//!
//! Both programs are of one release: other programs must not rely on it.

use serde::{Deserialize, Serialize};

/// Length of a line: the longest URL, escaped, with everything around it.
pub const MAX_EGRESS_LINE_BYTES: usize = 16 * 1024;

/// What the daemon asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
pub enum EgressRequest {
    /// Whether it is there.
    Probe,
    /// POST a report to the URL of a submission.
    Callback {
        url: String,
        /// The id of the delivery, the same at each try.
        delivery: String,
        /// The value of the header `Assay-Signature`.
        signature: String,
        /// Bytes that follow the line.
        body_bytes: usize,
    },
}

/// What assay-egress replies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum EgressReply {
    /// It is there.
    Ready,
    /// The receiver answered with this status.
    Answered { status: u16 },
    /// It may not go there.
    Refused { message: String },
    /// There was no answer.
    Failed { step: EgressStep, message: String },
}

/// Where a delivery failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EgressStep {
    /// The request could not be read, or the configuration.
    Request,
    Resolve,
    Connect,
    Tls,
    /// Sending the request, or waiting for the status.
    Answer,
}

impl EgressStep {
    pub fn as_str(self) -> &'static str {
        match self {
            EgressStep::Request => "request",
            EgressStep::Resolve => "resolve",
            EgressStep::Connect => "connect",
            EgressStep::Tls => "tls",
            EgressStep::Answer => "answer",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_one_line_and_unknown_fields_are_errors() {
        let request = EgressRequest::Callback {
            url: "https://a/\u{1}".to_owned(),
            delivery: "d".to_owned(),
            signature: "s".to_owned(),
            body_bytes: 3,
        };
        let line = serde_json::to_string(&request).unwrap();
        assert!(!line.contains('\n') && line.starts_with(r#"{"request":"callback""#), "{line}");
        assert_eq!(serde_json::from_str::<EgressRequest>(&line).unwrap(), request);
        assert!(serde_json::from_str::<EgressRequest>(&line.replace("url", "uri")).is_err());
        let more = line.replace("\"body_bytes\"", "\"proxy\":\"x\",\"body_bytes\"");
        assert!(serde_json::from_str::<EgressRequest>(&more).is_err());
    }
}
