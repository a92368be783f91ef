//! Lines of the socket: requests in, responses and notifications out.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::calls::context::ResultText;
use crate::calls::error::CallError;
use crate::calls::shape::JsonShape;
use crate::calls::unique_keys;
use config::bounds;
use protocol::code::{INVALID_REQUEST, PARSE_ERROR};
use protocol::method::Notification;

/// A response before its id, between its id and its result, and after its result.
const RESPONSE: [&str; 3] = ["{\"id\":", ",\"jsonrpc\":\"2.0\",\"result\":", "}\n"];

/// A request whose method and parameters are not yet interpreted.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ParsedRequest {
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
    #[serde(default, deserialize_with = "unique_keys::deserialize")]
    params: Value,
}

/// Parses a line. An error comes with the id to respond to, which is null if the line has no valid
/// one.
pub(super) fn parse(line: &[u8]) -> Result<ParsedRequest, (Value, CallError)> {
    let fail = |id: Value, number, message: String| Err((id, CallError::malformed(number, message)));
    let text = line.trim_ascii();
    if text.first() == Some(&b'[') {
        return fail(Value::Null, INVALID_REQUEST, "batches are not supported; send one object per line".to_owned());
    }
    let shape = JsonShape::of(text);
    if shape.depth > bounds::MAX_DEPTH {
        let (depth, bound) = (shape.depth, bounds::MAX_DEPTH);
        return fail(Value::Null, INVALID_REQUEST, format!("the line nests {depth} deep; at most {bound} is allowed"));
    }
    if shape.values > bounds::MAX_LINE_VALUES {
        let bound = bounds::MAX_LINE_VALUES;
        return fail(Value::Null, INVALID_REQUEST, format!("the line has more than {bound} values"));
    }
    let id_of = |text: &[u8]| match serde_json::from_slice::<Value>(text) {
        Ok(value) => value.get("id").filter(|id| is_short_id(id)).cloned().unwrap_or(Value::Null),
        Err(_) => Value::Null,
    };
    let mut reader = serde_json::Deserializer::from_slice(text);
    let raw: RawRequest = match serde_path_to_error::deserialize(&mut reader) {
        Ok(raw) => raw,
        Err(error) => {
            let inner = error.inner();
            let number = if inner.is_data() { INVALID_REQUEST } else { PARSE_ERROR };
            return fail(id_of(text), number, format!("not a request: {inner}"));
        }
    };
    if let Err(error) = reader.end() {
        return fail(Value::Null, PARSE_ERROR, format!("not one object: {error}"));
    }
    if !(raw.id.is_string() || raw.id.is_i64() || raw.id.is_u64()) {
        return fail(Value::Null, INVALID_REQUEST, "id: must be a string or an integer".to_owned());
    }
    if raw.id.as_str().is_some_and(|id| id.len() > bounds::MAX_CALL_ID_BYTES) {
        let message = format!("id: has more than {} bytes", bounds::MAX_CALL_ID_BYTES);
        return fail(Value::Null, INVALID_REQUEST, message);
    }
    if raw.jsonrpc != "2.0" {
        return fail(raw.id, INVALID_REQUEST, "jsonrpc: must be \"2.0\"".to_owned());
    }
    Ok(ParsedRequest { id: raw.id, method: raw.method, params: raw.params })
}

/// Whether this can be the id of a response.
fn is_short_id(id: &Value) -> bool {
    id.is_i64() || id.as_str().is_some_and(|text| text.len() <= bounds::MAX_CALL_ID_BYTES)
}

/// Size of a response line.
pub(super) fn line_bytes(result: &ResultText, id: &str) -> usize {
    RESPONSE.iter().map(|part| part.len()).sum::<usize>() + id.len() + result.as_str().len()
}

/// The response line of a call. The id is JSON.
pub(super) fn response(result: &ResultText, id: &str) -> String {
    let [before_id, before_result, end] = RESPONSE;
    let mut line = String::with_capacity(line_bytes(result, id));
    line.extend([before_id, id, before_result, result.as_str(), end]);
    line
}

/// The response line of a call that failed. The id is JSON.
pub(super) fn error_response(id: &str, error: &CallError) -> String {
    format!("{{\"error\":{},\"id\":{id},\"jsonrpc\":\"2.0\"}}\n", error.to_json())
}

