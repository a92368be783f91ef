//! The session with the daemon: one loop with one poll(2). Nothing else waits.
//!
//! ```text
//!          Hello              Run                              run is over: keep, remove
//! (silent) -----> (idle: Put) ------> (run: Stdin, Credit, Kill) ----> Done, idle or next Run
//!                                       one more Run with its Stdin and Kill may be queued
//!     any state: Ping -> Pong, Probe -> Ready
//!     any state: EOF, silence, SIGTERM from outside, an invalid frame -> kill everything, exit
//! ```

use super::frame_queue::FrameQueue;
use super::input::Overrun;
use super::reap::{self, Reaped};
use super::run::RunState;
use super::sandbox_state::{SETTLE_CHECK_NS, SandboxState};
use super::session_end::SessionEnd;
use super::sys::{self, poll_fd};
use std::os::fd::{AsRawFd, OwnedFd};
use wire::codec;
use wire::frame::{FromInit, InitHello, MAX_CHUNK_BYTES, MAX_PREPARED, SILENCE_LIMIT, ToInit};
use wire::stream::FrameReader;

use nix::libc;

/// A session from its start to the init's exit.
pub struct Session {
    signals: OwnedFd,
    out: FrameQueue,
    reader: FrameReader,
    /// `None` until Hello.
    sandbox: Option<SandboxState>,
    /// When the daemon last sent something.
    received_at: u64,
    buffer: Vec<u8>,
}

/// Which descriptors poll reported.
struct Readiness {
    host_input: bool,
    signals: bool,
    host_output: bool,
    stdout: bool,
    stderr: bool,
    stdin: bool,
    status: bool,
    prepared: [bool; MAX_PREPARED],
}

impl Session {
    /// A session that waits for Hello.
    #[must_use]
    pub fn new(signals: OwnedFd, out: FrameQueue) -> Self {
        Self {
            signals,
            out,
            reader: FrameReader::new(),
            sandbox: None,
            received_at: sys::now(),
            buffer: vec![0; MAX_CHUNK_BYTES],
        }
    }

    /// Serves until the session ends, then kills everything and exits. The exit of PID 1 ends the
    /// namespace.
    pub fn serve(mut self) -> ! {
        let end = loop {
            if let Err(end) = self.turn() {
                break end;
            }
        };
        sys::kill_everyone();
        let reported = match end {
            SessionEnd::Disconnected => None,
            SessionEnd::Fault(message) => Some(FromInit::Fault { message }),
            SessionEnd::SocketsLeft => Some(FromInit::SocketsLeft),
        };
        if let Some(frame) = reported {
            self.out.push(&frame);
            let _ = self.out.flush(false);
            let mut fds = [poll_fd(self.out.poll_fd(), libc::POLLOUT)];
            let _ = sys::poll(&mut fds, 1_000_000_000);
            let _ = self.out.flush(true);
            sys::exit(1);
        }
        sys::exit(0)
    }

    fn turn(&mut self) -> Result<(), SessionEnd> {
        let wake_at = self.timers()?;
        self.flush()?;
        if let Some(sandbox) = &mut self.sandbox {
            sandbox.make_cell();
            sandbox.fit_room();
        }
        let readiness = self.wait(wake_at)?;
        self.dispatch(readiness)
    }

    /// Acts on timers and on the end of a run. Returns when the next timer is due.
    fn timers(&mut self) -> Result<u64, SessionEnd> {
        let now = sys::now();
        let silence = u64::try_from(SILENCE_LIMIT.as_nanos()).unwrap_or(u64::MAX);
        let silent_at = self.received_at.saturating_add(silence);
        if now >= silent_at {
            return Err(SessionEnd::Disconnected);
        }
        let Some(sandbox) = &mut self.sandbox else { return Ok(silent_at) };
        sandbox.tick(now, &mut self.out);
        if let Some(active) = sandbox.active.as_mut().filter(|active| active.is_ending()) {
            for i in [0, 1] {
                while active.read_output(i, now, &mut self.buffer, &mut self.out) {}
            }
        }
        sandbox.finish_if_over(now, &mut self.out)?;
        Ok(match &sandbox.active {
            Some(active) => silent_at.min(active.next_tick()),
            None if sandbox.is_waiting() => silent_at.min(now + SETTLE_CHECK_NS),
            None => silent_at,
        })
    }

