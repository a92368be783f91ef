//! Client of the socket protocol: one connection, one call at a time, bounded lines.
//!
//! Errors say in a sentence what failed and offer a remedy. A reply to another call is never taken
//! for this one's. The client knows nothing about individual methods but the blob ones.
//!
//! A call's future may be dropped while it waits for the reply: the late reply is skipped. If it is
//! dropped while it still writes, the connection is unusable and the next call says so.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::progress;
use config::bounds;

/// The longest line that is read: twice the bound of this release's daemon, since another release's
/// may be higher.
pub const MAX_LINE_BYTES: usize = 2 * bounds::MAX_LINE_BYTES;

/// One chunk of a blob before base64: 3 MiB become 4 MiB of text, half of the protocol's line.
pub const BLOB_CHUNK_BYTES: usize = bounds::MAX_LINE_BYTES / 8 * 3;

/// Contents up to this size together travel inside the submission; larger ones through
/// [`RpcClient::put_blob`].
pub const INLINE_BYTES: usize = bounds::MAX_LINE_BYTES / 2;

/// Bound on the wait for `server.hello`. During a restart, callers wait in the socket's backlog
/// while the old daemon finishes what runs.
const HELLO_TIMEOUT: Duration = Duration::from_secs(60);

/// The pause before another attempt to connect to a socket whose backlog is full.
const BACKLOG_PAUSE: Duration = Duration::from_millis(50);

/// How long to wait for the daemon's health. A connection made while the daemon starts waits in the
/// socket's backlog, but a check must not wait that long.
pub const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);

/// The commands to try when the daemon does not answer.
pub const NO_ANSWER: &str = "See why: systemctl status assayd, then journalctl -u assayd -p warning -n 20. If it does not start, \
                             assayd --check-config says what is wrong; correct that, and systemctl restart assayd.";

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The socket could not be opened.
    #[error("connect to the assay daemon at {path}")]
    Connect { path: PathBuf, source: io::Error },
    /// The daemon does not serve: it starts again and again, or hangs.
    #[error("get an answer from the daemon at {path}: it said nothing for {} s", HELLO_TIMEOUT.as_secs())]
    Silent { path: PathBuf },
    /// The server is not an assay daemon that speaks protocol 1.
    #[error("understand the server at {path}: {why}")]
    NotAssay { path: PathBuf, why: String },
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
        /// The JSON-RPC error number.
        number: i64,
        /// `data.code`, one of the protocol's error codes; `internal` if it is missing.
        code: String,
        message: String,
        /// The request's field that caused the error.
        field: Option<String>,
        retry_after_ms: Option<u64>,
    },
}

impl ClientError {
    /// What the caller can do about it, as a sentence.
    pub fn remedy(&self) -> Option<String> {
        match self {
            ClientError::Connect { path, source } => Some(connect_remedy(path, source.kind())),
            ClientError::Silent { .. } => Some(NO_ANSWER.to_owned()),
            ClientError::NotAssay { .. } => {
                Some("Check --socket and ASSAY_SOCKET: they must name assayd's socket.".into())
            }
            ClientError::Closed | ClientError::Io(_) => {
                Some("The daemon may have stopped; its log has details: `journalctl -u assayd`.".into())
            }
            ClientError::Reply { number, code, field, retry_after_ms, .. } => {
                reply_remedy(*number, code, field.as_deref(), *retry_after_ms)
            }
            _ => None,
        }
    }
}

