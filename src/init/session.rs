//! The session with the host: one loop, one poll(2), nothing else ever waits.
//!
//! ```text
//!          Hello                 Run                      run is over: keep, remove, audit
//! (silent) -----> (idle: Put) ---------> (run: Stdin, Credit, Kill) ------------------> Done, (idle, or the next Run at once)
//!                                          one more Run, its Stdin and Kill may come ahead
//!     any state: Ping -> Pong, Probe -> Ready
//!     any state: EOF, silence, SIGTERM from outside, a broken frame -> kill everything, exit
//! ```

use super::ahead::{Next, Woke};
use super::input::Overrun;
use super::limits;
use super::open::Open;
use super::output::Out;
use super::ready;
use super::reap::{self, Reaped};
use super::run::Active;
use super::sys::{self, PollFd};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use wire::codec;
use wire::frame::{FromInit, MAX_CHUNK_BYTES, MAX_PREPARED, SILENCE_LIMIT, ToInit};
use wire::stream::FrameReader;

use nix::libc;

/// A session from start to exit.
pub struct Session {
    signals: OwnedFd,
    out: Out,
    reader: FrameReader,
    open: Option<Open>,
    heard_at: u64,
    buffer: Vec<u8>,
}

/// Why the session is over.
pub enum Over {
    /// Nobody is there any more; nothing to say and nobody to say it to.
    Quiet,
    /// Our fault or the host's, in words.
    Fault(String),
}

impl From<String> for Over {
    fn from(message: String) -> Self {
        Self::Fault(message)
    }
}

impl Session {
    /// A session that waits for Hello.
    #[must_use]
    pub fn new(signals: OwnedFd, out: Out) -> Self {
        Self {
            signals,
            out,
            reader: FrameReader::new(),
            open: None,
            heard_at: sys::now(),
            buffer: vec![0; MAX_CHUNK_BYTES],
        }
    }

    /// Serves until the session is over, then ends everything and this process. PID 1's end is the namespace's end.
    pub fn serve(mut self) -> ! {
        let over = loop {
            if let Err(over) = self.turn() {
                break over;
            }
        };
        sys::kill_everyone();
        if let Over::Fault(message) = over {
            self.out.frame(&FromInit::Fault { message });
            let _ = self.out.flush(false);
            let mut fds = [watch(self.out.fd(), libc::POLLOUT)];
            let _ = sys::poll(&mut fds, 1_000_000_000);
            let _ = self.out.flush(true);
            sys::exit(1);
        }
        sys::exit(0)
    }

    /// One turn: time, the run's end, writing, waiting, what happened.
    fn turn(&mut self) -> Result<(), Over> {
        let now = sys::now();
        let silence = u64::try_from(SILENCE_LIMIT.as_nanos()).unwrap_or(u64::MAX);
        let mut wake = self.heard_at.saturating_add(silence);
        if now >= wake {
            return Err(Over::Quiet);
        }
        if let Some(open) = &mut self.open {
            if let Some(active) = open.active.as_mut().filter(|active| now >= active.next_tick()) {
                let (ours, shelf) = (&open.ours, &mut open.shelf);
                // the shelf's first: the init's own clock includes the reading
                let ours_ns = || shelf.cpu_ns() + ours.cpu_ns(sys::own_cpu());
                active.tick(now, &open.cgroup, ours_ns, &mut self.out);
                open.reap(now);
            }
            if let Some(active) = open.active.as_mut().filter(|active| active.is_ending()) {
                for i in [0, 1] {
                    while active.read_output(i, now, &mut self.buffer, &mut self.out) {}
                }
                if !active.is_over() {
                    active.do_without_next();
                }
            }
            if let Some(active) = open.active.take_if(|a| a.is_over()) {
                let (done, next) = open.finish(active);
                self.out.frame(&FromInit::Done(Box::new(done)));
                if let Some((Next { run, input, .. }, behind)) = next {
                    let number = run.run;
                    match open.start(run, now, Some(behind)) {
                        Ok(()) => input.replay(open.run(number), now, &mut self.out),
                        Err(done) => self.out.frame(&FromInit::Done(done)),
                    }
                }
            }
            if let Some(active) = &open.active {
                wake = wake.min(active.next_tick());
            }
        }
        self.out.flush(false).map_err(|_| Over::Quiet)?;
        if self.out.is_over_full() {
            return Err(Over::Quiet);
        }
        if let Some(open) = &mut self.open {
            open.make_ready();
        }

        let active = self.open.as_ref().and_then(|o| o.active.as_ref());
        let ready = |i| self.open.as_ref().map_or(-1, |open| open.shelf.ready_fd(i));
        let mut fds = [
            watch(0, libc::POLLIN),
            watch(self.signals.as_raw_fd(), libc::POLLIN),
            watch(self.out.fd(), libc::POLLOUT),
            watch(active.map_or(-1, |a| a.outputs.poll_fd(0)), libc::POLLIN),
            watch(active.map_or(-1, |a| a.outputs.poll_fd(1)), libc::POLLIN),
            watch(active.map_or(-1, |a| a.input.poll_fd()), libc::POLLOUT),
            watch(active.map_or(-1, Active::report_fd), libc::POLLIN),
            watch(ready(0), libc::POLLIN),
            watch(ready(1), libc::POLLIN),
            watch(ready(2), libc::POLLIN),
            watch(ready(3), libc::POLLIN),
        ];
        sys::poll(&mut fds, wake.saturating_sub(sys::now())).map_err(|e| Over::Fault(format!("poll: errno {e}")))?;
        let now = sys::now();
        if let Some(open) = &mut self.open {
            open.woke = Woke::now(now);
        }
        let [input, signals, room, stdout, stderr, stdin, report, ready @ ..] = fds.map(|fd| fd.revents != 0);
        const { assert!(MAX_PREPARED == 4) };

        if room {
            self.out.flush(true).map_err(|_| Over::Quiet)?;
        }
        if let Some(Open { active: Some(active), .. }) = &mut self.open {
            for (ready, i) in [(stdout, 0), (stderr, 1)] {
                if ready {
                    active.read_output(i, now, &mut self.buffer, &mut self.out);
                }
            }
            if stdin {
                active.input.write(&mut self.out);
            }
        }
        if let Some(open) = &mut self.open {
            for (i, _) in ready.into_iter().enumerate().filter(|(_, is_ready)| *is_ready) {
                if let Some(told) = open.shelf.hear(i, now, &mut open.ours) {
                    open.tell(told, &mut self.out);
                }
            }
        }
        if signals {
            self.signal(now)?;
        } else if report && let Some(open) = &mut self.open {
            open.reap(now);
        }
        if input {
            self.listen(now)?;
        }
        Ok(())
    }

