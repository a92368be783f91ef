//! What outlives the process: acknowledged submissions, their reports, history, and the hashes of
//! tokens, in one SQLite file with large outputs beside it.
//!
//! The store knows nothing of requests and reports but their bytes: both are JSON that it returns
//! as it got it, so a later daemon reads what an earlier one wrote. What lists and statistics need
//! stands in columns ([`HistoryEntry`]).
//!
//! # The states of a submission
//!
//! ```text
//!  Intake            Start                Finish                  report_ttl over
//!  --------> queued --------> leased ----------------> answered ----------------> (the id is free)
//!              ^                 |                        |
//!              '-- the store is opened again -------------|---> history, with a key of its own,
//!                                                         |     until retention removes it
//!  Record: a run that was not acknowledged ---------------'---> outbox, until it was fetched, and
//!                                                               until its callback was delivered
//! ```
//!
//! One (principal, tenant, id) has one row in `submission`, so one report. [`Finish`] of a row that
//! is answered changes nothing: the first report stays.
//!
//! # Who owns what
//!
//! ```text
//!  callers --change--> ChangeQueue (bounded) --group--> the writer's thread and connection
//!     ^                                                     |
//!     '------ answer, after the commit ---------------------'
//!  callers --read--> Readers: at most four connections that cannot write
//!  callers --bytes--> StagedOutputs: files, fsynced by the caller before the change is queued
//! ```
//!
//! The writer takes everything that waits, up to a bound, into one transaction (group commit), and
//! answers after the commit. If a group finds no room, each of its changes is tried alone, so one
//! that does not fit harms no other. Between groups the writer does one bounded step of upkeep: ids
//! that are free again, retention by age and size, a forget or vacuum that an operator asked for.
//!
//! # What is synced when
//!
//! | change | commit | answered |
//! |---|---|---|
//! | [`Intake`], [`Finish`], [`Forget`] | `synchronous=FULL`: the WAL is fsynced | after it |
//! | [`AddToken`], [`RevokeToken`] | the same | after it |
//! | [`Start`], [`Requeue`] | at once, without fsync: survives the process only | after it |
//! | [`CallbackTry`], [`CallbackEnd`] | the same | after it |
//! | [`Record`], [`Fetched`] | within [`LINGER`](queue), without fsync | not waited for |
//! | [`UseTokens`] | the same | not waited for |
//!
//! Output files and their folder are fsynced before the change that names them is queued; files are
//! removed after the fsynced commit that no longer names them. A file that no row names is removed
//! when the store is opened.
//!
//! # When something fails
//!
//! A full disk refuses [`Intake`] while less than [`RESERVE`](writer) is free, so that reports of
//! what was acknowledged have room. A damaged file is set aside, and what can be read of its
//! unfinished and unexpired submissions is carried to a new one. After a failed fsync the writer
//! opens the file again and checkpoints it before it accepts more. A file of a later version,
//! another program's file, a network file system, and a second daemon are refused ([`OpenError`]).
//!
//! Requests are removed with the answer, from the file at once and from its log within a second or
//! two, when no reader needs it.
//!
//! Time: what expires is counted by a clock that never goes back, also over restarts ([`clock`]).

mod callback;
mod change;
pub mod clock;
mod database;
mod error;
mod filesystem;
mod history;
mod intake;
mod output;
mod queue;
mod read;
mod record;
mod retention;
mod rows;
mod salvage;
mod schema;
mod set_aside;
mod settings;
mod status;
mod store;
mod task;
mod token;
mod upkeep;
mod writer;

#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod kill_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;

pub use callback::{CallbackAddress, CallbackEnd, CallbackTry, DueCallback, WaitingReceiver};
pub use change::Receipt;
pub use error::{Error, OpenError};
pub use history::{HistoryFilter, HistoryPage, HistoryRow, ListPosition, Tally};
pub use intake::{Intake, IntakeResult, Requeue, Start};
pub use output::{OutputFile, StagedOutputs};
pub use read::{Held, Known, StoredRequest};
pub use record::{Attached, Fetched, Finish, FinishResult, HistoryEntry, Record};
pub use rows::{RecordOwner, StoredState};
pub use set_aside::SetAside;
pub use settings::Retention;
pub use status::Figures;
pub use store::{Options, Store};
pub use task::Forget;
pub use token::{AddToken, AddTokenResult, MAX_TOKENS, RevokeResult, RevokeToken, StoredToken, UseTokens};
