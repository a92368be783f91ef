//! The closed list of error codes, with the JSON-RPC number of each.

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
    /// There is no such language.
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
    /// There is no such submission, blob or method.
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
            Code::Internal => -32099,
        }
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
}
