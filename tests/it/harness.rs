//! A daemon for one test, and a caller that speaks the socket protocol by hand.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use serde_json::{Value, json};

use crate::programs::program;

/// Passes standard input to the daemon the way a service manager passes a socket.
const PASS: &str = "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\" 3<&0 </dev/null";

/// Each test daemon gets 64 uids of its own: two daemons on one engine must not share any.
static DAEMONS: AtomicU32 = AtomicU32::new(0);

/// The uids of the next daemon: from 40,000 to 65,000, then from 10,000 to 39,000.
fn next_uids() -> u32 {
    const COUNT: u32 = 64;
    const FROM_40_000: u32 = 25_000 / COUNT;
    match DAEMONS.fetch_add(1, Ordering::Relaxed) {
        number if number < FROM_40_000 => 40_000 + number * COUNT,
        number => 10_000 + (number - FROM_40_000) % (29_000 / COUNT) * COUNT,
    }
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A running daemon.
pub struct Daemon {
    pub child: Child,
    command: Command,
    /// Its configuration, log, socket and state folder.
    pub folder: tempfile::TempDir,
    /// Its instance's id, which is the label of its containers.
    pub label: String,
    /// The listening socket, if it is passed to the daemon: kept open here, as a service manager
    /// would keep it.
    _listener: Option<UnixListener>,
}

pub struct Options<'a> {
    /// Names of profiles, separated by commas; all of them if empty.
    pub profiles: &'a str,
    /// The floor and ceiling of every pool, in place of the profiles' own.
    pub floor: u32,
    pub ceiling: u32,
    /// The engine's address, if it is not that of [`engine_socket`].
    pub engine: Option<&'a str>,
    /// Further sections of assayd.toml.
    pub config: &'a str,
    /// The folder of profiles, if it is not config/profiles.
    pub profiles_dir: Option<&'a Path>,
    /// `images.trusted`, in TOML.
    pub trusted: &'a str,
    pub env: &'a [(&'a str, &'a str)],
    /// A command that execs the daemon: its words come before the program.
    pub under: &'a [&'a str],
    /// Whether the socket is passed to the daemon.
    pub is_passed: bool,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Options {
            profiles: "python",
            floor: 1,
            ceiling: 4,
            engine: None,
            config: "",
            profiles_dir: None,
            trusted: "['docker.io/library/debian']",
            env: &[],
            under: &[],
            is_passed: false,
        }
    }
}

/// Reports that a test cannot run on this machine; to be followed by a return. With
/// `ASSAY_REQUIRE_ALL=1`, which CI sets, the test fails instead.
pub fn skip(reason: &str) {
    let is_required = std::env::var("ASSAY_REQUIRE_ALL").is_ok_and(|value| value == "1");
    assert!(!is_required, "skipped although ASSAY_REQUIRE_ALL=1: {reason}");
    eprintln!("skipped: {reason}");
    // scripts/test counts the lines
    if let Some(path) = std::env::var_os("ASSAY_SKIPPED_TESTS") {
        let file = std::fs::File::options().create(true).append(true).open(path);
        writeln!(file.unwrap(), "{reason}").unwrap();
    }
}

/// Builds every image once per machine: the engine keeps them. A file lock serializes parallel test
/// programs.
pub fn images() {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let lock = std::fs::File::create(std::env::temp_dir().join("assay-test-images.lock")).unwrap();
        let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, errno)| errno).unwrap();
        let daemon = spawn(&Options { profiles: "", floor: 0, ..Options::default() });
        daemon.wait_for_engine();
        let mut caller = daemon.caller();
        let wanted = std::env::var("ASSAY_TEST_IMAGES").unwrap_or("bash python c cpp javascript".to_owned());
        for profile in wanted.split_whitespace() {
            caller.ok("image.build", json!({ "profile": profile }));
        }
    });
}

/// Builds one more image.
pub fn build(profile: &str) {
    let daemon = spawn(&Options { profiles: profile, floor: 0, ..Options::default() });
    daemon.wait_for_engine();
    daemon.caller().ok("image.build", json!({ "profile": profile }));
}

