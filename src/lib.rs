//! assay runs untrusted code in Docker sandboxes that are already started, and returns verdicts people can trust, in
//! milliseconds.
//!
//! # Bird's-eye view
//!
//! Talking to the Docker Engine is slow (a start takes 120 to 290 ms); a byte on an attach stream that is already open
//! is fast (0.1 ms). So everything that needs the Engine happens before a submission arrives:
//!
//! ```text
//!  create -> attach (hijacked, kept open) -> start -> our init says Ready -> it waits in the pool
//!
//!  caller --JSON lines--> rpc --Work--> scheduler --lease--> pool
//!                                          |  frames over the open stream
//!                                          v
//!                                       sandbox ======== assay-init (PID 1) --fork, exec--> the program
//!                                          |  facts
//!  caller <--report-- rpc <--verdict-- judge            the sandbox is retired, a new one made: off the answer's path
//! ```
//!
//! # Where a change belongs
//!
//! | module | one noun, and what it decides |
//! |---|---|
//! | [`model`] | the nouns themselves: submission, limits, outcome, verdict, report |
//! | [`wire`] | frames between host and init, as values and as bytes; sans-IO |
//! | [`init`] | PID 1 of a sandbox: run one program, enforce its limits, tell the facts |
//! | [`docker`] | an Engine client that has never heard of sandboxes |
//! | [`telemetry`] | what the daemon says about itself, and how often |
//! | [`config`] | the daemon's settings, profiles, and every fixed bound in one table ([`config::bounds`]) |
//! | [`policy`] | which containers may exist: spec in, approval or denial out; pure |
//! | [`image`] | images found or built without a registry, and the layer with our init |
//! | [`sandbox`] | one sandbox from nothing to gone; the task that owns its connection |
//! | [`pool`] | the inventory of ready sandboxes of one profile: how many to make, who gets one |
//! | [`host`] | one Docker host: client, health, images, pools, reconcile |
//! | [`judge`] | request to work, work to facts, facts to outcome, output to verdict |
//! | [`scheduler`] | admission, the queue, one retry, the one report of every submission |
//! | [`rpc`] | the socket protocol: framing, identity, methods, blobs, back-pressure |
//! | [`gateway`] | the HTTP door: health checks and metrics |
//! | [`daemon`] | the process: lock, reaper, start, drain, end |
//! | [`cli`] | the `assay` command: a caller of the socket protocol, and the doctor |
//!
//! Arrows point down this list or left to right; `tests/it/layout.rs` keeps it so.
//!
//! # Invariants
//!
//! 1. Nothing a program does is an `Err`, a panic, a hang or a log flood of ours; it is an outcome with a name and a test.
//! 2. No container exists that [`policy`] did not read. Only [`sandbox`] creates, and only from an
//!    [`Approved`](policy::Approved). (`assay doctor`, a tool for people, makes one hardened test container of its own.)
//! 3. A used sandbox cannot be lent again by accident: a [`Lease`](pool::Lease) has no put-back.
//! 4. Kill the daemon at any instant: nothing of it is left on the engine three seconds later (dead-man switch, reaper,
//!    start-up sweep; counted from when the engine answers).
//! 5. Every queue, buffer, line, frame, wait and count has a bound, in one table or beside its owner, with its name in
//!    errors.
//! 6. Our fault, or the host's, is never charged to a submission: it is retried once, else `system_error` with `blame`.
//! 7. Bytes from a sandbox decide nothing but their own run and are never logged raw.
//! 8. The hot path makes no Engine call (one named exception: limits other than the pool's cost one update), takes no
//!    fsync, and waits for no removal.

pub mod cli;
pub mod config;
pub mod daemon;
pub mod docker;
pub mod gateway;
pub mod host;
pub mod image;
pub mod init;
pub mod judge;
pub mod model;
pub mod policy;
pub mod pool;
pub mod rpc;
pub mod sandbox;
pub mod scheduler;
pub mod telemetry;
pub mod wire;
