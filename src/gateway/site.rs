//! What is answered to a request.

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

use super::book::Book;
use super::negotiate;
use super::tally::Tally;
use crate::config::bounds;
use crate::rpc::Daemon;
use crate::scheduler::{Health, HealthWord};
use crate::telemetry::metrics::{Exposition, Format};

/// What there is.
const PATHS: [&str; 4] = ["/health", "/livez", "/readyz", "/metrics"];

const JSON: &str = "application/json";

/// A text of the metrics, and when it was made.
type Text = Arc<Mutex<Option<(Instant, Bytes)>>>;

/// The answers of a daemon.
#[derive(Debug)]
pub(super) struct Site {
    daemon: Arc<Daemon>,
    tally: Arc<Tally>,
    metrics: Arc<Exposition>,
    open: Text,
    plain: Text,
}

/// An answer: its status, its content type, its bytes.
struct Answer(StatusCode, &'static str, Bytes);

impl Answer {
    fn json(status: StatusCode, body: &Value) -> Answer {
        Answer(status, JSON, format!("{body}\n").into())
    }

    fn no(status: StatusCode, error: &str) -> Answer {
        Answer::json(status, &json!({ "error": error, "paths": PATHS }))
    }
}

/// `GET /health`: the words of the queue worker that it stands in for, and ours beside them.
fn health(health: &Health, daemon: &Daemon) -> Answer {
    let mut body = json!({
        "status": health.status,
        "docker": health.docker,
        // no queue of that kind is built yet
        "redis": "not configured",
        "timestamp": humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
        "version": env!("CARGO_PKG_VERSION"),
        "instance": daemon.instance,
        "uptime_ms": daemon.started.elapsed().as_millis() as u64,
        "draining": daemon.scheduler.is_draining(),
        "checks": health.checks,
    });
    if health.status == HealthWord::Unhealthy {
        body["error"] = json!(why(health));
    }
    let status = match health.status {
        HealthWord::Healthy | HealthWord::Degraded => StatusCode::OK,
        HealthWord::Unhealthy => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Answer::json(status, &body)
}

/// What is not well, in a line.
fn why(health: &Health) -> String {
    let wrong = health.checks.iter().filter(|check| !check.ok && check.name.starts_with("docker"));
    let said: Vec<String> = wrong.map(|check| format!("{}: {}", check.name, check.message)).collect();
    if said.is_empty() { "no Docker host is up".to_owned() } else { said.join("; ") }
}

/// `GET /readyz`.
fn ready(health: &Health, is_draining: bool) -> Answer {
    let not = |reason: &str| {
        Answer::json(StatusCode::SERVICE_UNAVAILABLE, &json!({ "status": "not ready", "reason": reason }))
    };
    match health.status {
        _ if is_draining => not("the daemon is draining"),
        HealthWord::Unhealthy => not(&why(health)),
        HealthWord::Healthy | HealthWord::Degraded => Answer::json(StatusCode::OK, &json!({ "status": "ready" })),
    }
}

impl Site {
    pub(super) fn new(daemon: Arc<Daemon>, state: PathBuf) -> Site {
        let tally = Arc::<Tally>::default();
        let metrics = Exposition::of(Book { daemon: daemon.clone(), tally: tally.clone(), state });
        Site { daemon, tally, metrics: Arc::new(metrics), open: Arc::default(), plain: Arc::default() }
    }

    pub(super) fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }

    /// Answers. A body is neither wanted nor read: it is refused, and the connection with it.
    pub(super) async fn answer<B: Body>(&self, request: Request<B>) -> Response<Full<Bytes>> {
        let path = PATHS.into_iter().find(|path| *path == request.uri().path());
        let has_body = !request.body().is_end_stream();
        let Answer(status, kind, bytes) = match (path, request.method()) {
            _ if has_body => Answer::no(StatusCode::PAYLOAD_TOO_LARGE, "nothing here takes a body"),
            (None, _) => Answer::no(StatusCode::NOT_FOUND, "there is no such path"),
            (Some(path), &Method::GET | &Method::HEAD) => self.page(path, &request).await,
            (Some(_), _) => Answer::no(StatusCode::METHOD_NOT_ALLOWED, "this path takes GET and HEAD"),
        };
        self.tally.answered(path.unwrap_or("other"), status.as_u16());
        let mut response = Response::new(Full::new(bytes.clone()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        // a HEAD is told the length as well
        headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes.len()));
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

    async fn page<B>(&self, path: &str, request: &Request<B>) -> Answer {
        let scheduler = &self.daemon.scheduler;
        match path {
            "/health" => health(&scheduler.health(), &self.daemon),
            "/readyz" => ready(&scheduler.health(), scheduler.is_draining()),
            "/metrics" => {
                let accept = request.headers().get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
                let accept = accept.collect::<Vec<_>>().join(",");
                let format = negotiate::format((!accept.is_empty()).then_some(&accept));
                match self.text(format).await {
                    Some(text) => Answer(StatusCode::OK, format.content_type(), text),
                    None => Answer::no(StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be written"),
                }
            }
            _ => Answer::json(StatusCode::OK, &json!({ "status": "alive" })),
        }
    }

    /// The metrics as they are, or were a moment ago. Whoever leaves while it is made takes nothing along: the next finds it.
    async fn text(&self, format: Format) -> Option<Bytes> {
        let text = match format {
            Format::OpenMetrics => &self.open,
            Format::Plain => &self.plain,
        };
        let mut text = text.clone().lock_owned().await;
        if let Some((at, text)) = text.as_ref()
            && at.elapsed() < bounds::METRICS_FRESH
        {
            return Some(text.clone());
        }
        let metrics = self.metrics.clone();
        let made = tokio::task::spawn_blocking(move || {
            let bytes = Bytes::from(metrics.text(format).ok()?);
            *text = Some((Instant::now(), bytes.clone()));
            Some(bytes)
        });
        made.await.ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::HealthCheck;

    fn with(status: HealthWord) -> Health {
        let check = HealthCheck {
            name: "docker".to_owned(),
            ok: false,
            message: "failed to reach it".to_owned(),
            remedy: None,
        };
        Health { status, docker: "disconnected", checks: vec![check] }
    }

    #[test]
    fn who_takes_work_is_ready_and_who_drains_is_not() {
        let code = |status, draining| ready(&with(status), draining).0.as_u16();
        assert_eq!(code(HealthWord::Healthy, false), 200);
        assert_eq!(code(HealthWord::Degraded, false), 200);
        assert_eq!(code(HealthWord::Degraded, true), 503);
        assert_eq!(code(HealthWord::Unhealthy, false), 503);
    }

    #[test]
    fn an_error_says_which_engine_and_why() {
        assert_eq!(why(&with(HealthWord::Unhealthy)), "docker: failed to reach it");
    }
}
