//! Drive a submission on a lease; decide what happened; check what it said.
//!
//! ```text
//!  Work --validate (accept)--> files, compile?, tests --drive--> facts --decide--> outcome, verdict, message
//!                                                          output --check--> right, or where it differs
//!                                                                 --referee, ruling--> what a program of the caller's says
//!                                                                 --suite--> what test files say
//! ```
//!
//! [`accept`] turns a request into [`Work`](crate::work::Work); [`decide`], [`check`] and `ruling` are pure; [`cache`]
//! remembers what was compiled; `runner` runs one program's steps on one sandbox; [`drive`] decides what comes next, with
//! `referee` for programs that judge and `interact` for those that talk; [`events`] tells it to who listens. Expected output
//! stays out of the sandbox that runs the submission (DESIGN section 5).

pub mod accept;
pub mod cache;
pub mod check;
pub mod decide;
pub mod drive;
pub mod events;
mod interact;
pub mod pipe;
mod referee;
pub mod rejected;
pub mod render;
mod ruling;
mod runner;
pub mod suite;
pub mod work;
