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

use super::connections::CountGuard;
use super::context::{Context, OutgoingLine, ReceivedAt};
use super::error::CallError;
use super::input_line::{self, InputLine};
use super::message::{parse, response};
use super::methods;
use super::peer::Peer;
use super::state::Daemon;
use super::to_value;
use config::bounds;
use protocol::code::Code;
use protocol::method::{Method, Notification};
use protocol::results::{Hello, HelloLimits};

/// How often a connection is checked for a hang-up after its caller sent end-of-file.
const HANG_UP_CHECK: Duration = Duration::from_millis(50);

/// Delay that a caller with too many concurrent calls is told to wait.
const CALL_RETRY: Duration = Duration::from_millis(100);

/// What the reader does after a line.
enum Action {
    Continue,
    Respond(OutgoingLine),
    Stop,
}

struct ClientConnection {
    context: Arc<Context>,
    calls: JoinSet<()>,
    permits: Arc<Semaphore>,
}

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
    let (outbound, queue) = mpsc::channel(bounds::MAX_OUTBOUND_MESSAGES);
    let mut writing = tokio::spawn(write(writer, queue, peer.uid, daemon.clone()));
    let context = Arc::new(Context::new(daemon, peer, outbound, silent));
    context.notify(Notification::ServerHello, &to_value(&hello(&context.daemon))).await;
    let mut connection = ClientConnection {
        context,
        calls: JoinSet::new(),
        permits: Arc::new(Semaphore::new(bounds::MAX_CALLS_PER_CONNECTION)),
    };
    let mut reader = BufReader::with_capacity(64 * 1024, reader);
    let mut first_byte = None;
    loop {
        let line = tokio::select! {
            line = input_line::read(&mut reader, bounds::MAX_LINE_BYTES, &mut first_byte) => line,
            Some(_) = connection.calls.join_next(), if !connection.calls.is_empty() => continue,
            _ = &mut writing => break,
            _ = closed.wait_for(|closed| *closed) => break,
        };
        let last_byte = Instant::now();
        let received = ReceivedAt { first_byte: first_byte.unwrap_or(last_byte), last_byte };
        match connection.accept_line(line, received) {
            Action::Continue => {}
            Action::Respond(line) => {
                if connection.context.outbound.send(line).await.is_err() {
                    break;
                }
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
    /// Starts the call in a line, or makes the error response.
    fn accept_line(&mut self, line: std::io::Result<InputLine>, received: ReceivedAt) -> Action {
        let fail = |id: &Value, error: CallError| Action::Respond(response(id, Err(error)).into());
        let line = match line {
            Ok(InputLine::Complete(line)) => line,
            Ok(InputLine::TooLong) => {
                let message =
                    format!("the line exceeds {} bytes; send large content with blob.put", bounds::MAX_LINE_BYTES);
                return fail(&Value::Null, CallError::new(Code::TooLarge, message));
            }
            Ok(InputLine::End) | Err(_) => return Action::Stop,
        };
        let request = match parse(&line) {
            Ok(request) => request,
            Err((id, error)) => return fail(&id, error),
        };
        let Ok(permit) = self.permits.clone().try_acquire_owned() else {
            let message = format!("{} calls are under way on this connection", bounds::MAX_CALLS_PER_CONNECTION);
            return fail(&request.id, CallError::new(Code::QuotaExceeded, message).retry_after(CALL_RETRY));
        };
        let method = request.method.parse::<Method>();
        let waits_for_report = method.is_ok_and(Method::waits_for_report);
        let pending = waits_for_report.then(|| self.context.daemon.connections.count_pending_report());
        let context = self.context.clone();
        self.calls.spawn(async move {
            let id = request.id.clone();
            let reply = match method {
                Ok(method) => methods::call(&context, method, &id, request.params, received).await,
                Err(_) => Err(CallError::unknown_method(&request.method)),
            };
            context.mark_heard();
            let (result, ready_at) = match reply {
                Ok(reply) => (Ok(reply.value), reply.ready_at),
                Err(error) => (Err(error), None),
            };
            let line = OutgoingLine { text: response(&id, result), ready_at, pending };
            let _ = context.outbound.send(line).await;
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
        self.context.cancel_runs();
        self.calls.shutdown().await;
    }
}

/// Whether the peer has closed both directions; end-of-file closes only one.
fn is_hung_up(fd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::empty())];
    let is_ready = poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0);
    is_ready && fds[0].revents().is_some_and(|events| events.intersects(PollFlags::POLLHUP | PollFlags::POLLERR))
}

/// Writes the queue to the socket. A caller that reads nothing for [`bounds::SLOW_READER`] is
/// disconnected.
async fn write(mut writer: OwnedWriteHalf, mut queue: mpsc::Receiver<OutgoingLine>, uid: u32, daemon: Arc<Daemon>) {
    while let Some(OutgoingLine { text, ready_at, pending }) = queue.recv().await {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            match tokio::time::timeout(bounds::SLOW_READER, writer.write(rest)).await {
                Ok(Ok(written)) if written > 0 => rest = &rest[written..],
                Ok(_) => return,
                Err(_) => {
                    tracing::info!(uid, "disconnected a caller that reads nothing");
                    return;
                }
            }
        }
        drop(pending);
        if let Some(ready_at) = ready_at {
            daemon.submissions.record_reply(ready_at.elapsed());
        }
    }
}