/// A notification line.
pub(super) fn notification(notification: Notification, params: &Value) -> String {
    format!("{}\n", json!({ "jsonrpc": "2.0", "method": notification.name(), "params": params }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::code::Code;

    fn error(line: &str) -> (Value, CallError) {
        parse(line.as_bytes()).unwrap_err()
    }

    proptest::proptest! {
        #[test]
        fn depth_equals_that_of_a_byte_by_byte_count(text in "[{}\\[\\]\"\\\\a]{0,200}") {
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
            let found = Some(JsonShape::of(text.as_bytes()).depth).filter(|depth| *depth > bounds::MAX_DEPTH);
            proptest::prop_assert_eq!(found, passed);
        }
    }

    #[test]
    fn a_request_is_parsed() {
        let request = parse(br#"{"jsonrpc":"2.0","id":7,"method":"daemon.status"}"#).unwrap();
        assert_eq!((request.id, request.method.as_str()), (json!(7), "daemon.status"));
    }

    #[test]
    fn an_invalid_request_is_an_error_for_its_id() {
        assert_eq!(error("nonsense").1.number, PARSE_ERROR);
        assert_eq!(error("[]").1.number, INVALID_REQUEST);
        assert_eq!(error(r#"{"jsonrpc":"2.0","id":3,"method":5}"#).0, json!(3));
        assert_eq!(error(r#"{"jsonrpc":"1.0","id":"a","method":"x"}"#).0, json!("a"));
        assert_eq!(error(r#"{"jsonrpc":"2.0","id":{},"method":"x"}"#).1.number, INVALID_REQUEST);
        assert_eq!(error(r#"{"jsonrpc":"2.0","method":"x"}"#).1.number, INVALID_REQUEST);
        assert!(error(r#"{"jsonrpc":"2.0","id":1,"method":"x","extra":1}"#).1.message.contains("extra"));
        assert!(error(r#"{"jsonrpc":"2.0","id":1,"method":"x","method":"y"}"#).1.message.contains("duplicate"));
        for params in [r#"{"a":1,"a":2}"#, r#"{"l":{"b":1,"c":[],"b":2}}"#, r#"[{"d":1,"d":1}]"#] {
            let line = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"x","params":{params}}}"#);
            assert!(error(&line).1.message.contains("duplicate field"), "{params}");
        }
        assert_eq!(error(r#"{"jsonrpc":"2.0","id":1,"method":"x"} trailing"#).1.number, PARSE_ERROR);
    }

    #[test]
    fn a_response_is_a_line_of_the_counted_size_with_sorted_fields() {
        for id in [json!(7), json!("a\"b\u{1}")] {
            let (text, result) = (id.to_string(), json!({ "b": [1], "a": "x" }));
            let made = ResultText::of(&result);
            let line = response(&made, &text);
            assert_eq!(line, format!("{}\n", json!({ "jsonrpc": "2.0", "id": id, "result": result })));
            assert_eq!((line.len(), line.capacity()), (line_bytes(&made, &text), line.len()));
            let error = CallError::new(Code::Internal, "why");
            let whole = json!({ "jsonrpc": "2.0", "id": id, "error": error.to_json() });
            assert_eq!(error_response(&text, &error), format!("{whole}\n"));
        }
    }

    #[test]
    fn nesting_is_bounded_and_brackets_in_strings_do_not_count() {
        let deep = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"x","params":{}{}}}"#, "[".repeat(40), "]".repeat(40));
        assert!(error(&deep).1.message.contains("deep"));
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"x","params":{{"a":"{}"}}}}"#, "[\\\"".repeat(40));
        assert!(parse(text.as_bytes()).is_ok());
    }

    #[test]
    fn the_number_of_values_is_bounded_and_commas_in_strings_do_not_count() {
        let line = |params: String| format!(r#"{{"jsonrpc":"2.0","id":1,"method":"x","params":{params}}}"#);
        let many = "0,".repeat(bounds::MAX_LINE_VALUES);
        assert!(error(&line(format!("[{many}0]"))).1.message.contains("values"));
        assert!(parse(line(format!(r#"["{many}"]"#)).as_bytes()).is_ok());
        let empty = JsonShape::of(b"{\"a\": [[], 1]}");
        assert_eq!(empty, JsonShape { depth: 3, values: 5 });
    }

    #[test]
    fn a_long_id_is_not_repeated() {
        let long = "x".repeat(bounds::MAX_CALL_ID_BYTES + 1);
        for rest in [r#""method":"x""#, r#""method":5"#] {
            assert_eq!(error(&format!(r#"{{"jsonrpc":"2.0","id":"{long}",{rest}}}"#)).0, Value::Null);
        }
    }
}
