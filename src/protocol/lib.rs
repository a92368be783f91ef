//! The published types: submissions, reports, limits and profiles. No IO, no clock, no engine.
//!
//! [`submission`] and [`report`] are JSON of the socket protocol (docs/PROTOCOL.md): their field
//! names are a contract, with units last. Types that stay inside the daemon use
//! [`std::time::Duration`].

pub mod caller;
pub mod counts;
pub mod isolation;
pub mod limits;
pub mod outcome;
pub mod prewarm;
pub mod profile;
pub mod report;
pub mod rows;
pub mod status;
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
