//! Errors of calls: a code, a message, the field at fault, and when to try again.

use std::time::Duration;

use serde_json::Value;

use super::to_value;
use config::callbacks::CallbackRefusal;
use judge::rejected::Rejected;
use protocol::code::{Code, METHOD_NOT_FOUND};
use protocol::results::{ErrorBody, ErrorData};
use scheduler::{CallbackDenied, Refusal};

/// A suggested delay when nothing better is known: a drain or a host that is down.
const RETRY_LATER: Duration = Duration::from_secs(5);

/// When a caller whose callbacks wait in too large a number should try again: the first waits of a
/// callback are shorter.
const CALLBACKS_RETRY: Duration = Duration::from_secs(60);

/// A failed call, as its response reports it.
#[derive(Debug, Clone, PartialEq)]
pub struct CallError {
    /// The JSON-RPC error number.
    pub number: i64,
    pub code: Code,
    pub message: String,
    /// Path of the field of the request that is at fault.
    pub field: Option<String>,
    pub retry_after: Option<Duration>,
}

impl CallError {
    pub fn new(code: Code, message: impl Into<String>) -> CallError {
        CallError { number: code.number(), code, message: message.into(), field: None, retry_after: None }
    }

    /// A field of the request is invalid.
    pub fn bad(field: &str, message: impl Into<String>) -> CallError {
        CallError::new(Code::BadRequest, message).at_field(field)
    }

    /// A line that is not a valid request; `number` is one of JSON-RPC's own.
    pub(crate) fn malformed(number: i64, message: impl Into<String>) -> CallError {
        CallError { number, ..CallError::new(Code::BadRequest, message) }
    }

    pub(crate) fn unknown_method(name: &str) -> CallError {
        let name = name.chars().take(64).collect::<String>();
        CallError { number: METHOD_NOT_FOUND, ..CallError::new(Code::NotFound, format!("unknown method {name:?}")) }
    }

    pub(crate) fn at_field(self, field: &str) -> CallError {
        CallError { field: Some(field.to_owned()), ..self }
    }

    pub(crate) fn retry_after(self, after: Duration) -> CallError {
        CallError { retry_after: Some(after), ..self }
    }

    /// The `error` of a response.
    pub fn to_json(&self) -> Value {
        let data = ErrorData {
            code: self.code,
            message: &self.message,
            field: self.field.as_deref(),
            retry_after_ms: self.retry_after.map(|after| after.as_millis() as u64),
        };
        to_value(&ErrorBody { code: self.number, message: &self.message, data })
    }
}

impl From<Rejected> for CallError {
    fn from(rejected: Rejected) -> CallError {
        let code = match &rejected {
            Rejected::Bad { .. } => Code::BadRequest,
            Rejected::UnknownProfile { .. } => Code::UnknownProfile,
            Rejected::NoBlob { .. } => Code::NotFound,
            Rejected::TooLarge { .. } => Code::TooLarge,
            Rejected::Denied { .. } => Code::Denied,
        };
        CallError::new(code, rejected.to_string()).at_field(rejected.field())
    }
}

impl From<Refusal> for CallError {
    fn from(refusal: Refusal) -> CallError {
        let (code, retry_after) = match &refusal {
            Refusal::QueueFull { retry_after, .. } | Refusal::WaitTooLong { retry_after, .. } => {
                (Code::QueueFull, Some(*retry_after))
            }
            Refusal::QuotaExceeded { retry_after, .. }
            | Refusal::BytesExceeded { retry_after, .. }
            | Refusal::RateExceeded { retry_after, .. } => (Code::QuotaExceeded, Some(*retry_after)),
            Refusal::DeadlineUnreachable { retry_after, .. } => (Code::DeadlineUnreachable, Some(*retry_after)),
            Refusal::Draining | Refusal::Paused => (Code::Draining, Some(RETRY_LATER)),
            Refusal::NoHost { .. } => (Code::NoHost, Some(RETRY_LATER)),
            Refusal::StoreFull | Refusal::NoStore { .. } => (Code::StoreFull, Some(RETRY_LATER)),
            Refusal::StoreBusy { retry_after } => (Code::QueueFull, Some(*retry_after)),
            Refusal::Conflict { .. } => (Code::Conflict, None),
            Refusal::Isolation { .. } => (Code::Unsupported, None),
            Refusal::Callback(CallbackDenied::NoToken | CallbackDenied::Url(CallbackRefusal::NotNamed(_))) => {
                (Code::Denied, None)
            }
            Refusal::Callback(CallbackDenied::TooMany) => (Code::QuotaExceeded, Some(CALLBACKS_RETRY)),
            Refusal::Callback(CallbackDenied::NotKept | CallbackDenied::Url(_)) => (Code::BadRequest, None),
            Refusal::NoSandbox { is_image: true, .. } => (Code::ImageFailed, None),
            Refusal::NoSandbox { is_image: false, .. } => (Code::Unsupported, None),
        };
        let field = match refusal {
            Refusal::Isolation { .. } => Some("isolation".to_owned()),
            Refusal::Callback(_) => Some("callback_url".to_owned()),
            _ => None,
        };
        CallError { retry_after, field, ..CallError::new(code, refusal.to_string()) }
    }
}
