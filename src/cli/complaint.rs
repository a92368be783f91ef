//! What went wrong, said on stderr: as a sentence with its causes and the next command to type, or as one line of JSON.

use schemars::JsonSchema;
use serde::Serialize;

use super::client::RpcError;
use super::{CliError, out};

/// One line on stderr with `--json`, when a command cannot do its work.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Complaint {
    /// What went wrong.
    pub error: ComplaintBody,
}

/// As in a response of the daemon.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ComplaintBody {
    /// The JSON-RPC number; absent when it was not the daemon who said it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<i64>,
    /// For people.
    pub message: String,
    /// For programs.
    pub data: ComplaintData,
}

/// An error for programs.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ComplaintData {
    /// The daemon's word, or one of this command: `usage`, `unreachable` (nobody to connect to), `not_assay` (something else
    /// answers there), `lost` (the connection ended before the reply), `malformed` (a reply that is none).
    pub code: String,
    /// For people.
    pub message: String,
    /// The request's field that is to blame.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// When to try again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// What to do, the next command to type in backticks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Complaint {
    /// About this.
    pub fn of(error: &CliError) -> Complaint {
        let (sentence, remedy) = sentences(error);
        let message = out::clean(&sentence);
        let own = |word: &str| (None, word.to_owned(), message.clone(), None, None);
        let (code, word, message, field, retry_after_ms) = match error {
            CliError::Usage(_) => own("usage"),
            CliError::Rpc(RpcError::Reply { number, word, message, field, retry_after_ms }) => {
                (Some(*number), word.clone(), message.clone(), field.clone(), *retry_after_ms)
            }
            CliError::Rpc(RpcError::Connect { .. }) => own("unreachable"),
            CliError::Rpc(RpcError::NotAssay { .. }) => own("not_assay"),
            CliError::Rpc(RpcError::Closed | RpcError::Io(_)) => own("lost"),
            CliError::Rpc(RpcError::LineTooLong | RpcError::Malformed(_)) => own("malformed"),
        };
        let data = ComplaintData { code: word, message: message.clone(), field, retry_after_ms, remedy };
        Complaint { error: ComplaintBody { code, message, data } }
    }
}

/// Says an error.
pub fn complain(error: &CliError, json: bool) {
    if json {
        out::note(serde_json::to_value(Complaint::of(error)).unwrap_or_default());
        return;
    }
    let (sentence, remedy) = sentences(error);
    out::note(format_args!("{} {}", out::tint_on_stderr("assay:", out::Tint::Red), out::clean(&sentence)));
    if let Some(remedy) = remedy {
        out::note(format_args!("  {remedy}"));
    }
}

/// The error as a sentence with its causes, and the remedy.
pub(crate) fn sentences(error: &CliError) -> (String, Option<String>) {
    let CliError::Rpc(error) = error else {
        return (error.to_string(), None);
    };
    let mut sentence = match error {
        RpcError::Reply { word, message, field, .. } => match field {
            Some(field) => format!("{message} ({word}, {field})"),
            None => format!("{message} ({word})"),
        },
        other => format!("failed to {other}"),
    };
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        sentence.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    (sentence, error.remedy())
}
