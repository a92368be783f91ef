//! The service manager: sockets that it passed, and notifications to it.
//!
//! ```text
//!  the manager listens --callers wait--> assayd gets the listener (LISTEN_FDS), sends READY=1
//!     reload: RELOADING=1 .. READY=1       shutdown: STOPPING=1, stop accepting, drain
//!             new callers wait for the next daemon: the manager has been listening all the time
//! ```
//!
//! A passed socket belongs to the manager: it is neither bound, nor given a mode, nor removed here.
//! The one named `http` (`FileDescriptorName=`) is for HTTP, any other for callers. Without a
//! manager all of this does nothing, and the daemon binds its own socket.

use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;

use server::http::PassedListener;

/// `FileDescriptorName=` of the HTTP socket.
const HTTP_NAME: &str = "http";

/// Sockets that were passed to the process.
#[derive(Debug, Default)]
pub struct PassedSockets {
    pub(super) callers: Option<UnixListener>,
    pub(super) http: Option<PassedListener>,
}

impl PassedSockets {
    /// Takes the sockets that were passed to this process. Must be called while it has a single
    /// thread: it removes the variables from the environment, so that no child process uses them.
    ///
    /// # Errors
    /// A message: a passed socket has the wrong type.
    pub fn take() -> Result<PassedSockets, String> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut passed = ListenFd::from_env();
        let mut sockets = PassedSockets::default();
        for at in 0..passed.len() {
            if names.split(':').nth(at) == Some(HTTP_NAME) {
                sockets.http = Some(take_http(&mut passed, at)?);
                continue;
            }
            let listener = passed.take_unix_listener(at).map_err(|error| {
                format!(
                    "failed to use a socket that was passed: {error} (ListenStream= of assayd.socket must be a path)"
                )
            })?;
            if sockets.callers.is_none() {
                sockets.callers = listener;
            }
        }
        Ok(sockets)
    }

    /// Path of the passed socket for callers.
    pub(super) fn path(&self) -> Option<PathBuf> {
        let address = self.callers.as_ref()?.local_addr().ok()?;
        address.as_pathname().map(PathBuf::from)
    }
}

/// The passed HTTP socket, TCP or Unix.
fn take_http(passed: &mut ListenFd, at: usize) -> Result<PassedListener, String> {
    if let Ok(Some(listener)) = passed.take_tcp_listener(at) {
        return Ok(PassedListener::Tcp(listener));
    }
    match passed.take_unix_listener(at) {
        Ok(Some(listener)) => Ok(PassedListener::Unix(listener)),
        _ => Err(
            "failed to use a socket that was passed: ListenStream= of assay-http.socket must be an address or a path"
                .to_owned(),
        ),
    }
}

/// Notifies the manager; does nothing without one.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "failed to notify the service manager");
    }
}

pub(super) fn notify_ready() {
    notify(&[NotifyState::Ready]);
}

/// A reload begins; must be followed by [`notify_ready`], also when it fails.
pub(super) fn notify_reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(_) => notify(&[NotifyState::Reloading]),
    }
}

/// The shutdown begins, and takes at most `timeout`.
pub(super) fn notify_stopping(timeout: Duration) {
    let micros = u32::try_from(timeout.as_micros()).unwrap_or(u32::MAX);
    notify(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(micros)]);
}

/// WatchdogSec= of the unit; `None` without a watchdog.
pub(super) fn watchdog_timeout() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

/// Variables of the manager that child processes must not see.
pub(super) const VARIABLES: [&str; 4] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDNAMES"];
