//! A named deadline for each phase of each call (ENGINE 3.3). There is no blanket timeout: a wait or a build may take
//! hours, a connect may not.

use std::time::Duration;

/// Connecting and the HTTP handshake.
pub const CONNECT: Duration = Duration::from_secs(2);
/// The head of a call that only looks.
pub const LOOK: Duration = Duration::from_secs(5);
/// The head of a create: the engine may have to set up a layer on a busy disk.
pub const CREATE: Duration = Duration::from_secs(15);
/// The head of a start: 0.3 s on an idle machine.
pub const START: Duration = Duration::from_secs(30);
/// The head of a kill: the engine waits 10 s for the exit, then 2 s more.
pub const KILL: Duration = Duration::from_secs(15);
/// The head of a removal: it kills, unmounts and deletes a layer.
pub const REMOVE: Duration = Duration::from_secs(60);
/// The head of an update.
pub const UPDATE: Duration = Duration::from_secs(15);
/// The attach handshake.
pub const ATTACH: Duration = Duration::from_secs(10);
/// The head of a pull, an import or a build: the engine answers when it has taken the whole body.
pub const TRANSFER: Duration = Duration::from_secs(600);
/// Between two pieces of an ordinary body.
pub const BODY_IDLE: Duration = Duration::from_secs(10);
/// Between two pieces of a progress stream: a step of a build may be silent for long.
pub const PROGRESS_IDLE: Duration = Duration::from_secs(600);
/// No deadline, for what ends when something happens (wait, events).
pub const NONE: Duration = Duration::from_secs(365 * 24 * 3600);
