//! The closed list of error codes, with the JSON-RPC number and the HTTP status of each.

use schemars::JsonSchema;
use serde::Serialize;
use strum::{IntoStaticStr, VariantArray};

/// Error codes. A client treats a code that it does not know as `internal`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema, IntoStaticStr, VariantArray)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Code {
    /// The request is invalid.
    BadRequest,
    /// The language does not exist.
    UnknownProfile,
    /// Part of the protocol, but not available on this daemon, such as a sandbox that no host can
    /// make.
    Unsupported,
    /// Policy never allows it.
    Denied,
    /// The same id was submitted with other content.
    Conflict,
    /// The caller's uid has reached its quota, or hands in faster than it may.
    QuotaExceeded,
    /// The queue is full.
    QueueFull,
    /// The submission would wait longer than its deadline.
    DeadlineUnreachable,
    /// The daemon is shutting down, or paused.
    Draining,
    /// No Docker host is up.
    NoHost,
    /// The submission, blob or method does not exist.
    NotFound,
    /// The caller's role does not allow the method.
    Forbidden,
    /// Larger than a bound.
    TooLarge,
    /// Reserved and never sent: a caller that reads nothing for too long is disconnected.
    SlowReader,
    /// An image could not be built, pulled or found; no host has that of a submission's profile.
    ImageFailed,
    /// The store takes no submission: its disk is full or fails. `submission.run` works.
    StoreFull,
    /// Over HTTP only: no token or session, or one that is not valid.
    Unauthenticated,
    /// A fault of the daemon.
    Internal,
}

impl Code {
    pub const ALL: &'static [Code] = Code::VARIANTS;

    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The JSON-RPC error number.
    pub fn number(self) -> i64 {
        match self {
            Code::BadRequest => -32602,
            Code::UnknownProfile => -32001,
            Code::Unsupported => -32002,
            Code::Denied => -32003,
            Code::NotFound => -32004,
            Code::Conflict => -32005,
            Code::QuotaExceeded => -32006,
            Code::QueueFull => -32007,
            Code::Draining => -32008,
            Code::NoHost => -32009,
            Code::Forbidden => -32010,
            Code::TooLarge => -32011,
            Code::DeadlineUnreachable => -32012,
            Code::SlowReader => -32013,
            Code::ImageFailed => -32014,
            Code::StoreFull => -32015,
            Code::Unauthenticated => -32016,
            Code::Internal => -32099,
        }
    }
}

/// The status of an HTTP answer with this code. What HTTP itself refuses has a status of its own
/// (405, 408, 413, 415, 431) and the code that fits best.
///
/// `unsupported` is 422, not 501: the daemon understood the request and will not answer it in
/// another way later, and monitoring, proxies and clients take 5xx for a fault that passes.
pub fn http_status(code: Code) -> u16 {
    match code {
        Code::BadRequest => 400,
        Code::Unauthenticated => 401,
        Code::Denied | Code::Forbidden => 403,
        Code::NotFound => 404,
        Code::SlowReader => 408,
        Code::Conflict => 409,
        Code::TooLarge => 413,
        Code::UnknownProfile | Code::Unsupported => 422,
        Code::QuotaExceeded | Code::QueueFull | Code::DeadlineUnreachable => 429,
        Code::Internal => 500,
        Code::Draining | Code::NoHost | Code::ImageFailed | Code::StoreFull => 503,
    }
}

/// JSON-RPC's own numbers, for requests without a method or with an unknown one.
pub const PARSE_ERROR: i64 = -32700;
pub const INVALID_REQUEST: i64 = -32600;
pub const METHOD_NOT_FOUND: i64 = -32601;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_code_has_one_name_and_a_number_of_its_own() {
        let numbers: BTreeSet<i64> = Code::ALL.iter().map(|code| code.number()).collect();
        assert_eq!(numbers.len(), Code::ALL.len());
        for code in Code::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
    }

    #[test]
    fn a_status_says_whose_fault_it_is_and_whether_to_try_again() {
        let codes_of = |statuses: std::ops::Range<u16>| -> Vec<&str> {
            let among = Code::ALL.iter().filter(|code| statuses.contains(&http_status(**code)));
            among.map(|code| code.as_str()).collect()
        };
        assert_eq!(codes_of(500..503), ["internal"]);
        assert_eq!(codes_of(503..600), ["draining", "no_host", "image_failed", "store_full"]);
        assert_eq!(codes_of(429..430), ["quota_exceeded", "queue_full", "deadline_unreachable"]);
        assert_eq!(codes_of(100..400), Vec::<&str>::new());
    }
}
