//! A reply: its status judged, its body read under a cap and a deadline.
//!
//! An error's body is JSON with a `message` on Docker and Podman alike, plain text on an attach and from very old engines, and
//! HTML from a proxy. So: JSON if it parses, else the first 4 KiB as text.
//!
//! A reply owns its connection. Read to its end, it gives the connection back; dropped before, it closes it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout, timeout_at};

use super::connection::{Connection, Stock};
use super::deadlines;
use super::error::{Error, MAX_WORDS, Phase, shorten};
use super::jsonlines::{self, Splitter};
use super::types::Progress;

/// The most a whole body may have, in bytes. A list of 10,000 containers is about 10 MB.
pub(super) const MAX_BODY: usize = 32 << 20;

/// A reply whose head has arrived.
pub(super) struct Reply {
    call: &'static str,
    response: Response<Incoming>,
    connection: Option<Connection>,
    stock: Option<Arc<Stock>>,
    ended: bool,
}

impl Drop for Reply {
    fn drop(&mut self) {
        let ended = self.ended || self.response.body().is_end_stream();
        if ended && let (Some(connection), Some(stock)) = (self.connection.take(), self.stock.take()) {
            stock.give(connection);
        }
    }
}

impl Reply {
    pub(super) fn new(
        call: &'static str,
        response: Response<Incoming>,
        connection: Connection,
        stock: Option<Arc<Stock>>,
    ) -> Reply {
        // An upgraded connection is nobody's to use again.
        let stock = stock.filter(|_| response.status().as_u16() != 101);
        Reply { call, response, connection: Some(connection), stock, ended: false }
    }

    pub(super) fn call(&self) -> &'static str {
        self.call
    }

    pub(super) fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// The reply if its status is one of `statuses`, else the error it carries.
    pub(super) async fn accept(self, statuses: &[u16]) -> Result<Reply, Error> {
        if statuses.contains(&self.status()) { Ok(self) } else { Err(self.refused().await) }
    }

    /// Reads an error's text: at most 4 KiB, for at most 2 s.
    pub(super) async fn refused(mut self) -> Error {
        let deadline = Instant::now() + deadlines::ERROR_BODY;
        let mut text = Vec::new();
        while text.len() < MAX_WORDS {
            match timeout_at(deadline, self.response.body_mut().frame()).await {
                Ok(Some(Ok(frame))) => text.extend(frame.data_ref().into_iter().flatten()),
                Ok(None) => {
                    self.ended = true;
                    break;
                }
                _ => break,
            }
        }
        Error::Status { call: self.call, status: self.status(), message: error_text(&text) }
    }

    /// The next piece of the body, `None` at its end. No deadline at all with `idle: None`.
    pub(super) async fn piece(&mut self, idle: Option<Duration>) -> Result<Option<Bytes>, Error> {
        let call = self.call;
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

    /// Reads a body of which only the end is of interest: the connection can then be used again. One that is long or slow is
    /// left unread, and its connection closes.
    pub(super) async fn finish(mut self) {
        let mut left = MAX_WORDS;
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

    /// The whole body as JSON, at most [`MAX_BODY`].
    pub(super) async fn json<T: DeserializeOwned>(self) -> Result<T, Error> {
        let (call, after) = (self.call, deadlines::BODY_TOTAL);
        let body = timeout(after, self.whole(Some(deadlines::BODY_IDLE))).await.map_err(|_| Error::Timeout {
            call,
            phase: Phase::Body,
            after,
        })??;
        parse(call, &body)
    }

    /// The whole body as JSON, however long the engine takes to send it (a wait).
    pub(super) async fn json_someday<T: DeserializeOwned>(self) -> Result<T, Error> {
        let call = self.call;
        parse(call, &self.whole(None).await?)
    }

    async fn whole(mut self, idle: Option<Duration>) -> Result<Vec<u8>, Error> {
        let mut body = Vec::new();
        while let Some(piece) = self.piece(idle).await? {
            if body.len() + piece.len() > MAX_BODY {
                return Err(Error::TooLarge { call: self.call, limit: MAX_BODY });
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }

    /// The body as JSON lines with at most `idle` of silence between two pieces.
    pub(super) fn lines(self, idle: Option<Duration>) -> Lines {
        Lines { reply: self, idle, splitter: Splitter::new() }
    }

    /// Follows a progress stream to its end. A failure arrives as a line of it, inside a 200; a cut stream is one too.
    pub(super) async fn follow(self, idle: Duration, progress: &mut (dyn FnMut(Progress) + Send)) -> Result<(), Error> {
        let call = self.call;
        let mut lines = self.lines(Some(idle));
        while let Some(line) = lines.next::<Progress>().await? {
            if let Some(message) = line.failure() {
                return Err(Error::Reported { call, message: shorten(message.trim()) });
            }
            progress(line);
        }
        Ok(())
    }

    /// The response and the connection, for an upgrade.
    pub(super) fn into_upgrade(mut self) -> (&'static str, hyper::upgrade::OnUpgrade, Option<Connection>) {
        (self.call, hyper::upgrade::on(&mut self.response), self.connection.take())
    }
}

fn parse<T: DeserializeOwned>(call: &'static str, body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|error| Error::nonsense(call, error))
}

/// A body of JSON lines.
pub(super) struct Lines {
    reply: Reply,
    idle: Option<Duration>,
    splitter: Splitter,
}

impl Lines {
    /// The next line, `None` at the end of the stream. Cancel-safe: a dropped future loses no line.
    pub(super) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Error> {
        let call = self.reply.call;
        let odd = |error| match error {
            jsonlines::Error::TooLong => Error::TooLarge { call, limit: jsonlines::MAX_LINE },
            jsonlines::Error::Json(error) => Error::nonsense(call, error),
        };
        loop {
            if let Some(value) = self.splitter.next_value().map_err(odd)? {
                return Ok(Some(value));
            }
            match self.reply.piece(self.idle).await? {
                Some(piece) => self.splitter.push(&piece),
                None => return self.splitter.finish_value().map_err(odd),
            }
        }
    }
}

/// An error body's text. For the fuzzer too: it takes whatever a peer sends.
pub fn error_text(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Message {
        message: String,
    }
    let text = match serde_json::from_slice::<Message>(body) {
        Ok(Message { message }) => message,
        Err(_) => String::from_utf8_lossy(&body[..body.len().min(MAX_WORDS)]).into_owned(),
    };
    shorten(text.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_body_gives_its_message_whoever_wrote_it() {
        assert_eq!(error_text(b"{\"message\":\"No such image: x\"}\n"), "No such image: x");
        let podman = br#"{"cause":"no such container","message":"no container","response":404}"#;
        assert_eq!(error_text(podman), "no container");
        assert_eq!(error_text(b"No such container: x\r\n"), "No such container: x");
        assert_eq!(error_text(b"{\"message\":7}"), "{\"message\":7}");
        assert_eq!(error_text(b"\xff\xfe"), "\u{fffd}\u{fffd}");
        assert_eq!(error_text(b""), "");
    }
}
