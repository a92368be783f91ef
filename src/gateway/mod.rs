//! The HTTP door: health checks and metrics, for programs that speak nothing else. Closed unless the configuration opens it.
//!
//! ```text
//!  accept --> a place? --no--> 503, closed            (door: TCP on loopback, or a Unix socket)
//!               | yes
//!               v
//!     head, 5 s at most --> GET or HEAD, no body, a known path --> answer --> the next head ... 60 s, then goodbye
//!        | too late: closed      | anything else: 404, 405, 413, and what there is instead
//!        | too large: 431
//!        | no HTTP: 400
//! ```
//!
//! | path | says |
//! |---|---|
//! | `/health` | how it all is, in JSON: 200 also when degraded, 500 when no work is done |
//! | `/livez` | 200 as long as anything answers here |
//! | `/readyz` | 200 while work is taken; 503 while draining, and when no host can be given any |
//! | `/metrics` | everything that is counted, as OpenMetrics or in Prometheus' older form, whichever is asked for |
//!
//! It answers while the daemon drains: that is when somebody looks. It changes nothing, asks no engine, and waits for nobody:
//! what it shows is read from books whose locks are held for microseconds, and the text of the metrics is made on a thread of
//! its own, one at a time, ten times a second at most. Whoever can connect is answered, so it listens on loopback or on a Unix
//! socket ([`crate::config::Http`]).
//!
//! A daemon whose unit gives it no network has the listener from the service manager ([`Passed`]): that one is the machine's,
//! and so are the connections that come by it. It goes before the configuration's.
//!
//! [`door`] has the connections and their bounds, [`site`] the answers, [`book`] what is written in the metrics.

mod book;
mod door;
mod negotiate;
mod site;
mod tally;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::config::{Http, Listen};
use crate::rpc::Daemon;

/// How long the end of the daemon waits for the last answer to be taken.
const LAST_ANSWER: Duration = Duration::from_secs(1);

/// A listener that the service manager opened, and keeps: nothing of it is removed here.
#[derive(Debug)]
pub enum Passed {
    /// TCP.
    Tcp(std::net::TcpListener),
    /// A Unix socket.
    Unix(std::os::unix::net::UnixListener),
}

impl Passed {
    fn address(&self) -> std::io::Result<Listen> {
        match self {
            Passed::Tcp(listener) => listener.local_addr().map(Listen::Tcp),
            Passed::Unix(listener) => {
                let address = listener.local_addr()?;
                Ok(Listen::Unix(address.as_pathname().map(PathBuf::from).unwrap_or_default()))
            }
        }
    }
}

/// The open door.
#[derive(Debug)]
pub struct Gateway {
    stop: watch::Sender<bool>,
    serving: tokio::task::JoinHandle<()>,
    /// A socket file to take away at the end.
    socket: Option<PathBuf>,
}

impl Gateway {
    /// Opens it where the service manager listens, or where the configuration says; none where neither says anything. `state`
    /// is the state folder, whose disk is told in the metrics.
    ///
    /// # Errors
    /// In words: nobody can listen there.
    pub async fn open(
        http: &Http,
        passed: Option<Passed>,
        daemon: Arc<Daemon>,
        state: PathBuf,
    ) -> Result<Option<Gateway>, String> {
        let configured = http.address().map_err(|error| format!("failed to use http.listen: {error}"))?;
        let (door, socket) = match (passed, configured) {
            (Some(passed), configured) => (take_over(http, configured, passed)?, None),
            (None, None) => return Ok(None),
            (None, Some(listen)) => {
                let door = door::Door::open(&listen).await.map_err(|error| format!("failed to {error}"))?;
                let socket = match listen {
                    Listen::Unix(path) => Some(path),
                    Listen::Tcp(_) => None,
                };
                (door, socket)
            }
        };
        tracing::info!(listen = %door.place(), "health checks and metrics are served over HTTP");
        let (stop, stopped) = watch::channel(false);
        let site = Arc::new(site::Site::new(daemon, state));
        Ok(Some(Gateway { stop, serving: tokio::spawn(door::serve(door, site, stopped)), socket }))
    }

    /// Closes it: the answer under way is still given, to who takes it at once.
    pub async fn close(mut self) {
        let _ = self.stop.send(true);
        if tokio::time::timeout(LAST_ANSWER, &mut self.serving).await.is_err() {
            self.serving.abort();
        }
        self.socket.iter().for_each(|path| drop(std::fs::remove_file(path)));
    }
}

/// The door behind a socket of the service manager's.
fn take_over(http: &Http, configured: Option<Listen>, passed: Passed) -> Result<door::Door, String> {
    let unfit = |error: &dyn std::fmt::Display| {
        format!("failed to serve HTTP on the service manager's socket: {error} (ListenStream= of assay-http.socket)")
    };
    let address = passed.address().map_err(|error| unfit(&error))?;
    if let Listen::Tcp(address) = &address {
        http.fits(*address).map_err(|error| unfit(&error))?;
    }
    if let Some(configured) = configured.filter(|configured| *configured != address) {
        tracing::warn!(
            %configured, passed = %address,
            "the service manager's HTTP socket is another than http.listen: only the manager's is served (assay-http.socket)"
        );
    }
    door::Door::passed(passed).map_err(|error| unfit(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(address: &str) -> Passed {
        Passed::Tcp(std::net::TcpListener::bind(address).unwrap())
    }

    #[tokio::test]
    async fn a_passed_socket_that_others_reach_is_served_only_by_leave() {
        let (closed, open) = (Http::default(), Http { allow_remote: true, ..Http::default() });
        let error = take_over(&closed, None, passed("0.0.0.0:0")).unwrap_err();
        assert!(error.contains("allow_remote") && error.contains("assay-http.socket"), "{error}");
        assert!(take_over(&open, None, passed("0.0.0.0:0")).is_ok());
        let door = take_over(&closed, None, passed("127.0.0.1:0")).unwrap();
        assert!(door.place().starts_with("http://127.0.0.1:"), "{}", door.place());
    }
}
