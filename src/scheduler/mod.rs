//! One queue over the hosts: admit or refuse, lease, judge, answer. Every admitted submission gets exactly one report.
//!
//! ```text
//!  submit --admission (pure)--> Entry{Queued} --lease--> Running --judge--> Done(report)
//!             |                     |                      | lost: once more on a fresh sandbox
//!             v                     '-- cancel, deadline --'--> Done(cancelled | system_error)
//!          Refusal{queue_full | quota_exceeded | deadline_unreachable | draining | no_host}
//! ```
//!
//! [`admission`] decides who gets in, [`mod@line`] whose turn it is, [`place`] on which host, [`pace`] how long that takes: all
//! pure. At the [`desk`] sandboxes are handed out; [`registry`] remembers, [`dispatch`] does. A submission is a task of its own: its caller
//! may leave, wait again, or withdraw it.

mod admission;
mod counters;
mod desk;
mod dispatch;
pub mod line;
mod pace;
mod place;
mod registry;
mod stages;

pub use admission::Refusal;
pub use dispatch::Scheduler;
pub use registry::{Entry, State};
pub use stages::StageRow;
