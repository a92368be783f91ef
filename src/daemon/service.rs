//! The service manager, as far as the daemon knows it: sockets that it opened for us, and what it is told.
//!
//! ```text
//!  the manager listens --callers connect, and wait--> assayd gets the listener (LISTEN_FDS), READY=1
//!     a new configuration: RELOADING=1 .. READY=1       the end: STOPPING=1, no more callers are let in, drain
//!                          they wait for the next daemon: the manager has listened all the time
//! ```
//!
//! A socket that the manager opened is the manager's: it is neither bound, nor given a mode, nor removed here. One that bears
//! the name `http` (`FileDescriptorName=`) is the HTTP door's, any other the callers'. Without a manager all of this is silent,
//! and the daemon binds for itself.

use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;

use server::http::PassedListener;

/// The name of the HTTP door's socket.
const HTTP: &str = "http";

/// Sockets that were passed to the process.
#[derive(Debug, Default)]
pub struct Inherited {
    pub(super) callers: Option<UnixListener>,
    pub(super) http: Option<PassedListener>,
}

impl Inherited {
    /// Takes what was passed to this process. To be called while it has one thread: it changes the environment, so that no
    /// child takes them for its own.
    ///
    /// # Errors
    /// In words: a socket that the daemon cannot use.
    pub fn take() -> Result<Inherited, String> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut passed = ListenFd::from_env();
        let mut sockets = Inherited::default();
        for at in 0..passed.len() {
            if names.split(':').nth(at) == Some(HTTP) {
                sockets.http = Some(http(&mut passed, at)?);
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

    /// Where callers find it.
    pub(super) fn path(&self) -> Option<PathBuf> {
        let address = self.callers.as_ref()?.local_addr().ok()?;
        address.as_pathname().map(PathBuf::from)
    }
}

/// The socket at that place, which scrapers come by.
fn http(passed: &mut ListenFd, at: usize) -> Result<PassedListener, String> {
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

/// Tells the manager; without one, nobody.
fn tell(words: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(words) {
        tracing::warn!(%error, "the service manager cannot be told how things are");
    }
}

/// Callers are served.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// A new configuration is being read; followed by [`ready`], whatever comes of it.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// The end began, and may take so long.
pub(super) fn stopping(most: Duration) {
    let micros = u32::try_from(most.as_micros()).unwrap_or(u32::MAX);
    tell(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(micros)]);
}

/// How long the manager waits for a sign of life; none when it does not.
pub(super) fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

/// What the manager says to a process by its environment, and is not for its children.
pub(super) const VARIABLES: [&str; 4] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDNAMES"];
