//! The result of one test, and what keeps tests from having one.

use super::stored::StoredOutputs;
use super::transcript::Transcript;
use crate::work::PlannedTest;
use protocol::{Outcome, RunFacts, Verdict};
use sandbox::lifecycle::Lost;

/// The result of one test.
#[derive(Debug, Clone, PartialEq)]
pub struct TestResult {
    pub name: String,
    pub group: Option<String>,
    pub verdict: Verdict,
    /// Message for the submitter.
    pub message: String,
    pub weight: f64,
    /// Points that a checker gave. Without them an accepted test gives its weight.
    pub points: Option<f64>,
    /// A checker's message for the problem author.
    pub feedback: Option<String>,
    /// The conversation of an interactive test.
    pub transcript: Option<Transcript>,
    /// How often the program was run, if that may be more than once.
    pub passes: Option<u32>,
    /// `None` if the test was skipped.
    pub run: Option<RunFacts>,
    /// Outputs of the run that are blobs already.
    pub stored: StoredOutputs,
}

/// Which sandbox was lost, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LostSandbox {
    Submission(Lost),
    /// A referee's, by its index in the work's referees.
    Referee(usize, Lost),
}

/// Whether a sandbox may not be used again after this run.
pub(super) fn forbids_reuse(run: &RunFacts) -> bool {
    [Outcome::MemoryLimit, Outcome::Cancelled, Outcome::Lost].contains(&run.outcome) || run.evidence.oom_kills > 0
}

/// The result of a test that was not run.
pub(super) fn skipped(test: &PlannedTest) -> TestResult {
    let bare = bare(&test.name, Verdict::Skipped, "Not run.");
    TestResult { group: test.group.clone(), weight: test.weight, ..bare }
}

/// A result without a run.
pub(super) fn bare(name: &str, verdict: Verdict, message: &str) -> TestResult {
    TestResult {
        name: name.to_owned(),
        group: None,
        verdict,
        message: message.to_owned(),
        weight: 1.0,
        points: None,
        feedback: None,
        transcript: None,
        passes: None,
        run: None,
        stored: StoredOutputs::default(),
    }
}
