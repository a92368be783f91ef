//! A sandbox and the daemon's side of the wire, for tests. Handles credit and windows by itself.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};
use wire::codec::{decode_from_init, encode_to_init};
use wire::frame::{
    Done, FromInit, InitHello, IsolationMode, MAX_CHUNK_BYTES, OutputStream, Put, Ready, Relax, Run, RunLimits,
    STDIN_WINDOW_BYTES, Space, ToInit, VERSION,
};
use wire::stream::FrameReader;

pub const MIB: u64 = 1 << 20;

/// An image with the init and the probe; removed when its last user drops it.
struct Image {
    tag: String,
    /// The image's files.
    root: tempfile::TempDir,
}

impl Image {
    fn get() -> Arc<Self> {
        static SHARED: Mutex<Weak<Image>> = Mutex::new(Weak::new());
        static MADE: AtomicU32 = AtomicU32::new(0);
        let mut shared = SHARED.lock().unwrap();
        if let Some(image) = shared.upgrade() {
            return image;
        }
        let n = MADE.fetch_add(1, Ordering::Relaxed);
        let image = Arc::new(Self::make(&format!("assay-inittest-{}:{n}", std::process::id())));
        *shared = Arc::downgrade(&image);
        image
    }

    fn make(tag: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        for folder in ["box", "tmp", "proc", "sys", "dev", "etc"] {
            std::fs::create_dir(root.path().join(folder)).unwrap();
        }
        std::fs::copy(crate::programs::program("assay-init"), root.path().join("init")).unwrap();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/machine/init/probe.c");
        let gcc = Command::new("gcc")
            .args(["-static", "-O1", "-w", "-D_GNU_SOURCE", "-o"])
            .arg(root.path().join("probe"))
            .arg(source)
            .status();
        assert!(gcc.unwrap().success());
        let mut tar = tar::Builder::new(Vec::new());
        tar.append_dir_all(".", root.path()).unwrap();
        let mut import = Command::new("docker")
            .args(["import", "-", tag])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let bytes = tar.into_inner().unwrap();
        import.stdin.take().unwrap().write_all(&bytes).unwrap();
        assert!(import.wait().unwrap().success());
        Self { tag: tag.to_owned(), root }
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        quiet(&["rmi", "-f", &self.tag]);
    }
}

fn quiet(args: &[&str]) {
    let mut docker = Command::new("docker");
    let _ = docker.args(args).stdout(Stdio::null()).stderr(Stdio::null()).status();
}

/// The facts and output of a run.
pub struct End {
    pub done: Done,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// Input bytes that were sent before the run ended.
    pub offered: usize,
}

impl End {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Asserts that the run is charged the CPU time that its program measured by its own clock and
    /// printed last, which is at least `burnt_ms`. What comes on top is its start and its exit.
    #[track_caller]
    pub fn assert_charged_for_itself(&self, burnt_ms: u64) {
        const MS: u64 = 1_000_000;
        let own_ns: u64 = self.text().split_whitespace().last().unwrap_or_default().parse().unwrap();
        let Done { cpu_ns, user_ns, system_ns, .. } = self.done;
        assert!(own_ns >= burnt_ms * MS, "{own_ns} ns: {:?}", self.done);
        let least = (burnt_ms * MS).max(own_ns - MS);
        assert!((least..own_ns + 30 * MS).contains(&cpu_ns), "{own_ns} ns: {:?}", self.done);
        // the kernel's split for a reused process is an estimate
        let by_rusage = user_ns + system_ns;
        assert!((own_ns - 10 * MS..own_ns + 30 * MS).contains(&by_rusage), "{own_ns} ns: {:?}", self.done);
    }
}

/// Default limits of a run.
pub const LIMITS: RunLimits = RunLimits {
    cpu_ns: 2_000_000_000,
    wall_ns: 10_000_000_000,
    output_bytes: 16 * MIB,
    file_bytes: 8 * MIB,
    open_files: 64,
    pids: 60,
    memory_bytes: 80 * MIB,
};

