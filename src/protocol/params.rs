//! Parameters of the methods as they appear in JSON. Unknown fields are errors.
//!
//! A submission is given directly in `params` or under `submission`, so the daemon takes the
//! parameters of `submission.run` and `submission.submit` apart by hand; [`RunParams`] and
//! [`SubmitParams`] only describe them.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::{Submission, Verdict};

/// No parameters: `{}`, or no `params` at all.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// Parameters of `submission.run`: the fields of the submission, or the submission under
/// `submission`; plus `stream`.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
#[allow(clippy::large_enum_variant, reason = "describes a shape; never constructed")]
pub enum RunParams {
    /// The fields of the submission.
    Plain(RunPlain),
    /// The submission under `submission`.
    Named(RunNamed),
}

/// The fields of a submission, and whether to send events.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct RunPlain {
    /// The submission to judge.
    #[schemars(flatten)]
    pub submission: Submission,
    /// Whether `submission.event` notifications precede the report.
    #[schemars(default)]
    pub stream: bool,
}

/// A submission under its name, and whether to send events.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct RunNamed {
    /// The submission to judge.
    pub submission: Submission,
    /// Whether `submission.event` notifications precede the report.
    #[schemars(default)]
    pub stream: bool,
}

/// Parameters of `submission.submit`: the fields of the submission, or the submission under
/// `submission`.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
#[allow(clippy::large_enum_variant, reason = "describes a shape; never constructed")]
pub enum SubmitParams {
    /// The fields of the submission.
    Plain(Submission),
    /// The submission under `submission`.
    Named(SubmitNamed),
}

/// A submission under its name.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct SubmitNamed {
    /// The submission to judge.
    pub submission: Submission,
}

/// Parameters of `submission.wait`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WaitParams {
    /// Id of the submission.
    pub id: String,
    /// The tenant that it was handed in for; without it, the first of yours that has this id.
    pub tenant: Option<String>,
    /// Return the state if the report is not available within this time.
    pub timeout_ms: Option<u64>,
    /// Whether `submission.event` notifications precede the report.
    #[serde(default)]
    pub stream: bool,
    /// Number of the first event to send; requires `stream`.
    pub from_seq: Option<u64>,
}

/// Parameters of methods that take a submission's id.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IdParams {
    /// Id of the submission.
    pub id: String,
    /// The tenant that it was handed in for; without it, the first of yours that has this id.
    pub tenant: Option<String>,
}

/// Parameters of `submission.input`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InputParams {
    /// Id of the submission.
    pub id: String,
    /// The tenant that it was handed in for; without it, the first of yours that has this id.
    pub tenant: Option<String>,
    /// Text for its standard input.
    pub data: Option<String>,
    /// Bytes for its standard input, in base64; excludes `data`.
    pub data_b64: Option<String>,
    /// Whether its input ends here.
    #[serde(default)]
    pub eof: bool,
}

/// Parameters of `submission.cancel`: `id` or `request`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelParams {
    /// Id of a submission.
    pub id: Option<String>,
    /// The tenant that it was handed in for; without it, the first of yours that has this id.
    pub tenant: Option<String>,
    /// JSON-RPC id of a `submission.run` on this connection.
    pub request: Option<Value>,
}

/// Parameters of `submission.get`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetParams {
    /// Id of the submission.
    pub id: String,
    /// The tenant that it was handed in for; without it, the first of yours that has this id.
    pub tenant: Option<String>,
    /// Whether to answer with what history says of it.
    #[serde(default)]
    pub history: bool,
}

/// Parameters of `submission.list`. With `state` and `tenant` alone, or without any: submissions
/// that are waiting, running, or finished a short time ago. With any other one: history, which has
/// finished submissions, newest first.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ListParams {
    /// Only submissions in this state: `queued`, `running` or `done`.
    pub state: Option<String>,
    /// Only submissions of this tenant.
    pub tenant: Option<String>,
    /// Only submissions with this verdict.
    pub verdict: Option<Verdict>,
    /// Only submissions in this language.
    pub language: Option<String>,
    /// Only submissions that were answered at this time or later, in milliseconds since 1970.
    pub since_ms: Option<i64>,
    /// Only submissions that were answered before this time.
    pub until_ms: Option<i64>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// The most rows of a page: 1 to 1000. 100 if absent.
    pub limit: Option<u64>,
}

impl ListParams {
    /// Whether history is asked for.
    pub fn is_history(&self) -> bool {
        let ListParams { state: _, tenant: _, verdict, language, since_ms, until_ms, cursor, limit } = self;
        verdict.is_some()
            || language.is_some()
            || since_ms.is_some()
            || until_ms.is_some()
            || cursor.is_some()
            || limit.is_some()
    }
}

/// Parameters of `submission.stats`: which finished submissions to count.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StatsParams {
    /// Only submissions of this tenant.
    pub tenant: Option<String>,
    /// Only submissions with this verdict.
    pub verdict: Option<Verdict>,
    /// Only submissions in this language.
    pub language: Option<String>,
    /// Only submissions that were answered at this time or later, in milliseconds since 1970.
    pub since_ms: Option<i64>,
    /// Only submissions that were answered before this time.
    pub until_ms: Option<i64>,
}

/// Parameters of `store.forget`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ForgetParams {
    /// The tenant; the empty text is that of submissions that stated none.
    pub tenant: String,
    /// Only what this uid handed in for the tenant.
    pub uid: Option<u32>,
    /// Only what this principal handed in for it: `uid:N`, `token:NAME` or `anon:ID`.
    pub principal: Option<String>,
}

/// Parameters of `blob.put`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BlobPutParams {
    /// The piece, in base64.
    pub data_b64: String,
    /// Offset of the piece: the number of bytes that the blob has so far.
    pub offset: u64,
    /// Whether this is the last piece.
    pub eof: bool,
    /// Id of the blob to continue; absent to begin a new one.
    pub blob: Option<String>,
}

/// Parameters of `blob.get`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BlobGetParams {
    /// Id of the blob.
    pub blob: String,
    /// Offset of the first byte.
    #[serde(default)]
    pub offset: u64,
    /// Maximum number of bytes; never more than half of `max_line_bytes`.
    pub max: Option<u64>,
}

/// Parameters of `host.drain` and `host.resume`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HostParams {
    /// Name of the host.
    pub host: String,
}

/// Parameters of `image.prune`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImagePruneParams {
    /// Whether to say what would be removed, and to remove nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Host to work on; absent for every host that answers.
    pub host: Option<String>,
}

/// Parameters of `image.build` and `image.pull`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageParams {
    /// Profile whose image is meant.
    pub profile: String,
    /// Host to work on; absent for every host that answers.
    pub host: Option<String>,
}
