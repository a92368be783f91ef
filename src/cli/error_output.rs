//! Errors on stderr: a sentence with its causes and a remedy, or one line of JSON with `--json`.

use schemars::JsonSchema;
use serde::Serialize;

use super::CliError;
use super::client::ClientError;
use super::out::{self, OutputFormat, TextStyle};

/// The line on stderr of a command that fails with `--json`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ErrorOutput {
    /// What went wrong.
    pub error: ErrorOutputBody,
}

/// An error in the shape of the daemon's error responses.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ErrorOutputBody {
    /// The JSON-RPC error number; absent if the error did not come from the daemon.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<i64>,
    /// A sentence for the user.
    pub message: String,
    /// Details for programs.
    pub data: ErrorOutputData,
}

/// Details of an error for programs.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ErrorOutputData {
    /// The daemon's error code, or one of this command: `usage`, `unreachable` (cannot connect, or
    /// no answer), `not_assay` (another server answers), `lost` (the connection ended before the
    /// reply), `malformed` (the reply is not valid), `invalid` (what was to be checked or made is
    /// not as it should be).
    pub code: String,
    /// A sentence for the user.
    pub message: String,
    /// The request's field that caused the error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// When to try again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// What to do; commands are in backticks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl ErrorOutput {
    pub fn new(error: &CliError) -> ErrorOutput {
        let (sentence, remedy) = describe(error);
        let message = out::clean(&sentence);
        let local = |code: &str| (None, code.to_owned(), message.clone(), None, None);
        let (number, code, message, field, retry_after_ms) = match error {
            CliError::Usage(_) => local("usage"),
            CliError::Invalid(_) => local("invalid"),
            CliError::Client(ClientError::Reply { number, code, message, field, retry_after_ms }) => {
                (Some(*number), code.clone(), message.clone(), field.clone(), *retry_after_ms)
            }
            CliError::Client(ClientError::Connect { .. } | ClientError::Silent { .. }) => local("unreachable"),
            CliError::Client(ClientError::NotAssay { .. }) => local("not_assay"),
            CliError::Client(ClientError::Closed | ClientError::Io(_)) => local("lost"),
            CliError::Client(ClientError::LineTooLong | ClientError::Malformed(_)) => local("malformed"),
        };
        let data = ErrorOutputData { code, message: message.clone(), field, retry_after_ms, remedy };
        ErrorOutput { error: ErrorOutputBody { code: number, message, data } }
    }
}

/// Prints an error on stderr.
pub fn print_error(error: &CliError, output: OutputFormat) {
    if output.is_json() {
        out::note(serde_json::to_value(ErrorOutput::new(error)).unwrap_or_default());
        return;
    }
    let (sentence, remedy) = describe(error);
    out::note(format_args!("{} {}", out::styled_for_stderr("assay:", TextStyle::Red), out::clean(&sentence)));
    if let Some(remedy) = remedy {
        out::note(format_args!("  {remedy}"));
    }
}

/// The error as a sentence with its causes, and what to do about it.
pub(crate) fn describe(error: &CliError) -> (String, Option<String>) {
    let CliError::Client(error) = error else {
        return (error.to_string(), None);
    };
    let mut sentence = match error {
        ClientError::Reply { code, message, field, .. } => match field {
            Some(field) => format!("{message} ({code}, {field})"),
            None => format!("{message} ({code})"),
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
