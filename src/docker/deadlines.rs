//! How long each phase of each call may take, in one table.
//!
//! There is no deadline for a call as a whole: a pull may take an hour and be fine, while five
//! seconds without an answer to `inspect` mean that something holds the container's lock. So a call
//! has up to five phases, each with its own bound: connect, TLS handshake, head (from the request
//! to the status line), upgrade, and body (silence between two pieces).
//!
//! The head bounds come from measurements on Docker 20.10 (create 9 to 22 ms, start 290 ms, forced
//! removal 158 ms, on an idle machine) with room for an engine that starts many containers at once:
//! containerd starts them one by one.

use std::time::Duration;

/// Connecting a socket.
pub const CONNECT: Duration = Duration::from_secs(2);
/// The TLS handshake.
pub const HANDSHAKE: Duration = Duration::from_secs(5);
/// The head of a call that reads one object, and of an attach.
pub const INSPECT: Duration = Duration::from_secs(5);
/// The head of a list and of info: the engine walks all its objects.
pub const LIST: Duration = Duration::from_secs(10);
/// The head of a create: the engine may have to set up a layer on a busy disk.
pub const CREATE: Duration = Duration::from_secs(15);
/// The head of a container start.
pub const START: Duration = Duration::from_secs(30);
/// The head of a kill, and of a stop beyond the container's grace period: the engine waits 10 s for
/// the exit, then 2 s more.
pub const KILL: Duration = Duration::from_secs(15);
/// The head of a removal: it kills, unmounts and deletes a layer.
pub const REMOVE: Duration = Duration::from_secs(60);
/// The head of `/system/df`, which walks every file of every layer. Also bounds the retries while
/// another one is running.
pub const DISK_USAGE: Duration = Duration::from_secs(60);
/// Retry interval while another client's `/system/df` is running.
pub const DISK_USAGE_RETRY: Duration = Duration::from_millis(100);
/// The head of an update of limits.
pub const UPDATE: Duration = Duration::from_secs(15);
/// The head of statistics: engines before 24 take a sample of one second first.
pub const STATS: Duration = Duration::from_secs(10);
/// Taking over the connection after a 101.
pub const UPGRADE: Duration = Duration::from_secs(5);
/// The head of a prune: layers are deleted.
pub const PRUNE: Duration = Duration::from_secs(300);
/// Silence during a pull, an import, a load or an archive, in either direction.
pub const TRANSFER_IDLE: Duration = Duration::from_secs(60);
/// Silence during a build: a `RUN` step may compile for minutes and print nothing.
pub const BUILD_IDLE: Duration = Duration::from_secs(600);
/// Silence inside an ordinary reply's body.
pub const BODY_IDLE: Duration = Duration::from_secs(10);
/// An ordinary reply's body as a whole, so that a slow trickle ends too.
pub const BODY_TOTAL: Duration = Duration::from_secs(60);
/// The body of an error. The message is what arrived by then.
pub const ERROR_BODY: Duration = Duration::from_secs(2);
/// How long an idle connection may be reused (TCP and TLS only).
pub const IDLE_CONNECTION: Duration = Duration::from_secs(30);
