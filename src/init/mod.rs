//! PID 1 of a sandbox: runs one program at a time for the host at the other end of stdin and stdout.
//!
//! One thread, one poll. Nothing blocks but the exec of a program that was just forked.
//!
//! ```text
//!                 Hello                       Run                    main process ended, or a limit fired, or Kill
//!  Silent ---------------> Idle ------------------------> Running ------------------------------------------.
//!                           ^  <-- Put (files)               |  output out (within the window), input in     |
//!                           |                                v                                               v
//!                           '------- Done <---- Draining <---- all reaped (ECHILD) <---- Killing: kill(-1), reap
//!
//!  anywhere: end-of-file on stdin, 20 s of silence, nonsense -> exit; the kernel then kills the whole pid namespace
//! ```
//!
//! The step through the three named stages of each turn: [`host`] (frames in and out), [`reap`] (the only waitpid),
//! [`mod@run`] (pipes, clocks, limits). Facts only: which limit fired and what the kernel counted, never what it means.
//! std, `nix` and `wire` are all it needs; `unsafe` stands in [`sys`] alone.

mod cgroup;
mod files;
mod host;
mod ready;
mod reap;
mod run;
mod setup;
mod sys;

use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::wire::frame::{FromInit, SILENCE_LIMIT, ToInit, VERSION};
use cgroup::Cgroup;
use files::Files;
use host::Host;
use run::Active;

/// Why the init ends.
#[derive(Debug)]
enum End {
    /// The host closed the stream, or is silent: the ordinary end of a sandbox.
    Left,
    /// The host said what it may not say, or the kernel did.
    Broken(String),
}

impl From<Errno> for End {
    fn from(errno: Errno) -> End {
        End::Broken(errno.desc().to_owned())
    }
}

/// Who the programs are.
#[derive(Debug, Clone, Copy)]
struct Identity {
    uid: u32,
    gid: u32,
}

struct Init {
    host: Host,
    cgroup: Option<Cgroup>,
    files: Files,
    identity: Option<Identity>,
    nonce: [u8; 16],
    active: Option<Active>,
    heard: Instant,
}

/// Runs until the host leaves.
pub fn run() -> ExitCode {
    match serve() {
        Ok(()) | Err(End::Left) => ExitCode::SUCCESS,
        Err(End::Broken(words)) => {
            let mut bytes = Vec::new();
            crate::wire::codec::encode_from_init(&FromInit::Fault { message: words }, &mut bytes);
            let _ = nix::unistd::write(std::io::stdout(), &bytes);
            ExitCode::FAILURE
        }
    }
}

fn serve() -> Result<(), End> {
    // it kills "everybody else", which must never be meant outside a pid namespace of its own
    if nix::unistd::getpid().as_raw() != 1 {
        return Err(End::Broken("the init is no program for people: it runs as PID 1 of a sandbox only".to_owned()));
    }
    let _ = nix::sys::prctl::set_dumpable(false);
    sys::lock_memory();
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    mask.thread_block()?;
    let children = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let mut init = Init {
        host: Host::new()?,
        cgroup: Cgroup::open(),
        files: Files::open()?,
        identity: None,
        nonce: [0; 16],
        active: None,
        heard: Instant::now(),
    };
    loop {
        init.turn(&children)?;
    }
}

impl Init {
    /// One turn: wait, then serve whoever is ready.
    fn turn(&mut self, children: &SignalFd) -> Result<(), End> {
        let silence = SILENCE_LIMIT.checked_sub(self.heard.elapsed()).ok_or(End::Left)?;
        let wait = match &self.active {
            Some(active) => active.next_look().min(silence),
            None => silence,
        };
        let (host_in, host_out, child, output, input) = self.wait(children, wait)?;
        if child {
            while let Ok(Some(_)) = children.read_signal() {}
        }
        if host_in {
            self.heard = Instant::now();
            self.host.fill()?;
            while let Some(frame) = self.host.next()? {
                self.obey(frame)?;
            }
        }
        if let Some(active) = self.active.as_mut() {
            active.look(&mut self.host, self.cgroup.as_ref(), output, input, child)?;
            if active.is_over() {
                self.finish();
            }
        }
        if host_out || self.host.has_output() {
            self.host.flush()?;
        }
        Ok(())
    }

