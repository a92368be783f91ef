//! One connection: a reader that never waits for an answer, a task per call, a writer with a bounded queue.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use super::line::{self, Line};
use super::methods;
use super::peer::Peer;
use super::server::Daemon;
use super::types::{Code, RpcError, notification, parse, response};
use crate::config::bounds;
use crate::scheduler::Entry;

/// How often a connection whose caller has said everything is looked at for a hang-up.
const HANG_UP_LOOK: Duration = Duration::from_millis(50);

/// What the calls of a connection share.
pub(super) struct Context {
    pub(super) daemon: Arc<Daemon>,
    pub(super) peer: Peer,
    outbound: mpsc::Sender<String>,
    runs: Mutex<HashMap<String, Arc<Entry>>>,
}

impl Context {
    /// Sends a notification; waits while the queue is full. False: the connection is gone.
    pub(super) async fn notify(&self, method: &str, params: &Value) -> bool {
        self.outbound.send(notification(method, params)).await.is_ok()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Entry>>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers which submission a call runs, so that it can be cancelled by the call's id, and by a hang-up.
    pub(super) fn began(&self, call: &Value, entry: &Arc<Entry>) {
        self.lock().insert(call.to_string(), entry.clone());
    }

    pub(super) fn ended(&self, call: &Value) {
        self.lock().remove(&call.to_string());
    }

    pub(super) fn run_of(&self, call: &Value) -> Option<Arc<Entry>> {
        self.lock().get(&call.to_string()).cloned()
    }
}

/// The greeting.
fn hello(daemon: &Daemon) -> Value {
    json!({
        "protocol": 1,
        "version": env!("CARGO_PKG_VERSION"),
        "instance": daemon.instance,
        "limits": {
            "max_line_bytes": bounds::MAX_LINE_BYTES,
            "max_blob_bytes": bounds::MAX_BLOB_BYTES,
            "max_submission_bytes": bounds::MAX_SUBMISSION_BYTES,
            "max_report_bytes": bounds::MAX_REPORT_BYTES,
            "report_ttl_ms": bounds::REPORT_TTL.as_millis() as u64,
        },
        "features": ["stream", "blob", "cancel", "tests", "checker", "interactor", "suite", "input", "collect"],
    })
}

pub(super) async fn serve(stream: UnixStream, peer: Peer, daemon: Arc<Daemon>, mut gone: watch::Receiver<bool>) {
    let hang_up = stream.as_fd().try_clone_to_owned();
    let (reader, writer) = stream.into_split();
    let (outbound, queue) = mpsc::channel(bounds::MAX_OUTBOUND_MESSAGES);
    let mut writing = tokio::spawn(write(writer, queue, peer.uid));
    let context = Arc::new(Context { daemon, peer, outbound, runs: Mutex::default() });
    context.notify("server.hello", &hello(&context.daemon)).await;
    let mut calls = JoinSet::new();
    let places = Arc::new(Semaphore::new(bounds::MAX_CALLS_PER_CONNECTION));
    let mut reader = BufReader::with_capacity(64 * 1024, reader);
    // reading ends with end-of-file; the connection only with a hang-up
    loop {
        let line = tokio::select! {
            line = line::read(&mut reader, bounds::MAX_LINE_BYTES) => line,
            Some(_) = calls.join_next(), if !calls.is_empty() => continue,
            _ = &mut writing => break,
            _ = gone.wait_for(|gone| *gone) => break,
        };
        let received = Instant::now();
        let fault = match line {
            Ok(Line::End) | Err(_) => break,
            Ok(Line::TooLong) => {
                let message =
                    format!("the line exceeds {} bytes; send large content with blob.put", bounds::MAX_LINE_BYTES);
                Some((Value::Null, RpcError::new(Code::TooLarge, message)))
            }
            Ok(Line::Whole(line)) => match parse(&line) {
                Err(fault) => Some(fault),
                Ok(request) => match places.clone().try_acquire_owned() {
                    Err(_) => {
                        let message =
                            format!("{} calls are under way on this connection", bounds::MAX_CALLS_PER_CONNECTION);
                        let retry_after = Some(Duration::from_millis(100));
                        Some((request.id, RpcError { retry_after, ..RpcError::new(Code::QuotaExceeded, message) }))
                    }
                    Ok(place) => {
                        let context = context.clone();
                        calls.spawn(async move {
                            let id = request.id.clone();
                            let result = methods::call(&context, request, received).await;
                            let _ = context.outbound.send(response(&id, result)).await;
                            drop(place);
                        });
                        None
                    }
                },
            },
        };
        if let Some((id, error)) = fault
            && context.outbound.send(response(&id, Err(error))).await.is_err()
        {
            break;
        }
    }
    drop(reader);
    // what was asked is still answered, unless nobody is there any more
    while !calls.is_empty() {
        tokio::select! {
            _ = calls.join_next() => {}
            _ = gone.wait_for(|gone| *gone) => break,
            () = tokio::time::sleep(HANG_UP_LOOK) => {
                if writing.is_finished() || hang_up.as_ref().is_ok_and(is_hung_up) {
                    break;
                }
            }
        }
    }
    for entry in context.lock().values() {
        entry.cancel();
    }
    calls.shutdown().await;
    drop(context);
    // the writer ends when the last sender is gone and everything is written
    let _ = (&mut writing).await;
}

/// Whether the peer has closed both ways: an end-of-file alone is not that.
fn is_hung_up(fd: &impl AsFd) -> bool {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::empty())];
    let is_ready = poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0);
    is_ready && fds[0].revents().is_some_and(|events| events.intersects(PollFlags::POLLHUP | PollFlags::POLLERR))
}

/// Writes what is queued. A reader that takes nothing for too long loses the connection, and only that.
async fn write(mut writer: OwnedWriteHalf, mut queue: mpsc::Receiver<String>, uid: u32) {
    while let Some(line) = queue.recv().await {
        let mut rest = line.as_bytes();
        while !rest.is_empty() {
            match tokio::time::timeout(bounds::SLOW_READER, writer.write(rest)).await {
                Ok(Ok(n)) if n > 0 => rest = &rest[n..],
                Ok(_) => return,
                Err(_) => {
                    tracing::info!(uid, "a caller that reads nothing was cut");
                    return;
                }
            }
        }
    }
}
