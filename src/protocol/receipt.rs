//! Receipts: what ran, on which image, with which inputs, to which result, as an in-toto statement
//! (version 1) that [`envelope`](crate::envelope) signs.
//!
//! The subject is a report: its name is the submission's id, its digest that of the report's JSON
//! as `submission.get` returns it. The same submission on the same image gives the same predicate,
//! but for [`times`](Predicate::times) and [`figures`](Predicate::figures).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::limits::LimitsRequest;
use crate::outcome::Outcome;
use crate::report::Blame;
use crate::verdict::Verdict;

/// The type of an in-toto statement, version 1.
pub const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";

/// The type of our predicate.
pub const PREDICATE_TYPE: &str = "urn:assay:receipt:v1";

/// An in-toto statement about a report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Statement {
    /// The type of statements: `https://in-toto.io/Statement/v1`.
    #[serde(rename = "_type")]
    pub statement_type: String,
    /// The report, alone.
    pub subject: Vec<Subject>,
    /// The type of receipts: `urn:assay:receipt:v1`.
    #[serde(rename = "predicateType")]
    pub predicate_type: String,
    /// What is stated of it.
    pub predicate: Predicate,
}

impl Statement {
    /// A statement about the report of a submission, whose JSON has this digest.
    pub fn new(id: &str, report_sha256: String, predicate: Predicate) -> Statement {
        Statement {
            statement_type: STATEMENT_TYPE.to_owned(),
            subject: vec![Subject { name: id.to_owned(), digest: SubjectDigest { sha256: report_sha256 } }],
            predicate_type: PREDICATE_TYPE.to_owned(),
            predicate,
        }
    }
}

/// What a statement is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Subject {
    /// The submission's id.
    pub name: String,
    /// The digest of the report's JSON.
    pub digest: SubjectDigest,
}

/// A digest, by its algorithm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SubjectDigest {
    /// SHA-256 in hexadecimal.
    pub sha256: String,
}

/// What a receipt states.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Predicate {
    /// The instance that judged: its name, and its random id.
    pub instance: String,
    /// The daemon's version.
    pub version: String,
    /// The tenant that the caller stated; empty if none.
    pub tenant: String,
    /// The submission's language.
    pub language: String,
    /// SHA-256 of how its profile makes sandboxes and runs programs: image, isolation, runtime,
    /// allowed system calls, command, environment.
    pub profile_sha256: String,
    /// SHA-256 of the init that ran the programs.
    pub init_sha256: String,
    /// The id of the image with the init; absent if no sandbox was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// `split` or `cell`; absent if no sandbox was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<String>,
    /// The limits of a run.
    pub limits: LimitsRequest,
    /// What was judged, and against what.
    pub inputs: Vec<ReceiptInput>,
    /// Whether the caller could send input during the run, of which no digest is here.
    pub stdin_open: bool,
    /// The verdict of the whole submission.
    pub verdict: Verdict,
    /// Whose fault a `system_error` is.
    pub blame: Option<Blame>,
    /// How each run ended, in the order of the report.
    pub runs: Vec<ReceiptRun>,
    /// When it arrived and was answered.
    pub times: ReceiptTimes,
    /// What it used.
    pub figures: ReceiptFigures,
}

/// Something that a submission consists of. One of the two digests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReceiptInput {
    /// What it is.
    pub kind: InputKind,
    /// A file's path, or a test's name; empty if there is only one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// SHA-256 of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// HMAC-SHA256 of it under a key of the instance, if it is secret: a digest could be guessed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hmac_sha256: Option<String>,
}

/// What an input is, and so what its digest is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InputKind {
    /// A file of the submission: its bytes.
    File,
    /// The compile step: command, environment and limits.
    Compile,
    /// The run of a submission without tests or suite: command, environment, limits.
    Command,
    /// The input of that run: its bytes.
    Stdin,
    /// A test: command, environment, limits, input, files, checker, points.
    Test,
    /// The expected output of a test: its bytes. Always an HMAC.
    Expect,
    /// The suite: command, environment, limits and format.
    Suite,
    /// A test file of the suite: its bytes.
    SuiteFile,
    /// A checker or interactor that is a program: command, environment, limits, files. Always an
    /// HMAC.
    Referee,
    /// What else changes how it is judged: passes, sandboxes at a time, when to stop, whether
    /// output is cut off, which files come back, the isolation that it asks for.
    Settings,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReceiptRun {
    /// `compile`, `run`, `suite`, or the name of the test.
    pub name: String,
    /// The verdict of a test.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// How it ended; absent if it did not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// The exit status, if the program exited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal, if one terminated it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
}

/// When a submission arrived and was answered, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReceiptTimes {
    /// When its last byte was read.
    pub received_ms: i64,
    /// When its report was made.
    pub answered_ms: i64,
}

/// What a submission used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReceiptFigures {
    /// From its last byte to its report.
    pub total_ms: f64,
    /// CPU time of its runs.
    pub cpu_ms: f64,
    /// The most memory that one of its runs used.
    pub memory_bytes: u64,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn statement() -> Statement {
        let predicate = Predicate {
            instance: "default-0123456789ab".to_owned(),
            version: "0.1.0".to_owned(),
            tenant: "t".to_owned(),
            language: "python".to_owned(),
            profile_sha256: "p".to_owned(),
            init_sha256: "i".to_owned(),
            image: Some("sha256:1".to_owned()),
            isolation: Some("cell".to_owned()),
            limits: LimitsRequest { cpu_ms: Some(2000), cpus: Some(1.0), ..LimitsRequest::default() },
            inputs: vec![ReceiptInput {
                kind: InputKind::File,
                name: "main.py".to_owned(),
                sha256: Some("f".to_owned()),
                hmac_sha256: None,
            }],
            stdin_open: false,
            verdict: Verdict::Accepted,
            blame: None,
            runs: vec![ReceiptRun {
                name: "run".to_owned(),
                verdict: None,
                outcome: Some(Outcome::Exited),
                exit_code: Some(0),
                signal: None,
            }],
            times: ReceiptTimes { received_ms: 1, answered_ms: 2 },
            figures: ReceiptFigures { total_ms: 1.5, cpu_ms: 0.5, memory_bytes: 3 },
        };
        Statement::new("homework-1", "r".to_owned(), predicate)
    }

    #[test]
    fn a_statement_is_that_of_in_toto() {
        let json = serde_json::to_value(statement()).unwrap();
        assert_eq!(json["_type"], "https://in-toto.io/Statement/v1");
        assert_eq!(json["subject"][0]["name"], "homework-1");
        assert_eq!(json["subject"][0]["digest"]["sha256"], "r");
        assert_eq!(json["predicateType"], PREDICATE_TYPE);
        assert_eq!(json["predicate"]["runs"][0]["outcome"], "exited");
        assert_eq!(serde_json::from_value::<Statement>(json).unwrap(), statement());
    }
}