    fn signal(&mut self, now: u64) -> Result<(), Over> {
        while let Some((number, from)) = sys::next_signal(&self.signals) {
            if number == libc::SIGTERM as u32 && from == 0 {
                return Err(Over::Quiet);
            }
        }
        match &mut self.open {
            Some(open) => open.reap(now),
            None => while let Reaped::One(_) = reap::next() {},
        }
        Ok(())
    }

    /// One read from the host, and every frame in it.
    fn listen(&mut self, now: u64) -> Result<(), Over> {
        let n = match sys::read(0, &mut self.buffer) {
            Ok(0) | Err(_) => return Err(Over::Quiet),
            Ok(n) => n,
        };
        self.heard_at = now;
        self.reader.push(self.buffer.get(..n).unwrap_or_default());
        loop {
            let frame = match self.reader.next() {
                Ok(None) => return Ok(()),
                Ok(Some(body)) => codec::decode_to_init(body).map_err(|e| e.to_string())?,
                Err(e) => return Err(Over::Fault(e.to_string())),
            };
            self.obey(frame)?;
        }
    }

    fn obey(&mut self, frame: ToInit) -> Result<(), Over> {
        let now = sys::now();
        let Some(open) = &mut self.open else {
            let ToInit::Hello(hello) = frame else {
                return Err(Over::Fault("a frame came before Hello".to_owned()));
            };
            let open = Open::new(hello)?;
            let mut ready = ready::look(&open.hello, &open.cgroup);
            ready.no_cell = open.try_cell();
            self.out.frame(&FromInit::Ready(Box::new(ready)));
            self.open = Some(open);
            return Ok(());
        };
        match frame {
            ToInit::Hello(_) => return Err(Over::Fault("a second Hello came".to_owned())),
            ToInit::Ping { token } => self.out.frame(&FromInit::Pong { token }),
            ToInit::Probe => {
                open.speed = limits::speed(sys::cpus(), &open.cgroup.limits());
                let ready = ready::look(&open.hello, &open.cgroup);
                self.out.frame(&FromInit::Ready(Box::new(ready)));
            }
            ToInit::Put(put) => {
                if let Err(errno) = open.put(&put) {
                    self.out.frame(&FromInit::PutFailed { path: put.path, errno });
                }
            }
            ToInit::Reset => {
                let residue = open.reset();
                self.out.frame(&FromInit::Audited { residue });
                // those that were used are wanted again
                if let Some(told) = open.heat(now) {
                    open.tell(told, &mut self.out);
                }
            }
            ToInit::Prepare(prepare) => {
                if let Some(told) = open.prepare(prepare, now)? {
                    open.tell(told, &mut self.out);
                }
            }
            ToInit::Collect(wanted) => {
                let collected = open.collect(&wanted);
                self.out.frame(&FromInit::Collected(collected));
            }
            ToInit::Read { file, at } => {
                let data = open.collection.read(file, at, &mut self.buffer).to_vec();
                self.out.frame(&FromInit::Piece { file, data });
            }
            ToInit::Run(run) if open.active.is_some() => {
                if open.next.is_some() {
                    return Err(Over::Fault("a third Run came during a run".to_owned()));
                }
                open.set_next(run);
            }
            ToInit::Run(run) => {
                if let Err(done) = open.start(run, now, None) {
                    self.out.frame(&FromInit::Done(done));
                }
            }
            ToInit::Stdin { run, data } => {
                let fed = match open.run(run) {
                    Some(active) => active.input.feed(&data, &mut self.out),
                    None => open.next(run).map_or(Ok(()), |next| next.feed(&data)),
                };
                fed.map_err(|Overrun| Over::Fault("input beyond the window came".to_owned()))?;
            }
            ToInit::StdinEnd { run } => match open.run(run) {
                Some(active) => active.input.end(),
                None => open.next(run).into_iter().for_each(|next| next.input.end()),
            },
            ToInit::Credit { run, bytes } => {
                if let Some(active) = open.run(run) {
                    active.credit(bytes, now);
                }
            }
            ToInit::Kill { run } => match open.run(run) {
                Some(active) => active.kill(now),
                None => open.next(run).into_iter().for_each(|next| next.input.kill()),
            },
        }
        Ok(())
    }
}

fn watch(fd: RawFd, events: i16) -> PollFd {
    PollFd { fd, events, revents: 0 }
}
