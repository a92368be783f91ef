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

/// The query of a request, as one of the protocol's types.
pub(super) struct Params<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let parsed = Query::<T>::from_request_parts(parts, state).await;
        let wrong = |rejection: QueryRejection| {
            let text = rejection.body_text();
            let text = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
            // serde names an unknown field in its message, and a wrong one before it
            let field = quoted_field(text).or_else(|| Some(text.split_once(": ")?.0.to_owned()));
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
