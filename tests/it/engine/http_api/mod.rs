//! The HTTP API over real connections: each request is written by hand, so that it is exactly what
//! a test says, and answers are read as strictly.

mod examples;
mod guide;
mod load;
mod malformed;
mod parity;
mod semantics;
mod smuggling;
mod tools;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use super::http::{Answer, http_address};
use crate::harness::{Daemon, Options};

/// A token of [`settings`], of the tenant `school` in the role `submit`.
pub const TOKEN: &str = "assay_1111111111111111111111111111111111111111111111111111111111111111";

/// Its SHA-256.
const HASH: &str = "d14fb97d50818fa9d6d65f6289a86cf6d42101a07a7476d6272978036082c008";

/// Sections of assayd.toml: the API on a port of the kernel's choice, and one token. `more` follows
/// in `[http]`.
pub fn settings(more: &str) -> String {
    format!(
        "[http]\nlisten='127.0.0.1:0'\napi=true\n{more}\n[[http.tokens]]\nname='ci'\nsha256='{HASH}'\ntenant='school'\n"
    )
}

/// A daemon with the API, and the address of its listener.
pub fn serve(options: &Options<'_>) -> (Daemon, String) {
    let config = settings("") + options.config;
    let daemon = Daemon::start(&Options { config: &config, ..*options });
    daemon.wait_for_engine();
    let address = http_address(&daemon);
    (daemon, address)
}

/// The header fields that every valid request has.
pub fn fields() -> String {
    format!("host: localhost\r\nauthorization: Bearer {TOKEN}\r\n")
}

/// A connection that is kept.
pub struct HttpCaller {
    pub stream: BufReader<TcpStream>,
}

impl HttpCaller {
    pub fn connect(address: &str) -> HttpCaller {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        HttpCaller { stream: BufReader::new(stream) }
    }

    pub fn send(&mut self, verb: &str, path: &str, more: &str, body: &[u8]) {
        let length = match (verb, body.len()) {
            ("GET" | "HEAD" | "DELETE", 0) => String::new(),
            (_, length) => format!("content-length: {length}\r\n"),
        };
        let head = format!("{verb} {path} HTTP/1.1\r\n{}{more}{length}\r\n", fields());
        self.stream.get_mut().write_all(&[head.as_bytes(), body].concat()).unwrap();
    }

    /// One request and its answer.
    pub fn ask(&mut self, verb: &str, path: &str, more: &str, body: &[u8]) -> Answer {
        self.send(verb, path, more, body);
        read_answer(&mut self.stream, verb != "HEAD").expect("the daemon closed the connection")
    }

    pub fn get(&mut self, path: &str) -> Answer {
        self.ask("GET", path, "", b"")
    }

    pub fn post(&mut self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path, "content-type: application/json\r\n", body.to_string().as_bytes())
    }

    /// The report of a submission.
    pub fn judge(&mut self, submission: &Value) -> Value {
        let answer = self.post("/api/v1/submissions", submission);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }
}

/// Reads the head of an answer; `None` at the end of the connection.
fn read_head(stream: &mut impl BufRead) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        match stream.read_line(&mut head) {
            Ok(1..) => {}
            _ if head.is_empty() => return None,
            _ => panic!("it ended in {head:?}"),
        }
    }
    Some(head)
}

/// Reads one answer; `None` at the end of the connection.
pub fn read_answer(stream: &mut impl BufRead, has_body: bool) -> Option<Answer> {
    let head = read_head(stream)?;
    let status = head[9..12].parse().unwrap_or_else(|_| panic!("not an answer: {head:?}"));
    let mut answer = Answer { status, head, body: String::new() };
    let mut bytes = Vec::new();
    if has_body && answer.field("transfer-encoding") == Some("chunked") {
        while let Some(chunk) = read_chunk(stream) {
            bytes.extend(chunk);
        }
    } else if has_body && !matches!(status, 100..200 | 204 | 304) {
        match answer.field("content-length").map(|length| length.parse().unwrap()) {
            Some(length) => {
                bytes = vec![0; length];
                stream.read_exact(&mut bytes).unwrap();
            }
            None => drop(stream.read_to_end(&mut bytes)),
        }
    }
    answer.body = String::from_utf8_lossy(&bytes).into_owned();
    Some(answer)
}

/// One chunk of a chunked body; `None` after the last one.
pub fn read_chunk(stream: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    let size = usize::from_str_radix(line.trim_end(), 16).unwrap_or_else(|_| panic!("not a size: {line:?}"));
    let mut chunk = vec![0; size + 2];
    stream.read_exact(&mut chunk).unwrap();
    assert!(chunk.ends_with(b"\r\n"));
    chunk.truncate(size);
    (size > 0).then_some(chunk)
}

/// Sends bytes on a connection of their own, and reads every answer until the daemon closes it: the
/// last request has to ask for that, or to be refused. To shut down writing would be a hang-up.
pub fn raw(address: &str, bytes: &[u8]) -> Vec<Answer> {
    let mut caller = HttpCaller::connect(address);
    // the server may close before all is written
    let _ = caller.stream.get_mut().write_all(bytes);
    let mut answers = Vec::new();
    while let Some(answer) = read_answer(&mut caller.stream, true) {
        answers.push(answer);
    }
    answers
}
