//! Queries and bodies of the HTTP API that the socket protocol does not have. Unknown fields are
//! errors, as there.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::report::TestReport;
use crate::{Principal, Verdict};

/// Query of `POST /api/v1/submissions`.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SubmitQuery {
    /// Whether the answer is the report. Otherwise it is the id, as soon as the submission is
    /// stored.
    #[serde(default = "yes")]
    pub wait: bool,
}

fn yes() -> bool {
    true
}

/// Query of routes that name a submission.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TenantQuery {
    /// The tenant that it was handed in for; without it, the first of yours that has this id.
    pub tenant: Option<String>,
}

/// Query of `GET /api/v1/submissions/{id}`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StateQuery {
    /// The tenant that it was handed in for; without it, the first of yours that has this id.
    pub tenant: Option<String>,
    /// Answer with the state if the report is not available within this time; at once if absent.
    pub wait_ms: Option<u64>,
    /// Whether to answer with what history says of it, too.
    pub history: bool,
}

/// Body of `POST /api/v1/submissions/{id}/input`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct InputBody {
    /// Text for its standard input.
    pub data: Option<String>,
    /// Bytes for its standard input, in base64; excludes `data`.
    pub data_b64: Option<String>,
    /// Whether its input ends here.
    pub eof: bool,
}

/// Body of `POST /api/v1/session`, unless the request has a token in its header.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SessionBody {
    /// A one-use code, valid for a minute.
    pub code: Option<String>,
}

/// A browser session: who it is.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct SessionRow {
    /// The principal that requests with the cookie are made by, such as `token:ci`.
    #[schemars(with = "String")]
    pub principal: Principal,
    /// `submit` or `admin`.
    pub role: String,
    /// Its tenant, if it is fixed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// How long the session lasts.
    pub expires_in_ms: u64,
}

/// Body of `POST /api/run-code`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RunCodeBody {
    /// The source of the program.
    pub code: String,
    /// Wall time limit; 10 s if absent.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
    /// Memory limit in MiB; 128 if absent.
    #[serde(default)]
    pub memory_limit_mb: Option<u64>,
    /// The name of the profile; `python` if absent.
    #[serde(default)]
    pub language: Option<String>,
    /// A lesson; not available in this version.
    #[serde(default)]
    pub lesson: Option<String>,
    /// A step of the lesson; not available in this version.
    #[serde(default)]
    pub step: Option<u32>,
}

/// Answer of `POST /api/run-code`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunCodeReply {
    /// Whether the verdict is `accepted`.
    pub success: bool,
    /// What the program printed.
    pub output: String,
    /// Why it did not succeed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// From the request to the report, in milliseconds.
    pub execution_time: f64,
    /// The verdict of its run.
    pub verdict: Verdict,
    /// The tests; empty where there are none.
    pub tests: Vec<TestReport>,
}
