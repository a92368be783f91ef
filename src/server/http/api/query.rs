//! Query parameters and segments of the path. Unknown parameters are errors, as are unknown fields
//! of JSON.

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequestParts, Path, Query};
use http::StatusCode;
use http::request::Parts;
use serde::de::DeserializeOwned;

use super::problem::Problem;
use crate::calls::error::CallError;
use crate::calls::params::quoted_field;
use protocol::code::Code;

/// The parameter at fault: serde names a wrong one before its message, and an unknown one in it.
fn field_of(text: &str) -> Option<String> {
    let is_name = |word: &&str| word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let before = text.split_once(": ").map(|(word, _)| word).filter(is_name);
    before.map(str::to_owned).or_else(|| quoted_field(text))
}

/// The query of a request, as one of the protocol's types.
pub(super) struct Params<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let parsed = Query::<T>::from_request_parts(parts, state).await;
        let wrong = |rejection: QueryRejection| {
            let text = rejection.body_text();
            let text = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
            let field = field_of(text);
            let error = CallError::new(Code::BadRequest, format!("the query: {text}"));
            Problem::from(CallError { field, ..error })
        };
        parsed.map(|Query(value)| Params(value)).map_err(wrong)
    }
}

/// The `{id}` of a path.
pub(super) struct Id(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let parsed = Path::<String>::from_request_parts(parts, state).await;
        let wrong = |rejection: PathRejection| {
            Problem::new(StatusCode::BAD_REQUEST, Code::BadRequest, format!("the path: {}", rejection.body_text()))
        };
        parsed.map(|Path(id)| Id(id)).map_err(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parameter_at_fault_is_named_and_not_what_was_expected() {
        let of = |text: &str| field_of(text).unwrap_or_default();
        assert_eq!(of("wait: provided string was not `true` or `false`"), "wait");
        assert_eq!(of("verdict: unknown variant `good`, expected one of `accepted`"), "verdict");
        assert_eq!(of("unknown field `user`, expected one of `state`, `tenant`"), "user");
        assert_eq!(of("duplicate field `limit`"), "limit");
    }
}
