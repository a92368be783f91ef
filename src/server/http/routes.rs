//! The routes that need no credentials: health checks and metrics.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use http::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Body;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::counts::HttpMetrics;
use super::metrics::DaemonMetrics;
use super::negotiate;
use crate::calls::Daemon;
use config::bounds;
use protocol::status::{CheckKind, Health, HealthWord};
use scheduler::check_health;
use telemetry::metrics::{Exposition, Format};

/// The paths of health checks.
pub(super) const HEALTH_PATHS: &[&str] = &["/health", "/livez", "/readyz"];
pub(super) const METRICS_PATHS: &[&str] = &["/metrics"];
/// All of them.
pub(super) const PATHS: &[&str] = &["/health", "/livez", "/readyz", "/metrics"];

const JSON: &str = "application/json";

/// What a caller of the API is told where it is off.
const NO_API: &str = "the API is not served here: set http.api = true in the configuration and restart the daemon; it is \
                      then on http.listen, or on assay-http.socket";

/// A rendered text of the metrics and when it was rendered.
type CachedText = Arc<Mutex<Option<(Instant, Bytes)>>>;

#[derive(Debug)]
pub(super) struct Routes {
    paths: &'static [&'static str],
    daemon: Arc<Daemon>,
    counts: Arc<HttpMetrics>,
    exposition: Arc<Exposition>,
    open_metrics: CachedText,
    plain: CachedText,
}

struct HttpReply {
    status: StatusCode,
    content_type: &'static str,
    body: Bytes,
}

impl HttpReply {
    fn json(status: StatusCode, body: &Value) -> HttpReply {
        HttpReply { status, content_type: JSON, body: format!("{body}\n").into() }
    }
}

/// `GET /health`: the fields that monitoring of the predecessor's queue worker reads, then ours.
fn health(health: &Health, daemon: &Daemon) -> HttpReply {
    let mut body = json!({
        "status": health.status,
        "docker": health.docker,
        // there is no Redis queue in this version
        "redis": "not configured",
        "timestamp": humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
        "version": env!("CARGO_PKG_VERSION"),
        "instance": daemon.instance,
        "uptime_ms": daemon.started.elapsed().as_millis() as u64,
        "draining": daemon.submissions.is_draining(),
        "checks": health.checks,
    });
    if health.status == HealthWord::Unhealthy {
        body["error"] = json!(host_errors(health));
    }
    let status = match health.status {
        HealthWord::Healthy | HealthWord::Degraded => StatusCode::OK,
        HealthWord::Unhealthy => StatusCode::INTERNAL_SERVER_ERROR,
    };
    HttpReply::json(status, &body)
}

/// The failed checks of Docker hosts, on one line.
fn host_errors(health: &Health) -> String {
    let failed = health.checks.iter().filter(|check| !check.ok && check.kind == CheckKind::Host);
    let errors: Vec<String> = failed.map(|check| format!("{}: {}", check.name, check.message)).collect();
    if errors.is_empty() { "no Docker host is up".to_owned() } else { errors.join("; ") }
}

/// The response to `GET /readyz`.
fn ready(health: &Health, is_draining: bool, is_paused: bool) -> HttpReply {
    let not_ready = |reason: &str| {
        HttpReply::json(StatusCode::SERVICE_UNAVAILABLE, &json!({ "status": "not ready", "reason": reason }))
    };
    match health.status {
        _ if is_draining => not_ready("the daemon is draining"),
        _ if is_paused => not_ready("the daemon is paused"),
        HealthWord::Unhealthy => not_ready(&host_errors(health)),
        HealthWord::Healthy | HealthWord::Degraded => HttpReply::json(StatusCode::OK, &json!({ "status": "ready" })),
    }
}

