//! A scripted engine: answers common requests by itself, and others as a test specifies.
//!
//! It writes raw bytes instead of using a server library, because the faults are faults of bytes: a
//! cut chunk, a lost reply, a stalled body. It keeps connections open like a real engine, and
//! counts them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use docker::Client;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::task::JoinHandle;

use super::support::read_request;

/// A reply, and what happens to the connection after it.
#[derive(Debug, Clone)]
pub struct Answer {
    bytes: Vec<u8>,
    then: Then,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// The connection stays open for the next request.
    Keep,
    Close,
    /// The connection stays open and silent.
    Stall,
}

impl Answer {
    /// A reply with a JSON body.
    pub fn json(status: u16, body: &Value) -> Answer {
        Answer::text(status, &body.to_string())
    }

    pub fn text(status: u16, body: &str) -> Answer {
        let head = format!("HTTP/1.1 {status} X\r\nApi-Version: 1.51\r\nContent-Length: {}\r\n\r\n", body.len());
        Answer { bytes: [head.as_bytes(), body.as_bytes()].concat(), then: Then::Keep }
    }

    /// These bytes, then the connection closes.
    pub fn raw(bytes: impl AsRef<[u8]>) -> Answer {
        Answer { bytes: bytes.as_ref().to_vec(), then: Then::Close }
    }

    /// A complete reply with a chunked body.
    pub fn chunked(chunks: &[&str]) -> Answer {
        let mut text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
        for chunk in chunks {
            text += &format!("{:x}\r\n{chunk}\r\n", chunk.len());
        }
        Answer { then: Then::Keep, ..Answer::raw(text + "0\r\n\r\n") }
    }

    /// No reply: the connection closes.
    pub fn lost() -> Answer {
        Answer::raw("")
    }

    /// No reply: the connection stays open.
    pub fn silence() -> Answer {
        Answer { then: Then::Stall, ..Answer::raw("") }
    }

    /// Only the first `at` bytes, then the connection closes.
    pub fn cut(mut self, at: usize) -> Answer {
        self.bytes.truncate(at);
        Answer { then: Then::Close, ..self }
    }

    /// All but the last `before_the_end` bytes, then silence.
    pub fn stalled(mut self, before_the_end: usize) -> Answer {
        self.bytes.truncate(self.bytes.len() - before_the_end);
        Answer { then: Then::Stall, ..self }
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }
}

#[derive(Debug, Default)]
struct State {
    /// Replies to the next requests that begin with the given text.
    script: VecDeque<(String, Answer)>,
    /// `METHOD /path` of every request, in order.
    seen: Vec<String>,
    /// Names and specs of the created containers.
    created: Vec<(String, Value)>,
}

/// The scripted engine.
#[derive(Debug, Clone, Default)]
pub struct Fake {
    state: Arc<Mutex<State>>,
    connections: Arc<AtomicUsize>,
}

impl Fake {
    /// Listens on a new Unix socket.
    pub fn start() -> (Fake, Client, Listening) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docker.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let fake = Fake::default();
        let serving = fake.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(stream));
            }
        });
        (fake, Client::unix(path), Listening { _folder: Some(folder), task })
    }

    /// The next request that begins with `request` (such as `"POST /containers/create"`) gets
    /// `answer`. A create still creates the container.
    pub fn script(&self, request: &str, answer: Answer) -> &Fake {
        self.state.lock().unwrap().script.push_back((request.to_owned(), answer));
        self
    }

    /// The requests so far, without the version prefix.
    pub fn seen(&self) -> Vec<String> {
        self.state.lock().unwrap().seen.clone()
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub async fn serve(self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        self.connections.fetch_add(1, Ordering::SeqCst);
        let mut buffer = Vec::new();
        while let Some((request, body)) = read_request(&mut stream, &mut buffer).await {
            let answer = self.answer(&request, &body);
            if stream.write_all(&answer.bytes).await.is_err() {
                return;
            }
            let _ = stream.flush().await;
            match answer.then {
                Then::Keep => {}
                Then::Close => {
                    let _ = stream.shutdown().await;
                    return;
                }
                Then::Stall => std::future::pending().await,
            }
        }
    }

    fn answer(&self, request: &str, body: &[u8]) -> Answer {
        let mut state = self.state.lock().unwrap();
        state.seen.push(request.to_owned());
        let (path, query) = request.split_once('?').unwrap_or((request, ""));
        if path == "POST /containers/create" {
            let name = query.strip_prefix("name=").unwrap_or_default().to_owned();
            state.created.push((name, serde_json::from_slice(body).unwrap_or_default()));
        }
        if let Some(at) = state.script.iter().position(|(wanted, _)| request.starts_with(wanted.as_str())) {
            return state.script.remove(at).unwrap().1;
        }
        let created = |name: &str| state.created.iter().find(|(known, _)| known == name);
        match path {
            "GET /_ping" => Answer::text(200, "OK"),
            "GET /version" => Answer::json(200, &json!({"Version": "28.5.0", "ApiVersion": "1.51", "Os": "linux"})),
            "GET /info" => Answer::json(200, &json!({"NCPU": 2, "MemTotal": 1 << 30, "MemoryLimit": true})),
            "POST /containers/create" => Answer::json(201, &json!({"Id": "c1", "Warnings": []})),
            "GET /containers/json" => Answer::json(200, &json!([])),
            _ => match path
                .strip_prefix("GET /containers/")
                .and_then(|rest| rest.strip_suffix("/json"))
                .and_then(created)
            {
                Some((name, body)) => Answer::json(
                    200,
                    &json!({"Id": "c1", "Name": format!("/{name}"), "Config": {"Labels": body["Labels"]}}),
                ),
                None => Answer::json(404, &json!({"message": format!("No such thing: {path}")})),
            },
        }
    }
}

/// A listening engine. Dropping it stops it.
pub struct Listening {
    /// The folder of the socket.
    pub _folder: Option<tempfile::TempDir>,
    pub task: JoinHandle<()>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}
