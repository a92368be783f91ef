//! The task that owns a sandbox's connection.
//!
//! It never stops reading (ENGINE finding 1: an unread stream wedges the container), never half-closes (finding 3),
//! and never waits for a write: what is to be sent stands in a buffer whose size is bounded by the input window and
//! by what one run order brings. What comes in is bounded by the windows too; an init that says more than it may is
//! broken.
//!
//! ```text
//!             commands (bounded)                     bytes
//!   handles ---------------------> [ link task ] <----------> attach stream
//!   run's events <-----------------/     |  every 5 s: Ping; 20 s of silence: lost
//!                                        v
//!                              ended (watch), then retire
//! ```

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::Heat;
use super::run::{RunEvent, RunOrder, Usage};
use docker::{HijackReader, HijackWriter, stdcopy};
use wire::codec::{decode_from_init, encode_to_init};
use wire::frame::{
    Collect, Collected, FromInit, HEARTBEAT, MAX_CHUNK_BYTES, OUTPUT_WINDOW_BYTES, OutputStream, Prepare, Ready,
    SILENCE_LIMIT, STDIN_WINDOW_BYTES, ToInit,
};
use wire::stream::FrameReader;

/// Why a sandbox is no longer there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// The handle's task had ended already.
    #[error("the sandbox's connection had ended")]
    Closed,
    /// The engine closed the stream: the init is dead, or the engine is.
    #[error("the attach stream ended")]
    Eof,
    /// The connection failed.
    #[error("the attach stream failed: {0}")]
    Io(String),
    /// The init, or the stream, said what it may not say.
    #[error("the sandbox broke the protocol: {0}")]
    Protocol(String),
    /// The init reported a fault of its own.
    #[error("the init gave up: {0}")]
    Fault(String),
    /// No answer to a ping.
    #[error("the init was silent for {} s", SILENCE_LIMIT.as_secs())]
    Silent,
}

/// What a handle asks of the link.
#[derive(Debug)]
pub(super) enum Command {
    Run { run: u32, order: Box<RunOrder>, events: mpsc::UnboundedSender<RunEvent> },
    Credit { run: u32, bytes: u32 },
    Input { run: u32, data: Bytes },
    InputEnd { run: u32 },
    Kill { run: u32 },
    Ping { reply: oneshot::Sender<()> },
    Probe { reply: oneshot::Sender<Ready> },
    Prepare(Box<Prepare>),
    Collect { wanted: Collect, reply: oneshot::Sender<Collected> },
    Reset { reply: oneshot::Sender<Vec<String>> },
    Read { file: u32, at: u64, reply: oneshot::Sender<Vec<u8>> },
}

/// How many commands may wait. A run sends few: credit per third of a window, one kill.
pub(super) const COMMANDS: usize = 64;

/// The reading side: bytes -> engine frames -> our frames.
pub(super) struct Inbound {
    reader: HijackReader,
    mux: stdcopy::Decoder,
    frames: FrameReader,
    buffer: Vec<u8>,
    /// What the init's stderr said: only a panic's words, kept for the log within a bound.
    stderr: Vec<u8>,
}

/// How much of the init's stderr is kept.
const STDERR_KEPT: usize = 2048;

impl Inbound {
    pub(super) fn new(reader: HijackReader) -> Inbound {
        Inbound {
            reader,
            mux: stdcopy::Decoder::new(),
            frames: FrameReader::new(),
            buffer: vec![0; 64 * 1024],
            stderr: Vec::new(),
        }
    }

    /// Reads once and feeds the decoders. Cancel-safe: a read that was not taken has moved no byte.
    pub(super) async fn fill(&mut self) -> Result<(), Lost> {
        let n = self.reader.read(&mut self.buffer).await.map_err(|error| Lost::Io(error.to_string()))?;
        if n == 0 {
            let said = String::from_utf8_lossy(&self.stderr).into_owned();
            return Err(if said.is_empty() { Lost::Eof } else { Lost::Fault(said) });
        }
        let Inbound { mux, frames, stderr, buffer, .. } = self;
        mux.push(&buffer[..n], |stream, payload| match stream {
            stdcopy::Stream::Stderr => {
                let room = STDERR_KEPT.saturating_sub(stderr.len());
                stderr.extend_from_slice(&payload[..payload.len().min(room)]);
            }
            _ => frames.push(payload),
        })
        .map_err(|error| Lost::Protocol(error.to_string()))
    }

