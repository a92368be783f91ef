//! One connection: a reader that never waits for a call, one task per call, and a writer with a
//! bounded queue.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::Value;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

use super::context::Context;
use super::input_line::{InputLine, LineReader, ReceivedLine};
use super::message::parse;
use super::methods;
use super::outbox::{Outbox, OutgoingLine, QueuedLine};
use crate::calls::connections::CountGuard;
use crate::calls::context::{CallContext, ReceivedAt};
use crate::calls::error::CallError;
use crate::calls::pace::CallerPace;
use crate::calls::peer::Peer;
use crate::calls::shape::JsonShape;
use crate::calls::socket_bytes::ByteAccount;
use crate::calls::state::Daemon;
use crate::calls::to_value;
use config::bounds;
use protocol::code::Code;
use protocol::method::{Method, Notification};
use protocol::results::{Hello, HelloLimits};
use protocol::{Principal, ReusePolicy};

/// How often a connection is checked for a hang-up after its caller sent end-of-file.
const HANG_UP_CHECK: Duration = Duration::from_millis(50);

/// Delay that a caller with too many concurrent calls is told to wait.
const CALL_RETRY: Duration = Duration::from_millis(100);

/// What the reader does after a line.
enum Action {
    Continue,
    /// Respond with an error to the id, or to null.
    Fail(Value, CallError),
    /// The same, and read no more.
    FailAndStop(CallError),
    Stop,
}

struct ClientConnection {
    context: Arc<Context>,
    calls: JoinSet<()>,
    permits: Arc<Semaphore>,
}

/// The feature that names whose used sandboxes serve again.
fn reuse_feature(policy: ReusePolicy) -> &'static str {
    match policy {
        ReusePolicy::Always => "reuse:always",
        ReusePolicy::Tenant => "reuse:tenant",
        ReusePolicy::Never => "reuse:never",
    }
}

fn hello(daemon: &Daemon) -> Hello {
    let reuse = reuse_feature(daemon.live.reuse());
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
        features: vec![
            "stream",
            "blob",
            "cancel",
            "tests",
            "checker",
            "interactor",
            "suite",
            "input",
            "collect",
            "fresh",
            "extensions",
            reuse,
        ],
    }
}

/// Serves a connection to its end: a hang-up, a slow reader, or `closed`. After end-of-file, the
/// calls under way are still answered.
pub(super) async fn serve(
    stream: UnixStream,
    peer: Peer,
    daemon: Arc<Daemon>,
    silent: CountGuard,
    mut closed: watch::Receiver<bool>,
) {
    let socket = stream.as_fd().try_clone_to_owned().ok();
    let (reader, writer) = stream.into_split();
    let (outbox, queue) = Outbox::new();
    let mut writing = tokio::spawn(write(writer, queue, peer.principal.clone(), daemon.clone()));
    let context = Arc::new(Context::new(CallContext::new(daemon, peer), outbox, silent));
    context.notify(Notification::ServerHello, || to_value(&hello(&context.daemon))).await;
    let reader = BufReader::with_capacity(64 * 1024, reader);
    let mut reader = LineReader::new(reader, context.account.clone());
    let mut connection = ClientConnection {
        context,
        calls: JoinSet::new(),
        permits: Arc::new(Semaphore::new(bounds::MAX_CALLS_PER_CONNECTION)),
    };
    loop {
        let line = tokio::select! {
            line = reader.next(bounds::MAX_LINE_BYTES) => line,
            Some(_) = connection.calls.join_next(), if !connection.calls.is_empty() => continue,
            _ = &mut writing => break,
            _ = closed.wait_for(|closed| *closed) => break,
        };
        let action = tokio::select! {
            action = connection.accept_line(line) => action,
            _ = closed.wait_for(|closed| *closed) => break,
        };
        match action {
            Action::Continue => {}
            Action::Fail(id, error) => {
                if !connection.context.respond(&id, Err(error), None).await {
                    break;
                }
            }
            Action::FailAndStop(error) => {
                connection.context.respond(&Value::Null, Err(error), None).await;
                break;
            }
            Action::Stop => break,
        }
    }
    drop(reader);
    connection.drain_calls(&writing, socket.as_ref(), &mut closed).await;
    drop(connection);
    // the writer ends when the last sender is dropped and the queue is written, or it ended above
    if !writing.is_finished() {
        let _ = writing.await;
    }
}

