//! Requests whose end another parser might see elsewhere are refused, and their connection is
//! closed: what follows them may be a request that a proxy did not see (request smuggling).
//!
//! hyper refuses most of them before (lengths that differ, codings that do not end in `chunked`,
//! folded lines, a space before the colon). What it lets through, and RFC 9112 leaves to choose, is
//! refused here.

use axum::body::Body;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use protocol::code::Code;
use protocol::problem::{PROBLEM_JSON, ProblemBody};

/// What is ambiguous about the framing that a head states.
pub(super) fn ambiguity(headers: &HeaderMap) -> Option<&'static str> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let coding = codings.next()?;
    if codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return Some("Transfer-Encoding must be there once and be \"chunked\"");
    }
    headers.contains_key(CONTENT_LENGTH).then_some("Content-Length and Transfer-Encoding exclude each other")
}

/// The answer to such a request: the last one of its connection.
pub(super) fn refusal(why: &str) -> Response<Body> {
    let problem = ProblemBody::new(Code::BadRequest, why);
    let body = serde_json::to_string(&problem).unwrap_or_default();
    let mut response = Response::new(Body::from(format!("{body}\n")));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_beside_chunks_and_other_codings_are_ambiguous() {
        let is_refused = |fields: &[(http::HeaderName, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(name, HeaderValue::from_static(value));
            }
            ambiguity(&headers).is_some()
        };
        assert!(!is_refused(&[]) && !is_refused(&[(CONTENT_LENGTH, "0")]));
        assert!(!is_refused(&[(TRANSFER_ENCODING, "chunked")]) && !is_refused(&[(TRANSFER_ENCODING, "Chunked")]));
        assert!(is_refused(&[(TRANSFER_ENCODING, "chunked"), (CONTENT_LENGTH, "0")]));
        assert!(is_refused(&[(TRANSFER_ENCODING, "chunked"), (TRANSFER_ENCODING, "chunked")]));
        for coding in ["", "gzip, chunked", "chunked, chunked", "chunked ", "identity"] {
            assert!(is_refused(&[(TRANSFER_ENCODING, coding)]), "{coding:?}");
        }
        assert_eq!(refusal("no").headers()[CONNECTION], "close");
    }
}
