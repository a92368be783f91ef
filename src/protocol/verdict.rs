//! The judged answer.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a submission, or one of its tests, is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Right.
    Accepted,
    /// It ran and said something else than expected.
    WrongAnswer,
    /// Some points.
    Partial,
    /// The compile step did not exit 0.
    CompileError,
    /// It exited with another status than 0, or by a signal.
    RuntimeError,
    /// CPU or wall time.
    TimeLimit,
    /// Memory.
    MemoryLimit,
    /// Output or file size.
    OutputLimit,
    /// Not run, because an earlier test decided.
    Skipped,
    /// The caller withdrew it.
    Cancelled,
    /// Our fault or the host's: never the submission's.
    SystemError,
}

impl Verdict {
    /// The word of the protocol.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Accepted => "accepted",
            Verdict::WrongAnswer => "wrong_answer",
            Verdict::Partial => "partial",
            Verdict::CompileError => "compile_error",
            Verdict::RuntimeError => "runtime_error",
            Verdict::TimeLimit => "time_limit",
            Verdict::MemoryLimit => "memory_limit",
            Verdict::OutputLimit => "output_limit",
            Verdict::Skipped => "skipped",
            Verdict::Cancelled => "cancelled",
            Verdict::SystemError => "system_error",
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
