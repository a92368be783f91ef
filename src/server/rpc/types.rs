//! Requests, responses, errors.

use std::time::Duration;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::results::{ErrorBody, ErrorData, value};
use config::bounds;
use judge::rejected::Rejected;
use scheduler::Refusal;

/// The closed list of error words. Clients treat one that they don't know as `internal`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The request is wrong.
    BadRequest,
    /// No such language.
    UnknownProfile,
    /// Part of the contract, and not to be had here.
    Unsupported,
    /// Policy says never.
    Denied,
    /// The same id with other content.
    Conflict,
    /// Your uid has enough.
    QuotaExceeded,
    /// Everybody has enough.
    QueueFull,
    /// It would wait longer than its deadline.
    DeadlineUnreachable,
    /// On its way out.
    Draining,
    /// No engine answers.
    NoHost,
    /// No such submission, blob or method.
    NotFound,
    /// Not for your role.
    Forbidden,
    /// Above a bound.
    TooLarge,
    /// Of the contract, and never sent: who reads nothing for too long cannot be told anything, and is cut.
    SlowReader,
    /// Our fault.
    Internal,
}

impl Code {
    /// All of them.
    pub const ALL: [Code; 15] = [
        Code::BadRequest,
        Code::UnknownProfile,
        Code::Unsupported,
        Code::Denied,
        Code::Conflict,
        Code::QuotaExceeded,
        Code::QueueFull,
        Code::DeadlineUnreachable,
        Code::Draining,
        Code::NoHost,
        Code::NotFound,
        Code::Forbidden,
        Code::TooLarge,
        Code::SlowReader,
        Code::Internal,
    ];

    /// Our word.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::BadRequest => "bad_request",
            Code::UnknownProfile => "unknown_profile",
            Code::Unsupported => "unsupported",
            Code::Denied => "denied",
            Code::Conflict => "conflict",
            Code::QuotaExceeded => "quota_exceeded",
            Code::QueueFull => "queue_full",
            Code::DeadlineUnreachable => "deadline_unreachable",
            Code::Draining => "draining",
            Code::NoHost => "no_host",
            Code::NotFound => "not_found",
            Code::Forbidden => "forbidden",
            Code::TooLarge => "too_large",
            Code::SlowReader => "slow_reader",
            Code::Internal => "internal",
        }
    }

    /// The JSON-RPC number.
    fn number(self) -> i64 {
        match self {
            Code::BadRequest => -32602,
            Code::NotFound => -32004,
            Code::UnknownProfile => -32001,
            Code::Unsupported => -32002,
            Code::Denied => -32003,
            Code::Conflict => -32005,
            Code::QuotaExceeded => -32006,
            Code::QueueFull => -32007,
            Code::DeadlineUnreachable => -32012,
            Code::Draining => -32008,
            Code::NoHost => -32009,
            Code::Forbidden => -32010,
            Code::TooLarge => -32011,
            Code::SlowReader => -32013,
            Code::Internal => -32099,
        }
    }
}

/// A failed call.
#[derive(Debug, Clone, PartialEq)]
pub struct RpcError {
    /// The JSON-RPC number.
    pub number: i64,
    /// Our word.
    pub code: Code,
    /// For people.
    pub message: String,
    /// Which field is to blame.
    pub field: Option<String>,
    /// When to try again.
    pub retry_after: Option<Duration>,
}

impl RpcError {
    /// An error of that kind.
    pub fn new(code: Code, message: impl Into<String>) -> RpcError {
        RpcError { number: code.number(), code, message: message.into(), field: None, retry_after: None }
    }

    /// The request's field is wrong.
    pub fn bad(field: &str, message: impl Into<String>) -> RpcError {
        RpcError { field: Some(field.to_owned()), ..RpcError::new(Code::BadRequest, message) }
    }

    /// A line that is no request at all.
    pub(super) fn malformed(number: i64, message: impl Into<String>) -> RpcError {
        RpcError { number, ..RpcError::new(Code::BadRequest, message) }
    }

    /// As it stands in a response.
    pub fn to_json(&self) -> Value {
        let data = ErrorData {
            code: self.code,
            message: &self.message,
            field: self.field.as_deref(),
            retry_after_ms: self.retry_after.map(|after| after.as_millis() as u64),
        };
        value(&ErrorBody { code: self.number, message: &self.message, data })
    }
}

