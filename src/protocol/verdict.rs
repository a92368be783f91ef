//! Verdicts of submissions and tests.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The verdict of a submission or of one of its tests.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, strum::Display, strum::IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Verdict {
    /// The output is correct.
    Accepted,
    /// The program ended well, but its output is not the expected one.
    WrongAnswer,
    /// A checker gave some of the points.
    Partial,
    /// The compile step did not exit with status 0, or did not make what is run.
    CompileError,
    /// The program exited with a status other than 0, was terminated by a signal, or could not be
    /// started.
    RuntimeError,
    /// The CPU or wall time limit was exceeded.
    TimeLimit,
    /// The memory limit was exceeded.
    MemoryLimit,
    /// The limit on output or file size was exceeded.
    OutputLimit,
    /// Not run, because an earlier step or test decided the verdict.
    Skipped,
    /// The caller cancelled the submission, or the daemon was stopped before it was done (`blame`
    /// is then `assay`).
    Cancelled,
    /// The daemon, a host or a checker failed: never the submission's fault.
    SystemError,
}

impl Verdict {
    /// The word in the protocol.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}
