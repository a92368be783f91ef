//! From a call to a reply's head: path, version, body, deadline.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde::Serialize;

use super::dial::dial;
use super::error::Error;
use super::version::{ApiVersion, negotiate};
use super::{Client, Ping};

/// A request's body.
pub(super) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// A call to be made.
pub(super) struct Call {
    /// Its name in errors.
    pub(super) name: &'static str,
    method: Method,
    path: String,
    query: Vec<(String, String)>,
    body: Body,
    content_type: Option<&'static str>,
    headers: Vec<(&'static str, String)>,
    head: Duration,
}

impl Call {
    pub(super) fn new(name: &'static str, method: Method, path: impl Into<String>, head: Duration) -> Call {
        Call {
            name,
            method,
            path: path.into(),
            query: Vec::new(),
            body: whole(Bytes::new()),
            content_type: None,
            headers: Vec::new(),
            head,
        }
    }

    pub(super) fn query(mut self, key: &str, value: impl Into<String>) -> Call {
        self.query.push((key.to_owned(), value.into()));
        self
    }

    pub(super) fn json(mut self, value: &impl Serialize) -> Result<Call, Error> {
        let bytes = serde_json::to_vec(value)
            .map_err(|error| Error::Nonsense { call: self.name, message: error.to_string() })?;
        self.body = whole(Bytes::from(bytes));
        self.content_type = Some("application/json");
        Ok(self)
    }

    pub(super) fn tar(mut self, body: Body) -> Call {
        self.body = body;
        self.content_type = Some("application/x-tar");
        self
    }

    pub(super) fn header(mut self, name: &'static str, value: &str) -> Call {
        self.headers.push((name, value.to_owned()));
        self
    }

    fn into_request(self, version: Option<ApiVersion>) -> Result<Request<Body>, Error> {
        let mut target = version.map(|version| format!("/v{version}")).unwrap_or_default();
        target.push_str(&self.path);
        for (index, (key, value)) in self.query.iter().enumerate() {
            target.push(if index == 0 { '?' } else { '&' });
            target.push_str(key);
            target.push('=');
            target.push_str(&encode(value));
        }
        let mut request = Request::builder().method(self.method).uri(target).header("Host", "docker");
        if let Some(content_type) = self.content_type {
            request = request.header("Content-Type", content_type);
        }
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        request.body(self.body).map_err(|error| Error::Nonsense { call: self.name, message: error.to_string() })
    }
}

/// A body that is all there.
pub(super) fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// Percent-encodes what may not stand in a query or a path segment.
pub(super) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// A container's id or name as it may stand in a path.
pub(super) fn checked<'a>(call: &'static str, name: &'a str) -> Result<&'a str, Error> {
    let mut bytes = name.bytes();
    let fine = bytes.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
        && name.len() <= 255;
    if fine { Ok(name) } else { Err(Error::BadName { call, given: name.chars().take(64).collect() }) }
}

impl Client {
    /// Sends a call under the negotiated version and waits for the reply's head.
    pub(super) async fn send(&self, call: Call) -> Result<Response<Incoming>, Error> {
        let version = match self.remembered() {
            Some(version) => version,
            None => self.ping_boxed().await?.api_version,
        };
        self.send_as(call, Some(version)).await
    }

    /// Sends a call under that version, or none.
    pub(super) async fn send_as(&self, call: Call, version: Option<ApiVersion>) -> Result<Response<Incoming>, Error> {
        let (name, head) = (call.name, call.head);
        let request = call.into_request(version)?;
        let transport =
            |phase| move |source: hyper::Error| Error::Transport { call: name, phase, source: Box::new(source) };
        let sent = async {
            let stream = dial(self.endpoint(), name).await?;
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(transport("handshake"))?;
            // the connection lives as long as the reply's body or the upgraded stream does
            tokio::spawn(connection.with_upgrades());
            sender.send_request(request).await.map_err(transport("head"))
        };
        let outcome = match tokio::time::timeout(head, sent).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::Timeout { call: name, phase: "head", after: head }),
        };
        if outcome.as_ref().is_err_and(Error::is_unreachable) {
            // the engine may be another one when it is back
            self.remember(None);
        }
        outcome
    }

    fn ping_boxed(&self) -> BoxFuture<'_, Result<Ping, Error>> {
        Box::pin(self.ping())
    }

    /// What version to speak, from what the engine offers.
    pub(super) fn settle(&self, offered: ApiVersion) -> Result<ApiVersion, Error> {
        let version = negotiate(offered).ok_or(Error::TooOld { offered })?;
        self.remember(Some(version));
        Ok(version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_could_leave_its_path_is_refused() {
        for name in ["", "a/b", "../x", "a b", "-a", ".a", "a?x=1", "a%2f", &"a".repeat(256)] {
            assert!(checked("test", name).is_err(), "{name}");
        }
        for name in ["a", "assay-python-0a1b", "0123456789ab"] {
            assert!(checked("test", name).is_ok(), "{name}");
        }
    }

    #[test]
    fn a_query_is_percent_encoded() {
        assert_eq!(encode("{\"label\":[\"a=b\"]}"), "%7B%22label%22%3A%5B%22a%3Db%22%5D%7D");
    }
}
