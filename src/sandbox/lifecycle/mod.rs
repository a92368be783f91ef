//! One sandbox, from its creation to its removal.
//!
//! ```text
//!  Planned --create--> Created --attach--> Attached --start--> Started --Ready frame--> Ready
//!                                                                                         |
//!     Gone <--engine confirms-- Removing <--connection closed-- Spent <--dropped-- Leased, Running
//!
//!  any failure: Broken, then Removing
//! ```
//!
//! One task, the *link*, owns a sandbox's connection from Ready to its end: it always reads, pings
//! every [`HEARTBEAT`](wire::frame::HEARTBEAT), and routes frames to the run in progress. A
//! [`Sandbox`] is a handle of that task; dropping it ends the sandbox.
//!
//! This module knows nothing about verdicts, queues and profiles.

pub mod convert;
mod create;
mod handle;
mod id;
mod inbound;
mod link;
mod messages;
mod pending;
mod prewarm;
mod retire;
mod run;
mod slots;
mod update;
mod verify;

pub use create::{CreateError, CreateOptions, create};
pub use handle::{AuditOutcome, Audited, CollectedFiles, Sandbox};
pub use id::ContainerId;
pub use messages::{Lost, RunEvent, RunOrder, Usage};
pub use prewarm::{PrewarmState, RuntimeChoice};
pub use retire::sweep;
pub use run::RunHandle;
pub use slots::{Slot, Slots};
pub use update::{UpdateError, update_limits};
