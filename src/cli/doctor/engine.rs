//! The doctor's own few questions to the Engine over its Unix socket: one connection a question, every answer bounded
//! in size and time. It reads JSON loosely on purpose: a doctor must get an answer out of an engine that is unwell.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

/// The most that is read of one answer.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The socket did not open.
    #[error("connect: {0}")]
    Connect(#[source] io::Error),
    /// The engine took too long.
    #[error("no answer within {} s", .0.as_secs())]
    Slow(Duration),
    /// The exchange broke.
    #[error("{0}")]
    Broken(String),
    /// The engine refused.
    #[error("the engine answered {status}: {message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Its words.
        message: String,
    },
}

/// An engine on a Unix socket.
#[derive(Debug, Clone)]
pub struct Engine {
    /// The socket.
    pub socket: PathBuf,
}

/// An answer: what JSON there was, and the API version that the engine names in its headers.
#[derive(Debug)]
pub struct Answer {
    /// The body; a string when it was no JSON.
    pub body: Value,
    /// The `Api-Version` header.
    pub api_version: Option<String>,
}

impl Engine {
    /// Asks, within a time.
    ///
    /// # Errors
    /// No connection, no answer in time, or a refusal.
    pub async fn ask(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
        within: Duration,
    ) -> Result<Answer, EngineError> {
        match tokio::time::timeout(within, self.exchange(method, path, body)).await {
            Ok(answer) => answer,
            Err(_) => Err(EngineError::Slow(within)),
        }
    }

    async fn exchange(&self, method: &str, path: &str, body: Option<Value>) -> Result<Answer, EngineError> {
        let broken = |error: &dyn std::fmt::Display| EngineError::Broken(error.to_string());
        let stream = UnixStream::connect(&self.socket).await.map_err(EngineError::Connect)?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
        let driver = tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("Host", "docker");
        if body.is_some() {
            request = request.header("Content-Type", "application/json");
        }
        let body = Full::new(body.map_or(Bytes::new(), |body| Bytes::from(body.to_string())));
        let request = request.body(body).map_err(|error| broken(&error))?;
        let reply = sender.send_request(request).await.map_err(|error| broken(&error))?;
        let status = reply.status();
        let api_version = reply.headers().get("api-version").and_then(|v| v.to_str().ok()).map(str::to_owned);
        let bytes =
            Limited::new(reply.into_body(), MAX_ANSWER).collect().await.map_err(|error| broken(&error))?.to_bytes();
        driver.abort();
        let body: Value = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        if status.is_success() || status.as_u16() == 304 {
            return Ok(Answer { body, api_version });
        }
        let message = body["message"].as_str().or(body.as_str()).unwrap_or_default().chars().take(400).collect();
        Err(EngineError::Refused { status: status.as_u16(), message })
    }
}
