//! The caller's side of the socket protocol (DESIGN section 6): one connection, one call at a time, lines with a bound.
//!
//! It promises that a failed connection is said in a sentence with a remedy, that a reply of another call is never taken
//! for this one's, and that no line grows beyond [`MAX_LINE_BYTES`]. It refuses to know what a method means.
//!
//! Dropping a call's future is safe while it waits for the reply (the late reply is skipped); while it still writes, the
//! connection is spoiled and says so at the next call.

use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

/// Where the daemon listens when nobody says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/assay/assay.sock";

/// The longest line read: twice what version 1 of the protocol sends (8 MiB), so that a daemon with a larger
/// `max_report_bytes` is still understood.
pub const MAX_LINE_BYTES: usize = 16 * 1024 * 1024;

/// One chunk of a blob before base64: 4 MiB as text, half of the protocol's line.
pub const BLOB_CHUNK_BYTES: usize = 3 * 1024 * 1024;

/// Text of at most this size travels inside the submission; more goes through [`RpcClient::put_blob`].
pub const INLINE_BYTES: usize = 4 * 1024 * 1024;

/// How long the daemon may take to say hello: while it is restarted, callers wait in its socket, and it finishes what runs
/// before it ends.
const HELLO_WAIT: std::time::Duration = std::time::Duration::from_secs(60);

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
pub enum RpcError {
    /// The socket could not be opened.
    #[error("connect to the assay daemon at {path}")]
    Connect {
        /// The socket's path.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Something else than a daemon of protocol 1 answered.
    #[error("understand the server at {path}: {why}")]
    NotAssay {
        /// The socket's path.
        path: PathBuf,
        /// What it did.
        why: String,
    },
    /// The connection ended before the reply.
    #[error("get a reply: the daemon closed the connection")]
    Closed,
    /// Reading or writing failed.
    #[error("talk to the daemon")]
    Io(#[source] io::Error),
    /// A line was longer than [`MAX_LINE_BYTES`].
    #[error("read the reply: a line is longer than {MAX_LINE_BYTES} bytes")]
    LineTooLong,
    /// A line was not JSON, or not JSON-RPC.
    #[error("read the reply: {0}")]
    Malformed(String),
    /// The daemon answered with an error.
    #[error("{message}")]
    Reply {
        /// The JSON-RPC number.
        number: i64,
        /// The closed list's word (`data.code`); `internal` when there is none.
        word: String,
        /// For people.
        message: String,
        /// The request's field that it is about.
        field: Option<String>,
        /// When to try again, in milliseconds.
        retry_after_ms: Option<u64>,
    },
}

impl RpcError {
    /// The word of the protocol's closed list, when the daemon answered.
    pub fn word(&self) -> Option<&str> {
        match self {
            RpcError::Reply { word, .. } => Some(word),
            _ => None,
        }
    }

    /// What the caller can do about it, as a sentence.
    pub fn remedy(&self) -> Option<String> {
        match self {
            RpcError::Connect { path, source } => Some(connect_remedy(path, source.kind())),
            RpcError::NotAssay { .. } => {
                Some("Check --socket and ASSAY_SOCKET: they must name assayd's socket.".into())
            }
            RpcError::Closed | RpcError::Io(_) => {
                Some("The daemon may have stopped; its log says why: `journalctl -u assayd`.".into())
            }
            RpcError::Reply { number, word, message, field, retry_after_ms } => match (word.as_str(), retry_after_ms) {
                ("unknown_profile", _) => Some("`assay profiles` lists the languages.".into()),
                ("no_host", _) => Some(
                    "No Docker Engine is up. Please make sure Docker is running; `assay doctor` looks closer.".into(),
                ),
                ("forbidden", _) => Some(
                    "Ask for the role in [socket] of assayd.toml, then `assay reload`; or try as root, with `sudo`."
                        .into(),
                ),
                ("conflict", _) => Some("Hand it in under another --id, or `assay get ID` to see the first.".into()),
                ("denied", _) => Some("`assay profiles` shows what a run gets that asks for nothing.".into()),
                ("unsupported", _) => Some("`assay hosts` says what each host offers, and why not more.".into()),
                ("not_found", _) if *number == -32601 => Some("`assay schema --list` lists the methods.".into()),
                ("not_found", _) if field.as_deref() == Some("host") => Some("`assay hosts` lists them.".into()),
                ("not_found", _) if field.as_deref() == Some("id") => {
                    Some("Reports are kept for a while only; `assay rpc submission.list` lists what there is.".into())
                }
                ("queue_full" | "quota_exceeded" | "draining" | "deadline_unreachable", Some(ms)) => {
                    Some(format!("Try again in {ms} ms; `assay top` shows who is served."))
                }
                ("internal", _) if message.contains("assay images build") => None,
                ("internal", _) => Some("The daemon's log says more: `journalctl -u assayd`.".into()),
                _ => None,
            },
            _ => None,
        }
    }
}

fn connect_remedy(path: &Path, kind: io::ErrorKind) -> String {
    match kind {
        io::ErrorKind::NotFound => format!(
            "The daemon is not running, or listens elsewhere: start it with `systemctl start assayd.socket` (or `make \
             serve`), or name its socket with --socket or ASSAY_SOCKET. Looked at {}.",
            path.display()
        ),
        io::ErrorKind::ConnectionRefused => {
            "The socket is there but nobody listens: the daemon has stopped. Start it with `systemctl start \
             assayd.socket` (or `make serve`)."
                .into()
        }
        io::ErrorKind::PermissionDenied => format!(
            "You may not open {}: join the socket's group (`sudo usermod -aG assay $USER`, then log in again), or use sudo.",
            path.display()
        ),
        _ => "Check --socket and ASSAY_SOCKET.".into(),
    }
}

/// A connection to the daemon.
#[derive(Debug)]
pub struct RpcClient {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    line: Vec<u8>,
    next_id: u64,
    writing: bool,
    hello: Value,
}

impl RpcClient {
    /// Connects and waits for `server.hello`.
    ///
    /// # Errors
    /// Nobody listens, the socket may not be opened, or what answers does not speak protocol 1.
    pub async fn connect(path: impl AsRef<Path>) -> Result<RpcClient, RpcError> {
        let path = path.as_ref();
        let stream =
            UnixStream::connect(path).await.map_err(|source| RpcError::Connect { path: path.to_path_buf(), source })?;
        let (reader, writer) = stream.into_split();
        let mut client = RpcClient {
            reader: BufReader::with_capacity(64 * 1024, reader),
            writer,
            line: Vec::new(),
            next_id: 1,
            writing: false,
            hello: Value::Null,
        };
        let strange = |why: String| RpcError::NotAssay { path: path.to_path_buf(), why };
        let first = match tokio::time::timeout(HELLO_WAIT, client.next_message()).await {
            Ok(Ok(message)) => message,
            Ok(Err(RpcError::Malformed(why))) => return Err(strange(why)),
            Ok(Err(RpcError::Closed)) => return Err(strange("it closed the connection without a word".into())),
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(strange(format!("no server.hello within {} s", HELLO_WAIT.as_secs()))),
        };
        if let Some(error) = first.get("error") {
            return Err(reply_error(error));
        }
        if first["method"] != "server.hello" {
            return Err(strange("its first line is not server.hello".into()));
        }
        client.hello = first["params"].clone();
        if client.hello["protocol"] != 1 {
            return Err(strange(format!("it speaks protocol {}, this client 1", client.hello["protocol"])));
        }
        Ok(client)
    }

    /// The parameters of `server.hello`.
    pub fn hello(&self) -> &Value {
        &self.hello
    }

    /// A bound that the daemon announced, such as `max_line_bytes`.
    pub fn limit(&self, name: &str) -> Option<u64> {
        self.hello["limits"][name].as_u64()
    }

    /// Calls a method; notifications that arrive meanwhile are skipped.
    ///
    /// # Errors
    /// The daemon's error reply, or a broken connection.
    pub async fn call(&mut self, method: &str, params: Value) -> Result<Value, RpcError> {
        self.call_streaming(method, params, |_, _| {}).await
    }

    /// Calls a method and hands every notification (method, params) over as it arrives. The reply comes last.
    ///
    /// # Errors
    /// The daemon's error reply, or a broken connection.
    pub async fn call_streaming(
        &mut self,
        method: &str,
        params: Value,
        on_notification: impl FnMut(&str, Value),
    ) -> Result<Value, RpcError> {
        self.call_until(method, params, std::future::pending(), on_notification).await
    }

    /// The same, and once `withdrawn` is ready, the call is withdrawn: its reply, of a submission that was cancelled, is still
    /// waited for.
    ///
    /// # Errors
    /// The daemon's error reply, or a broken connection.
    pub async fn call_until(
        &mut self,
        method: &str,
        params: Value,
        withdrawn: impl Future<Output = ()>,
        mut on_notification: impl FnMut(&str, Value),
    ) -> Result<Value, RpcError> {
        let id = self.next_id;
        self.next_id += 2;
        let unsent = self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})).await.err();
        tokio::pin!(withdrawn);
        let mut is_withdrawn = false;
        loop {
            let next = tokio::select! {
                next = self.next_message() => next,
                () = &mut withdrawn, if !is_withdrawn => {
                    is_withdrawn = true;
                    let cancel = json!({"jsonrpc": "2.0", "id": id + 1, "method": "submission.cancel", "params": {"request": id}});
                    self.send(&cancel).await?;
                    continue;
                }
            };
            // A daemon that refuses a line closes while we still write; its reason may be waiting to be read.
            let mut message = match next {
                Ok(message) => message,
                Err(error) => return Err(unsent.unwrap_or(error)),
            };
            if let Some(name) = message.get("method").and_then(Value::as_str).map(str::to_owned) {
                if message.get("id").is_none() {
                    on_notification(&name, message["params"].take());
                }
                continue;
            }
            match message.get("id") {
                Some(Value::Number(number)) if number.as_u64() == Some(id) => {}
                // What the daemon could not even read carries no id; one call at a time means it is this one.
                Some(Value::Null) | None if message.get("error").is_some() => {}
                _ => continue,
            }
            return match message.get("error") {
                Some(error) => Err(reply_error(error)),
                None => Ok(message["result"].take()),
            };
        }
    }

    /// Hands bytes over as a blob, in chunks; answers its id.
    ///
    /// # Errors
    /// As [`RpcClient::call`].
    pub async fn put_blob(&mut self, data: &[u8]) -> Result<String, RpcError> {
        let mut blob: Option<String> = None;
        let mut offset = 0;
        loop {
            let end = data.len().min(offset + BLOB_CHUNK_BYTES);
            let mut params =
                json!({"data_b64": BASE64.encode(&data[offset..end]), "offset": offset, "eof": end == data.len()});
            if let Some(id) = &blob {
                params["blob"] = json!(id);
            }
            let reply = self.call("blob.put", params).await?;
            let id = reply["blob"].as_str().ok_or_else(|| RpcError::Malformed("blob.put answered no id".into()))?;
            blob = Some(id.to_owned());
            offset = end;
            if let (true, Some(id)) = (offset == data.len(), &blob) {
                return Ok(id.clone());
            }
        }
    }

    /// Fetches a blob.
    ///
    /// # Errors
    /// As [`RpcClient::call`].
    pub async fn get_blob(&mut self, blob: &str) -> Result<Vec<u8>, RpcError> {
        let mut data = Vec::new();
        loop {
            let params = json!({"blob": blob, "offset": data.len(), "max": BLOB_CHUNK_BYTES});
            let reply = self.call("blob.get", params).await?;
            let chunk = BASE64
                .decode(reply["data_b64"].as_str().unwrap_or_default())
                .map_err(|error| RpcError::Malformed(format!("blob.get answered bad base64: {error}")))?;
            let stuck = chunk.is_empty();
            data.extend_from_slice(&chunk);
            if reply["eof"] == true {
                return Ok(data);
            }
            if stuck {
                return Err(RpcError::Malformed("blob.get answered nothing, and not the end either".into()));
            }
        }
    }

    async fn send(&mut self, message: &Value) -> Result<(), RpcError> {
        if self.writing {
            return Err(RpcError::Io(io::Error::other("an earlier request was cut off; connect again")));
        }
        let mut line = message.to_string().into_bytes();
        line.push(b'\n');
        self.writing = true;
        self.writer.write_all(&line).await.map_err(RpcError::Io)?;
        self.writing = false;
        Ok(())
    }

    /// One line. What was read of it stays in `self.line` when the future is dropped.
    async fn next_message(&mut self) -> Result<Value, RpcError> {
        loop {
            let chunk = self.reader.fill_buf().await.map_err(RpcError::Io)?;
            if chunk.is_empty() {
                return Err(RpcError::Closed);
            }
            let newline = chunk.iter().position(|&byte| byte == b'\n');
            let taken = newline.unwrap_or(chunk.len());
            if self.line.len() + taken > MAX_LINE_BYTES {
                return Err(RpcError::LineTooLong);
            }
            self.line.extend_from_slice(&chunk[..taken]);
            self.reader.consume(newline.map_or(taken, |at| at + 1));
            if newline.is_some() {
                let message: Result<Value, _> = serde_json::from_slice(&self.line);
                self.line.clear();
                let message = message.map_err(|error| RpcError::Malformed(format!("not JSON: {error}")))?;
                if !message.is_object() {
                    return Err(RpcError::Malformed("not a JSON object".into()));
                }
                return Ok(message);
            }
        }
    }
}