    /// Polls; says whether the host spoke, the host can be written to, a child ended, output came, input is taken.
    fn wait(&self, children: &SignalFd, wait: Duration) -> Result<(bool, bool, bool, [bool; 2], bool), End> {
        let stdin = std::io::stdin();
        let stdout = std::io::stdout();
        let mut fds =
            vec![PollFd::new(stdin.as_fd(), PollFlags::POLLIN), PollFd::new(children.as_fd(), PollFlags::POLLIN)];
        let mut host_out = None;
        if self.host.has_output() {
            host_out = Some(fds.len());
            fds.push(PollFd::new(stdout.as_fd(), PollFlags::POLLOUT));
        }
        let mut output = [None, None];
        let mut input = None;
        if let Some(active) = &self.active {
            for (slot, fd) in output.iter_mut().zip(active.readable(self.host.pending())) {
                if let Some(fd) = fd {
                    *slot = Some(fds.len());
                    fds.push(PollFd::new(fd, PollFlags::POLLIN));
                }
            }
            if let Some(fd) = active.writable() {
                input = Some(fds.len());
                fds.push(PollFd::new(fd, PollFlags::POLLOUT));
            }
        }
        // rounded up: a turn that comes too early would only spin
        let millis = u16::try_from(wait.as_micros().div_ceil(1000)).unwrap_or(u16::MAX);
        match poll(&mut fds, PollTimeout::from(millis)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let ready = |index: Option<usize>| {
            index.and_then(|index| fds[index].revents()).is_some_and(|revents| !revents.is_empty())
        };
        Ok((ready(Some(0)), ready(host_out), ready(Some(1)), output.map(ready), ready(input)))
    }

    fn obey(&mut self, frame: ToInit) -> Result<(), End> {
        let broken = |words: &str| Err(End::Broken(words.to_owned()));
        if self.identity.is_none() && !matches!(frame, ToInit::Hello(_)) {
            return broken("something else than Hello came first");
        }
        match frame {
            ToInit::Hello(hello) => {
                if self.identity.is_some() {
                    return broken("a second Hello");
                }
                if hello.uid == 0 || hello.gid == 0 {
                    return broken("programs never run as uid 0");
                }
                self.identity = Some(Identity { uid: hello.uid, gid: hello.gid });
                self.nonce = hello.nonce;
                self.say_ready();
                if hello.version != VERSION {
                    return broken("the host speaks another version");
                }
            }
            ToInit::Probe => self.say_ready(),
            ToInit::Ping { token } => self.host.send(&FromInit::Pong { token }),
            ToInit::Put(put) => {
                let identity = self.identity.filter(|_| self.active.is_none());
                let Some(identity) = identity else { return broken("a Put while a program runs") };
                if let Err(errno) = self.files.put(&put, identity) {
                    self.files.put_failed(&put.path, errno);
                    self.host.send(&FromInit::PutFailed { path: put.path, errno: errno as i32 });
                }
            }
            ToInit::Run(order) => {
                let identity = self.identity.filter(|_| self.active.is_none());
                let Some(identity) = identity else { return broken("a Run while a program runs") };
                let active = Active::start(order, identity, self.cgroup.as_ref(), &mut self.files)?;
                self.active = Some(active);
                if self.active.as_ref().is_some_and(Active::is_over) {
                    self.finish();
                }
            }
            ToInit::Stdin { run, data } => {
                if let Some(active) = self.running(run) {
                    active.feed(&data);
                }
            }
            ToInit::StdinEnd { run } => {
                if let Some(active) = self.running(run) {
                    active.feed_end();
                }
            }
            ToInit::Credit { run, bytes } => {
                if let Some(active) = self.running(run) {
                    active.credit(bytes);
                }
            }
            ToInit::Kill { run } => {
                if let Some(active) = self.running(run) {
                    active.kill();
                }
            }
        }
        Ok(())
    }

    fn running(&mut self, run: u32) -> Option<&mut Active> {
        self.active.as_mut().filter(|active| active.number() == run)
    }

    fn say_ready(&mut self) {
        let ready = ready::look(self.nonce, self.cgroup.as_ref());
        self.host.send(&FromInit::Ready(Box::new(ready)));
    }

    fn finish(&mut self) {
        if let Some(active) = self.active.take() {
            let done = active.finish(self.cgroup.as_ref(), &mut self.files);
            self.host.send(&FromInit::Done(Box::new(done)));
        }
    }
}
