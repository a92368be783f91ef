//! The published types: methods with their parameters and results, error codes, submissions,
//! reports, limits, profiles. [`schema`] publishes them as JSON Schema, [`openapi`] the
//! routes of HTTP. No IO, no clock, no engine.
//!
//! [`submission`] and [`report`] are JSON of the socket protocol (docs/PROTOCOL.md): their field
//! names are a contract, with units last. Types that stay inside the daemon use
//! [`std::time::Duration`].

pub mod callback;
pub mod caller;
pub mod code;
pub mod counts;
pub mod egress;
pub mod envelope;
pub mod history;
pub mod http;
pub mod isolation;
pub mod language_code;
pub mod limits;
pub mod method;
pub mod openapi;
pub mod outcome;
pub mod params;
pub mod placeholders;
pub mod prewarm;
pub mod principal;
pub mod problem;
pub mod profile;
pub mod receipt;
pub mod report;
pub mod report_text;
pub mod results;
pub mod routes;
pub mod rows;
pub mod schema;
pub mod status;
pub mod submission;
pub mod token;
pub mod verdict;

pub use caller::Caller;
pub use code::Code;
pub use counts::Counts;
pub use envelope::{Envelope, PublicKey, ReceiptKey};
pub use isolation::{Isolation, IsolationRequest, Relaxation, ReusePolicy};
pub use limits::{Ceilings, Limits, LimitsRequest, Preset};
pub use method::{Method, Notification, Role};
pub use outcome::{Evidence, MemorySource, Outcome, RunFacts};
pub use placeholders::Placeholders;
pub use prewarm::{PrewarmSpec, PrewarmedRuntime};
pub use principal::{Account, Principal};
pub use profile::Profile;
pub use report::{Blame, Report, RunReport, StartKind, TestReport, Timing};
pub use report_text::ReportText;
pub use submission::Submission;
pub use token::TokenRole;
pub use verdict::Verdict;