/// What to do about an error response. `image_failed` has none: its message names the command.
fn reply_remedy(number: i64, code: &str, field: Option<&str>, retry_after_ms: Option<u64>) -> Option<String> {
    let remedy = match (code, field, retry_after_ms) {
        ("unknown_profile", ..) => "`assay profiles` lists the languages.",
        ("no_host", ..) => {
            "`assay health` says why each engine takes no work, and what to type; `assay doctor` finds out more."
        }
        ("forbidden", ..) => {
            "Ask for the role in [socket] of assayd.toml, then `assay reload`; or try as root, with `sudo`."
        }
        ("conflict", Some("name"), _) => "`assay token list` shows the names; --replace rotates a token.",
        ("conflict", Some("tenant"), _) => "`assay token list` shows the tenants; one name keeps its tenant.",
        ("not_found", Some("name"), _) => "`assay token list` shows the names.",
        ("conflict", ..) => "Use another --id, or `assay get ID` to see the first submission.",
        ("denied", ..) => "`assay profiles` shows the limits of a run that asks for none.",
        ("unsupported", ..) => "`assay hosts` shows what each host offers, and why not more.",
        ("not_found", ..) if number == -32601 => "`assay schema --list` lists the methods.",
        ("not_found", Some("host"), _) => "`assay hosts` lists the hosts.",
        ("not_found", Some("id"), _) => {
            "Reports are kept for a limited time; `assay history` lists those that are left."
        }
        ("queue_full" | "quota_exceeded" | "draining" | "deadline_unreachable", _, Some(ms)) => {
            return Some(format!("Try again in {ms} ms; `assay top` shows the queue."));
        }
        ("store_full", ..) => "Make room on the disk of the state folder (`df`); meanwhile `assay run` works.",
        ("internal", ..) => "The daemon's log has details: `journalctl -u assayd`.",
        _ => return None,
    };
    Some(remedy.to_owned())
}

fn connect_remedy(path: &Path, kind: io::ErrorKind) -> String {
    let is_other = std::fs::metadata(path).is_ok_and(|found| !found.file_type().is_socket());
    let path = path.display();
    if is_other {
        return format!("{path} is not a socket: check --socket and ASSAY_SOCKET.");
    }
    match kind {
        io::ErrorKind::WouldBlock => format!("The daemon accepts no connections. {NO_ANSWER}"),
        io::ErrorKind::NotFound => format!(
            "The daemon is not running, or listens elsewhere: start it with `systemctl start assayd.socket` (or \
             `make serve`), or name its socket with --socket or ASSAY_SOCKET. Nothing is at {path}. If it does \
             not stay up, `journalctl -u assayd -p warning -n 20` says why."
        ),
        io::ErrorKind::ConnectionRefused => "The socket exists but no process listens on it: the daemon has stopped. \
             Start it with `systemctl start assayd.socket` (or `make serve`); why it stopped is in \
             `journalctl -u assayd -p warning -n 20`."
            .into(),
        io::ErrorKind::PermissionDenied => format!(
            "You may not open {path}: join the socket's group (`sudo usermod -aG assay $USER`, then log in again), or \
             use sudo."
        ),
        _ => "Check --socket and ASSAY_SOCKET.".into(),
    }
}

/// Opens the socket. A full backlog is waited for: there the kernel refuses at once, and a daemon
/// that starts again empties it.
async fn open_socket(path: &Path) -> io::Result<UnixStream> {
    let begun = Instant::now();
    loop {
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && begun.elapsed() < HELLO_TIMEOUT => {
                tokio::time::sleep(BACKLOG_PAUSE).await;
            }
            opened => return opened,
        }
    }
}

/// A connection to the daemon.
#[derive(Debug)]
pub struct RpcClient {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    line: Vec<u8>,
    next_id: u64,
    /// Set while a request is written; a call that is dropped then leaves it set.
    is_writing: bool,
    hello: Value,
}

impl RpcClient {
    /// Connects and waits for `server.hello`.
    ///
    /// # Errors
    /// The socket cannot be opened, or the server does not speak protocol 1.
    pub async fn connect(path: impl AsRef<Path>) -> Result<RpcClient, ClientError> {
        let path = path.as_ref();
        let stream =
            open_socket(path).await.map_err(|source| ClientError::Connect { path: path.to_path_buf(), source })?;
        let (reader, writer) = stream.into_split();
        let mut client = RpcClient {
            reader: BufReader::with_capacity(64 * 1024, reader),
            writer,
            line: Vec::new(),
            next_id: 1,
            is_writing: false,
            hello: Value::Null,
        };
        let not_assay = |why: String| ClientError::NotAssay { path: path.to_path_buf(), why };
        let first = match tokio::time::timeout(HELLO_TIMEOUT, client.next_message()).await {
            Ok(Ok(message)) => message,
            Ok(Err(ClientError::Malformed(why))) => return Err(not_assay(why)),
            Ok(Err(ClientError::Closed)) => return Err(not_assay("it closed the connection without a message".into())),
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(ClientError::Silent { path: path.to_path_buf() }),
        };
        if let Some(error) = first.get("error") {
            return Err(reply_error(error));
        }
        if first["method"] != "server.hello" {
            return Err(not_assay("its first line is not server.hello".into()));
        }
        client.hello = first["params"].clone();
        if client.hello["protocol"] != 1 {
            return Err(not_assay(format!("it speaks protocol {}, this client 1", client.hello["protocol"])));
        }
        Ok(client)
    }

