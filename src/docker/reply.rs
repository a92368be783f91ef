//! A reply: its status is checked, its body is read with a size limit and a deadline.
//!
//! An error's body is JSON with a `message` on Docker and Podman, plain text on an attach and from
//! very old engines, and HTML from a proxy. So it is parsed as JSON, and if that fails the first
//! 4 KiB are taken as text.
//!
//! A reply owns its connection. If the body was read to its end, dropping the reply returns the
//! connection to the idle pool; otherwise it closes the connection.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout, timeout_at};

use super::connection::{HttpConnection, IdlePool};
use super::deadlines;
use super::error::{Error, MAX_ERROR_TEXT, Phase, shorten};
use super::jsonlines::{self, LineError, Splitter};
use super::op::Op;
use super::types::ProgressMessage;

/// The most bytes of a whole body. A list of 10,000 containers is about 10 MB.
const MAX_BODY: usize = 32 << 20;

/// A reply whose head has arrived.
pub(super) struct EngineReply {
    op: &'static Op,
    response: Response<Incoming>,
    connection: Option<HttpConnection>,
    idle: Option<Arc<IdlePool>>,
    ended: bool,
}

impl Drop for EngineReply {
    fn drop(&mut self) {
        let ended = self.ended || self.response.body().is_end_stream();
        if ended && let (Some(connection), Some(idle)) = (self.connection.take(), self.idle.take()) {
            idle.put(connection);
        }
    }
}

impl EngineReply {
    pub(super) fn new(
        op: &'static Op,
        response: Response<Incoming>,
        connection: HttpConnection,
        idle: Option<Arc<IdlePool>>,
    ) -> EngineReply {
        // An upgraded connection cannot be reused.
        let idle = idle.filter(|_| response.status().as_u16() != 101);
        EngineReply { op, response, connection: Some(connection), idle, ended: false }
    }