impl From<Rejected> for RpcError {
    fn from(rejected: Rejected) -> RpcError {
        let code = match &rejected {
            Rejected::Bad { .. } => Code::BadRequest,
            Rejected::UnknownProfile { .. } => Code::UnknownProfile,
            Rejected::NoBlob { .. } => Code::NotFound,
            Rejected::TooLarge { .. } => Code::TooLarge,
            Rejected::Denied { .. } => Code::Denied,
        };
        RpcError { field: Some(rejected.field().to_owned()), ..RpcError::new(code, rejected.to_string()) }
    }
}

impl From<Refusal> for RpcError {
    fn from(refusal: Refusal) -> RpcError {
        let (code, retry_after) = match &refusal {
            Refusal::QueueFull { retry_after, .. } => (Code::QueueFull, Some(*retry_after)),
            Refusal::QuotaExceeded { retry_after, .. } | Refusal::BytesExceeded { retry_after, .. } => {
                (Code::QuotaExceeded, Some(*retry_after))
            }
            Refusal::DeadlineUnreachable { retry_after, .. } => (Code::DeadlineUnreachable, Some(*retry_after)),
            Refusal::Draining => (Code::Draining, Some(Duration::from_secs(5))),
            Refusal::NoHost { .. } => (Code::NoHost, Some(Duration::from_secs(5))),
            Refusal::Conflict { .. } => (Code::Conflict, None),
            Refusal::Isolation { .. } => (Code::Unsupported, None),
        };
        let field = matches!(refusal, Refusal::Isolation { .. }).then(|| "isolation".to_owned());
        RpcError { retry_after, field, ..RpcError::new(code, refusal.to_string()) }
    }
}

/// A request, read but not yet understood.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Request {
    pub(super) id: Value,
    pub(super) method: String,
    pub(super) params: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRequest {
    jsonrpc: String,
    #[serde(default)]
    id: Value,
    method: String,
    #[serde(default)]
    params: Value,
}

/// Reads a line. On failure says which id to answer to, when the line had one.
pub(super) fn parse(line: &[u8]) -> Result<Request, (Value, RpcError)> {
    let fail = |id: Value, number, message: String| Err((id, RpcError::malformed(number, message)));
    let text = line.trim_ascii();
    if text.first() == Some(&b'[') {
        return fail(Value::Null, -32600, "batches are not supported; send one object per line".to_owned());
    }
    if let Some(depth) = too_deep(text) {
        let bound = bounds::MAX_DEPTH;
        return fail(Value::Null, -32600, format!("the line nests {depth} deep; at most {bound} is allowed"));
    }
    let id_of = |text: &[u8]| match serde_json::from_slice::<Value>(text) {
        Ok(value) => value.get("id").filter(|id| id.is_string() || id.is_i64()).cloned().unwrap_or(Value::Null),
        Err(_) => Value::Null,
    };
    let mut reader = serde_json::Deserializer::from_slice(text);
    let raw: RawRequest = match serde_path_to_error::deserialize(&mut reader) {
        Ok(raw) => raw,
        Err(error) => {
            let inner = error.inner();
            let number = if inner.is_data() { -32600 } else { -32700 };
            return fail(id_of(text), number, format!("not a request: {inner}"));
        }
    };
    if let Err(error) = reader.end() {
        return fail(Value::Null, -32700, format!("not one object: {error}"));
    }
    if !(raw.id.is_string() || raw.id.is_i64() || raw.id.is_u64()) {
        return fail(Value::Null, -32600, "id: must be a string or a whole number".to_owned());
    }
    if raw.jsonrpc != "2.0" {
        return fail(raw.id, -32600, "jsonrpc: must be \"2.0\"".to_owned());
    }
    Ok(Request { id: raw.id, method: raw.method, params: raw.params })
}

