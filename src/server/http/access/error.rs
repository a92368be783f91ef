//! Why a request is refused before anything of it is done.
//!
//! One answer for every credential that is not accepted: a caller who guesses learns nothing of
//! what exists, has expired or was revoked.

use http::StatusCode;

use protocol::code::{Code, http_status};

/// A refusal. Its text is for the caller, with the remedy; it repeats nothing of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// The credential is missing, or is not accepted.
    #[error(
        "this needs a valid token or browser session: send the header \"Authorization: Bearer assay_...\" (`assay token \
         add` makes one), or log in again"
    )]
    Unauthenticated,
    /// A login code that is not valid: used, too old, or never made.
    #[error("this login code is not valid (any more): make another one, it is valid for a minute and once")]
    InvalidCode,
    #[error(
        "a token must not be in a URL, where it would be logged: revoke it, and send a new one in the header Authorization"
    )]
    TokenInUrl,
    #[error("more than one Authorization header: send one")]
    SeveralCredentials,
    #[error("the header Host is missing, is there twice, or is not a host with a port")]
    InvalidHost,
    #[error("this name is not served: requests must be for one of the names in http.hosts")]
    ForeignHost,
    #[error(
        "a browser's request must come from a page of this server: its Origin or Sec-Fetch-Site says that it does not"
    )]
    CrossOrigin,
    #[error("a browser's request must have a body in JSON: send the header \"Content-Type: application/json\"")]
    NotJson,
    /// The caller is known, and lacks a role.
    #[error("this needs the role {role}, which the caller lacks")]
    MissingRole {
        /// The role's word.
        role: &'static str,
    },
    #[error("without a token or a session only a run that is waited for is possible, and its id is the server's")]
    OneShot,
    #[error("this is not for anonymous callers: it needs a token")]
    Anonymous,
    #[error("too many browser sessions are open: end one, or wait until one expires")]
    TooManySessions,
}

impl AccessError {
    /// The word of the closed list.
    pub fn code(self) -> Code {
        match self {
            AccessError::Unauthenticated | AccessError::InvalidCode => Code::Unauthenticated,
            AccessError::TokenInUrl
            | AccessError::SeveralCredentials
            | AccessError::InvalidHost
            | AccessError::NotJson => Code::BadRequest,
            AccessError::ForeignHost
            | AccessError::CrossOrigin
            | AccessError::MissingRole { .. }
            | AccessError::OneShot
            | AccessError::Anonymous => Code::Forbidden,
            AccessError::TooManySessions => Code::QuotaExceeded,
        }
    }

    /// The status of the response. A 401 has `WWW-Authenticate: Bearer` with it.
    pub fn status(self) -> StatusCode {
        match self {
            AccessError::NotJson => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            other => StatusCode::from_u16(http_status(other.code())).unwrap_or(StatusCode::FORBIDDEN),
        }
    }
}
