//! One HTTP connection, and the pool of idle ones.
//!
//! ```text
//!           dial                   head                  body read to its end
//!  (none) --------> HttpConnection --------> EngineReply ---------------------> IdlePool
//!                       ^      request on it   |                                 (not Unix)
//!                       |                      | dropped before its end, or 101     |
//!                       |                      v                                    |
//!                       |                    closed                                 |
//!                       '-----------------------------------------------------------'
//! ```
//!
//! On a Unix socket every call has its own connection: a connect takes tens of microseconds, and a
//! reused connection races with the server closing it (hyper issue 2136). Over TCP, TLS and custom
//! connectors, where a handshake is expensive, at most [`MAX_IDLE`] idle connections are kept.

use bytes::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::deadlines;
use super::dial::EngineStream;
use super::request::RequestBody;

/// The most idle connections per client.
const MAX_IDLE: usize = 8;
/// The most bytes of a reply's head, and of one piece of its body.
const MAX_BUFFER: usize = 256 * 1024;

/// An open connection.
pub(super) struct HttpConnection {
    pub(super) sender: SendRequest<RequestBody>,
    task: ConnectionTask,
}

/// The task that moves a connection's bytes. Dropping it closes the connection.
pub(super) struct ConnectionTask(JoinHandle<()>);

impl Drop for ConnectionTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl HttpConnection {
    /// Starts HTTP/1.1 on a stream.
    pub(super) async fn open(stream: EngineStream) -> Result<HttpConnection, hyper::Error> {
        let handshake = http1::Builder::new().max_buf_size(MAX_BUFFER).handshake(TokioIo::new(stream));
        let (sender, connection) = handshake.await?;
        let task = ConnectionTask(tokio::spawn(async move {
            // An error here also reaches the call through the call's own future.
            let _ = connection.with_upgrades().await;
        }));
        Ok(HttpConnection { sender, task })
    }

    /// The task alone. During an upgrade it must finish by itself.
    pub(super) fn into_task(self) -> ConnectionTask {
        self.task
    }
}

/// The stream below an upgraded connection, and the bytes that hyper had already read from it.
pub(super) fn take_over(upgraded: hyper::upgrade::Upgraded) -> Option<(EngineStream, Bytes)> {
    let parts = upgraded.downcast::<TokioIo<EngineStream>>().ok()?;
    Some((parts.io.into_inner(), parts.read_buf))
}

/// Idle connections with the time since when each is idle. The last one used is taken first.
#[derive(Default)]
pub(super) struct IdlePool(Mutex<Vec<(HttpConnection, Instant)>>);

impl IdlePool {
    pub(super) fn take(&self) -> Option<HttpConnection> {
        let mut idle = self.0.lock();
        while let Some((connection, since)) = idle.pop() {
            if since.elapsed() < deadlines::IDLE_CONNECTION && !connection.sender.is_closed() {
                return Some(connection);
            }
        }
        None
    }

    /// Returns a connection whose last reply was read to its end.
    pub(super) fn put(&self, connection: HttpConnection) {
        let mut idle = self.0.lock();
        if connection.sender.is_closed() {
            return;
        }
        if idle.len() >= MAX_IDLE {
            idle.remove(0);
        }
        idle.push((connection, Instant::now()));
    }
}