    pub(super) fn op(&self) -> &'static Op {
        self.op
    }

    pub(super) fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// The reply if its status is one of `statuses`, else the error in its body.
    pub(super) async fn accept(self, statuses: &[u16]) -> Result<EngineReply, Error> {
        if statuses.contains(&self.status()) { Ok(self) } else { Err(self.into_error().await) }
    }

    /// Reads an error's text: at most 4 KiB, for at most 2 s.
    pub(super) async fn into_error(mut self) -> Error {
        let deadline = Instant::now() + deadlines::ERROR_BODY;
        let mut text = Vec::new();
        while text.len() < MAX_ERROR_TEXT {
            match timeout_at(deadline, self.response.body_mut().frame()).await {
                Ok(Some(Ok(frame))) => text.extend(frame.data_ref().into_iter().flatten()),
                Ok(None) => {
                    self.ended = true;
                    break;
                }
                _ => break,
            }
        }
        Error::Status { call: self.op, status: self.status(), message: error_text(&text) }
    }

    /// The next piece of the body, `None` at its end. `idle: None` means no deadline.
    pub(super) async fn piece(&mut self, idle: Option<Duration>) -> Result<Option<Bytes>, Error> {
        let call = self.op;
        loop {
            let frame = self.response.body_mut().frame();
            let result = match idle {
                None => frame.await,
                Some(after) => {
                    timeout(after, frame).await.map_err(|_| Error::Timeout { call, phase: Phase::Body, after })?
                }
            };
            match result {
                None => {
                    self.ended = true;
                    return Ok(None);
                }
                Some(Err(source)) => return Err(Error::Broken { call, phase: Phase::Body, source: source.into() }),
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }

    /// Reads and ignores a short body, so that the connection can be reused. A body that is long or
    /// slow is left unread, and its connection closes.
    pub(super) async fn discard(mut self) {
        let mut left = MAX_ERROR_TEXT;
        let reading = async {
            while let Ok(Some(piece)) = self.piece(None).await {
                left = match left.checked_sub(piece.len()) {
                    Some(left) => left,
                    None => return,
                };
            }
        };
        let _ = timeout(deadlines::ERROR_BODY, reading).await;
    }

    /// The whole body as JSON, at most [`MAX_BODY`], within [`deadlines::BODY_TOTAL`].
    pub(super) async fn json<T: DeserializeOwned>(self) -> Result<T, Error> {
        let (call, after) = (self.op, deadlines::BODY_TOTAL);
        let body = timeout(after, self.whole(Some(deadlines::BODY_IDLE))).await.map_err(|_| Error::Timeout {
            call,
            phase: Phase::Body,
            after,
        })??;
        parse(call, &body)
    }

    /// The whole body as JSON, at most [`MAX_BODY`], without a deadline (for a wait).
    pub(super) async fn json_unbounded<T: DeserializeOwned>(self) -> Result<T, Error> {
        let call = self.op;
        parse(call, &self.whole(None).await?)
    }

    async fn whole(mut self, idle: Option<Duration>) -> Result<Vec<u8>, Error> {
        let mut body = Vec::new();
        while let Some(piece) = self.piece(idle).await? {
            if body.len() + piece.len() > MAX_BODY {
                return Err(Error::TooLarge { call: self.op, limit: MAX_BODY });
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }

    /// The body as JSON lines with at most `idle` of silence between two pieces.
    pub(super) fn lines(self, idle: Option<Duration>) -> ReplyLines {
        ReplyLines { reply: self, idle, splitter: Splitter::new() }
    }

    /// Reads a progress stream to its end. A failure arrives as one of its lines, after a 200; a
    /// truncated stream is a failure too.
    pub(super) async fn follow(
        self,
        idle: Duration,
        progress: &mut (dyn FnMut(ProgressMessage) + Send),
    ) -> Result<(), Error> {
        let call = self.op;
        let mut lines = self.lines(Some(idle));
        while let Some(line) = lines.next::<ProgressMessage>().await? {
            if let Some(message) = line.failure() {
                return Err(Error::Reported { call, message: shorten(message.trim()) });
            }
            progress(line);
        }
        Ok(())
    }

    /// The future stream of an upgrade, and the connection.
    pub(super) fn into_upgrade(mut self) -> (hyper::upgrade::OnUpgrade, Option<HttpConnection>) {
        (hyper::upgrade::on(&mut self.response), self.connection.take())
    }
}

fn parse<T: DeserializeOwned>(call: &'static Op, body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|error| Error::bad_reply(call, error))
}

/// A body of JSON lines.
pub(super) struct ReplyLines {
    reply: EngineReply,
    idle: Option<Duration>,
    splitter: Splitter,
}

impl ReplyLines {
    /// The next line, `None` at the end of the stream. Cancel-safe: a dropped future loses no line.
    pub(super) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Error> {
        let call = self.reply.op;
        let failed = |error| match error {
            LineError::TooLong => Error::TooLarge { call, limit: jsonlines::MAX_LINE },
            LineError::Json(error) => Error::bad_reply(call, error),
        };
        loop {
            if let Some(value) = self.splitter.next_value().map_err(failed)? {
                return Ok(Some(value));
            }
            match self.reply.piece(self.idle).await? {
                Some(piece) => self.splitter.push(&piece),
                None => return self.splitter.finish_value().map_err(failed),
            }
        }
    }
}

/// The text of an error body, at most 4 KiB. Public for fuzzing: accepts any bytes.
pub fn error_text(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Message {
        message: String,
    }
    let text = match serde_json::from_slice::<Message>(body) {
        Ok(Message { message }) => message,
        Err(_) => String::from_utf8_lossy(&body[..body.len().min(MAX_ERROR_TEXT)]).into_owned(),
    };
    shorten(text.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_body_of_any_form_gives_its_message() {
        assert_eq!(error_text(b"{\"message\":\"No such image: x\"}\n"), "No such image: x");
        let podman = br#"{"cause":"no such container","message":"no container","response":404}"#;
        assert_eq!(error_text(podman), "no container");
        assert_eq!(error_text(b"No such container: x\r\n"), "No such container: x");
        assert_eq!(error_text(b"{\"message\":7}"), "{\"message\":7}");
        assert_eq!(error_text(b"\xff\xfe"), "\u{fffd}\u{fffd}");
        assert_eq!(error_text(b""), "");
    }
}
