//! One connection: a reader that never waits for an answer, a task per call, a writer with a bounded queue.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::Value;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use super::line::{self, Line};
use super::methods;
use super::peer::Peer;
use super::results::{Hello, HelloLimits, value};
use super::server::{Counted, Daemon};
use super::types::{Code, RpcError, notification, parse, response};
use config::bounds;
use scheduler::SubmissionHandle;

/// How often a connection whose caller has said everything is looked at for a hang-up.
const HANG_UP_LOOK: Duration = Duration::from_millis(50);

/// When a call came in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrived {
    /// Its first byte.
    pub(super) first: Instant,
    /// Its last.
    pub(super) received: Instant,
}

/// A line to be written.
struct Outgoing {
    line: String,
    /// Since when there was something to say, where it is the answer to who waited for a report.
    since: Option<Instant>,
    /// Counts as owed until it is written.
    owed: Option<Counted>,
}

impl From<String> for Outgoing {
    fn from(line: String) -> Outgoing {
        Outgoing { line, since: None, owed: None }
    }
}

/// What the calls of a connection share.
pub(super) struct Context {
    pub(super) daemon: Arc<Daemon>,
    pub(super) peer: Peer,
    outbound: mpsc::Sender<Outgoing>,
    runs: Mutex<HashMap<String, Arc<SubmissionHandle>>>,
    unheard: Mutex<Option<Counted>>,
}

impl Context {
    /// Sends a notification; waits while the queue is full. False: the connection is gone.
    pub(super) async fn notify(&self, method: &str, params: &Value) -> bool {
        self.outbound.send(notification(method, params).into()).await.is_ok()
    }

    /// A call was admitted, or answered.
    fn heard(&self) {
        *self.unheard.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<SubmissionHandle>>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers which submission a call runs, so that it can be cancelled by the call's id, and by a hang-up.
    pub(super) fn began(&self, call: &Value, entry: &Arc<SubmissionHandle>) {
        self.heard();
        self.lock().insert(call.to_string(), entry.clone());
    }

    pub(super) fn ended(&self, call: &Value) {
        self.lock().remove(&call.to_string());
    }

    pub(super) fn run_of(&self, call: &Value) -> Option<Arc<SubmissionHandle>> {
        self.lock().get(&call.to_string()).cloned()
    }
}

/// The greeting.
fn hello(daemon: &Daemon) -> Hello {
    Hello {
        protocol: 1,
        version: env!("CARGO_PKG_VERSION"),
        instance: daemon.instance.clone(),
        limits: HelloLimits {
            max_line_bytes: bounds::MAX_LINE_BYTES,
            max_blob_bytes: bounds::MAX_BLOB_BYTES,
            max_submission_bytes: bounds::MAX_SUBMISSION_BYTES,
            max_report_bytes: bounds::MAX_REPORT_BYTES,
            report_ttl_ms: bounds::REPORT_TTL.as_millis() as u64,
        },
        features: vec!["stream", "blob", "cancel", "tests", "checker", "interactor", "suite", "input", "collect"],
    }
}

pub(super) async fn serve(
    stream: UnixStream,
    peer: Peer,
    daemon: Arc<Daemon>,
    unheard: Counted,
    mut gone: watch::Receiver<bool>,
) {
    let hang_up = stream.as_fd().try_clone_to_owned();
    let (reader, writer) = stream.into_split();
    let (outbound, queue) = mpsc::channel(bounds::MAX_OUTBOUND_MESSAGES);
    let mut writing = tokio::spawn(write(writer, queue, peer.uid, daemon.clone()));
    let context =
        Arc::new(Context { daemon, peer, outbound, runs: Mutex::default(), unheard: Mutex::new(Some(unheard)) });
    context.notify("server.hello", &value(&hello(&context.daemon))).await;
    let mut calls = JoinSet::new();
    let places = Arc::new(Semaphore::new(bounds::MAX_CALLS_PER_CONNECTION));
    let mut reader = BufReader::with_capacity(64 * 1024, reader);
    let mut first = None;
    // reading ends with end-of-file; the connection only with a hang-up
    loop {
        let line = tokio::select! {
            line = line::read(&mut reader, bounds::MAX_LINE_BYTES, &mut first) => line,
            Some(_) = calls.join_next(), if !calls.is_empty() => continue,
            _ = &mut writing => break,
            _ = gone.wait_for(|gone| *gone) => break,
        };
        let received = Instant::now();
        let arrived = Arrived { first: first.unwrap_or(received), received };
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
                        let waits_for_a_report =
                            matches!(request.method.as_str(), "submission.run" | "submission.wait");
                        let owed = waits_for_a_report.then(|| context.daemon.connections.owe());
                        calls.spawn(async move {
                            let id = request.id.clone();
                            let mut since = None;
                            let result = methods::call(&context, request, arrived, &mut since).await;
                            context.heard();
                            let line = response(&id, result);
                            let _ = context.outbound.send(Outgoing { line, since, owed }).await;
                            drop(place);
                        });
                        None
                    }
                },
            },
        };
        if let Some((id, error)) = fault
            && context.outbound.send(response(&id, Err(error)).into()).await.is_err()
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
    // the writer ends when the last sender is gone and everything is written; or it has, and was seen above
    if !writing.is_finished() {
        let _ = writing.await;
    }
}

/// Whether the peer has closed both ways: an end-of-file alone is not that.
fn is_hung_up(fd: &impl AsFd) -> bool {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::empty())];
    let is_ready = poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0);
    is_ready && fds[0].revents().is_some_and(|events| events.intersects(PollFlags::POLLHUP | PollFlags::POLLERR))
}

/// Writes what is queued. A reader that takes nothing for too long loses the connection, and only that.
async fn write(mut writer: OwnedWriteHalf, mut queue: mpsc::Receiver<Outgoing>, uid: u32, daemon: Arc<Daemon>) {
    while let Some(Outgoing { line, since, owed }) = queue.recv().await {
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
        drop(owed);
        if let Some(since) = since {
            daemon.submissions.record_reply(since.elapsed());
        }
    }
}
