//! The nouns: what a caller hands in, what it gets back, and the limits in between. No IO, no clock, no engine.
//!
//! The JSON edge is [`submission`] and [`report`]: their field names are the socket protocol's contract
//! (DESIGN section 6), with units last. Inside, durations are [`std::time::Duration`].

pub mod caller;
pub mod counts;
pub mod isolation;
pub mod limits;
pub mod outcome;
pub mod prewarm;
pub mod profile;
pub mod report;
pub mod submission;
pub mod verdict;

pub use caller::Caller;
pub use counts::Counts;
pub use isolation::{Isolation, IsolationRequest, Relaxation};
pub use limits::{Ceilings, Limits, LimitsRequest, Preset};
pub use outcome::{Evidence, MemorySource, Outcome, RunFacts};
pub use prewarm::{PrewarmSpec, PrewarmedRuntime};
pub use profile::Profile;
pub use report::{Blame, Report, RunReport, StartKind, TestReport, Timing};
pub use submission::Submission;
pub use verdict::Verdict;