/// A running sandbox.
pub struct Sandbox {
    name: String,
    docker: Child,
    stdin: Option<ChildStdin>,
    frames: Receiver<FromInit>,
    pub ready: Ready,
    pub uid: u32,
    last_run: u32,
    image: Arc<Image>,
}

impl Sandbox {
    /// Starts a sandbox without sending Hello.
    pub fn start(isolation: IsolationMode) -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let image = Image::get();
        let n = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("assay-inittest-{}-{n}", std::process::id());
        // A uid of its own on this machine, because RLIMIT_NPROC counts per uid across containers.
        let uid = 20_000 + (std::process::id() * 64 + n) % 20_000;
        let mut docker = Command::new("docker");
        docker.args(["run", "--rm", "-i", "--name", &name, "--label", "assay-inittest"]).args([
            "--network",
            "none",
            "--read-only",
            "--cap-drop",
            "ALL",
        ]);
        match isolation {
            IsolationMode::Split => docker
                .args(["--cap-add", "SETUID", "--cap-add", "SETGID", "--cap-add", "KILL"])
                .args(["--tmpfs", "/box:exec,size=64m", "--tmpfs", "/tmp"]),
            IsolationMode::Cell => docker
                .args(["--user", &format!("{uid}:{uid}"), "--security-opt", "systempaths=unconfined"])
                .args(["--security-opt", concat!("seccomp=", env!("CARGO_MANIFEST_DIR"), "/config/seccomp/cell.json")])
                .args(["--tmpfs", &format!("/box:exec,size=64m,uid={uid}"), "--tmpfs", "/tmp"]),
        };
        let mut docker = docker
            .args(["--security-opt", "no-new-privileges", "--pids-limit", "64"])
            .args(["--memory", "96m", "--memory-swap", "96m", "--cpus", "1"])
            .args(["--cgroupns", "private"])
            .args([&image.tag, "/probe", "ignoring", "/init"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = docker.stdin.take();
        let mut stdout = docker.stdout.take().unwrap();
        let (sender, frames) = channel();
        std::thread::spawn(move || {
            let mut reader = FrameReader::new();
            let mut buffer = vec![0; 65536];
            while let Ok(n) = stdout.read(&mut buffer) {
                if n == 0 {
                    return;
                }
                reader.push(&buffer[..n]);
                while let Some(body) = reader.next().unwrap() {
                    let _ = sender.send(decode_from_init(body).unwrap());
                }
            }
        });
        Self { name, docker, stdin, frames, ready: Ready::default(), uid, last_run: 0, image }
    }

    /// Starts a sandbox and waits for Ready.
    pub fn open(isolation: IsolationMode) -> Self {
        Self::start(isolation).greet(isolation)
    }

    /// Says Hello and waits for Ready.
    pub fn greet(self, isolation: IsolationMode) -> Self {
        let mut sandbox = self;
        let (uid, nonce) = (sandbox.uid, [7; 16]);
        let space = Space { box_bytes: 64 * MIB, tmp_bytes: 64 * MIB, shm_bytes: 16 * MIB, inodes: 8192 };
        sandbox.send(&ToInit::Hello(InitHello { version: VERSION, nonce, uid, gid: uid, isolation, space }));
        match sandbox.expect() {
            FromInit::Ready(ready) => sandbox.ready = *ready,
            other => panic!("expected Ready, got {other:?}"),
        }
        assert_eq!((sandbox.ready.nonce, sandbox.ready.version), (nonce, VERSION));
        assert_eq!(sandbox.ready.no_cell, None);
        sandbox
    }

    pub fn send(&mut self, frame: &ToInit) {
        let mut bytes = Vec::new();
        encode_to_init(frame, &mut bytes);
        self.stdin.as_mut().unwrap().write_all(&bytes).unwrap();
    }

    pub fn receive(&mut self, wait: Duration) -> Option<FromInit> {
        self.frames.recv_timeout(wait).ok()
    }

    pub fn expect(&mut self) -> FromInit {
        self.receive(Duration::from_secs(30)).expect("a frame in 30 s")
    }

    pub fn put(&mut self, path: &str, mode: u32, data: &[u8]) {
        let (path, data) = (path.to_owned(), data.to_vec());
        self.send(&ToInit::Put(Put { path, mode, append: false, data }));
    }

    pub fn begin(&mut self, argv: &[&str], change: impl FnOnce(&mut Run)) -> u32 {
        self.last_run += 1;
        let mut run = Run {
            run: self.last_run,
            argv: argv.iter().map(|s| (*s).to_owned()).collect(),
            env: Vec::new(),
            limits: LIMITS,
            clean: false,
            keep: Vec::new(),
            remove_after: Vec::new(),
            truncate_output: false,
            relax: Relax::NONE,
            report_output_ends: false,
            usage_interval_ns: 0,
            more: false,
            hot: false,
            live_env: Vec::new(),
        };
        change(&mut run);
        self.send(&ToInit::Run(run));
        self.last_run
    }

    pub fn finish(&mut self, run: u32, input: &[u8]) -> End {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let mut window = STDIN_WINDOW_BYTES as usize;
        let mut offered = 0;
        let mut ended = false;
        loop {
            while window > 0 && offered < input.len() {
                let n = window.min(input.len() - offered).min(MAX_CHUNK_BYTES);
                let data = input[offered..offered + n].to_vec();
                self.send(&ToInit::Stdin { run, data });
                offered += n;
                window -= n;
            }
            if offered == input.len() && !ended {
                self.send(&ToInit::StdinEnd { run });
                ended = true;
            }
            match self.expect() {
                FromInit::Output { run: of, stream, data } => {
                    assert_eq!(of, run);
                    let bytes = u32::try_from(data.len()).unwrap();
                    self.send(&ToInit::Credit { run, bytes });
                    match stream {
                        OutputStream::Stdout => stdout.extend(data),
                        OutputStream::Stderr => stderr.extend(data),
                    }
                }
                FromInit::StdinCredit { bytes, .. } => window += bytes as usize,
                FromInit::Done(done) => {
                    assert_eq!(done.run, run);
                    return End { done: *done, stdout, stderr, offered };
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// Path of the probe on this machine.
    pub fn probe(&self) -> std::path::PathBuf {
        self.image.root.path().join("probe")
    }

    pub fn run(&mut self, argv: &[&str]) -> End {
        self.run_with(argv, |_| {})
    }

    pub fn run_clean(&mut self, argv: &[&str]) -> End {
        self.run_with(argv, |r| r.clean = true)
    }

    pub fn run_with(&mut self, argv: &[&str], change: impl FnOnce(&mut Run)) -> End {
        self.run_with_input(argv, b"", change)
    }

    pub fn run_with_input(&mut self, argv: &[&str], input: &[u8], change: impl FnOnce(&mut Run)) -> End {
        let run = self.begin(argv, change);
        self.finish(run, input)
    }

    /// `docker stop`: SIGTERM, and SIGKILL 30 s later.
    pub fn stop(&self) {
        quiet(&["stop", "-t", "30", &self.name]);
    }

    pub fn hang_up(&mut self) {
        self.stdin = None;
    }

    pub fn is_gone_within(&mut self, wait: Duration) -> bool {
        let start = Instant::now();
        while start.elapsed() < wait {
            if self.docker.try_wait().unwrap().is_some() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.hang_up();
        if !self.is_gone_within(Duration::from_secs(5)) {
            let _ = self.docker.kill();
            let _ = self.docker.wait();
        }
        quiet(&["rm", "-f", &self.name]);
    }
}
