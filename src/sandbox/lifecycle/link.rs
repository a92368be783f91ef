//! The task that owns a sandbox's connection.
//!
//! It never stops reading, since an unread attach stream blocks the container (docs/ENGINE.md). It
//! never half-closes the stream. It never waits for a write: outgoing bytes are in a buffer that is
//! bounded by the input window and by one run order. Incoming bytes are bounded by the windows as
//! well; an init that sends more has broken the protocol.
//!
//! ```text
//!             commands (bounded)                     bytes
//!   handles ---------------------> [ link task ] <----------> attach stream
//!   run's events <-----------------/     |  every 5 s: Ping; 20 s of silence: lost
//!                                        v
//!                              ended (watch), then retire
//! ```

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use docker::HijackWriter;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use wire::codec::encode_to_init;
use wire::frame::{
    Done, FromInit, HEARTBEAT, MAX_CHUNK_BYTES, OUTPUT_WINDOW_BYTES, OutputStream, SILENCE_LIMIT, STDIN_WINDOW_BYTES,
    ToInit,
};

use super::inbound::Inbound;
use super::messages::{LinkCommand, Lost, RunEvent, RunOrder, Usage};
use super::pending::{Pending, unexpected};
use super::prewarm::SharedPrewarmState;

/// The run in progress, or the one that follows it.
struct ActiveRun {
    run: u32,
    events: mpsc::UnboundedSender<RunEvent>,
    stdin: VecDeque<Bytes>,
    /// Bytes of input that may still be sent.
    stdin_window: u32,
    /// Whether more input may follow.
    stdin_open: bool,
    stdin_ended: bool,
    /// Whether InputTaken events are wanted.
    reports_taken_input: bool,
    /// Output ends that may still be reported.
    ends_left: u8,
    usage_interval: Option<Duration>,
    last_usage: Instant,
    /// Bytes of output that the init may still send.
    output_window: u32,
}

pub(super) struct Link {
    inbound: Inbound,
    writer: HijackWriter,
    outgoing: VecDeque<u8>,
    /// The first one is in progress. The init accepts one more in advance.
    runs: VecDeque<ActiveRun>,
    pending: Pending,
    next_token: u64,
    last_frame: Instant,
    /// Reused for encoding.
    scratch: Vec<u8>,
    prewarm: SharedPrewarmState,
    /// Above the ids of all runtimes that were asked for.
    known_runtimes: usize,
}

impl Link {
    pub(super) fn new(inbound: Inbound, writer: HijackWriter, prewarm: SharedPrewarmState) -> Link {
        Link {
            inbound,
            writer,
            outgoing: VecDeque::new(),
            runs: VecDeque::new(),
            pending: Pending::default(),
            next_token: 0,
            last_frame: Instant::now(),
            scratch: Vec::new(),
            prewarm,
            known_runtimes: 0,
        }
    }

    /// Serves until the last handle is dropped (`None`) or the sandbox is lost.
    pub(super) async fn serve(mut self, mut commands: mpsc::Receiver<LinkCommand>) -> Option<Lost> {
        let lost = self.serve_until_lost(&mut commands).await;
        if let Some(lost) = &lost {
            for active in &self.runs {
                let _ = active.events.send(RunEvent::Lost(lost.clone()));
            }
        }
        lost
    }