fn reply_error(error: &Value) -> RpcError {
    let data = &error["data"];
    let message = data["message"].as_str().or(error["message"].as_str()).unwrap_or("no reason given");
    RpcError::Reply {
        number: error["code"].as_i64().unwrap_or(0),
        word: data["code"].as_str().unwrap_or("internal").to_owned(),
        message: message.to_owned(),
        field: data["field"].as_str().map(str::to_owned),
        retry_after_ms: data["retry_after_ms"].as_u64(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_daemon_or_its_absence_says_comes_with_the_next_command_to_type() {
        let connect = |kind: io::ErrorKind| RpcError::Connect { path: "/s".into(), source: kind.into() }.remedy();
        let reply = |number: i64, word: &str, field: Option<&str>, retry_after_ms: Option<u64>| {
            let (word, field) = (word.to_owned(), field.map(str::to_owned));
            RpcError::Reply { number, word, message: String::new(), field, retry_after_ms }.remedy()
        };
        for (remedy, command) in [
            (connect(io::ErrorKind::NotFound), "`systemctl start assayd.socket`"),
            (connect(io::ErrorKind::ConnectionRefused), "`systemctl start assayd.socket`"),
            (connect(io::ErrorKind::PermissionDenied), "`sudo usermod -aG assay $USER`"),
            (RpcError::Closed.remedy(), "`journalctl -u assayd`"),
            (reply(-32001, "unknown_profile", None, None), "`assay profiles`"),
            (reply(-32009, "no_host", None, None), "`assay doctor`"),
            (reply(-32010, "forbidden", None, None), "`sudo`"),
            (reply(-32005, "conflict", None, None), "`assay get ID`"),
            (reply(-32002, "unsupported", None, None), "`assay hosts`"),
            (reply(-32601, "not_found", None, None), "`assay schema --list`"),
            (reply(-32004, "not_found", Some("host"), None), "`assay hosts`"),
            (reply(-32007, "queue_full", None, Some(40)), "40 ms"),
            (reply(-32099, "internal", None, None), "`journalctl -u assayd`"),
        ] {
            let remedy = remedy.unwrap_or_default();
            assert!(remedy.contains(command), "{remedy:?} names no {command}");
        }
    }
}