impl Routes {
    pub(super) fn new(
        paths: &'static [&'static str],
        daemon: Arc<Daemon>,
        counts: Arc<HttpMetrics>,
        state_dir: PathBuf,
    ) -> Routes {
        let exposition = Exposition::of(DaemonMetrics { daemon: daemon.clone(), http: counts.clone(), state_dir });
        let exposition = Arc::new(exposition);
        Routes { paths, daemon, counts, exposition, open_metrics: Arc::default(), plain: Arc::default() }
    }

    /// The paths, for the log.
    pub(super) fn names(&self) -> String {
        self.paths.join(" ")
    }

    /// Whether a path is one of these.
    pub(super) fn has(&self, path: &str) -> bool {
        self.paths.contains(&path)
    }

    /// Responds to a request. A request with a body is refused unread, and its connection closed.
    pub(super) async fn respond<B: Body>(&self, request: Request<B>) -> Response<Full<Bytes>> {
        let path = self.paths.iter().copied().find(|path| *path == request.uri().path());
        let has_body = !request.body().is_end_stream();
        let HttpReply { status, content_type, body } = match (path, request.method()) {
            (None, _) if request.uri().path().starts_with("/api/") => self.error(StatusCode::NOT_FOUND, NO_API),
            _ if has_body => self.error(StatusCode::PAYLOAD_TOO_LARGE, "no path here takes a body"),
            (None, _) => self.error(StatusCode::NOT_FOUND, "unknown path"),
            (Some(path), &Method::GET | &Method::HEAD) => self.get(path, &request).await,
            (Some(_), _) => self.error(StatusCode::METHOD_NOT_ALLOWED, "this path takes GET and HEAD"),
        };
        self.counts.count_response(path.unwrap_or("other"), status.as_u16());
        let mut response = Response::new(Full::new(body.clone()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        // set here, because hyper sets none on the response to a HEAD
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        if has_body {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// An error, with the list of paths.
    fn error(&self, status: StatusCode, error: &str) -> HttpReply {
        HttpReply::json(status, &json!({ "error": error, "paths": self.paths }))
    }

    async fn get<B>(&self, path: &str, request: &Request<B>) -> HttpReply {
        let Daemon { fleet, submissions, .. } = &*self.daemon;
        let (draining, paused) = (submissions.is_draining(), submissions.is_paused());
        match path {
            "/health" => health(
                &check_health(fleet, submissions.store(), submissions.callbacks(), draining, paused),
                &self.daemon,
            ),
            "/readyz" => ready(
                &check_health(fleet, submissions.store(), submissions.callbacks(), draining, paused),
                draining,
                paused,
            ),
            "/metrics" => {
                let accept = request.headers().get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
                let accept = accept.collect::<Vec<_>>().join(",");
                let format = negotiate::format((!accept.is_empty()).then_some(&accept));
                match self.metrics(format).await {
                    Some(body) => HttpReply { status: StatusCode::OK, content_type: format.content_type(), body },
                    None => self.error(StatusCode::INTERNAL_SERVER_ERROR, "failed to write the metrics"),
                }
            }
            _ => HttpReply::json(StatusCode::OK, &json!({ "status": "alive" })),
        }
    }

    /// The text of the metrics, at most [`bounds::METRICS_FRESH`] old. Rendering continues when the
    /// client disconnects, so the next request finds the text in the cache.
    async fn metrics(&self, format: Format) -> Option<Bytes> {
        let cached = match format {
            Format::OpenMetrics => &self.open_metrics,
            Format::Plain => &self.plain,
        };
        let mut cached = cached.clone().lock_owned().await;
        if let Some((at, text)) = cached.as_ref()
            && at.elapsed() < bounds::METRICS_FRESH
        {
            return Some(text.clone());
        }
        let exposition = self.exposition.clone();
        let rendering = tokio::task::spawn_blocking(move || {
            let text = Bytes::from(exposition.text(format).ok()?);
            *cached = Some((Instant::now(), text.clone()));
            Some(text)
        });
        rendering.await.ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::status::HealthCheck;

    fn with_status(status: HealthWord) -> Health {
        let check = HealthCheck {
            kind: CheckKind::Host,
            name: "docker".to_owned(),
            ok: false,
            message: "failed to reach it".to_owned(),
            remedy: None,
        };
        Health { status, docker: "disconnected", checks: vec![check] }
    }

    #[test]
    fn a_daemon_that_accepts_work_is_ready_and_one_that_drains_is_not() {
        let code = |status, draining| ready(&with_status(status), draining, false).status.as_u16();
        assert_eq!(code(HealthWord::Healthy, false), 200);
        assert_eq!(code(HealthWord::Degraded, false), 200);
        assert_eq!(code(HealthWord::Degraded, true), 503);
        assert_eq!(code(HealthWord::Unhealthy, false), 503);
    }

    #[test]
    fn the_error_names_the_engine_and_the_reason() {
        assert_eq!(host_errors(&with_status(HealthWord::Unhealthy)), "docker: failed to reach it");
    }
}
