//! The queue over all hosts: admits or refuses submissions, allocates sandboxes, has them judged,
//! and answers every admitted submission with exactly one report.
//!
//! ```text
//!  submit --admission--> SubmissionHandle (a task of its own; see `submission` for its states)
//!             |                  |
//!             v                  '--> acquire --> execute --> settle --> report
//!          Refusal                    allocator   judge       blame
//! ```
//!
//! A [`Refusal`] says why a submission is not admitted; the server gives it a code. A caller may
//! leave, wait again, or cancel its submission at any time.
//!
//! | module | |
//! |---|---|
//! | [`admission`] | admits or refuses; pure |
//! | [`fair_queue`] | whose turn it is; pure |
//! | [`host_choice`] | on which host; pure |
//! | `wait_estimator` | how long a submission will wait; pure |
//! | [`allocator`] | hands out sandboxes |
//! | [`submission`], `phase` | the states of one submission |
//! | `leases` | limits and reuse of its sandboxes |
//! | `offers` | sandboxes on hosts that have room for a submission |
//! | `room_hold` | a submission that smaller ones must not pass any more |
//! | `referee_requests` | those who wait for a referee's sandbox |
//! | `further_sandboxes` | those for more tests at the same time |
//! | `blame` | reports without a judgement, and whose fault they are |
//! | `service` | admits submissions, starts their tasks, drains |
//! | `rate` | how many submissions an account may hand in per second |
//! | `no_sandbox`, `long_wait` | why a submission got no sandbox, or waits long for one |
//! | `registry` | submissions by id |
//! | `answering` | a submission's task and the publication of its report |
//! | `store_access`, `store_watch` | the store, and its health |
//! | `records`, `recordings` | what it keeps of a report, and reports on their way to it |
//! | `durable`, `stored`, `resume` | submissions that outlive the daemon |
//! | `callbacks`, `callback_delivery`, `egress_client` | reports that are sent to a URL |
//! | `migration`, `kept_files` | what version 0.1 left in the state folder |
//! | `outputs` | where large outputs are until they are fetched |
//! | `receipt` | what went in, on which image, to which result, signed |
//! | `health`, [`stages`], `counters`, `metrics`, `language_metrics` | figures |
//! | `access_log` | one log line per answered submission |

pub mod admission;
pub mod allocator;
pub mod fair_queue;
pub mod host_choice;
pub mod stages;
pub mod submission;

mod access_log;
mod answering;
mod blame;
mod callback_delivery;
mod callbacks;
mod counters;
mod durable;
mod egress_client;
mod further_sandboxes;
mod health;
mod kept_files;
mod language_metrics;
mod leases;
mod long_wait;
mod metrics;
mod migration;
mod no_sandbox;
mod offers;
mod outputs;
#[cfg(test)]
mod overload_tests;
mod phase;
mod rate;
mod receipt;
mod recordings;
mod records;
mod referee_requests;
mod registry;
mod resume;
mod room_hold;
mod service;
mod store_access;
mod store_watch;
mod stored;
mod wait_estimator;

pub use admission::Refusal;
pub use allocator::Allocator;
pub use callbacks::{CallbackDenied, Callbacks, TokenHashes};
pub use durable::DurableRequest;
pub use health::check_health;
pub use outputs::BlobStore;
pub use phase::SubmissionPhase;
pub use receipt::ReceiptIssuer;
pub use registry::{KeptForNextDaemon, SubmissionHandle, SubmissionIo, Viewer};
pub use service::{Arrival, ServiceKeepers, SubmissionService};
pub use stages::Stage;
pub use store_access::{StoreAccess, may_pass};
