//! The parameters of a call: JSON that becomes one of the protocol's types.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::error::CallError;
use protocol::code::Code;

/// Deserializes the parameters of a call; an error names the field by its path.
pub(crate) fn params<T: DeserializeOwned>(params: Value) -> Result<T, CallError> {
    let value = if params.is_null() { json!({}) } else { params };
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let field = if path == "." { quoted_field(&error.inner().to_string()) } else { Some(path) };
        let message = match &field {
            Some(field) => format!("{field}: {}", error.inner()),
            None => error.inner().to_string(),
        };
        CallError { field, ..CallError::new(Code::BadRequest, message) }
    })
}

/// The name in serde's messages "unknown field `x`" and "missing field `x`".
pub(crate) fn quoted_field(message: &str) -> Option<String> {
    Some(message.split_once('`')?.1.split_once('`')?.0.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::Submission;

    #[test]
    fn an_unknown_limit_is_an_error_that_names_it() {
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
