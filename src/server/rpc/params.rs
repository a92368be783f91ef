//! What the methods take, exactly as it stands in JSON. Unknown fields are errors; [`super::schema`] publishes the shapes.
//!
//! A submission stands in `params` directly or under `submission`, so `submission.run` and `submission.submit` take theirs
//! apart by hand; [`RunParams`] and [`SubmitParams`] are what that amounts to.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use protocol::Submission;

/// Nothing: `{}`, or no `params` at all.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// Of `submission.run`: the submission's own fields, or the submission under its name; `stream` beside either.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
#[allow(clippy::large_enum_variant, reason = "a shape to publish; none is ever made")]
pub enum RunParams {
    /// The submission's fields themselves.
    Plain(RunPlain),
    /// Under its name.
    Named(RunNamed),
}

/// A submission's fields, and whether to tell what happens.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct RunPlain {
    /// The submission.
    #[schemars(flatten)]
    pub submission: Submission,
    /// Whether `submission.event` notifications come before the report.
    #[schemars(default)]
    pub stream: bool,
}

/// A submission under its name.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct RunNamed {
    /// The submission.
    pub submission: Submission,
    /// Whether `submission.event` notifications come before the report.
    #[schemars(default)]
    pub stream: bool,
}

/// Of `submission.submit`: the submission's own fields, or the submission under its name.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
#[allow(clippy::large_enum_variant, reason = "a shape to publish; none is ever made")]
pub enum SubmitParams {
    /// The submission's fields themselves.
    Plain(Submission),
    /// Under its name.
    Named(SubmitNamed),
}

/// A submission under its name.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct SubmitNamed {
    /// The submission.
    pub submission: Submission,
}

/// Of `submission.wait`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WaitParams {
    /// The submission's id.
    pub id: String,
    /// Answer with the state when this time is over first.
    pub timeout_ms: Option<u64>,
    /// Whether `submission.event` notifications come before the report.
    #[serde(default)]
    pub stream: bool,
    /// The first event to send; needs `stream`.
    pub from_seq: Option<u64>,
}

/// A submission.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IdParams {
    /// The submission's id.
    pub id: String,
}

/// Of `submission.input`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InputParams {
    /// The submission's id.
    pub id: String,
    /// Text for its standard input.
    pub data: Option<String>,
    /// Bytes for its standard input, as base64; not beside `data`.
    pub data_b64: Option<String>,
    /// Whether this is the end of its input.
    #[serde(default)]
    pub eof: bool,
}

/// Of `submission.cancel`: one of the two.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelParams {
    /// A submission's id.
    pub id: Option<String>,
    /// The JSON-RPC id of a `submission.run` of this connection.
    pub request: Option<Value>,
}

/// Of `submission.list`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListParams {
    /// Only those in this state: `queued`, `running` or `done`.
    pub state: Option<String>,
    /// Only those of this tenant.
    pub tenant: Option<String>,
}

/// Of `blob.put`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BlobPutParams {
    /// The piece, as base64.
    pub data_b64: String,
    /// Where it belongs: how many bytes the blob has so far.
    pub offset: u64,
    /// Whether it is the last piece.
    pub eof: bool,
    /// Which blob goes on; absent to begin one.
    pub blob: Option<String>,
}

/// Of `blob.get`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BlobGetParams {
    /// Which.
    pub blob: String,
    /// Where to begin.
    #[serde(default)]
    pub offset: u64,
    /// How many bytes at most; never more than half of `max_line_bytes`.
    pub max: Option<u64>,
}

/// A host.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HostParams {
    /// Its name.
    pub host: String,
}

/// Of `image.build` and `image.pull`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageParams {
    /// Whose image.
    pub profile: String,
    /// On which host; absent for every host that answers.
    pub host: Option<String>,
}
