//! How long each phase of each call may take, in one table (ENGINE 3.3).
//!
//! There is no deadline for a call as a whole: a pull may take an hour and be fine, while five seconds of silence from
//! `inspect` mean that something holds the container's lock. So a call has up to five waits, each with a bound of its own:
//! connect, TLS handshake, head (from the request to the status line), upgrade, and body (silence between two pieces).
//!
//! The head bounds come from measurements on 20.10 (create 9 to 22 ms, start 290 ms, force-remove 158 ms, on an idle
//! machine) with room for an engine under a storm of starts: containerd takes those one by one.

use std::time::Duration;

/// Connecting a socket.
pub const CONNECT: Duration = Duration::from_secs(2);
/// The TLS handshake.
pub const HANDSHAKE: Duration = Duration::from_secs(5);
/// The head of a call that only looks, and of an attach.
pub const LOOK: Duration = Duration::from_secs(5);
/// The head of a list and of info: the engine walks all it has.
pub const LIST: Duration = Duration::from_secs(10);
/// The head of a create: the engine may have to set up a layer on a busy disk.
pub const CREATE: Duration = Duration::from_secs(15);
/// The head of a start.
pub const START: Duration = Duration::from_secs(30);
/// The head of a kill, and of a stop beyond the time that the container is given: the engine waits 10 s for the exit,
/// then 2 s more.
pub const KILL: Duration = Duration::from_secs(15);
/// The head of a removal: it kills, unmounts and deletes a layer.
pub const REMOVE: Duration = Duration::from_secs(60);
/// The head of a df, which walks every file of every layer; and, where it has to, the wait until another one is done.
pub const COUNT: Duration = Duration::from_secs(60);
/// Between two questions for a df while another one is under way.
pub const COUNT_AGAIN: Duration = Duration::from_millis(100);
/// The head of an update.
pub const UPDATE: Duration = Duration::from_secs(15);
/// The head of statistics: engines before 24 take a sample of a second first.
pub const STATS: Duration = Duration::from_secs(10);
/// Taking a connection over after a 101.
pub const UPGRADE: Duration = Duration::from_secs(5);
/// The head of a commit or a prune: layers are written or deleted.
pub const LAYERS: Duration = Duration::from_secs(300);
/// Silence during a pull, an import, a load or an archive, in either direction.
pub const TRANSFER_IDLE: Duration = Duration::from_secs(60);
/// Silence during a build: a `RUN` step may compile for minutes and print nothing.
pub const BUILD_IDLE: Duration = Duration::from_secs(600);
/// Silence inside an ordinary reply's body.
pub const BODY_IDLE: Duration = Duration::from_secs(10);
/// An ordinary reply's body as a whole, so that a trickle ends as well.
pub const BODY_TOTAL: Duration = Duration::from_secs(60);
/// The body of an error. What has arrived by then is the message.
pub const ERROR_BODY: Duration = Duration::from_secs(2);
/// How long a connection may lie idle before it is not used again (TCP and TLS only).
pub const IDLE: Duration = Duration::from_secs(30);
