//! One run from its order to `Done`: output, input, cancellation, and the daemon's own timers.
//!
//! ```text
//!  next() --> Event      output: captured, streamed to the caller, piped into another program
//!             Cancelled  kill the program; Done still follows
//!             Input      more stdin for the program, or its end
//!             Room       the pipe that takes the output has room again
//!             Overdue    wall limit + OVERDUE: output that the pipe has no room for is dropped
//!             Closing    EOF_DELAY after stdout ended: pass the end on to the pipe
//!             Backstop   wall limit + BACKSTOP: kill; after as long again the sandbox is lost
//! ```

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, Sleep};

use super::cancel::{CancelSignal, cancelled};
use super::decide::HostView;
use super::events::{EventLog, SubmissionEvent};
use super::pipe::Pipe;
use config::bounds;
use protocol::Limits;
use sandbox::lifecycle::{Lost, RunEvent, RunHandle};
use wire::frame::{Done, OutputStream};

/// Input that may be sent beyond what the program has read, in bytes.
const INPUT_AHEAD: u64 = 64 * 1024;

/// A process closes stdout just before it exits, and on a busy machine the two may lie far apart.
/// The end of the output is passed on after this delay, so that the peer does not appear to have
/// ended first.
const EOF_DELAY: Duration = Duration::from_millis(250);

/// Time after the wall limit by which the init has ended the program and only its last output is
/// left.
const OVERDUE: Duration = Duration::from_millis(500);

/// Where a run's output goes and its input comes from.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RunIo<'a> {
    /// The log that output and usage are added to, and the test's name there.
    pub log: Option<(&'a EventLog, Option<&'a str>)>,
    /// Takes stdout as it comes.
    pub output: Option<&'a Pipe>,
    /// Feeds stdin. Without it, the step's stdin is all there is.
    pub input: Option<&'a Pipe>,
    /// Do not capture stdout.
    pub discards_stdout: bool,
}

/// How a run ended: the init's facts, what the daemon knows, and the output.
pub(super) struct FinishedRun {
    pub done: Box<Done>,
    pub view: HostView,
    pub output: CapturedOutput,
}

/// What [`Supervisor::next`] waited for.
enum SupervisorStep {
    Event(RunEvent),
    Cancelled,
    /// `None` at the end of the input.
    Input(Option<Bytes>),
    Room,
    Overdue,
    Closing,
    Backstop,
}

/// Watches one run.
pub(super) struct Supervisor<'a> {
    handle: RunHandle,
    io: RunIo<'a>,
    cancel: CancelSignal,
    view: HostView,
    output: CapturedOutput,
    /// The source of stdin until its end has been passed on.
    input: Option<&'a Pipe>,
    overdue: Pin<Box<Sleep>>,
    closing: Pin<Box<Sleep>>,
    backstop: Pin<Box<Sleep>>,
    /// Whether stdout has ended and the pipe does not know yet.
    is_closing: bool,
    /// Whether the program is cancelled or overdue, so that its output must not hold it back.
    is_over: bool,
}

