//! The session with the host: one loop, one poll(2), nothing else ever waits.
//!
//! ```text
//!          Hello                 Run                      run is over: keep, remove, audit
//! (silent) -----> (idle: Put) ---------> (run: Stdin, Credit, Kill) ------------------> Done, (idle)
//!     any state: Ping -> Pong, Probe -> Ready
//!     any state: EOF, silence, SIGTERM from outside, a broken frame -> kill everything, exit
//! ```

use super::audit::{self, Baseline};
use super::cell::{self, Tenant};
use super::cgroup::Cgroup;
use super::collect::Collection;
use super::files::{Files, Owner};
use super::limits;
use super::output::Out;
use super::ready;
use super::reap::{self, Reaped};
use super::report::Failed;
use super::run::Active;
use super::setup::Place;
use super::sys::{self, PollFd};
use crate::wire::codec;
use crate::wire::frame::{
    Collect, Collected, Done, Ended, Fired, FromInit, Hello, Isolation, MAX_CHUNK_BYTES, MemorySource, Put, Run,
    SILENCE_LIMIT, ToInit, VERSION,
};
use crate::wire::stream::FrameReader;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use nix::libc;

/// What follows Hello.
struct Open {
    hello: Hello,
    files: Files,
    cgroup: Cgroup,
    speed: u64,
    active: Option<Active>,
    baseline: Baseline,
    /// The last run's files that the host reads.
    collection: Collection,
    /// The first Put that failed and has not been made good: no run starts.
    put_failed: Option<(String, i32)>,
    /// A process outlived its kill: no run starts any more.
    stuck: bool,
}

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
enum Over {
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
            if let Some(active) = &mut open.active {
                if now >= active.next_tick() {
                    active.tick(now, &open.cgroup, &mut self.out);
                }
                if active.is_ending() {
                    for i in [0, 1] {
                        while active.read_output(i, now, &mut self.buffer, &mut self.out) {}
                    }
                }
            }
            if let Some(mut active) = open.active.take_if(|a| a.is_over()) {
                let done = open.finish(&mut active);
                self.out.frame(&FromInit::Done(Box::new(done)));
            }
            if let Some(active) = &open.active {
                wake = wake.min(active.next_tick());
            }
        }
        self.out.flush(false).map_err(|_| Over::Quiet)?;
        if self.out.is_over_full() {
            return Err(Over::Quiet);
        }

        let active = self.open.as_ref().and_then(|o| o.active.as_ref());
        let mut fds = [
            watch(0, libc::POLLIN),
            watch(self.signals.as_raw_fd(), libc::POLLIN),
            watch(self.out.fd(), libc::POLLOUT),
            watch(active.map_or(-1, |a| a.output_fd(0)), libc::POLLIN),
            watch(active.map_or(-1, |a| a.output_fd(1)), libc::POLLIN),
            watch(active.map_or(-1, Active::stdin_fd), libc::POLLOUT),
        ];
        sys::poll(&mut fds, wake.saturating_sub(sys::now())).map_err(|e| Over::Fault(format!("poll: errno {e}")))?;
        let now = sys::now();
        let [input, signals, room, stdout, stderr, stdin] = fds.map(|fd| fd.revents != 0);

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
                active.write_stdin(&mut self.out);
            }
        }
        if signals {
            self.signal(now)?;
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
            Some(Open { active: Some(active), cgroup, .. }) => active.children(now, cgroup),
            // Nobody's run: an engine's exec session that lost its parent.
            _ => while let Reaped::One(_) = reap::next() {},
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
            }
            ToInit::Collect(wanted) => {
                let collected = open.collect(&wanted);
                self.out.frame(&FromInit::Collected(collected));
            }
            ToInit::Read { file, at } => {
                let data = open.collection.read(file, at, &mut self.buffer).to_vec();
                self.out.frame(&FromInit::Piece { file, data });
            }
            ToInit::Run(run) => {
                if open.active.is_some() {
                    return Err(Over::Fault("a Run came during a run".to_owned()));
                }
                if let Err(done) = open.start(run, now) {
                    self.out.frame(&FromInit::Done(done));
                }
            }
            ToInit::Stdin { run, data } => {
                if let Some(active) = open.run(run) {
                    active
                        .feed(&data, &mut self.out)
                        .map_err(|()| Over::Fault("input beyond the window came".to_owned()))?;
                }
            }
            ToInit::StdinEnd { run } => {
                if let Some(active) = open.run(run) {
                    active.feed_end();
                }
            }
            ToInit::Credit { run, bytes } => {
                if let Some(active) = open.run(run) {
                    active.credit(bytes, now);
                }
            }
            ToInit::Kill { run } => {
                if let Some(active) = open.run(run) {
                    active.kill(now);
                }
            }
        }
        Ok(())
    }
}

impl Open {
    fn new(hello: Hello) -> Result<Self, Over> {
        if hello.version != VERSION {
            let theirs = hello.version;
            return Err(Over::Fault(format!("the host speaks version {theirs}, this init {VERSION}")));
        }
        if hello.uid == 0 || hello.gid == 0 || hello.uid == u32::MAX || hello.gid == u32::MAX {
            return Err(Over::Fault("a program may not run as root".to_owned()));
        }
        let owner = match hello.isolation {
            Isolation::Split => Owner::Other(hello.uid, hello.gid),
            // a cell has the uid that we have
            Isolation::Cell if hello.uid == sys::euid() => Owner::Cell,
            Isolation::Cell => {
                let (uid, own) = (hello.uid, sys::euid());
                return Err(Over::Fault(format!("cells of uid {uid} cannot be made by uid {own}")));
            }
        };
        let files = Files::open(owner).map_err(|e| Over::Fault(format!("open /box: errno {e}")))?;
        let cgroup = Cgroup::find();
        let speed = limits::speed(sys::cpus(), &cgroup.limits());
        let baseline = Baseline::look(&cgroup);
        let collection = Collection::default();
        Ok(Self { hello, files, cgroup, speed, active: None, baseline, collection, put_failed: None, stuck: false })
    }

