//! Drive a submission on a lease; decide what happened; check what it said.
//!
//! ```text
//!  Work --validate (accept)--> files, compile?, tests --drive--> facts --decide--> outcome, verdict, message
//!                                                          output --check--> right, or where it differs
//! ```
//!
//! [`accept`] turns a request into [`Work`](crate::model::work::Work), [`decide`] and [`check`] are pure, [`cache`]
//! remembers what was compiled, [`drive`] is the part that waits. Expected output stays in this process: nothing here ever sends it (DESIGN section 5).

pub mod accept;
pub mod cache;
pub mod check;
pub mod decide;
pub mod drive;
pub mod rejected;
pub mod render;