/// The depth, when it passes the bound. Brackets in strings don't count.
fn too_deep(text: &[u8]) -> Option<usize> {
    let (mut depth, mut at) = (0usize, 0);
    while let Some(byte) = text.get(at) {
        at += 1;
        match byte {
            // to the string's end; a string may be megabytes
            b'"' => loop {
                at += memchr::memchr2(b'"', b'\\', &text[at..])? + 1;
                if text[at - 1] == b'"' {
                    break;
                }
                // what is escaped ends nothing
                at = (at + 1).min(text.len());
            },
            b'{' | b'[' => {
                depth += 1;
                if depth > bounds::MAX_DEPTH {
                    return Some(depth);
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

/// Understands a call's parameters; an error names the field by its path.
pub(super) fn params<T: DeserializeOwned>(params: Value) -> Result<T, RpcError> {
    let value = if params.is_null() { json!({}) } else { params };
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let field = if path == "." { unknown_field(&error.inner().to_string()) } else { Some(path) };
        let message = match &field {
            Some(field) => format!("{field}: {}", error.inner()),
            None => error.inner().to_string(),
        };
        RpcError { field, ..RpcError::new(Code::BadRequest, message) }
    })
}

/// The name in serde's "unknown field `x`" or "missing field `x`".
fn unknown_field(message: &str) -> Option<String> {
    Some(message.split_once('`')?.1.split_once('`')?.0.to_owned())
}

/// A response line.
pub(super) fn response(id: &Value, result: Result<Value, RpcError>) -> String {
    let value = match result {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
        Err(error) => json!({ "jsonrpc": "2.0", "id": id, "error": error.to_json() }),
    };
    format!("{value}\n")
}

/// A notification line.
pub(super) fn notification(method: &str, params: &Value) -> String {
    format!("{}\n", json!({ "jsonrpc": "2.0", "method": method, "params": params }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::Submission;

    fn error(line: &str) -> (Value, RpcError) {
        parse(line.as_bytes()).unwrap_err()
    }

    proptest::proptest! {
        #[test]
        fn depth_is_counted_as_if_byte_by_byte(text in "[{}\\[\\]\"\\\\a]{0,200}") {
            let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
            let mut passed = None;
            for byte in text.bytes() {
                match byte {
                    _ if escaped => escaped = false,
                    b'\\' if in_string => escaped = true,
                    b'"' => in_string = !in_string,
                    b'{' | b'[' if !in_string => {
                        depth += 1;
                        if depth > bounds::MAX_DEPTH {
                            passed.get_or_insert(depth);
                        }
                    }
                    b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
                    _ => {}
                }
            }
            proptest::prop_assert_eq!(too_deep(text.as_bytes()), passed);
        }
    }

    #[test]
    fn a_code_is_one_word_everywhere() {
        for code in Code::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
    }

    #[test]
    fn a_request_is_read() {
        let request = parse(br#"{"jsonrpc":"2.0","id":7,"method":"daemon.status"}"#).unwrap();
        assert_eq!((request.id, request.method.as_str()), (json!(7), "daemon.status"));
    }

    #[test]
    fn what_is_no_request_is_said_and_answered_to_its_id() {
        assert_eq!(error("nonsense").1.number, -32700);
        assert_eq!(error("[]").1.number, -32600);
        assert_eq!(error(r#"{"jsonrpc":"2.0","id":3,"method":5}"#).0, json!(3));
        assert_eq!(error(r#"{"jsonrpc":"1.0","id":"a","method":"x"}"#).0, json!("a"));
        assert_eq!(error(r#"{"jsonrpc":"2.0","id":{},"method":"x"}"#).1.number, -32600);
        assert_eq!(error(r#"{"jsonrpc":"2.0","method":"x"}"#).1.number, -32600);
        assert!(error(r#"{"jsonrpc":"2.0","id":1,"method":"x","extra":1}"#).1.message.contains("extra"));
        assert!(error(r#"{"jsonrpc":"2.0","id":1,"method":"x","method":"y"}"#).1.message.contains("duplicate"));
        assert_eq!(error(r#"{"jsonrpc":"2.0","id":1,"method":"x"} trailing"#).1.number, -32700);
    }

    #[test]
    fn nesting_has_a_bound_and_strings_do_not_count() {
        let deep = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"x","params":{}{}}}"#, "[".repeat(40), "]".repeat(40));
        assert!(error(&deep).1.message.contains("deep"));
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"x","params":{{"a":"{}"}}}}"#, "[\\\"".repeat(40));
        assert!(parse(text.as_bytes()).is_ok());
    }

    #[test]
    fn a_typo_in_a_limit_is_an_error_that_names_it() {
        let error = params::<Submission>(json!({"language": "c", "limits": {"cpu_msx": 1}})).unwrap_err();
        assert!(error.field.as_deref().is_some_and(|field| field.starts_with("limits")), "{error:?}");
        assert!(error.message.contains("cpu_msx"), "{}", error.message);
        let error = params::<Submission>(json!({"languagee": "c"})).unwrap_err();
        assert_eq!(error.field.as_deref(), Some("languagee"));
    }

    #[test]
    fn a_wrong_type_names_its_path() {
        let error = params::<Submission>(json!({"files": [{"path": 3}]})).unwrap_err();
        assert_eq!(error.field.as_deref(), Some("files[0].path"));
    }
}