impl<'a> Supervisor<'a> {
    pub(super) fn new(handle: RunHandle, limits: &Limits, io: RunIo<'a>, cancel: CancelSignal) -> Supervisor<'a> {
        let view = HostView { cancelled: *cancel.borrow(), backstop: false };
        Supervisor {
            handle,
            io,
            cancel,
            view,
            output: CapturedOutput::new(limits.output_bytes),
            input: io.input,
            overdue: Box::pin(tokio::time::sleep(limits.wall + OVERDUE)),
            closing: Box::pin(tokio::time::sleep(Duration::MAX)),
            backstop: Box::pin(tokio::time::sleep(limits.wall + bounds::BACKSTOP)),
            is_closing: false,
            is_over: false,
        }
    }

    /// Runs until `Done`.
    ///
    /// # Errors
    /// The sandbox was lost, or did not answer a kill within the backstop's time.
    pub(super) async fn run(mut self) -> Result<FinishedRun, Lost> {
        if self.view.cancelled {
            self.handle.kill().await;
        }
        loop {
            self.is_over = self.view.cancelled || self.overdue.is_elapsed();
            // a full pipe withholds credit, which stops the program once its output window is used
            // up
            if self.io.output.is_some_and(|pipe| self.is_over || pipe.has_room()) {
                self.handle.credit().await;
            }
            match self.next().await {
                SupervisorStep::Event(RunEvent::Done(done)) => {
                    return Ok(FinishedRun { done, view: self.view, output: self.output });
                }
                SupervisorStep::Event(RunEvent::Lost(lost)) => return Err(lost),
                SupervisorStep::Event(event) => self.on_event(event).await,
                SupervisorStep::Cancelled => {
                    self.view.cancelled = true;
                    self.handle.kill().await;
                }
                SupervisorStep::Input(Some(data)) => self.handle.input(data).await,
                SupervisorStep::Input(None) => {
                    self.handle.end_input().await;
                    self.input = None;
                }
                // the loop's head returns the credit
                SupervisorStep::Room | SupervisorStep::Overdue => {}
                SupervisorStep::Closing => {
                    self.is_closing = false;
                    self.io.output.into_iter().for_each(Pipe::close);
                }
                SupervisorStep::Backstop => self.on_backstop().await?,
            }
        }
    }

    async fn next(&mut self) -> SupervisorStep {
        let may_be_cancelled = !self.view.cancelled;
        let takes_input = self.input.is_some() && self.handle.pending_input() < INPUT_AHEAD;
        let owes_credit = self.handle.owes_credit();
        tokio::select! {
            event = self.handle.next() => SupervisorStep::Event(event),
            () = cancelled(&mut self.cancel), if may_be_cancelled => SupervisorStep::Cancelled,
            data = next_input(self.input), if takes_input => SupervisorStep::Input(data),
            () = wait_for_room(self.io.output), if owes_credit => SupervisorStep::Room,
            () = &mut self.overdue, if owes_credit => SupervisorStep::Overdue,
            () = &mut self.closing, if self.is_closing => SupervisorStep::Closing,
            () = &mut self.backstop => SupervisorStep::Backstop,
        }
    }

    async fn on_event(&mut self, event: RunEvent) {
        match event {
            RunEvent::Output { stream, data } => self.on_output(stream, data).await,
            RunEvent::OutputEnd(OutputStream::Stdout) => {
                self.is_closing = true;
                self.closing.as_mut().reset(Instant::now() + EOF_DELAY);
            }
            RunEvent::Usage(usage) => {
                if let Some((log, test)) = self.io.log {
                    let event = SubmissionEvent::Usage { test: test.map(str::to_owned), usage };
                    // an outdated figure is dropped instead of waiting for a slow reader
                    let _ = tokio::time::timeout(bounds::USAGE_EVERY, log.append(event)).await;
                }
            }
            RunEvent::OutputEnd(OutputStream::Stderr)
            | RunEvent::InputTaken(_)
            | RunEvent::Done(_)
            | RunEvent::Lost(_) => {}
        }
    }

    async fn on_output(&mut self, stream: OutputStream, data: Vec<u8>) {
        if !self.io.discards_stdout || stream == OutputStream::Stderr {
            self.output.take(stream, &data);
        }
        match self.io.output {
            // once the program is over, output that the pipe has no room for is dropped
            Some(pipe) if stream == OutputStream::Stdout && (!self.is_over || pipe.has_room()) => {
                pipe.push(Bytes::from(data.clone()));
            }
            _ => self.handle.credit().await,
        }
        let Some((log, test)) = self.io.log.filter(|(log, _)| log.keeps_output()) else { return };
        let event = SubmissionEvent::Output { test: test.map(str::to_owned), stream, data };
        let mut cancel = self.cancel.clone();
        tokio::select! {
            () = log.append(event) => {}
            () = cancelled(&mut cancel), if !self.view.cancelled => {}
            // the reader is slow beyond the wall limit; the init has ended the program by then
            () = &mut self.backstop, if !self.view.backstop => {
                self.backstop.as_mut().reset(Instant::now() + bounds::SLOW_READER);
            }
        }
    }

    async fn on_backstop(&mut self) -> Result<(), Lost> {
        if self.view.backstop {
            return Err(Lost::Silent);
        }
        self.view.backstop = true;
        self.handle.kill().await;
        self.backstop.as_mut().reset(Instant::now() + bounds::BACKSTOP);
        Ok(())
    }
}

async fn next_input(pipe: Option<&Pipe>) -> Option<Bytes> {
    match pipe {
        Some(pipe) => pipe.next().await,
        None => std::future::pending().await,
    }
}

async fn wait_for_room(pipe: Option<&Pipe>) {
    match pipe {
        Some(pipe) => pipe.wait_for_room().await,
        None => std::future::pending().await,
    }
}

/// Output of a run. Bounded by the output limit here too, since the init's own bound is not
/// trusted.
pub(super) struct CapturedOutput {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    room: u64,
}

impl CapturedOutput {
    fn new(room: u64) -> CapturedOutput {
        CapturedOutput { stdout: Vec::new(), stderr: Vec::new(), room }
    }

    fn take(&mut self, stream: OutputStream, data: &[u8]) {
        let n = self.room.min(data.len() as u64) as usize;
        self.room -= n as u64;
        match stream {
            OutputStream::Stdout => self.stdout.extend_from_slice(&data[..n]),
            OutputStream::Stderr => self.stderr.extend_from_slice(&data[..n]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captured_output_never_exceeds_its_bound() {
        let mut output = CapturedOutput::new(5);
        output.take(OutputStream::Stdout, b"abc");
        output.take(OutputStream::Stderr, b"defg");
        assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"abc"[..], &b"de"[..]));
    }
}