/// The engine under test: the host's, unless `ASSAY_TEST_ENGINE` names another
/// (`make test-engines`).
pub fn engine_socket() -> PathBuf {
    let named = std::env::var("ASSAY_TEST_ENGINE").ok().filter(|host| !host.is_empty());
    named.as_deref().map_or("/var/run/docker.sock", |host| host.trim_start_matches("unix://")).into()
}

fn spawn(options: &Options<'_>) -> Daemon {
    let folder = tempfile::tempdir().unwrap();
    // callers with other uids must reach the socket
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let config = root().join("config");
    let uids = next_uids();
    let text = format!(
        "[instance]\nname='test'\nstate_dir='{state}'\n[socket]\npath='{socket}'\nmode='0666'\n[images]\ndir='{images}'\ntrusted={trusted}\n\
         [profiles]\ndir='{profiles}'\nfloor={floor}\nceiling={ceiling}\n[uids]\nbase={uids}\ncount=64\n{more}",
        state = folder.path().join("state").display(),
        socket = folder.path().join("assay.sock").display(),
        images = root().join("images").display(),
        trusted = options.trusted,
        profiles = options.profiles_dir.map_or_else(|| config.join("profiles"), Path::to_owned).display(),
        floor = options.floor,
        ceiling = options.ceiling,
        more = options.config,
    );
    let path = folder.path().join("assayd.toml");
    std::fs::write(&path, text).unwrap();
    let log = std::fs::File::create(folder.path().join("log")).unwrap();
    let passing = ["sh", "-c", PASS, "sh"].into_iter().filter(|_| options.is_passed);
    let mut words = options.under.iter().copied().chain(passing).chain([program("assayd")]);
    let mut command = Command::new(words.next().unwrap());
    command.args(words).arg("--config").arg(&path);
    // settings of the environment, and variables of these tests, are not for this daemon
    std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ASSAY_")).for_each(|(name, _)| {
        command.env_remove(name);
    });
    command.env("ASSAY_PROFILES", options.profiles).env("NO_COLOR", "1").envs(options.env.iter().copied());
    let usual = format!("unix://{}", engine_socket().display());
    if !options.config.contains("[[hosts]]") {
        command.env("ASSAY_ENGINE_HOST", options.engine.unwrap_or(&usual));
    }
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    let listener = options.is_passed.then(|| UnixListener::bind(folder.path().join("assay.sock")).unwrap());
    if let Some(listener) = &listener {
        command.stdin(OwnedFd::from(listener.try_clone().unwrap()));
    }
    let child = command.spawn().unwrap();
    let mut daemon = Daemon { child, command, folder, label: String::new(), _listener: listener };
    let hello = daemon.caller().hello;
    daemon.label = hello["params"]["instance"].as_str().unwrap().to_owned();
    daemon
}

impl Daemon {
    /// Starts a daemon after its images were built.
    pub fn start(options: &Options<'_>) -> Daemon {
        images();
        spawn(options)
    }

    /// Starts a daemon without building images first.
    pub fn start_bare(options: &Options<'_>) -> Daemon {
        spawn(options)
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("assay.sock")
    }

