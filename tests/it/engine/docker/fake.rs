//! A scripted engine: it answers the boring questions by itself and does with the others what a test tells it.
//!
//! Written on bytes rather than on a server library, because the faults are faults of bytes: a cut chunk, a lost reply, a
//! stalled body. It keeps connections open like the real one, and counts them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use docker::Client;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::task::JoinHandle;

/// What is answered, and what happens to it on the way.
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
    /// Open and silent for ever.
    Stall,
}

impl Answer {
    /// A reply with a body.
    pub fn json(status: u16, body: &Value) -> Answer {
        Answer::text(status, &body.to_string())
    }

    pub fn text(status: u16, body: &str) -> Answer {
        let head = format!("HTTP/1.1 {status} X\r\nApi-Version: 1.51\r\nContent-Length: {}\r\n\r\n", body.len());
        Answer { bytes: [head.as_bytes(), body.as_bytes()].concat(), then: Then::Keep }
    }

    /// These bytes, and then the end.
    pub fn raw(bytes: impl AsRef<[u8]>) -> Answer {
        Answer { bytes: bytes.as_ref().to_vec(), then: Then::Close }
    }

    /// A body in chunks, whole.
    pub fn chunked(chunks: &[&str]) -> Answer {
        let mut text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
        for chunk in chunks {
            text += &format!("{:x}\r\n{chunk}\r\n", chunk.len());
        }
        Answer { then: Then::Keep, ..Answer::raw(text + "0\r\n\r\n") }
    }

    /// No reply: the connection ends.
    pub fn lost() -> Answer {
        Answer::raw("")
    }

    /// No reply: the connection stays.
    pub fn silence() -> Answer {
        Answer { then: Then::Stall, ..Answer::raw("") }
    }

    /// Only the first bytes, then the end.
    pub fn cut(mut self, at: usize) -> Answer {
        self.bytes.truncate(at);
        Answer { then: Then::Close, ..self }
    }

    /// All but the last bytes, then silence.
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
    /// What is to happen to the next request that begins so.
    script: VecDeque<(String, Answer)>,
    /// `METHOD /path`, in order.
    seen: Vec<String>,
    /// Names and bodies of containers created.
    created: Vec<(String, Value)>,
}

/// The engine.
#[derive(Debug, Clone, Default)]
pub struct Fake {
    state: Arc<Mutex<State>>,
    connections: Arc<AtomicUsize>,
}

impl Fake {
    /// Listens on a Unix socket of its own.
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

    /// The next request that begins with `request` (`"POST /containers/create"`) gets `answer`. A create is still made.
    pub fn script(&self, request: &str, answer: Answer) -> &Fake {
        self.state.lock().unwrap().script.push_back((request.to_owned(), answer));
        self
    }

    /// Requests so far, without the version.
    pub fn seen(&self) -> Vec<String> {
        self.state.lock().unwrap().seen.clone()
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Serves one connection.
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

/// An engine that listens. Dropping it ends that.
pub struct Listening {
    pub _folder: Option<tempfile::TempDir>,
    pub task: JoinHandle<()>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// `METHOD /path?query` without the version, and the body; none at the end of the connection.
pub async fn read_request(stream: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> Option<(String, Vec<u8>)> {
    let head = loop {
        if let Some(end) = find(buffer, b"\r\n\r\n") {
            break end + 4;
        }
        more(stream, buffer).await?;
    };
    let text = String::from_utf8_lossy(&buffer[..head]).into_owned();
    buffer.drain(..head);
    let header = |name: &str| {
        let lines = text.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned()).next()
    };
    let body = if let Some(length) = header("content-length") {
        let length: usize = length.parse().unwrap();
        while buffer.len() < length {
            more(stream, buffer).await?;
        }
        buffer.drain(..length).collect()
    } else if header("transfer-encoding").is_some() {
        loop {
            if let Some(end) = find(buffer, b"\r\n0\r\n\r\n") {
                break buffer.drain(..end + 7).collect();
            }
            more(stream, buffer).await?;
        }
    } else {
        Vec::new()
    };
    let mut words = text.split(' ');
    let (method, path) = (words.next()?, words.next()?);
    let path = match path.strip_prefix("/v").and_then(|rest| rest.split_once('/')) {
        Some((_, rest)) => format!("/{rest}"),
        None => path.to_owned(),
    };
    Some((format!("{method} {path}"), body))
}

async fn more(stream: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> Option<()> {
    match stream.read_buf(buffer).await {
        Ok(count) if count > 0 => Some(()),
        _ => None,
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