impl ClientConnection {
    /// Starts the call in a line, or says what is wrong with it.
    async fn accept_line(&mut self, line: std::io::Result<InputLine>) -> Action {
        let line = match line {
            Ok(InputLine::Complete(line)) => line,
            Ok(InputLine::TooLong) => {
                let message =
                    format!("the line exceeds {} bytes; send large content with blob.put", bounds::MAX_LINE_BYTES);
                return Action::Fail(Value::Null, CallError::new(Code::TooLarge, message));
            }
            Ok(InputLine::OverQuota) => return Action::Fail(Value::Null, ByteAccount::refusal()),
            Ok(InputLine::Unfinished) => {
                let message =
                    format!("the line did not end within {} s; send a call as a whole", bounds::LINE_TIME.as_secs());
                return Action::FailAndStop(CallError::new(Code::BadRequest, message));
            }
            Ok(InputLine::End) | Err(_) => return Action::Stop,
        };
        let ReceivedLine { text, mut held, first_byte } = line;
        let received = ReceivedAt { first_byte, last_byte: Instant::now() };
        let account = &self.context.account;
        let parsed = account.work(text.len(), || {
            // parsed, a line takes more than its text
            match held.resize(bounds::CALL_BYTES + text.len() + JsonShape::of(&text).memory_bytes()) {
                true => parse(&text),
                false => Err((Value::Null, ByteAccount::refusal())),
            }
        });
        let request = match parsed.await {
            Ok(request) => request,
            Err((id, error)) => return Action::Fail(id, error),
        };
        drop(text);
        let Ok(permit) = self.permits.clone().try_acquire_owned() else {
            let message = format!("{} calls are under way on this connection", bounds::MAX_CALLS_PER_CONNECTION);
            let error = CallError::new(Code::QuotaExceeded, message).retry_after(CALL_RETRY);
            return Action::Fail(request.id, error);
        };
        let method = request.method.parse::<Method>();
        let waits_for_report = method.is_ok_and(Method::waits_for_report);
        let pending = waits_for_report.then(|| self.context.daemon.connections.count_pending_report());
        let context = self.context.clone();
        self.calls.spawn(async move {
            let id = request.id.clone();
            let reply = match method {
                Ok(method) => methods::call(&context, method, &id, request.params, received, held).await,
                Err(_) => Err(CallError::unknown_method(&request.method)),
            };
            context.mark_heard();
            context.respond(&id, reply, pending).await;
            drop(permit);
        });
        Action::Continue
    }

    /// Waits until all calls are answered, or the responses cannot be read any more; then cancels
    /// what is left.
    async fn drain_calls(
        &mut self,
        writing: &JoinHandle<()>,
        socket: Option<&OwnedFd>,
        closed: &mut watch::Receiver<bool>,
    ) {
        while !self.calls.is_empty() {
            tokio::select! {
                _ = self.calls.join_next() => {}
                _ = closed.wait_for(|closed| *closed) => break,
                () = tokio::time::sleep(HANG_UP_CHECK) => {
                    if writing.is_finished() || socket.is_some_and(is_hung_up) {
                        break;
                    }
                }
            }
        }
        // a submission that no other call waits for is cancelled with its last one
        self.calls.shutdown().await;
    }
}

/// Whether the peer has closed both directions; end-of-file closes only one.
fn is_hung_up(fd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::empty())];
    let is_ready = poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0);
    is_ready && fds[0].revents().is_some_and(|events| events.intersects(PollFlags::POLLHUP | PollFlags::POLLERR))
}

/// Writes the queue to the socket. A caller that does not read is disconnected.
async fn write(
    mut writer: OwnedWriteHalf,
    mut queue: mpsc::Receiver<QueuedLine>,
    principal: Principal,
    daemon: Arc<Daemon>,
) {
    let mut pace = CallerPace::new();
    loop {
        let mut queued = match queue.try_recv() {
            Ok(queued) => queued,
            Err(_) => {
                let Some(queued) = queue.recv().await else { return };
                pace = CallerPace::new();
                queued
            }
        };
        let OutgoingLine { text, ready_at, pending, held } = &mut queued.line;
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            match tokio::time::timeout_at(pace.until(), writer.write(rest)).await {
                Ok(Ok(written)) if written > 0 => {
                    rest = &rest[written..];
                    pace.add(written);
                }
                Ok(_) => return,
                Err(_) => {
                    tracing::info!(
                        uid = principal.uid(),
                        principal = principal.named(),
                        "disconnected a caller that does not read"
                    );
                    return;
                }
            }
        }
        drop((pending.take(), held.take()));
        if let Some(ready_at) = ready_at {
            daemon.submissions.record_reply(ready_at.elapsed());
        }
    }
}