    /// The next whole frame that has come.
    pub(super) fn next(&mut self) -> Result<Option<FromInit>, Lost> {
        let broken = |error: &dyn std::fmt::Display| Lost::Protocol(error.to_string());
        match self.frames.next().map_err(|error| broken(&error))? {
            None => Ok(None),
            Some(body) => decode_from_init(body).map(Some).map_err(|error| broken(&error)),
        }
    }
}

/// A run under way, or the one that is next.
struct Active {
    run: u32,
    events: mpsc::UnboundedSender<RunEvent>,
    stdin: VecDeque<Bytes>,
    stdin_window: u32,
    /// Whether more may come.
    stdin_open: bool,
    /// Whether its consumer is told what was taken.
    tells_taken: bool,
    /// How many ends of outputs may still be told.
    ends_left: u8,
    usage_every: Option<Duration>,
    usage_at: Instant,
    stdin_ended: bool,
    output_window: u32,
}

pub(super) struct Link {
    inbound: Inbound,
    writer: HijackWriter,
    out: VecDeque<u8>,
    /// The first is under way. The init takes one more ahead.
    runs: VecDeque<Active>,
    pings: VecDeque<(u64, oneshot::Sender<()>)>,
    probes: VecDeque<oneshot::Sender<Ready>>,
    collecting: VecDeque<oneshot::Sender<Collected>>,
    auditing: VecDeque<oneshot::Sender<Vec<String>>>,
    reading: VecDeque<(u32, oneshot::Sender<Vec<u8>>)>,
    next_token: u64,
    heard: Instant,
    scratch: Vec<u8>,
    heat: Arc<Heat>,
    /// How many runtimes are wanted.
    preparing: usize,
}

impl Link {
    pub(super) fn new(inbound: Inbound, writer: HijackWriter, heat: Arc<Heat>) -> Link {
        Link {
            heat,
            preparing: 0,
            inbound,
            writer,
            out: VecDeque::new(),
            runs: VecDeque::new(),
            pings: VecDeque::new(),
            probes: VecDeque::new(),
            collecting: VecDeque::new(),
            auditing: VecDeque::new(),
            reading: VecDeque::new(),
            next_token: 0,
            heard: Instant::now(),
            scratch: Vec::new(),
        }
    }

    /// Serves until the last handle is gone (`None`) or the sandbox is lost.
    pub(super) async fn serve(mut self, mut commands: mpsc::Receiver<Command>) -> Option<Lost> {
        let lost = self.serve_until_lost(&mut commands).await;
        if let Some(lost) = &lost {
            for active in &self.runs {
                let _ = active.events.send(RunEvent::Lost(lost.clone()));
            }
        }
        lost
    }