    /// The parameters of `server.hello`.
    pub fn hello(&self) -> &Value {
        &self.hello
    }

    /// A limit that the daemon announced, such as `max_line_bytes`.
    pub fn limit(&self, name: &str) -> Option<u64> {
        self.hello["limits"][name].as_u64()
    }

    /// Calls a method; notifications are skipped.
    ///
    /// # Errors
    /// The daemon's error response, or a broken connection.
    pub async fn call(&mut self, method: &str, params: Value) -> Result<Value, ClientError> {
        self.call_streaming(method, params, |_, _| {}).await
    }

    /// Calls a method and passes every notification (method, params) on as it arrives.
    ///
    /// # Errors
    /// The daemon's error response, or a broken connection.
    pub async fn call_streaming(
        &mut self,
        method: &str,
        params: Value,
        on_notification: impl FnMut(&str, Value),
    ) -> Result<Value, ClientError> {
        self.call_until(method, params, std::future::pending(), on_notification).await
    }

    /// Like [`call_streaming`](RpcClient::call_streaming), but cancels the submission once
    /// `cancelled` is ready. The call's own reply, then with the verdict `cancelled`, is still
    /// awaited.
    ///
    /// # Errors
    /// The daemon's error response, or a broken connection.
    pub async fn call_until(
        &mut self,
        method: &str,
        params: Value,
        cancelled: impl Future<Output = ()>,
        mut on_notification: impl FnMut(&str, Value),
    ) -> Result<Value, ClientError> {
        let id = self.next_id;
        self.next_id += 2;
        let send_error =
            self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})).await.err();
        tokio::pin!(cancelled);
        let mut is_cancelled = false;
        loop {
            let next = tokio::select! {
                next = self.next_message() => next,
                () = &mut cancelled, if !is_cancelled => {
                    is_cancelled = true;
                    let cancel = json!({"jsonrpc": "2.0", "id": id + 1, "method": "submission.cancel", "params": {"request": id}});
                    self.send(&cancel).await?;
                    continue;
                }
            };
            // A daemon that refuses a line closes the connection while we still write, but first
            // sends the reason: read that before reporting the failed write.
            let mut message = match next {
                Ok(message) => message,
                Err(error) => return Err(send_error.unwrap_or(error)),
            };
            if let Some(name) = message.get("method").and_then(Value::as_str).map(str::to_owned) {
                if message.get("id").is_none() {
                    on_notification(&name, message["params"].take());
                }
                continue;
            }
            match message.get("id") {
                Some(Value::Number(number)) if number.as_u64() == Some(id) => {}
                // A request that could not be parsed is answered without an id. There is only one
                // call at a time, so it is this one.
                Some(Value::Null) | None if message.get("error").is_some() => {}
                _ => continue,
            }
            return match message.get("error") {
                Some(error) => Err(reply_error(error)),
                None => Ok(message["result"].take()),
            };
        }
    }

    /// Uploads bytes as a blob, in chunks, and returns its id.
    ///
    /// # Errors
    /// The same as of [`RpcClient::call`].
    pub async fn put_blob(&mut self, data: &[u8]) -> Result<String, ClientError> {
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
            let id = reply["blob"].as_str().ok_or_else(|| ClientError::Malformed("blob.put returned no id".into()))?;
            blob = Some(id.to_owned());
            offset = end;
            if let (true, Some(id)) = (offset == data.len(), &blob) {
                return Ok(id.clone());
            }
        }
    }

    /// Downloads a blob.
    ///
    /// # Errors
    /// The same as of [`RpcClient::call`].
    pub async fn get_blob(&mut self, blob: &str) -> Result<Vec<u8>, ClientError> {
        let mut data = Vec::new();
        loop {
            let params = json!({"blob": blob, "offset": data.len(), "max": BLOB_CHUNK_BYTES});
            let reply = self.call("blob.get", params).await?;
            let chunk = BASE64
                .decode(reply["data_b64"].as_str().unwrap_or_default())
                .map_err(|error| ClientError::Malformed(format!("blob.get returned invalid base64: {error}")))?;
            let is_empty = chunk.is_empty();
            data.extend_from_slice(&chunk);
            if reply["eof"] == true {
                return Ok(data);
            }
            if is_empty {
                return Err(ClientError::Malformed("blob.get returned no data before the end".into()));
            }
        }
    }

    async fn send(&mut self, message: &Value) -> Result<(), ClientError> {
        if self.is_writing {
            return Err(ClientError::Io(io::Error::other("an earlier request was interrupted; connect again")));
        }
        let mut line = message.to_string().into_bytes();
        line.push(b'\n');
        self.is_writing = true;
        self.writer.write_all(&line).await.map_err(ClientError::Io)?;
        self.is_writing = false;
        Ok(())
    }

    /// Reads one line. If the future is dropped, what was read so far stays in `self.line`.
    async fn next_message(&mut self) -> Result<Value, ClientError> {
        loop {
            let chunk = self.reader.fill_buf().await.map_err(ClientError::Io)?;
            if chunk.is_empty() {
                return Err(ClientError::Closed);
            }
            let newline = chunk.iter().position(|&byte| byte == b'\n');
            let taken = newline.unwrap_or(chunk.len());
            if self.line.len() + taken > MAX_LINE_BYTES {
                return Err(ClientError::LineTooLong);
            }
            self.line.extend_from_slice(&chunk[..taken]);
            self.reader.consume(newline.map_or(taken, |at| at + 1));
            if newline.is_some() {
                let message: Result<Value, _> = serde_json::from_slice(&self.line);
                self.line.clear();
                let message = message.map_err(|error| ClientError::Malformed(format!("not JSON: {error}")))?;
                if !message.is_object() {
                    return Err(ClientError::Malformed("not a JSON object".into()));
                }
                return Ok(message);
            }
        }
    }
}

