//! One run from its order to `Done`: output, input, cancellation, and the daemon's own timers.
//!
//! ```text
//!  next() --> Event      output: captured, streamed to the caller, piped into another program
//!             Cancelled  kill the program; Done still follows
//!             Input      more stdin for the program, or its end
//!             Room       the pipe that takes the output has room again
//!             Overdue    wall limit + OVERDUE: output that the pipe has no room for is dropped
//!             Closing    EOF_DELAY after stdout ended: pass the end on to the pipe (that of a
//!                        submission in a talk is passed on when its run has ended)
//!             Talk       this run's side of an interactive test may be over: kill
//!             Backstop   wall limit + BACKSTOP: kill; after as long again the sandbox is lost
//! ```

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, Sleep};

use super::cancel::{CancelSignal, cancelled};
use super::decide::DaemonView;
use super::events::{EventLog, SubmissionEvent};
use super::pipe::Pipe;
use super::talk::TalkSide;
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
    /// Whether a caller reads the output as it comes, so that the program should not buffer it.
    pub is_live: bool,
    /// Do not capture stdout.
    pub discards_stdout: bool,
    /// Its side in an interactive test, which then takes the place of the wall limit.
    pub talk: Option<TalkSide<'a>>,
}

/// The streams, in the order of [`Supervisor::held`].
const STREAMS: [OutputStream; 2] = [OutputStream::Stdout, OutputStream::Stderr];

/// The number of bytes at the end that begin an incomplete UTF-8 character: at most three.
pub(super) fn begun_character(bytes: &[u8]) -> usize {
    let start = bytes.len().saturating_sub(3);
    match std::str::from_utf8(&bytes[start..]) {
        Ok(_) => 0,
        Err(_) => (start..bytes.len())
            .find(|at| {
                std::str::from_utf8(&bytes[*at..]).is_err_and(|e| e.valid_up_to() == 0 && e.error_len().is_none())
            })
            .map_or(0, |at| bytes.len() - at),
    }
}

/// How a run ended: the init's facts, what the daemon knows, and the output.
pub(super) struct FinishedRun {
    pub done: Box<Done>,
    pub view: DaemonView,
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
    Talk,
    Backstop,
}

/// Watches one run.
pub(super) struct Supervisor<'a> {
    handle: RunHandle,
    io: RunIo<'a>,
    cancel: CancelSignal,
    view: DaemonView,
    output: CapturedOutput,
    /// The source of stdin until its end has been passed on.
    input: Option<&'a Pipe>,
    overdue: Pin<Box<Sleep>>,
    closing: Pin<Box<Sleep>>,
    /// When to look at the talk again.
    talk_check: Pin<Box<Sleep>>,
    backstop: Pin<Box<Sleep>>,
    /// Whether stdout has ended and the pipe does not know yet.
    is_closing: bool,
    /// Whether the program is cancelled or overdue, so that its output must not hold it back.
    is_over: bool,
    /// The begun character at the end of each stream's last event, which goes with the next.
    held: [Vec<u8>; 2],
    /// Whether what the program used was noted.
    is_sampled: bool,
    /// When callers were last told what the program uses.
    usage_event_at: Option<Instant>,
}