    fn flush(&mut self) -> Result<(), SessionEnd> {
        self.out.flush(false).map_err(|_| SessionEnd::Disconnected)?;
        if self.out.is_over_full() { Err(SessionEnd::Disconnected) } else { Ok(()) }
    }

    /// Waits for an event, at most until `wake_at`.
    fn wait(&mut self, wake_at: u64) -> Result<Readiness, SessionEnd> {
        let (now, active) = (sys::now(), self.sandbox.as_ref().and_then(|sandbox| sandbox.active.as_ref()));
        let wake_at = active.and_then(|active| active.outputs.paused_until(now)).unwrap_or(wake_at).min(wake_at);
        let prepared = |i| self.sandbox.as_ref().map_or(-1, |sandbox| sandbox.pool.ready_fd(i));
        let mut fds = [
            poll_fd(0, libc::POLLIN),
            poll_fd(self.signals.as_raw_fd(), libc::POLLIN),
            poll_fd(self.out.poll_fd(), libc::POLLOUT),
            poll_fd(active.map_or(-1, |active| active.outputs.poll_fd(0, now)), libc::POLLIN),
            poll_fd(active.map_or(-1, |active| active.outputs.poll_fd(1, now)), libc::POLLIN),
            poll_fd(active.map_or(-1, |active| active.input.poll_fd()), libc::POLLOUT),
            poll_fd(active.map_or(-1, RunState::status_fd), libc::POLLIN),
            poll_fd(prepared(0), libc::POLLIN),
            poll_fd(prepared(1), libc::POLLIN),
            poll_fd(prepared(2), libc::POLLIN),
            poll_fd(prepared(3), libc::POLLIN),
        ];
        sys::poll(&mut fds, wake_at.saturating_sub(now)).map_err(|e| format!("poll: errno {e}"))?;
        // fails to compile unless the list has one entry for each prepared runtime
        let [host_input, signals, host_output, stdout, stderr, stdin, status, prepared @ ..] =
            fds.map(|fd| fd.revents != 0);
        Ok(Readiness { host_input, signals, host_output, stdout, stderr, stdin, status, prepared })
    }

    /// Acts on what poll reported.
    fn dispatch(&mut self, ready: Readiness) -> Result<(), SessionEnd> {
        let now = sys::now();
        if ready.host_output {
            self.out.flush(true).map_err(|_| SessionEnd::Disconnected)?;
        }
        if let Some(sandbox) = &mut self.sandbox {
            if let Some(active) = &mut sandbox.active {
                for (is_ready, i) in [(ready.stdout, 0), (ready.stderr, 1)] {
                    if is_ready {
                        active.read_output(i, now, &mut self.buffer, &mut self.out);
                    }
                }
                if ready.stdin {
                    active.input.write(&mut self.out);
                }
            }
            for (i, _) in ready.prepared.into_iter().enumerate().filter(|(_, is_ready)| *is_ready) {
                if let Some(result) = sandbox.recv_ready(i, now) {
                    sandbox.send_prepared(result, &mut self.out);
                }
            }
        }
        if ready.signals {
            self.signal(now)?;
        } else if ready.status
            && let Some(sandbox) = &mut self.sandbox
        {
            sandbox.reap(now);
        }
        if ready.host_input { self.recv(now) } else { Ok(()) }
    }

    fn signal(&mut self, now: u64) -> Result<(), SessionEnd> {
        while let Some((number, from)) = sys::next_signal(&self.signals) {
            if number == libc::SIGTERM as u32 && from == 0 {
                return Err(SessionEnd::Disconnected);
            }
        }
        match &mut self.sandbox {
            Some(sandbox) => sandbox.reap(now),
            None => while let Reaped::Child(_) = reap::next() {},
        }
        Ok(())
    }