    fn tenant(&self) -> Tenant {
        Tenant { uid: self.hello.uid, gid: self.hello.gid, space: self.hello.space }
    }

    /// Why no cell can be made here, where cells are wanted.
    fn try_cell(&self) -> Option<(String, i32)> {
        match self.hello.isolation {
            Isolation::Split => None,
            Isolation::Cell => {
                let failed = cell::trial(&self.tenant(), self.files.store()).err()?;
                Some((failed.step, failed.errno))
            }
        }
    }

    /// Takes everything away and looks what is left.
    fn reset(&mut self) -> Vec<String> {
        if self.active.is_some() || self.stuck {
            return vec!["a process that does not die".to_owned()];
        }
        self.collection = Collection::default();
        self.put_failed = None;
        let emptied = self.files.empty();
        audit::residue(&self.files, &self.cgroup, &self.baseline, emptied)
    }

    /// What the last run left of what is wanted. Nothing, while something of it may be alive.
    fn collect(&mut self, wanted: &Collect) -> Collected {
        if self.active.is_some() || self.stuck {
            return Collected::default();
        }
        let (collection, collected) = Collection::of(&self.files, wanted);
        self.collection = collection;
        collected
    }

    /// The run in progress, if it is that one. Frames for another one crossed its Done on the way.
    fn run(&mut self, run: u32) -> Option<&mut Active> {
        self.active.as_mut().filter(|a| a.spec.run == run)
    }

    fn put(&mut self, put: &Put) -> Result<(), i32> {
        // The program could race us for the name: files come between runs.
        let result = match self.active {
            Some(_) => Err(libc::EBUSY),
            None if self.stuck => Err(libc::EBUSY),
            None => {
                self.collection = Collection::default();
                self.files.put(put)
            }
        };
        match result {
            Err(errno) => {
                self.put_failed.get_or_insert_with(|| (put.path.clone(), errno));
            }
            // Only the file that failed can make it good; a later piece of another one must not.
            Ok(()) if !put.append => {
                self.put_failed.take_if(|(path, _)| *path == put.path);
            }
            Ok(()) => {}
        }
        result
    }

    fn start(&mut self, run: Run, now: u64) -> Result<(), Box<Done>> {
        self.files.close();
        self.collection = Collection::default();
        if self.stuck {
            return Err(self.refuse(&run, Failed::new("stuck", libc::EBUSY), now));
        }
        if let Some((path, errno)) = &self.put_failed {
            let failed = Failed { step: format!("put {path}"), errno: *errno };
            return Err(self.refuse(&run, failed, now));
        }
        if run.clean
            && let Err(errno) = self.files.clean()
        {
            return Err(self.refuse(&run, Failed::new("clean", errno), now));
        }
        self.files.mark_used();
        let place = match self.hello.isolation {
            Isolation::Split => Place::Split(self.hello.uid, self.hello.gid),
            Isolation::Cell => Place::Cell(self.tenant(), self.files.store()),
        };
        match Active::start(run, now, place, &self.cgroup, self.speed) {
            Ok(active) => {
                self.active = Some(active);
                Ok(())
            }
            Err(refused) => {
                let (run, failed) = *refused;
                Err(self.refuse(&run, failed, now))
            }
        }
    }

    /// The facts of a run that never had a process.
    fn refuse(&mut self, run: &Run, failed: Failed, asked_at: u64) -> Box<Done> {
        if !self.stuck {
            for path in &run.remove_after {
                self.files.remove(path);
            }
        }
        let mut step = failed.step;
        step.truncate(step.floor_char_boundary(1024));
        Box::new(Done {
            run: run.run,
            ended: Ended::NotStarted { step, errno: failed.errno },
            fired: Fired::None,
            wall_ns: 0,
            cpu_ns: 0,
            user_ns: 0,
            system_ns: 0,
            memory_bytes: 0,
            memory_source: MemorySource::MaxRss,
            max_rss_bytes: 0,
            oom_kills: 0,
            pids_denied: 0,
            survivors: 0,
            stdout_bytes: 0,
            stderr_bytes: 0,
            keep_missing: Vec::new(),
            setup_ns: sys::now().saturating_sub(asked_at),
            clean: !self.stuck && self.files.is_clean(),
        })
    }

    /// The last part of a run, when nothing of it is alive: counters, files, audit.
    fn finish(&mut self, active: &mut Active) -> Done {
        let mut done = active.facts(&self.cgroup);
        self.files.set_left(active.take_box());
        let spec = &active.spec;
        if done.ended == Ended::Exited(0) && done.fired == Fired::None && !spec.keep.is_empty() {
            done.keep_missing = if done.clean { self.files.keep(&spec.keep) } else { spec.keep.clone() };
        }
        if done.clean {
            for path in &spec.remove_after {
                self.files.remove(path);
            }
            done.clean = self.files.is_clean();
        } else {
            // Something alive is left: no file of the program may be touched any more, and nothing else may run.
            self.stuck = true;
        }
        done
    }
}

fn watch(fd: RawFd, events: i16) -> PollFd {
    PollFd { fd, events, revents: 0 }
}
