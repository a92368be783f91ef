//! One queue over the hosts: admit or refuse, lease, judge, answer. Every admitted submission gets exactly one report.
//!
//! ```text
//!  submit --admission (pure)--> Entry{Queued} --lease--> Running --judge--> Done(report)
//!             |                     |                      | lost: once more on a fresh sandbox
//!             v                     |-- cancel, deadline --'--> Done(cancelled | system_error)
//!          Refusal{queue_full | ..} '-- the drain's end, and it outlives its caller --> Kept --next daemon--> Queued
//! ```
//!
//! What is refused has a code: `queue_full`, `quota_exceeded`, `deadline_unreachable`, `draining`, `no_host`, `conflict`.
//!
//! [`admission`] decides who gets in, [`mod@line`] whose turn it is, [`place`] on which host, [`pace`] how long that takes: all
//! pure. At the [`desk`] sandboxes are handed out; [`registry`] remembers, [`mod@kept`] (work) and [`mod@answers`] (reports)
//! remember beyond the daemon's end, [`dispatch`] does; [`stages`] and [`tally`] count, [`mod@health`] and [`views`] show. A submission is a task of its own: its caller may leave, wait again, or withdraw it.

pub mod admission;
mod answers;
mod blame;
mod counters;
mod desk;
mod dispatch;
mod health;
mod kept;
pub mod line;
mod pace;
pub mod place;
mod registry;
mod said;
mod seats;
mod stages;
mod tally;
mod views;

pub use admission::Refusal;
pub use answers::Shelf;
pub use counters::Counters;
pub use dispatch::{Arrival, Scheduler};
pub use health::{CheckKind, Health, HealthCheck, HealthWord};
pub use registry::{Entry, IsKept, State};
pub use stages::{Stage, StageRow};
