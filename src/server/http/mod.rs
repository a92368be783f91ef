//! HTTP listener for health checks and metrics. Disabled unless the configuration or the service
//! manager enables it.
//!
//! ```text
//!  accept --> connection limit reached? --yes--> 503, closed   (TCP on loopback, or a Unix socket)
//!               | no
//!               v
//!     head, at most 5 s --> GET or HEAD, no body, known path --> response --> next head ... 60 s
//!        | timeout: closed       | anything else: 404, 405, 413, with the list of paths
//!        | too large: 431
//!        | not HTTP: 400
//! ```
//!
//! | path | response |
//! |---|---|
//! | `/health` | health in JSON: 200 also when degraded, 500 when no work can be done |
//! | `/livez` | 200 as long as the process responds |
//! | `/readyz` | 200 while work is accepted; 503 while draining, paused, or without a host |
//! | `/metrics` | all metrics, as OpenMetrics or Prometheus text 0.0.4, as the client asks |
//!
//! It responds during a drain too, which is when an operator looks. It changes nothing and calls no
//! engine: it reads state whose locks are held for microseconds. The text of the metrics is made on
//! a thread of its own, one at a time and at most ten times a second. There is no authentication,
//! so it listens on loopback or on a Unix socket only ([`config::HttpSettings`]).
//!
//! A daemon whose unit gives it no network gets the listener from the service manager
//! ([`PassedListener`]), which takes precedence over the configuration.

pub mod access;
mod counts;
mod listener;
mod metrics;
mod negotiate;
mod routes;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::calls::Daemon;
use config::{HttpSettings, Listen};
use listener::HttpListener;

/// How long the shutdown of the daemon waits for responses under way.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// A listener opened and owned by the service manager: its socket file is not removed here.
#[derive(Debug)]
pub enum PassedListener {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

impl PassedListener {
    fn address(&self) -> std::io::Result<Listen> {
        match self {
            PassedListener::Tcp(listener) => listener.local_addr().map(Listen::Tcp),
            PassedListener::Unix(listener) => {
                let address = listener.local_addr()?;
                Ok(Listen::Unix(address.as_pathname().map(PathBuf::from).unwrap_or_default()))
            }
        }
    }
}

/// The running HTTP server.
#[derive(Debug)]
pub struct HttpServer {
    stop: watch::Sender<bool>,
    serving: tokio::task::JoinHandle<()>,
    /// Socket file to remove at the end; `None` for TCP and for passed listeners.
    socket: Option<PathBuf>,
}

impl HttpServer {
    /// Serves on the listener of the service manager, else on the configured address; `None` when
    /// there is neither. `state_dir` is the state folder, whose disk usage is a metric.
    ///
    /// # Errors
    /// A message: the address is invalid, not allowed or in use.
    pub async fn open(
        http: &HttpSettings,
        passed: Option<PassedListener>,
        daemon: Arc<Daemon>,
        state_dir: PathBuf,
    ) -> Result<Option<HttpServer>, String> {
        let configured = http.address().map_err(|error| format!("failed to use http.listen: {error}"))?;
        let (listener, socket) = match (passed, configured) {
            (Some(passed), configured) => (use_passed(http, configured, passed)?, None),
            (None, None) => return Ok(None),
            (None, Some(listen)) => {
                let listener = HttpListener::bind(&listen).await.map_err(|error| format!("failed to {error}"))?;
                let socket = match listen {
                    Listen::Unix(path) => Some(path),
                    Listen::Tcp(_) => None,
                };
                (listener, socket)
            }
        };
        tracing::info!(listen = %listener.address(), "serving health checks and metrics over HTTP");
        let (stop, stopped) = watch::channel(false);
        let routes = Arc::new(routes::Routes::new(daemon, state_dir));
        Ok(Some(HttpServer { stop, serving: tokio::spawn(listener::serve(listener, routes, stopped)), socket }))
    }

    /// Stops serving. Responses under way have [`SHUTDOWN_TIMEOUT`] to complete.
    pub async fn close(mut self) {
        let _ = self.stop.send(true);
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, &mut self.serving).await.is_err() {
            self.serving.abort();
        }
        self.socket.iter().for_each(|path| drop(std::fs::remove_file(path)));
    }
}

/// Checks a listener of the service manager against the configuration and takes it over.
fn use_passed(http: &HttpSettings, configured: Option<Listen>, passed: PassedListener) -> Result<HttpListener, String> {
    let failed = |error: &dyn std::fmt::Display| {
        format!("failed to serve HTTP on the service manager's socket: {error} (ListenStream= of assay-http.socket)")
    };
    let address = passed.address().map_err(|error| failed(&error))?;
    if let Listen::Tcp(address) = &address {
        http.check_address(*address).map_err(|error| failed(&error))?;
    }
    if let Some(configured) = configured.filter(|configured| *configured != address) {
        tracing::warn!(
            %configured, passed = %address,
            "http.listen is ignored: the service manager passed an HTTP socket with another address (assay-http.socket)"
        );
    }
    HttpListener::from_passed(passed).map_err(|error| failed(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(address: &str) -> PassedListener {
        PassedListener::Tcp(std::net::TcpListener::bind(address).unwrap())
    }

    #[tokio::test]
    async fn a_passed_socket_with_a_public_address_needs_allow_remote() {
        let (local_only, remote) =
            (HttpSettings::default(), HttpSettings { allow_remote: true, ..HttpSettings::default() });
        let error = use_passed(&local_only, None, passed("0.0.0.0:0")).unwrap_err();
        assert!(error.contains("allow_remote") && error.contains("assay-http.socket"), "{error}");
        assert!(use_passed(&remote, None, passed("0.0.0.0:0")).is_ok());
        let listener = use_passed(&local_only, None, passed("127.0.0.1:0")).unwrap();
        assert!(listener.address().starts_with("http://127.0.0.1:"), "{}", listener.address());
    }
}