    async fn serve_until_lost(&mut self, commands: &mut mpsc::Receiver<Command>) -> Option<Lost> {
        let mut heartbeat = interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let result = tokio::select! {
                read = self.inbound.fill() => read.and_then(|()| self.take_frames()),
                wrote = self.writer.write(self.out.as_slices().0), if !self.out.is_empty() => match wrote {
                    Ok(0) => Err(Lost::Eof),
                    Ok(n) => { self.out.drain(..n); Ok(()) }
                    Err(error) => Err(Lost::Io(error.to_string())),
                },
                command = commands.recv() => match command {
                    None => return None,
                    Some(command) => { self.obey(command); Ok(()) }
                },
                _ = heartbeat.tick() => self.beat(),
            };
            if let Err(lost) = result {
                return Some(lost);
            }
        }
    }

    fn beat(&mut self) -> Result<(), Lost> {
        if self.heard.elapsed() > SILENCE_LIMIT {
            return Err(Lost::Silent);
        }
        self.next_token += 1;
        self.send(&ToInit::Ping { token: self.next_token });
        Ok(())
    }

    fn send(&mut self, frame: &ToInit) {
        self.scratch.clear();
        encode_to_init(frame, &mut self.scratch);
        self.out.extend(&self.scratch);
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Run { run, order, events } => self.start(run, *order, events),
            Command::Credit { run, bytes } => {
                if let Some(active) = self.find(run) {
                    active.output_window += bytes;
                    self.send(&ToInit::Credit { run, bytes });
                }
            }
            Command::Input { run, data } => {
                if let Some(active) = self.find(run).filter(|active| active.stdin_open) {
                    active.stdin.push_back(data);
                    self.feed(run);
                }
            }
            Command::InputEnd { run } => {
                if let Some(active) = self.find(run) {
                    active.stdin_open = false;
                    self.feed(run);
                }
            }
            Command::Kill { run } => {
                if self.find(run).is_some() {
                    self.send(&ToInit::Kill { run });
                }
            }
            Command::Ping { reply } => {
                self.next_token += 1;
                self.pings.push_back((self.next_token, reply));
                self.send(&ToInit::Ping { token: self.next_token });
            }
            Command::Collect { wanted, reply } => {
                self.collecting.push_back(reply);
                self.send(&ToInit::Collect(wanted));
            }
            Command::Reset { reply } => {
                self.auditing.push_back(reply);
                self.send(&ToInit::Reset);
            }
            Command::Read { file, at, reply } => {
                self.reading.push_back((file, reply));
                self.send(&ToInit::Read { file, at });
            }
            Command::Prepare(prepare) => {
                self.preparing += 1;
                self.send(&ToInit::Prepare(*prepare));
            }
            Command::Probe { reply } => {
                self.probes.push_back(reply);
                self.send(&ToInit::Probe);
            }
        }
    }

    fn start(&mut self, run: u32, order: RunOrder, events: mpsc::UnboundedSender<RunEvent>) {
        for file in order.files {
            self.send(&ToInit::Put(file));
        }
        let mut program = order.program;
        program.run = run;
        let usage_every = Some(Duration::from_nanos(program.usage_interval_ns)).filter(|every| !every.is_zero());
        let ends_left = if program.report_output_ends { 2 } else { 0 };
        self.send(&ToInit::Run(program));
        self.runs.push_back(Active {
            run,
            events,
            stdin: [order.stdin].into(),
            stdin_window: STDIN_WINDOW_BYTES,
            stdin_open: order.stdin_open,
            tells_taken: order.stdin_open,
            ends_left,
            usage_every,
            usage_at: Instant::now(),
            stdin_ended: false,
            output_window: OUTPUT_WINDOW_BYTES,
        });
        self.feed(run);
    }

    fn find(&mut self, run: u32) -> Option<&mut Active> {
        self.runs.iter_mut().find(|active| active.run == run)
    }

    /// Sends as much input as the window lets through, and its end.
    fn feed(&mut self, run: u32) {
        let Some(active) = self.find(run) else { return };
        let mut frames = Vec::new();
        while let Some(first) = active.stdin.front_mut() {
            if first.is_empty() {
                active.stdin.pop_front();
                continue;
            }
            let n = first.len().min(active.stdin_window as usize).min(MAX_CHUNK_BYTES);
            if n == 0 {
                break;
            }
            active.stdin_window -= n as u32;
            frames.push(ToInit::Stdin { run, data: first.split_to(n).to_vec() });
        }
        if active.stdin.is_empty() && !active.stdin_open && !active.stdin_ended {
            active.stdin_ended = true;
            frames.push(ToInit::StdinEnd { run });
        }
        for frame in &frames {
            self.send(frame);
        }
    }

    fn take_frames(&mut self) -> Result<(), Lost> {
        self.heard = Instant::now();
        while let Some(frame) = self.inbound.next()? {
            self.take(frame)?;
        }
        Ok(())
    }

    fn take(&mut self, frame: FromInit) -> Result<(), Lost> {
        match frame {
            FromInit::Output { run, stream, data } => self.output(run, stream, data),
            FromInit::StdinCredit { run, bytes } => {
                if let Ok(active) = self.under_way(run) {
                    let taken = bytes.min(STDIN_WINDOW_BYTES - active.stdin_window);
                    active.stdin_window += taken;
                    if active.tells_taken && taken > 0 {
                        let _ = active.events.send(RunEvent::InputTaken(u64::from(taken)));
                    }
                    self.feed(run);
                }
                Ok(())
            }
            FromInit::OutputEnd { run, stream } => {
                let active = self.under_way(run)?;
                active.ends_left = active.ends_left.checked_sub(1).ok_or_else(|| unasked("an output's end"))?;
                let _ = active.events.send(RunEvent::OutputEnd(stream));
                Ok(())
            }
            FromInit::Usage { run, wall_ns, cpu_ns, memory_bytes } => {
                let active = self.under_way(run)?;
                // never more often than asked for, whatever it says
                if active.usage_every.is_some_and(|every| active.usage_at.elapsed() >= every / 2) {
                    active.usage_at = Instant::now();
                    let (wall, cpu) = (Duration::from_nanos(wall_ns), Duration::from_nanos(cpu_ns));
                    let _ = active.events.send(RunEvent::Usage(Usage { wall, cpu, memory_bytes }));
                }
                Ok(())
            }
            FromInit::Done(done) => match self.runs.pop_front() {
                Some(active) if active.run == done.run => {
                    // none waits after a run, until the sandbox is reset
                    self.heat.lock().waiting = 0;
                    let _ = active.events.send(RunEvent::Done(done));
                    Ok(())
                }
                other => {
                    // it is told like the others that all is lost
                    self.runs.extend(other);
                    Err(Lost::Protocol("an end of a run that is not under way".to_owned()))
                }
            },
            FromInit::Pong { token } => {
                if self.pings.front().is_some_and(|(waiting, _)| *waiting == token)
                    && let Some((_, reply)) = self.pings.pop_front()
                {
                    let _ = reply.send(());
                }
                Ok(())
            }
            FromInit::Ready(ready) => match self.probes.pop_front() {
                Some(reply) => {
                    let _ = reply.send(*ready);
                    Ok(())
                }
                None => Err(Lost::Protocol("a Ready that nobody asked for".to_owned())),
            },
            FromInit::Prepared { id: hot, failed, took_ns, memory_bytes } => {
                if hot as usize >= self.preparing {
                    return Err(unasked("a runtime that waits"));
                }
                let mut heat = self.heat.lock();
                heat.memory_bytes = memory_bytes;
                heat.took_ms = heat.took_ms.max(took_ns / 1_000_000);
                match failed {
                    None => heat.waiting += 1,
                    Some((words, 0)) => {
                        let plain = |c: char| if c.is_control() { ' ' } else { c };
                        heat.failed = Some(words.chars().map(plain).collect());
                    }
                    Some((step, errno)) => {
                        let reason = nix::errno::Errno::from_raw(errno).desc();
                        heat.failed = Some(format!("{}: {reason}", step.escape_debug()));
                    }
                }
                Ok(())
            }
            FromInit::Collected(collected) => match self.collecting.pop_front() {
                Some(reply) => {
                    let _ = reply.send(collected);
                    Ok(())
                }
                None => Err(Lost::Protocol("files that nobody asked for".to_owned())),
            },
            FromInit::Audited { residue } => match self.auditing.pop_front() {
                Some(reply) => {
                    let _ = reply.send(residue);
                    Ok(())
                }
                None => Err(Lost::Protocol("an audit that nobody asked for".to_owned())),
            },
            FromInit::Piece { file, data } => match self.reading.pop_front() {
                Some((wanted, reply)) if wanted == file => {
                    let _ = reply.send(data);
                    Ok(())
                }
                _ => Err(Lost::Protocol("a piece that nobody asked for".to_owned())),
            },
            FromInit::PutFailed { path, errno } => {
                let reason = nix::errno::Errno::from_raw(errno);
                tracing::debug!(path = %path.escape_debug(), %reason, "a file could not be written in the sandbox");
                Ok(())
            }
            FromInit::Fault { message } => Err(Lost::Fault(message.escape_debug().to_string())),
        }
    }

    fn under_way(&mut self, run: u32) -> Result<&mut Active, Lost> {
        self.runs.front_mut().filter(|active| active.run == run).ok_or_else(|| unasked("news of another run"))
    }

    fn output(&mut self, run: u32, stream: OutputStream, data: Vec<u8>) -> Result<(), Lost> {
        let active = self.under_way(run)?;
        match active.output_window.checked_sub(data.len() as u32) {
            Some(left) => {
                active.output_window = left;
                let _ = active.events.send(RunEvent::Output { stream, data });
                Ok(())
            }
            None => Err(Lost::Protocol("more output than the window allows".to_owned())),
        }
    }
}

fn unasked(what: &str) -> Lost {
    Lost::Protocol(format!("{what} that nobody asked for"))
}

/// The first exchange: Hello, then the one Ready that echoes the nonce.
pub(super) async fn hello(
    inbound: &mut Inbound,
    writer: &mut HijackWriter,
    hello: wire::frame::InitHello,
    deadline: Duration,
) -> Result<Ready, Lost> {
    let nonce = hello.nonce;
    let mut bytes = Vec::new();
    encode_to_init(&ToInit::Hello(hello), &mut bytes);
    let exchange = async {
        writer.write_all(&bytes).await.map_err(|error| Lost::Io(error.to_string()))?;
        loop {
            match inbound.next()? {
                Some(FromInit::Ready(ready)) if ready.nonce == nonce => return Ok(*ready),
                Some(FromInit::Fault { message }) => return Err(Lost::Fault(message.escape_debug().to_string())),
                Some(_) => return Err(Lost::Protocol("something else than Ready came first".to_owned())),
                None => inbound.fill().await?,
            }
        }
    };
    tokio::time::timeout(deadline, exchange).await.unwrap_or(Err(Lost::Silent))
}
