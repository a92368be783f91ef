//! A JSON object from a caller: bounded in depth and values before it is parsed, and with fields
//! that stand in it once.

use serde_json::Value;

use super::error::CallError;
use super::shape::JsonShape;
use super::unique_keys;
use config::bounds;
use protocol::code::Code;

/// Parses one JSON object; `shape` is that of the text.
pub(crate) fn parse(text: &[u8], shape: JsonShape) -> Result<Value, CallError> {
    let wrong = |message: String| Err(CallError::new(Code::BadRequest, message));
    let JsonShape { depth, values } = shape;
    if depth > bounds::MAX_DEPTH {
        return wrong(format!("the body nests {depth} deep; at most {} is allowed", bounds::MAX_DEPTH));
    }
    if values > bounds::MAX_LINE_VALUES {
        return wrong(format!("the body has more than {} values", bounds::MAX_LINE_VALUES));
    }
    let mut reader = serde_json::Deserializer::from_slice(text);
    let parsed = unique_keys::deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    match parsed {
        Ok(value) if value.is_object() => Ok(value),
        // serde would take a list for the fields in their order
        Ok(_) => wrong("the body must be a JSON object".to_owned()),
        Err(error) => wrong(format!("the body is not a JSON value: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse_text(text: &str) -> Result<Value, CallError> {
        parse(text.as_bytes(), JsonShape::of(text.as_bytes()))
    }

    #[test]
    fn a_body_is_one_bounded_value_without_repeated_fields() {
        assert_eq!(parse_text(" {\"a\": [1]} ").unwrap(), json!({ "a": [1] }));
        let deep = format!("{}{}", "[".repeat(40), "]".repeat(40));
        let many = format!("[{}0]", "0,".repeat(bounds::MAX_LINE_VALUES));
        for (text, part) in [
            ("", "not a JSON"),
            ("{} {}", "not a JSON"),
            ("[]", "object"),
            ("null", "object"),
            ("{\"a\":1,\"a\":2}", "duplicate field"),
            (deep.as_str(), "deep"),
            (many.as_str(), "values"),
        ] {
            let error = parse_text(text).unwrap_err();
            assert!(error.code == Code::BadRequest && error.message.contains(part), "{error:?}");
        }
    }
}
