//! From a reply's head to its content: status, caps, progress streams.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Response;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::deadlines;
use super::error::Error;
use super::jsonlines::JsonLines;
use super::types::Progress;

/// The most of an error body that is read.
const ERROR_BYTES: usize = 4 * 1024;
/// The most of an ordinary body: a list of a few thousand containers is about 4 MiB.
const BODY_BYTES: usize = 32 * 1024 * 1024;

#[derive(Deserialize)]
struct ErrorBody {
    message: String,
}

/// The engine's words in an error body: JSON's `message`, else the text itself.
pub(super) fn words(bytes: &[u8]) -> String {
    match serde_json::from_slice::<ErrorBody>(bytes) {
        Ok(body) => body.message.trim().to_owned(),
        Err(_) => String::from_utf8_lossy(bytes).trim().to_owned(),
    }
}

/// Reads a body up to a cap; the rest is left with the connection, which goes with the reply.
async fn read(call: &'static str, reply: Response<Incoming>, cap: usize) -> Result<(Bytes, bool), Error> {
    let mut body = reply.into_body();
    let mut bytes = BytesMut::new();
    while let Some(frame) = next(call, &mut body, deadlines::BODY_IDLE).await? {
        let room = cap - bytes.len();
        bytes.extend_from_slice(&frame[..frame.len().min(room)]);
        if frame.len() > room {
            return Ok((bytes.freeze(), false));
        }
    }
    Ok((bytes.freeze(), true))
}

async fn next(call: &'static str, body: &mut Incoming, idle: Duration) -> Result<Option<Bytes>, Error> {
    loop {
        match tokio::time::timeout(idle, body.frame()).await {
            Err(_) => return Err(Error::Timeout { call, phase: "body", after: idle }),
            Ok(None) => return Ok(None),
            Ok(Some(Err(source))) => {
                return Err(Error::Transport { call, phase: "body", source: Box::new(source) });
            }
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// The reply when its status is among `fine`, else the engine's error.
pub(super) async fn expect(
    call: &'static str,
    reply: Response<Incoming>,
    fine: &[u16],
) -> Result<Response<Incoming>, Error> {
    let status = reply.status().as_u16();
    if fine.contains(&status) {
        return Ok(reply);
    }
    // an error whose body cannot be read is still that error
    let message = match read(call, reply, ERROR_BYTES).await {
        Ok((bytes, _)) => words(&bytes),
        Err(error) => format!("(its words could not be read: {error})"),
    };
    Err(Error::Status { call, status, message })
}

/// The whole body as JSON.
pub(super) async fn json<T: DeserializeOwned>(call: &'static str, reply: Response<Incoming>) -> Result<T, Error> {
    let nonsense = |message| Error::Nonsense { call, message };
    let (bytes, is_whole) = read(call, reply, BODY_BYTES).await?;
    if !is_whole {
        return Err(nonsense(format!("the body exceeds {BODY_BYTES} bytes")));
    }
    serde_json::from_slice(&bytes).map_err(|error| nonsense(error.to_string()))
}

/// Reads JSON, waiting for it as long as it takes (a `wait`'s body comes when the container ends).
pub(super) async fn json_patiently<T: DeserializeOwned>(
    call: &'static str,
    reply: Response<Incoming>,
) -> Result<T, Error> {
    let mut lines = Lines::new(call, reply, deadlines::NONE);
    match lines.next().await? {
        Some(value) => Ok(value),
        None => Err(Error::Nonsense { call, message: "the body is empty".to_owned() }),
    }
}

/// A body of JSON lines.
#[derive(Debug)]
pub(super) struct Lines {
    call: &'static str,
    body: Incoming,
    idle: Duration,
    decoder: JsonLines,
    ended: bool,
}

impl Lines {
    pub(super) fn new(call: &'static str, reply: Response<Incoming>, idle: Duration) -> Lines {
        Lines { call, body: reply.into_body(), idle, decoder: JsonLines::new(), ended: false }
    }

    /// The next value; none at the end. Cancel-safe.
    pub(super) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Error> {
        let nonsense = |message: String| Error::Nonsense { call: self.call, message };
        loop {
            if let Some(line) = self.decoder.next().map_err(|error| nonsense(error.to_string()))? {
                return serde_json::from_slice(&line).map(Some).map_err(|error| nonsense(error.to_string()));
            }
            if self.ended {
                return Ok(None);
            }
            match next(self.call, &mut self.body, self.idle).await? {
                Some(data) => self.decoder.push(&data),
                None => {
                    self.ended = true;
                    self.decoder.finish();
                }
            }
        }
    }
}

/// Follows a progress stream to its end. An error inside a reply that began with 200 is an error all the same.
pub(super) async fn follow(
    call: &'static str,
    reply: Response<Incoming>,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<(), Error> {
    let mut lines = Lines::new(call, reply, deadlines::PROGRESS_IDLE);
    let mut failure = None;
    while let Some(line) = lines.next::<Progress>().await? {
        if let Some(message) = line.failure() {
            failure = Some(message);
        }
        progress(line);
    }
    match failure {
        None => Ok(()),
        Some(message) => Err(Error::Reported { call, message: message.chars().take(4096).collect() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_words_are_found_in_json_and_in_text() {
        assert_eq!(words(b"{\"message\":\"No such container: x\"}\n"), "No such container: x");
        assert_eq!(words(b"No such container: x\r\n"), "No such container: x");
        assert_eq!(words(b"{\"cause\":\"c\",\"message\":\"m\",\"response\":404}"), "m");
        assert_eq!(words(&[0xff]), "\u{fffd}");
    }
}