    /// The process of the daemon.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Connects; waits up to 90 s for the daemon to listen.
    pub fn caller(&self) -> Caller {
        let begun = Instant::now();
        loop {
            match UnixStream::connect(self.socket()) {
                Ok(stream) => return Caller::new(stream),
                Err(error) if begun.elapsed() > Duration::from_secs(90) => {
                    panic!("the daemon does not listen: {error}\n{}", self.log())
                }
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// Connects to a socket that is already listening.
    pub fn caller_at(socket: &Path) -> Caller {
        Caller::new(UnixStream::connect(socket).unwrap())
    }

    /// Connects with another uid: SO_PEERCRED reports the uid of the connecting thread.
    #[allow(unsafe_code)]
    pub fn caller_as(&self, uid: u32) -> Caller {
        let socket = self.socket();
        let connecting = std::thread::spawn(move || {
            // SAFETY: plain numbers. The raw system call changes this thread only; the wrapper of
            // the C library would change all threads.
            let done = unsafe { nix::libc::syscall(nix::libc::SYS_setresuid, uid, uid, uid) };
            assert_eq!(done, 0);
            UnixStream::connect(socket).unwrap()
        });
        Caller::new(connecting.join().unwrap())
    }

    /// Waits until the first probe of the engine has succeeded.
    pub fn wait_for_engine(&self) {
        let mut caller = self.caller();
        eventually("the engine answers", || caller.ok("daemon.health", json!({}))["docker"] == "connected");
    }

    /// Waits until every pool holds `floor`.
    pub fn warm(&self) {
        let mut caller = self.caller();
        eventually("the pools are warm", || {
            let pools = caller.ok("pool.list", json!({}));
            pools["pools"].as_array().unwrap().iter().all(|pool| pool["ready"].as_u64() >= pool["floor"].as_u64())
        });
    }

    /// Ids of the containers that this daemon has on the engine, in any state.
    pub fn containers(&self) -> Vec<String> {
        containers(&self.label)
    }

    /// Starts the same instance again.
    pub fn start_again(&mut self) {
        self.child = self.command.spawn().unwrap();
        drop(self.caller());
    }

    pub fn kill9(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn terminate(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.terminate();
        }
        if std::thread::panicking() {
            eprintln!("--- log of daemon {}\n{}", self.label, self.log());
        }
        // what a failing test left; normally the daemon's own sweep has removed everything
        for id in containers(&self.label) {
            let _ = engine(&format!("DELETE /containers/{id}?force=1&v=1"));
        }
        // with unwinding, a panic ends only its task: the log is the one place that shows it
        if !std::thread::panicking() {
            let log = self.log();
            assert!(!log.contains("panicked at"), "the daemon panicked:\n{log}");
        }
    }
}

/// Sends one plain request to the engine, without the client under test; returns status and body.
pub fn engine(request: &str) -> (u16, String) {
    use std::io::Read;
    let mut stream = UnixStream::connect(engine_socket()).unwrap();
    stream.write_all(format!("{request} HTTP/1.0\r\nHost: docker\r\n\r\n").as_bytes()).unwrap();
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).unwrap();
    let reply = String::from_utf8_lossy(&reply).into_owned();
    let status = reply.split(' ').nth(1).unwrap().parse().unwrap();
    (status, reply.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

pub fn containers(label: &str) -> Vec<String> {
    let filter = format!("%7B%22label%22%3A%5B%22assay.instance%3D{label}%22%5D%7D");
    let (_, body) = engine(&format!("GET /containers/json?all=1&filters={filter}"));
    let rows: Value = serde_json::from_str(&body).unwrap();
    rows.as_array().unwrap().iter().map(|row| row["Id"].as_str().unwrap().to_owned()).collect()
}

/// How long the sandboxes of a killed daemon stayed on the engine.
pub struct Cleanup {
    /// From the kill until the engine held nothing of the daemon.
    pub took: Duration,
    /// The median time of an engine call meanwhile.
    pub engine_call: Duration,
}

/// Watches the engine after the daemon with this label was killed, until it has shown no
/// container for 2 s: a creation under way may still show up. Fails after `patience`.
pub fn watch_cleanup(label: &str, killed: Instant, patience: Duration) -> Cleanup {
    let mut empty_since: Option<Instant> = None;
    let mut calls = Vec::new();
    while empty_since.is_none_or(|since| since.elapsed() < Duration::from_secs(2)) {
        let asked = Instant::now();
        let left = containers(label);
        calls.push(asked.elapsed());
        match left.is_empty() {
            true => drop(empty_since.get_or_insert(asked)),
            false => empty_since = None,
        }
        assert!(killed.elapsed() < patience, "sandboxes are left: {left:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    calls.sort_unstable();
    let took = empty_since.map_or(Duration::ZERO, |since| since.saturating_duration_since(killed));
    Cleanup { took, engine_call: calls[calls.len() / 2] }
}

/// Waits up to 90 s for a condition.
pub fn eventually(what: &str, mut is_true: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_true() {
        assert!(begun.elapsed() < Duration::from_secs(90), "never came true: {what}");
        std::thread::sleep(Duration::from_millis(25));
    }
}

/// Twice as many busy loops as there are cores, until dropped.
pub struct BusyCores(Vec<std::process::Child>);

impl BusyCores {
    pub fn start() -> BusyCores {
        let count = std::thread::available_parallelism().unwrap().get() * 2;
        let start = |_| std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        BusyCores((0..count).map(start).collect())
    }
}

impl Drop for BusyCores {
    fn drop(&mut self) {
        for one in &mut self.0 {
            let _ = one.kill();
            let _ = one.wait();
        }
    }
}

/// A process that keeps descriptors of a uid in flight, until dropped.
pub struct InFlight(std::process::Child);

impl InFlight {
    pub fn start(uid: u32, count: u32) -> InFlight {
        let code = format!(
            "import os, socket\na, b = socket.socketpair()\nos.setuid({uid})\n\
             for _ in range({count}): socket.send_fds(a, [b'x'], [0])\nprint('ok', flush=True)\ninput()"
        );
        let mut command = Command::new("/usr/bin/python3");
        let mut child = command.args(["-c", &code]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ok\n");
        InFlight(child)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A caller of the socket protocol.
pub struct Caller {
    pub writer: UnixStream,
    reader: BufReader<UnixStream>,
    /// The daemon's first line, `server.hello`.
    pub hello: Value,
    /// Responses that arrived while another one was waited for, by id.
    answers: HashMap<u64, Value>,
    /// The id of the next call.
    next: u64,
}

impl Caller {
    fn new(stream: UnixStream) -> Caller {
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        let mut caller = Caller {
            writer: stream.try_clone().unwrap(),
            reader: BufReader::new(stream),
            hello: Value::Null,
            answers: HashMap::new(),
            next: 1,
        };
        caller.hello = caller.line();
        assert_eq!(caller.hello["method"], "server.hello");
        caller
    }

    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.writer.write_all(bytes).unwrap();
    }

    /// Sends a call without waiting for its response. Returns its id, for [`Caller::answer`].
    pub fn send(&mut self, method: &str, params: &Value) -> u64 {
        let id = self.next;
        self.next += 1;
        let line = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        self.send_raw(format!("{line}\n").as_bytes());
        id
    }

    /// The next line, a response or a notification; waits up to 120 s.
    pub fn line(&mut self) -> Value {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "the daemon closed the connection");
        serde_json::from_str(&line).unwrap()
    }

    /// Whether no line arrives within the read timeout.
    pub fn is_silent(&mut self) -> bool {
        self.reader.fill_buf().is_err()
    }

    /// Waits for the response with this id. Other responses are kept, notifications dropped.
    pub fn answer(&mut self, id: u64) -> Value {
        loop {
            if let Some(answer) = self.answers.remove(&id) {
                return answer;
            }
            let line = self.line();
            if let Some(id) = line["id"].as_u64() {
                self.answers.insert(id, line);
            }
        }
    }

    /// The whole response: with `result` or `error`.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        let id = self.send(method, &params);
        self.answer(id)
    }

    /// The result of a call that must succeed.
    pub fn ok(&mut self, method: &str, params: Value) -> Value {
        let answer = self.call(method, params);
        assert!(answer.get("error").is_none(), "{method}: {}", answer["error"]);
        answer["result"].clone()
    }

    /// The error of a call that must fail.
    pub fn error(&mut self, method: &str, params: Value) -> Value {
        let answer = self.call(method, params);
        assert!(answer.get("result").is_none(), "{method} succeeded: {}", answer["result"]);
        answer["error"].clone()
    }

    /// Runs one file and returns the report.
    pub fn run(&mut self, language: &str, code: &str) -> Value {
        self.ok("submission.run", submission(language, code))
    }
}

/// A submission of one file.
pub fn submission(language: &str, code: &str) -> Value {
    let path = match language {
        "python" => "main.py",
        "c" => "main.c",
        "cpp" => "main.cpp",
        "javascript" => "main.js",
        _ => "main.sh",
    };
    json!({ "language": language, "files": [{ "path": path, "content": code }] })
}

/// The submission with time limits that a busy machine cannot reach: for tests that are not about
/// limits.
pub fn patient(mut submission: Value) -> Value {
    submission["limits"]["cpu_ms"] = json!(60_000);
    submission["limits"]["wall_ms"] = json!(120_000);
    submission
}

/// The value with one field set.
pub fn with(mut submission: Value, key: &str, value: Value) -> Value {
    submission[key] = value;
    submission
}

/// Every Rust file below a folder.
pub fn sources(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