/// Connects and shows the wait.
///
/// # Errors
/// The same as of [`RpcClient::connect`].
pub async fn connect(path: &Path) -> Result<RpcClient, ClientError> {
    progress::show_while(progress::DAEMON, RpcClient::connect(path)).await
}

fn reply_error(error: &Value) -> ClientError {
    let data = &error["data"];
    let message = data["message"].as_str().or(error["message"].as_str()).unwrap_or("no reason given");
    ClientError::Reply {
        number: error["code"].as_i64().unwrap_or(0),
        code: data["code"].as_str().unwrap_or("internal").to_owned(),
        message: message.to_owned(),
        field: data["field"].as_str().map(str::to_owned),
        retry_after_ms: data["retry_after_ms"].as_u64(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_a_remedy_with_a_command() {
        let connect = |kind: io::ErrorKind| ClientError::Connect { path: "/s".into(), source: kind.into() }.remedy();
        let reply = |number: i64, code: &str, field: Option<&str>, retry_after_ms: Option<u64>| {
            let (code, field) = (code.to_owned(), field.map(str::to_owned));
            ClientError::Reply { number, code, message: String::new(), field, retry_after_ms }.remedy()
        };
        for (remedy, command) in [
            (connect(io::ErrorKind::NotFound), "`systemctl start assayd.socket`"),
            (connect(io::ErrorKind::ConnectionRefused), "`systemctl start assayd.socket`"),
            (connect(io::ErrorKind::PermissionDenied), "`sudo usermod -aG assay $USER`"),
            (ClientError::Closed.remedy(), "`journalctl -u assayd`"),
            (reply(-32001, "unknown_profile", None, None), "`assay profiles`"),
            (reply(-32009, "no_host", None, None), "`assay doctor`"),
            (reply(-32010, "forbidden", None, None), "`sudo`"),
            (reply(-32005, "conflict", None, None), "`assay get ID`"),
            (reply(-32002, "unsupported", None, None), "`assay hosts`"),
            (reply(-32601, "not_found", None, None), "`assay schema --list`"),
            (reply(-32004, "not_found", Some("host"), None), "`assay hosts`"),
            (reply(-32007, "queue_full", None, Some(40)), "40 ms"),
            (reply(-32015, "store_full", None, Some(5000)), "`df`"),
            (reply(-32099, "internal", None, None), "`journalctl -u assayd`"),
        ] {
            let remedy = remedy.unwrap_or_default();
            assert!(remedy.contains(command), "{remedy:?} does not name {command}");
        }
    }
}
