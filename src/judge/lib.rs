//! Judges a submission on leased sandboxes: runs it, decides what happened, and checks its output.
//!
//! ```text
//!  request --accept--> Work: files, compile step, tests
//!     --drive--> facts of each run --decide--> outcome, verdict, message
//!                output --check--> equal, or the first difference
//!                       --referee, checker_result--> the result of a checker or interactor
//!                       --suite--> the cases of test files
//! ```
//!
//! [`accept`] turns a request into [`Work`](crate::work::Work); [`decide`], [`check`] and
//! `checker_result` are pure; [`cache`] keeps compiled artifacts; `runner` runs the steps of one
//! program on one sandbox and `supervise` watches each of them; [`drive`] decides what comes next;
//! `test_driver` runs tests on one sandbox, with `referee` for checkers and `interact` for
//! interactive tests, and `parallel` on several, in the order of `test_schedule`; `outputs` says
//! where the output of a judged test is until the report is made, with [`stored`]; [`events`]
//! reports progress to callers that stream. Expected output never enters the sandbox that runs the
//! submission.

pub mod accept;
pub mod cache;
mod cache_index;
mod cancel;
pub mod check;
mod checker_result;
pub mod compute;
pub mod decide;
pub mod drive;
mod error_line;
pub mod events;
pub mod extra;
mod interact;
mod missing_program;
mod outputs;
mod parallel;
pub mod pipe;
mod referee;
pub mod rejected;
pub mod render;
mod results;
mod runner;
pub mod stored;
pub mod suite;
mod supervise;
pub mod talk;
mod test_driver;
mod test_schedule;
pub mod transcript;
pub mod usage;
pub mod work;