    async fn serve_until_lost(&mut self, commands: &mut mpsc::Receiver<LinkCommand>) -> Option<Lost> {
        let mut heartbeat = interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let result = tokio::select! {
                read = self.inbound.fill() => read.and_then(|()| self.handle_frames()),
                wrote = self.writer.write(self.outgoing.as_slices().0), if !self.outgoing.is_empty() => match wrote {
                    Ok(0) => Err(Lost::Eof),
                    Ok(count) => { self.outgoing.drain(..count); Ok(()) }
                    Err(error) => Err(Lost::Io(error.to_string())),
                },
                command = commands.recv() => match command {
                    None => return None,
                    Some(command) => { self.handle_command(command); Ok(()) }
                },
                _ = heartbeat.tick() => self.ping(),
            };
            if let Err(lost) = result {
                return Some(lost);
            }
        }
    }

    fn ping(&mut self) -> Result<(), Lost> {
        if self.last_frame.elapsed() > SILENCE_LIMIT {
            return Err(Lost::Silent);
        }
        self.next_token += 1;
        self.send(&ToInit::Ping { token: self.next_token });
        Ok(())
    }

    fn send(&mut self, frame: &ToInit) {
        self.scratch.clear();
        encode_to_init(frame, &mut self.scratch);
        self.outgoing.extend(&self.scratch);
    }

    /// Commands for a run that has ended are dropped.
    fn handle_command(&mut self, command: LinkCommand) {
        match command {
            LinkCommand::Run { run, order, events } => self.start_run(run, *order, events),
            LinkCommand::Credit { run, bytes } => {
                if let Some(active) = self.find(run) {
                    active.output_window += bytes;
                    self.send(&ToInit::Credit { run, bytes });
                }
            }
            LinkCommand::Input { run, data } => {
                if let Some(active) = self.find(run).filter(|active| active.stdin_open) {
                    active.stdin.push_back(data);
                    self.send_stdin(run);
                }
            }
            LinkCommand::InputEnd { run } => {
                if let Some(active) = self.find(run) {
                    active.stdin_open = false;
                    self.send_stdin(run);
                }
            }
            LinkCommand::Kill { run } => {
                if self.find(run).is_some() {
                    self.send(&ToInit::Kill { run });
                }
            }
            LinkCommand::Ping { reply } => {
                self.next_token += 1;
                self.pending.pings.push_back((self.next_token, reply));
                self.send(&ToInit::Ping { token: self.next_token });
            }
            LinkCommand::Collect { wanted, reply } => {
                self.pending.collects.push_back(reply);
                self.send(&ToInit::Collect(wanted));
            }
            LinkCommand::Reset { reply } => {
                self.pending.audits.push_back(reply);
                self.send(&ToInit::Reset);
            }
            LinkCommand::Read { file, at, reply } => {
                self.pending.reads.push_back((file, reply));
                self.send(&ToInit::Read { file, at });
            }
            LinkCommand::Prepare(prepare) => {
                self.known_runtimes = self.known_runtimes.max(prepare.id as usize + 1);
                self.send(&ToInit::Prepare(*prepare));
            }
            LinkCommand::DropPrepared => self.send(&ToInit::DropPrepared),
            LinkCommand::Probe { reply } => {
                self.pending.probes.push_back(reply);
                self.send(&ToInit::Probe);
            }
        }
    }

    fn start_run(&mut self, run: u32, order: RunOrder, events: mpsc::UnboundedSender<RunEvent>) {
        for file in order.files {
            self.send(&ToInit::Put(file));
        }
        let mut program = order.program;
        program.run = run;
        let usage_interval = Some(Duration::from_nanos(program.usage_interval_ns)).filter(|every| !every.is_zero());
        let ends_left = if program.report_output_ends { 2 } else { 0 };
        self.send(&ToInit::Run(program));
        self.runs.push_back(ActiveRun {
            run,
            events,
            stdin: [order.stdin].into(),
            stdin_window: STDIN_WINDOW_BYTES,
            stdin_open: order.stdin_open,
            stdin_ended: false,
            reports_taken_input: order.stdin_open,
            ends_left,
            usage_interval,
            last_usage: Instant::now(),
            output_window: OUTPUT_WINDOW_BYTES,
        });
        self.send_stdin(run);
    }

    fn find(&mut self, run: u32) -> Option<&mut ActiveRun> {
        self.runs.iter_mut().find(|active| active.run == run)
    }

    /// Sends as much input as the window allows, and its end.
    fn send_stdin(&mut self, run: u32) {
        let Some(active) = self.find(run) else { return };
        let mut frames = Vec::new();
        while let Some(first) = active.stdin.front_mut() {
            if first.is_empty() {
                active.stdin.pop_front();
                continue;
            }
            let count = first.len().min(active.stdin_window as usize).min(MAX_CHUNK_BYTES);
            if count == 0 {
                break;
            }
            active.stdin_window -= count as u32;
            frames.push(ToInit::Stdin { run, data: first.split_to(count).to_vec() });
        }
        if active.stdin.is_empty() && !active.stdin_open && !active.stdin_ended {
            active.stdin_ended = true;
            frames.push(ToInit::StdinEnd { run });
        }
        for frame in &frames {
            self.send(frame);
        }
    }

    fn handle_frames(&mut self) -> Result<(), Lost> {
        self.last_frame = Instant::now();
        while let Some(frame) = self.inbound.next()? {
            self.handle_frame(frame)?;
        }
        Ok(())
    }

    fn handle_frame(&mut self, frame: FromInit) -> Result<(), Lost> {
        match frame {
            FromInit::Output { run, stream, data } => self.output(run, stream, data),
            FromInit::OutputEnd { run, stream } => self.output_end(run, stream),
            FromInit::StdinCredit { run, bytes } => {
                self.stdin_credit(run, bytes);
                Ok(())
            }
            FromInit::Usage { run, wall_ns, cpu_ns, memory_bytes } => {
                let (wall, cpu) = (Duration::from_nanos(wall_ns), Duration::from_nanos(cpu_ns));
                self.usage(run, Usage { wall, cpu, memory_bytes })
            }
            FromInit::Done(done) => self.done(done),
            FromInit::Pong { token } => {
                // heartbeats are answered too, and have no entry
                if self.pending.pings.front().is_some_and(|(expected, _)| *expected == token) {
                    Pending::answer_keyed(&mut self.pending.pings, &token, (), "Pong")?;
                }
                Ok(())
            }
            FromInit::Ready(ready) => Pending::answer(&mut self.pending.probes, *ready, "Ready"),
            FromInit::Prepared { id, failed, took_ns, memory_bytes } => {
                if id as usize >= self.known_runtimes {
                    return Err(unexpected("Prepared"));
                }
                self.prepared(failed, took_ns, memory_bytes);
                Ok(())
            }
            FromInit::Collected(collected) => Pending::answer(&mut self.pending.collects, collected, "Collected"),
            FromInit::Audited { residue } => Pending::answer(&mut self.pending.audits, residue, "Audited"),
            FromInit::Piece { file, data } => Pending::answer_keyed(&mut self.pending.reads, &file, data, "Piece"),
            FromInit::PutFailed { path, errno } => {
                let reason = nix::errno::Errno::from_raw(errno);
                tracing::debug!(path = %path.escape_debug(), %reason, "a file could not be written in the sandbox");
                Ok(())
            }
            FromInit::SocketsLeft => Err(Lost::SocketsLeft),
            FromInit::Fault { message } => Err(Lost::Fault(message.escape_debug().to_string())),
        }
    }

    /// The run in progress, which must be `run`.
    fn current(&mut self, run: u32) -> Result<&mut ActiveRun, Lost> {
        match self.runs.front_mut() {
            Some(active) if active.run == run => Ok(active),
            Some(active) => Err(Lost::Protocol(format!("frame for run {run}, but run {} is active", active.run))),
            None => Err(Lost::Protocol(format!("frame for run {run}, but no run is active"))),
        }
    }

    fn output(&mut self, run: u32, stream: OutputStream, data: Vec<u8>) -> Result<(), Lost> {
        let active = self.current(run)?;
        match active.output_window.checked_sub(data.len() as u32) {
            Some(left) => {
                active.output_window = left;
                let _ = active.events.send(RunEvent::Output { stream, data });
                Ok(())
            }
            None => Err(Lost::Protocol("more output than the window allows".to_owned())),
        }
    }

    fn output_end(&mut self, run: u32, stream: OutputStream) -> Result<(), Lost> {
        let active = self.current(run)?;
        active.ends_left = active.ends_left.checked_sub(1).ok_or_else(|| unexpected("OutputEnd"))?;
        let _ = active.events.send(RunEvent::OutputEnd(stream));
        Ok(())
    }

    /// Credit for a run that has ended is dropped.
    fn stdin_credit(&mut self, run: u32, bytes: u32) {
        let Ok(active) = self.current(run) else { return };
        let taken = bytes.min(STDIN_WINDOW_BYTES - active.stdin_window);
        active.stdin_window += taken;
        if active.reports_taken_input && taken > 0 {
            let _ = active.events.send(RunEvent::InputTaken(u64::from(taken)));
        }
        self.send_stdin(run);
    }

    fn usage(&mut self, run: u32, usage: Usage) -> Result<(), Lost> {
        let active = self.current(run)?;
        // the queue of events is unbounded: drop what comes more often than was asked for
        if active.usage_interval.is_some_and(|every| active.last_usage.elapsed() >= every / 2) {
            active.last_usage = Instant::now();
            let _ = active.events.send(RunEvent::Usage(usage));
        }
        Ok(())
    }

    fn done(&mut self, done: Box<Done>) -> Result<(), Lost> {
        match self.runs.pop_front() {
            Some(active) if active.run == done.run => {
                // no runtime waits after a run until the sandbox is reset
                self.prewarm.lock().waiting = 0;
                let _ = active.events.send(RunEvent::Done(done));
                Ok(())
            }
            other => {
                // put the run back, so that its handle receives the loss of the sandbox
                self.runs.extend(other);
                Err(Lost::Protocol(format!("unexpected Done for run {}", done.run)))
            }
        }
    }

    /// `failed` is the failed step and its errno, or the runtime's message and 0.
    fn prepared(&mut self, failed: Option<(String, i32)>, took_ns: u64, memory_bytes: u64) {
        let mut prewarm = self.prewarm.lock();
        prewarm.memory_bytes = memory_bytes;
        prewarm.took_ms = prewarm.took_ms.max(took_ns / 1_000_000);
        match failed {
            None => prewarm.waiting += 1,
            Some((message, 0)) => {
                let printable = |c: char| if c.is_control() { ' ' } else { c };
                prewarm.failed = Some(message.chars().map(printable).collect());
            }
            Some((step, errno)) => {
                let reason = nix::errno::Errno::from_raw(errno).desc();
                prewarm.failed = Some(format!("{}: {reason}", step.escape_debug()));
            }
        }
    }
}
