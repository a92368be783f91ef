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
mod address_key;
mod api;
mod counts;
mod doors;
mod framing;
mod listener;
mod metrics;
mod negotiate;
mod paced;
mod routes;

/// For the fuzz target.
#[doc(hidden)]
pub use api::parsing::parse_requests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::calls::Daemon;
use config::{HttpSettings, Listen};
use counts::HttpMetrics;
use doors::Doors;
use listener::HttpListener;
use routes::Routes;

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
    serving: JoinSet<()>,
    /// Socket files to remove at the end: not those of TCP and of passed listeners.
    sockets: Vec<PathBuf>,
}

/// A listener, and its socket file if it is ours to remove.
async fn bind(listen: Listen) -> Result<(HttpListener, Option<PathBuf>), String> {
    let listener = HttpListener::bind(&listen).await.map_err(|error| format!("failed to {error}"))?;
    match listen {
        Listen::Unix(path) => Ok((listener, Some(path))),
        Listen::Tcp(_) => Ok((listener, None)),
    }
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
        let metrics = http.metrics_address().map_err(|error| format!("failed to use http.metrics_listen: {error}"))?;
        let main = match (passed, configured) {
            (Some(passed), configured) => Some((use_passed(http, configured, passed)?, None)),
            (None, None) => None,
            (None, Some(listen)) => Some(bind(listen).await?),
        };
        let metrics = match metrics {
            Some(listen) => Some(bind(listen).await?),
            None => None,
        };
        if main.is_none() && metrics.is_none() {
            return Ok(None);
        }
        daemon.access.set_listener(main.as_ref().and_then(|(listener, _)| listener.tcp_address()));
        let (stop, stopped) = watch::channel(false);
        let (mut serving, mut sockets) = (JoinSet::new(), Vec::new());
        let counts = Arc::new(HttpMetrics::new(routes::PATHS));
        let has_own_metrics = metrics.is_some();
        let routes = |paths| Routes::new(paths, daemon.clone(), counts.clone(), state_dir.clone());
        let mut start = |(listener, socket): (HttpListener, Option<PathBuf>), routes: Routes, api: Option<Router>| {
            let has_api = api.is_some();
            tracing::info!(listen = %listener.address(), api = has_api, paths = routes.names(), "serving HTTP");
            let doors = Doors { routes, api, counts: counts.clone() };
            serving.spawn(listener::serve(listener, Arc::new(doors), stopped.clone()));
            sockets.extend(socket);
        };
        if let Some(main) = main {
            let api = http.api.then(|| api::router(daemon.clone(), counts.clone()));
            start(main, routes(if has_own_metrics { routes::HEALTH_PATHS } else { routes::PATHS }), api);
        }
        if let Some(metrics) = metrics {
            start(metrics, routes(routes::METRICS_PATHS), None);
        }
        Ok(Some(HttpServer { stop, serving, sockets }))
    }

    /// Stops serving. Responses under way have [`SHUTDOWN_TIMEOUT`] to complete.
    pub async fn close(mut self) {
        let _ = self.stop.send(true);
        let ended = async { while self.serving.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, ended).await;
        self.serving.abort_all();
        self.sockets.iter().for_each(|path| drop(std::fs::remove_file(path)));
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