    /// One read from the daemon, and every frame in it.
    fn recv(&mut self, now: u64) -> Result<(), SessionEnd> {
        let n = match sys::read(0, &mut self.buffer) {
            Ok(0) | Err(_) => return Err(SessionEnd::Disconnected),
            Ok(n) => n,
        };
        self.received_at = now;
        self.reader.push(self.buffer.get(..n).unwrap_or_default());
        loop {
            let frame = match self.reader.next() {
                Ok(None) => return Ok(()),
                Ok(Some(body)) => codec::decode_to_init(body).map_err(|e| e.to_string())?,
                Err(e) => return Err(SessionEnd::Fault(e.to_string())),
            };
            self.obey(frame)?;
        }
    }

    fn obey(&mut self, frame: ToInit) -> Result<(), SessionEnd> {
        let now = sys::now();
        let Some(sandbox) = &mut self.sandbox else {
            return match frame {
                ToInit::Hello(hello) => self.open(hello),
                _ => Err(SessionEnd::Fault("a frame arrived before Hello".to_owned())),
            };
        };
        match frame {
            ToInit::Hello(_) => return Err(SessionEnd::Fault("a second Hello arrived".to_owned())),
            ToInit::Ping { token } => self.out.push(&FromInit::Pong { token }),
            ToInit::Probe => {
                let ready = sandbox.probe().clone();
                self.out.push(&FromInit::Ready(Box::new(ready)));
            }
            ToInit::Put(put) => {
                if let Err(errno) = sandbox.put(&put) {
                    self.out.push(&FromInit::PutFailed { path: put.path, errno });
                }
            }
            ToInit::Reset => {
                let residue = sandbox.reset();
                self.out.push(&FromInit::Audited { residue });
                if let Some(result) = sandbox.prewarm(now) {
                    sandbox.send_prepared(result, &mut self.out);
                }
            }
            ToInit::Prepare(prepare) => {
                if let Some(result) = sandbox.prepare(prepare, now)? {
                    sandbox.send_prepared(result, &mut self.out);
                }
            }
            ToInit::DropPrepared => sandbox.drop_prepared(),
            ToInit::Collect(wanted) => {
                let collected = sandbox.collect(&wanted);
                self.out.push(&FromInit::Collected(collected));
            }
            ToInit::Read { file, at } => {
                let data = sandbox.collection.read(file, at, &mut self.buffer).to_vec();
                self.out.push(&FromInit::Piece { file, data });
            }
            frame => return self.obey_run(frame, now),
        }
        Ok(())
    }

    /// Frames that start, feed and end runs.
    fn obey_run(&mut self, frame: ToInit, now: u64) -> Result<(), SessionEnd> {
        let Some(sandbox) = &mut self.sandbox else { return Ok(()) };
        match frame {
            ToInit::Run(run) => sandbox.accept(run, now, &mut self.out)?,
            ToInit::Stdin { run, data } => {
                let fed = match sandbox.run(run) {
                    Some(active) => active.input.feed(&data, &mut self.out),
                    None => sandbox.queued(run).map_or(Ok(()), |queued| queued.input.feed(&data)),
                };
                fed.map_err(|Overrun| "input beyond the window arrived".to_owned())?;
            }
            ToInit::StdinEnd { run } => match sandbox.run(run) {
                Some(active) => active.input.end(),
                None => sandbox.queued(run).into_iter().for_each(|queued| queued.input.end()),
            },
            ToInit::Credit { run, bytes } => {
                if let Some(active) = sandbox.run(run) {
                    active.credit(bytes, now);
                }
            }
            ToInit::Kill { run } => match sandbox.run(run) {
                Some(active) => active.kill(now),
                None => sandbox.queued(run).into_iter().for_each(|queued| queued.input.kill()),
            },
            ToInit::Hello(_)
            | ToInit::Put(_)
            | ToInit::Prepare(_)
            | ToInit::DropPrepared
            | ToInit::Ping { .. }
            | ToInit::Reset
            | ToInit::Collect(_)
            | ToInit::Read { .. }
            | ToInit::Probe => {} // see `obey`
        }
        Ok(())
    }

    /// Opens the sandbox and answers Ready.
    fn open(&mut self, hello: InitHello) -> Result<(), SessionEnd> {
        let sandbox = SandboxState::new(hello)?;
        self.out.push(&FromInit::Ready(Box::new(sandbox.ready().clone())));
        self.sandbox = Some(sandbox);
        Ok(())
    }
}