impl<'a> Supervisor<'a> {
    pub(super) fn new(handle: RunHandle, limits: &Limits, io: RunIo<'a>, cancel: CancelSignal) -> Supervisor<'a> {
        let view = DaemonView { cancelled: *cancel.borrow(), ..DaemonView::default() };
        let wall = io.talk.map_or(limits.wall, TalkSide::armed_wall);
        Supervisor {
            handle,
            io,
            cancel,
            view,
            output: CapturedOutput::new(limits.output_bytes),
            input: io.input,
            overdue: Box::pin(tokio::time::sleep(wall + OVERDUE)),
            closing: Box::pin(tokio::time::sleep(Duration::MAX)),
            talk_check: Box::pin(tokio::time::sleep(Duration::ZERO)),
            backstop: Box::pin(tokio::time::sleep(wall + bounds::BACKSTOP)),
            is_closing: false,
            is_over: false,
            is_sampled: false,
            usage_event_at: None,
            held: Default::default(),
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
            self.is_over = self.view.cancelled || self.view.talk.is_some() || self.overdue.is_elapsed();
            // a full pipe withholds credit, which stops the program once its output window is used
            // up
            if self.io.output.is_some_and(|pipe| self.is_over || pipe.has_room()) {
                self.handle.credit().await;
            }
            match self.next().await {
                SupervisorStep::Event(RunEvent::Done(done)) => {
                    for (stream, held) in STREAMS.into_iter().zip(std::mem::take(&mut self.held)) {
                        if !held.is_empty() {
                            self.log_output(stream, held).await;
                        }
                    }
                    self.io.talk.into_iter().for_each(TalkSide::ended);
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
                SupervisorStep::Talk => self.on_talk_check().await,
                SupervisorStep::Backstop => self.on_backstop().await?,
            }
        }
    }

    async fn next(&mut self) -> SupervisorStep {
        let may_be_cancelled = !self.view.cancelled;
        let takes_input = self.input.is_some() && self.handle.pending_input() < INPUT_AHEAD;
        let owes_credit = self.handle.owes_credit();
        let talks = self.io.talk.is_some() && self.view.talk.is_none();
        tokio::select! {
            event = self.handle.next() => SupervisorStep::Event(event),
            () = cancelled(&mut self.cancel), if may_be_cancelled => SupervisorStep::Cancelled,
            data = next_input(self.input), if takes_input => SupervisorStep::Input(data),
            () = wait_for_room(self.io.output), if owes_credit => SupervisorStep::Room,
            () = &mut self.overdue, if owes_credit => SupervisorStep::Overdue,
            () = &mut self.closing, if self.is_closing => SupervisorStep::Closing,
            () = &mut self.talk_check, if talks => SupervisorStep::Talk,
            () = &mut self.backstop => SupervisorStep::Backstop,
        }
    }

    async fn on_event(&mut self, event: RunEvent) {
        match event {
            RunEvent::Output { stream, data } => self.on_output(stream, data).await,
            RunEvent::OutputEnd(OutputStream::Stdout) => {
                self.is_closing = self.io.talk.is_none_or(TalkSide::closed);
                self.closing.as_mut().reset(Instant::now() + EOF_DELAY);
            }
            RunEvent::Usage(usage) => {
                self.io.talk.into_iter().for_each(|talk| talk.used(usage.cpu));
                if let Some((log, test)) = self.io.log {
                    log.note_usage(test.unwrap_or("run"), usage, !self.is_sampled);
                    self.is_sampled = true;
                }
                let is_due = self.usage_event_at.is_none_or(|at| at.elapsed() >= bounds::USAGE_EVERY);
                if let Some((log, test)) = self.io.log.filter(|(log, _)| is_due && log.keeps_output()) {
                    self.usage_event_at = Some(Instant::now());
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
                self.io.talk.into_iter().for_each(|talk| talk.wrote(&data, !pipe.has_room()));
            }
            _ => self.handle.credit().await,
        }
        if self.io.log.is_none_or(|(log, _)| !log.keeps_output()) {
            return;
        }
        let held = &mut self.held[usize::from(stream == OutputStream::Stderr)];
        let mut whole = std::mem::take(held);
        whole.extend_from_slice(&data);
        *held = whole.split_off(whole.len() - begun_character(&whole));
        if !whole.is_empty() {
            self.log_output(stream, whole).await;
        }
    }

    async fn log_output(&mut self, stream: OutputStream, data: Vec<u8>) {
        let Some((log, test)) = self.io.log else { return };
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

    async fn on_talk_check(&mut self) {
        match self.io.talk.map(TalkSide::check) {
            Some(Ok(end)) => {
                self.view.talk = Some(end);
                self.handle.kill().await;
            }
            Some(Err(again)) => self.talk_check.as_mut().reset(again),
            None => {}
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
    fn a_character_that_is_not_complete_is_held_back() {
        for (bytes, held) in [
            (&b""[..], 0),
            (b"abc", 0),
            ("a\u{e9}".as_bytes(), 0),
            (b"a\xc3", 1),
            (b"\xe2\x82", 2),
            (b"ab\xf0\x9f\x98", 3),
            ("\u{1f600}".as_bytes(), 0),
            // not the beginning of a character
            (b"a\xff", 0),
            (b"a\x82\x82", 0),
            (b"\xc3\xc3\xc3", 1),
        ] {
            assert_eq!(begun_character(bytes), held, "{bytes:?}");
        }
    }

    #[test]
    fn captured_output_never_exceeds_its_bound() {
        let mut output = CapturedOutput::new(5);
        output.take(OutputStream::Stdout, b"abc");
        output.take(OutputStream::Stderr, b"defg");
        assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"abc"[..], &b"de"[..]));
    }
}
